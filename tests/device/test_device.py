"""Everything computes on a device that is not the processor as on it, if not one tensor is mixed.

`run.py` beside this does it, on a device that only says that it is another.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import backend_registration

from places import ROOT
from rrpo.errors import UserError
from rrpo.speaking.by_name import load_to_speak

SCRIPT = Path(__file__).parent / "run.py"
needed = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot be told of a device in Python",
)
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the script has printed, by name."""
    paths = [*sys.path, str(ROOT / "tests"), str(ROOT / "tests" / "processes")]
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("device"))],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {line["name"]: line for line in map(json.loads, ended.stdout.splitlines())}


@needed
def test_tensors_of_two_devices_do_not_mix(lines: dict[str, dict[str, Any]]) -> None:
    """Else the other tests would show nothing."""
    refused = {"add", "index_select", "where", "stack", "numpy", "drawn"}
    assert set(lines["mixed"]["refused"]) == refused | {"index of the other", "mask of the other"}


@needed
@pytest.mark.parametrize(
    "name",
    [
        *("sft", "dpo", "diffro", "diffro, duration", "grpo", "rloo"),
        *("recorded", "cut draws", "recomputed"),
        *("conditional_gumbel", "gumbel_rao", "gapped", "reinmax"),
    ],
)
def test_the_gradient_of_a_policy(lines: dict[str, dict[str, Any]], name: str) -> None:
    found = lines[f"slope {name}"]
    assert found["there"] == pytest.approx(found["here"], rel=1e-6)
    assert found["apart"] < 1e-6
    assert found["weights"] == 30


@needed
def test_the_gradient_of_adapters(lines: dict[str, dict[str, Any]]) -> None:
    """Of a policy in bfloat16, which rounds."""
    found = lines["slope adapters"]
    assert found["there"] == pytest.approx(found["here"], rel=1e-6)
    assert found["apart"] < 1e-4
    assert found["weights"] == 28


@needed
def test_a_policy_listens_to_itself(lines: dict[str, dict[str, Any]]) -> None:
    found = lines["watched"]
    assert found["there"] == pytest.approx(found["here"], rel=1e-3)
    assert len(found["here"]) == 3


@needed
@pytest.mark.parametrize(
    ("name", "bound"),
    [
        *(("reward", 2e-6), ("reward, float64", 1e-12)),
        *(("reward, hardened", 2e-6), ("reward, pooled", 2e-6)),
    ],
)
def test_the_gradient_of_a_reward_model(
    lines: dict[str, dict[str, Any]], name: str, bound: float
) -> None:
    """With a content head; smoothed and with an adversarial step, hardened with mixup besides."""
    found = lines[f"slope {name}"]
    assert found["there"] == pytest.approx(found["here"], rel=1e-6)
    assert found["apart"] < bound
    assert found["weights"] == 21


@needed
@pytest.mark.parametrize("name", ["diffro", "reward"])
def test_a_training_that_is_resumed(lines: dict[str, dict[str, Any]], name: str) -> None:
    """It has the losses of one on the processor, and resumed the checkpoint of one that was not."""
    found = lines[f"training {name}"]
    assert found["there"] == pytest.approx(found["here"], rel=1e-4)
    assert len(found["here"]) == 4
    assert found["resumed"] == found["kept"] > 50


@needed
def test_policies_speak(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["spoken"]["same"]
    assert lines["spoken"]["sound"]
    assert lines["spoken"]["tokens"] > 50


@needed
def test_utterances_and_pairs_are_drawn(lines: dict[str, dict[str, Any]]) -> None:
    """As CosyVoice draws, of which a reward chooses; and two of a prompt, for DPO."""
    found = lines["drawn"]
    assert found["same"]
    assert found["tokens"] > 30
    assert found["kl there"] == pytest.approx(found["kl here"], rel=1e-5)
    assert min(found["kl here"]) > 0.01


def test_a_policy_speaks_on_a_gpu_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[str] = []

    def place(model: torch.nn.Module, device: str) -> torch.nn.Module:
        placed.append(device)
        return model

    monkeypatch.setattr(torch.nn.Module, "to", place)
    for there, asked in ((False, None), (True, None), (True, "true"), (True, "0")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
        if asked is not None:
            monkeypatch.setenv("ACCELERATE_USE_CPU", asked)
        load_to_speak("mini")
    assert placed == ["cpu", "cuda", "cpu", "cuda"]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")
    with pytest.raises(UserError, match="set it to true or false"):
        load_to_speak("mini")

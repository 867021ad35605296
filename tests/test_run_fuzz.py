"""Run folders with damaged files, several hundred: what goes on from them, speaks or shows them."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from malformed import MUTATIONS, taken
from rrpo import config, loading
from rrpo.origin import origin_of
from rrpo.post_training import train_sft
from rrpo.report.page import write_run_page

pytestmark = pytest.mark.slow

SETTINGS = ["train.steps=2", "train.warmup_steps=0", "train.save_every=1", "sft.batch_size=2"]
JSON = (
    "", "null", "1", "[]", "{}", '"x"', "[" * 5000, "1" * 5000, "NaN", '{"a": {}}', '{"step": {}}',
    '{"step": "a", "loss": []}', '{"step": 1e999}', '{"loss": null}', '{"validations": 1}',
    '{"validations": [1]}', '{"validations": [{"step": "x", "held_out_loss": {}}]}',
    '{"evaluation": []}', '{"evaluation": {"reports": 1}}', '{"evaluation": {"reports": {"a": 1}}}',
    '{"evaluation": {"reports": {"a": {}}}}', '{"evaluation": {"robustness": [1]}}',
    '{"evaluation": {"reports": {"a": {"classes": 1, "confusion": "x"}}}}', '{"system": [1]}',
    '{"system": {"reward": {"mean": "x"}}}', '{"id": 1, "wav": 5}', '{"wav": "../../x"}',
    '{"schema": {}, "kind": [], "stopped_at": "x"}', '{"files": 1}', '{"step": -1, "finished": 2}',
)  # fmt: skip
"""What may stand in a file instead of the right JSON."""


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over, as `rrpo policy sft` and `rrpo evaluate` leave it."""
    folder = tmp_path_factory.mktemp("run") / "sft"
    train_sft(folder, tiny / "data", start=tiny / "policy", settings=SETTINGS)
    figures = {"judge_probability": {"mean": 0.5, "low": 0.4, "high": 0.6}}
    (folder / "evaluation.json").write_text(json.dumps({"seed": 0, "system": figures}))
    (folder / "samples").mkdir()
    row = {"id": "0", "text": "Hi.", "emotion": "sad", "wav": "samples/0.wav", "tokens": 3}
    (folder / "samples" / "samples.jsonl").write_text(json.dumps(row) + "\n")
    write_run_page(folder)
    return folder


def doors(folder: Path, tiny: Path, file: str = "") -> dict[str, Callable[[], Any]]:
    """What is done with a run folder, and reads that file of it."""
    every: dict[str, tuple[str, Callable[[], Any]]] = {
        "load": ("checkpoint", lambda: loading.load_policy(str(folder))),
        "start": ("config.yaml", lambda: origin_of(str(folder))),
        "report": (
            "config.yaml metrics.jsonl results.json evaluation.json samples",
            lambda: write_run_page(folder),
        ),
        "resume": (
            "config.yaml metrics.jsonl results.json inputs.json checkpoint",
            lambda: train_sft(
                folder, tiny / "data", start=tiny / "policy", settings=SETTINGS, resume=True
            ),
        ),
    }
    return {
        name: door for name, (files, door) in every.items() if file in files.split() or not file
    }


def test_a_damaged_file_is_named_or_makes_no_difference(run: Path, tiny: Path) -> None:
    """Each file of a run in turn."""
    rng = random.Random(0)
    files = sorted(
        path for path in run.rglob("*") if path.is_file() and path.suffix not in (".html", ".wav")
    )
    assert len(files) >= 8
    refused: Counter[str] = Counter()
    count = 0
    for file in files:
        data = file.read_bytes()
        contents = [change(rng, data) for change in MUTATIONS.values() for _ in range(8)]
        if file.suffix in (".json", ".jsonl", ".yaml"):
            contents += [one.encode() for one in JSON]
        part = file.relative_to(run).parts[0]
        for content in contents:
            count += 1
            file.write_bytes(content)
            for name, door in doors(run, tiny, part).items():
                if name != "resume":
                    refused[name] += taken(door) is None
                elif count % 8 == 0:  # to go on takes longest, and may change the folder
                    shutil.copytree(run, run.parent / "copy")
                    taken(doors(run.parent / "copy", tiny)["resume"])
                    shutil.rmtree(run.parent / "copy")
            file.write_bytes(data)
    assert count >= 500
    assert refused["load"] > 30 and refused["start"] > 15 and refused["report"] > 40
    for door in doors(run, tiny).values():
        door()
    assert config.read(run / "config.yaml")["train"]["steps"] == 2

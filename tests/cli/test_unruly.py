"""Policies whose speech gets out of hand are named: without end, in a loop, without numbers."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rrpo import policy, recipes
from rrpo.cli import speech
from rrpo.diverged import TrainingDiverged
from rrpo.errors import NotFinite, UserError
from rrpo.evaluate.artifacts import loops
from rrpo.policy import SpeechTokenLM, generate
from rrpo.policy.rollout import SAMPLERS

TEXT = "The train leaves at noon."


def spoilt(tiny: Path, folder: Path, change: Callable[[SpeechTokenLM], object]) -> Path:
    """Write a policy whose output layer was changed."""
    model = policy.load(tiny / "policy")
    with torch.no_grad():
        change(model)
    policy.save(model, folder)
    return folder


def never(model: SpeechTokenLM) -> None:
    model.head.bias[model.config.codes :] = -1e4


def loop(model: SpeechTokenLM) -> None:
    never(model)
    model.head.bias[1234] = 1e4


def no_numbers(model: SpeechTokenLM) -> None:
    model.head.bias[7] = math.nan


@pytest.mark.slow
def test_speak_names_them(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, endless, looping in ((never, True, False), (loop, True, True)):
        folder = spoilt(tiny, tmp_path / change.__name__, change)
        wav = tmp_path / f"{change.__name__}.wav"
        speech.speak(str(folder), TEXT, wav, "sad")
        said, *notes = capsys.readouterr().out.splitlines()
        assert wav.is_file() and said.startswith(str(wav))
        assert (
            any(f"{folder} did not end the utterance by itself" in note for note in notes)
            is endless
        )
        assert any(f"{folder} loops: 100% of the tokens" in note for note in notes) is looping
        assert all("--seed" in note for note in notes)
    speech.speak("mini", TEXT, tmp_path / "mini.wav", "sad")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_scores_that_are_no_numbers(tiny: Path, tmp_path: Path) -> None:
    folder = spoilt(tiny, tmp_path / "nan", no_numbers)
    model = policy.load(folder)
    for sampler in SAMPLERS:
        with pytest.raises(NotFinite, match="not finite numbers at token 1"):
            generate(model, [torch.tensor([1, 2, 3])], sampler=sampler)
    wav = tmp_path / "nan.wav"
    with pytest.raises(UserError, match=f"{folder}: the policy's scores are not finite"):
        speech.speak(str(folder), TEXT, wav, "sad")
    assert not wav.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_judges")
def test_evaluate_names_them(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = spoilt(tiny, tmp_path / "loop", loop)
    (folder / "config.yaml").write_text("{}")
    speech.evaluate([folder], sentences=1)
    out = capsys.readouterr().out
    assert f"note: {folder}: 6 of 6 utterances did not end by themselves" in out
    assert f"note: {folder}: 6 of 6 utterances loop" in out
    system = json.loads((folder / "evaluation.json").read_text())["system"]
    assert system["never_ended"]["mean"] == system["repetition"]["mean"] == 1.0
    row = json.loads((folder / "samples" / "samples.jsonl").read_text().splitlines()[0])
    assert row["loops"] is True and row["ended"] is False


def test_a_policy_without_numbers_ends_its_training_with_the_batch(
    tiny: Path, tmp_path: Path
) -> None:
    folder = spoilt(tiny, tmp_path / "nan", no_numbers)
    settings = ["train.steps=2", "train.warmup_steps=0", "sft.batch_size=2"]
    options = recipes.Options(settings=settings)
    with pytest.raises(TrainingDiverged) as caught:
        recipes.sft(tmp_path / "run", tiny / "data", folder, options)
    kept = tmp_path / "run" / "diverged.json"
    message = str(caught.value)
    assert "training diverged at step 1 (loss nan" in message and str(kept) in message
    batch = json.loads(kept.read_text())["batch"]
    assert len(batch) == 2 and all(len(row["tokens"]) == 12 and row["text"] for row in batch)


def test_a_short_stretch_that_is_stuck_is_no_loop() -> None:
    assert not loops([1] * 9) and loops([1] * 10) and loops([1] * 10 + [*range(20)])
    assert not loops([1] * 10 + [*range(2, 23)]) and not loops([])

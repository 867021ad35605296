"""Policies whose speech gets out of hand are named: without end, in a loop, without numbers."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rrpo import policy, post_training, reward
from rrpo.cli import speech
from rrpo.data.shards import read_shard, shard_codec, write_shard
from rrpo.diverged import TrainingDiverged
from rrpo.errors import NotFinite, UserError
from rrpo.judging import evaluate
from rrpo.mini.world import World
from rrpo.objectives.pairs import CHOSEN, REJECTED
from rrpo.policy import SpeechTokenLM, generate
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import SAMPLERS
from rrpo.repetition import loops
from rrpo.reward_training import train_reward

TEXT = "The train leaves at noon."


def damaged(tiny: Path, folder: Path, change: Callable[[SpeechTokenLM], object]) -> Path:
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
        folder = damaged(tiny, tmp_path / change.__name__, change)
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
    folder = damaged(tiny, tmp_path / "nan", no_numbers)
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
    folder = damaged(tiny, tmp_path / "loop", loop)
    (folder / "config.yaml").write_text("{}")
    speech.evaluate([folder], sentences=1)
    out = capsys.readouterr().out
    assert f"note: {folder}: 6 of 6 utterances did not end by themselves" in out
    assert f"note: {folder}: 6 of 6 utterances loop" in out
    system = json.loads((folder / "evaluation.json").read_text())["system"]
    assert system["never_ended"]["mean"] == system["repetition"]["mean"] == 1.0
    row = json.loads((folder / "samples" / "samples.jsonl").read_text().splitlines()[0])
    assert row["loops"] is True and row["ended"] is False


@pytest.mark.slow
@pytest.mark.usefixtures("quick_judges")
def test_policies_are_compared_with_the_first_by_sentence(tiny: Path, tmp_path: Path) -> None:
    folder = damaged(tiny, tmp_path / "loop", loop)
    found = evaluate(["mini", folder], sentences=2)
    less = found[str(folder)]["less mini"]
    assert not [key for key in found["mini"] if key.startswith("less")]
    wanted = found[str(folder)]["tokens"].mean - found["mini"]["tokens"].mean
    assert less["tokens"].mean == pytest.approx(wanted)
    assert less["kl"].significant and less["judge_probability"].known
    assert less["never_ended"].mean == 1.0 and less["never_ended"].low < 0.5, "of two sentences"
    with pytest.raises(UserError, match="cannot evaluate on 0 sentences"):
        evaluate("mini", sentences=0)
    with pytest.raises(UserError, match="a policy is a SpeechTokenLM: give the path"):
        evaluate([policy.load(folder)])  # type: ignore[list-item]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_judges")
def test_evaluate_replaces_only_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the name of what is bundled is none of its runs, nor are a user's sounds its."""
    monkeypatch.chdir(tmp_path)
    for name in ("mini", "mine"):
        mine = tmp_path / name / "samples" / "mine.txt"
        mine.parent.mkdir(parents=True)
        mine.write_text("x")
        (tmp_path / name / "config.yaml").write_text("{}")
    speech.evaluate(["mini"], sentences=1)
    assert [path.name for path in (tmp_path / "mini" / "samples").iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="is no evaluation's, and would be replaced: move it"):
        speech.evaluate([tmp_path / "mine"], sentences=1)


@pytest.mark.usefixtures("quick_judges")
def test_evaluate_names_the_utterance_that_cannot_be_read(tmp_path: Path) -> None:
    rows = World().shard("test_same")[:2]
    data = [rows[0], replace(rows[1], id="u7", text="今天天气很好。")]
    write_shard(tmp_path / "a.parquet", data, World().codec_identity)
    with pytest.raises(UserError, match="utterance 'u7': cannot read '今' aloud"):
        evaluate(["mini"], data=tmp_path / "a.parquet")


def test_a_policy_without_numbers_ends_its_training_with_the_batch(
    tiny: Path, tmp_path: Path
) -> None:
    folder = damaged(tiny, tmp_path / "nan", no_numbers)
    settings = ["train.steps=2", "train.warmup_steps=0", "sft.batch_size=2"]
    with pytest.raises(TrainingDiverged) as caught:
        post_training.train_sft(tmp_path / "run", tiny / "data", start=folder, settings=settings)
    kept = tmp_path / "run" / "diverged.json"
    message = str(caught.value)
    assert "training diverged at step 1 (loss nan" in message and str(kept) in message
    batch = json.loads(kept.read_text())["batch"]
    assert len(batch) == 2 and all(len(row["tokens"]) == 12 and row["text"] for row in batch)


SETTINGS = {
    "sft": ["sft.batch_size=2"],
    "diffro": ["diffro.batch_size=2"],
    "grpo": ["grpo.prompts=1", "grpo.group=2"],
    "dpo": ["dpo.batch_size=2"],
    "reward": ["fit.batch_size=2"],
}
ON_POLICY = {"diffro": post_training.train_diffro, "grpo": post_training.train_grpo}


def trained(method: str, tiny: Path, out: Path, start: Path, judge: Path, *more: str) -> None:
    """Train two steps with a method, from a start and against a judge."""
    settings = ["train.steps=2", "train.warmup_steps=0", *SETTINGS[method], *more]
    if method == "sft":
        post_training.train_sft(out, tiny / "data", start=start, settings=settings)
    elif method == "dpo":
        drawn = pairs(tiny, out.parent / "pairs")
        post_training.train_dpo(out, pairs=drawn, start=start, settings=settings)
    elif method == "reward":
        train_reward(out, tiny / "data", start=judge, settings=settings)
    else:
        ON_POLICY[method](out, [judge], tiny / "data", start=start, settings=settings)


def pairs(tiny: Path, folder: Path) -> Path:
    """Write pairs of the shards' utterances, and the same backwards."""
    rows, codec = read_shard(tiny / "data"), shard_codec(tiny / "data")
    write_shard(folder / CHOSEN, rows, codec)
    write_shard(folder / REJECTED, [replace(row, tokens=row.tokens[::-1]) for row in rows], codec)
    return folder


def judge_without_numbers(tiny: Path, folder: Path) -> Path:
    model = reward.load(tiny / "reward")
    with torch.no_grad():
        model.table[7:].fill_(math.nan)
    reward.save(model, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("sft", "policy"),
        ("diffro", "policy"),
        ("grpo", "policy"),
        ("dpo", "policy"),
        ("diffro", "judge"),
        ("grpo", "judge"),
        ("reward", "judge"),
    ],
)
def test_every_training_without_numbers_is_told_and_leaves_no_checkpoint(
    method: str, what: str, tiny: Path, tmp_path: Path
) -> None:
    start, judge = tiny / "policy", tiny / "reward"
    if what == "policy":
        start = damaged(tiny, tmp_path / "nan", no_numbers)
    else:
        judge = judge_without_numbers(tiny, tmp_path / "nan")
    out = tmp_path / "run"
    with pytest.raises(TrainingDiverged, match=r"training diverged at step [01] \(") as caught:
        trained(method, tiny, out, start, judge)
    assert "\n" not in str(caught.value) and "no checkpoint was written yet" in str(caught.value)
    kept = json.loads((out / "diverged.json").read_text())
    assert kept["what"] and (kept["step"] == 0 or kept["batch"])
    assert not (out / "checkpoint").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", SETTINGS)
def test_a_step_that_is_too_long_leaves_the_checkpoint_before(
    method: str, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = ("train.learning_rate=1e30", "train.save_every=1")
    with pytest.raises(
        TrainingDiverged, match=r"step 2 .*keeps step 1.*lower learning_rate=1e\+30"
    ):
        trained(method, tiny, out, tiny / "policy", tiny / "reward", *more)
    load = reward.load if method == "reward" else policy.load
    state = load(out).state_dict().values()
    assert all(torch.isfinite(value).all() for value in state if value.is_floating_point())


class FailsAtSecond:
    """A reward that is no number in the second step; it keeps whom it was asked about."""

    weights: Mapping[str, float] = {"low": 1.0}

    def __init__(self) -> None:
        self.table = torch.linspace(0.0, 1.0, 6561)[:, None]
        self.asked: list[list[tuple[str, str]]] = []

    def to(self, device: torch.device) -> None:
        self.table = self.table.to(device)

    def terms(
        self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]
    ) -> dict[str, Tensor]:
        self.asked.append([(one.text, one.emotion) for one in prompts])
        if len(self.asked) == 2:
            raise NotFinite("no number")
        return {"low": -(embeddings[..., 0] * mask).sum(1) / mask.sum(1)}


@pytest.mark.parametrize("method", ["diffro", "grpo"])
def test_the_batch_that_is_kept_is_the_one_that_failed(
    method: str, tiny: Path, tmp_path: Path
) -> None:
    judge = FailsAtSecond()
    settings = ["train.steps=2", "train.warmup_steps=0", *SETTINGS[method]]
    given = {"start": tiny / "policy", "settings": settings}
    with pytest.raises(TrainingDiverged, match=r"step 2 \(no number"):
        ON_POLICY[method](tmp_path, [judge], tiny / "data", **given)
    rows = json.loads((tmp_path / "diverged.json").read_text())["batch"]
    first, second = judge.asked
    assert [(row["text"], row["emotion"]) for row in rows] == second != first


def test_a_short_stretch_that_is_stuck_is_no_loop() -> None:
    assert not loops([1] * 9) and loops([1] * 10) and loops([1] * 10 + [*range(20)])
    assert not loops([1] * 10 + [*range(2, 23)]) and not loops([])

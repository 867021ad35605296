"""What the judges make of a demo's systems: points of their curves, and samples at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrpo import audio
from rrpo.checkpoint import read_json, write_json
from rrpo.errors import UserError
from rrpo.evaluate.panel import measure
from rrpo.measures import BY_KEY
from rrpo.policy import SpeechTokenLM
from rrpo.reward import RewardModel
from rrpo.speaking.mini import BestOf, MiniSpeaker
from rrpo.studies.demo.plan import BEST_OF, REWARD_OF, SYSTEMS
from rrpo.studies.demo.setting import Demo

CURVE_SCORERS = ("dnsmos_p808", "plcmos")
"""What rates the quality of a policy in training."""
CURVES = [
    BY_KEY[name]
    for name in (
        "kl",
        "judge_probability",
        "judge_accuracy",
        "tokens",
        "repetition",
        "artifacts_per_second",
        "content_error",
    )
]
"""Measures of a curve beside rewards and quality."""
Rows = list[dict[str, Any]]


def judge_policy(
    demo: Demo,
    model: SpeechTokenLM,
    base: SpeechTokenLM,
    reward_models: Mapping[str, RewardModel],
) -> dict[str, float]:
    """Judge a policy in training on a few sentences: one point of the curves, flat by name."""
    utterances = demo.unseen(demo.plan.curve_sentences)
    samples = MiniSpeaker(model, demo.world, demo.codec, base).samples(utterances, demo.seed)
    # DistillMOS takes a second an utterance, more than the training in between.
    scorers = [name for name in CURVE_SCORERS if name in demo.judges.quality]
    rows = measure(samples, reward_models, demo.judges, scorers)
    return flatten(rows)


def flatten(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the means of `measure`'s rows under flat names such as `quality/plcmos`."""
    point = {}
    for one in CURVES:
        values = [value for row in rows if (value := one.of(row)) is not None]
        if values:
            point[one.key] = sum(values) / len(values)
    for group in ("reward", "quality"):
        for name in rows[0][group]:
            point[f"{group}/{name}"] = sum(row[group][name] for row in rows) / len(rows)
    return point


def curve_point(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a validation record with flat names into a row of curves.jsonl."""
    point: dict[str, Any] = {"system": name, "reward": {}, "quality": {}}
    for key, value in record.items():
        group, slash, inner = key.partition("/")
        if slash:
            point[group][inner] = value
        else:
            point[key] = value
    point["own_reward"] = point["reward"].get(REWARD_OF[name])
    return point


def read_rows(path: Path) -> Rows:
    """Read what judges said of a system's samples.

    Raises:
        UserError: an earlier version wrote it, under other names.
    """
    rows: Rows = read_json(path)
    if any("content_error" not in row for row in rows):
        raise UserError(
            f"{path} was written by an earlier version: remove its folder to judge again"
        )
    return rows


def judged_samples(
    demo: Demo,
    name: str,
    model: SpeechTokenLM | None,
    reward_models: Mapping[str, RewardModel],
) -> Rows:
    """Let a system speak the test sentences and judge it; wav files lie beside the rows."""
    folder = demo.out / "samples" / name
    if (folder / "rows.json").is_file():
        return read_rows(folder / "rows.json")
    with demo.stage("evaluate"):
        utterances = demo.unseen(demo.plan.sentences)
        best = None
        if name in SYSTEMS and SYSTEMS[name].method == "best_of":
            best = BestOf(BEST_OF, reward_models[SYSTEMS[name].reward_model])
        speaker = MiniSpeaker(model, demo.world, demo.codec, demo.world.policy(), best)
        samples = speaker.samples(utterances, demo.seed)
        rows = measure(samples, reward_models, demo.judges)
        for sample, row in zip(samples, rows, strict=True):
            path = folder / f"{sample.id}.wav"
            audio.write(path, sample.audio)
            row |= {"system": name, "wav": path.relative_to(demo.out).as_posix()}
        write_json(folder / "rows.json", rows)
    return rows

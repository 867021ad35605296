"""What the judges make of a demo's systems: points of their curves, and samples at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rrpo import audio
from rrpo.errors import UserError
from rrpo.evaluate.panel import Judges, Sample, measure
from rrpo.files import read_json, write_json
from rrpo.measures import BY_KEY
from rrpo.policy import SpeechTokenLM
from rrpo.report.sound import opus_uri
from rrpo.reward import DifferentiableReward, Reward, RewardModel
from rrpo.speaking.best_of import BestOf, choosing_reward
from rrpo.speaking.mini import MiniSpeaker
from rrpo.studies.demo.setting import Demo
from rrpo.studies.demo.systems import REWARD_OF, SYSTEMS

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
    judges, scorers = demo.judges, []
    if demo.plan.curves:
        # DistillMOS takes a second an utterance, more than the training in between.
        scorers = [name for name in CURVE_SCORERS if name in judges.quality]
    else:
        judges = Judges(demo.world.judge(), quality={})
    return flatten(measure(samples, reward_models, judges, scorers))


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


def speak(demo: Demo, name: str) -> None:
    """Let a system speak the test sentences; wav files lie beside their rows, `spoken.json`."""
    best = None
    if name in SYSTEMS and SYSTEMS[name].method == "best_of":
        best = BestOf(SYSTEMS[name].count, _chooser(demo, name))
    utterances = demo.unseen(demo.plan.sentences)
    model, base = demo.policy(name), demo.world.policy()
    speaker = MiniSpeaker(model, demo.world, demo.codec, base, best)
    folder, rows = demo.out / "samples" / name, []
    for sample in speaker.samples(utterances, demo.seed):
        path = folder / f"{sample.id}.wav"
        audio.write(path, sample.audio)
        opus_uri(sample.audio, path)  # the page's copy, made here and not while it is written
        told = {"system": name, "wav": path.relative_to(demo.out).as_posix()}
        said = {"tokens": sample.tokens.tolist(), "kl": sample.kl, "ended": sample.ended}
        rows.append(
            {"id": sample.id, "text": sample.text, "emotion": sample.emotion, **told} | said
        )
    write_json(folder / "spoken.json", rows)


def _chooser(demo: Demo, name: str) -> DifferentiableReward:
    """Return the reward by which the best of several utterances is chosen."""
    system = SYSTEMS[name]
    model = demo.reward_model(system.reward_model)
    if system.words:
        return choosing_reward([model, demo.world.task_model()])
    return Reward([model], form="log_posterior")


def judge(demo: Demo, name: str) -> None:
    """Judge what a system said, and write it beside the sounds, `rows.json`."""
    folder = demo.out / "samples" / name
    said = read_json(folder / "spoken.json")
    tokens = [torch.tensor(row["tokens"]) for row in said]
    samples = [
        Sample(row["id"], row["text"], row["emotion"], one, sound, row["kl"], ended=row["ended"])
        for row, one, sound in zip(said, tokens, demo.codec.decode_batch(tokens), strict=True)
    ]
    rows = measure(samples, demo.reward_models(), demo.judges)
    told = [{"system": row["system"], "wav": row["wav"]} for row in said]
    write_json(folder / "rows.json", [row | more for row, more in zip(rows, told, strict=True)])


def samples_so_far(demo: Demo, name: str) -> Rows:
    """Return the rows of a system: judged, or only spoken, or none yet."""
    folder = demo.out / "samples" / name
    if (folder / "rows.json").is_file():
        return read_rows(folder / "rows.json")
    rows = read_json(folder / "spoken.json") if (folder / "spoken.json").is_file() else []
    return [{key: row[key] for key in ("id", "text", "emotion", "system", "wav")} for row in rows]

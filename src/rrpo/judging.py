"""Policies by name judged on unseen sentences: `rrpo evaluate` and the Python API."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrpo import audio
from rrpo.checkpoint import write_json, write_text
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate import artifacts
from rrpo.evaluate.panel import Judges, Sample, measure, summarise
from rrpo.folder import begin_folder, commit_folder
from rrpo.loading import (
    MINI,
    Location,
    codec_identity,
    is_mini,
    load_data,
    load_policy,
    load_reward_model,
)
from rrpo.mini.world import World
from rrpo.report.page import write_run_page
from rrpo.reward import RewardModel
from rrpo.speaking.by_name import REMEDY, naming, refuse_voice
from rrpo.speaking.cosyvoice import CosyVoiceSpeaker
from rrpo.speaking.speaker import Speaker, every_emotion, first_texts
from rrpo.tokens import require_one_codec


def judge(
    locations: Sequence[Location],
    rewards: Sequence[Location] = (),
    *,
    sentences: int = 8,
    seed: int = 0,
    data: Location | None = None,
    voice: Location | None = None,
    model: Location | None = None,
    codec_of: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Judge policies on unseen sentences; figures go into each run's `evaluation.json`.

    Args:
        locations: runs, or `mini`.
        rewards: reward models to score with.
        sentences: how many, each with every emotion.
        seed: of what is drawn.
        data: shards whose held-out texts are said.
        voice: CosyVoice: a recording whose voice is taken over.
        model: CosyVoice: its model folder, where it is not the one the policy started from.
        codec_of: which codec the tokens are of, where shards or models do not say it.

    Returns:
        name of a policy, and "real tokens" of the mini world → its figures (`summarise`).
    """
    for one in locations:
        if str(one) != MINI and not Path(one).exists():
            raise UserError(f"no policy at {one}")
    scorers = {str(one): load_reward_model(one) for one in rewards}
    policies = {str(one): load_policy(one) for one in locations}
    known = {f"the policy {name}": one.config.codec for name, one in policies.items()}
    known |= {f"the reward model {name}": one.config.codec for name, one in scorers.items()}
    require_one_codec(known, codec_identity(codec_of))
    synthetic = all(is_mini(one) for one in policies.values())
    speakers: Mapping[str, Speaker]
    if synthetic:
        refuse_voice(voice, model)
        speakers = _mini_speakers(policies)
        rows = load_data(data, World().policy(), True, codec_of) if data else _unseen()
        asked = first_texts(rows, sentences)
    else:
        rows = load_data(data, next(iter(policies.values())), True, codec_of)
        asked = every_emotion(rows, sentences)
        speakers = {
            name: CosyVoiceSpeaker(name, one, voice, model) for name, one in policies.items()
        }
    _require_known(scorers, asked)
    judges = Judges.installed(World().judge() if synthetic else None)
    systems, notes = {}, []
    for name, speaker in speakers.items():
        with naming(name):
            samples = speaker.samples(asked, seed)
        scored = measure(samples, scorers, judges)
        systems[name] = summarise(scored, "", judges.content_reason)
        if name in policies:
            notes += _notes(name, samples)
            _keep(Path(name), samples, scored, {"seed": seed, "system": systems[name]})
    for note in notes:
        print(note)
    return systems


def _require_known(scorers: Mapping[str, RewardModel], asked: Sequence[Utterance]) -> None:
    for name, one in scorers.items():
        for row in asked:
            if row.emotion not in one.classes():
                raise UserError(
                    f"{name} does not know the emotion {row.emotion!r}, which is asked for"
                )


def _notes(name: str, samples: Sequence[Sample]) -> list[str]:
    """Return a line for each way in which a policy's speech got out of hand."""
    endless = sum(sample.ended is False for sample in samples)
    looping = sum(artifacts.loops(sample.tokens) for sample in samples)
    counts = ((endless, "did not end by themselves"), (looping, "loop"))
    return [
        f"note: {name}: {count} of {len(samples)} utterances {what}; {REMEDY}"
        for count, what in counts
        if count
    ]


def _keep(
    folder: Path,
    samples: Sequence[Sample],
    rows: Sequence[dict[str, Any]],
    figures: Mapping[str, Any],
) -> None:
    """Write an evaluation into a run, in place of one before: its figures, rows and sounds."""
    if not (folder / "config.yaml").is_file():
        return
    target = folder / "samples"
    fresh = begin_folder(target)
    for sample, row in zip(samples, rows, strict=True):
        audio.write(fresh / f"{sample.id}.wav", sample.audio)
        row["wav"] = f"samples/{sample.id}.wav"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(fresh / "samples.jsonl", lines)
    commit_folder(target)
    write_json(folder / "evaluation.json", figures)
    if (folder / "results.json").is_file():
        print(f"page: {write_run_page(folder)}")

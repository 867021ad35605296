"""Policies by name judged on unseen sentences: `rrpo evaluate` and the Python API."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rrpo import audio, repetition
from rrpo.codec.cosyvoice import CosyVoiceCodec
from rrpo.codec_identity import require_one_codec
from rrpo.data.shards import Utterance
from rrpo.data.tokenize import Codec
from rrpo.errors import UserError
from rrpo.evaluate import recodec
from rrpo.evaluate.panel import Judges, Sample, measure, summarise
from rrpo.files import require_writable, write_json, write_text, writing
from rrpo.interval import Interval
from rrpo.loading import (
    MINI,
    Location,
    codec_identity,
    is_mini,
    load_data,
    load_reward_model,
)
from rrpo.measures import measures_in
from rrpo.mini.world import World
from rrpo.origin import is_run, listed, origin_of, require_location
from rrpo.policy import SpeechTokenLM
from rrpo.provenance import weights_hash
from rrpo.report.differences import LESS, Figures
from rrpo.report.page import write_run_page
from rrpo.reward import RewardModel
from rrpo.run_folder import begin_folder, commit_folder, discard_fresh
from rrpo.speaking.by_name import REMEDY, load_to_speak, naming, refuse_voice
from rrpo.speaking.cosyvoice import CosyVoiceSpeaker
from rrpo.speaking.mini import MiniSpeaker
from rrpo.speaking.speaker import Speaker, every_emotion, first_texts

MATCHING = "_matching"
"""What follows the names of the recodec audit in the voice of the emotion asked for."""


def evaluate(
    policies: Sequence[Location] | Location,
    rewards: Sequence[Location] | Location = (),
    *,
    sentences: int = 8,
    seed: int = 0,
    data: Location | None = None,
    voice: Location | None = None,
    model: Location | None = None,
    codec_of: str | None = None,
    matching: Location | None = None,
) -> dict[str, dict[str, Any]]:
    """Let policies speak unseen sentences and have every judge listen (`rrpo evaluate`).

    The figures go into each run's `evaluation.json`.

    Args:
        policies: runs, or `mini`.
        rewards: reward models to score with.
        sentences: how many, each with every emotion.
        seed: of what is drawn.
        data: shards whose held-out texts are said.
        voice: CosyVoice: a recording whose voice is taken over.
        model: CosyVoice: its model folder, where it is not the one the policy started from.
        codec_of: which codec the tokens are of, where shards or models do not say it.
        matching: CosyVoice: a folder of happy.wav and so on, voices for another recodec audit.

    Returns:
        a policy, or "real tokens" of the mini world → measure → an interval (`mean`, `low`, `high`)
        over the sentences, None where it was not measured. Dictionaries of intervals are `quality`
        by its predictor, `rewards`, each model's log p of the emotion asked for, the recodec
        audits, and, of every policy but the first, "less FIRST": the differences, paired by
        sentence. The KL, which only the mini world's have, is to its bundled base.

    Examples:
        >>> figures = evaluate(["mini"], sentences=1)
        >>> 0.0 <= figures["mini"]["judge_probability"].mean <= 1.0
        True
    """
    if sentences < 1:
        raise UserError(f"cannot evaluate on {sentences} sentences: ask for at least one")
    loaded, scorers = _load(listed(policies), listed(rewards), codec_of)
    if synthetic := all(is_mini(one) for one in loaded.values()):
        _refuse_voices(voice, model, matching)
        speakers, asked = _mini_speakers(loaded, sentences, data, codec_of)
    else:
        rows = load_data(data, next(iter(loaded.values())), True, codec_of)
        asked = every_emotion(rows, sentences)
        _require_voices(matching, asked)
        speakers = _cosyvoice_speakers(loaded, voice, model)
    _require_known(scorers, asked)
    judges = Judges.installed(World().judge() if synthetic else None)
    told = {"seed": seed, "sentences": sentences, "data": None if data is None else str(data)}
    return _judged(loaded, speakers, asked, scorers, judges, matching, told)


def _judged(
    policies: Collection[str],
    speakers: Mapping[str, Speaker],
    asked: Sequence[Utterance],
    scorers: Mapping[str, RewardModel],
    judges: Judges,
    matching: Location | None,
    told: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Let everybody speak and be judged; keep what policies said in their runs, with `told`."""
    hashes = {name: weights_hash(Path(name)) for name in policies}
    systems: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    notes, first = [], next(iter(policies))
    for name, speaker in speakers.items():
        with naming(name):
            samples = speaker.samples(asked, told["seed"])
        scored = measure(samples, scorers, judges)
        audited = _audit(speaker, samples, scored, scorers, matching)
        systems[name] = summarise(scored, "", judges.content_reason) | audited
        rows[name] = {str(row["id"]): row for row in scored}
        if name not in policies:
            continue
        if name != first:
            systems[name][f"{LESS}{first}"] = _less(name, first, systems, rows)
        notes += _notes(name, samples)
        _keep(
            Path(name), samples, scored, {**told, "weights": hashes[name], "system": systems[name]}
        )
    print(*notes, sep="\n", end="\n" * bool(notes))
    return systems


def _cosyvoice_speakers(
    policies: Mapping[str, SpeechTokenLM], voice: Location | None, model: Location | None
) -> dict[str, Speaker]:
    """Return CosyVoice's policies; a base is told an emotion in the words of the run beside it."""
    first = next((origin_of(name) for name in policies if is_run(name)), None)
    return {
        name: CosyVoiceSpeaker(name, one, voice, model, None if is_run(name) else first)
        for name, one in policies.items()
    }


def _mini_speakers(
    policies: Mapping[str, SpeechTokenLM],
    sentences: int,
    data: Location | None,
    codec_of: str | None,
) -> tuple[dict[str, Speaker], list[Utterance]]:
    """Return policies of the mini world beside real tokens, and what they are asked to say."""
    world = World()
    codec, base = world.codec(), world.policy()
    rows = world.shard("test_same") if data is None else load_data(data, base, True, codec_of)
    every = {"real tokens": None, **policies}
    speakers: dict[str, Speaker] = {
        name: MiniSpeaker(one, world, codec, base) for name, one in every.items()
    }
    return speakers, first_texts(rows, sentences)


def _load(
    policies: Sequence[Location], rewards: Sequence[Location], codec_of: str | None
) -> tuple[dict[str, SpeechTokenLM], dict[str, RewardModel]]:
    """Load policies and reward models by name; all have to be of one codec."""
    if not policies:
        raise UserError("no policy to evaluate: name at least one")
    for one in policies:
        require_location("a policy", one)
        if str(one) != MINI and not Path(one).exists():
            raise UserError(f"no policy at {one}")
        if is_run(one):
            require_writable(Path(one))  # what is heard is kept there, after minutes
            _require_own_samples(Path(one))
    scorers = {str(one): load_reward_model(one) for one in rewards}
    loaded = {str(one): load_to_speak(one) for one in policies}
    known = {f"the policy {name}": one.config.codec for name, one in loaded.items()}
    known |= {f"the reward model {name}": one.config.codec for name, one in scorers.items()}
    require_one_codec(known, codec_identity(codec_of))
    return loaded, scorers


def _less(
    name: str,
    first: str,
    systems: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, Interval]:
    """Return each reward and measure of a policy less the first one's, paired by sentence."""
    both = Figures({}, systems, rows)
    found = {
        f"rewards.{model}": both.reward_difference(name, first, model)
        for model in systems[name]["rewards"]
    }
    found |= {
        measure.key: both.difference(name, first, measure)
        for measure in measures_in([systems[name]])
    }
    return {key: value for key, value in found.items() if value is not None}


def _require_own_samples(run: Path) -> None:
    """Refuse a run with a folder `samples` that is somebody's own: an evaluation replaces it."""
    samples = run / "samples"
    if samples.is_dir() and any(samples.iterdir()) and not (samples / "samples.jsonl").is_file():
        raise UserError(f"{samples} is no evaluation's, and would be replaced: move it")


def _require_known(scorers: Mapping[str, RewardModel], asked: Sequence[Utterance]) -> None:
    for name, one in scorers.items():
        for row in asked:
            if row.emotion not in one.classes():
                raise UserError(
                    f"{name} does not know the emotion {row.emotion!r}, which is asked for"
                )


def _audit(
    speaker: Speaker,
    samples: Sequence[Sample],
    rows: Sequence[recodec.Row],
    scorers: Mapping[str, RewardModel],
    matching: Location | None,
) -> dict[str, Any]:
    """Audit the rewards of a system's speech, in its rows and as its figures.

    Where the codec cannot encode, as no speech tokenizer is there, it is said.
    """
    if not scorers:
        return {}
    codec: Codec = speaker.codec
    tokens = [sample.tokens for sample in samples]
    try:
        recodec.audit(rows, tokens, [one.audio for one in samples], codec.encode, scorers)
    except UserError as error:
        print(f"note: no recodec audit: {error}")
        return {}
    found = recodec.figures(rows)
    if matching is not None:
        assert isinstance(codec, CosyVoiceCodec)  # others are refused
        emotions = [sample.emotion for sample in samples]
        voices = {one: codec.in_voice(Path(matching) / f"{one}.wav") for one in set(emotions)}
        sounds = [voices[one].decode(ids) for one, ids in zip(emotions, tokens, strict=True)]
        recodec.audit(rows, tokens, sounds, codec.encode, scorers, MATCHING)
        found |= recodec.figures(rows, MATCHING)
    return found


def _refuse_voices(
    voice: Location | None, model: Location | None, matching: Location | None
) -> None:
    """Refuse what is for CosyVoice alone."""
    refuse_voice(voice, model)
    if matching is not None:
        raise UserError("--matching is for CosyVoice's policies: leave it out")


def _require_voices(matching: Location | None, asked: Sequence[Utterance]) -> None:
    """Refuse a folder that lacks the voice of an emotion that is asked for."""
    for emotion in dict.fromkeys(row.emotion for row in asked):
        if matching is not None and not (Path(matching) / f"{emotion}.wav").is_file():
            raise UserError(
                f"--matching {matching} lacks {emotion}.wav: put a recording of a voice with that "
                "emotion there"
            )


def _notes(name: str, samples: Sequence[Sample]) -> list[str]:
    """Return a line for each way in which a policy's speech got out of hand."""
    endless = sum(sample.ended is False for sample in samples)
    looping = sum(repetition.loops(sample.tokens) for sample in samples)
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
    if not is_run(folder):
        return
    target = folder / "samples"
    try:
        with writing(target):
            fresh = begin_folder(target)
            for number, (sample, row) in enumerate(zip(samples, rows, strict=True)):
                name = f"{number:04d}.wav"  # an id may hold any signs
                audio.write(fresh / name, sample.audio)
                row["wav"] = f"samples/{name}"
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            write_text(fresh / "samples.jsonl", lines)
            commit_folder(target)
    except UserError:
        discard_fresh(target)
        raise
    write_json(folder / "evaluation.json", figures)
    if (folder / "results.json").is_file():
        print(f"page: {write_run_page(folder)}")

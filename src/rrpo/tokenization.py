"""Labelled audio to token shards, and to mix pools for energy-adaptive mixup."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rrpo import audio
from rrpo.audio import Audio
from rrpo.checkpoint import claim, read_json, write_json, write_text
from rrpo.data.manifest import TEST, Recording
from rrpo.data.shards import Utterance, write_shard
from rrpo.errors import UserError
from rrpo.progress import Progress
from rrpo.reward.regularize import energy_adaptive_mixup, other_than

SHARD = 200
"""Utterances and mixes of one parquet file, the unit an interrupted call goes on from."""


class Codec(Protocol):
    """Audio to speech tokens and back."""

    def encode(self, audio: Audio) -> Tensor:
        """Return the tokens (T,) of audio (N,) at 16 kHz."""

    def decode(self, ids: Tensor) -> Audio:
        """Return audio (N,) of tokens (T,)."""


@dataclass
class Tokenized:
    """What `tokenize` made: rows of tokens and of mixes, and the files it could not use."""

    tokens: int = 0
    mixes: int = 0
    skipped: list[str] = field(default_factory=list)


def tokenize(
    codec: Codec,
    recordings: Sequence[Recording],
    out: Path,
    mixes: int = 0,
    seed: int = 0,
    name: str = "mini",
) -> Tokenized:
    """Write `out/tokens/*.parquet` and, with mixes, `out/mixes/*.parquet`.

    Energy-adaptive mixup acts on audio and tokenizing inside a training loop is slow, so each
    recording is mixed with `mixes` random partners beforehand. An interrupted call goes on after
    its last whole shard. Files that cannot be used, silent ones among them, are listed in
    `out/skipped.txt`; a later call tries their shards again.

    Args:
        name: of the codec; what is there from another codec is refused.

    Raises:
        UserError: no recording can be used, `out` holds the tokens of other settings, or it cannot
            be written.
    """
    settings = {"codec": name, "mixes": mixes, "seed": seed, "recordings": _digest(recordings)}
    claim(out / "tokenize.json", settings, "tokens")
    result = Tokenized()
    size = max(1, SHARD // (1 + mixes))
    with Progress("tokenize", len(recordings)) as progress:
        for number, start in enumerate(range(0, len(recordings), size)):
            path = out / "shards" / f"{number:05d}.json"
            if not path.is_file() or read_json(path)["skipped"]:
                rng = np.random.default_rng([seed, number])
                done = _shard(codec, recordings, range(start, start + size), mixes, rng, progress)
                for kind, rows in (("tokens", done[0]), ("mixes", done[1])):
                    if rows:
                        write_shard(out / kind / f"{number:05d}.parquet", rows)
                counts = {"tokens": len(done[0]), "mixes": len(done[1]), "skipped": done[2]}
                write_json(path, counts)
            stored = read_json(path)
            result.tokens += stored["tokens"]
            result.mixes += stored["mixes"]
            result.skipped += stored["skipped"]
            progress.update(min(start + size, len(recordings)))
    if not result.tokens:
        raise UserError(f"none of {len(recordings)} recordings can be used: {result.skipped[0]}")
    write_text(out / "skipped.txt", "".join(f"{line}\n" for line in result.skipped))
    if mixes and not result.mixes:
        raise UserError(
            f"the tokens are in {out / 'tokens'}, but no recording could be mixed: it takes two "
            "that can be used, and both or neither held out for tests"
        )
    return result


def _shard(
    codec: Codec,
    recordings: Sequence[Recording],
    chosen: range,
    mixes: int,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[list[Utterance], list[Utterance], list[str]]:
    """Return the rows, the mixed rows and the mistakes of one shard."""
    rows, mixed, skipped = [], [], []
    # Mixes keep to their side: what is held out for tests is heard in no other utterance.
    sides: dict[bool, list[int]] = {False: [], True: []}
    for number, recording in enumerate(recordings):
        sides[recording.partition == TEST].append(number)
    for number in chosen[: len(recordings) - chosen.start]:
        recording = recordings[number]
        try:
            sound = _sound(recording.path)
            rows.append(_row(recording, f"{number:06d}", codec.encode(sound), sound))
        except UserError as error:
            named = str(recording.path) in str(error)
            skipped.append(str(error) if named else f"{recording.path}: {error}")
            continue
        for version in range(mixes):
            side = sides[recording.partition == TEST]
            partner, other = _partner(recordings, side, number, rng)
            if partner is None or other is None:
                break
            blend, weight = energy_adaptive_mixup(sound, other, rng)
            row = _row(recording, f"{number:06d}-mix{version}", codec.encode(blend), blend)
            partnered = {"partner_emotion": partner.emotion, "partner_weight": float(weight)}
            mixed.append(Utterance(**{**vars(row), **partnered}))
        progress.update(number + 1)
    return rows, mixed, skipped


def _sound(path: Path) -> Audio:
    """Read a recording in which something is heard: silence has tokens, too, but no emotion."""
    sound = audio.read(path)
    if audio.is_silent(sound):
        raise UserError(
            f"{path} is silent: its peak is under {audio.QUIETEST:g}, record it again or leave it "
            "out of the manifest"
        )
    return sound


def _partner(
    recordings: Sequence[Recording], side: Sequence[int], number: int, rng: np.random.Generator
) -> tuple[Recording | None, Audio | None]:
    """Draw a partner that can be used; None where there is no other, and after twenty that cannot.

    Args:
        side: in their order, the numbers of those that may be mixed with this one, itself too.
        number: of the recording.
    """
    place = bisect_left(side, number)
    for _ in range(20 if len(side) > 1 else 0):
        partner = recordings[side[other_than(place, len(side), rng)]]
        try:
            return partner, _sound(partner.path)
        except UserError:
            continue
    return None, None


def _digest(recordings: Sequence[Recording]) -> str:
    text = json.dumps([_fields(one) for one in recordings])
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(one: Recording) -> list[Any]:
    """List what goes into a shard; what a manifest of before lacks only where it is known."""
    fields: list[Any] = [str(one.path.absolute()), one.emotion, one.text, one.speaker, one.language]
    later = {"corpus": one.corpus, "intensity": one.intensity, "partition": one.partition}
    known = {name: value for name, value in later.items() if value not in ("", None)}
    return [*fields, known] if known else fields


def _row(recording: Recording, name: str, tokens: Tensor, sound: Audio) -> Utterance:
    return Utterance(
        id=name,
        text=recording.text,
        emotion=recording.emotion,
        tokens=tokens.numpy(),
        speaker=recording.speaker,
        language=recording.language,
        intensity=recording.intensity,
        corpus=recording.corpus,
        partition=recording.partition,
        energy=audio.energy(sound),
    )

"""Labelled audio to token shards, mix pools for energy-adaptive mixup, and speech with sounds."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rrpo import audio
from rrpo.audio import Audio
from rrpo.codec_identity import TOKEN_RATE, fits_sound
from rrpo.data.manifest import TEST, Recording
from rrpo.data.shards import Utterance, is_readable, write_shard
from rrpo.data.survey import (
    Verdict,
    read_recording,
    report_lines,
    survey,
    without_copies,
    write_report,
)
from rrpo.data.token_folder import KINDS, PLAN, one_insert, require_own
from rrpo.errors import UserError
from rrpo.files import alone, claim, read_json, write_json, write_text
from rrpo.progress import Progress
from rrpo.sound.audio_mixup import energy_adaptive_mixup, other_than
from rrpo.sound.inserts import INSERTS, inserted

BESIDES = ("insert", "count", "size")
"""What a plan holds that a later call may change or that follows from the rest."""
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
    """What `tokenize` made: rows of each kind, and what it says of every recording."""

    tokens: int = 0
    mixes: int = 0
    inserted: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def skipped(self) -> list[str]:
        """Why recordings were left out, a line for each."""
        return [one.mistake for one in self.verdicts if one.mistake]


def tokenize(
    codec: Codec,
    recordings: Sequence[Recording],
    out: Path,
    mixes: int = 0,
    seed: int = 0,
    name: str = "mini",
    say: Callable[[str], None] = lambda _: None,
    left_out: Sequence[Verdict] = (),
    insert: str | None = None,
) -> Tokenized:
    """Write `out/tokens/*.parquet`, with mixes `out/mixes/*.parquet`, and `out/inserted/*.parquet`.

    Energy-adaptive mixup acts on audio and tokenizing inside a training loop is slow, so each
    recording is mixed with `mixes` random partners beforehand. All recordings are read first:
    what cannot be used is said before the hours that tokens take. An interrupted call goes on
    after its last whole shard; a later call makes those shards again of which a sound has changed,
    and may ask for `insert` where none was.
    What is said of every recording stands in `out/sounds.csv`, and of those left out in
    `out/skipped.txt`, too.

    Args:
        name: identity of the codec (`rrpo.codec_identity`); what is there of another is refused.
        say: is given lines about what was found before anything is made.
        left_out: of recordings that cannot even be read, for the report.
        insert: a sound of `INSERTS` that is put into each recording once more; None: that of an
            earlier call, if any.

    Raises:
        UserError: the sound is unknown, no recording can be used, two are the same with other
            labels, `out` holds tokens of other settings or of an import, or it cannot be written.
    """
    if insert is not None and insert not in INSERTS:
        raise UserError(f"--insert: unknown sound {insert!r}: choose from {', '.join(INSERTS)}")
    settings = {"codec": name, "mixes": mixes, "seed": seed, "recordings": _digest(recordings)}
    plan = out / PLAN
    with alone(out):  # whether it can be written is known before anything is read
        if plan.is_file():
            claim(plan, settings, "tokens", BESIDES)
            insert = one_insert(plan, insert)
        require_own(out)
        verdicts = without_copies(recordings, survey(recordings))
        work = _Work(codec, recordings, verdicts, mixes, insert)
        _write_verdicts(out, [*work.verdicts, *left_out])
        _require_some(work.verdicts)
        for line in report_lines(work.verdicts):
            say(line)
        known = {**settings, "count": len(recordings), "size": work.size}
        write_json(plan, known if insert is None else {**known, "insert": insert})
        result = _make_shards(work, out, seed, name)
        result.verdicts = [*work.verdicts, *left_out]
        _write_verdicts(out, result.verdicts)
        _require_some(work.verdicts)
    if mixes and not result.mixes:
        raise UserError(
            f"the tokens are in {out / 'tokens'}, but no recording could be mixed: it takes two "
            "that can be used, and both or neither held out for tests"
        )
    return result


def _make_shards(work: "_Work", out: Path, seed: int, name: str) -> Tokenized:
    """Write the shards that are not there yet, or of which a sound has changed."""
    result, count, size = Tokenized(), len(work.recordings), work.size
    with Progress("tokenize", count) as progress:
        for number, start in enumerate(range(0, count, size)):
            path = out / "shards" / f"{number:05d}.json"
            chosen = range(start, min(start + size, count))
            if not _is_current(path, work.sounds):
                made = work.shard(chosen, np.random.default_rng([seed, number]), seed, progress)
                _write_shard(out, f"{number:05d}", made, name, work.insert or "")
            elif work.insert and not read_json(path).get("inserted"):
                _add_inserted(out, path, work, chosen, seed, name)
            stored = read_json(path)
            result.tokens += stored["tokens"]
            result.mixes += stored["mixes"]
            result.inserted += stored.get("inserted", 0)
            for place, mistake in stored["refused"].items():
                work.refuse(int(place), mistake)
            progress.update(min(start + size, count))
    return result


def _require_some(verdicts: Sequence[Verdict]) -> None:
    if all(one.mistake for one in verdicts):
        raise UserError(f"none of {len(verdicts)} recordings can be used: {verdicts[0].mistake}")


def _write_verdicts(out: Path, verdicts: Sequence[Verdict]) -> None:
    write_report(out, verdicts)
    lines = [f"{one.mistake}\n" for one in verdicts if one.mistake]
    write_text(out / "skipped.txt", "".join(lines))


@dataclass
class _Shard:
    """Rows of each kind, what the codec refused, and digests of what was heard."""

    rows: list[Utterance] = field(default_factory=list)
    mixed: list[Utterance] = field(default_factory=list)
    inserted: list[Utterance] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)


def _is_current(path: Path, sounds: Sequence[str]) -> bool:
    """Say whether a shard is there, of the sounds that are there now, its mixes' partners too.

    Args:
        sounds: of each recording its digest; empty where it is left out.
    """
    made = read_json(path) if path.is_file() else {}
    heard = made.get("heard")
    if not isinstance(heard, dict):
        return False
    for kind in KINDS:
        if made.get(kind) and not is_readable(path.parents[1] / kind / f"{path.stem}.parquet"):
            return False
    return all(sounds[int(place)] == digest for place, digest in heard.items())


def _write_shard(out: Path, name: str, shard: _Shard, codec: str, insert: str) -> None:
    kinds = dict(zip(KINDS, (shard.rows, shard.mixed, shard.inserted), strict=True))
    for kind, rows in kinds.items():
        path = out / kind / f"{name}.parquet"
        if rows:
            write_shard(path, rows, codec, insert if kind == "inserted" else "")
        else:
            path.unlink(missing_ok=True)  # of sounds that could be used before
    counts = {kind: len(rows) for kind, rows in kinds.items()}
    made = {**counts, "refused": shard.refused, "heard": shard.heard}
    write_json(out / "shards" / f"{name}.json", made)


def _add_inserted(
    out: Path, path: Path, work: "_Work", chosen: range, seed: int, codec: str
) -> None:
    """Write the speech with a sound of a shard that was made without it."""
    made = read_json(path)
    kept = [number for number in chosen if work.sounds[number]]
    rows = work.with_sound([number for number in kept if str(number) not in made["refused"]], seed)
    if rows:
        write_shard(out / "inserted" / f"{path.stem}.parquet", rows, codec, work.insert or "")
        write_json(path, {**made, "inserted": len(rows)})


class _Work:
    """What is tokenized, and what is known of it."""

    def __init__(
        self,
        codec: Codec,
        recordings: Sequence[Recording],
        verdicts: list[Verdict],
        mixes: int,
        insert: str | None = None,
    ) -> None:
        self.codec, self.recordings, self.verdicts = codec, recordings, verdicts
        self.mixes, self.insert = mixes, insert
        self.size = max(1, SHARD // (1 + mixes))  # recordings of a shard
        # Not by what the codec refuses: that hangs on which shards were made before.
        self.sounds = ["" if one.mistake else one.digest for one in verdicts]
        # Mixes keep to their side: what is held out for tests is heard in no other utterance.
        self.sides: dict[bool, list[int]] = {False: [], True: []}
        for number, recording in enumerate(recordings):
            self.sides[recording.partition == TEST].append(number)

    def refuse(self, number: int, mistake: str) -> None:
        """Leave out a recording that the codec cannot take."""
        self.verdicts[number] = replace(self.verdicts[number], mistake=mistake)

    def shard(
        self, chosen: range, rng: np.random.Generator, seed: int, progress: Progress
    ) -> _Shard:
        """Turn recordings into rows, mixes, and rows with a sound in them."""
        made = _Shard()
        for number in chosen:
            verdict, recording = self.verdicts[number], self.recordings[number]
            made.heard[str(number)] = self.sounds[number]
            if verdict.mistake:
                continue
            try:
                sound = read_recording(recording).samples
                row = _row(recording, f"{number:06d}", self.codec.encode(sound), sound)
                made.inserted += self._inserted(number, sound, seed)
            except UserError as error:
                named = str(recording.path) in str(error)
                made.refused[str(number)] = str(error) if named else f"{recording.path}: {error}"
                continue
            made.rows.append(row)
            self._mix(number, sound, rng, made)
            progress.update(number + 1)
        return made

    def with_sound(self, chosen: Sequence[int], seed: int) -> list[Utterance]:
        """Return recordings that were tokenized before with a sound in each."""
        rows = []
        for number in chosen:
            sound = read_recording(self.recordings[number]).samples
            rows += self._inserted(number, sound, seed)
        return rows

    def _inserted(self, number: int, sound: Audio, seed: int) -> list[Utterance]:
        """Return a recording with a sound in it, by the same name, where one is asked for.

        None, where the codec cannot take it with the sound, which may lengthen it.
        """
        if self.insert is None:
            return []
        # The sound hangs on the recording alone, and mixes do not hang on it.
        rng = np.random.default_rng([seed, number, 7])
        changed = inserted(sound, INSERTS[self.insert], rng)
        with suppress(UserError):
            codes = self.codec.encode(changed)
            return [_row(self.recordings[number], f"{number:06d}", codes, changed)]
        return []

    def _mix(self, number: int, sound: Audio, rng: np.random.Generator, made: _Shard) -> None:
        """Mix a recording with others, as often as asked for."""
        recording = self.recordings[number]
        for version in range(self.mixes):
            partner = self._partner(number, rng, made)
            if partner is None:
                break
            other = read_recording(partner).samples
            blend, weight = energy_adaptive_mixup(sound, other, rng)
            row = _row(recording, f"{number:06d}-mix{version}", self.codec.encode(blend), blend)
            partnered = {"partner_emotion": partner.emotion, "partner_weight": float(weight)}
            made.mixed.append(Utterance(**{**vars(row), **partnered}))

    def _partner(self, number: int, rng: np.random.Generator, made: _Shard) -> Recording | None:
        """Draw one that can be used; None where there is no other, and after twenty that cannot."""
        side = self.sides[self.recordings[number].partition == TEST]
        place = bisect_left(side, number)
        for _ in range(20 if len(side) > 1 else 0):
            drawn = side[other_than(place, len(side), rng)]
            made.heard[str(drawn)] = self.sounds[drawn]
            if self.sounds[drawn]:
                return self.recordings[drawn]
        return None


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
    seconds = sound.size / audio.SAMPLE_RATE
    if not fits_sound(tokens.numel(), seconds):
        raise UserError(
            f"{recording.path}: the codec gives {tokens.numel()} tokens of {seconds:.2f} s, where "
            f"{TOKEN_RATE} a second are right: it is of another generation or damaged, name that "
            "of a CosyVoice2 or CosyVoice3 folder"
        )
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

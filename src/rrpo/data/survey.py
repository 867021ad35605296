"""Every recording of a manifest read once: what is taken, what is left out and why, what is odd."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rrpo.audio import SAMPLE_RATE
from rrpo.data.catalogue import known_corpora
from rrpo.data.copies import find_copies
from rrpo.data.findings import LeftOut
from rrpo.data.lengths import odd_text
from rrpo.data.manifest import Recording
from rrpo.errors import UserError
from rrpo.files import write_text
from rrpo.progress import Progress
from rrpo.sound.file import Sound, inspect, load_speech

REPORT = "sounds.csv"
"""A row for each recording, beside a manifest or shards."""
SHOWN = 3
"""Recordings that a printed report names."""


@dataclass(frozen=True)
class Verdict:
    """What is known of a recording before it is used.

    Attributes:
        path: its file.
        digest: SHA-256 of the file; empty where it was not asked for or cannot be read.
        content: SHA-256 of the samples at 16 kHz; empty where the digest is.
        rate: samples per second; 0 where it cannot be read.
        mistake: why it is left out, in a line that names the file; empty where it is taken.
        notes: what is odd about it.
    """

    path: Path
    digest: str = ""
    content: str = ""
    rate: int = 0
    mistake: str = ""
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """Taken, suspicious or left out."""
        return "left out" if self.mistake else "suspicious" if self.notes else "taken"


def read_recording(recording: Recording) -> Sound:
    """Read the speech of a recording at 16 kHz, of a corpus with other channels the voice's.

    Raises:
        UserError: see `rrpo.sound.file.load_speech`.
    """
    corpus = known_corpora().get(recording.corpus)
    return load_speech(recording.path, voice=None if corpus is None else corpus.voice_channel)


def survey(recordings: Sequence[Recording]) -> list[Verdict]:
    """Decode every recording: that takes minutes where tokens take hours."""
    verdicts = []
    with Progress("check sounds", len(recordings)) as progress:
        for number, one in enumerate(recordings, start=1):
            try:
                sound = read_recording(one)
                notes = sound.notes
                if odd := odd_text(one.text, sound.samples.size / SAMPLE_RATE):
                    notes = (*notes, odd)
                content = hashlib.sha256(sound.samples.tobytes()).hexdigest()
                verdicts.append(Verdict(one.path, sound.digest, content, sound.rate, "", notes))
            except UserError as error:
                verdicts.append(Verdict(one.path, mistake=str(error)))
            progress.update(number)
    return verdicts


def without_copies(recordings: Sequence[Recording], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Leave out recordings that are another again, under another name or in another format.

    Raises:
        UserError: two such have other labels or texts, or one alone is held out for tests.
    """
    contents = [one.content or None for one in verdicts]
    names = [one.place for one in recordings]
    copies = find_copies(recordings, contents, names, "the same recording")
    return [
        replace(one, mistake=f"{one.path} is the same recording as {verdicts[copies[number]].path}")
        if number in copies
        else one
        for number, one in enumerate(verdicts)
    ]


def survey_headers(recordings: Sequence[Recording]) -> list[Verdict]:
    """Check by its header alone whether every recording is whole: nothing is decoded."""
    verdicts = []
    for one in recordings:
        try:
            rate, notes = inspect(one.path)
            verdicts.append(Verdict(one.path, rate=rate, notes=tuple(notes)))
        except UserError as error:
            verdicts.append(Verdict(one.path, mistake=str(error)))
    return verdicts


def without(left_out: Iterable[LeftOut]) -> list[Verdict]:
    """Return a verdict for each recording that was left out before any was read."""
    return [
        Verdict(Path(one.name), mistake=f"{one.name} is left out: {one.why}") for one in left_out
    ]


def write_report(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Write `sounds.csv` with path, verdict (taken, suspicious or left out) and why."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "verdict", "why"])
    for one in verdicts:
        writer.writerow([one.path, one.word, one.mistake or "; ".join(one.notes)])
    write_text(folder / REPORT, stream.getvalue())


def summary(folder: Path, verdicts: Sequence[Verdict]) -> str:
    """Return the line that ends a command: how many are taken, suspicious and left out."""
    counts = Counter(one.word for one in verdicts)
    return (
        f"sounds: {counts['taken'] + counts['suspicious']} taken, {counts['suspicious']} of them "
        f"suspicious, {counts['left out']} left out; {folder / REPORT} says it of every file"
    )


def report_lines(verdicts: Sequence[Verdict], bad: str = "left out") -> Iterator[str]:
    """Yield what is printed of a survey: counts, and the first of the bad and of the odd ones.

    Args:
        verdicts: of every recording.
        bad: what becomes of those that cannot be used.
    """
    for word, said in (("left out", bad), ("suspicious", "suspicious")):
        found = [one for one in verdicts if one.word == word]
        if not found:
            continue
        yield f"{said}: {len(found)} of {len(verdicts)} recordings"
        for one in found[:SHOWN]:
            yield f"  {one.mistake or f'{one.path}: ' + '; '.join(one.notes)}"
        if len(found) > SHOWN:
            yield f"  and {len(found) - SHOWN} more"
    taken = [one for one in verdicts if not one.mistake]
    if narrow := sum(one.rate < SAMPLE_RATE for one in taken):
        yield (
            f"{narrow} of {len(verdicts)} recordings have a sample rate under {SAMPLE_RATE} Hz: "
            "their band is narrower, and a model may tell corpora apart by it"
        )

"""Clean speech to put artifacts into: real recordings of manifests, and the mini world's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rrpo.audio import SAMPLE_RATE, Audio, to_peak
from rrpo.data.manifest import Recording
from rrpo.data.survey import read_recording
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.sound.file import SilentError

SYNTHETIC = "mini world"
ALL_REAL = "real speech"


@dataclass(frozen=True)
class Speech:
    """One clean utterance (N,) and where it comes from.

    `utterance` names it among all of them, `speaker` likewise; that is empty where it is not known.
    """

    corpus: str
    emotion: str
    utterance: str
    audio: Audio
    speaker: str = ""

    @property
    def minutes(self) -> float:
        """How long it lasts."""
        return self.audio.size / SAMPLE_RATE / 60


@dataclass(frozen=True)
class Real:
    """Recordings of a manifest, and what was left out of those drawn: "" or a sentence."""

    speech: list[Speech]
    left_out: str


def real_speech(manifest: Path, rows: Sequence[Recording], count: int, seed: int) -> Real:
    """Return `count` recordings of a manifest, drawn by the seed.

    Raises:
        UserError: none of them is over a second long, and neither silent nor unreadable.
    """
    folder = (manifest if manifest.is_dir() else manifest.parent).resolve().name
    drawn = np.random.default_rng(seed).permutation(len(rows))[:count]
    found: list[Speech] = []
    silent, unreadable = [], []
    for row in [rows[index] for index in drawn]:
        name = f"{folder} ({row.language})" if row.language else folder
        try:
            audio = read_recording(row).samples
        except SilentError:
            silent.append(row.path.name)
            continue
        except UserError:
            unreadable.append(row.path.name)
            continue
        speaker = f"{name} {row.speaker}" if row.speaker else ""
        found.append(Speech(name, row.emotion, str(row.path), to_peak(audio), speaker))
    lost = {"silent": silent, "unreadable": unreadable}
    reasons = [f"{len(part)} {why} (as {part[0]})" for why, part in lost.items() if part]
    if not any(map(lasts, found)):
        why = f": {', '.join(reasons)}" if reasons else ""
        raise UserError(
            f"{manifest}: none of {len(drawn)} recordings drawn is speech of over a second{why}"
        )
    left_out = f"{folder}: {', '.join(reasons)} of {len(drawn)} recordings drawn" if reasons else ""
    return Real(found, left_out)


def synthetic_speech(world: World, count: int, seed: int) -> list[Speech]:
    """Return `count` utterances of real tokens, spoken by the bundled codec."""
    rows = [row for row in world.shard("test_same") if row.tokens.size > 30]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    codec = world.codec()
    with Progress("speak the mini world", len(chosen)) as progress:
        said = []
        for number, index in enumerate(chosen, start=1):
            row = rows[index]
            audio = codec.decode(torch.from_numpy(row.tokens))
            speaker = f"{SYNTHETIC} {row.speaker}"
            said.append(Speech(SYNTHETIC, row.emotion, row.id, to_peak(audio), speaker))
            progress.update(number)
    return said


def first_of_each(speech: Sequence[Speech], count: int) -> list[Speech]:
    """Return the first `count` utterances of each corpus, those that last."""
    seen: dict[str, int] = {}
    chosen = []
    for one in speech:
        seen[one.corpus] = seen.get(one.corpus, 0) + 1
        if seen[one.corpus] <= count and lasts(one):
            chosen.append(one)
    return chosen


def lasts(one: Speech) -> bool:
    """Say whether there is a place for every artifact: a second of speech is the least."""
    return one.audio.size > SAMPLE_RATE

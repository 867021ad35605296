"""What there is to hear on a page: which samples, beside which, and their players."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.measures import SYSTEMS, Entry, figure_of, plain_name, system_label
from rrpo.report.numbers import number
from rrpo.report.sound import opus_uri, outline, spectrogram_uri
from rrpo.sound.file import read

SENTENCES = 8
"""Sentences on a page, the first ones of the test set."""
FRONT = ("base", "sft", "diffro", "rrpo")
"""Systems that a page plays side by side; the others are shown when asked for."""
FIRST = "happy"
"""The emotion a page opens with: the neutral one says little."""


@dataclass(frozen=True)
class Mark:
    """A mark of the detector over a spectrogram; `left` and `width` in per cent."""

    kind: str
    text: str
    left: float
    width: float


@dataclass(frozen=True)
class Player:
    """One sound; `share` is its length as a share of the longest beside it, in per cent."""

    label: str
    uri: str
    seconds: float
    outline: str
    share: float
    picture: str
    marks: list[Mark]


@dataclass(frozen=True)
class Card:
    """A sample of a system; without a player its sound is missing."""

    system: str
    player: Player | None
    probability: str
    percent: float
    detected: str
    word_error: str


@dataclass(frozen=True)
class Take:
    """One sentence in one emotion, spoken by the systems that have it, if any."""

    emotion: str
    sentence: int
    text: str
    cards: list[Card]


@dataclass(frozen=True)
class Listening:
    """What a page lets its reader hear.

    Attributes:
        takes: one for each emotion and sentence.
        emotions: their names in order.
        first: the number of the emotion that is shown first.
        sentences: how many there are.
        left_out: how many more there are in the samples.
        others: systems that are shown when asked for.
    """

    takes: list[Take]
    emotions: list[str]
    first: int
    sentences: int
    left_out: int
    others: list[str]


@dataclass(frozen=True)
class Sound:
    """What a page shows of a sound: its samples, its copy, its outline and its spectrogram."""

    samples: int
    uri: str
    outline: str
    picture: str

    @classmethod
    def of(cls, audio: Audio, uri: str) -> "Sound":
        """Draw audio (N,) at 16 kHz, of which the copy is in a URI."""
        return cls(len(audio), uri, outline(audio), spectrogram_uri(audio))


def load(folder: Path, sample: Entry) -> Sound | None:
    """Read a sample's sound; None where it is missing, unreadable or outside the folder."""
    name = sample.get("wav")
    if not isinstance(name, str) or not name:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    try:
        return _drawn(path, path.stat().st_mtime_ns)
    except UserError:
        return None


@functools.lru_cache(maxsize=4096)
def _drawn(path: Path, _changed: int) -> Sound:
    """Read and draw a sound; a page that grows shows the same ones again and again."""
    audio = read(path)
    return Sound.of(audio, opus_uri(audio, path))


def systems_of(samples: Sequence[Entry]) -> list[str]:
    """Return the systems that have samples, in display order."""
    found = list(dict.fromkeys(str(sample.get("system")) for sample in samples))
    return [n for n in SYSTEMS if n in found] + [n for n in found if n not in SYSTEMS]


def listening(folder: Path, samples: Sequence[Entry]) -> Listening:
    """Gather the first sentences in every emotion by every system: no figure has a say."""
    systems = systems_of(samples)
    front = [name for name in systems if name in FRONT] or systems
    order = front + [name for name in systems if name not in front]
    texts = list(dict.fromkeys(str(sample.get("text")) for sample in samples))
    found = list(dict.fromkeys(str(sample.get("emotion")) for sample in samples))
    emotions = [name for name in EMOTIONS if name in found]
    emotions += [name for name in found if name not in EMOTIONS]
    spoken: dict[tuple[str, str], dict[str, Entry]] = {}
    for sample in samples:
        same = spoken.setdefault((str(sample.get("emotion")), str(sample.get("text"))), {})
        same.setdefault(str(sample.get("system")), sample)
    takes = [
        Take(emotion, place, text, _cards(folder, spoken.get((emotion, text), {}), order))
        for emotion in emotions
        for place, text in enumerate(texts[:SENTENCES])
    ]
    return Listening(
        takes,
        emotions,
        emotions.index(FIRST) if FIRST in emotions else 0,
        len(texts[:SENTENCES]),
        len(texts[SENTENCES:]),
        order[len(front) :],
    )


def _cards(folder: Path, spoken: dict[str, Entry], order: Sequence[str]) -> list[Card]:
    names = [name for name in order if name in spoken]
    sounds = {name: load(folder, spoken[name]) for name in names}
    longest = max((found.samples for found in sounds.values() if found is not None), default=1)
    cards = []
    for name in names:
        sample, found = spoken[name], sounds[name]
        player = None
        if found is not None:
            label = f"{system_label(name)}, {sample.get('emotion')}: {sample.get('text')}"
            player = player_of(label, found, sample, longest)
        cards.append(_card(name, sample, player))
    return cards


def _card(system: str, sample: Entry, player: Player | None) -> Card:
    probability = figure_of(sample, "judge_probability")
    error = figure_of(sample, "content_error")
    detected = sample.get("judge_emotion")
    return Card(
        system,
        player,
        "" if probability is None else number(probability.mean),
        0.0 if probability is None else round(100.0 * min(max(probability.mean, 0.0), 1.0), 1),
        str(detected) if detected else "",
        "" if error is None else f"{100.0 * error.mean:.0f}\u00a0%",
    )


def player_of(label: str, sound: Sound, sample: Entry, longest: int) -> Player:
    """Return the player of a sound with the marks of its sample.

    Args:
        longest: samples of the longest sound beside it.
    """
    seconds = sound.samples / SAMPLE_RATE
    share = round(100.0 * sound.samples / longest, 1)
    marks = marks_of(sample, seconds)
    return Player(label, sound.uri, seconds, sound.outline, share, sound.picture, marks)


def marks_of(sample: Entry, seconds: float) -> list[Mark]:
    """Place the detector's marks along a sound that lasts `seconds`."""
    artifacts = sample.get("artifacts")
    marks = []
    for artifact in artifacts if isinstance(artifacts, list) else []:
        start, end = figure_of(artifact, "start"), figure_of(artifact, "end")
        if start is None or end is None or not 0.0 <= start.mean <= seconds:
            continue
        kind = plain_name(str(artifact.get("kind") or "artifact")).lower()
        strength = figure_of(artifact, "strength")
        text = f"{kind} at {start.mean:.2f} s"
        if strength is not None:
            text += f", strength {number(strength.mean, 1)}"
        width = 100.0 * max(min(end.mean, seconds) - start.mean, 0.0) / seconds
        marks.append(Mark(kind, text, round(100.0 * start.mean / seconds, 2), round(width, 2)))
    return marks

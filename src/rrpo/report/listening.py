"""What there is to hear on a page: which samples, beside which, and their players."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.interval import read_interval
from rrpo.measures import (
    SYSTEMS,
    Entry,
    figure_of,
    own_reward_model,
    plain_name,
    quality_measures,
    reward_model_label,
    section,
    system_label,
)
from rrpo.report.numbers import number
from rrpo.report.sound import flac_uri, outline, spectrogram_uri
from rrpo.sound.file import read

SENTENCES = 3
"""Sentences of each emotion in the grid, and highest-reward samples of each system."""


@dataclass(frozen=True)
class Player:
    """One sound; `share` is its length as a share of the longest beside it, in per cent."""

    label: str
    uri: str
    seconds: float
    outline: str
    share: float


@dataclass(frozen=True)
class Cell:
    """A sample in the grid; without a player the sound is missing."""

    system: str
    player: Player | None
    probability: str
    percent: float
    heard: str
    marks: int


@dataclass(frozen=True)
class Row:
    """One sentence in one emotion, spoken by every system."""

    emotion: str
    text: str
    turn: int
    cells: list[Cell]


@dataclass(frozen=True)
class Mark:
    """A mark of the detector over a spectrogram; `left` and `width` in per cent."""

    kind: str
    text: str
    left: float
    width: float


@dataclass(frozen=True)
class Highest:
    """A highest-reward sample with its spectrogram, marks and figures."""

    emotion: str
    text: str
    player: Player
    spectrogram: str
    marks: list[Mark]
    facts: list[tuple[str, str]]


def load(folder: Path, sample: Entry) -> Audio | None:
    """Read a sample's sound; None where it is missing, unreadable or outside the folder."""
    name = sample.get("wav")
    if not isinstance(name, str) or not name:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        return read(path)
    except UserError:
        return None


def systems_of(samples: Sequence[Entry]) -> list[str]:
    """Return the systems that have samples, in display order."""
    found = list(dict.fromkeys(str(sample.get("system")) for sample in samples))
    return [n for n in SYSTEMS if n in found] + [n for n in found if n not in SYSTEMS]


def choose(samples: Sequence[Entry]) -> list[tuple[str, str, int, dict[str, Entry]]]:
    """Choose the sentences of the grid: (emotion, text, turn, sample by system).

    For each emotion the sentences that most systems have spoken, in the order of the file: no
    figure has a say. `turn` counts from 0 within an emotion.
    """
    spoken: dict[str, dict[str, dict[str, Entry]]] = {}
    for sample in samples:
        texts = spoken.setdefault(str(sample.get("emotion")), {})
        texts.setdefault(str(sample.get("text")), {}).setdefault(str(sample.get("system")), sample)
    order = [name for name in EMOTIONS if name in spoken]
    order += [name for name in spoken if name not in EMOTIONS]
    chosen = []
    for emotion in order:
        fullest = sorted(spoken[emotion].items(), key=lambda item: -len(item[1]))[:SENTENCES]
        chosen += [(emotion, text, turn, found) for turn, (text, found) in enumerate(fullest)]
    return chosen


def grid(folder: Path, samples: Sequence[Entry]) -> list[Row]:
    """Build the listening grid: a row per chosen sentence, a cell per system."""
    systems = systems_of(samples)
    rows = []
    for emotion, text, turn, found in choose(samples):
        sounds = {name: load(folder, sample) for name, sample in found.items()}
        longest = max((len(sound) for sound in sounds.values() if sound is not None), default=1)
        cells = [_cell(name, found.get(name), sounds.get(name), longest) for name in systems]
        rows.append(Row(emotion, text, turn, cells))
    return rows


def _cell(system: str, sample: Entry | None, sound: Audio | None, longest: int) -> Cell:
    if sample is None:
        return Cell(system, None, "", 0.0, "", 0)
    probability = read_interval(sample.get("judge_probability"))
    heard = sample.get("judge_emotion")
    marks = sample.get("artifacts")
    return Cell(
        system,
        None if sound is None else _player(system, sample, sound, longest),
        "" if probability is None else number(probability.mean),
        0.0 if probability is None else round(100.0 * min(max(probability.mean, 0.0), 1.0), 1),
        str(heard) if heard and heard != sample.get("emotion") else "",
        len(marks) if isinstance(marks, list) else 0,
    )


def _player(system: str, sample: Entry, sound: Audio, longest: int) -> Player:
    label = f"{system_label(system)}, {sample.get('emotion')}: {sample.get('text')}"
    seconds = len(sound) / SAMPLE_RATE
    share = round(100.0 * len(sound) / longest, 1)
    return Player(label, flac_uri(sound), seconds, outline(sound), share)


def highest(
    folder: Path, samples: Sequence[Entry], results: Mapping[str, Any]
) -> list[tuple[str, str, list[Highest]]]:
    """Return (system, reward model, samples) with the highest own reward of each system."""
    found = []
    for system in [name for name in systems_of(samples) if name != "reference"]:
        model = own_reward_model(section(section(results, "systems"), system))
        scored = [
            (reward.mean, sample)
            for sample in samples
            if sample.get("system") == system
            and (reward := figure_of(sample, f"reward.{model}")) is not None
        ]
        scored.sort(key=lambda item: -item[0])
        best: list[tuple[Entry, Audio]] = []
        for _, sample in scored:
            sound = load(folder, sample) if len(best) < SENTENCES else None
            if sound is not None:
                best.append((sample, sound))
        longest = max((len(sound) for _, sound in best), default=1)
        shown = [_highest(system, model, *item, longest) for item in best]
        if shown:
            found.append((system, reward_model_label(model), shown))
    return found


def _highest(system: str, model: str, sample: Entry, sound: Audio, longest: int) -> Highest:
    facts = []
    for label, key, digits in (
        (f"Reward, {reward_model_label(model)}", f"reward.{model}", 2),
        ("Judge prob.", "judge_probability", 2),
        *[(measure.label, measure.key, 2) for measure in quality_measures([sample])],
        ("Tokens", "tokens", 0),
        ("KL", "kl", 3),
        ("Word error", "content_error", 2),
    ):
        value = figure_of(sample, key)
        if value is not None:
            facts.append((label, number(value.mean, digits)))
    return Highest(
        str(sample.get("emotion")),
        str(sample.get("text")),
        _player(system, sample, sound, longest),
        spectrogram_uri(sound),
        marks_of(sample, len(sound) / SAMPLE_RATE),
        facts,
    )


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

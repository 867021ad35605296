"""Two worlds that the recipe made with different seeds, compared on the same sentences.

Each seed says other sentences, and two dozen of them differ from two dozen others by more than the
worlds do. So the second world is measured on the sentences of the first one's study: they are of a
part that no world is trained on, and the renderer speaks them alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rrpo.checkpoint import read_json
from rrpo.errors import UserError
from rrpo.evaluate.statistics import difference_of_intervals, paired_interval
from rrpo.studies import aims
from rrpo.studies.demo.seeds import values_of

if TYPE_CHECKING:
    from rrpo.studies.world.world import Size

Study = Mapping[str, Any]
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""What a study measured of each utterance: `rows.json`."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Other:
    """The study of another world: its figures and what it measured of each utterance."""

    study: Study
    rows: Rows


@dataclass(frozen=True)
class Compared:
    """One aim in two worlds.

    Attributes:
        ours, theirs, apart: the figures and the first less the second.
        paired: whether both said the same sentences, and `apart` is of pairs.
    """

    asked: str
    ours: aims.Value
    theirs: aims.Value
    apart: aims.Value
    paired: bool

    @property
    def same(self) -> bool:
        """Whether the interval of the difference holds 0."""
        return self.apart["low"] <= 0.0 <= self.apart["high"]


@dataclass(frozen=True)
class Again:
    """Two worlds: the seeds of their recipes, and every aim that both have figures of."""

    seeds: tuple[int, int]
    compared: list[Compared]


def read_other(folder: Path, seed: int, size: "Size") -> Other:
    """Read the study of another world.

    Args:
        seed: of the recipe that made the world at hand.
        size: at which it is measured.

    Raises:
        UserError: the folder holds no study, one of a world that the same seed made, or one of
            another size.
    """
    if not all((folder / name).is_file() for name in ("study.json", "rows.json")):
        raise UserError(f"{folder} holds no study: run `rrpo study world --out {folder}` first")
    study, rows = read_json(folder / "study.json"), read_json(folder / "rows.json")
    if not (isinstance(study, dict) and isinstance(rows, dict)):
        raise UserError(f"{folder} holds no study of a world: measure that world again")
    if study.get("recipe_seed") in (None, seed):
        raise UserError(
            f"{folder} holds the study of a world that seed {seed} made, too, or does not say "
            "which: name another with --against, or leave it out"
        )
    needed = {"sentences_seed", "sentences", "seeds"} - set(study)
    needed |= {system for system, _ in PAIRED.values()} - set(rows)
    if needed:
        raise UserError(
            f"{folder} lacks {', '.join(sorted(needed))}: measure that world again with "
            f"`rrpo study world --out {folder}`"
        )
    if (study["sentences"], study["seeds"]) != (size.sentences, size.seeds):
        raise UserError(
            f"{folder} has {study['sentences']} sentences with {study['seeds']} sampling seeds of "
            f"the base, not {size.sentences} with {size.seeds}: measure both at the same size"
        )
    return Other(study, rows)


def together(study: Study, rows: Rows, other: Other) -> Again:
    """Compare what is asked of a world with the figures of another run of its recipe.

    What is measured on the same utterances is paired, and whole sentences are resampled; the rest
    is of each world's own test sets, of which only the intervals are compared.

    Raises:
        UserError: the two did not say the same sentences.
    """
    theirs = {aim.asked: aim.value for aim in aims.of_world(other.study)}
    compared = []
    for aim in aims.of_world(study):
        value = theirs.get(aim.asked)
        if aim.value is None or value is None:
            continue
        apart = paired(aim.asked, rows, other.rows)
        compared.append(
            Compared(
                aim.asked,
                aim.value,
                value,
                difference_of_intervals(aim.value, value) if apart is None else apart,
                apart is not None,
            )
        )
    return Again((study["recipe_seed"], other.study["recipe_seed"]), compared)


def paired(asked: str, ours: Rows, theirs: Rows) -> dict[str, float] | None:
    """Return the mean paired difference of an aim's figure, or None if it is not of sentences.

    Raises:
        UserError: the two did not say the same sentences.
    """
    if asked not in PAIRED:
        return None
    system, figure = PAIRED[asked]
    said = [[(row["text"], row["emotion"]) for row in rows[system]] for rows in (ours, theirs)]
    if said[0] != said[1]:
        raise UserError("the two worlds were not measured on the same sentences: they are no pairs")
    one, two = figure(ours), figure(theirs)
    both = np.isfinite(one) & np.isfinite(two)
    texts = [text for (text, _), has in zip(said[0], both, strict=True) if has]
    return paired_interval(one[both], two[both], groups=texts)


def _of(system: str, name: str) -> Callable[[Rows], Values]:
    """Read a figure of each row; NaN where a row has none, as of pitch where nothing is voiced."""
    return lambda rows: np.array([row.get(name, np.nan) for row in rows[system]], dtype=np.float64)


def _judged(system: str, label: str) -> Callable[[Rows], Values]:
    """Read what judges said of each utterance, of the base the mean over its sampling seeds."""

    def figure(rows: Rows) -> Values:
        drawn = [rows[name] for name in rows if name == system or name.startswith(f"{system}, ")]
        values = values_of([{system: one} for one in drawn], system, label)
        return np.full(len(drawn[0]), np.nan) if values is None else np.mean(values, axis=0)

    return figure


def _less(first: str, second: str, label: str) -> Callable[[Rows], Values]:
    one, two = _judged(first, label), _judged(second, label)
    return lambda rows: one(rows) - two(rows)


PAIRED: dict[str, tuple[str, Callable[[Rows], Values]]] = {
    "codec, F0 error, semitones": ("resynthesis", _of("resynthesis", "pitch_semitones")),
    "codec, word error": ("codec", _judged("codec", "word error")),
    "codec − rendering, word error": ("codec", _less("codec", "rendering", "word error")),
    "rendering − codec, DistillMOS": ("codec", _less("rendering", "codec", "DistillMOS")),
    "click inserted, found": ("resynthesis", _of("resynthesis", "click_found")),
    "pop inserted, found": ("resynthesis", _of("resynthesis", "pop_found")),
    "clicks a second, none inserted": (
        "resynthesis",
        _of("resynthesis", "click_false_per_second"),
    ),
    "base − codec, word error": ("codec", _less("base", "codec", "word error")),
    "the same, at the least": ("codec", _less("base", "codec", "word error")),
    "codec − base, DistillMOS": ("codec", _less("codec", "base", "DistillMOS")),
    "base, judge probability": ("codec", _judged("base", "judge probability")),
    "judge, intensities in order": ("ranked", _of("ranked", "right")),
}
"""Aim → rows of the same utterances, and its figure of each of them."""

"""Two worlds that the recipe made with different seeds, compared on the same sentences.

Each seed says other sentences, and two dozen of them differ from two dozen others by more than the
worlds do. So the second world is measured on the sentences of the first one's study: they are of a
part that no world is trained on, and the renderer speaks them alike.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rrpo.errors import UserError
from rrpo.evaluate.statistics import difference_of_intervals, paired_interval
from rrpo.files import read_json
from rrpo.interval import Interval, with_intervals
from rrpo_world.study.asked import ASKED, Asked, Rows, Study, title_of


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
    ours: Interval
    theirs: Interval
    apart: Interval
    paired: bool

    @property
    def same(self) -> bool:
        """Whether the interval of the difference holds 0."""
        return not self.apart.significant


@dataclass(frozen=True)
class Again:
    """Two worlds: the seeds of their recipes, and every aim that both have figures of."""

    seeds: tuple[int, int]
    compared: list[Compared]


def read_other(folder: Path, seed: int, sentences: int, seeds: int) -> Other:
    """Read the study of another world.

    Args:
        seed: of the recipe that made the world at hand.
        sentences, seeds: at which it is measured.

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
    needed |= {one.system for one in ASKED if one.system} - set(rows)
    if needed:
        raise UserError(
            f"{folder} lacks {', '.join(sorted(needed))}: measure that world again with "
            f"`rrpo study world --out {folder}`"
        )
    if (study["sentences"], study["seeds"]) != (sentences, seeds):
        raise UserError(
            f"{folder} has {study['sentences']} sentences with {study['seeds']} sampling seeds of "
            f"the base, not {sentences} with {seeds}: measure both at the same size"
        )
    if any("word_error" in row for drawn in rows.values() for row in drawn):
        raise UserError(f"{folder} is of an earlier version: measure that world again")
    return Other(with_intervals(study), rows)


def together(study: Study, rows: Rows, other: Other) -> Again:
    """Compare what is asked of a world with the figures of another run of its recipe.

    What is measured on the same utterances is paired, and whole sentences are resampled; the rest
    is of each world's own test sets, of which only the intervals are compared.

    Raises:
        UserError: the two did not say the same sentences.
    """
    compared = []
    for one in ASKED:
        ours, theirs = one.figure(study), one.figure(other.study)
        if ours is None or theirs is None:
            continue
        apart = _paired(one, rows, other.rows)
        compared.append(
            Compared(
                title_of(one, study),
                ours,
                theirs,
                difference_of_intervals(ours, theirs) if apart is None else apart,
                apart is not None,
            )
        )
    return Again((study["recipe_seed"], other.study["recipe_seed"]), compared)


def _paired(asked: Asked, ours: Rows, theirs: Rows) -> Interval | None:
    """Return the mean paired difference of a figure, or None if it is not of sentences.

    Raises:
        UserError: the two did not say the same sentences.
    """
    if asked.of_rows is None:
        return None
    said = [
        [(row["text"], row["emotion"]) for row in rows[asked.system]] for rows in (ours, theirs)
    ]
    if said[0] != said[1]:
        raise UserError("the two worlds were not measured on the same sentences: they are no pairs")
    one, two = asked.of_rows(ours), asked.of_rows(theirs)
    both = np.isfinite(one) & np.isfinite(two)
    texts = [text for (text, _), has in zip(said[0], both, strict=True) if has]
    return paired_interval(one[both], two[both], groups=texts)

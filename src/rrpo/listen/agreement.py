"""How far listeners agree with each other: Krippendorff's alpha."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rrpo.listen.answers import Judgement

Level = Literal["nominal", "interval"]
LEVELS: dict[str, Level] = {
    "scale": "interval",
    "comparison": "interval",
    "preference": "nominal",
    "choice": "nominal",
}
"""Kind of question → how far apart two answers are: different or not, or by their difference."""


OTHER = {"first": "second", "second": "first"}
"""A preference of two sounds, as if they had been heard the other way round."""


def agreement(answers: Sequence[Judgement]) -> tuple[float | None, str | None]:
    """Return Krippendorff's alpha of the answers to one question, or else why there is none.

    A unit is a sound, or two sounds of one item whichever was heard first: answers to the pair the
    other way round are turned. Who heard a pair in both orders counts once, by the first answer.
    """
    level = LEVELS.get(answers[0].question.kind) if answers else None
    if level is None:
        return None, "it is of ratings, preferences and choices"
    units: dict[tuple[str, ...], dict[str, float | str]] = {}
    for one in answers:
        unit, value = _unit(one)
        units.setdefault(unit, {}).setdefault(one.listener, value)
    if len({one.listener for one in answers}) < 2:
        return None, "only one listener answered"
    values = [[*of_unit.values()] for of_unit in units.values()]
    paired = [value for unit in values if len(unit) > 1 for value in unit]
    if not paired:
        return None, "no two listeners heard the same"
    if len(set(paired)) == 1:
        return None, "all answers to what several listeners heard are the same"
    return krippendorff_alpha(values, level), None


def _unit(one: Judgement) -> tuple[tuple[str, ...], float | str]:
    """Return what was judged, and the answer as one to its systems in the order of their names."""
    value = one.value
    assert not isinstance(value, tuple)  # marks have no level
    if len(one.systems) < 2:
        return (one.page.id,), value
    ordered = tuple(sorted(one.systems))
    if ordered != one.systems:
        value = OTHER.get(value, value) if isinstance(value, str) else -value
    return (one.item, *ordered), value


def krippendorff_alpha(units: Sequence[Sequence[float | str]], level: Level) -> float | None:
    """Return Krippendorff's alpha: 1 is agreement, 0 what chance would bring.

    alpha = 1 − D_o / D_e, with the observed disagreement within units and that expected among all
    values that can be paired (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"):
    D_o = (1/n) Σ_u Σ_{a≠b} δ(a, b) / (m_u − 1) and D_e = Σ_{a≠b} δ(a, b) / (n (n − 1)). δ is
    the squared difference, or 1 where two nominal values differ.

    Args:
        units: the values that each unit was given, by whomever; of a single one nothing is paired.
        level: of measurement.

    Returns:
        None where nothing is paired, or all values are the same.

    Examples:
        >>> krippendorff_alpha([["a", "a"], ["b", "b"], ["a", "b"]], "nominal")
        0.4444444444444444
    """
    paired = [unit for unit in units if len(unit) > 1]
    count = sum(map(len, paired))
    if not count:
        return None
    observed = sum(_disagreement(unit, level) / (len(unit) - 1) for unit in paired) / count
    every = [value for unit in paired for value in unit]
    expected = _disagreement(every, level) / (count * (count - 1))
    return float(1.0 - observed / expected) if expected > 0 else None


def _disagreement(values: Sequence[float | str], level: Level) -> float:
    """Return the sum of δ over ordered pairs of different places."""
    if level == "nominal":
        _, numbers = np.unique(np.asarray(values, dtype=np.str_), return_counts=True)
        return float(len(values) ** 2 - np.square(numbers).sum())
    row = np.asarray(values, dtype=np.float64)
    row = row - row.mean()
    return float(2.0 * len(row) * np.square(row).sum())

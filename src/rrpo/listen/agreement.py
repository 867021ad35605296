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


def agreement(answers: Sequence[Judgement]) -> float | None:
    """Return Krippendorff's alpha of the answers to one question; None where it is not defined."""
    units: dict[str, list[float | str]] = {}
    level = LEVELS.get(answers[0].question.kind) if answers else None
    if level is None:
        return None
    for one in answers:
        units.setdefault(one.page.id, []).append(one.value)  # type: ignore[arg-type]
    return krippendorff_alpha(list(units.values()), level)


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

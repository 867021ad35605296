"""Krippendorff's alpha against published figures."""

import pytest

from rrpo.listen.agreement import Level, krippendorff_alpha

OBSERVERS = (
    ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."],
    ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"],
    [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."],
    ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."],
)
"""Four observers of twelve units (Krippendorff 2011)."""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_the_published_example(level: Level, alpha: float) -> None:
    units = [[float(one) for one in unit if one != "."] for unit in zip(*OBSERVERS, strict=True)]
    assert krippendorff_alpha(units, level) == pytest.approx(alpha, abs=5e-4)


def test_what_is_not_defined_is_none() -> None:
    assert krippendorff_alpha([["a"], ["b"]], "nominal") is None
    assert krippendorff_alpha([["a", "a"], ["a", "a"]], "nominal") is None
    assert krippendorff_alpha([[1.0, 1.0], [2.0, 2.0]], "interval") == 1.0

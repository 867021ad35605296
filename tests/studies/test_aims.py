"""Verdicts of aims are computed from the figure, its interval and the bars."""

import math

import pytest

from rrpo.interval import Interval, exactly
from rrpo.studies.aims import Aim


@pytest.mark.parametrize(
    ("figure", "bars", "verdict"),
    [
        ((0.7, 0.6, 0.8), (-math.inf, 0.8), "met"),
        ((0.7, 0.6, 0.81), (-math.inf, 0.8), "met, interval crosses"),
        ((0.81, 0.8, 0.9), (-math.inf, 0.8), "missed, interval crosses"),
        ((0.9, 0.81, 1.0), (-math.inf, 0.8), "missed"),
        ((0.9, 0.75, 1.0), (0.75, math.inf), "met"),
        ((0.8, 0.74, 1.0), (0.75, math.inf), "met, interval crosses"),
        ((0.7, 0.6, 0.8), (0.75, math.inf), "missed, interval crosses"),
        ((0.7, 0.6, 0.74), (0.75, math.inf), "missed"),
        ((0.29, 0.2, 0.38), (0.3, 0.6), "missed, interval crosses"),
        ((0.45, 0.2, 0.7), (0.3, 0.6), "met, interval crosses"),
        ((0.45, 0.31, 0.59), (0.3, 0.6), "met"),
        ((0.7, 0.61, 0.8), (0.3, 0.6), "missed"),
        ((0.0, 0.0, 0.0), (0.0, 0.0), "met"),
        ((0.002, 0.0, 0.005), (0.0, 0.0), "missed, interval crosses"),
    ],
)
def test_verdicts(
    figure: tuple[float, float, float], bars: tuple[float, float], verdict: str
) -> None:
    assert Aim("asked", Interval(*figure), *bars).verdict == verdict


def test_an_interval_that_crosses_is_missed_where_the_whole_is_asked() -> None:
    def verdict(low: float, high: float) -> str:
        value = Interval((low + high) / 2, low, high)
        return Aim("asked", value, most=0.0, surely=True).verdict

    assert verdict(-0.5, -0.1) == "met"
    assert verdict(-0.5, 0.1) == "missed, interval crosses"
    assert verdict(0.1, 0.5) == "missed"


def test_cells_show_the_bar_the_figure_and_the_verdict() -> None:
    value = Interval(0.5, 0.25, 0.75)
    assert Aim("a", value, most=0.8).cells() == ("at most 0.8", "0.500 [0.250, 0.750]", "met")
    assert Aim("a", value, least=0.25).cells()[0] == "at least 0.25"
    assert Aim("a", value, 0.3, 0.6).cells()[0] == "0.3 to 0.6"
    assert Aim("a", exactly(23.2), most=24.0).cells() == ("at most 24", "23.200", "met")
    assert Aim("a", None, 0.0, 0.0).cells() == ("0", "–", "not measured")

"""Intervals: what they say of a difference, how they are written and read."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rrpo.files import read_json, write_json
from rrpo.interval import Interval, cell, exactly, with_intervals

ENDS = st.tuples(st.floats(-9, 9), st.floats(0, 9), st.floats(0, 9))


@given(ENDS)
def test_what_is_written_is_read_again(ends: tuple[float, float, float]) -> None:
    mean, below, above = ends
    value = Interval(mean, mean - below, mean + above)
    written = json.dumps({"a": [vars(value)], "n": 3})
    assert with_intervals(json.loads(written)) == {"a": [value], "n": 3}


def test_a_file_holds_the_mean_and_both_ends(tmp_path: Path) -> None:
    write_json(tmp_path / "figures.json", {"kl": Interval(0.5, 0.25, 0.75), "none": None})
    found = read_json(tmp_path / "figures.json")
    assert found == {"kl": {"mean": 0.5, "low": 0.25, "high": 0.75}, "none": None}


@given(ENDS)
def test_a_difference_is_significant_the_other_way_round_too(
    ends: tuple[float, float, float],
) -> None:
    mean, below, above = ends
    value = Interval(mean, mean - below, mean + above)
    assert value.significant == (not value.low <= 0 <= value.high) == (-value).significant
    turned = -value
    assert -turned == value


def test_zero_at_an_end_is_not_significant() -> None:
    assert Interval(0.1, 0.0, 0.2).verdict == Interval(0.1, -0.1, 0.2).verdict == "not significant"
    assert Interval(0.1, 0.01, 0.2).verdict == Interval(-1.0, -2.0, -0.5).verdict == "significant"


def test_digits_fit_the_mean() -> None:
    assert str(Interval(12.345, 9.0, 15.25)) == "12.3 [9.0, 15.2]"
    assert str(Interval(0.5, 0.4, 0.625)) == "0.50 [0.40, 0.62]"
    assert f"{Interval(0.0123, 0.01, 0.015):.3g}" == "0.0123 [0.01, 0.015]"
    assert f"{Interval(0.5):+.3f}" == "+0.500"  # its ends are not known
    assert cell(None) == "–"
    assert cell(exactly(1.0), ".1f") == "1.0 [1.0, 1.0]"

"""Curves compared at equal values: known crossings, and runs whose answer is worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrpo.errors import UserError
from rrpo.evaluate.matched import mean_difference, reached, run_interval
from rrpo.interval import Interval

Curve = list[dict[str, float]]


def line(slope: float, start: float = 0.0, top: float = 1.0) -> Curve:
    """A curve whose measure is a straight line over the key."""
    return [{"kl": top * k / 4, "q": start + slope * top * k / 4} for k in range(5)]


@given(st.floats(0.0, 1.0), st.floats(-3.0, 3.0))
def test_a_straight_line_is_read_exactly(key: float, slope: float) -> None:
    curve = line(slope, start=2.0)
    found = reached([point["kl"] for point in curve], [point["q"] for point in curve], key)
    assert found == pytest.approx(2.0 + slope * key, abs=1e-9)


def test_the_first_crossing_counts() -> None:
    """The key falls after its top: what happens on the way back is not looked at."""
    assert reached([0.0, 2.0, 0.0], [1.0, 3.0, 9.0], 1.0) == 2.0


def test_what_is_never_reached_is_none() -> None:
    assert reached([0.0, 1.0], [1.0, 2.0], 1.5) is None
    assert reached([1.0, 2.0], [1.0, 2.0], 0.5) is None
    assert reached([], [], 0.5) is None
    assert reached([0.5, 0.2, 0.6], [7.0, 8.0, 9.0], 0.5) == 7.0


def test_the_same_path_at_another_pace_differs_by_nothing() -> None:
    """The faster run is further along at every step and equal at every KL."""
    assert mean_difference(line(-2.0, top=3.0), line(-2.0, top=1.0), "kl", "q") == pytest.approx(0)


def test_a_constant_gap_is_found() -> None:
    found = mean_difference(line(-2.0, start=5.0, top=3.0), line(-2.0, start=4.5), "kl", "q")
    assert found == pytest.approx(0.5)


def test_curves_that_do_not_overlap_cannot_be_compared() -> None:
    far = [{"kl": 2.0, "q": 1.0}, {"kl": 3.0, "q": 1.0}]
    assert mean_difference(line(1.0), far, "kl", "q") is None


def test_the_interval_over_runs_is_students() -> None:
    """Four runs: t(0.975, 3) = 3.1824, standard error 1.2910 / 2."""
    found = run_interval([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.high - 2.5 == pytest.approx(3.1824463 * 1.2909944 / 2)
    assert 2.5 - found.low == pytest.approx(found.high - 2.5)


def test_one_run_has_no_ends_and_none_is_an_error() -> None:
    assert run_interval([0.3]) == Interval(0.3)
    with pytest.raises(UserError, match="at least one run"):
        run_interval([])

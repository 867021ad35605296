"""How well a score separates two kinds, against pairs that are counted one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from rrpo.errors import UserError
from rrpo.evaluate.clusters import expanded_interval, resampled_sums
from rrpo.interval import Interval
from rrpo_world.artifacts.roc import area_under_roc, clustered_area_under_roc, roc_curve


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
def test_the_area_is_the_share_of_pairs_in_order(high: list[int], low: list[int]) -> None:
    pairs = [(one > other) + (one == other) / 2 for one in high for other in low]
    assert area_under_roc(high, low) == pytest.approx(np.mean(pairs))
    false, true = roc_curve(high, low)
    assert trapezoid(true, false) == pytest.approx(np.mean(pairs))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    for x, y in zip(false, true, strict=True):
        assert any(
            x == pytest.approx(np.mean([other >= t for other in low]))
            and y == pytest.approx(np.mean([one >= t for one in high]))
            for t in [*high, *low, 99]
        )


def test_the_area_of_a_resample_of_clusters_is_that_of_its_scores() -> None:
    """Every resample of three clusters of unequal sizes, against their scores put together."""
    rng = np.random.default_rng(0)
    high, own = rng.integers(2, 9, 11), np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    low, other = rng.integers(0, 7, 9), np.array([0, 1, 1, 1, 1, 1, 2, 2, 2])
    drawn = resampled_sums(np.eye(3), 5, 300).astype(int)
    areas = [
        area_under_roc(
            np.concatenate([np.tile(high[own == g], w) for g, w in enumerate(row)]),
            np.concatenate([np.tile(low[other == g], w) for g, w in enumerate(row)]),
        )
        for row in drawn
    ]
    wanted = expanded_interval(area_under_roc(high, low), np.array(areas), 3)
    found = clustered_area_under_roc(high, own, low, other, seed=5, resamples=300)
    assert found == pytest.approx(wanted)
    assert found.low < found.mean < found.high


def test_a_cluster_without_negatives_and_a_single_one() -> None:
    found = clustered_area_under_roc([1.0, 3.0], [0, 1], [2.0, 2.0], [1, 1])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 1.0)
    alone = clustered_area_under_roc([1.0, 3.0], [0, 0], [2.0], [0])
    assert alone == Interval(0.5)
    with pytest.raises(UserError, match="negatives"):
        clustered_area_under_roc([1.0], [0], [], [])


def test_an_area_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="negatives"):
        area_under_roc([1.0], [])
    with pytest.raises(UserError, match="positives"):
        roc_curve([np.nan], [1.0])

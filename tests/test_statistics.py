"""Bootstrap intervals against a loop, coverage, and their edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from rrpo.errors import UserError
from rrpo.evaluate.statistics import (
    area_under_roc,
    interval,
    paired_interval,
    recall,
    roc_curve,
)


def by_hand(values: np.ndarray, seed: int, resamples: int) -> tuple[float, float]:
    """BCa written out from Efron's formulas."""
    rng = np.random.default_rng(seed)
    mean = values.mean()
    draws = np.array([rng.choice(values, values.size).mean() for _ in range(resamples)])
    bias = norm.ppf((np.mean(draws < mean) + np.mean(draws <= mean)) / 2)
    left_out = np.array([np.delete(values, i).mean() for i in range(values.size)])
    spread = left_out.mean() - left_out
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    ends = []
    for share in (0.025, 0.975):
        z = bias + norm.ppf(share)
        ends.append(np.quantile(draws, norm.cdf(bias + z / (1 - acceleration * z))))
    return ends[0], ends[1]


def test_agrees_with_the_formulas_on_skewed_values() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    found = interval(values, seed=1, resamples=20_000)
    low, high = by_hand(values, seed=2, resamples=20_000)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(low, abs=0.02)
    assert found["high"] == pytest.approx(high, abs=0.02)
    assert high - values.mean() > values.mean() - low  # the skew that a plain t interval misses


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        found = interval(rng.normal(1.0, 2.0, 50), seed=trial, resamples=400)
        hits += found["low"] <= 1.0 <= found["high"]
    assert 175 <= hits <= 199


def test_same_seed_same_interval_other_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert interval(values, seed=5) == interval(values, seed=5)
    assert interval(values, seed=5) != interval(values, seed=6)


@pytest.mark.parametrize("values", [[0.3], [0.1] * 7, [0.0, 0.0]])
def test_nothing_to_resample_gives_the_mean(values: list[float]) -> None:
    found = interval(values)
    assert found["low"] == found["high"] == found["mean"] == pytest.approx(values[0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_always_finite_and_inside_the_range(values: list[float]) -> None:
    found = interval(values, resamples=100)
    slack = 1e-6 * max(1.0, max(map(abs, values)))
    assert min(values) - slack <= found["low"] <= found["high"] <= max(values) + slack


def test_one_success_in_many_is_finite() -> None:
    found = interval([0.0] * 19 + [1.0])
    assert 0.0 <= found["low"] < 0.05 < found["high"] <= 0.3


def test_pairing_removes_what_both_systems_share() -> None:
    rng = np.random.default_rng(1)
    sentence = rng.normal(0.0, 5.0, 40)
    better = sentence + 0.5 + rng.normal(0, 0.2, 40)
    found = paired_interval(better, sentence)
    assert found["mean"] == pytest.approx(float(np.mean(better - sentence)))
    assert found["low"] > 0.3
    assert interval(better)["low"] < interval(sentence)["high"]


def test_recall_weighs_classes_and_not_utterances() -> None:
    assert recall([0, 0, 0, 0, 1, 2], [0, 0, 0, 1, 1, 0]) == pytest.approx((0.75 + 1 + 0) / 3)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0], [2.0]]])
def test_bad_values_are_the_users_mistake(values: list[float]) -> None:
    with pytest.raises(UserError):
        interval(values)


def test_unpaired_lengths_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="same utterances"):
        paired_interval([1.0, 2.0], [1.0])
    with pytest.raises(UserError):
        recall([0], [0, 1])


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
def test_the_area_is_the_share_of_pairs_in_order(high: list[int], low: list[int]) -> None:
    pairs = [(one > other) + (one == other) / 2 for one in high for other in low]
    assert area_under_roc(high, low) == pytest.approx(np.mean(pairs))
    false, true = roc_curve(high, low)
    assert np.trapezoid(true, false) == pytest.approx(np.mean(pairs))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    for x, y in zip(false, true, strict=True):
        assert any(
            x == pytest.approx(np.mean([other >= t for other in low]))
            and y == pytest.approx(np.mean([one >= t for one in high]))
            for t in [*high, *low, 99]
        )


def test_an_area_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="negatives"):
        area_under_roc([1.0], [])
    with pytest.raises(UserError, match="positives"):
        roc_curve([np.nan], [1.0])

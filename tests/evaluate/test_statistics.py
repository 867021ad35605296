"""Bootstrap intervals against a loop, coverage, and their edges."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t, ttest_1samp
from sklearn import metrics
from sklearn.metrics import balanced_accuracy_score

from rrpo.errors import UserError
from rrpo.evaluate.clusters import (
    clustered_interval,
    clusters,
    expanded_interval,
    resampled_sums,
)
from rrpo.evaluate.confusion import (
    accuracy,
    confusion_matrices,
    macro_f1,
    unweighted_average_recall,
)
from rrpo.evaluate.statistics import (
    difference_of_intervals,
    interval,
    paired_interval,
    unpaired_interval,
)
from rrpo.interval import Interval


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
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert high - values.mean() > values.mean() - low  # the skew that a plain t interval misses


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        found = interval(rng.normal(1.0, 2.0, 50), seed=trial, resamples=400)
        hits += found.low <= 1.0 <= found.high
    assert 175 <= hits <= 199


def test_same_seed_same_interval_other_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert interval(values, seed=5) == interval(values, seed=5)
    assert interval(values, seed=5) != interval(values, seed=6)


@pytest.mark.parametrize("values", [[0.1] * 7, [0.0, 0.0]])
def test_nothing_to_resample_gives_the_mean(values: list[float]) -> None:
    found = interval(values)
    assert found.low == found.high == found.mean == pytest.approx(values[0])


def test_one_value_has_no_ends() -> None:
    assert interval([0.3]) == Interval(0.3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_always_finite_and_of_many_inside_the_range(values: list[float]) -> None:
    """Of few it is Student's, which may reach beyond."""
    found = interval(values, resamples=100)
    slack = 1e-6 * max(1.0, max(map(abs, values)))
    assert np.isfinite([found.low, found.high]).all()
    assert found.low - slack <= found.mean <= found.high + slack
    if len(values) >= 8:
        assert min(values) - slack <= found.low <= found.high <= max(values) + slack


def test_few_values_have_students_interval() -> None:
    values = [0.61, 0.70, 0.66]
    known = ttest_1samp(values, 0.0).confidence_interval()
    found = interval(values)
    assert (found.low, found.high) == (pytest.approx(known.low), pytest.approx(known.high))
    assert interval(values, groups=["a", "b", "c"]) == pytest.approx(found)


def test_shares_of_few_groups_stay_shares() -> None:
    """Within 0 and 1, and never of no width."""
    groups = np.repeat(["a", "b", "c"], 6)
    found = interval(np.arange(18) % 9 > 0, groups=groups)
    assert 0.5 < found.low < 0.8 and 0.95 < found.high <= 1.0
    halves = interval(np.array([True, False] * 6), groups=["a"] * 6 + ["b"] * 6)
    assert halves.low < 0.3 and halves.high > 0.7
    apart = paired_interval(np.ones(3, bool), np.zeros(3, bool))
    assert apart.mean == 1.0 and 0.1 < apart.low < 0.4
    many = paired_interval(np.ones(48, bool), np.zeros(48, bool), groups=list("abcdefgh") * 6)
    assert many.significant and many.low > 0.5, "all of many against none"
    same = paired_interval(np.zeros(9, bool), np.zeros(9, bool))
    assert same.mean == 0.0 and same.low < -0.1
    assert clusters(["a", None, None, "b"])[0].tolist() == [0, 1, 2, 3]


def test_a_share_of_all_or_none_has_wilsons_interval() -> None:
    """Otherwise none of twenty would be 0 without any doubt."""
    from scipy.stats import binomtest

    for share in (False, True):
        found = interval(np.full(20, share))
        ends = binomtest(20 * share, 20).proportion_ci(method="wilson")
        assert (found.mean, found.low, found.high) == (float(share), ends.low, ends.high)
    # Utterances of one sentence are one trial.
    grouped = interval(np.zeros(20, bool), groups=["a"] * 10 + ["b"] * 10)
    assert grouped.high == binomtest(0, 2).proportion_ci(method="wilson").high
    assert interval(np.zeros(20)).high == 0.0  # a rate, not a share


def test_one_success_in_many_is_finite() -> None:
    found = interval([0.0] * 19 + [1.0])
    assert 0.0 <= found.low < 0.05 < found.high <= 0.3


def test_pairing_removes_what_both_systems_share() -> None:
    rng = np.random.default_rng(1)
    sentence = rng.normal(0.0, 5.0, 40)
    better = sentence + 0.5 + rng.normal(0, 0.2, 40)
    found = paired_interval(better, sentence)
    assert found.mean == pytest.approx(float(np.mean(better - sentence)))
    assert found.low > 0.3
    assert interval(better).low < interval(sentence).high


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0], [2.0]]])
def test_bad_values_are_the_users_mistake(values: list[float]) -> None:
    with pytest.raises(UserError):
        interval(values)


def test_unpaired_lengths_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="same utterances"):
        paired_interval([1.0, 2.0], [1.0])


def test_resamples_are_whole_clusters_drawn_with_replacement() -> None:
    """Powers of a base tell from each sum which clusters were drawn, and how often."""
    sums = resampled_sums([1, 10, 100], seed=4, resamples=20_000)
    times = np.stack([sums % 10, sums // 10 % 10, sums // 100], axis=1)
    assert (times.sum(axis=1) == 3).all()
    counts = Counter(map(tuple, times.astype(int).tolist()))
    assert len(counts) == 10
    assert counts[(1, 1, 1)] / 20_000 == pytest.approx(6 / 27, abs=0.01)
    assert counts[(3, 0, 0)] / 20_000 == pytest.approx(1 / 27, abs=0.01)


def test_many_clusters_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).random((5, 2, 3))
    whole = resampled_sums(counts, seed=1, resamples=50)
    monkeypatch.setattr("rrpo.evaluate.clusters.DRAWN", 35)  # seven resamples at a time
    np.testing.assert_allclose(resampled_sums(counts, seed=1, resamples=50), whole)
    assert whole.shape == (50, 2, 3)


def test_clustered_interval_agrees_with_a_loop_over_utterances() -> None:
    """Of single utterances as clusters, and of speakers by drawing their rows one by one."""
    rng = np.random.default_rng(2)
    labels, guesses = rng.integers(3, size=90), rng.integers(3, size=90)
    speakers = rng.integers(15, size=90)
    counts = confusion_matrices(labels, guesses, 3, speakers)
    found = clustered_interval(counts, unweighted_average_recall, seed=1, resamples=8000)
    draws = []
    for _ in range(4000):
        rows = np.concatenate(
            [np.flatnonzero(speakers == one) for one in rng.integers(15, size=15)]
        )
        right = labels[rows] == guesses[rows]
        draws.append(np.mean([right[labels[rows] == k].mean() for k in np.unique(labels[rows])]))
    # Student's t of 14 degrees of freedom is 2.145; times sqrt(15 / 14) it is 2.220.
    low, high = np.quantile(draws, [norm.cdf(-2.220), norm.cdf(2.220)])
    assert found.mean == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)


def spoken(rng: np.random.Generator, speakers: int, spread: float = 0.0) -> tuple[np.ndarray, ...]:
    """Labels, predictions and speakers, who are easier or not for all classes.

    By 0.2 half of them, or by what is drawn with a normal `spread`.
    """
    sizes = rng.integers(10, 40, speakers)
    names = np.repeat(np.arange(speakers), sizes)
    lifts = rng.normal(0, spread, speakers) if spread else rng.choice([-0.2, 0.2], speakers)
    lift = lifts[names]
    labels = rng.integers(4, size=names.size)
    right = rng.random(names.size) < np.array([0.8, 0.7, 0.5, 0.3])[labels] + lift
    wrong = (labels + rng.integers(1, 4, names.size)) % 4
    return labels, np.where(right, labels, wrong), names


def test_clustered_intervals_cover_and_unclustered_ones_do_not() -> None:
    """The expected recall is 0.575; utterances of a speaker are alike, so their number deceives."""
    hits = {"speakers": 0, "utterances": 0}
    for trial in range(200):
        labels, guesses, names = spoken(np.random.default_rng(trial), 12)
        for kind, groups in (("speakers", names), ("utterances", np.arange(names.size))):
            counts = confusion_matrices(labels, guesses, 4, groups)
            found = clustered_interval(counts, unweighted_average_recall, trial, resamples=400)
            hits[kind] += found.low <= 0.575 <= found.high
    assert 176 <= hits["speakers"] <= 199
    assert hits["utterances"] < 160


def test_a_mean_over_groups_agrees_with_a_loop_that_draws_them_whole() -> None:
    rng = np.random.default_rng(5)
    names = np.repeat([f"sentence {index}" for index in range(15)], rng.integers(2, 8, 15))
    values = rng.normal(size=15)[np.unique(names, return_inverse=True)[1]] + rng.normal(
        0, 0.1, names.size
    )
    found = interval(values, seed=1, resamples=8000, groups=names)
    draws = []
    for _ in range(4000):
        chosen = rng.choice(np.unique(names), 15)
        draws.append(np.concatenate([values[names == one] for one in chosen]).mean())
    low, high = np.quantile(draws, [norm.cdf(-2.220), norm.cdf(2.220)])
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.05)
    assert found.high == pytest.approx(high, abs=0.05)
    alone = interval(values, seed=1)
    assert found.high - found.low > 1.4 * (alone.high - alone.low)
    paired = paired_interval(values + 1, np.ones(names.size), seed=1, resamples=8000, groups=names)
    assert paired == pytest.approx(found)


def test_a_mean_over_few_groups_is_students() -> None:
    """Of groups of one size that of their means; of others it covers where a bootstrap does not."""
    rng = np.random.default_rng(7)
    equal = rng.normal(size=(4, 3))
    names = np.repeat(["a", "b", "c", "d"], 3)
    found = interval(equal.ravel(), groups=names)
    known = ttest_1samp(equal.mean(1), 0.0).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(known.low), pytest.approx(known.high))
    sizes = np.array([2, 5, 3, 8])
    names, hits, drawn = np.repeat(["a", "b", "c", "d"], sizes), 0, 0
    for _ in range(800):
        values = np.repeat(rng.normal(size=4), sizes) + rng.normal(0, 0.3, 18)
        found = interval(values, groups=names)
        hits += found.low <= 0 <= found.high
        counts = [[values[names == one].sum(), (names == one).sum()] for one in "abcd"]
        sums = resampled_sums(counts, 0, 500)
        resampled = expanded_interval(values.mean(), sums[..., 0] / sums[..., 1], 4)
        drawn += resampled.low <= 0 <= resampled.high
    assert hits >= 730  # some 93 %, as the sizes differ so much
    assert drawn < 700


def test_a_figure_of_one_cluster_alone_has_no_interval() -> None:
    found = clustered_interval([[2, 3], [0, 0], [0, 0]], lambda sums: sums[..., 0] / sums[..., 1])
    assert found.mean == pytest.approx(2 / 3) and not found.known


@pytest.mark.parametrize("speakers", [3, 4])
def test_recall_over_few_speakers_covers_where_a_bootstrap_does_not(speakers: int) -> None:
    hits = drawn = 0
    for trial in range(300):
        labels, guesses, names = spoken(np.random.default_rng(trial), speakers, 0.12)
        counts = confusion_matrices(labels, guesses, 4, names)
        found = clustered_interval(counts, unweighted_average_recall, trial, resamples=400)
        hits += found.low <= 0.575 <= found.high
        sums = unweighted_average_recall(resampled_sums(counts, trial, 400))
        resampled = expanded_interval(found.mean, sums, speakers)
        drawn += resampled.low <= 0.575 <= resampled.high
    assert hits >= 275
    assert drawn < hits - 10


def test_a_difference_of_samples_with_nothing_in_common() -> None:
    """Against Welch's formula: normal values, each a group of its own."""
    rng = np.random.default_rng(6)
    first, second = rng.normal(3, 1, 60), rng.normal(1, 2, 80)
    names = [str(index) for index in range(60)], [str(index) for index in range(80)]
    found = unpaired_interval(first, second, names, resamples=8000)
    error = np.sqrt(first.var(ddof=1) / 60 + second.var(ddof=1) / 80)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert found.low == pytest.approx(found.mean - 2 * error, abs=0.06)
    assert found.high == pytest.approx(found.mean + 2 * error, abs=0.06)


def test_every_value_needs_its_group() -> None:
    with pytest.raises(UserError, match="3 values have 2 groups"):
        interval([1.0, 2.0, 3.0], groups=["a", "b"])
    with pytest.raises(UserError, match="2 values have 1 groups"):
        unpaired_interval([1.0], [1.0, 2.0], (["a"], ["a"]))


def test_utterances_are_the_clusters_where_speakers_do_not_tell() -> None:
    ids, named = clusters(["b", "a", "b"])
    assert (ids.tolist(), named) == ([1, 0, 1], True)
    for names in (["a", "a", "a"], ["a", "", "b"], ["", "", ""]):
        ids, named = clusters(names)
        assert (ids.tolist(), named) == ([0, 1, 2], False)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(4, 6),
)
def test_figures_of_a_confusion_matrix_are_scikit_learns(
    pairs: list[tuple[int, int]], classes: int
) -> None:
    labels, guesses = zip(*pairs, strict=True)
    matrix = confusion_matrices(labels, guesses, classes)[0]
    known = list(range(classes))
    assert matrix.tolist() == metrics.confusion_matrix(labels, guesses, labels=known).tolist()
    assert accuracy(matrix) == pytest.approx(metrics.accuracy_score(labels, guesses))
    wanted = metrics.recall_score(labels, guesses, labels=sorted(set(labels)), average="macro")
    assert unweighted_average_recall(matrix) == pytest.approx(wanted)
    wanted = metrics.f1_score(labels, guesses, average="macro", zero_division=0)
    assert macro_f1(matrix) == pytest.approx(wanted)
    stacked = np.stack([matrix, 3 * matrix])  # figures do not depend on the scale, and broadcast
    np.testing.assert_allclose(macro_f1(stacked), [wanted, wanted])


def test_what_cannot_be_compared_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="lies outside"):
        confusion_matrices([0, 1], [0, 2], 2)
    with pytest.raises(UserError, match="one of each"):
        confusion_matrices([], [], 2)
    for counts in ([], 3.0, [1.0, float("nan")]):
        with pytest.raises(UserError, match="finite"):
            clustered_interval(counts, lambda sums: sums)


def test_a_difference_of_intervals_covers_as_often_as_it_says() -> None:
    """Two skewed samples of known means, each known by its Student's interval alone."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(800):
        figures = []
        for scale in (1.0, 3.0):
            sample = rng.gamma(4.0, scale, size=30)
            half = t.ppf(0.975, 29) * sample.std(ddof=1) / np.sqrt(30)
            mean = float(sample.mean())
            figures.append(Interval(mean, mean - half, mean + half))
        apart = difference_of_intervals(*figures)
        covered.append(apart.low <= 4.0 - 12.0 <= apart.high)
    assert 0.92 < np.mean(covered) < 0.98


def test_a_difference_of_equal_widths_is_the_root_of_two_wider() -> None:
    one = Interval(2.0, 1.0, 3.0)
    apart = difference_of_intervals(one, Interval(1.5, 0.5, 2.5))
    assert (apart.mean, apart.low, apart.high) == pytest.approx((0.5, 0.5 - 2**0.5, 0.5 + 2**0.5))

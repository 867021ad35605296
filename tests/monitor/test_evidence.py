"""Wealth by betting: its mean under the null, false alarms however often one looks, and power."""

import itertools
import math

import numpy as np
import pytest

from rrpo.monitor.evidence import FRACTIONS, log_factors, log_mean, log_wealth

MARGIN = 0.1
ALPHA = 0.05
UTTERANCES, LOOKS, HARMS = 12, 6, 3


def test_the_factors_are_those_of_the_bets() -> None:
    changes = [0.5, -0.2, 1.0]
    found = np.exp(log_factors(changes, MARGIN))
    for fraction, factor in zip(FRACTIONS, found, strict=True):
        bet = fraction / (1 + MARGIN)
        assert factor == pytest.approx(math.prod(1 + bet * (one - MARGIN) for one in changes))
    assert np.isfinite(log_factors([-1.0] * 100, MARGIN)).all(), "no factor is nought"


@pytest.mark.parametrize("means", [(MARGIN, MARGIN), (MARGIN + 0.4, MARGIN - 0.4), (0.0, MARGIN)])
def test_the_mean_wealth_of_every_outcome_is_at_most_one(means: tuple[float, float]) -> None:
    """Two prompts, two looks, each change −1 or 1: every outcome with its probability."""
    worse = [(1 + mean) / 2 for mean in means]  # the probability of 1
    expected = 0.0
    for outcome in itertools.product((-1.0, 1.0), repeat=4):
        looks = [log_factors(outcome[:2], MARGIN), log_factors(outcome[2:], MARGIN)]
        chance = math.prod(
            p if one > 0 else 1 - p for p, one in zip(worse * 2, outcome, strict=True)
        )
        expected += chance * math.exp(log_wealth(looks, planned=3))
    assert expected <= 1 + 1e-12
    if means == (MARGIN, MARGIN):
        assert expected == pytest.approx(1)


def healthy(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Changes of one look whose mean is the margin, as bad as the null allows."""
    size = UTTERANCES
    if kind == "rare":  # one in ten is as bad as can be
        rare = rng.random(size) < 0.1
        return np.where(rare, 1.0, (MARGIN - 0.1) / 0.9)
    if kind == "prompts":  # some prompts are much worse, the others better
        centre = np.where(np.arange(size) % 2 == 0, MARGIN + 0.5, MARGIN - 0.5)
        return centre + rng.uniform(-0.4, 0.4, size)
    return MARGIN + rng.uniform(-0.9, 0.9, size)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rare", "prompts", "even"])
def test_healthy_runs_raise_few_alarms_however_often_one_looks(kind: str) -> None:
    rng, runs = np.random.default_rng(0), 1000
    alarms = 0
    for _ in range(runs):
        looks: list[list[np.ndarray]] = [[] for _ in range(HARMS)]
        for _ in range(LOOKS):  # stops at the first alarm: the most that optional stopping can do
            for each in looks:
                each.append(log_factors(healthy(rng, kind), MARGIN))
            if log_mean([log_wealth(each, LOOKS) for each in looks]) >= -math.log(ALPHA):
                alarms += 1
                break
    spread = math.sqrt(ALPHA * (1 - ALPHA) / runs)
    assert alarms / runs <= ALPHA + 2 * spread
    # A fixed test at every look, as is often done, alarms far more often: the bound is not vacuous.
    repeated = 0
    for _ in range(200):
        sums = np.cumsum([healthy(rng, "even").sum() - UTTERANCES * MARGIN for _ in range(LOOKS)])
        deviation = 0.9 / math.sqrt(3) * np.sqrt(UTTERANCES * np.arange(1, LOOKS + 1))
        repeated += bool((sums / deviation > 1.645).any())
    assert repeated / 200 > ALPHA + 2 * spread


@pytest.mark.parametrize("begins", [0, 4])
def test_harm_is_found_soon_whenever_it_begins(begins: int) -> None:
    rng, runs, found = np.random.default_rng(1), 100, 0
    for _ in range(runs):
        looks: list[list[np.ndarray]] = [[] for _ in range(HARMS)]
        for look in range(begins + 3):
            for number, each in enumerate(looks):
                mean = 0.5 if number == 0 and look >= begins else 0.0
                each.append(log_factors(rng.uniform(mean - 0.5, mean + 0.5, 24), MARGIN))
        found += log_mean([log_wealth(each, 8) for each in looks]) >= math.log(100)
    assert found >= 0.95 * runs


def test_what_was_lost_before_is_not_to_be_won_back() -> None:
    """Six looks without harm: all wealth at stake from the first on would be lost by then."""
    calm, harm = log_factors([-0.2] * 24, MARGIN), log_factors([0.6] * 24, MARGIN)
    looks = [calm] * 6 + [harm]
    assert log_wealth(looks, planned=8) > math.log(100)
    everything = np.sum(looks, axis=0)
    assert log_mean(everything) < math.log(100)


def test_no_look_is_no_evidence() -> None:
    assert log_wealth([], planned=5) == 0.0

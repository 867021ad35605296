"""Evidence that a mean is above its margin, at any look: wealth won by betting on it.

D in [−1, 1] are changes of utterances, one mean of them a look; that none is above the margin δ is
the null hypothesis. A bet of λ multiplies the wealth by Π (1 + λ (D − δ)) over the utterances of a
look, with 0 < λ < 1 / (1 + δ), so that no factor is negative. Given what was before the look, its
utterances are independent, so under the null the expected product is Π (1 + λ (μ_i − δ)), at most
(1 + λ (μ − δ))^n ≤ 1 by the inequality of the means: it is enough that the mean μ over the prompts
is within the margin, whatever each does. So the wealth is a supermartingale that starts at 1, and
by Ville's inequality it ever reaches 1/α with probability α at most, however often one looks and
whenever one stops (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by
betting", JRSS B 86).

The wealth is spread evenly over several λ, because the best is not known, and over the looks that
are planned, each share lying idle until its look: what begins late need not first win back what was
lost before. A mean of such wealths, of several harms, is one again.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FRACTIONS = (0.95, 0.5, 0.25, 0.12, 0.06)
"""Bets, as shares of the greatest possible one."""
Vector = NDArray[np.float64]


def log_factors(changes: ArrayLike, margin: float) -> Vector:
    """Return by what each bet multiplies its wealth at a look, as logarithms (`FRACTIONS`,).

    Args:
        changes: D (n,) in [−1, 1], of independent utterances.
        margin: δ in [0, 1).

    Examples:
        >>> bool((log_factors([0.0, 0.1], 0.1) < 0).all())
        True
    """
    above = np.asarray(changes, dtype=np.float64) - margin
    bets = np.array(FRACTIONS) / (1.0 + margin)
    return np.asarray(np.log1p(np.outer(bets, above)).sum(1))


def log_wealth(looks: Sequence[ArrayLike], planned: int) -> float:
    """Return the logarithm of the wealth after some looks; 0 before the first.

    Args:
        looks: `log_factors` of each look so far.
        planned: how many there will be at most.
    """
    count = max(planned, len(looks))
    stakes = np.zeros((count, len(FRACTIONS)))
    for number, factors in enumerate(looks):
        stakes[: number + 1] += np.asarray(factors)  # shares of later looks still lie idle
    return log_mean(stakes)


def log_mean(logs: ArrayLike) -> float:
    """Return the logarithm of the mean of what is given by logarithms, of any shape."""
    values = np.asarray(logs, dtype=np.float64)
    highest = float(values.max())
    return highest + math.log(float(np.exp(values - highest).mean()))

"""Strengths of systems from preferences: the model of Bradley and Terry."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rrpo.errors import UserError
from rrpo.evaluate.clusters import Figure
from rrpo.evaluate.two_way import ratio
from rrpo.interval import Interval
from rrpo.listen.answers import FEWEST, Judgement, counted, interval_over

PRIOR = 0.1
"""Imagined wins of every system over every other: without one, a system that always wins is
infinitely strong."""
RESAMPLES = 300
SEPARATED = (
    "a system, or several, never wins against the others (or two were never compared): strengths "
    f"hang on the {PRIOR:g} wins that are imagined of every system over every other, so they have "
    "no intervals"
)
"""What is said where the systems are separated."""


def wins(answers: Sequence[Judgement], systems: Sequence[str]) -> NDArray[np.float64]:
    """Return how often each system was preferred to each other, (L, I, S, S); a tie is half."""
    place = {name: at for at, name in enumerate(systems)}

    def won(first: bool) -> NDArray[np.float64]:
        share = {"first": float(first), "second": float(not first), "same": 0.5}

        def count(one: Judgement) -> tuple[tuple[int, ...], float]:
            pair = [place[name] for name in one.systems]
            return (pair[not first], pair[first]), share.get(str(one.value), 0.0)

        return counted(answers, (len(systems), len(systems)), count)

    return won(True) + won(False)


def strengths(
    answers: Sequence[Judgement], systems: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Return log-strengths with 95 % intervals over listeners and items; their mean is 0.

    The probability that i is preferred to j is 1 / (1 + exp(s_j − s_i)) (Bradley & Terry 1952,
    Biometrika 39), fitted by choix (Maystre & Grossglauser 2015). Where the systems are `separated`
    there are no intervals: the prior decides how far apart strengths are, not the answers.
    """
    try:
        import choix
    except ModuleNotFoundError:
        raise UserError("choix is not installed: pip install 'rrpo[listen]'") from None
    counts = wins(answers, systems)

    kept: dict[bytes, NDArray[np.float64]] = {}

    def fitted(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fit each once: the same resamples are asked for by every system."""
        found = []
        for one in sums.reshape(-1, len(systems), len(systems)):
            key = one.tobytes()
            if key not in kept:
                kept[key] = choix.ilsr_pairwise_dense(one, alpha=PRIOR)
            found.append(kept[key])
        return np.stack(found)

    def strength(at: int) -> Figure:
        return lambda sums: fitted(sums)[:, at].reshape(sums.shape[:-2])

    if separated(answers, systems):
        means = fitted(counts.sum((0, 1)))[0]
        return {name: Interval(float(means[at])) for at, name in enumerate(systems)}
    return {
        name: interval_over(counts, strength(at), seed, RESAMPLES)
        for at, name in enumerate(systems)
    }


def shares(
    answers: Sequence[Judgement], systems: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Return "B over A" → the share of comparisons in which B was preferred, a tie being half.

    A comes before B among the systems. Where all listeners agree, a resample knows no other share:
    there the open end is that of Clopper and Pearson, with a listener for a trial.
    """
    counts = wins(answers, systems)
    found = {}
    for first, second in combinations(range(len(systems)), 2):
        lost, won = counts[..., first, second], counts[..., second, first]
        if (won + lost).any():
            share = interval_over(np.stack([won, won + lost], axis=-1), ratio, seed)
            listeners, items = (int((won + lost).any(axis=axis).sum()) for axis in (1, 0))
            if share.mean in (0.0, 1.0) and min(listeners, items) >= FEWEST:
                apart = 1.0 - 0.025 ** (1.0 / listeners)
                share = Interval(share.mean, share.mean - apart, share.mean + apart)
            if share.known:
                share = Interval(share.mean, max(share.low, 0.0), min(share.high, 1.0))
            found[f"{systems[second]} over {systems[first]}"] = share
    return found


def separated(answers: Sequence[Judgement], systems: Sequence[str]) -> bool:
    """Say whether some systems never win against the others, so that strengths have no end.

    The most likely strengths are finite where every system can be reached from every other along
    wins, of which a tie is half of one (Ford 1957, American Mathematical Monthly 64).
    """
    from scipy.sparse.csgraph import connected_components

    won = wins(answers, systems).sum((0, 1)) > 0
    parts, _ = connected_components(won, directed=True, connection="strong")
    return bool(parts > 1)


def comparisons(
    answers: Sequence[Judgement], systems: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Return "B − A" → by how much B was rated better than A, heard in either order.

    A comes before B among the systems, as in the differences of ratings.
    """
    found = {}
    for name, other in combinations(systems, 2):
        chosen = [one for one in answers if set(one.systems) == {name, other}]
        if chosen:
            numbers = counted(chosen, (), lambda _: ((), 1.0))
            counts = np.stack([_signed(chosen, other), numbers], -1)
            found[f"{other} − {name}"] = interval_over(counts, ratio, seed)
    return found


def _signed(answers: Sequence[Judgement], system: str) -> NDArray[np.float64]:
    """Return ratings (L, I) of the second sound against the first, as those of a system."""

    def count(one: Judgement) -> tuple[tuple[int, ...], float]:
        return (), one.score if one.systems[1] == system else -one.score

    return counted(answers, (), count)

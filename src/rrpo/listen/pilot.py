"""Variances of ratings, from the covariances of those that have a listener or an item in common."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrpo.errors import UserError
from rrpo.listen.answers import Judgement, judgements
from rrpo.listen.design import read_design
from rrpo.listen.exclusion import excluded_listeners
from rrpo.listen.power import Variances
from rrpo.listen.ratings import read_ratings

MOST = 4000
"""Ratings that are compared, each with each; of more these are drawn."""


def variances_of(test: Path) -> Variances:
    """Return the variances of the ratings of a pilot test, averaged over its questions.

    Listeners whom the design's rules leave out are left out here, too.

    Raises:
        UserError: the test rates no single sounds, or too few were rated.
    """
    design, ratings = read_design(test), read_ratings(test)
    every = judgements(design, ratings)
    excluded = excluded_listeners(design, ratings, every)
    answers = [
        one
        for one in every
        if one.role == "test" and one.question.kind == "scale" and one.listener not in excluded
    ]
    by_question: dict[str, list[Judgement]] = {}
    for one in answers:
        by_question.setdefault(one.question.name, []).append(one)
    found = [estimate(rows) for rows in by_question.values()]
    if not found:
        raise UserError(f"{test} has no ratings of single sounds: choose another --pilot")
    return Variances(
        **{
            field.name: float(np.mean([getattr(one, field.name) for one in found]))
            for field in fields(Variances)
        }
    )


def estimate(answers: Sequence[Judgement]) -> Variances:
    """Estimate the variances of the ratings of one question by the method of moments.

    Less the mean of its system, the product of two ratings has as its mean the variance of what
    they share: of a listener and two items in two systems that of the listener, in one system that
    of the listener and of listener and system together, and so on. Nothing is estimated below 0.

    Raises:
        UserError: there are fewer than two listeners, items or systems; of one system nobody
            could tell what listeners think of it from how high they rate everything.
    """
    chosen = list(answers)
    if len(chosen) > MOST:
        keep = np.random.default_rng(0).permutation(len(chosen))[:MOST]
        chosen = [chosen[index] for index in keep]
    keys = [
        [one.listener for one in chosen],
        [one.item for one in chosen],
        [one.systems[0] for one in chosen],
    ]
    if any(len(set(key)) < 2 for key in keys):
        raise UserError(
            "a pilot test needs ratings of two listeners, two items and two systems at least"
        )
    listener, item, system = (
        np.unique(np.array(key), return_inverse=True)[1].reshape(-1) for key in keys
    )
    values = np.array([one.score for one in chosen])
    means = np.bincount(system, weights=values) / np.bincount(system)
    rest = values - means[system]
    products = np.outer(rest, rest)
    same_listener, same_item, same_system = (
        key[:, None] == key[None] for key in (listener, item, system)
    )

    def shared(*masks: NDArray[np.bool_]) -> float | None:
        mask = np.logical_and.reduce(masks)
        np.fill_diagonal(mask, False)
        return float(products[mask].mean()) if mask.any() else None

    def above(value: float | None, *less: float) -> float:
        return 0.0 if value is None else max(value - sum(less), 0.0)

    of_listener = above(shared(same_listener, ~same_item, ~same_system))
    of_item = above(shared(~same_listener, same_item, ~same_system))
    with_listener = above(shared(same_listener, ~same_item, same_system), of_listener)
    with_item = above(shared(~same_listener, same_item, same_system), of_item)
    both = above(shared(same_listener, same_item, ~same_system), of_listener, of_item)
    known = (of_listener, of_item, with_listener, with_item, both)
    return Variances(*known, rest=above(float(np.square(rest).mean()), *known))

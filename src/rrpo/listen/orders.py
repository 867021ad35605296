"""Who hears what, and in which order: Williams squares over listeners, and checks in between."""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

Hear = Literal["one", "all"]
"""Of the conditions of an item, each listener hears one, or all."""
Name = TypeVar("Name")


def williams(count: int) -> list[list[int]]:
    """Return a Williams design: rows of all conditions 0…count−1, a Latin square or two.

    Every condition stands equally often at every place, and follows every other equally often
    (Williams 1949, "Experimental designs balanced for the estimation of residual effects of
    treatments", Australian Journal of Scientific Research A 2). An odd number needs two squares.

    Examples:
        >>> williams(4)
        [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]
        >>> len(williams(3))
        6
    """
    first = [0]
    for step in range(1, count):
        first.append((step + 1) // 2 if step % 2 else count - step // 2)
    square = [[(name + shift) % count for name in first] for shift in range(count)]
    return square + [row[::-1] for row in square] if count % 2 and count > 1 else square


def _row(length: int, conditions: int, mirrored: bool) -> list[int]:
    """Return conditions in blocks of all of them, each block a row of the Williams design.

    From block to block the difference of neighbours goes through 1…S−1 in turn, so that here, too,
    every condition follows every other about as often once the row is shifted by each number.
    """
    row = williams(conditions)[0][:: -1 if mirrored else 1]
    found: list[int] = []
    for block in range(-(-length // conditions)):
        shift = 0
        if block:
            apart = 1 + (block - 1) % max(conditions - 1, 1)
            shift = found[-1] - row[0] + (-apart if mirrored else apart)
        found += [(name + shift) % conditions for name in row]
    return found[:length]


def assign(
    items: int, conditions: int, listeners: int, hear: Hear, seed: int
) -> list[list[tuple[int, int]]]:
    """Return what each listener hears, as (item, condition) in order.

    As many listeners as the Williams design has rows make a group. A group hears the items in one
    order, drawn for it, and over its listeners each item is heard in every condition equally
    often, and each condition follows each other about equally often. A listener's conditions come
    in blocks of all of them. With `all`, the items come as often as there are conditions, in the
    same order each time, so that between two conditions of an item lie all other items.

    Returns:
        At least as many lists as there are listeners: groups are whole.
    """
    size = len(williams(conditions))
    rows = [_row(items, conditions, mirrored) for mirrored in (False, True)]
    orders = []
    for listener in range(-(-listeners // size) * size):
        group, place = divmod(listener, size)
        mirrored, shift = divmod(place, conditions)
        shuffled = np.random.default_rng([seed, group]).permutation(items).tolist()
        row = rows[mirrored]
        # A turn must not begin with the condition that the one before it ended with.
        step = 1 if (row[0] + 1 - row[-1]) % conditions else -1
        order = []
        for turn in range(1 if hear == "one" else conditions):
            for item, name in zip(shuffled, row, strict=True):
                order.append((item, (name + shift + turn * step) % conditions))
        orders.append(order)
    return orders


def weave(order: Sequence[Name], others: Sequence[Name], rng: np.random.Generator) -> list[Name]:
    """Put other pages, shuffled, between the pages of an order, about equally far apart.

    Examples:
        >>> woven = weave("aaaaaa", "bb", np.random.default_rng(0))
        >>> "".join(woven).count("b"), woven[0], woven[-1]
        (2, 'a', 'a')
    """
    woven = list(order)
    shuffled = [others[index] for index in rng.permutation(len(others))]
    width = len(order) / (len(others) + 1)
    for number in range(len(others), 0, -1):
        jitter = rng.uniform(-0.3, 0.3)
        place = round((number + jitter) * width)
        woven.insert(min(max(place, 1), len(order)), shuffled[number - 1])
    return woven


def choose_repeated(order: Sequence[Name], count: int, rng: np.random.Generator) -> list[Name]:
    """Choose pages of the first half of an order, which will be asked again near its end."""
    half = list(order[: max(len(order) // 2, 1)])
    return [half[index] for index in rng.permutation(len(half))[:count]]


def with_repeats(
    order: Sequence[Name], again: Sequence[Name], rng: np.random.Generator
) -> list[Name]:
    """Put pages that ask again into the last third of an order."""
    start = len(order) - max(len(order) // 3, 1)
    return [*order[:start], *weave(order[start:], again, rng)]

"""Who hears what, and in which order."""

import itertools
from collections import Counter

import numpy as np
import pytest

from rrpo.listen.orders import Hear, assign, choose_repeated, weave, williams, with_repeats


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 12])
def test_every_condition_is_everywhere_and_after_every_other_equally_often(count: int) -> None:
    square = williams(count)
    for place in range(count):
        at = Counter(row[place] for row in square)
        assert set(at.values()) == {len(square) // count} and len(at) == count
    pairs = Counter(pair for row in square for pair in itertools.pairwise(row))
    assert len(pairs) == count * (count - 1) and len(set(pairs.values())) <= 1


def test_one_system_of_an_item_for_each_listener() -> None:
    orders = assign(items=10, conditions=4, listeners=7, hear="one", seed=0)
    assert len(orders) == 8  # whole groups
    assert all(sorted(item for item, _ in order) == list(range(10)) for order in orders)
    heard = Counter(pair for order in orders for pair in order)
    assert len(heard) == 40 and set(heard.values()) == {2}
    for order in orders:
        of_systems = Counter(system for _, system in order)
        assert max(of_systems.values()) - min(of_systems.values()) <= 1


@pytest.mark.parametrize("hear", ["one", "all"])
@pytest.mark.parametrize(("conditions", "items"), [(2, 50), (3, 50), (4, 50), (5, 20), (6, 50)])
def test_systems_follow_each_other_about_equally_often(
    conditions: int, items: int, hear: Hear
) -> None:
    """Also from one block to the next; before, one system followed itself, or one other, there."""
    orders = assign(items, conditions, len(williams(conditions)), hear, seed=0)
    pairs = Counter(
        (one, other) for order in orders for (_, one), (_, other) in itertools.pairwise(order)
    )
    apart = [pairs[a, b] for a in range(conditions) for b in range(conditions) if a != b]
    turns = 1 if hear == "one" else conditions
    assert max(apart) - min(apart) <= 2 * turns
    itself = sum(pairs[name, name] for name in range(conditions))
    assert itself == 0 or (conditions, hear) == (2, "all")  # where there is no other difference
    heard = Counter(pair for order in orders for pair in order)
    assert len(heard) == items * conditions and len(set(heard.values())) == 1


def test_all_systems_of_an_item_for_each_listener_and_not_at_once() -> None:
    for order in assign(items=6, conditions=3, listeners=2, hear="all", seed=0):
        assert len(set(order)) == len(order) == 18
        for item in range(6):
            places = [place for place, (one, _) in enumerate(order) if one == item]
            assert np.diff(places).tolist() == [6, 6]


def test_the_seed_decides() -> None:
    assert assign(8, 2, 4, "one", 3) == assign(8, 2, 4, "one", 3) != assign(8, 2, 4, "one", 4)


def test_checks_lie_apart_and_repeats_after_what_they_repeat() -> None:
    rng = np.random.default_rng(0)
    main = list(range(30))
    again = choose_repeated(main, 4, rng)
    whole = with_repeats(main, [100 + one for one in again], rng)
    assert len(set(again)) == 4
    assert all(whole.index(100 + one) - whole.index(one) > 3 for one in again)
    woven = weave(whole, [-1, -2, -3], rng)
    places = [woven.index(one) for one in (-1, -2, -3)]
    assert min(np.diff(sorted(places))) >= 3
    assert [one for one in woven if one >= 0] == whole


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_orders_keep_all_their_pages(length: int) -> None:
    rng = np.random.default_rng(0)
    whole = weave(with_repeats(list(range(length)), [10, 11], rng), [20, 21, 22], rng)
    assert sorted(whole) == [*range(length), 10, 11, 20, 21, 22]

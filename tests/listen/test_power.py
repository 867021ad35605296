"""The power calculation against simulated listeners, and variances of a pilot test."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recorded_systems import built
from rrpo.errors import UserError
from rrpo.listen import pilot
from rrpo.listen.answers import Judgement
from rrpo.listen.design import Page
from rrpo.listen.orders import Hear
from rrpo.listen.pilot import estimate
from rrpo.listen.power import ASSUMED, Variances, difference_variance, plan, told
from rrpo_studies.simulated_listeners import SCALE, Crowd, Opinion, simulated_counts


@pytest.mark.parametrize("hear", ["one", "all"])
def test_the_variance_of_a_difference_is_that_of_simulated_listeners(hear: Hear) -> None:
    # Small variances around the middle of the scale: its ends play no part, its steps add 1/48.
    parts = Variances(0.1, 0.03, 0.03, 0.03, 0.04, 0.1)
    found = []
    for number in range(300):
        counts = simulated_counts((3.0, 3.0), 8, 12, hear, parts, np.random.default_rng(number))
        sums = counts.sum((0, 1))
        found.append(sums[0, 0] / sums[0, 1] - sums[1, 0] / sums[1, 1])
    rounded = Variances(*list(vars(parts).values())[:5], rest=parts.rest + 0.5**2 / 12)
    expected = difference_variance(rounded, 8, 12, 2, hear)
    # A variance of 300 values is within 25 % of the truth in 998 of 1000 cases.
    assert np.var(found) == pytest.approx(expected, rel=0.25)


def test_more_listeners_or_hearing_all_find_more() -> None:
    one, all_of_them = (plan(20, 50, 4, hear) for hear in ("one", "all"))
    assert 0.05 < one.power < all_of_them.power < 1
    assert plan(40, 50, 4, "one").power > one.power
    assert one.listeners_needed is None  # 50 items vary too much, however many listeners rate them


def test_the_needed_listeners_are_enough_and_one_fewer_is_not() -> None:
    parts = Variances(item_system=0.005)
    found = plan(20, 50, 4, "all", variances=parts)
    assert found.listeners_needed is not None
    assert plan(found.listeners_needed, 50, 4, "all", variances=parts).power >= 0.795
    assert plan(found.listeners_needed - 1, 50, 4, "all", variances=parts).power < 0.801
    smallest = plan(20, 50, 4, "all", found.smallest, parts)
    assert smallest.power == pytest.approx(0.8, abs=0.01)


def test_where_items_are_too_few_no_listeners_help_and_this_is_said() -> None:
    lines = told(plan(20, 10, 2, "all", variances=Variances(listener_system=0.01)))
    assert "no number of listeners is enough with 10 items" in lines[1]
    assert "items with 20 listeners" in lines[2]
    assert "Table 1" in lines[-1]


def test_where_neither_is_enough_alone_a_pair_is_that_is() -> None:
    found = plan(20, 50, 4, "one")
    assert found.listeners_needed is None and found.items_needed is None
    assert found.together is not None
    assert plan(*found.together, 4, "one").power >= 0.795
    assert "together" in " ".join(told(found))


def test_a_pilot_leaves_out_whom_its_rules_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
    design = built(tmp_path, template="mos")
    means = {"naturalness": {"alpha": 3.0, "beta": 3.5}}
    every = Crowd(design, Opinion(means, ASSUMED)).ratings(8)
    careless = every.listeners[0].id
    checks = {page.id for page in design.pages if page.role == "attention"}
    wrong = [
        replace(one, value=99.0) if one.listener == careless and one.page in checks else one
        for one in every.answers
    ]
    found = []
    for answers in (wrong, [one for one in wrong if one.listener != careless], every.answers):
        told = replace(every, answers=answers)
        monkeypatch.setattr(pilot, "read_ratings", lambda _, told=told: told)
        found.append(pilot.variances_of(tmp_path / "test"))
    assert found[0] == found[1] != found[2]


def test_a_pilot_tells_the_variances() -> None:
    truth = Variances(0.3, 0.2, 0.1, 0.1, 0.1, 0.3)
    rng = np.random.default_rng(0)
    shape = (30, 40, 3)

    def drawn(variance: float, *of: int) -> np.ndarray:
        size = [shape[axis] if axis in of else 1 for axis in range(3)]
        return rng.normal(0, math.sqrt(variance), size)

    values = drawn(truth.listener, 0) + drawn(truth.item, 1) + drawn(truth.listener_system, 0, 2)
    values = values + drawn(truth.item_system, 1, 2) + drawn(truth.listener_item, 0, 1)
    values = values + drawn(truth.rest, 0, 1, 2) + 3.0
    page = Page(id="p", role="test", sounds=["s"], questions=["naturalness"])
    answers = [
        Judgement(f"L{who}", page, SCALE, float(value), (f"system {s}",), f"item {i}", None, 1.0, 1)
        for (who, i, s), value in np.ndenumerate(values)
    ]
    with pytest.raises(UserError, match="two systems at least"):
        estimate([one for one in answers if one.systems == ("system 0",)])
    found = estimate(answers)
    for name, value in vars(truth).items():
        assert getattr(found, name) == pytest.approx(value, rel=0.5), name
    assert sum(vars(found).values()) == pytest.approx(sum(vars(truth).values()), rel=0.15)
    assert vars(ASSUMED).keys() == vars(found).keys()

"""What counts as harm: its direction, its bounds, what is unknown."""

import pytest

from rrpo.monitor.harms import HARMS, Harm, reward_rose

BY_KEY = {harm.key: harm for harm in HARMS}


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.key)
def test_every_change_lies_within_one(harm: Harm) -> None:
    lowest = 0.0 if harm.relative else -1e9  # a length is none below nought
    for first in (lowest, 0.0, 0.3, 1e9):
        for second in (lowest, 0.0, 0.3, 1e9):
            assert abs(harm.change({harm.of: first}, {harm.of: second})) <= 1.0


@pytest.mark.parametrize(
    ("key", "now", "start", "change"),
    [
        ("judge_probability", 0.2, 0.7, 0.5),  # it fell: worse
        ("artifacts_per_second", 0.5, 0.1, 0.4),
        ("artifacts_per_second", 9.0, 0.5, 0.5),  # no utterance weighs more than all
        ("content_loss", 2.0, 0.0, 0.5),
        ("recodec", 1.0, 0.0, 0.25),
        ("longer", 100.0, 50.0, 0.5),
        ("longer", 50.0, 100.0, -0.5),
        ("shorter", 50.0, 100.0, 0.5),
        ("kl", 2.0, 0.0, 0.5),
    ],
)
def test_a_change_is_a_share_of_the_greatest(
    key: str, now: float, start: float, change: float
) -> None:
    harm = BY_KEY[key]
    assert harm.change({harm.of: now}, {harm.of: start}) == pytest.approx(change)
    assert harm.change({}, {harm.of: start}) == 0.0


def test_the_reward_is_ranked() -> None:
    assert reward_rose({"reward": 7.0}, {"reward": -7.0}) == 1
    assert reward_rose({"reward": -7.0}, {"reward": 7.0}) == -1
    assert reward_rose({"reward": 1.0}, {"reward": 1.0}) == 0

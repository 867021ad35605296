"""The one table of measures: each is read of an utterance and of a system by one name."""

import pytest

from rrpo.evaluate.panel import summarise
from rrpo.interval import Interval
from rrpo.measures import BY_KEY, BY_TITLE, MEASURES, measures_in, own_reward_model

ROW = {
    "text": "a",
    "emotion": "happy",
    "judge_emotion": "sad",
    "judge_probability": 0.25,
    "quality": {"plcmos": 4.0, "other": 3.0},
    "artifacts": [{}, {}],
    "seconds": 4.0,
    "tokens": 100,
    "repetition": 0.5,
    "ended": True,
    "kl": 0.125,
    "content_error": None,
    "reward": {"plain": -1.5},
}


def test_names_and_titles_are_each_one_measures() -> None:
    assert len(BY_KEY) == len(BY_TITLE) == len(MEASURES)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("judge_accuracy", 0.0),
        ("judge_probability", 0.25),
        ("quality.plcmos", 4.0),
        ("quality.distillmos", None),
        ("artifacts_per_second", 0.5),
        ("repetition", 0.5),
        ("never_ended", 0.0),
        ("content_error", None),
        ("tokens", 100.0),
        ("kl", 0.125),
    ],
)
def test_a_measure_of_an_utterance(key: str, value: float | None) -> None:
    assert BY_KEY[key].of(ROW) == value


def test_a_system_has_the_means_of_its_utterances() -> None:
    other = ROW | {"judge_emotion": "happy", "ended": False, "tokens": 50}
    system = summarise([ROW, other], "plain", "no recogniser")
    for measure in MEASURES:
        values = [measure.of(row) for row in (ROW, other)]
        group, _, name = measure.key.partition(".")
        found = system[group].get(name) if name else system[group]
        if measure.key == "reward":
            assert found.mean == -1.5
        elif None in values:
            assert found is None
        else:
            assert found.mean == pytest.approx(sum(values) / 2)
    assert system["content_error_reason"] == "no recogniser"
    assert own_reward_model(system) == "plain"
    assert own_reward_model(summarise([ROW], "ls_eam_adv")) == "ls_eam_adv"


def test_scorers_that_are_not_known_follow_those_that_are() -> None:
    system = summarise([ROW, ROW], "plain")
    keys = [measure.key for measure in measures_in([system])]
    assert keys.index("quality.other") == keys.index("quality.plcmos") + 1
    assert "content_error" not in keys


def test_intervals_stay_within_what_is_possible() -> None:
    """Student's of few sentences may reach beyond; a figure without ends has none to move."""
    wide = Interval(0.9, -0.2, 2.0)
    for key, low, high in (
        ("judge_probability", 0.0, 1.0),
        ("kl", 0.0, 2.0),
        ("reward", -0.2, 2.0),
    ):
        assert BY_KEY[key].within(wide) == Interval(0.9, low, high)
    assert BY_KEY["kl"].within(Interval(0.5)) == Interval(0.5)

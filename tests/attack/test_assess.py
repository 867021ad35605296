"""All attacks together: the worst case, what carries over, and warnings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacked_model import SPEECH, Levels, goal, model
from rrpo.attack import assess as attacking
from rrpo.attack.assess import QUICK, assess, exchanged
from rrpo.attack.goal import Goal, Outcome, margins
from rrpo.attack.tools import Judge, Tools
from rrpo.emotions import EMOTIONS
from rrpo.interval import Interval
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors

SMALL = replace(QUICK, exchanges=(1, 2), searched=(2,), rounds=1, tries=1)


def heard(tokens: Any) -> Any:
    """A judge that hears the emotion of the first token."""
    return np.eye(6)[[int(row[0]) % 6 for row in tokens]]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    asked = goal(12)
    tools = Tools(codec=Levels(), audios=[SPEECH] * 12, judge=Judge(EMOTIONS, heard))
    return assess({"one": model(0), "other": model(1)}, asked, SMALL, tools)


def test_the_worst_case_is_no_better_than_any_attack(found: dict[str, Any]) -> None:
    for figures in found["models"].values():
        for kind, worst in figures["worst"].items():
            own = [row for row in figures["attacks"] if row["changes"] == kind]
            assert len(own) > 2
            assert worst.mean >= max(row["deceived"].mean for row in own)
        assert figures["attacks"][0]["name"] == "untouched"
        assert figures["attacks"][0]["gain"] == Interval(0.0, 0.0, 0.0)


def test_what_is_deceived_and_not_heard_is_counted(found: dict[str, Any]) -> None:
    for row in found["models"]["one"]["attacks"]:
        if row["changes"] == "embeddings":
            assert "unheard" not in row
        else:
            assert row["unheard"].mean <= row["deceived"].mean


def test_the_worst_case_that_is_not_heard_counts_no_utterance_that_the_judge_hears(
    found: dict[str, Any],
) -> None:
    for figures in found["models"].values():
        for kind, worst in figures["worst_unheard"].items():
            own = [row for row in figures["attacks"] if row["changes"] == kind]
            assert worst.mean <= figures["worst"][kind].mean
            assert worst.mean >= max(row["unheard"].mean for row in own)
    asked = goal(12)
    silent = assess({"one": model(0)}, asked, SMALL)["models"]["one"]
    assert silent["worst_unheard"] == {}
    hears = Judge(EMOTIONS, lambda _: np.eye(6)[[EMOTIONS.index(one) for one in asked.emotions]])
    all_heard = assess({"one": model(0)}, asked, SMALL, Tools(judge=hears))["models"]["one"]
    assert all_heard["worst_unheard"]["tokens"].mean == 0.0 < all_heard["worst"]["tokens"].mean


def test_what_is_found_on_a_model_is_tried_on_every_other(found: dict[str, Any]) -> None:
    assert found["carried"] == exchanged(2)
    for name, figures in found["models"].items():
        row = next(row for row in figures["attacks"] if row["name"] == exchanged(2))
        assert found["transfer"][name][name] == row["deceived"]
    asked, other = goal(12), model(1)
    outcome = attacking.by_gradient(model(0), asked, [2])[2]
    assert outcome.tokens is not None
    said = margins(log_posteriors(other, list(outcome.tokens)), asked.classes(other))
    assert found["transfer"]["one"]["other"].mean == float((said > 0).double().mean())


def test_a_zero_gradient_is_a_warning() -> None:
    flat = model()
    torch.nn.init.zeros_(flat.head["emotion"].weight)
    figures = assess({"flat": flat}, goal(), SMALL)["models"]["flat"]
    assert (
        "frames moved by 2: the gradient is zero for 100% of the utterances" in figures["warnings"]
    )
    assert not assess({"one": model()}, goal(), SMALL)["models"]["one"]["warnings"]


def test_a_search_that_beats_the_gradient_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    own, asked = model(), goal(12)

    def search(model: RewardModel, goal: Goal, *_: int) -> Outcome:
        sure = torch.full((len(goal.rows), 3), -20.0)
        return Outcome(sure.scatter(1, goal.classes(model)[:, None], 0.0), goal.tokens, 1)

    size = replace(SMALL, exchanges=(1,), searched=(1,))
    assert assess({"one": own}, asked, size)["models"]["one"]["warnings"] == []
    monkeypatch.setattr(attacking, "by_search", search)
    (warning,) = assess({"one": own}, asked, size)["models"]["one"]["warnings"]
    told = "1 token exchanged, without the gradient: it deceives more often than along the gradient"
    assert warning.startswith(told)

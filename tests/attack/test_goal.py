"""What is attacked: utterances, a wrong emotion for each, and the margin that is climbed."""

import numpy as np
import pytest
import torch

from attacked_model import EMOTIONS, model, utterances
from rrpo.attack.goal import draw_goal, margins, untouched
from rrpo.errors import UserError
from rrpo.reward.posteriors import log_posteriors


def test_the_margin_is_the_lead_of_the_wanted_logit() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    found = margins(logits.log_softmax(-1), classes)
    for row, wanted, margin in zip(logits.numpy(), classes.tolist(), found.tolist(), strict=True):
        assert margin == pytest.approx(row[wanted] - np.delete(row, wanted).max(), abs=1e-5)


def test_every_emotion_is_drawn_alike_and_none_wants_itself() -> None:
    rows = utterances(30)
    found = draw_goal({"one": model()}, rows, 9, 0)
    assert sorted(row.emotion for row in found.rows) == sorted(EMOTIONS * 3)
    assert all(
        row.emotion != wanted for row, wanted in zip(found.rows, found.emotions, strict=True)
    )
    again = draw_goal({"one": model()}, rows, 9, 0)
    assert [row.id for row in again.rows] == [row.id for row in found.rows]
    assert again.emotions == found.emotions
    other = draw_goal({"one": model()}, rows, 9, 1)
    assert [row.id for row in other.rows] != [row.id for row in found.rows]


def test_only_what_all_models_know_is_wanted_or_spoken(capsys: pytest.CaptureFixture[str]) -> None:
    models = {"all": model(), "two": model(emotions=["sad", "neutral", "angry"])}
    found = draw_goal(models, utterances(12), 12, 0)
    assert {row.emotion for row in found.rows} == set(found.emotions) == {"neutral", "sad"}
    assert "not every reward model knows happy: neutral, sad alone are attacked" in (
        capsys.readouterr().out
    )
    assert found.classes(models["all"]).tolist() == [
        EMOTIONS.index(emotion) for emotion in found.emotions
    ]


def test_one_emotion_alone_is_refused() -> None:
    rows = [row for row in utterances(12) if row.emotion == "sad"]
    with pytest.raises(UserError, match=r"one: every utterance .* 'sad': a test needs"):
        draw_goal({"one": model()}, rows, 12, 0)


def test_untouched_is_what_the_model_says() -> None:
    own = model()
    found = draw_goal({"one": own}, utterances(), 4, 0)
    said = untouched(own, found).log_posteriors
    torch.testing.assert_close(said, log_posteriors(own, found.tokens))

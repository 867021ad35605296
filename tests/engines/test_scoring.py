"""Answers of other trainers, scored as ours are."""

import math

import numpy as np
import pytest
import torch

from rrpo.engines.scoring import (
    BROKEN,
    by_judges,
    by_reward_models,
    score_answers,
    speech_of,
)
from rrpo.errors import UserError
from rrpo.evaluate.panel import Judges
from rrpo.mini.world import World
from rrpo.policy.layout import make_prompts
from rrpo.reward import Reward
from rrpo.reward.differentiable import score


def said(tokens: list[int]) -> str:
    """Return tokens as an answer in the Hugging Face form."""
    return "".join(f"<|s_{token}|>" for token in tokens)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<|s_3|><|s_6560|>", [3, 6560]),
        ("<|s_3|> <|s_4|><|eos1|><|s_5|>", [3, 4]),
        ("<|s_3|><|endoftext|>", [3]),
        ("<|s_3|><|s_6562|><|s_5|>", [3]),  # CosyVoice3's end
        ("<|eos2|>", None),
        ("<|s_6561|><|s_1|>", None),
        ("", None),
        ("Hello <|s_3|>", None),
        ("<|s_3|><|task_id|>", None),
    ],
)
def test_what_an_answer_says(answer: str, expected: list[int] | None) -> None:
    found = speech_of(answer)
    assert (found if found is None else found.tolist()) == expected


def test_reward_models_score_as_in_our_own_training() -> None:
    world = World()
    rows = world.shard("test_same")[:4]
    weights = {"emotion": 1.0, "content": 0.5}
    scorer = by_reward_models(["mini", "mini-tasks"], weights, text_of="mini")
    answers = [said(row.tokens.tolist()) for row in rows]
    answers[2] = "no speech"
    columns = [[getattr(row, name) for row in rows] for name in ("text", "emotion", "speaker")]
    found = score_answers(scorer, answers, *columns)

    reward = Reward([world.reward_model(), world.task_model()], weights)
    speech = [torch.from_numpy(row.tokens) for row in rows]
    terms = score(reward, speech, make_prompts(world.tokenizer, rows))
    expected = (terms["emotion"] + 0.5 * terms["content"]).tolist()
    expected[2] = 1.5 * BROKEN  # the weights add up to 1.5
    assert found == pytest.approx(expected, abs=1e-4)
    assert len(set(found)) == 4


@pytest.mark.slow
def test_judges_score_what_they_hear() -> None:
    world = World()
    rows = world.shard("test_same")[:3]
    judge = world.judge()
    scorer = by_judges(
        {"judge_probability": 2.0, "artifacts_per_second": -0.25}, judges=Judges(judge, {})
    )
    answers = [said(row.tokens.tolist()) for row in rows]
    columns = [[getattr(row, name) for row in rows] for name in ("text", "emotion", "speaker")]
    found = score_answers(scorer, answers, *columns)
    sounds = [world.codec().decode(torch.from_numpy(row.tokens)) for row in rows]
    heard = judge.probabilities_batch(sounds)
    for row, value, chances in zip(rows, found, heard, strict=True):
        without = value - 2 * chances[judge.emotions.index(row.emotion)]
        assert without <= 1e-9  # nothing but artifacts is left
        assert math.isfinite(without)
    alone = by_judges(judges=Judges(judge, {}))
    assert score_answers(alone, answers, *columns) == pytest.approx(
        [
            chances[judge.emotions.index(row.emotion)]
            for row, chances in zip(rows, heard, strict=True)
        ]
    )


def test_a_sound_of_ones_own_is_what_is_judged() -> None:
    heard = []

    def sound(tokens: torch.Tensor) -> np.ndarray:
        heard.append(tokens.tolist())
        return np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1

    scorer = by_judges(sound=sound, judges=Judges(World().judge(), {}))
    found = score_answers(scorer, [said([5, 6]), "none"], ["A."] * 2, ["happy"] * 2, [""] * 2)
    assert heard == [[5, 6]]
    assert 0 <= found[0] <= 1
    assert found[1] == BROKEN


def test_a_broken_answer_is_worth_less_where_the_terms_weigh_more() -> None:
    weights = {"emotion": 2.0, "content": 5.0}
    scorer = by_reward_models(["mini", "mini-tasks"], weights, text_of="mini")
    answers, texts = ["words", said([5, 6] * 30)], ["The train is late."] * 2
    broken, wrong = score_answers(scorer, answers, texts, ["happy"] * 2, [""] * 2)
    assert broken == -70.0 < wrong  # of codes that say nothing of the text


def test_nothing_but_broken_answers() -> None:
    scorer = by_reward_models(["mini"])
    assert score_answers(scorer, ["", "x"], ["A."] * 2, ["happy"] * 2, [""] * 2) == [BROKEN] * 2


def test_mistakes_have_one_line() -> None:
    with pytest.raises(UserError, match="needs text_of"):
        by_reward_models(["mini-tasks"], {"content": 1.0})
    with pytest.raises(UserError, match="characters is not what the content head of mini-tasks"):
        by_reward_models(["mini-tasks"], {"content": 1.0}, text_of="characters")
    with pytest.raises(UserError, match="unknown measure 'loudness'"):
        by_judges({"loudness": 1.0})
    scorer = by_reward_models(["mini"])
    with pytest.raises(UserError, match="bored"):
        score_answers(scorer, [said([1])], ["A."], ["bored"], [""])
    for texts, emotions in ((["A."], ["happy"] * 2), (["A."] * 2, ["happy"])):
        with pytest.raises(UserError, match=r"2 answers, \d texts, \d emotions, 2 speakers: give"):
            score_answers(scorer, [said([1]), "none"], texts, emotions, [""] * 2)
    with pytest.raises(UserError, match="given 2 answers, 1 texts"):
        score_answers(scorer, [said([1])] * 2, ["A."], ["happy"], [""])
    deaf = by_judges(judges=Judges(None, {}))
    with pytest.raises(UserError, match="do not measure 'judge_probability'"):
        score_answers(deaf, [said([1] * 40)], ["A."], ["happy"], [""])

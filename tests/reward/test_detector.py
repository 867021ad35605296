"""Detectors: what they start from, what they learn, and what a policy gets from them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rrpo import reward, runs
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.policy.layout import Prompt
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.detector import DetectorObjective, DetectorRun, detected, divided, new_detector
from rrpo.schedule import TrainConfig
from rrpo.speaking.best_of import choosing_reward

CODES = 27


def emotion_model() -> RewardModel:
    torch.manual_seed(0)
    shape = RewardConfig(width=16, layers=1, heads=2, feedforward=16, codes=CODES, phones=5)
    return RewardModel(shape)


def utterances(count: int, seed: int, having: bool) -> list[Utterance]:
    """Return utterances of tokens 0 to 19, in which token 26 stands twice where they have it."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        tokens = rng.integers(0, 20, int(rng.integers(10, 30)))
        if having:
            tokens[rng.choice(tokens.size, 2, replace=False)] = CODES - 1
        rows.append(Utterance(f"{having}-{number}", f"Text {number}.", "happy", tokens))
    return rows


def test_a_detector_keeps_the_encoder_and_has_a_head_of_its_own() -> None:
    start = emotion_model()
    made = new_detector(start, seed=3)
    assert made.classes("event") == ["none", "event"]
    assert list(made.config.tasks) == ["event"]
    assert made.content is None
    for name, weight in made.state_dict().items():
        if name.startswith(("embedding", "encoder", "norm")):
            assert torch.equal(weight, start.state_dict()[name])
    again = new_detector(start, seed=3)
    assert torch.equal(made.head["event"].weight, again.head["event"].weight)


def test_both_classes_weigh_the_same_however_rare_one_is() -> None:
    rare = DetectorObjective(
        new_detector(emotion_model(), 0), utterances(40, 0, False), utterances(1, 1, True), 8
    )
    rare.loss(0, torch.Generator().manual_seed(0))
    names = [row["id"].split("-")[0] for row in rare.batch()]
    assert names == ["False"] * 4 + ["True"] * 4


def test_the_loss_is_the_cross_entropy_of_the_batch() -> None:
    objective = DetectorObjective(
        new_detector(emotion_model(), 0).eval(),
        utterances(9, 0, False),
        utterances(9, 1, True),
        6,
    )
    value, figures = objective.loss(0, torch.Generator().manual_seed(1))
    rows = [Utterance(row["id"], "", "happy", np.array(row["tokens"])) for row in objective.batch()]
    probability = detected(objective.model, rows)
    wanted = torch.where(torch.arange(6) < 3, 1 - probability, probability).log().mean()
    assert value.item() == pytest.approx(-wanted.item(), rel=1e-5)
    assert figures["loss_event"] == pytest.approx(value.item())


def test_a_trained_detector_finds_it_and_the_reward_falls_with_it(tmp_path: Path) -> None:
    model = new_detector(emotion_model(), 0)
    config = DetectorRun(
        train=TrainConfig(steps=60, learning_rate=3e-3, warmup_steps=5, report_to="none")
    )
    runs.train_detector(
        model, utterances(60, 0, False), utterances(60, 1, True), config, tmp_path / "run"
    )
    tests = read_json(tmp_path / "run" / "results.json")["validations"]
    assert tests[0]["found"] < 1.0 <= 0.2 + tests[-1]["found"]
    assert tests[-1]["false_alarms"] <= 0.2
    found = reward.load(tmp_path / "run")
    clean, having_it = utterances(40, 2, False), utterances(40, 3, True)
    assert (detected(found, having_it) > 0.5).float().mean() > 0.9
    assert (detected(found, clean) < 0.5).float().mean() > 0.9
    both = Reward([emotion_model(), found], {"emotion": 1.0, "event": 1.0})
    prompts = [Prompt("text", "happy", torch.tensor([1]), torch.tensor([1]))] * 2
    tokens = torch.stack([torch.arange(10), torch.full((10,), CODES - 1)])
    terms = both.terms(both.table[tokens], torch.ones(2, 10, dtype=torch.bool), prompts)
    assert terms["event"][0] > terms["event"][1] + 1


@pytest.mark.parametrize(("without", "having"), [(0, 3), (3, 0)])
def test_both_kinds_of_speech_are_needed(without: int, having: int) -> None:
    with pytest.raises(UserError, match="at least one token shard"):
        DetectorObjective(
            new_detector(emotion_model(), 0),
            utterances(without, 0, False),
            utterances(having, 1, True),
        )


def test_a_text_is_held_out_of_both_kinds_or_of_none() -> None:
    without, having = utterances(30, 0, False), utterances(30, 1, True)
    kept, having_it, *held = divided(without, having, 0.2, seed=4)
    assert [row.text for row in held[0]] == [row.text for row in held[1]]
    assert len(held[0]) == 6
    assert not {row.text for row in [*kept, *having_it]} & {row.text for row in held[0]}
    assert divided(without, having, 0.2, seed=4)[2] == held[0]


def test_one_text_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="1 of 1 texts are held out"):
        divided(utterances(1, 0, False), utterances(1, 1, True), 0.1, 0)


def test_a_detector_without_a_weight_is_refused() -> None:
    models = [emotion_model(), new_detector(emotion_model(), 0)]
    with pytest.raises(UserError, match=r"2 of 2 has none of .*rewards={emotion: 1.0, event: 1.0}"):
        Reward(models, {"emotion": 1.0})


def test_tokens_of_another_codec_are_refused() -> None:
    row = Utterance("odd", "", "happy", np.array([CODES]))
    with pytest.raises(UserError, match="'odd' has a token outside"):
        DetectorObjective(new_detector(emotion_model(), 0), utterances(2, 0, False), [row])


def test_a_held_out_row_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    odd = [Utterance(str(n), f"Text {n}.", "happy", np.array([CODES])) for n in range(3)]
    with pytest.raises(UserError, match="has a token outside"):
        runs.train_detector(
            new_detector(emotion_model(), 0),
            utterances(3, 0, False),
            odd,
            DetectorRun(),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_a_detector_helps_to_choose() -> None:
    models = [emotion_model(), new_detector(emotion_model(), 0)]
    assert choosing_reward(models[:1]).weights == {"emotion": 2.0, "content": 1.0}
    assert choosing_reward(models).weights == {"emotion": 2.0, "content": 1.0, "event": 1.0}

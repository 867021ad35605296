"""A reward of one's own, through the public Python API."""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import rrpo
from rrpo.errors import UserError
from rrpo.progress import read_metrics
from rrpo.reward import DifferentiableReward
from rrpo.reward.differentiable import (
    digest,
    evaluated,
    require_reward,
    score,
    weighted_sum,
)

SMALL = {
    "train.steps": 8,
    "train.warmup_steps": 0,
    "train.learning_rate": 1e-3,
    "train.report_to": "none",
    "train.threads": 1,
}


class LowCodes:
    """Ten lines: codes of small numbers are better."""

    weights: Mapping[str, float] = {"low": 5.0}

    def __init__(self) -> None:
        self.table = torch.linspace(0.0, 1.0, 6561)[:, None]

    def to(self, device: torch.device) -> None:
        self.table = self.table.to(device)

    def terms(self, embeddings: Tensor, mask: Tensor, _: Sequence[object]) -> dict[str, Tensor]:
        mean = (embeddings[..., 0] * mask).sum(1) / mask.sum(1)
        return {"low": -mean, "code": 6560 * mean.detach()}


class Heavier(LowCodes):
    """The same class by name as far as a folder knows, with another weight."""

    weights: Mapping[str, float] = {"low": 6.0}


Heavier.__qualname__ = "LowCodes"


@pytest.mark.slow
def test_diffro_climbs_a_reward_of_ones_own(tmp_path: Path) -> None:
    seen: list[float] = []

    def watch(step: int, figures: Mapping[str, float]) -> bool:
        assert figures["reward"] == pytest.approx(-5 * figures["code"] / 6560, rel=1e-4)
        seen.append(figures["code"])
        return step == 6

    settings = SMALL | {
        "diffro.batch_size": 4,
        "diffro.history": "recorded",
        "diffro.beta": 0.0,
        "train.accumulate": 2,
    }
    out = tmp_path / "run"
    model = rrpo.train_diffro(out, [LowCodes()], start="mini", settings=settings, callbacks=[watch])
    assert len(seen) == 6, "the callback ended the run"
    assert seen[-1] < seen[0] - 300, seen
    assert len(read_metrics(out / "metrics.jsonl")) == 6
    assert model.config.codes == 6561
    for other in ("mini", Heavier()):
        with pytest.raises(UserError, match="a run with another reward"):
            rrpo.train_diffro(out, other, start="mini", settings=settings, resume=True)


@pytest.mark.slow
def test_grpo_takes_the_same_reward(tmp_path: Path) -> None:
    settings = SMALL | {
        "train.steps": 1,
        "grpo.prompts": 1,
        "grpo.group": 2,
        "grpo.rollout.max_ratio": 0.6,
        "grpo.diffro": 1.0,
    }
    rrpo.train_grpo(tmp_path, [LowCodes()], start="mini", settings=settings)
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert line["reward"] == pytest.approx(-5 * line["code"] / 6560, rel=1e-4)


@pytest.mark.slow
def test_what_a_reward_cannot_be_is_named(tmp_path: Path) -> None:
    weighted = SMALL | {"bound": 2.0}
    with pytest.raises(UserError, match="bound is a setting of reward models"):
        rrpo.train_diffro(tmp_path / "a", [LowCodes()], start="mini", settings=weighted)
    with pytest.raises(UserError, match="a reward of your own alone"):
        rrpo.train_diffro(tmp_path / "b", [LowCodes(), "mini"], start="mini", settings=SMALL)
    short = LowCodes()
    short.table = short.table[:10]
    with pytest.raises(UserError, match="table has 10 rows, and the policy speaks 6561 codes"):
        rrpo.train_diffro(tmp_path / "c", [short], start="mini", settings=SMALL)
    plain = rrpo.load_reward_model("mini")
    for number, (reward, message) in enumerate(
        [
            (LowCodes, "is the class LowCodes: give an object of it"),
            (plain, "a RewardModel is given in place of a reward"),
            (object(), "has no `weights`"),
        ]
    ):
        with pytest.raises(UserError, match=message):
            rrpo.train_diffro(tmp_path / f"d{number}", reward, start="mini", settings=SMALL)
    formed = SMALL | {"diffro.reward_form": "log_posterior"}
    with pytest.raises(UserError, match="reward_form=log_posterior is a setting of reward models"):
        rrpo.train_diffro(tmp_path / "e", LowCodes(), start="mini", settings=formed)
    with pytest.raises(UserError, match="start is a RewardModel: give the path"):
        rrpo.train_diffro(tmp_path / "f", "mini", start=plain, settings=SMALL)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_nothing_to_climb_stops_at_once(tmp_path: Path) -> None:
    class Flat(LowCodes):
        def terms(self, embeddings: Tensor, mask: Tensor, *rest: object) -> dict[str, Tensor]:
            return super().terms(embeddings.detach(), mask, *rest)

    small = SMALL | {"diffro.batch_size": 1, "diffro.history": "recorded"}
    with pytest.raises(UserError, match="no term of the reward that has a weight has a gradient"):
        rrpo.train_diffro(tmp_path / "flat", Flat(), start="mini", settings=small)


def test_a_module_is_frozen_and_known_by_its_state() -> None:
    class Module(torch.nn.Module):
        weights: Mapping[str, float] = {"low": 1.0}

        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.zeros(3, 2))
            self.scale = torch.nn.Parameter(torch.ones(()))

        def terms(self, embeddings: Tensor, mask: Tensor, _: object) -> dict[str, Tensor]:
            return {"low": self.scale * (embeddings.sum(-1) * mask).sum(1)}

    reward = Module()
    first = digest(reward)
    require_reward(reward, 3)
    assert not any(one.requires_grad for one in reward.parameters())
    assert digest(reward) == first
    reward.scale.data += 1
    assert digest(reward) != first
    for table, message in (
        (torch.zeros(3), r"table is \(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "floating point"),
    ):
        with pytest.raises(UserError, match=message):
            require_reward(replaced(LowCodes(), table), 3)


def replaced(reward: LowCodes, table: Tensor) -> LowCodes:
    reward.table = table
    return reward


def test_a_training_leaves_the_sources_of_chance_alone(tmp_path: Path) -> None:
    """A search over random settings in a loop would try the same ones for ever."""
    small = SMALL | {"train.steps": 1, "diffro.batch_size": 1, "diffro.history": "recorded"}
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    rrpo.train_diffro(tmp_path / "run", LowCodes(), start="mini", settings=small)
    rrpo.speak("mini", "It is late.", "happy")
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected


def test_terms_have_one_number_for_each_utterance() -> None:
    reward: DifferentiableReward = LowCodes()
    found = score(reward, [torch.tensor([0, 6560]), torch.tensor([0])], [])
    torch.testing.assert_close(weighted_sum(reward, found), torch.tensor([-2.5, 0.0]))

    class Unweighted(LowCodes):
        weights: Mapping[str, float] = {"high": 1.0}

    class Scalar(LowCodes):
        def terms(self, embeddings: Tensor, *_: object) -> dict[str, Tensor]:
            return {"low": embeddings.mean()}

    given = (torch.zeros(2, 3, 1), torch.ones(2, 3, dtype=torch.bool), [])
    with pytest.raises(UserError, match="a weight for 'high', but its terms lack it"):
        evaluated(Unweighted(), *given)
    with pytest.raises(UserError, match="one number for each"):
        evaluated(Scalar(), *given)

    def saying(**terms: object) -> LowCodes:
        made = LowCodes()
        made.terms = lambda *_: terms  # type: ignore[assignment, method-assign]
        return made

    fine = torch.zeros(2)
    for said, message in (
        (saying(low=fine, kl=fine), "'kl' has the name of a step's figure"),
        (saying(low=[0.0, 0.0]), "is a list: return a tensor"),
        (saying(low=torch.tensor([0.0, math.nan])), "'low' is not finite for 1 of 2"),
    ):
        with pytest.raises(UserError, match=message):
            evaluated(said, *given)
    counted = evaluated(saying(low=fine, count=torch.tensor([1, 2])), *given)
    assert counted["count"].dtype == torch.float32

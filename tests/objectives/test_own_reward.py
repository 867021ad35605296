"""A reward of one's own, through the public Python API."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rrpo
from rrpo.errors import UserError
from rrpo.progress import read_metrics
from rrpo.reward import DifferentiableReward
from rrpo.reward.reward import evaluated, score, weighted_sum

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
    with pytest.raises(UserError, match="a run with another reward"):
        rrpo.train_diffro(out, ["mini"], start="mini", settings=settings, resume=True)


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
    assert not any((tmp_path / name).exists() for name in "abc")


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

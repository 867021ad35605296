"""GRPO and RLOO: advantages, the clipped loss, and what is carried over a checkpoint."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rrpo.errors import TrainingInterrupted, UserError
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective, group_advantage, policy_loss
from rrpo.policy import SpeechTokenLM
from rrpo.policy.rollout import RolloutConfig
from rrpo.reward import Reward, RewardModel
from rrpo.train import TrainConfig, train
from tiny_policy import CONFIG, REWARD, prompts


def objective(recordings: Sequence[Tensor] = (), **options) -> GRPOObjective:
    torch.manual_seed(0)
    model, reference = SpeechTokenLM(CONFIG), SpeechTokenLM(CONFIG)
    for lm in (model, reference):
        for parameter in lm.parameters():
            parameter.data.normal_(0, 0.3)
    reward = Reward([RewardModel(REWARD)])
    # A policy of random weights seldom ends by itself.
    config = GRPOConfig(prompts=2, group=4, **{"skip_broken": False, **options})
    return GRPOObjective(model, reference, reward, prompts(4, 2, 3), config, recordings)


def test_a_group_that_is_paid_the_same_has_no_advantage() -> None:
    found = group_advantage(torch.full((3,), -3.331903003028226), 3, "grpo")
    assert float(found.abs().max()) < 1e-9


@given(
    rewards=st.lists(st.floats(-9, 0, width=32), min_size=6, max_size=6),
    kind=st.sampled_from(["grpo", "rloo"]),
)
@settings(max_examples=50, deadline=None)
def test_advantages_are_those_of_a_loop(rewards: list[float], kind: str) -> None:
    found = group_advantage(torch.tensor(rewards), 3, kind)
    for index in range(6):
        group = rewards[:3] if index < 3 else rewards[3:]
        others = [value for place, value in enumerate(group) if place != index % 3]
        expected = rewards[index] - np.mean(others)
        if kind == "grpo":
            expected = (rewards[index] - np.mean(group)) / (np.std(group, ddof=1) + 1e-4)
        assert float(found[index]) == pytest.approx(expected, abs=1e-4, rel=1e-5)


@pytest.mark.parametrize("group", [2, 4])
def test_what_breaks_does_not_make_the_gradient_of_the_rest_smaller(group: int) -> None:
    """RLOO on a bandit of which one action breaks: the mean is the gradient given a sound one.

    Groups in which fewer than two are sound have none; of the others it is exact.
    """
    p, rewards = torch.tensor([0.3, 0.3, 0.4], dtype=torch.double), torch.tensor([1.0, 0.0, 5.0])
    sound = torch.tensor([True, True, False])
    expected, chance = torch.zeros(3, dtype=torch.double), 0.0
    for actions in itertools.product(range(3), repeat=group):
        drawn = torch.tensor(actions)
        if int(sound[drawn].sum()) < 2:
            continue
        likely = float(p[drawn].prod())
        advantage = group_advantage(rewards[drawn], group, "rloo", sound[drawn])
        scores = torch.eye(3, dtype=torch.double)[drawn] - p
        expected += likely * (advantage.double()[:, None] * scores).mean(0)
        chance += likely
    # d/dθ of E[R | sound] = p_0 / (p_0 + p_1) in the logits θ of a softmax.
    wanted = torch.tensor([0.25, -0.25, 0.0], dtype=torch.double)
    torch.testing.assert_close(expected / chance, wanted)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_the_loss_is_the_clipped_surrogate_token_by_token(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    new, old = (torch.randn(3, 4, generator=generator) / 2 for _ in range(2))
    advantage = torch.tensor([1.0, -2.0, 0.5])
    lengths = [4, 2, 3]
    valid = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    total = 0.0
    for row, length in enumerate(lengths):
        paid = 0.0
        for t in range(length):
            ratio = np.exp(float(new[row, t] - old[row, t]))
            a = float(advantage[row])
            paid += min(ratio * a, np.clip(ratio, 0.8, 1.2) * a)
        total += paid / length if kind == "grpo" else paid
    found = policy_loss(new, old, advantage, valid, 0.2, kind)
    assert float(found) == pytest.approx(-total / 3, abs=1e-5)


def test_a_clipped_token_has_no_gradient() -> None:
    new = torch.tensor([[1.0, 0.0]], requires_grad=True)  # ratios e and 1
    loss = policy_loss(
        new, torch.zeros(1, 2), torch.tensor([1.0]), torch.ones(1, 2).bool(), 0.2, "rloo"
    )
    (gradient,) = torch.autograd.grad(loss, new)
    assert gradient.tolist() == [[0.0, -1.0]]


@pytest.mark.slow
def test_the_reward_rises() -> None:
    made = objective(
        beta=0.0, advantage="rloo", rollout=RolloutConfig(max_ratio=6.0, min_ratio=2.0)
    )
    for parameter in made.on_policy.reward.models[0].parameters():
        parameter.data.mul_(2)
    optimizer = torch.optim.Adam(made.model.parameters(), 0.02)
    generator = torch.Generator().manual_seed(0)
    rewards = []
    for step in range(1, 81):
        loss, metrics = made.loss(step, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        rewards.append(metrics["reward"])
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.2


def test_the_first_step_on_a_batch_is_on_policy_and_later_ones_are_not() -> None:
    made = objective(updates=3)
    optimizer = torch.optim.SGD(made.model.parameters(), 50.0)
    generator = torch.Generator().manual_seed(0)
    clipped, batches = [], []
    for step in range(1, 5):
        loss, metrics = made.loss(step, generator)
        clipped.append(metrics["clipped"])
        batches.append(made.carried["tokens"].clone())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert clipped[0] == clipped[3] == 0.0
    assert clipped[1] > 0
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[2], batches[3])


def test_a_duration_needs_recordings_with_tokens() -> None:
    for recordings, said in (([], "0 recordings for"), ([torch.empty(0)] * 3, "has no tokens")):
        with pytest.raises(UserError, match=said):
            objective(duration=1.0, recordings=recordings)


def test_diffro_beside_it_reaches_only_what_did_better_than_its_group() -> None:
    plain, both = objective(), objective(diffro=1.0)
    losses = [made.loss(1, torch.Generator().manual_seed(0))[0] for made in (plain, both)]
    better = group_advantage(both.carried["term emotion"], 4, "grpo") > 0
    expected = -(both.carried["term emotion"] * better).mean()
    torch.testing.assert_close(losses[1] - losses[0], expected, atol=1e-5, rtol=1e-4)
    gradients = [
        torch.autograd.grad(loss, made.model.head.weight)[0]
        for loss, made in zip(losses, (plain, both), strict=True)
    ]
    assert not torch.allclose(gradients[0], gradients[1])


class Interrupted(GRPOObjective):
    """Stops once before a step, as a kill would."""

    at = 0

    def loss(self, step, generator):
        if step == self.at:
            raise KeyboardInterrupt
        return super().loss(step, generator)


@pytest.mark.slow
def test_a_run_that_is_resumed_amid_a_batch_ends_the_same(tmp_path: Path) -> None:
    config = TrainConfig(steps=7, learning_rate=1e-2, save_every=1, mixed_precision="no")

    def run(folder: Path, at: int) -> GRPOObjective:
        made = objective(updates=3)
        made.__class__ = Interrupted
        made.at = at  # type: ignore[attr-defined]
        train(made, config, folder, resume=True)
        return made

    whole = run(tmp_path / "whole", 0)
    with pytest.raises((KeyboardInterrupt, TrainingInterrupted)):
        run(tmp_path / "cut", 6)
    resumed = run(tmp_path / "cut", 0)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)

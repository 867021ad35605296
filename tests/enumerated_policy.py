"""A policy so small that all it can say is enumerated, and the exact gradient of its reward.

A real but tiny LM with four codes speaks three tokens, no more and no less, so that the expected
reward is a sum over 64 sequences and its gradient exact.
"""

import itertools
from copy import deepcopy

import torch
from torch import Tensor

from rrpo.objectives.on_policy import Estimator, OnPolicy
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt, unistream
from rrpo.policy.rollout import RolloutConfig, Rollouts, as_rollouts
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.differentiable import score, weighted_sum

CODES, SIZE, COUNT = 4, 3, 64
EMOTIONS = ["happy", "sad"]
PROMPT = Prompt("a b c", "happy", torch.tensor([1, 2, 3]), torch.tensor([4]))
CONFIG = LMConfig(
    text_vocabulary=6, codes=CODES, hidden=8, layers=1, heads=2, key_value_heads=1, intermediate=8
)
SEQUENCES = [torch.tensor(row) for row in itertools.product(range(CODES), repeat=SIZE)]


def tiny() -> OnPolicy:
    torch.manual_seed(3)
    model = SpeechTokenLM(CONFIG)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.7)
    shape = {"width": 8, "layers": 1, "heads": 2, "feedforward": 8, "dropout": 0.0}
    paying = RewardModel(RewardConfig(codes=CODES, tasks={"emotion": EMOTIONS}, **shape))
    for parameter in paying.parameters():
        parameter.data.mul_(2)
    config = RolloutConfig(min_ratio=1.0, max_ratio=1.0)
    return OnPolicy(model, deepcopy(model), Reward([paying]), [PROMPT], config)


def rollouts(speech: list[Tensor]) -> Rollouts:
    count = len(speech)
    never = torch.zeros(count, dtype=torch.bool)
    return as_rollouts(CONFIG, [PROMPT] * count, speech, never, SIZE)


def dense_logits(model: SpeechTokenLM, speech: list[Tensor]) -> Tensor:
    """Return the logits (B, T, codes) that predict each token, no stop among them."""
    count = len(speech)
    instruct = [PROMPT.instruct_ids] * count
    ids, _ = unistream(model.config, [PROMPT.text_ids] * count, speech, instruct)
    return model(ids)[:, -SIZE - 1 : -1, :CODES]


def rewards(reward: Reward, embeddings: Tensor, mask: Tensor, prompts: list[Prompt]) -> Tensor:
    """Return the reward (B,) of relaxed tokens (B, T, E)."""
    return weighted_sum(reward, reward.terms(embeddings, mask, prompts))


def flat(model: SpeechTokenLM, value: Tensor) -> Tensor:
    parameters = [model.head.weight, model.speech_embedding.weight, *model.layers.parameters()]
    parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([p.flatten() for p in parts if p is not None])


class Truth:
    """The distribution of the sequences, the reward of each, and the exact gradient."""

    def __init__(self) -> None:
        self.on_policy = tiny()
        self.model = self.on_policy.model
        log_p = dense_logits(self.model, SEQUENCES).log_softmax(-1)
        drawn = torch.stack(SEQUENCES)[..., None]
        each = log_p.gather(2, drawn).sum((1, 2))
        self.p = each.exp().detach()
        self.reward = score(self.on_policy.reward, SEQUENCES, [PROMPT] * COUNT)["emotion"]
        self.gradient = flat(self.model, (each.exp() * self.reward).sum())

    def estimates(self, estimator: Estimator, seed: int = 0) -> Tensor:
        """Return each sequence's estimate (64, P) of the gradient."""
        found = self._paid(estimator, seed)
        return torch.stack([flat(self.model, one) for one in found])

    def expected(self, estimator: Estimator, seed: int) -> Tensor:
        """Return `mean` of `estimates` (P,)."""
        return flat(self.model, self.p @ self._paid(estimator, seed))

    def _paid(self, estimator: Estimator, seed: int) -> Tensor:
        """Return the reward (64,) of each sequence, to take the way back from."""
        generator = torch.Generator().manual_seed(seed)
        made = self.on_policy.evaluate(rollouts(SEQUENCES), estimator, generator)
        return rewards(self.on_policy.reward, made.embeddings, made.mask, [PROMPT] * COUNT)

    def mean(self, estimates: Tensor) -> Tensor:
        return self.p @ estimates

    def variance(self, estimates: Tensor) -> float:
        return float(self.p @ (estimates - self.mean(estimates)).square().sum(1))

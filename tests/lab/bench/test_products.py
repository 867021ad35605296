"""The products that are counted are those that torch does."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import RolloutConfig, as_rollouts
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo_bench import products

BATCH, TEXT, TOLD, SPEECH = 2, 5, 3, 7


def policy() -> SpeechTokenLM:
    torch.manual_seed(0)
    shape = {"hidden": 32, "layers": 2, "heads": 4, "key_value_heads": 2, "intermediate": 48}
    return SpeechTokenLM(LMConfig(text_vocabulary=20, codes=40, **shape))  # type: ignore[arg-type]


def test_a_runner_does_what_is_counted() -> None:
    kinds = (products.FORWARD, products.INPUT, products.WEIGHT)
    some = [products.Product(5, torch.ones(3, 4)), products.Product(6, torch.ones(4, 2), kinds)]
    with FlopCounterMode(display=False) as counted:
        products.runner(some)()
    assert counted.get_total_flops() == 2 * 5 * 3 * 4 + 3 * 2 * 6 * 4 * 2
    assert products.gigaflops(some) == counted.get_total_flops() / 1e9


def test_a_pass_with_gradient_does_these_products() -> None:
    """All that torch multiplies but attention, and pooling and the head of one vector each.

    The draw is among a few ids: else the output layer is read once more on the way back.
    """
    model, reference = policy(), policy()
    reward = RewardModel(RewardConfig(width=16, layers=1, heads=2, feedforward=24, codes=40)).eval()
    told = torch.arange(TEXT), torch.arange(TOLD)
    prompts = [Prompt("text", "happy", *told) for _ in range(BATCH)]
    speech = [torch.arange(SPEECH)] * BATCH
    config = DiffROConfig(rollout=RolloutConfig(top_k=5))
    objective = DiffROObjective(
        model, reference, Reward([reward], form="log_posterior"), prompts, config
    )
    ended = torch.ones(BATCH, dtype=torch.bool)
    rollouts = as_rollouts(model.config, prompts, speech, ended, 1)
    on_policy = objective.on_policy
    with FlopCounterMode(display=False) as counted:
        made = on_policy.evaluate(rollouts, objective.estimator(1), torch.Generator())
        terms = on_policy.terms(made, rollouts)
        torch.autograd.backward(terms["emotion"].mean() + made.kl_per_token())
    found = counted.get_flop_counts()["Global"]
    # Older versions of torch do attention, which is not counted, by `bmm`.
    multiplied = sum(found[name] for name in found if str(name) in ("aten.mm", "aten.addmm"))
    least = products.teacher_forced(model, reward, BATCH, TEXT + TOLD + 2, SPEECH)
    width, classes, counted_ones = 16, len(reward.classes()), sum(one.flops for one in least)
    pooled = 2 * BATCH * SPEECH * width * 2 + 2 * BATCH * width * classes
    assert counted_ones <= multiplied <= counted_ones + 3 * pooled

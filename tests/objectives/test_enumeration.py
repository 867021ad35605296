"""Estimators against the exact gradient: every sequence of a small policy is enumerated."""

import pytest
import torch
from torch import Tensor

from enumerated_policy import (
    CODES,
    COUNT,
    PROMPT,
    SEQUENCES,
    SIZE,
    Truth,
    dense_logits,
    flat,
    rewards,
    rollouts,
)
from rrpo.objectives.grpo import group_advantage
from rrpo.objectives.on_policy import Estimator
from rrpo.policy.layout import unistream
from rrpo.relax import relax
from rrpo.sampling import ESTIMATORS, Noise, conditional_gumbel


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth()


def test_the_law_is_that_of_the_dense_pass(truth: Truth) -> None:
    assert float(truth.p.sum()) == pytest.approx(1.0, abs=1e-5)
    made = truth.on_policy.evaluate(rollouts(SEQUENCES))
    torch.testing.assert_close(made.log_probability.sum(1).exp(), truth.p, atol=1e-6, rtol=1e-4)
    assert not made.valid[:, SIZE].any()  # the end was forced, so it was no choice


def test_reinforce_is_exact_in_expectation_whatever_the_baseline(truth: Truth) -> None:
    made = truth.on_policy.evaluate(rollouts(SEQUENCES))
    for baseline in (0.0, -3.0):
        weight = truth.p * (truth.reward - baseline)
        found = flat(truth.model, (weight * made.log_probability.sum(1)).sum())
        torch.testing.assert_close(found, truth.gradient, atol=1e-5, rtol=1e-3)


def test_rloo_on_drawn_groups_agrees_with_the_exact_gradient(truth: Truth) -> None:
    """Five standard errors in a random direction and along the gradient, 4,000 groups of four."""
    generator = torch.Generator().manual_seed(0)
    made = truth.on_policy.evaluate(rollouts(SEQUENCES))
    scores = torch.stack([flat(truth.model, one) for one in made.log_probability.sum(1)])
    drawn = torch.multinomial(truth.p, 16_000, replacement=True, generator=generator)
    advantage = group_advantage(truth.reward[drawn], 4, "rloo")
    for direction in (truth.gradient, torch.randn(truth.gradient.numel(), generator=generator)):
        slopes = (advantage * (scores @ direction)[drawn]).view(-1, 4).mean(1)
        error = float(slopes.std() / len(slopes) ** 0.5)
        expected = float(truth.gradient @ direction)
        assert float(slopes.mean()) == pytest.approx(expected, abs=5 * error)


@pytest.mark.parametrize("tau", [0.6, 1.0])
def test_straight_through_is_the_dense_one_hot_product(truth: Truth, tau: float) -> None:
    """Independent form: D + softmax(θ/τ) − its own value, times the table, through autograd."""
    logits = dense_logits(truth.model, SEQUENCES)
    soft = (logits / tau).softmax(-1)
    hot = torch.nn.functional.one_hot(torch.stack(SEQUENCES), CODES).float()
    paying = truth.on_policy.reward
    mask = torch.ones(COUNT, SIZE, dtype=torch.bool)
    paid = rewards(paying, (hot + soft - soft.detach()) @ paying.table, mask, [PROMPT] * COUNT)
    expected = torch.stack([flat(truth.model, one) for one in paid])
    found = truth.estimates(Estimator("straight_through", tau))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_conditional_gumbel_has_mean_and_variance_of_the_free_gumbel_softmax(truth: Truth) -> None:
    """The reference draws its own tokens, one at a time, by the arg-max of perturbed logits."""

    def place(speech: Tensor) -> Tensor:
        """Where each of the sequences (N, T) stands among the enumerated ones."""
        return speech @ CODES ** torch.arange(SIZE - 1, -1, -1)

    tau, count = 0.8, 20_000
    generator = torch.Generator().manual_seed(1)
    model, paying = truth.model, truth.on_policy.reward
    speech = torch.zeros(count, SIZE, dtype=torch.long)
    gumbels = -torch.empty(count, SIZE, CODES).exponential_(generator=generator).log()
    # All prefixes are among the enumerated sequences: their logits are computed once and looked up.
    every = dense_logits(model, SEQUENCES).detach()
    for step in range(SIZE):
        logits = every[place(speech)]
        speech[:, step] = (logits[:, step] + gumbels[:, step]).argmax(-1)
    logits = every[place(speech)]
    mask = torch.ones(count, SIZE, dtype=torch.bool)
    direction = torch.randn(SIZE, CODES, generator=generator)

    def slopes(leaf: Tensor, embedded: Tensor) -> Tensor:
        paid = rewards(paying, embedded, mask, [PROMPT] * count)
        (gradient,) = torch.autograd.grad(paid.sum(), leaf)
        return (gradient * direction).sum((1, 2))

    leaf = logits.clone().requires_grad_()
    soft = ((leaf + gumbels) / tau).softmax(-1)
    hot = torch.nn.functional.one_hot(speech, CODES).float()
    free = slopes(leaf, (hot + soft - soft.detach()) @ paying.table)
    leaf = logits.clone().requires_grad_()
    noise = torch.Generator().manual_seed(2)
    found = slopes(leaf, relax(leaf, speech, paying.table, "conditional_gumbel", tau, noise))
    error = float(((free.var() + found.var()) / count).sqrt())
    assert float(free.mean()) == pytest.approx(float(found.mean()), abs=4 * error)
    assert float(free.var()) == pytest.approx(float(found.var()), rel=0.1)


@pytest.mark.slow
def test_gumbel_rao_keeps_the_mean_and_never_has_more_variance(truth: Truth) -> None:
    means, spreads, seeds = {}, {}, 32
    for name in ("conditional_gumbel", "gumbel_rao"):
        # The mean over all sequences takes one way back, their spread one for each.
        chosen = Estimator(name, 0.5)
        means[name] = torch.stack([truth.expected(chosen, seed) for seed in range(seeds)])
        runs = torch.stack([truth.estimates(chosen, seed) for seed in range(3)])
        torch.testing.assert_close(truth.mean(runs[0]), means[name][0], atol=1e-5, rtol=1e-3)
        overall = means[name].mean(0)
        spreads[name] = float((truth.p @ (runs - overall).square().sum(2).T).mean())
    assert spreads["gumbel_rao"] < spreads["conditional_gumbel"]
    gap = means["gumbel_rao"].mean(0) - means["conditional_gumbel"].mean(0)
    error = ((means["gumbel_rao"].var(0) + means["conditional_gumbel"].var(0)) / seeds).sqrt()
    assert float((gap.abs() < 4.5 * error + 1e-6).float().mean()) > 0.99


@pytest.mark.slow
def test_bias_and_variance_of_each_estimator(truth: Truth) -> None:
    """What holds on this problem: all point uphill, and all vary less than REINFORCE."""
    made = truth.on_policy.evaluate(rollouts(SEQUENCES))
    scores = torch.stack([flat(truth.model, one) for one in made.log_probability.sum(1)])
    baseline = float(truth.p @ truth.reward)
    reinforce = truth.variance((truth.reward - baseline)[:, None] * scores)
    for name in ESTIMATORS:
        estimates = truth.estimates(Estimator(name, 1.0))
        mean = truth.mean(estimates)
        cosine = float(torch.cosine_similarity(mean, truth.gradient, dim=0))
        assert cosine > 0.3, name
        assert truth.variance(estimates) < reinforce, name


def pathwise(truth: Truth, tokens: Tensor, estimator: str, tau: float, seed: int) -> Tensor:
    """The slow exact form: token by token, each fed back as a relaxed token of the policy's own."""
    model, paying = truth.model, truth.on_policy.reward
    ids, _ = unistream(model.config, [PROMPT.text_ids], [tokens], [PROMPT.instruct_ids])
    head = ids[:, : ids.shape[1] - SIZE]
    inputs = model.embed(head)
    exponential = Noise(seed).exponential(SIZE, CODES)
    weights = []
    for step in range(SIZE):
        theta = model.head(model.hidden(ids[:, : inputs.shape[1]], inputs=inputs)[0, -1])[:CODES]
        hot = torch.nn.functional.one_hot(tokens[step], CODES).float()
        if estimator == "straight_through":
            soft = (theta / tau).softmax(-1)
        else:
            top = exponential[step, tokens[step]].log() - theta.detach().logsumexp(-1)
            others = -torch.logaddexp(exponential[step].log() - theta.detach(), top)
            perturbed = torch.where(hot.bool(), -top, others)
            soft = ((theta + (perturbed - theta).detach()) / tau).softmax(-1)
        weight = hot + soft - soft.detach()
        weights.append(weight)
        fed = weight @ model.speech_embedding.weight[:CODES]
        inputs = torch.cat([inputs, fed[None, None]], dim=1)
    mask = torch.ones(1, SIZE, dtype=torch.bool)
    paid = rewards(paying, torch.stack(weights)[None] @ paying.table, mask, [PROMPT])
    return flat(model, paid[0])


@pytest.mark.parametrize("estimator", ["straight_through", "conditional_gumbel"])
def test_enough_passes_are_the_exact_pathwise_gradient(truth: Truth, estimator: str) -> None:
    tokens = SEQUENCES[27]

    def unrolled(passes: int) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        chosen = Estimator(estimator, 2.0, passes)
        made = truth.on_policy.evaluate(rollouts([tokens]), chosen, generator)
        paid = rewards(truth.on_policy.reward, made.embeddings, made.mask, [PROMPT])
        return flat(truth.model, paid[0])

    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    exact = pathwise(truth, tokens, estimator, 2.0, seed)
    gaps = [float((unrolled(passes) - exact).norm() / exact.norm()) for passes in range(4)]
    assert gaps[2] < 1e-4 and gaps[3] < 1e-4
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[1] > 1e-3


def test_context_passes_change_no_value(truth: Truth) -> None:
    for passes in (0, 2):
        generator = torch.Generator().manual_seed(0)
        chosen = Estimator("reinmax", 1.0, passes)
        made = truth.on_policy.evaluate(rollouts(SEQUENCES), chosen, generator)
        assert torch.equal(made.embeddings, truth.on_policy.reward.table[torch.stack(SEQUENCES)])


def test_the_conditional_noise_agrees_with_what_was_drawn(truth: Truth) -> None:
    theta = dense_logits(truth.model, SEQUENCES).detach().reshape(-1, CODES)
    drawn = torch.stack(SEQUENCES).flatten()
    share = conditional_gumbel(theta, drawn, 1.0, Noise(0))
    assert torch.equal(share.argmax(-1), drawn)

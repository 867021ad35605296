"""The audit's statistics on gradients of known law, and the audit on a policy of known gradient."""

import pytest
import torch

from enumerated_policy import PROMPT, SEQUENCES, Truth, rewards, rollouts
from rrpo.errors import UserError
from rrpo.objectives.on_policy import Estimator
from rrpo_bench import gradient as module
from rrpo_bench.gradient import REFERENCE, Size, audit, compare, label, noise, sketch


def blocks(count: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A reference and an estimate whose expectations stand at a cosine of .8, norms 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.zeros(500)
    second = torch.zeros(500)
    first[0], second[0], second[1] = 1.0, 1.6, 1.2
    shared = torch.randn(count, 500, generator=generator) * noise
    own = torch.randn(count, 500, generator=generator) * noise
    return first + shared, second + shared + own


def test_noise_that_both_share_does_not_count() -> None:
    """The plain cosine of the means is far off; the interval holds the truth, as a rule."""
    held = 0
    for seed in range(20):
        reference, estimate = blocks(24, 0.15, seed)
        found = compare(reference, estimate)["cosine"]
        held += found.low <= 0.8 <= found.high
    assert held >= 17
    plain = torch.cosine_similarity(reference.mean(0), estimate.mean(0), dim=0)
    assert abs(float(plain) - 0.8) > 0.02


@pytest.mark.slow
def test_error_and_noise_are_those_of_the_law() -> None:
    reference, estimate = blocks(400, 0.05)
    found = compare(reference, estimate)
    assert found["error"].mean == pytest.approx((0.6**2 + 1.2**2) ** 0.5, rel=0.02)
    spread = (2 * 500 * 0.05**2) ** 0.5  # of one block's estimate
    assert noise(estimate, utterances=10) == pytest.approx(spread * 10**0.5 / 2, rel=0.05)


def test_pure_noise_gives_no_figure() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(4, 300, generator=generator)
    drawn -= drawn.mean(0)  # pairs of blocks then point away from each other
    assert compare(drawn, drawn)["cosine"] is None and noise(drawn, 1) is None


def test_a_folded_gradient_keeps_inner_products(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(40_000, generator=generator)
    b = a + torch.randn(40_000, generator=generator)
    assert torch.equal(sketch([a[:7], a[7:]]), a)
    monkeypatch.setattr(module, "SKETCH", 4096)
    first, second = sketch([a], seed=3), sketch([b], seed=3)
    assert first.numel() == 4096
    off = abs(float(first @ second - a @ b)) / float(a.norm() * b.norm())
    assert off < 4 / 4096**0.5


@pytest.mark.slow
def test_the_audit_finds_the_exact_cosine() -> None:
    """On the enumerated policy: what the audit says of straight-through is what it truly is."""
    truth = Truth()
    wanted = [Estimator("straight_through"), Estimator("straight_through", 1.0, 2)]
    parameters = list(truth.model.parameters())
    exact = {}
    for estimator in wanted:
        generator = torch.Generator().manual_seed(0)
        made = truth.on_policy.evaluate(rollouts(SEQUENCES), estimator, generator)
        reward = rewards(truth.on_policy.reward, made.embeddings, made.mask, [PROMPT] * 64)
        parts = torch.autograd.grad((truth.p * reward).sum(), parameters, allow_unused=True)
        exact[label(estimator)] = sketch(
            [
                torch.zeros_like(q) if p is None else p
                for p, q in zip(parts, parameters, strict=True)
            ]
        )
    made = truth.on_policy.evaluate(rollouts(SEQUENCES))
    value = (truth.p * truth.reward * made.log_probability.sum(1)).sum()
    parts = torch.autograd.grad(value, parameters, allow_unused=True)
    reference = sketch(
        [torch.zeros_like(q) if p is None else p for p, q in zip(parts, parameters, strict=True)]
    )
    found = audit({"one": truth.on_policy}, Size(blocks=12, prompts=1, group=400), 0, wanted)["one"]
    assert set(found) == {REFERENCE, *exact}
    for name, vector in exact.items():
        cosine = float(torch.cosine_similarity(vector, reference, dim=0))
        said = found[name]["cosine"]
        assert said.low - 0.02 <= cosine <= said.high + 0.02
    assert found[REFERENCE]["noise"] > found["straight_through"]["noise"]


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="three blocks"):
        audit({}, Size(blocks=2))

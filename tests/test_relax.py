"""The estimators against enumeration, dense autograd forms and independent references."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rrpo import choices as module
from rrpo.relax import relax
from rrpo.sampling import ESTIMATORS, Noise, conditional_gumbel, gapped, softmax_jacobian


def gradient(logits: Tensor, tokens: Tensor, table: Tensor, upstream: Tensor, **options) -> Tensor:
    leaf = logits.clone().requires_grad_()
    out = relax(leaf, tokens, table, **options)
    (result,) = torch.autograd.grad(out, leaf, upstream)
    return result


def problem(seed: int, n: int = 5, v: int = 7, d: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, v, generator=generator) * 2
    tokens = torch.randint(v, (n,), generator=generator)
    table = torch.randn(v, d, generator=generator)
    upstream = torch.randn(n, d, generator=generator)
    return logits, tokens, table, upstream


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_forward_is_exactly_the_gather(estimator: str) -> None:
    logits, tokens, table, _ = problem(0)
    shaped = logits.view(5, 1, 7).requires_grad_()
    out = relax(shaped, tokens.view(5, 1), table, estimator)
    assert torch.equal(out, table[tokens].view(5, 1, 3))


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_straight_through_is_autograd_of_the_softmax(tau: float) -> None:
    logits, tokens, table, upstream = problem(1)
    leaf = logits.clone().requires_grad_()
    soft = (leaf / tau).softmax(-1) @ table
    (expected,) = torch.autograd.grad(soft, leaf, upstream)
    actual = gradient(logits, tokens, table, upstream, estimator="straight_through", tau=tau)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("tau", [0.7, 1.0])
def test_reinmax_is_autograd_of_its_published_form(tau: float) -> None:
    """Heun's form: 2·(softmax at the mean of π_τ and D, its logarithm detached) − ½·π."""
    logits, tokens, table, upstream = problem(2)
    one_hot = torch.nn.functional.one_hot(tokens, 7).float()
    leaf = logits.clone().requires_grad_()
    pi = leaf.softmax(-1)
    middle = ((leaf / tau).softmax(-1) + one_hot) / 2
    shift = (middle.log() - leaf).detach()
    pi_1 = (shift + leaf).softmax(-1)
    (expected,) = torch.autograd.grad((2 * pi_1 - 0.5 * pi) @ table, leaf, upstream)
    actual = gradient(logits, tokens, table, upstream, estimator="reinmax", tau=tau)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_reinmax_is_exact_for_a_quadratic_reward() -> None:
    """ReinMax is second-order: unbiased when the reward is quadratic in the one-hot draw."""
    torch.manual_seed(3)
    v = 5
    logits, table = torch.randn(v), torch.eye(v)
    matrix = torch.randn(v, v)
    matrix = matrix + matrix.T
    linear = torch.randn(v)

    def reward(x: Tensor) -> Tensor:
        return x @ linear + x @ matrix @ x / 2

    leaf = logits.clone().requires_grad_()
    expected_reward = sum(leaf.softmax(-1)[i] * reward(table[i]) for i in range(v))
    (exact,) = torch.autograd.grad(expected_reward, leaf)
    mean = torch.zeros(v)
    for token in range(v):
        leaf = logits.clone().requires_grad_()
        out = relax(leaf[None], torch.tensor([token]), table, "reinmax")[0]
        (estimate,) = torch.autograd.grad(reward(out), leaf)
        mean += logits.softmax(-1)[token] * estimate
    torch.testing.assert_close(mean, exact, atol=1e-5, rtol=1e-4)


def test_gapped_shifts_only_what_is_needed() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.0]])
    torch.testing.assert_close(gapped(logits, torch.tensor([0])), torch.tensor([[3.0, 2.0, 0.0]]))
    torch.testing.assert_close(gapped(logits, torch.tensor([1])), torch.tensor([[1.0, 3.0, 0.0]]))


@given(seed=st.integers(0, 10_000), spread=st.floats(0.1, 8.0))
@settings(max_examples=40, deadline=None)
def test_conditional_gumbel_has_the_drawn_token_as_its_maximum(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 9, generator=generator) * spread
    tokens = torch.randint(9, (6,), generator=generator)
    share = conditional_gumbel(logits, tokens, 0.7, Noise(seed))
    torch.testing.assert_close(share.sum(-1), torch.ones(6))
    assert torch.equal(share.argmax(-1), tokens)


@given(seed=st.integers(0, 10_000), spread=st.floats(0.1, 8.0), tau=st.floats(0.05, 5.0))
@settings(max_examples=40, deadline=None)
def test_conditional_gumbel_is_the_softmax_of_perturbed_logits(
    seed: int, spread: float, tau: float
) -> None:
    """Maddison's perturbed logits of the same noise, in float64; an id may be cut off."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 9, generator=generator) * spread
    logits[:, 8] = float("-inf")
    tokens = torch.randint(8, (6,), generator=generator)
    noise = Noise(seed).exponential(6, 9).double()
    theta, index = logits.double(), tokens[:, None]
    drawn, total = noise.gather(1, index), theta.logsumexp(-1, keepdim=True)
    others = -(noise / theta.exp() + drawn / total.exp()).log()
    perturbed = others.scatter(1, index, total - drawn.log())
    found = conditional_gumbel(logits, tokens, tau, Noise(seed))
    wanted = (perturbed / tau).softmax(-1).float()
    torch.testing.assert_close(found, wanted, rtol=2e-4, atol=1e-6)


def test_conditional_gumbel_has_the_law_of_the_unconditional_form() -> None:
    """With tokens drawn from π, the gradient's mean and variance are those of ST Gumbel-Softmax."""
    generator = torch.Generator().manual_seed(4)
    n, v = 200_000, 4
    logits = torch.tensor([0.5, -1.0, 1.5, 0.0]).expand(n, v)
    g = torch.tensor([1.0, -2.0, 0.5, 3.0]).expand(n, v)
    tau = 0.8
    gumbel = -torch.empty(n, v).exponential_(generator=generator).log()
    free = softmax_jacobian(((logits + gumbel) / tau).softmax(-1), g) / tau
    tokens = torch.multinomial(logits[0].softmax(-1), n, replacement=True, generator=generator)
    given_token = softmax_jacobian(conditional_gumbel(logits, tokens, tau, Noise(5)), g)
    given_token = given_token / tau
    error = ((free.var(0) + given_token.var(0)) / n).sqrt()
    assert ((free.mean(0) - given_token.mean(0)).abs() < 4 * error).all()
    torch.testing.assert_close(free.var(0), given_token.var(0), rtol=0.05, atol=1e-4)


def test_gumbel_rao_has_the_same_mean_and_less_variance() -> None:
    logits, _, table, upstream = problem(5, n=1)
    n = 20_000
    tokens = torch.multinomial(
        logits[0].softmax(-1), n, replacement=True, generator=torch.Generator().manual_seed(6)
    )
    results = {}
    for seed, estimator in enumerate(("conditional_gumbel", "gumbel_rao")):
        results[estimator] = gradient(
            logits.expand(n, -1),
            tokens,
            table,
            upstream.expand(n, -1),
            estimator=estimator,
            tau=0.5,
            generator=torch.Generator().manual_seed(seed),
        )
    plain, averaged = results["conditional_gumbel"], results["gumbel_rao"]
    error = ((plain.var(0) + averaged.var(0)) / n).sqrt()
    assert ((plain.mean(0) - averaged.mean(0)).abs() < 4 * error + 1e-6).all()
    assert averaged.var(0).sum() < plain.var(0).sum()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_chunks_change_nothing(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, tokens, table, upstream = problem(7, n=11)
    results = []
    for size in (1 << 22, 14):
        monkeypatch.setattr(module, "CHUNK_ELEMENTS", size)
        results.append(
            gradient(
                logits,
                tokens,
                table,
                upstream,
                estimator=estimator,
                generator=torch.Generator().manual_seed(8),
            )
        )
    if estimator == "gumbel_rao":  # its draws interleave differently: same law, other noise
        assert torch.isfinite(results[1]).all()
    else:
        torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_excluded_logits_get_no_gradient(estimator: str) -> None:
    logits, tokens, table, upstream = problem(9)
    tokens = tokens.clamp(min=2)
    logits[:, :2] = float("-inf")
    result = gradient(
        logits,
        tokens,
        table,
        upstream,
        estimator=estimator,
        generator=torch.Generator().manual_seed(1),
    )
    assert torch.isfinite(result).all()
    assert (result[:, :2] == 0).all()
    assert (result[:, 2:] != 0).any()


def test_one_seed_decides_the_noise() -> None:
    logits, tokens, table, upstream = problem(10)
    first, second, third = (
        gradient(logits, tokens, table, upstream, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_table_gets_the_gradient_of_the_gather() -> None:
    logits, tokens, table, upstream = problem(11)
    leaf = table.clone().requires_grad_()
    (actual,) = torch.autograd.grad(relax(logits, tokens, leaf), leaf, upstream)
    expected = torch.zeros_like(table).index_add(0, tokens, upstream)
    torch.testing.assert_close(actual, expected)


def test_wrong_arguments_are_named() -> None:
    logits, tokens, table, _ = problem(12)
    with pytest.raises(ValueError, match="unknown estimator"):
        relax(logits, tokens, table, "gumbel")
    with pytest.raises(ValueError, match="tau"):
        relax(logits, tokens, table, tau=0.0)
    with pytest.raises(ValueError, match="shapes"):
        relax(logits, tokens[:2], table)

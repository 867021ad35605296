"""The chunked pass against dense autograd: values and gradients, for each distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rrpo import choices as module
from rrpo.choices import Logits, choices
from rrpo.policy.divergence import kl_per_position
from rrpo.relax import relax
from rrpo.sampling import ESTIMATORS, Noise, Relaxation, Sampling, vector_jacobian

CODES, IDS, WIDTH = 9, 12, 5


def problem(seed: int, n: int = 7, bias: bool = True) -> tuple[Logits, Logits, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)

    def output(width: int) -> Logits:
        b = torch.randn(IDS, generator=g) if bias else None
        return Logits(torch.randn(n, width, generator=g), torch.randn(IDS, width, generator=g), b)

    policy, reference = output(WIDTH), output(WIDTH + 1)
    policy.weight[CODES + 1] = 2 * policy.hidden[-1]  # the last row is likely to stop
    leaves = [
        t.requires_grad_() for t in (policy.hidden, policy.weight, policy.bias) if t is not None
    ]
    assert leaves
    tokens = torch.randint(IDS, (n,), generator=g)
    tokens[0], tokens[-1] = 2, CODES + 1
    return policy, reference, tokens, torch.randn(CODES, 4, generator=g)


def dense(output: Logits) -> Tensor:
    logits = output.hidden @ output.weight.T
    return logits if output.bias is None else logits + output.bias


def leaves(output: Logits) -> list[Tensor]:
    return [t for t in (output.hidden, output.weight, output.bias) if t is not None]


def truncated(logits: Tensor, sampling: Sampling, may_stop: Tensor) -> Tensor:
    blocked = (~may_stop)[:, None] & (torch.arange(IDS) >= CODES)
    return sampling.truncate(logits.masked_fill(blocked, float("-inf")))


SAMPLINGS = [Sampling(), Sampling(0.7), Sampling(1.0, 5), Sampling(1.3, 0, 0.8)]


@pytest.mark.parametrize("chunk", [1 << 20, 25])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_dense_pass(
    sampling: Sampling, chunk: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", chunk)
    policy, reference, tokens, table = problem(0, bias=bias)
    may_stop = torch.tensor([False, True, True, True, True, True, True])
    logits = dense(policy)
    theta = truncated(logits, sampling, may_stop)
    # A token that is cut off was never drawn: take the likeliest code instead.
    out = theta.gather(1, tokens[:, None])[:, 0].isinf()
    tokens = torch.where(out, theta[:, :CODES].argmax(-1), tokens)
    stops = tokens >= CODES
    assert stops.any() and not stops.all()
    log_pi = theta.log_softmax(-1)
    pairs = zip(log_pi, tokens.tolist(), strict=True)
    expected_choice = torch.stack(
        [row[CODES:].logsumexp(-1) if token >= CODES else row[token] for row, token in pairs]
    )
    expected_kl = kl_per_position(logits, dense(reference).detach())
    rows = (~stops).nonzero()[:, 0]
    relaxed = relax(theta[rows, :CODES], tokens[rows], table, "straight_through", 0.6)
    expected_embeddings = torch.zeros(7, 4).index_copy(0, rows, relaxed)

    found = choices(
        policy,
        tokens,
        CODES,
        sampling,
        may_stop,
        reference,
        Relaxation(table, "straight_through", 0.6, 3),
    )
    torch.testing.assert_close(found.log_probability, expected_choice)
    torch.testing.assert_close(found.kl, expected_kl)
    assert torch.equal(found.embeddings, expected_embeddings)
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(7, generator=g), torch.randn(7, generator=g)
    c = torch.randn(7, 4, generator=g)
    total = (found.log_probability * a).sum() + (found.kl * b).sum() + (found.embeddings * c).sum()
    expected = (
        (expected_choice * a).sum() + (expected_kl * b).sum() + (expected_embeddings * c).sum()
    )
    wanted = torch.autograd.grad(expected, leaves(policy))
    for mine, theirs in zip(torch.autograd.grad(total, leaves(policy)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@given(seed=st.integers(0, 1000), estimator=st.sampled_from(ESTIMATORS), tau=st.floats(0.3, 3.0))
@settings(max_examples=30, deadline=None)
def test_every_estimator_is_that_of_relax(seed: int, estimator: str, tau: float) -> None:
    policy, _, tokens, table = problem(seed)
    rows = (tokens < CODES).nonzero()[:, 0]
    c = torch.randn(7, 4, generator=torch.Generator().manual_seed(seed))
    found = choices(policy, tokens, CODES, relaxation=Relaxation(table, estimator, tau, seed))
    mine = torch.autograd.grad((found.embeddings * c).sum(), leaves(policy))
    theta = dense(policy)[:, :CODES]
    drawn = tokens.clamp(max=CODES - 1)
    gradient = vector_jacobian(theta.detach(), drawn, c @ table.T, estimator, tau, Noise(seed))
    wanted = torch.autograd.grad(theta[rows], leaves(policy), gradient[rows])
    for one, other in zip(mine, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_trained_table_gets_the_gradient_of_the_gather() -> None:
    policy, _, tokens, table = problem(4)
    table.requires_grad_()
    found = choices(policy, tokens, CODES, relaxation=Relaxation(table, "reinmax", 1.0, 0))
    c = torch.randn(7, 4)
    kept = tokens < CODES
    expected = torch.zeros_like(table).index_add(0, tokens[kept], c[kept])
    (gradient,) = torch.autograd.grad((found.embeddings * c).sum(), table)
    torch.testing.assert_close(gradient, expected)


def test_finite_differences() -> None:
    """In double precision nothing here is double inside, so the step is coarse."""
    policy, reference, tokens, _ = problem(5)
    hidden = policy.hidden.detach()

    def value(h: Tensor) -> Tensor:
        found = choices(
            Logits(h, policy.weight, policy.bias), tokens, CODES, Sampling(0.8), None, reference
        )
        return found.log_probability.sum() + 2 * found.kl.sum()

    leaf = hidden.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    direction = torch.randn_like(hidden)
    with torch.no_grad():
        slope = (value(hidden + 1e-3 * direction) - value(hidden - 1e-3 * direction)) / 2e-3
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=2e-3, abs=1e-2)


def test_half_precision_under_autocast_is_close() -> None:
    policy, reference, tokens, table = problem(6)
    relaxation = Relaxation(table, "straight_through", 1.0, 0)
    full = choices(policy, tokens, CODES, None, None, reference, relaxation)
    with torch.autocast("cpu", torch.bfloat16):
        half = choices(policy, tokens, CODES, None, None, reference, relaxation)
    torch.testing.assert_close(half.kl, full.kl, rtol=0.1, atol=0.1)
    gradients = [
        torch.autograd.grad(each.kl.sum() + each.embeddings.sum(), leaves(policy))
        for each in (full, half)
    ]
    for one, other in zip(*gradients, strict=True):
        assert other.dtype == one.dtype
        assert float((one - other).norm() / one.norm()) < 0.05


def test_sums_under_autocast_stay_whole() -> None:
    """Half of the precision is for products: the KL is exact for the logits that it is of."""
    policy, reference, tokens, _ = problem(6)
    dtype = torch.bfloat16
    with torch.autocast("cpu", dtype):
        found = choices(policy, tokens, CODES, reference=reference)
    log_p, log_q = (
        Logits(each.hidden, each.weight, each.bias).part(slice(None), dtype).log_softmax(-1)
        for each in (policy, reference)
    )
    torch.testing.assert_close(found.kl, (log_p.exp() * (log_p - log_q)).sum(-1))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, 3)])
def test_a_backward_pass_within_autocast_is_that_outside(
    estimator: str, sampling: Sampling
) -> None:
    policy, reference, tokens, table = problem(6)
    relaxation, found = Relaxation(table, estimator, 1.0, 0), []
    for inside in (True, False):
        made = choices(policy, tokens, CODES, sampling, None, reference, relaxation)
        total = made.kl.sum() + made.embeddings.sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(total, leaves(policy)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_given_logits_stay_as_they_are() -> None:
    logits = torch.randn(2, 5)
    before = logits.clone()
    choices(Logits(logits), torch.tensor([0, 1]), 4, may_stop=torch.zeros(2, dtype=torch.bool))
    assert torch.equal(logits, before)


@pytest.mark.parametrize(("tau", "seed"), [(0.0, 0), (float("inf"), 0), (1.0, -1)])
def test_a_relaxation_that_cannot_be_is_refused_at_once(tau: float, seed: int) -> None:
    with pytest.raises(ValueError, match=r"tau must|the seed"):
        Relaxation(torch.zeros(3, 2), "reinmax", tau, seed)


def test_sizes_that_do_not_fit_are_named() -> None:
    policy, reference, tokens, table = problem(7)
    with pytest.raises(ValueError, match="sizes do not fit"):
        choices(policy, tokens[:-1], CODES)
    with pytest.raises(ValueError, match="reference does not fit"):
        short = Logits(reference.hidden[:2], reference.weight)
        choices(policy, tokens, CODES, reference=short)
    with pytest.raises(ValueError, match="unknown estimator"):
        choices(policy, tokens, CODES, relaxation=Relaxation(table, "gumbel", 1.0, 0))
    with pytest.raises(ValueError, match="relaxation does not fit"):
        choices(policy, tokens, CODES, relaxation=Relaxation(table[:3], "reinmax", 1.0, 0))


def test_an_end_from_outside_is_no_choice() -> None:
    policy, _, tokens, _ = problem(8)
    never = torch.zeros(7, dtype=torch.bool)
    found = choices(policy, tokens, CODES, may_stop=never)
    stops = tokens >= CODES
    assert (found.log_probability[stops] == 0).all()
    expected = dense(policy)[:, :CODES].log_softmax(-1)[~stops].gather(1, tokens[~stops][:, None])
    torch.testing.assert_close(found.log_probability[~stops], expected[:, 0])
    gradients = torch.autograd.grad(found.log_probability.sum(), leaves(policy))
    wanted = torch.autograd.grad(expected.sum(), leaves(policy))
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sampling", [Sampling(1.0, 3), Sampling(0.9, 0, 0.85)])
def test_a_stop_is_one_choice_whichever_id_was_drawn(sampling: Sampling) -> None:
    """An end is written as the first stop id, which a cut may have left out: another was drawn."""
    logits = torch.tensor([[1.5, 1.0, -2.0, -2.5, -2.2, -3.0, 1.2]], requires_grad=True)
    found = choices(Logits(logits), torch.tensor([5]), 5, sampling).log_probability
    left = sampling.truncate(logits)
    assert left[0, 5] == float("-inf") and left[0, 6].isfinite()
    expected = left.log_softmax(-1)[:, 6]
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(one.sum(), logits)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_tokens_drawn_in_the_pass_are_those_of_a_draw_beforehand() -> None:
    """Drawing and evaluating at once equals drawing first: tokens, values and gradients."""
    policy, reference, tokens, table = problem(9)
    sampling, relaxation = Sampling(0.9, 6), Relaxation(table, "conditional_gumbel", 0.8, 2)
    generator = torch.Generator().manual_seed(3)
    codes = sampling.draw(dense(policy).detach()[:, :CODES], torch.Generator().manual_seed(3))
    drawn = torch.where(tokens < CODES, codes, tokens)
    assert not torch.equal(drawn, tokens)
    asked = (CODES, sampling, None, reference, relaxation)
    at_once = choices(policy, tokens, *asked, redraw=generator)
    after = choices(policy, drawn, *asked)
    assert torch.equal(at_once.tokens, drawn) and torch.equal(after.tokens, drawn)
    sums = []
    for found in (at_once, after):
        assert torch.equal(found.log_probability, after.log_probability)
        assert torch.equal(
            found.embeddings, table[drawn.clamp(max=CODES - 1)] * (drawn < CODES)[:, None]
        )
        total = found.log_probability.sum() + found.kl.sum() + found.embeddings.square().sum()
        sums.append(torch.autograd.grad(total, leaves(policy)))
    for one, other in zip(*sums, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("sampling", [Sampling(0.8, 4), Sampling(1.2, 6, 0.9)])
@pytest.mark.parametrize("estimator", ["straight_through", "gapped", "reinmax"])
def test_relaxing_the_few_ids_that_are_left_is_relaxing_all(
    estimator: str, sampling: Sampling
) -> None:
    """These estimators draw no noise, so the gradients agree, not only their means."""
    policy, _, tokens, table = problem(3)
    theta = truncated(dense(policy), sampling, torch.ones(7, dtype=torch.bool))
    likely = theta[:, :CODES].max(-1)
    tokens = torch.where((tokens < CODES) & likely.values.isfinite(), likely.indices, IDS - 1)
    rows = (tokens < CODES).nonzero()[:, 0]
    found = choices(
        policy, tokens, CODES, sampling, relaxation=Relaxation(table, estimator, 0.7, 0)
    )
    relaxed = relax(theta[rows, :CODES], tokens[rows], table, estimator, 0.7)
    weights = torch.linspace(-1, 1, 28).view(7, 4)
    mine = torch.autograd.grad((found.embeddings * weights).sum(), leaves(policy))
    wanted = torch.autograd.grad((relaxed * weights[rows]).sum(), leaves(policy))
    for one, other in zip(mine, wanted, strict=True):
        assert float(other.abs().sum()) > 0
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_gumbel_noise_of_the_few_has_the_mean_of_that_of_all() -> None:
    count, sampling = 40_000, Sampling(1.0, 3)
    generator = torch.Generator().manual_seed(0)
    row, table = torch.randn(CODES, generator=generator), torch.randn(CODES, 4, generator=generator)
    weights, drawn = torch.randn(4, generator=generator), int(row.topk(2).indices[1])
    tokens = torch.full((count,), drawn)
    few = row.repeat(count, 1).requires_grad_()
    relaxation = Relaxation(table, "conditional_gumbel", 0.5, 1)
    found = choices(Logits(few), tokens, CODES, sampling, relaxation=relaxation)
    everything = row.repeat(count, 1).requires_grad_()
    relaxed = relax(sampling.truncate(everything), tokens, table, tau=0.5, generator=generator)
    (mine,) = torch.autograd.grad((found.embeddings @ weights).sum(), few)
    (wanted,) = torch.autograd.grad((relaxed @ weights).sum(), everything)
    error = (mine.var(0) + wanted.var(0)).div(count).sqrt()
    assert ((mine.mean(0) - wanted.mean(0)).abs() <= 4 * error).all()
    assert torch.equal((mine != 0).any(0), (wanted != 0).any(0))
    assert int((mine != 0).any(0).sum()) == 3


def test_keeping_the_gradient_of_the_kl_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reference, tokens, _ = problem(10)
    gradients = []
    for most in (1 << 24, 0):
        monkeypatch.setattr(module, "KEPT_ELEMENTS", most)
        kl = choices(policy, tokens, CODES, reference=reference).kl
        gradients.append(torch.autograd.grad((kl * torch.arange(7)).sum(), leaves(policy)))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)

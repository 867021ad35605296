"""Gradients through a discrete draw: the estimators of DiffRO's token choices.

Forward, every estimator returns the plain embeddings of the drawn tokens (a gather). Backward, the
gradient g of the reward in the one-hot draw is grad_e · tableᵀ, and an estimator's Jacobian takes
it to the logits. Written: θ the logits of one position, π = softmax θ, D the one-hot draw,
J(s) = diag(s) − s sᵀ.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

ESTIMATORS = ("straight_through", "conditional_gumbel", "gumbel_rao", "reinmax", "gapped")
CHUNK_ELEMENTS = 1 << 22
"""Elements of one (rows, V) block of the backward pass; bounds its extra memory."""
GUMBEL_RAO_DRAWS = 8
GAP = 1.0


def relax(
    logits: Tensor,
    tokens: Tensor,
    table: Tensor,
    estimator: str = "conditional_gumbel",
    tau: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Embed drawn tokens so that the gradient reaches every logit they were drawn from.

    Args:
        logits: (…, V) floating point, with gradient; of the law the tokens were drawn from, so
            divided by the sampling temperature and −inf where top-k excluded an id.
        tokens: (…) int64, the draws.
        table: (V, D), the reward model's token embeddings.
        estimator: one of `ESTIMATORS`.
        tau: temperature of the relaxation.
        generator: a CPU generator for the noise of `conditional_gumbel` and `gumbel_rao`; the
            others take their number from it, too, so that all leave it in the same state.

    Returns:
        (…, D), exactly `table[tokens]`.

    Raises:
        ValueError: unknown estimator, tau not positive, or shapes that do not fit.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"unknown estimator {estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    if not tau > 0:
        raise ValueError(f"tau must be positive, got {tau}")
    if logits.shape[:-1] != tokens.shape or logits.shape[-1] != table.shape[0]:
        raise ValueError(
            f"shapes do not fit: logits {tuple(logits.shape)}, tokens {tuple(tokens.shape)}, "
            f"table {tuple(table.shape)}"
        )
    # One integer keeps the noise: the backward pass draws it again, chunk by chunk.
    seed = int(torch.randint(2**62, (), generator=generator))
    embeddings: Tensor = _Relax.apply(  # type: ignore[no-untyped-call]
        logits, tokens, table, estimator, tau, seed
    )
    return embeddings


class _Relax(torch.autograd.Function):
    """Gather forward; vocabulary gradient and Jacobian in chunks backward."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        tokens: Tensor,
        table: Tensor,
        estimator: str,
        tau: float,
        seed: int,
    ) -> Tensor:
        ctx.save_for_backward(logits, tokens, table)
        ctx.rule = (estimator, tau, seed)  # type: ignore[attr-defined]
        return table[tokens]

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, None, Tensor | None, None, None, None]:
        logits, tokens, table = ctx.saved_tensors  # type: ignore[attr-defined]
        estimator, tau, seed = ctx.rule  # type: ignore[attr-defined]
        grad_logits = grad_table = None
        if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            grad_logits = _chunked(logits, tokens, table, gradient, estimator, tau, seed)
        if ctx.needs_input_grad[2]:  # type: ignore[attr-defined]
            grad_table = torch.zeros_like(table).index_add_(
                0, tokens.reshape(-1), gradient.reshape(-1, table.shape[1]).to(table.dtype)
            )
        return grad_logits, None, grad_table, None, None, None


def _chunked(
    logits: Tensor,
    tokens: Tensor,
    table: Tensor,
    gradient: Tensor,
    estimator: str,
    tau: float,
    seed: int,
) -> Tensor:
    """Return the gradient of the logits (…, V), never holding more than one block besides it."""
    size = logits.shape[-1]
    flat_logits, flat_tokens = logits.reshape(-1, size), tokens.reshape(-1)
    flat_gradient = gradient.reshape(-1, table.shape[1])
    noise = torch.Generator(logits.device).manual_seed(seed)
    out = torch.empty_like(flat_logits)
    transposed = table.T.float()
    count = max(1, CHUNK_ELEMENTS // size)
    for start in range(0, flat_tokens.numel(), count):
        part = slice(start, start + count)
        theta, drawn = flat_logits[part].float(), flat_tokens[part]
        g = flat_gradient[part].float() @ transposed
        out[part] = vector_jacobian(theta, drawn, g, estimator, tau, noise).to(out.dtype)
    return out.view(logits.shape)


def vector_jacobian(
    theta: Tensor, drawn: Tensor, g: Tensor, estimator: str, tau: float, noise: torch.Generator
) -> Tensor:
    """Return the estimated gradient (n, V) of the logits from g (n, V)."""
    if estimator == "straight_through":
        return softmax_jacobian((theta / tau).softmax(-1), g) / tau
    if estimator == "conditional_gumbel":
        perturbed = conditional_gumbel(theta, drawn, noise)
        return softmax_jacobian((perturbed / tau).softmax(-1), g) / tau
    if estimator == "gumbel_rao":
        total = torch.zeros_like(theta)
        for _ in range(GUMBEL_RAO_DRAWS):
            perturbed = conditional_gumbel(theta, drawn, noise)
            total += softmax_jacobian((perturbed / tau).softmax(-1), g)
        return total / (tau * GUMBEL_RAO_DRAWS)
    if estimator == "gapped":
        return softmax_jacobian((gapped(theta, drawn) / tau).softmax(-1), g) / tau
    return reinmax(theta, drawn, g, tau)


def softmax_jacobian(s: Tensor, g: Tensor) -> Tensor:
    """Return J(s)·g with J(s) = diag(s) − s sᵀ, row by row; s and g (n, V).

    Straight-through (Bengio et al. 2013) is J(softmax(θ/τ))·g/τ.
    """
    return s * (g - (s * g).sum(-1, keepdim=True))


def conditional_gumbel(theta: Tensor, drawn: Tensor, noise: torch.Generator) -> Tensor:
    """Draw Gumbel-perturbed logits (n, V) given that their arg-max is `drawn` (n,).

    With E_j ~ Exp(1) and Z = Σ e^θ_j, the drawn one's is −log E_i + log Z, another's is
    −log(E_j / e^θ_j + E_i / Z) (Maddison et al. 2014). The noise is a constant: no gradient
    passes through it. In expectation over draws this is the straight-through Gumbel-Softmax
    (Jang et al. 2017).
    """
    exponential = torch.empty_like(theta).exponential_(generator=noise)
    # Exp(1) in fp32 can come out as 0, whose logarithm is −inf.
    log_e = exponential.clamp_(min=torch.finfo(theta.dtype).tiny).log_()
    index = drawn[:, None]
    top = log_e.gather(1, index) - theta.logsumexp(-1, keepdim=True)
    return (-torch.logaddexp(log_e - theta, top)).scatter(1, index, -top)


def gapped(theta: Tensor, drawn: Tensor) -> Tensor:
    """Shift logits (n, V) so that the drawn one leads by at least `GAP` (Fan et al. 2022).

    θ'_i = max_j θ_j for the drawn i, θ'_j = min(θ_j, θ'_i − gap); the shifts are constants.
    """
    top = theta.max(-1, keepdim=True).values
    return torch.minimum(theta, top - GAP).scatter(1, drawn[:, None], top)


def reinmax(theta: Tensor, drawn: Tensor, g: Tensor, tau: float) -> Tensor:
    """ReinMax (Liu et al. 2023): 2·J(½(softmax(θ/τ) + D))·g − ½·J(π)·g, (n, V)."""
    one_hot = torch.zeros_like(theta).scatter_(1, drawn[:, None], 1.0)
    middle = ((theta / tau).softmax(-1) + one_hot) / 2
    return 2 * softmax_jacobian(middle, g) - softmax_jacobian(theta.softmax(-1), g) / 2

"""Gradients through token choices: relaxed tokens, log-probabilities and the KL in one pass.

`relax` is the method in one function; training runs `choices`, the same pass from hidden states.
Forward and backward each go over a few positions at a time and compute their logits (n, V) from the
hidden states, so that the memory beside inputs and outputs is that of one chunk; it costs one more
product with the output matrix (two with a reference).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rrpo.sampling import (
    ESTIMATORS,
    Sampling,
    choice_log_probability,
    choice_score,
    vector_jacobian,
)

CHUNK_ELEMENTS = 1 << 20
"""Elements of one (positions, V) block; some ten such blocks of fp32 are held at a time."""


def relax(
    logits: Tensor,
    tokens: Tensor,
    table: Tensor,
    estimator: str = "conditional_gumbel",
    tau: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Embed drawn tokens so that the gradient reaches every logit they were drawn from.

    Forward this is a plain gather. Backward, the gradient of the reward in the one-hot draw is
    that of the embeddings times tableᵀ, and the estimator's Jacobian takes it to the logits.

    Args:
        logits: (…, V) floating point, with gradient; of the distribution the tokens were drawn
            from, so divided by the sampling temperature and −inf where top-k excluded an id.
        tokens: (…) int64, the draws.
        table: (V, D), the reward model's token embeddings.
        estimator: one of `rrpo.sampling.ESTIMATORS`.
        tau: temperature of the relaxation.
        generator: a CPU generator for the noise; every estimator takes one number from it.

    Returns:
        (…, D), exactly `table[tokens]`.

    Raises:
        ValueError: unknown estimator, tau not positive, or shapes that do not fit.
    """
    size = logits.shape[-1]
    if logits.shape[:-1] != tokens.shape or size != table.shape[0]:
        raise ValueError(
            f"shapes do not fit: logits {tuple(logits.shape)}, tokens {tuple(tokens.shape)}, "
            f"table {tuple(table.shape)}"
        )
    # One integer keeps the noise: the backward pass draws it again, chunk by chunk.
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = Relaxation(table, estimator, tau, seed)
    found = choices(Logits(logits.reshape(-1, size)), tokens.reshape(-1), size, relaxation=drawn)
    return found.embeddings.view(*tokens.shape, -1)


@dataclass(frozen=True)
class Logits:
    """Logits of n choices, computed for a few of them at a time.

    Attributes:
        hidden: (n, D), hidden states, one row a choice; without a weight the logits themselves.
        weight: (V, D) of the output layer, or None.
        bias: (V,) of the output layer, or None.
    """

    hidden: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def size(self) -> int:
        """V, the number of ids."""
        return self.hidden.shape[1] if self.weight is None else self.weight.shape[0]

    def part(self, rows: slice, precision: torch.dtype | None) -> Tensor:
        """Return logits (m, V) in fp32 for some of the n positions."""
        if self.weight is None:
            return self.hidden[rows].float()
        dtype = precision or self.weight.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.linear(self.hidden[rows].to(dtype), self.weight.to(dtype), bias).float()


@dataclass(frozen=True)
class Relaxation:
    """How the draws of a pass are relaxed.

    Attributes:
        table: (codes, E), the embeddings that the drawn tokens are read through.
        estimator: one of `rrpo.sampling.ESTIMATORS`.
        tau: temperature of the relaxation.
        seed: of the noise; the same seed gives the same noise in every pass over these choices.
    """

    table: Tensor
    estimator: str
    tau: float
    seed: int

    def __post_init__(self) -> None:
        """Refuse what no estimator can use."""
        if self.estimator not in ESTIMATORS:
            known = ", ".join(ESTIMATORS)
            raise ValueError(f"unknown estimator {self.estimator!r}: choose one of {known}")
        if not self.tau > 0:
            raise ValueError(f"tau must be positive, got {self.tau}")


@dataclass(frozen=True)
class Choices:
    """What a pass says about n choices, all but the tokens differentiable in hidden and layer.

    Attributes:
        tokens: (n,) int64, what was chosen.
        log_probability: (n,), of each choice under the distribution it was drawn from.
        kl: (n,), KL(policy ‖ reference) over all V ids before temperature and truncation, in nats;
            zeros without a reference.
        embeddings: (n, E), of the tokens; zeros where the choice was to stop, and empty without a
            relaxation.
    """

    tokens: Tensor
    log_probability: Tensor
    kl: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class _Asked:
    """What `choices` was asked."""

    tokens: Tensor
    codes: int
    sampling: Sampling
    may_stop: Tensor
    reference: Logits | None
    relaxation: Relaxation | None
    redraw: torch.Generator | None
    precision: torch.dtype | None


def choices(
    logits: Logits,
    tokens: Tensor,
    codes: int,
    sampling: Sampling | None = None,
    may_stop: Tensor | None = None,
    reference: Logits | None = None,
    relaxation: Relaxation | None = None,
    redraw: torch.Generator | None = None,
) -> Choices:
    """Evaluate n choices without ever holding their logits.

    Args:
        logits: of the policy, with gradient; fp32, or a half precision the products are made in.
        tokens: (n,) int64, what was chosen.
        codes: ids from here on are stop symbols; drawing any of them is the same choice.
        sampling: what was drawn from; None: softmax(logits).
        may_stop: (n,) bool, false where the stop symbols were masked; None: they never were. A
            stop all the same is an end from outside and no choice: its log-probability is 0.
        reference: of the reference policy, hidden states of any width; gets no gradient.
        relaxation: how the reward's gradient reaches the logits of the codes, given no stop.
        redraw: a CPU generator; draw codes in the place of those given, stops stay.

    Raises:
        ValueError: an unknown estimator, or sizes that do not fit.
    """
    shape = (tokens.numel(), logits.size)
    if logits.hidden.shape[0] != shape[0] or not 0 < codes <= shape[1]:
        raise ValueError(
            f"sizes do not fit: {logits.hidden.shape[0]} hidden states, {shape[0]} tokens, "
            f"{codes} codes of {shape[1]} ids"
        )
    if reference is not None and (reference.hidden.shape[0], reference.size) != shape:
        found = (reference.hidden.shape[0], reference.size)
        raise ValueError(f"the reference does not fit: (states, ids) are {found}, not {shape}")
    if relaxation is not None and (rows := relaxation.table.shape[0]) != codes:
        raise ValueError(f"the relaxation does not fit: a table of {rows} rows for {codes} codes")
    if may_stop is None:
        may_stop = torch.ones(tokens.numel(), dtype=torch.bool, device=tokens.device)
    kind = logits.hidden.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    settings = (codes, sampling or Sampling(), may_stop, reference, relaxation, redraw, precision)
    table = None if relaxation is None else relaxation.table
    asked = (logits.hidden, logits.weight, logits.bias, table, _Asked(tokens, *settings))
    return Choices(*_Choices.apply(*asked))  # type: ignore[no-untyped-call]


class _Choices(torch.autograd.Function):
    """Chunks forward, the same chunks again backward."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        table: Tensor | None,
        asked: _Asked,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, tokens, codes = Logits(hidden, weight, bias), asked.tokens.clone(), asked.codes
        log_probability = torch.zeros(tokens.numel(), device=hidden.device)
        kl = torch.zeros_like(log_probability)
        for rows in _chunks(tokens.numel(), logits.size):
            theta = logits.part(rows, asked.precision)
            if asked.redraw is not None:
                drawn = asked.sampling.draw(theta[:, :codes], asked.redraw)
                tokens[rows] = torch.where(tokens[rows] < codes, drawn, tokens[rows])
            log_p = theta.log_softmax(-1)
            if asked.reference is not None:
                log_q = asked.reference.part(rows, asked.precision).log_softmax(-1)
                kl[rows] = (log_p.exp() * (log_p - log_q)).sum(-1)
            drawn_from = _drawn_from(theta, tokens[rows], asked, rows)
            if drawn_from is not None:
                log_p = drawn_from.log_softmax(-1)
            log_probability[rows] = choice_log_probability(
                log_p, tokens[rows], codes, asked.may_stop[rows]
            )
        embeddings = hidden.new_zeros(tokens.numel(), 0)
        if table is not None:
            kept = (tokens < codes)[:, None]
            embeddings = table[tokens.clamp(max=codes - 1)] * kept
        ctx.save_for_backward(hidden, weight, bias, table, tokens, kl)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(tokens)
        ctx.asked = asked  # type: ignore[attr-defined]
        return tokens, log_probability, kl, embeddings

    @staticmethod
    def backward(
        ctx: FunctionCtx, _: Tensor, *upstream: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, None]:
        hidden, weight, bias, table, tokens, kl = ctx.saved_tensors  # type: ignore[attr-defined]
        asked = replace(ctx.asked, tokens=tokens)  # type: ignore[attr-defined]
        precision = asked.precision or hidden.dtype
        needs_hidden, needs_weight, needs_bias, needs_table = ctx.needs_input_grad[:4]  # type: ignore[attr-defined]
        logits = Logits(hidden, weight, bias)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros(logits.size, device=hidden.device) if needs_bias else None
        needs_logits = needs_hidden or needs_weight or needs_bias
        for rows, gradient in (
            _gradients(logits, table, kl, asked, upstream) if needs_logits else ()
        ):
            if grad_bias is not None:
                grad_bias += gradient.sum(0)
            gradient = gradient.to(precision)
            if grad_hidden is not None:
                back = gradient if weight is None else gradient @ weight.to(precision)
                grad_hidden[rows] = back.to(hidden.dtype)
            if grad_weight is not None:
                grad_weight += gradient.T @ hidden[rows].to(precision)
        grad_table = None
        if needs_table:
            kept = tokens < asked.codes
            read = upstream[2][kept].to(table.dtype)
            grad_table = torch.zeros_like(table).index_add_(0, tokens[kept], read)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            grad_table,
            None,
        )


def _chunks(count: int, size: int) -> list[slice]:
    rows = max(1, CHUNK_ELEMENTS // size)
    return [slice(start, start + rows) for start in range(0, count, rows)]


def _drawn_from(logits: Tensor, drawn: Tensor, asked: _Asked, rows: slice) -> Tensor | None:
    """Return the logits (m, V) that the choices were drawn from; None: those given, as they are.

    They are scaled, and −inf where an id was cut off; masks `logits` in place.
    """
    sampling, may_stop = asked.sampling, asked.may_stop[rows]
    masked = not bool(may_stop.all())
    if not (sampling.cuts or masked or sampling.temperature != 1.0):
        return None
    if masked:
        logits[:, asked.codes :].masked_fill_(~may_stop[:, None], float("-inf"))
    theta = sampling.truncate(logits)
    if sampling.cuts:
        # Rounding may leave the drawn id outside the largest of this second pass.
        index = drawn[:, None]
        theta = theta.scatter(1, index, logits.gather(1, index) / sampling.temperature)
    return theta


def _gradients(
    logits: Logits, table: Tensor | None, kl: Tensor, asked: _Asked, upstream: tuple[Tensor, ...]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield for each chunk its place and the gradient (m, V) of its logits."""
    codes, temperature, relaxation = asked.codes, asked.sampling.temperature, asked.relaxation
    grad_log_probability, grad_kl, grad_embeddings = upstream
    of_choice, of_kl = bool(grad_log_probability.any()), bool(grad_kl.any())
    noise, transposed = torch.Generator(logits.hidden.device), None
    if relaxation is not None and table is not None:
        noise.manual_seed(relaxation.seed)
        transposed = table.T.float()
    for rows in _chunks(asked.tokens.numel(), logits.size):
        theta, drawn = logits.part(rows, asked.precision), asked.tokens[rows]
        log_p = theta.log_softmax(-1)
        if of_kl and asked.reference is not None:
            log_q = asked.reference.part(rows, asked.precision).log_softmax(-1)
            gradient = log_p.exp().mul_(grad_kl[rows, None])
            gradient *= (log_p - log_q).sub_(kl[rows, None])
        else:
            gradient = torch.zeros_like(theta)
        drawn_from = _drawn_from(theta, drawn, asked, rows)
        if of_choice:
            log_pi = log_p if drawn_from is None else drawn_from.log_softmax(-1)
            weight = grad_log_probability[rows, None] / temperature
            gradient += weight * choice_score(log_pi, drawn, codes, asked.may_stop[rows])
        kept = (drawn < codes).nonzero()[:, 0]
        if relaxation is not None and transposed is not None and kept.numel():
            found = vector_jacobian(
                (theta if drawn_from is None else drawn_from)[kept, :codes],
                drawn[kept],
                grad_embeddings[rows][kept].float() @ transposed,
                relaxation.estimator,
                relaxation.tau,
                noise,
            )
            gradient[kept, :codes] += found / temperature
        yield rows, gradient

"""The output layer, the KL, the log-probabilities and the relaxation in one pass over chunks.

Dense, the logits of a batch are (n, V), and the softmax, the reference's softmax and their
gradients are as many again. Here forward and backward each go over a few positions at a time and
make their logits anew from the hidden states, so that the memory beside inputs and outputs is that
of one chunk; it costs one more product with the output matrix (two with a reference).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rrpo.policy.rollout import draw, truncate
from rrpo.relax import ESTIMATORS, vector_jacobian

CHUNK_ELEMENTS = 1 << 20
"""Elements of one (positions, V) block; some ten such blocks of fp32 are held at a time."""


@dataclass(frozen=True)
class Output:
    """Hidden states and the layer that makes logits of them.

    Attributes:
        hidden: (n, D), one row a choice.
        weight: (V, D).
        bias: (V,) or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class Law:
    """What a choice was drawn from: softmax(logits / temperature), the unlikely ids cut off.

    Attributes:
        codes: ids from here on are stop symbols; drawing any of them is the same choice.
        temperature, top_k, top_p: as in `rrpo.policy.rollout.truncate`.
    """

    codes: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class Relaxation:
    """How the draws of a pass are relaxed.

    Attributes:
        table: (codes, E), the embeddings that the drawn tokens are read through.
        estimator: one of `rrpo.relax.ESTIMATORS`.
        tau: temperature of the relaxation.
        seed: of the noise; the same seed gives the same noise in every pass over these choices.
    """

    table: Tensor
    estimator: str
    tau: float
    seed: int


@dataclass(frozen=True)
class Choices:
    """What a pass says about n choices, each differentiable in the hidden states and the layer.

    Attributes:
        log_probability: (n,), of each choice under its law.
        kl: (n,), KL(policy ‖ reference) over all V ids before temperature and truncation, in nats;
            zeros without a reference.
        embeddings: (n, E), of the drawn tokens; zeros where the choice was to stop, and empty
            without a relaxation.
    """

    log_probability: Tensor
    kl: Tensor
    embeddings: Tensor


def choices(
    output: Output,
    tokens: Tensor,
    law: Law,
    may_stop: Tensor | None = None,
    reference: Output | None = None,
    relaxation: Relaxation | None = None,
) -> Choices:
    """Evaluate n choices without ever holding their logits.

    Args:
        output: of the policy, with gradient; fp32, or a half precision the products are made in.
        tokens: (n,) int64, what was chosen; any id from `law.codes` on means to stop.
        law: what was drawn from.
        may_stop: (n,) bool, false where the stop symbols were masked; None: they never were. A
            stop all the same is an end from outside and no choice: its log-probability is 0.
        reference: of the reference policy, n hidden states of any width; gets no gradient.
        relaxation: how the reward's gradient reaches the logits of the codes, renormalised: given
            that the choice is not to stop.

    Raises:
        ValueError: an unknown estimator, or sizes that do not fit.
    """
    count, size = tokens.numel(), output.weight.shape[0]
    if output.hidden.shape[0] != count or not 0 < law.codes <= size:
        raise ValueError(
            f"sizes do not fit: {output.hidden.shape[0]} hidden states, {count} tokens, "
            f"{law.codes} codes of {size} ids"
        )
    if reference is not None and (
        reference.hidden.shape[0] != count or reference.weight.shape[0] != size
    ):
        raise ValueError(
            f"the reference does not fit: {reference.hidden.shape[0]} hidden states and "
            f"{reference.weight.shape[0]} ids for {count} and {size}"
        )
    if relaxation is not None:
        if relaxation.estimator not in ESTIMATORS:
            known = ", ".join(ESTIMATORS)
            raise ValueError(f"unknown estimator {relaxation.estimator!r}: choose one of {known}")
        if relaxation.table.shape[0] != law.codes or not relaxation.tau > 0:
            raise ValueError(
                f"the relaxation does not fit: a table of {relaxation.table.shape[0]} rows for "
                f"{law.codes} codes, tau {relaxation.tau}"
            )
    if may_stop is None:
        may_stop = torch.ones(count, dtype=torch.bool, device=tokens.device)
    kind = output.hidden.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    rest = (tokens, law, may_stop, reference, relaxation, precision)
    table = None if relaxation is None else relaxation.table
    return Choices(
        *_Choices.apply(output.hidden, output.weight, output.bias, table, rest)  # type: ignore[no-untyped-call]
    )


@torch.no_grad()
def draw_codes(output: Output, law: Law, generator: torch.Generator | None = None) -> Tensor:
    """Draw one code for each of n positions, (n,) int64, given that none of them is an end.

    Args:
        output: of the policy.
        law: what is drawn from, over the codes alone.
        generator: a CPU generator.
    """
    kind = output.hidden.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    drawn = torch.empty(output.hidden.shape[0], dtype=torch.int64, device=output.hidden.device)
    for part in _parts(drawn.numel(), output.weight.shape[0]):
        logits = _logits(output, part, precision)[:, : law.codes]
        drawn[part] = draw(truncate(logits, law.temperature, law.top_k, law.top_p), generator)
    return drawn


class _Choices(torch.autograd.Function):
    """Chunks forward, the same chunks again backward."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        table: Tensor | None,
        rest: tuple[Any, ...],
    ) -> tuple[Tensor, Tensor, Tensor]:
        tokens, law, may_stop, reference, _, precision = rest
        output = Output(hidden, weight, bias)
        log_probability = torch.zeros(tokens.numel(), device=hidden.device)
        kl = torch.zeros_like(log_probability)
        for part in _parts(tokens.numel(), weight.shape[0]):
            logits, drawn = _logits(output, part, precision), tokens[part]
            log_p = logits.log_softmax(-1)
            if reference is not None:
                log_q = _logits(reference, part, precision).log_softmax(-1)
                kl[part] = (log_p.exp() * (log_p - log_q)).sum(-1)
            theta = _law_logits(logits, drawn, law, may_stop[part])
            if theta is not None:
                log_p = theta.log_softmax(-1)
            log_probability[part] = _chosen(log_p, drawn, law.codes, may_stop[part])
        embeddings = hidden.new_zeros(tokens.numel(), 0)
        if table is not None:
            kept = (tokens < law.codes)[:, None]
            embeddings = table[tokens.clamp(max=law.codes - 1)] * kept
        ctx.save_for_backward(hidden, weight, bias, table, kl)  # type: ignore[arg-type]
        ctx.rest = rest  # type: ignore[attr-defined]
        return log_probability, kl, embeddings

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad_log_probability: Tensor, grad_kl: Tensor, grad_embeddings: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, None]:
        hidden, weight, bias, table, kl = ctx.saved_tensors  # type: ignore[attr-defined]
        rest = ctx.rest  # type: ignore[attr-defined]
        tokens, law = rest[:2]
        precision = rest[-1] or hidden.dtype
        needs_hidden, needs_weight, needs_bias, needs_table = ctx.needs_input_grad[:4]  # type: ignore[attr-defined]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros(weight.shape[0], device=hidden.device) if needs_bias else None
        upstream = (grad_log_probability, grad_kl, grad_embeddings)
        chunks = _gradients(Output(hidden, weight, bias), table, kl, rest, upstream)
        for part, gradient in chunks:
            if grad_bias is not None:
                grad_bias += gradient.sum(0)
            gradient = gradient.to(precision)
            if grad_hidden is not None:
                grad_hidden[part] = (gradient @ weight.to(precision)).to(hidden.dtype)
            if grad_weight is not None:
                grad_weight += gradient.T @ hidden[part].to(precision)
        grad_table = None
        if needs_table:
            kept = tokens < law.codes
            rows = grad_embeddings[kept].to(table.dtype)
            grad_table = torch.zeros_like(table).index_add_(0, tokens[kept], rows)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            grad_table,
            None,
        )


def _parts(count: int, size: int) -> list[slice]:
    rows = max(1, CHUNK_ELEMENTS // size)
    return [slice(start, start + rows) for start in range(0, count, rows)]


def _logits(output: Output, part: slice, precision: torch.dtype | None) -> Tensor:
    """Return logits (m, V) in fp32 for some of the n positions."""
    dtype = precision or output.weight.dtype
    bias = None if output.bias is None else output.bias.to(dtype)
    return F.linear(output.hidden[part].to(dtype), output.weight.to(dtype), bias).float()


def _law_logits(logits: Tensor, drawn: Tensor, law: Law, may_stop: Tensor) -> Tensor | None:
    """Return the logits (m, V) of the law of the draw, or None where it is the plain softmax.

    They are scaled, and −inf where an id was cut off; masks `logits` in place.
    """
    cut = law.top_k > 0 or law.top_p < 1.0
    masked = not bool(may_stop.all())
    if not (cut or masked or law.temperature != 1.0):
        return None
    if masked:
        logits[:, law.codes :].masked_fill_(~may_stop[:, None], float("-inf"))
    theta = truncate(logits, law.temperature, law.top_k, law.top_p)
    if cut:
        # Rounding may leave the drawn id outside the largest of this second pass.
        index = drawn[:, None]
        theta = theta.scatter(1, index, logits.gather(1, index) / law.temperature)
    return theta


def _chosen(log_p: Tensor, drawn: Tensor, codes: int, may_stop: Tensor) -> Tensor:
    """Return the log-probability (m,) of each choice; stopping is the sum over all stop symbols."""
    one = log_p.gather(1, drawn[:, None])[:, 0]
    stops = drawn >= codes
    if not bool(stops.any()):
        return one
    one = torch.where(stops, log_p[:, codes:].logsumexp(-1), one)
    return one.masked_fill(stops & ~may_stop, 0.0)


def _gradients(
    output: Output,
    table: Tensor | None,
    kl: Tensor,
    rest: tuple[Any, ...],
    upstream: tuple[Tensor, Tensor, Tensor],
) -> Iterator[tuple[slice, Tensor]]:
    """Yield for each chunk its place and the gradient (m, V) of its logits."""
    tokens, law, may_stop, reference, relaxation, precision = rest
    grad_log_probability, grad_kl, grad_embeddings = upstream
    of_choice, of_kl = bool(grad_log_probability.any()), bool(grad_kl.any())
    noise, transposed = torch.Generator(output.hidden.device), None
    if relaxation is not None and table is not None:
        noise.manual_seed(relaxation.seed)
        transposed = table.T.float()
    for part in _parts(tokens.numel(), output.weight.shape[0]):
        logits, drawn = _logits(output, part, precision), tokens[part]
        log_p = logits.log_softmax(-1)
        if of_kl and reference is not None:
            log_q = _logits(reference, part, precision).log_softmax(-1)
            gradient = log_p.exp().mul_(grad_kl[part, None])
            gradient *= (log_p - log_q).sub_(kl[part, None])
        else:
            gradient = torch.zeros_like(logits)
        theta = _law_logits(logits, drawn, law, may_stop[part])
        if of_choice:
            log_pi = log_p if theta is None else theta.log_softmax(-1)
            weight = grad_log_probability[part, None] / law.temperature
            gradient += weight * _score(log_pi, drawn, law.codes, may_stop[part])
        rows = (drawn < law.codes).nonzero()[:, 0]
        if transposed is not None and rows.numel():
            found = vector_jacobian(
                (logits if theta is None else theta)[rows, : law.codes],
                drawn[rows],
                grad_embeddings[part][rows].float() @ transposed,
                relaxation.estimator,
                relaxation.tau,
                noise,
            )
            gradient[rows, : law.codes] += found / law.temperature
        yield part, gradient


def _score(log_p: Tensor, drawn: Tensor, codes: int, may_stop: Tensor) -> Tensor:
    """Return ∂ log p(choice) / ∂θ, (m, V): what the choice holds of the draw, minus p."""
    p = log_p.exp()
    held = torch.zeros_like(p).scatter_(1, drawn[:, None], 1.0)
    stops = drawn >= codes
    if bool(stops.any()):
        held[stops] = 0.0
        held[stops, codes:] = log_p[stops, codes:].softmax(-1)
    return held.sub_(p).masked_fill_((stops & ~may_stop)[:, None], 0.0)

"""Gradients through token choices: relaxed tokens, log-probabilities and the KL in one pass.

Forward and backward each go over a few positions at a time and compute their logits (n, V) from the
hidden states, so that the memory beside inputs and outputs is that of one chunk. Of a small batch
the KL's gradient is kept from the way forward, and of a draw among few ids only these are relaxed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from rrpo.sampling import (
    Noise,
    Relaxation,
    Sampling,
    choice_log_probability,
    choice_score,
    vector_jacobian,
)

CHUNK_ELEMENTS = 1 << 20
"""Elements of one (positions, V) block; some ten such blocks of fp32 are held at a time."""
KEPT_ELEMENTS = 1 << 24
"""Up to so many elements the KL's gradient (n, V) is kept between the two ways."""


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
            return self.hidden[rows].to(torch.float32, copy=True)  # it may be masked in place
        dtype = precision or self.weight.dtype
        found = (self.hidden[rows].to(dtype) @ self.weight.to(dtype).T).float()
        # Not in the product, which would first write the bias into every row.
        return found if self.bias is None else found.add_(self.bias)


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
    count, shape = logits.hidden.shape[0], (tokens.numel(), logits.size)
    if count != shape[0] or not 0 < codes <= shape[1]:
        sizes = f"{count} hidden states, {shape[0]} tokens, {codes} codes of {shape[1]} ids"
        raise ValueError(f"sizes do not fit: {sizes}")
    if reference is not None and (found := (reference.hidden.shape[0], reference.size)) != shape:
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
    with torch.autocast(kind, enabled=False):  # which would make the sums in half precision, too
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
        slope, few = None, []
        if asked.reference is not None and tokens.numel() * logits.size <= KEPT_ELEMENTS:
            slope = hidden.new_empty(tokens.numel(), logits.size, dtype=torch.float32)
        for rows in _chunks(tokens.numel(), logits.size):
            theta = logits.part(rows, asked.precision)
            if asked.redraw is not None:
                drawn = asked.sampling.draw(theta[:, :codes], asked.redraw)
                tokens[rows] = torch.where(tokens[rows] < codes, drawn, tokens[rows])
            log_p = theta.log_softmax(-1)
            if asked.reference is not None:
                log_q = asked.reference.part(rows, asked.precision).log_softmax(-1)
                kept = None if slope is None else slope[rows]
                kl[rows] = _divergence(log_p, log_q, kept)[0]
            drawn_from, *largest = _drawn_from(theta, tokens[rows], asked, rows)
            few.append(largest)
            if drawn_from is not theta or not bool(asked.may_stop[rows].all()):
                log_p = drawn_from.log_softmax(-1)
            log_probability[rows] = choice_log_probability(
                log_p, tokens[rows], codes, asked.may_stop[rows]
            )
        values, ids = map(torch.cat, zip(*few, strict=True)) if few and few[0] else (None, None)
        embeddings = hidden.new_zeros(tokens.numel(), 0)
        if table is not None:
            embeddings = table[tokens.clamp(max=codes - 1)] * (tokens < codes)[:, None]
        ctx.save_for_backward(hidden, weight, bias, table, tokens, slope, values, ids)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(tokens)
        ctx.asked = asked  # type: ignore[attr-defined]
        return tokens, log_probability, kl, embeddings

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, _: Tensor, *upstream: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, None]:
        with torch.autocast(upstream[0].device.type, enabled=False):
            hidden, weight, bias, table, tokens, *kept = ctx.saved_tensors  # type: ignore[attr-defined]
            asked = replace(ctx.asked, tokens=tokens)  # type: ignore[attr-defined]
            precision = asked.precision or hidden.dtype
            needs_hidden, needs_weight, needs_bias, needs_table = ctx.needs_input_grad[:4]  # type: ignore[attr-defined]
            logits = Logits(hidden, weight, bias)
            grad_hidden = torch.empty_like(hidden) if needs_hidden else None
            grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
            grad_bias = torch.zeros(logits.size, device=hidden.device) if needs_bias else None
            wanted = needs_hidden or needs_weight or needs_bias
            found = _gradients(logits, table, _Kept(*kept), asked, upstream) if wanted else ()
            for rows, gradient in found:
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
                codes = tokens < asked.codes
                read = upstream[2][codes].to(table.dtype)
                grad_table = torch.zeros_like(table).index_add_(0, tokens[codes], read)
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


class _Kept(NamedTuple):
    """What the way forward leaves for the way back.

    Attributes:
        slope: (n, V), the KL's gradient in the logits, of a small batch.
        values, ids: (n, k), the scaled logits and ids that a draw was among, of a draw from few.
    """

    slope: Tensor | None
    values: Tensor | None
    ids: Tensor | None


def _divergence(log_p: Tensor, log_q: Tensor, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return KL(p ‖ q) (m,) and its gradient (m, V) in the logits of p: p (log p/q − KL).

    The gradient is written `into` what is given; log_q is overwritten.
    """
    p, difference = log_p.exp(), torch.sub(log_p, log_q, out=log_q)
    kl = torch.linalg.vecdot(p, difference)
    return kl, torch.mul(p, difference.sub_(kl[:, None]), out=p if into is None else into)


def _drawn_from(logits: Tensor, drawn: Tensor, asked: _Asked, rows: slice) -> list[Tensor]:
    """Return the logits (m, V) that the choices were drawn from, −inf where an id was cut off.

    Masks `logits` in place. Where few ids were left, their logits and ids follow, (m, k) each.
    """
    sampling, may_stop = asked.sampling, asked.may_stop[rows]
    if not bool(may_stop.all()):
        logits[:, asked.codes :].masked_fill_(~may_stop[:, None], float("-inf"))
    if not sampling.cuts:
        return [sampling.truncate(logits)]
    # Rounding may leave the drawn id outside the largest of this second pass: there it takes the
    # place of the least. A stop is one choice, whichever id was drawn: one that is left is enough.
    index, stops = drawn[:, None], drawn[:, None] >= asked.codes
    value = logits.gather(1, index) / sampling.temperature
    if not sampling.keeps_few(logits.shape[1]):
        found = sampling.truncate(logits)
        there = stops & found[:, asked.codes :].isfinite().any(1, keepdim=True)
        value = torch.where(there, found.gather(1, index), value)
        return [found.scatter(1, index, value)]
    values, ids = sampling.largest(logits)
    same = torch.where(stops, (ids >= asked.codes) & values.isfinite(), ids == index)
    place = values.nan_to_num().masked_fill(same, float("-inf")).argmin(1, keepdim=True)
    there = same.gather(1, place)
    values, ids = (
        found.scatter(1, place, torch.where(there, found.gather(1, place), new))
        for found, new in ((values, value), (ids, index))
    )
    return [torch.full_like(logits, float("-inf")).scatter_(1, ids, values), values, ids]


def _gradients(
    logits: Logits, table: Tensor | None, kept: _Kept, asked: _Asked, upstream: tuple[Tensor, ...]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield for each chunk its place and the gradient (m, V) of its logits."""
    of_log_probability, of_kl, of_embeddings = upstream
    chosen, relaxation = bool(of_log_probability.any()), asked.relaxation
    noise = Noise(0 if relaxation is None else relaxation.seed, logits.hidden.device)
    of_all = relaxation is not None and kept.ids is None
    for rows in _chunks(asked.tokens.numel(), logits.size):
        drawn = asked.tokens[rows]
        gradient = _of_kl(logits, kept, asked, rows, of_kl[rows, None])
        if chosen or of_all:
            theta = _drawn_from(logits.part(rows, asked.precision), drawn, asked, rows)[0]
            if chosen:
                score = choice_score(
                    theta.log_softmax(-1), drawn, asked.codes, asked.may_stop[rows]
                )
                gradient += of_log_probability[rows, None] / asked.sampling.temperature * score
        if relaxation is not None and table is not None:
            among = None
            if kept.values is not None and kept.ids is not None:
                theta, among = kept.values[rows], kept.ids[rows]
            _add_relaxed(gradient, theta, among, drawn, of_embeddings[rows], table, asked, noise)
        yield rows, gradient


def _of_kl(logits: Logits, kept: _Kept, asked: _Asked, rows: slice, upstream: Tensor) -> Tensor:
    """Return the gradient (m, V) of the logits through the KL; zeros without a reference."""
    if asked.reference is None or not bool(upstream.any()):
        return torch.zeros(upstream.shape[0], logits.size, device=upstream.device)
    if kept.slope is not None:
        return kept.slope[rows] * upstream
    theta, other = (one.part(rows, asked.precision) for one in (logits, asked.reference))
    return _divergence(theta.log_softmax(-1), other.log_softmax(-1))[1].mul_(upstream)


def _add_relaxed(
    gradient: Tensor,
    theta: Tensor,
    among: Tensor | None,
    drawn: Tensor,
    upstream: Tensor,
    table: Tensor,
    asked: _Asked,
    noise: Noise,
) -> None:
    """Add the gradient through the embeddings of the drawn codes to that of the logits (m, V).

    Args:
        theta: (m, V) what was drawn from, or (m, k) the logits of the ids `among`, the only ones.
        upstream: (m, E) of the embeddings.
    """
    is_code = drawn < asked.codes
    if asked.relaxation is None or not bool(is_code.any()):
        return
    upstream = upstream.float() / asked.sampling.temperature
    drawn = drawn.clamp(max=asked.codes - 1)
    if among is None:
        theta, place = theta[:, : asked.codes], drawn
        of_draw = upstream @ table.T.float()
    else:
        theta = theta.masked_fill(among >= asked.codes, float("-inf"))
        place = (among == drawn[:, None]).int().argmax(1)
        read = table[among.clamp(max=asked.codes - 1)].float()
        of_draw = torch.linalg.vecdot(read, upstream[:, None])
    estimator, tau = asked.relaxation.estimator, asked.relaxation.tau
    found = vector_jacobian(theta, place, of_draw, estimator, tau, noise)
    found[~is_code] = 0.0  # a stop has no embedding, and may have been the only id left
    if among is None:
        gradient[:, : asked.codes] += found
    else:
        gradient.scatter_add_(1, among, found)

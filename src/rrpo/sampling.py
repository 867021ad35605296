"""The draw of a token: its distribution, its log-probability, and gradients through it.

An estimator's Jacobian takes the gradient g of the reward in the one-hot draw to the logits it was
drawn from. Written: θ the logits of one position, π = softmax θ, D the one-hot draw,
J(s) = diag(s) − s sᵀ.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NUCLEUS, TOP, WINDOW, REPEATS = 0.8, 25, 10, 1
"""CosyVoice's repetition-aware sampling: top-p, top-k, tokens looked back, repeats refused."""
ESTIMATORS = ("straight_through", "conditional_gumbel", "gumbel_rao", "reinmax", "gapped")
GUMBEL_RAO_DRAWS = 8
GAP = 1.0
SMALLEST = 2.0**-25
"""The least that an exponential number may be: with 0 a share could be 0 / 0."""


@dataclass(frozen=True)
class Sampling:
    """A distribution over ids: softmax(logits / temperature), the unlikely ids cut off.

    Kept are the k largest (`top_k` = 0: all) and of those, in falling order, the ids until they sum
    to `top_p` of all probability.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def cuts(self) -> bool:
        """Whether unlikely ids are cut off."""
        return self.top_k > 0 or self.top_p < 1.0

    def keeps_few(self, size: int) -> bool:
        """Whether at most `top_k` of `size` ids are kept, so that they are worth listing."""
        return 0 < self.top_k < size

    def largest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits / temperature (…, k) of the k largest, and their ids (…, k), ascending.

        Those that `top_p` cuts off are −inf. Of equal logits at the k-th place some are kept.
        """
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        values, ids = scaled.topk(self.top_k, dim=-1)
        if self.top_p < 1.0:
            share = (values.float() - scaled.float().logsumexp(-1, keepdim=True)).exp()
            before = share.cumsum(-1) - share
            values = values.masked_fill(before >= self.top_p, float("-inf"))
        ids, order = ids.sort(dim=-1)
        return values.gather(-1, order), ids

    def truncate(self, logits: Tensor) -> Tensor:
        """Return logits / temperature (…, V) with all but the likeliest ids at −inf.

        A relaxation of the draw must see these logits.
        """
        size = logits.shape[-1]
        if self.keeps_few(size):
            values, ids = self.largest(logits)
            return torch.full_like(logits, float("-inf")).scatter(-1, ids, values)
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        if self.top_p < 1.0:
            return nucleus(scaled.reshape(-1, size), self.top_p, size).view(logits.shape)
        return scaled

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw one id per row of logits, (B, V) → (B,)."""
        if not self.keeps_few(logits.shape[-1]):
            return draw(self.truncate(logits), generator)
        values, ids = self.largest(logits)
        return ids.gather(1, draw(values, generator)[:, None])[:, 0]


def draw(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one id per row from softmax(scores), (B, V) → (B,), by inverting the distribution.

    One uniform number a row; summed in float64, so that an id of no probability is never drawn.
    """
    probability = scores.softmax(-1)
    if probability.device.type == "mps":  # which has no float64
        probability = probability.cpu()
    cumulative = probability.double().cumsum(-1)
    uniform = torch.rand(scores.shape[0], 1, dtype=torch.float64, generator=generator)
    point = uniform.to(cumulative.device) * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, point, right=True).clamp_(max=scores.shape[1] - 1)
    return found[:, 0].to(scores.device)


def nucleus(scores: Tensor, top_p: float, top_k: int) -> Tensor:
    """Return scores (B, V) with all but the likeliest at −inf.

    Kept are the largest while those before them sum to less than top_p, at most top_k; so the id
    that crosses top_p is kept, as CosyVoice does.
    """
    ordered, order = scores.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = before < top_p
    kept[:, top_k:] = False
    return scores.masked_fill(~torch.zeros_like(kept).scatter(1, order, kept), float("-inf"))


def draw_aware(scores: Tensor, history: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one id per row as CosyVoice's repetition-aware sampling does (Chen 2024, VALL-E 2).

    A draw from the nucleus that is among the last ten tokens is refused; then the row is drawn from
    all other ids.

    Args:
        scores: (B, V).
        history: (B, t) the tokens so far.
    """
    token = draw(nucleus(scores, NUCLEUS, TOP), generator)
    again = (history[:, -WINDOW:] == token[:, None]).sum(1) >= REPEATS
    others = scores.scatter(1, token[:, None], float("-inf"))
    return torch.where(again, draw(others, generator), token)


@dataclass(frozen=True)
class Relaxation:
    """How the draws of a pass are relaxed.

    Attributes:
        table: (codes, E), the embeddings that the drawn tokens are read through.
        estimator: one of `ESTIMATORS`.
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
        if not 0 < self.tau < float("inf"):
            raise ValueError(f"tau must be positive and finite, got {self.tau}")
        if self.seed < 0:
            raise ValueError(f"the seed of the noise must not be negative, got {self.seed}")


class Noise:
    """The noise of a pass: numbers of Exp(1), of a seed and a device, one after the other."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        """Seed it; on a CPU numpy makes the numbers, in a fifth of torch's time."""
        self.device = torch.device(device)
        self._of_cpu = np.random.Generator(np.random.SFC64(seed))
        self._of_device = torch.Generator(self.device).manual_seed(seed)

    def exponential(self, rows: int, size: int) -> Tensor:
        """Return the next (rows, size) numbers, fp32, at least `SMALLEST`."""
        if self.device.type == "cpu":
            made = torch.from_numpy(self._of_cpu.standard_exponential((rows, size), np.float32))
        else:
            made = torch.empty(rows, size, device=self.device)
            made.exponential_(generator=self._of_device)
        return made.clamp_(min=SMALLEST)


def vector_jacobian(
    theta: Tensor, drawn: Tensor, g: Tensor, estimator: str, tau: float, noise: Noise
) -> Tensor:
    """Return the estimated gradient (n, V) of the logits from g (n, V)."""
    if estimator == "straight_through":
        return softmax_jacobian((theta / tau).softmax(-1), g) / tau
    if estimator == "conditional_gumbel":
        return softmax_jacobian(conditional_gumbel(theta, drawn, tau, noise), g).div_(tau)
    if estimator == "gumbel_rao":
        total = torch.zeros_like(theta)
        for _ in range(GUMBEL_RAO_DRAWS):
            total += softmax_jacobian(conditional_gumbel(theta, drawn, tau, noise), g)
        return total / (tau * GUMBEL_RAO_DRAWS)
    if estimator == "gapped":
        return softmax_jacobian((gapped(theta, drawn) / tau).softmax(-1), g) / tau
    return reinmax(theta, drawn, g, tau)


def softmax_jacobian(s: Tensor, g: Tensor) -> Tensor:
    """Return J(s)·g with J(s) = diag(s) − s sᵀ, row by row; s and g (n, V).

    Straight-through (Bengio et al. 2013) is J(softmax(θ/τ))·g/τ.
    """
    inner: Tensor = torch.linalg.vecdot(s, g)
    return (g - inner[:, None]).mul_(s)


def conditional_gumbel(theta: Tensor, drawn: Tensor, tau: float, noise: Noise) -> Tensor:
    """Draw a Gumbel-Softmax (n, V) at τ of logits (n, V), given that its arg-max is `drawn` (n,).

    With E_j ~ Exp(1) and p = softmax θ, the Gumbel-perturbed logit of the drawn i is −log E_i,
    another's −log(E_j / p_j + E_i) (Maddison et al. 2014), up to one constant. So beside the drawn
    one's, which is the largest, another's exponential is r_j = p_j E_i / (E_j + p_j E_i), r_i = 1,
    and the softmax at τ is r^(1/τ) over its sum: no logarithm is needed. The noise is a constant:
    no gradient passes through it. In expectation over draws this is the straight-through
    Gumbel-Softmax (Jang et al. 2017). Ids under 1e-38 of the likeliest get nothing, which is felt
    where τ lies above 10.
    """
    exponential, index = noise.exponential(*theta.shape), drawn[:, None]
    scaled = theta.softmax(-1).mul_(exponential.gather(1, index))
    share = scaled.div_(exponential.add_(scaled)).scatter_(1, index, 1.0)
    if tau != 1.0:
        share.pow_(1 / tau)
    return share.div_(share.sum(-1, keepdim=True))


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


def choice_log_probability(log_p: Tensor, drawn: Tensor, codes: int, may_stop: Tensor) -> Tensor:
    """Return the log-probability (m,) of each choice; stopping is the sum over all stop symbols.

    Args:
        log_p: (m, V).
        drawn: (m,) int64; any id from `codes` on is a stop.
        may_stop: (m,) bool; a stop elsewhere was no choice, its log-probability is 0.
    """
    one = log_p.gather(1, drawn[:, None])[:, 0]
    stops = drawn >= codes
    if not bool(stops.any()):
        return one
    one = torch.where(stops, log_p[:, codes:].logsumexp(-1), one)
    return one.masked_fill(stops & ~may_stop, 0.0)


def choice_score(log_p: Tensor, drawn: Tensor, codes: int, may_stop: Tensor) -> Tensor:
    """Return ∂ log p(choice) / ∂θ, (m, V): the choice's share of the draw, minus p.

    Arguments as of `choice_log_probability`, whose gradient in the logits this is.
    """
    p = log_p.exp()
    share = torch.zeros_like(p).scatter_(1, drawn[:, None], 1.0)
    stops = drawn >= codes
    if bool(stops.any()):
        share[stops] = 0.0
        share[stops, codes:] = log_p[stops, codes:].softmax(-1)
    return share.sub_(p).masked_fill_((stops & ~may_stop)[:, None], 0.0)

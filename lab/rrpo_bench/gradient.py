"""How good is each estimator's gradient? An audit on the frozen rollouts of a policy.

The reference is REINFORCE with a leave-one-out baseline (RLOO), which is unbiased and noisy. Every
inner product is taken between different blocks of rollouts only, so that the noise of a block is
never compared with itself (the split-half correction, over all splits): what is estimated is the
angle between expectations, not between noisy means. Intervals are by jackknife over the blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from scipy.special import stdtrit
from torch import Tensor

from rrpo.errors import UserError
from rrpo.interval import MISSING, Interval, cell
from rrpo.objectives.grpo import group_advantage
from rrpo.objectives.on_policy import Estimator, OnPolicy
from rrpo.policy.rollout import Rollouts
from rrpo.progress import Progress
from rrpo.reward.differentiable import score, weighted_sum
from rrpo.sampling import ESTIMATORS
from rrpo_bench.measure import Measurement, measurement

SKETCH = 1 << 21
"""Greatest length of a stored gradient; a longer one is folded with random signs."""
EVERY = tuple(Estimator(name) for name in ESTIMATORS)
VARIANTS = (
    Estimator("conditional_gumbel", tau=0.5),
    Estimator("conditional_gumbel", tau=2.0),
    Estimator("gumbel_rao", tau=0.5),
    Estimator("straight_through", tau=2.0),
    Estimator("conditional_gumbel", passes=2),
)
"""What else is worth a look; context passes cost most."""
REFERENCE = "RLOO"


@dataclass(frozen=True)
class Size:
    """How much is drawn.

    Attributes:
        blocks: of rollouts.
        prompts: the same ones in each block.
        group: utterances of each prompt in a block.
        reference: how many times as many for RLOO, whose noise is what limits the comparison.
    """

    blocks: int = 16
    prompts: int = 8
    group: int = 8
    reference: int = 4


def sketch(gradients: Sequence[Tensor], seed: int = 0) -> Tensor:
    """Return a vector (≤ SKETCH,) whose inner products are those of the gradients laid end to end.

    Exactly so up to SKETCH entries. Longer ones get random signs and are folded (Charikar et al.
    2002): an inner product of a and b is then right on average, and off by about
    ‖a‖·‖b‖ / √SKETCH.
    """
    flat = torch.cat([gradient.detach().float().flatten() for gradient in gradients])
    if flat.numel() <= SKETCH:
        return flat
    generator = torch.Generator(flat.device).manual_seed(seed)
    signs = torch.randint(2, flat.shape, generator=generator, device=flat.device, dtype=torch.int8)
    flat = torch.nn.functional.pad(flat * (2 * signs - 1), (0, -flat.numel() % SKETCH))
    return flat.view(-1, SKETCH).sum(0)


def compare(reference: Tensor, estimate: Tensor) -> dict[str, Interval | None]:
    """Compare the expectations of two kinds of gradient, known from M blocks each.

    Args:
        reference, estimate: (M, N), a gradient a block; the noise of one block may be shared.

    Returns:
        "cosine" of the expectations and "error", ‖E estimate − E reference‖ / ‖E reference‖, each
        with its 95 % interval; None where the blocks hold only noise.
    """
    grams = (reference @ reference.T, reference @ estimate.T, estimate @ estimate.T)
    products = tuple(gram.double() for gram in grams)
    count = reference.shape[0]
    return {
        "cosine": _jackknife(products, _cosine, count),
        "error": _jackknife(products, _error, count),
    }


def noise(blocks: Tensor, utterances: int) -> float | None:
    """Return the standard deviation of one utterance's gradient over the norm of its expectation.

    Args:
        blocks: (M, N), each the mean over `utterances`; None where they hold only noise.
    """
    gram = (blocks @ blocks.T).double()
    expected, _, _ = _expectations((gram, gram, gram))
    if expected <= 0:
        return None
    spread = (gram.diagonal().mean() - expected).clamp(min=0) * utterances
    return float((spread / expected).sqrt())


Products = tuple[Tensor, ...]


def _expectations(products: Products) -> tuple[Tensor, Tensor, Tensor]:
    """Return ‖E a‖², E a · E b and ‖E b‖² from Gram matrices, pairs of different blocks alone."""
    count = products[0].shape[0]
    first, second, third = (
        (gram.sum() - gram.diagonal().sum()) / (count * (count - 1)) for gram in products
    )
    return first, second, third


def _cosine(products: Products) -> float | None:
    first, both, second = _expectations(products)
    return None if min(first, second) <= 0 else float(both / (first * second).sqrt())


def _error(products: Products) -> float | None:
    first, both, second = _expectations(products)
    if first <= 0:
        return None
    return float(((first - 2 * both + second).clamp(min=0) / first).sqrt())


def _jackknife(
    products: Products, statistic: Callable[[Products], float | None], count: int
) -> Interval | None:
    whole = statistic(products)
    left_out = []
    for index in range(count):
        kept = torch.arange(count) != index
        left_out.append(statistic(tuple(gram[kept][:, kept] for gram in products)))
    found = [value for value in left_out if value is not None]
    if whole is None or len(found) < count:
        return None
    values = torch.tensor(found, dtype=torch.float64)
    spread = ((values - values.mean()).square().sum() * (count - 1) / count).sqrt()
    half = float(stdtrit(count - 1, 0.975) * spread)
    return Interval(whole, whole - half, whole + half)


def audit(
    on_policy: Mapping[str, OnPolicy],
    size: Size,
    seed: int = 0,
    estimators: Sequence[Estimator] = EVERY,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare each estimator with RLOO on the same rollouts, for each reward.

    Args:
        on_policy: by the name of the reward; all with one model and one set of prompts.

    Returns:
        By reward and estimator: the comparison with RLOO, and the "noise" of one utterance. RLOO
        itself is there with its noise.

    Raises:
        UserError: too few blocks or utterances to tell noise from signal.
    """
    if size.blocks < 3 or size.group < 2:
        raise UserError("an audit needs at least three blocks and groups of two")
    first = next(iter(on_policy.values()))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(first.prompts), generator=generator)[: size.prompts].tolist()
    prompts = [first.prompts[index] for index in chosen]
    kept: dict[str, dict[str, list[Tensor]]] = {name: {} for name in on_policy}
    with Progress("gradient audit", size.blocks) as progress:
        for block in range(size.blocks):
            drawn = [first.draw(prompts, generator, size.group) for _ in range(size.reference)]
            for name, one in on_policy.items():
                vectors = [_reference(one, rollouts, size.group) for rollouts in drawn]
                found = {REFERENCE: torch.stack(vectors).mean(0)}
                found |= _estimates(one, drawn[0], estimators, block)
                for kind, vector in found.items():
                    kept[name].setdefault(kind, []).append(vector)
            progress.update(block + 1)
    utterances = len(prompts) * size.group
    return {name: _compared(found, utterances, size.reference) for name, found in kept.items()}


def _compared(
    found: Mapping[str, Sequence[Tensor]], utterances: int, times: int
) -> dict[str, dict[str, Any]]:
    reference = torch.stack(list(found[REFERENCE]))
    result: dict[str, dict[str, Any]] = {REFERENCE: {"noise": noise(reference, utterances * times)}}
    for kind, vectors in found.items():
        if kind != REFERENCE:
            blocks = torch.stack(list(vectors))
            result[kind] = compare(reference, blocks) | {"noise": noise(blocks, utterances)}
    return result


def label(estimator: Estimator) -> str:
    """Return an estimator's name with what differs from the default."""
    words = [estimator.name]
    words += [f"tau {estimator.tau:g}"] if estimator.tau != 1.0 else []
    words += [f"{estimator.passes} context passes"] if estimator.passes else []
    return ", ".join(words)


def table(name: str, found: Mapping[str, Mapping[str, Any]], utterances: int) -> Table:
    """Return one reward's comparison as a table for the terminal."""
    shown_as = Table(
        title=f"Reward {name}: the expected gradient against RLOO's, {utterances} utterances\n"
        "(95 % by jackknife over blocks; noise: of one utterance, over the gradient's length)"
    )
    for column in ("estimator", "cosine", "error", "noise"):
        shown_as.add_column(column, justify="left" if column == "estimator" else "right")
    for kind, figures in found.items():
        cells = [cell(figures.get(key)) for key in ("cosine", "error")]
        noise = figures["noise"]
        shown_as.add_row(kind, *cells, MISSING if noise is None else f"{noise:.1f}")
    return shown_as


def measurements(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Measurement]:
    """Return the comparisons as figures with intervals; those that are all noise are left out."""
    rows = []
    for name, kinds in found.items():
        for kind, figures in kinds.items():
            for key in ("cosine", "error"):
                value = figures.get(key)
                if value is not None:
                    rows.append(measurement(f"gradient/{name}/{kind}", value, key))
    return rows


def _reference(on_policy: OnPolicy, rollouts: Rollouts, group: int) -> Tensor:
    """Return RLOO's gradient of the mean reward, as a sketch."""
    reward = on_policy.reward
    rewards = weighted_sum(reward, score(reward, rollouts.tokens, rollouts.prompts))
    advantage = group_advantage(rewards, group, "rloo")
    made = on_policy.evaluate(rollouts)
    return _gradient(on_policy, (advantage * made.log_probability.sum(1)).mean())


def _estimates(
    on_policy: OnPolicy, rollouts: Rollouts, estimators: Sequence[Estimator], block: int
) -> dict[str, Tensor]:
    """Return each estimator's gradient of the mean reward, as a sketch."""
    found = {}
    for estimator in estimators:
        generator = torch.Generator().manual_seed(block)
        made = on_policy.evaluate(rollouts, estimator, generator)
        reward = weighted_sum(on_policy.reward, on_policy.terms(made, rollouts))
        found[label(estimator)] = _gradient(on_policy, reward.mean())
    return found


def _gradient(on_policy: OnPolicy, value: Tensor) -> Tensor:
    trained = [part for part in on_policy.model.parameters() if part.requires_grad]
    parts = torch.autograd.grad(value, trained, allow_unused=True)
    pairs = zip(parts, trained, strict=True)
    return sketch([torch.zeros_like(one) if part is None else part for part, one in pairs])

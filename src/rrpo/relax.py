"""`relax`: embed drawn tokens so that the gradient reaches the logits. The method in a function."""

import torch
from torch import Tensor

from rrpo.choices import Logits, choices
from rrpo.sampling import Relaxation


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
    that of the embeddings times tableᵀ, and the estimator's Jacobian takes it to the logits. The
    gradient is computed in float32, whatever the logits are.

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
        ValueError: unknown estimator, tau not positive, shapes that do not fit, or logits that are
            no floating point numbers.
    """
    size = logits.shape[-1]
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}: give floating point numbers")
    if logits.shape[:-1] != tokens.shape or table.ndim != 2 or size != table.shape[0]:
        raise ValueError(
            f"shapes do not fit: logits {tuple(logits.shape)}, tokens {tuple(tokens.shape)}, "
            f"table {tuple(table.shape)}"
        )
    # One integer keeps the noise: the backward pass draws it again, chunk by chunk.
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = Relaxation(table, estimator, tau, seed)
    found = choices(Logits(logits.reshape(-1, size)), tokens.reshape(-1), size, relaxation=drawn)
    return found.embeddings.view(*tokens.shape, table.shape[1])

"""What a reward model recognises in many utterances."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.reward.model import RewardModel
from rrpo.reward.regularize import TASK
from rrpo.tokens import batch


def log_posteriors(
    model: RewardModel, tokens: Sequence[Tensor], task: str = TASK, batch_size: int = 64
) -> Tensor:
    """Return the log-posteriors (n, K) float32, on the CPU, of n token tensors (T_n,) int64.

    The model is used in evaluation mode, whatever mode it is in, and left as it was.

    Raises:
        ValueError: a token tensor is empty.
    """
    result = torch.empty(len(tokens), len(model.classes(task)))
    by_length = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(by_length), batch_size):
                rows = by_length[start : start + batch_size]
                ids, mask = batch([tokens[row] for row in rows], model.table.device)
                result[rows] = model.log_posterior(model.embed(ids), mask, task).float().cpu()
    finally:
        model.train(was_training)
    return result

"""Pre-training of the base policy: tables that share what their codes have in common.

Most of the 6,561 codes are rare in a small corpus, but each of their 24 digit values is heard
thousands of times. While it is pre-trained, a row of the speech table (and of the output layer) is
its own vector plus one learned vector per digit; folded together at the end, the policy is a plain
`SpeechTokenLM` like any other.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rrpo import policy
from rrpo.checkpoint import weightless
from rrpo.objectives.sft import SFTConfig, SFTObjective
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Example
from rrpo.tokens import digits

OWN = 0.2
"""What a row keeps of its own random start."""


class DigitSum(nn.Module):
    """Adds to each code's row of a table the vectors of its eight digits.

    Args:
        codes: rows that are codes; the specials after them stay as they are.
        rows: V, of the whole table.
        width: D.
    """

    def __init__(self, codes: int, rows: int, width: int) -> None:
        super().__init__()
        chosen = F.one_hot(digits(torch.arange(codes)), 3).flatten(1).float()
        self.chosen: Tensor
        self.register_buffer("chosen", F.pad(chosen, (0, 0, 0, rows - codes)))
        self.vectors = nn.Parameter(torch.randn(chosen.shape[1], width) * 0.02)

    def forward(self, own: Tensor) -> Tensor:
        """Map the rows' own vectors (V, D) to the table (V, D)."""
        return own + self.chosen @ self.vectors


def share_digits(model: SpeechTokenLM) -> None:
    """Make the speech table and the output layer sums over digits, in place."""
    config = model.config
    for table in (model.speech_embedding, model.head):
        with torch.no_grad():
            table.weight.mul_(OWN)
        shared = DigitSum(config.codes, config.speech_rows, config.hidden)
        parametrize.register_parametrization(table, "weight", shared)


def folded(model: SpeechTokenLM) -> SpeechTokenLM:
    """Return a copy with plain tables, which computes the same."""
    state = {
        name: value for name, value in model.state_dict().items() if "parametrizations" not in name
    }
    state["speech_embedding.weight"] = model.speech_embedding.weight
    state["head.weight"] = model.head.weight
    plain = weightless(lambda: SpeechTokenLM(model.config))  # a draw would change later steps
    copied = {name: value.detach().clone() for name, value in state.items()}
    plain.load_state_dict(copied, assign=True)
    return plain


class PretrainingObjective(SFTObjective):
    """Cross-entropy of a new model whose tables share digits; what is saved is folded."""

    def __init__(self, model: SpeechTokenLM, examples: Sequence[Example], config: SFTConfig):
        super().__init__(model, examples, config)
        share_digits(model)

    def save(self, folder: Path) -> None:
        """Write the folded policy."""
        policy.save(folded(self.model), folder)

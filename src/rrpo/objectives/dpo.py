"""Direct preference optimization (DPO; Rafailov et al. 2023) on pairs of utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rrpo import policy
from rrpo.choices import Logits, choices
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import without_adapters
from rrpo.policy.layout import Example, Prompt, choose, described, unistream
from rrpo.tokens import IGNORE, length_mask


class DPOConfig(Strict):
    """Settings of DPO.

    `length_normalized` divides each log-ratio by its number of choices, so that β is a matter of
    nats per token; `cross_entropy` is the weight of the chosen utterances' own likelihood.
    """

    batch_size: int = Field(8, ge=1)
    beta: float = Field(0.1, gt=0)
    length_normalized: bool = False
    cross_entropy: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class Pair:
    """Two utterances of one prompt, (T,) and (T',) int64, of which the first is preferred."""

    prompt: Prompt
    chosen: Tensor
    rejected: Tensor


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return −log σ(β (chosen − rejected)) of each pair, (B,).

    Args:
        chosen: (B,) log-ratios, Σ_t log p(t) − log p_reference(t) of an utterance.
        rejected: (B,) those of the other utterance of each pair.
    """
    return -F.logsigmoid(beta * (chosen - rejected))


def log_probability(model: SpeechTokenLM, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Return each utterance's log-probability (B,), its end included, and its choices (B,).

    Summed over its own positions alone: the mask is true from the first token to the end symbol,
    never on text, instruction or padding.
    """
    device = model.head.weight.device
    ids, targets = unistream(
        model.config,
        [example.prompt.text_ids for example in examples],
        [example.speech for example in examples],
        [example.prompt.instruct_ids for example in examples],
    )
    keep = targets != IGNORE
    hidden = model.hidden(ids.to(device))[keep.to(device)]
    logits = Logits(hidden, model.head.weight, model.head.bias)
    found = choices(logits, targets[keep].to(device), model.config.codes).log_probability
    lengths = keep.sum(1).to(device)
    place = length_mask(lengths)
    return found.new_zeros(place.shape).masked_scatter(place, found).sum(1), lengths


class DPOObjective:
    """Likelier chosen than rejected utterances, measured against the frozen reference."""

    def __init__(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        pairs: Sequence[Pair],
        config: DPOConfig,
    ) -> None:
        """Freeze the reference; None is the model without its adapters.

        Raises:
            UserError: no pair, an empty utterance, or no reference for a model without adapters.
        """
        if reference is None and not model.adapted:
            raise UserError("a policy without adapters needs a reference to be compared with")
        if not pairs:
            raise UserError("no pair to learn from: give some, or draw more utterances a prompt")
        for pair in pairs:
            if min(pair.chosen.numel(), pair.rejected.numel()) == 0:
                raise UserError(f"an utterance of the pair {pair.prompt.text!r} is empty")
        self.model, self.pairs, self.config = model, list(pairs), config
        self._drawn: list[int] = []
        self.reference = None if reference is None else reference.eval().requires_grad_(False)

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a random batch of pairs and its metrics."""
        config = self.config
        self._drawn = choose(config.batch_size, self.pairs, generator)
        pairs = [self.pairs[index] for index in self._drawn]
        examples = [Example(pair.prompt, pair.chosen) for pair in pairs]
        examples += [Example(pair.prompt, pair.rejected) for pair in pairs]
        found, lengths = log_probability(self.model, examples)
        ratio = found - self._reference(examples)
        if config.length_normalized:
            ratio = ratio / lengths
        chosen, rejected = ratio.chunk(2)
        preference = dpo_loss(chosen, rejected, config.beta).mean()
        likelihood = (found / lengths)[: len(pairs)].mean()
        return preference - config.cross_entropy * likelihood, {
            "preference_loss": float(preference.detach()),
            "preferred": float((chosen > rejected).float().mean()),
            "margin": float((config.beta * (chosen - rejected)).mean().detach()),
            "chosen_nats_per_token": float(-likelihood.detach()),
        }

    @torch.no_grad()
    def _reference(self, examples: Sequence[Example]) -> Tensor:
        if self.reference is not None:
            reference = self.reference.to(self.model.head.weight.device)
            return log_probability(reference, examples)[0]
        with without_adapters(self.model):
            return log_probability(self.model, examples)[0]

    def batch(self) -> list[dict[str, Any]]:
        """Return what the last loss was computed from."""
        return [
            described(pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
            for pair in (self.pairs[index] for index in self._drawn)
        ]

    def save(self, folder: Path) -> None:
        """Write the policy."""
        policy.save(self.model, folder)

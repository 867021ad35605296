"""Training of the tokenizer for real speech, without any label but who speaks.

Tokens of 12.7 bits cannot hold all that an encoder hears in 40 ms. Left to the error of the states
alone they spend themselves on what changes from frame to frame; how somebody speaks changes slowly
and is lost. So the tokens of a stretch must also tell its summary (`Summary`).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rrpo.codec.speech import SpeechTokenizer, SpeechTokenizerConfig, save
from rrpo.codec.states import measure_scale, pooled
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.tokens import length_mask
from rrpo_studies.real_speech.summaries import Summary, fit_summary


class SpeechTokenizerFit(Strict):
    """How the tokenizer is trained.

    Attributes:
        batch_size: stretches of a step.
        window: tokens of a stretch, two seconds.
        summary_weight: of the summary's error beside that of the states, both relative to variance.
    """

    batch_size: int = 16
    window: int = 50
    summary_weight: float = 8.0


class Hearing:
    """What was heard in N training utterances, scaled, with their summaries.

    Attributes:
        states: N tensors (T, 2 D) float16 as heard.
        speakers: N names.
        summary: fitted to the whole utterances.
    """

    def __init__(
        self, states: Sequence[Tensor], speakers: Sequence[str], model: SpeechTokenizer
    ) -> None:
        """Measure the scale for `model` and fit the summary.

        Raises:
            UserError: there are fewer than two utterances, or one has no speaker.
        """
        if len(states) < 2 or len(states) != len(speakers) or not all(speakers):
            raise UserError("a tokenizer is trained on two or more utterances with their speakers")
        self._scale = measure_scale(states)
        model.set_scale(self._scale)
        self.states, self.speakers = list(states), list(speakers)
        whole = torch.cat([self._pooled(one) for one in states])
        self.summary: Summary = fit_summary(whole, speakers, model.config.summary)
        self.summaries = self.summary.of(whole, speakers)

    def _pooled(self, states: Tensor) -> Tensor:
        return pooled(self._scale.apply(states)[None], torch.ones(1, len(states), dtype=torch.bool))

    def windows(
        self, rows: Sequence[int], starts: Sequence[float], size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cut stretches out of utterances.

        Args:
            rows: B utterances.
            starts: B numbers in [0, 1): where a stretch begins, of where it can.
            size: T, tokens of a stretch; a shorter utterance is taken whole.

        Returns:
            scaled states (B, T, 2 D), their mask (B, T) and summaries (B, S).
        """
        cut = []
        for row, start in zip(rows, starts, strict=True):
            states = self.states[row]
            first = int(start * max(1, len(states) - size + 1))
            cut.append(self._scale.apply(states[first : first + size]))
        mask = length_mask(torch.tensor([len(one) for one in cut]))
        scaled = torch.nn.utils.rnn.pad_sequence(cut, batch_first=True)
        names = [self.speakers[row] for row in rows]
        return scaled, mask, self.summary.of(pooled(scaled, mask), names)


def told_errors(
    told: tuple[Tensor, Tensor], scaled: Tensor, mask: Tensor, summary: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean squared errors of states and of summaries, both with a variance near 1.

    Args:
        told: states (B, T, 2 D) and summaries (B, S) as predicted.
        scaled: (B, T, 2 D).
        mask: (B, T) bool.
        summary: (B, S).
    """
    states, summed = told
    return (states - scaled)[mask].square().mean(), (summed - summary).square().mean()


class SpeechTokenizerObjective:
    """The loss of tokenizer training: what the tokens of a stretch tell of it.

    Attributes:
        model: the tokenizer.
    """

    def __init__(
        self, model: SpeechTokenizer, hearing: Hearing, config: SpeechTokenizerFit
    ) -> None:
        self.model = model
        self.hearing = hearing
        self.config = config

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss and the two errors it is made of."""
        model, size = self.model, self.config.batch_size
        rows = torch.randint(len(self.hearing.states), (size,), generator=generator).tolist()
        starts = torch.rand(size, generator=generator, dtype=torch.float64).tolist()
        heard = self.hearing.windows(rows, starts, self.config.window)
        scaled, mask, summary = (one.to(model.tell.weight.device) for one in heard)
        told = model.told(model.quantise(scaled, mask), mask)
        states, summed = told_errors(told, scaled, mask, summary)
        loss = states + self.config.summary_weight * summed
        return loss, {"error_states": states.item(), "error_summary": summed.item()}

    def save(self, folder: Path) -> None:
        """Write the tokenizer into a checkpoint folder."""
        save(self.model, folder)


def new_tokenizer(seed: int, config: SpeechTokenizerConfig | None = None) -> SpeechTokenizer:
    """Make an untrained tokenizer; the seed decides its weights."""
    torch.manual_seed(seed)
    return SpeechTokenizer(config)

"""What an attack is after: utterances, and for each an emotion that it has not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate.ser import scored_rows
from rrpo.notes import note
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.reward.regularize import TASK


@dataclass(frozen=True, eq=False)
class Goal:
    """N utterances and what a reward model is to say of each.

    Attributes:
        rows: the utterances.
        emotions: N names of the wanted emotions, none of them an utterance's own.
    """

    rows: Sequence[Utterance]
    emotions: Sequence[str]

    @property
    def tokens(self) -> list[Tensor]:
        """The speech tokens of each utterance, (T_n,) int64."""
        return [torch.from_numpy(row.tokens) for row in self.rows]

    def classes(self, model: RewardModel) -> Tensor:
        """Return the wanted classes (N,) int64 as places in the model's posterior."""
        known = model.classes()
        return torch.tensor([known.index(emotion) for emotion in self.emotions])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a reward model says after an attack.

    Attributes:
        log_posteriors: (N, K) in nats.
        tokens: what the model was given, N of (T_n,); None where no tokens say what it was given.
        passes: forward passes of the model for one utterance.
        vanished: (N,) bool, where the gradient that the attack follows was exactly zero; None where
            it follows none.
    """

    log_posteriors: Tensor
    tokens: Sequence[Tensor] | None
    passes: int
    vanished: Tensor | None = None


def draw_goal(
    models: Mapping[str, RewardModel], utterances: Sequence[Utterance], count: int, seed: int
) -> Goal:
    """Draw utterances, as many of each emotion as can be, and a wrong emotion for each.

    Args:
        models: by name; an emotion is wanted or spoken only if all of them know it.
        utterances: labelled.
        count: how many are drawn at most.
        seed: of the draws: the same for every model and attack.

    Raises:
        UserError: the models and the utterances share fewer than two emotions, or a token is none.
    """
    shared: list[str] = []
    known_by_any = {one for model in models.values() for one in model.config.tasks.get(TASK, [])}
    spoken = known_by_any & {row.emotion for row in utterances}
    for name, model in models.items():
        try:
            rows, known = scored_rows(model, utterances)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        utterances = rows
        shared = [emotion for emotion in shared or known if emotion in known]
    if left := sorted(spoken - {*shared}):
        told = f"not every reward model knows {', '.join(left)}"
        note(f"{told}: {', '.join(shared)} alone are attacked")
    rng = np.random.default_rng(seed)
    of = {emotion: [row for row in utterances if row.emotion == emotion] for emotion in shared}
    for found in of.values():
        rng.shuffle(found)
    longest = max(map(len, of.values()))
    turns = [
        found[place] for place in range(longest) for found in of.values() if place < len(found)
    ]
    chosen = turns[:count]
    wanted = [str(rng.choice([one for one in shared if one != row.emotion])) for row in chosen]
    return Goal(chosen, wanted)


def margins(log_posteriors: Tensor, classes: Tensor) -> Tensor:
    """Return how far the wanted classes lead: z_t − max over k ≠ t of z_k, (N,).

    Log-posteriors (N, K) give what logits give. Unlike the cross-entropy it does not flatten where
    a model is sure, so that no gradient is lost to that (Carlini & Wagner 2017).
    """
    wanted = classes[:, None]
    rest = log_posteriors.scatter(1, wanted, float("-inf")).amax(1)
    return log_posteriors.gather(1, wanted)[:, 0] - rest


def untouched(model: RewardModel, goal: Goal) -> Outcome:
    """Return what the model says of the utterances as they are."""
    return Outcome(log_posteriors(model, goal.tokens), goal.tokens, 1)

"""A judge of emotion: it hears functionals, no tokens, and shares nothing with a reward model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rrpo.audio import Audio
from rrpo.checkpoint import load_model, save_model
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate.functionals import functionals, names
from rrpo.optimizer import AdamW

MEMBERS, HIDDEN, STEPS = 8, 24, 1000
"""Networks of the ensemble, their width, and full-batch steps at most."""


@dataclass
class EmotionJudge:
    """An ensemble of small networks on standardised functionals, calibrated by a temperature.

    Attributes:
        emotions: K names, in the order of the probabilities.
        state: tensors `centre` and `scale` (F,), `hidden_weight` (M, F, H), `hidden_bias` (M, H),
            `weight` (M, H, K), `bias` (M, K) of M members, and `temperature` ().
    """

    emotions: tuple[str, ...]
    state: dict[str, Tensor]

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        labels: Sequence[int] | NDArray[np.int64],
        seed: int = 0,
        emotions: Sequence[str] = EMOTIONS,
        groups: Sequence[str] | None = None,
    ) -> "EmotionJudge":
        """Train on functionals (n, F) with labels (n,) in 0…K-1.

        A fifth is held out: it stops the training and sets the temperature (Guo et al. 2017).
        Classes weigh the same however many utterances they have.

        Args:
            groups: what each utterance says or was made of; the utterances of one group stay
                together, or else a copy of what is trained on would be held out.

        Raises:
            UserError: fewer than ten utterances, a shape or label that does not fit, or a feature
                that is not finite.
        """
        inputs, targets = _checked(features, labels, len(emotions))
        generator = torch.Generator().manual_seed(seed)
        held, kept = hold_out(range(len(targets)) if groups is None else groups, generator)
        centre = inputs[kept].mean(0)
        state = {"centre": centre, "scale": inputs[kept].std(0).clamp_min(1e-6)}
        state |= _train(
            _standardise(inputs[kept], state),
            targets[kept],
            _standardise(inputs[held], state),
            targets[held],
            len(emotions),
            generator,
        )
        judge = cls(tuple(emotions), state | {"temperature": torch.ones(())})
        judge.state["temperature"] = _calibrate(judge._logits(inputs[held]), targets[held])
        return judge

    def classify(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities (n, K) of functionals (n, F)."""
        inputs = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        if inputs.ndim != 2 or inputs.shape[1] != len(self.state["centre"]):
            raise UserError(
                f"the judge takes features (n, {len(self.state['centre'])}), "
                f"not {tuple(inputs.shape)}"
            )
        logits = self._logits(inputs).double() / self.state["temperature"].double()
        probabilities: NDArray[np.float64] = logits.softmax(-1).numpy()
        return probabilities

    def probabilities_batch(self, audios: Sequence[Audio]) -> NDArray[np.float64]:
        """Return probabilities (n, K) for several audios (N,)."""
        if not audios:
            return np.zeros((0, len(self.emotions)))
        return self.classify(np.stack([functionals(audio) for audio in audios]))

    def save(self, folder: Path) -> None:
        """Write the judge into a folder."""
        config = {"kind": "judge", "emotions": list(self.emotions), "features": list(names())}
        save_model(folder, self.state, config)

    @classmethod
    def load(cls, folder: Path) -> "EmotionJudge":
        """Read what `save` wrote.

        Raises:
            UserError: the folder holds no judge, or one made for other features.
        """
        state, config = load_model(folder, "judge")
        if config.get("features") != list(names()):
            raise UserError(f"the judge in {folder} was made for other features: train it again")
        judge = cls(tuple(config["emotions"]), state)
        try:
            judge.classify(np.zeros((1, len(names()))))
        except (KeyError, RuntimeError) as error:
            raise UserError(f"the judge in {folder} is damaged ({error}): train it again") from None
        return judge

    def _logits(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return _forward(_standardise(inputs, self.state), self.state).mean(0)


def hold_out(groups: Sequence[str] | range, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the indices held out, about a fifth in whole groups and at least two, and the rest."""
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = list(members.values())
    shuffled = [order[place] for place in torch.randperm(len(order), generator=generator).tolist()]
    wanted, held, kept = max(2, len(groups) // 5), list[int](), list[int]()
    for group_members in shuffled:
        (held if len(held) < wanted else kept).extend(group_members)
    if not kept:
        raise UserError("every utterance is of one group: give at least two sentences")
    return torch.tensor(held), torch.tensor(kept)


def _standardise(inputs: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Centre and scale (n, F).

    What lies beyond four deviations is held there, so that no single feature of an unusual audio
    decides alone.
    """
    return ((inputs - state["centre"]) / state["scale"]).clamp(-4.0, 4.0)


def _forward(inputs: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Return the logits (M, n, K) of every member for standardised inputs (n, F)."""
    hidden = torch.tanh(inputs @ state["hidden_weight"] + state["hidden_bias"][:, None])
    return hidden @ state["weight"] + state["bias"][:, None]


def _train(
    inputs: Tensor,
    targets: Tensor,
    held_inputs: Tensor,
    held_targets: Tensor,
    classes: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Train all members at once, each on its own bootstrap weights (Rubin's, exponential).

    The step is kept at which the ensemble's loss on the held-out part is least.
    """
    width = inputs.shape[1]
    shapes = {
        "hidden_weight": (MEMBERS, width, HIDDEN),
        "hidden_bias": (MEMBERS, HIDDEN),
        "weight": (MEMBERS, HIDDEN, classes),
        "bias": (MEMBERS, classes),
    }
    state = {
        name: torch.randn(shape, generator=generator) * (shape[1] ** -0.5 if len(shape) == 3 else 0)
        for name, shape in shapes.items()
    }
    for tensor in state.values():
        tensor.requires_grad_()
    counts = torch.bincount(targets, minlength=classes).clamp_min(1).float()
    weights = torch.empty(MEMBERS, len(targets)).exponential_(generator=generator)
    weights = weights * (1 / counts)[targets]
    weights = weights / weights.sum(1, keepdim=True)
    optimizer = AdamW(state.values(), lr=1e-3, weight_decay=0.3)
    best, least = {}, float("inf")
    for step in range(STEPS):
        logs = _forward(inputs, state).log_softmax(-1)
        chosen = logs[:, torch.arange(len(targets)), targets]
        loss = -(weights * (0.95 * chosen + 0.05 * logs.mean(-1))).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                mean = _forward(held_inputs, state).mean(0)
                value = float(torch.nn.functional.cross_entropy(mean, held_targets))
            if value < least:
                least = value
                best = {name: tensor.detach().clone() for name, tensor in state.items()}
    return best


def _calibrate(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the temperature () that gives held-out logits (n, K) their least cross-entropy."""
    choices = torch.logspace(-0.7, 0.7, 71)
    losses = [float(torch.nn.functional.cross_entropy(logits / t, targets)) for t in choices]
    return choices[int(np.argmin(losses))].clone()


def _checked(
    features: ArrayLike, labels: Sequence[int] | NDArray[np.int64], classes: int
) -> tuple[Tensor, Tensor]:
    inputs = torch.as_tensor(np.asarray(features), dtype=torch.float32)
    targets = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or len(targets) < 10:
        raise UserError(
            f"cannot fit a judge on features {tuple(inputs.shape)} and labels "
            f"{tuple(targets.shape)}: give (n, F) and (n,), n at least 10"
        )
    if not torch.isfinite(inputs).all():
        raise UserError("a feature is NaN or infinite: take them by rrpo.evaluate.functionals")
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise UserError(f"a label lies outside 0…{classes - 1}: name all emotions of the labels")
    return inputs, targets

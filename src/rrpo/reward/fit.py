"""Fine-tuning of the reward model with the hybrid regularization.

`RewardObjective` is what the training loop minimises; every regularizer is a switch of `FitConfig`,
so the plain and the hardened reward model are one code path.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional

from rrpo.config import Strict
from rrpo.data.shards import Utterance
from rrpo.emotions import emotion_index
from rrpo.errors import UserError
from rrpo.reward.loss import TASK, emotion_loss
from rrpo.reward.model import LossConfig, RewardModel, save
from rrpo.reward.nuisance import NuisanceModel, nuisances
from rrpo.reward.regularize import feature_mixup, label_smoothing, mixed_targets
from rrpo.tokens import length_mask, pad


class FitConfig(Strict):
    """Switches and constants of the hybrid regularization; the defaults are RRPO's.

    Attributes:
        batch_size: B, utterances of a step.
        label_smoothing: epsilon of the targets; 0 turns it off.
        mixup: whether utterances are mixed (energy-adaptive mixup).
        mixup_at: what is mixed: the "features" that enter the encoder (token embeddings), within
            each batch; or the "audio" before it is tokenized: rows come from a mix pool.
        mixup_share: probability that a row of a batch is mixed. The paper mixes every sample;
            stretches are often short, so many mixes are nearly clean.
        adversarial: whether the loss at h' + delta is added.
        adversarial_epsilon: length of delta.
        adversarial_weight: alpha, the weight of that loss.
        adversarial_at: h': "frames" is the encoder's output (B, L, D), "pooled" the utterance
            embedding (B, D); one delta per utterance either way.
        tune: "all" weights, or only the pooling and the "heads" of the task.
        nuisance: whether what length and energy explain is left to a bias model (see
            `rrpo.reward.nuisance`); not of the paper.
    """

    batch_size: int = Field(default=32, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    mixup: bool = True
    mixup_at: Literal["features", "audio"] = "features"
    mixup_share: float = Field(default=1.0, ge=0.0, le=1.0)
    adversarial: bool = True
    adversarial_epsilon: float = Field(default=0.5, gt=0.0)
    adversarial_weight: float = Field(default=0.5, ge=0.0)
    adversarial_at: Literal["frames", "pooled"] = "frames"
    tune: Literal["all", "heads"] = "all"
    nuisance: bool = False

    @field_validator("mixup_at", mode="before")
    @classmethod
    def _renamed(cls, value: object) -> object:
        if value == "embedding":
            raise ValueError("mixup_at=embedding is no more: the published form is features")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> FitConfig:
        if self.nuisance and self.mixup and self.mixup_at == "features":
            raise ValueError("nuisance knows length and energy of audio: mix that, mixup_at=audio")
        return self

    @property
    def loss(self) -> LossConfig:
        """The constants of L_ser, as the reward model keeps them."""
        return LossConfig(
            label_smoothing=self.label_smoothing,
            adversarial_weight=self.adversarial_weight if self.adversarial else 0.0,
            adversarial_epsilon=self.adversarial_epsilon,
            adversarial_at=self.adversarial_at,
        )

    @property
    def needs_mix_pool(self) -> bool:
        """Whether audio is mixed, which takes a pool of mixed utterances."""
        return self.mixup and self.mixup_at == "audio"


def subsets() -> dict[str, FitConfig]:
    """Return the eight subsets of {LS, EAM, Adv} by name, from plain to all, always in this order.

    The paper's Table 2 shows four of them, each with one regularizer more: plain, ls, ls_eam and
    ls_eam_adv.
    """
    table = {}
    for name in ("plain", "ls", "eam", "adv", "ls_eam", "ls_adv", "eam_adv", "ls_eam_adv"):
        parts = name.split("_")
        table[name] = FitConfig(
            label_smoothing=FitConfig().label_smoothing if "ls" in parts else 0.0,
            mixup="eam" in parts,
            adversarial="adv" in parts,
        )
    return table


def subset_name(config: FitConfig) -> str:
    """Name the regularizers that a configuration has on, as `subsets` does.

    Examples:
        >>> subset_name(FitConfig(mixup=False))
        'ls_adv'
    """
    on = {
        "ls": config.label_smoothing > 0,
        "eam": config.mixup and config.mixup_share > 0,
        "adv": config.adversarial and config.adversarial_weight > 0,
    }
    return "_".join(name for name, used in on.items() if used) or "plain"


class RewardObjective:
    """The loss of reward-model fine-tuning: L_ser = L_emo + alpha L_adv (arXiv 2512.04552).

    Attributes:
        model: the reward model to be trained.
        config: the switches.
    """

    def __init__(
        self,
        model: RewardModel,
        utterances: Sequence[Utterance],
        config: FitConfig | None = None,
        mix_pool: Sequence[Utterance] = (),
    ) -> None:
        """Check the data and choose the weights to be trained.

        Args:
            model: the reward model; with `tune="heads"` its other weights stop asking gradients.
            utterances: labelled utterances as they are.
            config: the switches, by default all on.
            mix_pool: mixed versions of utterances, with the partner's emotion and weight.

        Raises:
            UserError: no utterance, an emotion or a token the model does not know, fewer than two
                emotions, or mixup without a usable mix pool.
        """
        self.model = model
        self.config = config or FitConfig()
        if self.config.needs_mix_pool and not mix_pool:
            raise UserError(
                "fit.mixup_at=audio needs a mix pool: make one with `rrpo tokenize --mix K` and "
                "name it with --mixes, or mix features (fit.mixup_at=features)"
            )
        pool = list(mix_pool) if self.config.needs_mix_pool else []
        check_tokens([*utterances, *pool], model.config.codes)
        classes = model.classes(TASK)
        labels = _labels(utterances, classes)
        _check_classes(labels, classes)
        self._clean = len(utterances)
        self._mixed = len(pool)
        self._tokens = [torch.from_numpy(row.tokens) for row in [*utterances, *pool]]
        self._labels = torch.from_numpy(np.concatenate([labels, _labels(pool, classes)]))
        partners, weights = _partners(pool, classes)
        self._partners = torch.cat([torch.from_numpy(labels), partners])
        self._weights = torch.cat([torch.zeros(len(utterances)), weights])
        self._bias: Tensor | None = None
        if self.config.nuisance:
            every = torch.arange(self._clean + self._mixed)
            values = nuisances([*utterances, *pool])
            bias = NuisanceModel(values, self.targets(every).double().numpy())
            self._bias = bias.log_posterior(values)
        # What it is fine-tuned on is what the policy will be paid by: the model keeps it.
        model.config = model.config.model_copy(update={"loss": self.config.loss})
        if self.config.tune == "heads":
            model.requires_grad_(False)
            model.pooling[TASK].requires_grad_(True)
            model.head[TASK].requires_grad_(True)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the rows (B,) int64 of a batch; those from `len(utterances)` on are of the pool.

        The same numbers are drawn whatever the switches, so that runs that differ in a switch see
        the same clean rows.
        """
        size, device = self.config.batch_size, generator.device
        clean = torch.randint(self._clean, (size,), generator=generator, device=device)
        chance, place = torch.rand(2, size, generator=generator, device=device, dtype=torch.float64)
        mixed = self._clean + (place * self._mixed).long()
        use = chance < (self.config.mixup_share if self._mixed else 0.0)
        return torch.where(use, mixed, clean).cpu()

    def targets(self, rows: Tensor) -> Tensor:
        """Return the target distributions (B, K) of rows (B,): mixed, then smoothed."""
        size = len(self.model.classes(TASK))
        mixed = mixed_targets(
            functional.one_hot(self._labels[rows], size).float(),
            functional.one_hot(self._partners[rows], size).float(),
            self._weights[rows],
        )
        return label_smoothing(mixed, self.config.label_smoothing)

    def loss(
        self,
        model: RewardModel,
        step: int,  # noqa: ARG002 (of the protocol)
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss, a scalar, and what is worth plotting.

        Args:
            model: the reward model, in the mode it is to be used in.
            step: not used: the batch depends on the generator alone.
            generator: source of the batch; dropout draws from torch's global generator.

        Returns:
            L_ser and a dict: `loss_emotion`, `accuracy` (against the utterance's own emotion),
            `mixed` (share of rows that are mixed) and, with adversarial training,
            `loss_adversarial` and `delta_ratio` (mean of ||delta|| / ||h'||).
        """
        rows = self.draw(generator)
        device = model.table.device
        chosen = [self._tokens[row] for row in rows.tolist()]
        tokens, mask = _batch(chosen, device)
        features, mixed = model.embed(tokens), rows >= self._clean
        targets = self.targets(rows)
        if self.config.mixup and self.config.mixup_at == "features":
            lengths = [one.numel() for one in chosen]
            features, targets, mixed = self._mix(features, lengths, targets, generator)
        found = emotion_loss(
            model,
            model.encode(features, mask),
            mask,
            targets.to(device),
            self.config.loss,
            None if self._bias is None else self._bias[rows].to(device),
        )
        labels = self._labels[rows].to(device)
        metrics = {
            "loss_emotion": found.emotion.mean().item(),
            "accuracy": (found.logits.argmax(dim=-1) == labels).float().mean().item(),
            "mixed": mixed.float().mean().item(),
        }
        if found.adversarial is not None and found.delta_ratio is not None:
            metrics["loss_adversarial"] = found.adversarial.mean().item()
            metrics["delta_ratio"] = found.delta_ratio.mean().item()
        return found.total(self.config.loss.adversarial_weight).mean(), metrics

    def save(self, folder: Path) -> None:
        """Write the reward model into a checkpoint folder."""
        save(self.model, folder)

    def _mix(
        self, features: Tensor, lengths: Sequence[int], targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix the features (B, T, D) of a batch.

        Args:
            lengths: B, in frames.
            targets: (B, K), smoothed.

        Returns:
            the mixtures (B, T, D), their targets (B, K) on the CPU, and which are mixed (B,).
        """
        # Of a copy: what is drawn here must not change the clean rows of the next step, see `draw`.
        copy = generator.clone_state()
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=copy)))
        mixtures, partners, weights = feature_mixup(features, lengths, rng)
        share = torch.from_numpy(rng.random(len(lengths)) < self.config.mixup_share)
        mixed = share.to(weights.device) & (weights > 0)
        mixtures = torch.where(mixed[:, None, None], mixtures, features)
        weights = torch.where(mixed, weights, 0.0).detach().cpu()
        return mixtures, mixed_targets(targets, targets[partners.cpu()], weights), mixed


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
                ids, mask = _batch([tokens[row] for row in rows], model.table.device)
                result[rows] = model.log_posterior(model.embed(ids), mask, task).float().cpu()
    finally:
        model.train(was_training)
    return result


def _batch(tokens: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad token tensors to ids (B, T) int64 and their mask (B, T) bool, on a device."""
    lengths = torch.tensor([len(row) for row in tokens])
    return pad(tokens).to(device), length_mask(lengths).to(device)


def _labels(utterances: Sequence[Utterance], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class indices (n,) of the utterances' emotions."""
    return np.array([_index(row.id, row.emotion, classes) for row in utterances], dtype=np.int64)


def _partners(pool: Sequence[Utterance], classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the partners' class indices (n,) int64 and weights lambda (n,) of a mix pool."""
    labels, weights = [], []
    for row in pool:
        if not 0.0 <= row.partner_weight <= 1.0 or (
            row.partner_emotion is None and row.partner_weight > 0.0
        ):
            raise UserError(
                f"mix pool row {row.id!r} has partner {row.partner_emotion!r} with weight "
                f"{row.partner_weight}: make the pool again with `rrpo tokenize --mix K`"
            )
        labels.append(_index(row.id, row.partner_emotion or row.emotion, classes))
        weights.append(row.partner_weight)
    return torch.tensor(labels, dtype=torch.int64), torch.tensor(weights, dtype=torch.float32)


def _index(name: str, emotion: str, classes: Sequence[str]) -> int:
    try:
        return emotion_index(emotion, classes)
    except UserError as error:
        raise UserError(
            f"utterance {name!r}: {error}, leave it out, or begin a reward model of your own "
            "emotions (--from new)"
        ) from None


def check_tokens(utterances: Sequence[Utterance], codes: int) -> None:
    """Refuse no utterances at all, one without tokens and one of another codec."""
    if not utterances:
        raise UserError("there are no utterances: give at least one token shard with rows")
    for row in utterances:
        if row.tokens.size == 0:
            raise UserError(f"utterance {row.id!r} has no tokens: leave it out")
        if row.tokens.min() < 0 or row.tokens.max() >= codes:
            raise UserError(
                f"utterance {row.id!r} has a token outside 0…{codes - 1}: "
                "tokenize it with the codec of this reward model"
            )


def _check_classes(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Refuse data of a single emotion; warn of emotions that have no example.

    Only a warning, because a corpus may lack an emotion that the pre-trained head has.
    """
    counts = np.bincount(labels, minlength=len(classes))
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if len(missing) > len(classes) - 2:
        raise UserError(
            f"every utterance is {classes[int(counts.argmax())]!r}: "
            "a reward model needs examples of at least two emotions"
        )
    if missing:
        warnings.warn(
            f"no example of {', '.join(missing)}: do not use this reward model for them",
            stacklevel=3,
        )

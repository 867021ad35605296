"""Fine-tuning of the reward model with the hybrid regularization.

`RewardObjective` is what the training loop minimises; every regularizer is a switch of `FitConfig`,
so the plain and the hardened reward model are one code path. A content head can be trained beside
the emotion's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rrpo.data.shards import Utterance
from rrpo.data.stream import Streamed, carried_by
from rrpo.errors import UserError
from rrpo.processes import several, share
from rrpo.reward.config import FitConfig
from rrpo.reward.exchange import exchanged
from rrpo.reward.labels import labelled
from rrpo.reward.model import RewardModel, save
from rrpo.reward.nuisance import NuisanceModel, nuisances
from rrpo.reward.regularize import (
    TASK,
    cross_entropy,
    emotion_loss,
    feature_mixup,
    label_smoothing,
    mixed_targets,
)
from rrpo.reward.transcripts import Transcripts, readable_texts
from rrpo.tokens import batch


class RewardObjective:
    """The loss of reward-model fine-tuning: L_ser = L_emo + alpha L_adv (arXiv 2512.04552).

    With the task content it is L_ser + w L_content, the CTC loss in nats per symbol, a mean over
    the utterances of the batch that have text. That one is of the utterances as they are: a mixture
    says two things at once, and the paper regularizes the emotion alone.

    Attributes:
        model: the reward model to be trained.
        config: the switches.
        carried: the place in utterances that are streamed; part of a checkpoint.
    """

    def __init__(
        self,
        model: RewardModel,
        utterances: Sequence[Utterance],
        config: FitConfig | None = None,
        mix_pool: Sequence[Utterance] = (),
        transcripts: Transcripts | None = None,
    ) -> None:
        """Check the data and choose the weights to be trained.

        Args:
            model: the reward model; with `tune="heads"` its other weights stop asking gradients.
            utterances: labelled utterances as they are.
            config: the switches, by default all on.
            mix_pool: mixed versions of utterances, with the partner's emotion and weight.
            transcripts: what the utterances say, for the task content (`prepare_head` gives the
                model a head for them).

        Raises:
            UserError: no utterance, an emotion or a token the model does not know, fewer than two
                emotions, mixup without a usable mix pool, or content without a text or a head.
        """
        self.model = model
        self.config = config or FitConfig()
        if self.config.needs_mix_pool and not mix_pool:
            raise UserError(
                "fit.mixup_at=audio needs a mix pool: make one with `rrpo tokenize --mix K` and "
                "name it with --mixes, or mix features (fit.mixup_at=features)"
            )
        pool = list(mix_pool) if self.config.needs_mix_pool else []
        self._streamed = utterances if isinstance(utterances, Streamed) else None
        self.carried = carried_by(utterances)
        # Of rows that stream: one of each emotion, and from the first step on those of a batch.
        known = utterances if self._streamed is None else self._streamed.first()
        self._data = labelled(known, pool, model)
        self._last: list[int] = []
        self._bias: Tensor | None = None
        if self.config.nuisance:
            values = nuisances([*utterances, *pool])
            every = torch.arange(len(self._data.ids))
            bias = NuisanceModel(values, self.targets(every).double().numpy())
            self._bias = bias.log_posterior(values)
        # What it is fine-tuned on is the reward of the policy: the model keeps it.
        model.config = model.config.model_copy(update={"loss": self.config.loss})
        self._texts: list[Tensor | None] | None = None
        if "content" in self.config.tasks:
            self._texts = readable_texts(model, utterances, transcripts)
        elif model.content is not None and self.config.tune == "all":
            warnings.warn(
                "the reward model's content head is not trained, and the encoder under it is: "
                "train both (--tasks emotion,content), or give the content no weight any more",
                stacklevel=2,
            )
        if self.config.tune == "heads":
            self._freeze_encoder()

    def _freeze_encoder(self) -> None:
        """Leave only the pooling and the heads of the trained tasks to be trained."""
        model = self.model
        model.requires_grad_(False)
        model.pooling[TASK].requires_grad_(True)
        model.head[TASK].requires_grad_(True)
        if self._texts is not None:
            model.content_head().requires_grad_(True)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the rows (B,) int64 of a batch; those from `len(utterances)` on are of the pool.

        The same numbers are drawn whatever the switches, so that runs that differ in a switch see
        the same clean rows.
        """
        return self._draw(generator)[1]

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw clean rows (B,) int64, and the same with rows of the pool in place of some."""
        if self._streamed is not None:
            taken = [self._streamed[place] for place in self._streamed.take(self.config.batch_size)]
            self._data = labelled(taken, [], self.model, whole=False)
            # What is mixed is drawn by a copy of the generator, which must go on with every step.
            torch.rand(1, generator=generator, device=generator.device)
            return torch.arange(len(taken)), torch.arange(len(taken))
        size, device, count = self.config.batch_size, generator.device, self._data.clean
        pooled = len(self._data.ids) - count
        clean = torch.randint(count, (size,), generator=generator, device=device)
        chance, place = torch.rand(2, size, generator=generator, device=device, dtype=torch.float64)
        mixed = count + (place * pooled).long()
        use = chance < (self.config.mixup_share if pooled else 0.0)
        return clean.cpu(), torch.where(use, mixed, clean).cpu()

    def targets(self, rows: Tensor) -> Tensor:
        """Return the target distributions (B, K) of rows (B,): mixed, then smoothed."""
        size = len(self.model.classes(TASK))
        mixed = mixed_targets(
            functional.one_hot(self._data.labels[rows], size).float(),
            functional.one_hot(self._data.partners[rows], size).float(),
            self._data.weights[rows],
        )
        return label_smoothing(mixed, self.config.label_smoothing)

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss, a scalar, and what is worth plotting.

        Args:
            generator: source of the batch; dropout draws from torch's global generator.

        Returns:
            the loss and a dict: `loss_emotion`, `accuracy` (against the utterance's own emotion),
            `mixed` (share of rows that are mixed); with adversarial training `loss_adversarial`
            and `delta_ratio` (mean of ||delta|| / ||h'||); with exchanged tokens
            `loss_exchanged`; with content `loss_content`, where an
            utterance of the batch has text.
        """
        model = self.model
        clean, rows = self._draw(generator)
        self._last = rows.tolist()
        device = model.table.device
        chosen = [self._data.tokens[row] for row in rows.tolist()]
        tokens, mask = batch(chosen, device)
        features, mixed = model.embed(tokens), rows >= self._data.clean
        targets = self.targets(rows)
        if self.config.mixes_features:
            lengths = [one.numel() for one in chosen]
            features, targets, mixed = self._mix(features, lengths, targets, generator)
        hidden = model.encode(features, mask)
        found = emotion_loss(
            model,
            hidden,
            mask,
            targets.to(device),
            self.config.loss,
            None if self._bias is None else self._bias[rows].to(device),
        )
        labels = self._data.labels[rows].to(device)
        metrics = {
            "loss_emotion": found.emotion.mean().item(),
            "accuracy": (found.logits.argmax(dim=-1) == labels).float().mean().item(),
            "mixed": mixed.float().mean().item(),
        }
        if found.adversarial is not None and found.delta_ratio is not None:
            metrics["loss_adversarial"] = found.adversarial.mean().item()
            metrics["delta_ratio"] = found.delta_ratio.mean().item()
        total = found.total(self.config.loss.adversarial_weight).mean()
        if self.config.exchanged:
            value = self._exchanged_loss(tokens, mask, rows)
            metrics["loss_exchanged"] = value.item()
            total = total + self.config.exchanged_weight * value
        encoded = None if bool(mixed.any()) else (hidden, mask)
        content = self._content_loss(model, clean, encoded)
        if content is not None:
            metrics["loss_content"] = content.item()
            total = total + self.config.content_weight * content
        return total, metrics

    def _exchanged_loss(self, tokens: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """Return the mean cross-entropy with the targets of rows (B,), a few tokens exchanged.

        Args:
            tokens: (B, T), as they are.
            mask: (B, T) bool, true at valid tokens.
            rows: (B,), which they are.
        """
        targets = self.targets(rows).to(tokens.device)
        bias = None if self._bias is None else self._bias[rows].to(tokens.device)
        changed = exchanged(self.model, tokens, mask, targets, self.config.exchanged, bias)
        logits = self.model(changed, mask)
        return cross_entropy(logits if bias is None else logits + bias, targets).mean()

    def _content_loss(
        self, model: RewardModel, rows: Tensor, encoded: tuple[Tensor, Tensor] | None
    ) -> Tensor | None:
        """Return the mean CTC loss in nats per symbol of rows (B,); None where none has text.

        Several processes return what has the mean over the rows of all for its mean.

        Args:
            rows: of utterances as they are.
            encoded: their frames (B, T, D) and mask (B, T), where nothing of the batch was mixed.
        """
        if self._texts is None:
            return None
        said = [self._texts[row] for row in rows.tolist()]
        texts = [text for text in said if text is not None]
        weight = share(len(texts))
        if not texts:
            return model.table.new_zeros(()) if several() else None
        places = [place for place, text in enumerate(said) if text is not None]
        if encoded is None:
            chosen = [self._data.tokens[row] for row in rows[places].tolist()]
            tokens, mask = batch(chosen, model.table.device)
            hidden = model.encode(model.embed(tokens), mask)
        else:
            hidden, mask = (part[places] for part in encoded)
        return -model.content_log_likelihood(hidden, mask, texts).mean() * weight

    def batch(self) -> list[dict[str, Any]]:
        """Return what the last loss was computed from."""
        return [
            {"id": self._data.ids[row], "tokens": self._data.tokens[row].tolist()}
            for row in self._last
        ]

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

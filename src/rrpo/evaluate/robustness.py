"""How easily a reward model's verdict is turned: small pushes and noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.evaluate import ser
from rrpo.evaluate.ser import scored_rows, share_interval
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.reward.regularize import adversarial_delta
from rrpo.tokens import length_mask, pad


def figures(model: RewardModel, utterances: Sequence[Utterance], seed: int = 0) -> dict[str, Any]:
    """Return the accuracy under small and large pushes and under noise, each with its interval.

    As in the test of the model, only the emotions both sides share are scored.

    Raises:
        UserError: as `rrpo.evaluate.ser.scored_rows`.
    """
    rows, _ = scored_rows(model, utterances)
    speakers = np.array([row.speaker or "" for row in rows])
    right = {
        "FGM 0.5": pushed(model, rows, 0.5),
        "FGM 4": pushed(model, rows, 4.0),
        "20 % random tokens": scrambled(model, rows, 0.2, seed),
    }
    return {name: share_interval(np.array(hits), speakers, seed) for name, hits in right.items()}


def with_tests(
    model: RewardModel, test_sets: Mapping[str, Sequence[Utterance]], seed: int = 0
) -> dict[str, Any]:
    """Return a reward model's figures on each test set, and its robustness on the first of them."""
    reports = {name: ser.evaluate(model, rows, seed) for name, rows in test_sets.items()}
    first = next(iter(test_sets.values()))
    return {**ser.by_measure(reports), "robustness": figures(model, first, seed)}


def pushed(
    model: RewardModel, utterances: Sequence[Utterance], epsilon: float, batch_size: int = 64
) -> list[bool]:
    """Say of each utterance whether it is still right after one gradient step against it.

    The encoder's frames h' (B, L, D) are moved by epsilon, the length of an utterance's whole step,
    along the normalised gradient of the loss (FGM, as RRPO trains against with epsilon 0.5). The
    model chooses among the emotions that occur.
    """
    columns, every = _labels(model, utterances)
    model.eval()
    right: list[bool] = []
    for start in range(0, len(utterances), batch_size):
        rows = utterances[start : start + batch_size]
        tokens = pad([torch.from_numpy(row.tokens) for row in rows])
        mask = length_mask(torch.tensor([row.tokens.size for row in rows]))
        labels = every[start : start + batch_size]
        with torch.no_grad():
            hidden = model.encode(model.embed(tokens), mask)
        hidden = hidden.detach().requires_grad_()
        logits = model.classify(model.pool(hidden, mask))[:, columns]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, hidden)
        with torch.no_grad():
            moved = hidden + adversarial_delta(gradient, epsilon)
            found = model.classify(model.pool(moved, mask))[:, columns]
        right += (found.argmax(-1) == labels).tolist()
    return right


def scrambled(
    model: RewardModel, utterances: Sequence[Utterance], share: float, seed: int = 0
) -> list[bool]:
    """Say of each utterance whether it is right after a share of its tokens is drawn at random."""
    columns, labels = _labels(model, utterances)
    rng = np.random.default_rng(seed)
    noisy = []
    for row in utterances:
        wrong = rng.random(row.tokens.size) < share
        noise = rng.integers(model.config.codes, size=row.tokens.size)
        noisy.append(torch.from_numpy(np.where(wrong, noise, row.tokens)))
    verdict: list[bool] = (log_posteriors(model, noisy)[:, columns].argmax(-1) == labels).tolist()
    return verdict


def _labels(model: RewardModel, utterances: Sequence[Utterance]) -> tuple[list[int], Tensor]:
    """Return the model's classes that occur, as indices, and the place (n,) of each row's there."""
    _, shared = scored_rows(model, utterances)
    known = model.classes()
    labels = torch.tensor([shared.index(row.emotion) for row in utterances])
    return [known.index(name) for name in shared], labels

"""Ascent in a reward model's embeddings: what adversarial training is trained against."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rrpo.attack.goal import Goal, Outcome, margins
from rrpo.reward import RewardModel
from rrpo.reward.regularize import adversarial_delta
from rrpo.tokens import batch

STEPS, BATCH = 20, 64
Place = Literal["frames", "pooled"]


def ascend(
    model: RewardModel, goal: Goal, epsilon: float, at: Place = "frames", steps: int = STEPS
) -> Outcome:
    """Add δ with ‖δ‖₂ ≤ ε to each utterance's h' so that the wanted emotion leads.

    Projected gradient ascent on the margin. Nothing is tuned: steps begin at 2 ε and halve, from
    the best place so far, whenever one does not help (after APGD, Croce & Hein 2020).

    Args:
        epsilon: of each utterance: over all its frames and dimensions, or of its pooled vector.
        at: h' is the encoder's output ("frames", (L, D)) or the pooled vector ("pooled", (D,)).
    """
    tokens, classes = goal.tokens, goal.classes(model)
    found, vanished = [], []
    for start in range(0, len(tokens), BATCH):
        ids, mask = batch(tokens[start : start + BATCH], model.table.device)
        with torch.no_grad():
            hidden = model.encode(model.embed(ids), mask)
            origin = hidden if at == "frames" else model.pool(hidden, mask)

        def said(place: Tensor, mask: Tensor = mask) -> Tensor:
            pooled = model.pool(place, mask) if at == "frames" else place
            return model.classify(pooled).log_softmax(-1)

        wanted = classes[start : start + BATCH].to(origin.device)
        delta, flat = _ascend(said, origin, wanted, epsilon, steps)
        with torch.no_grad():
            found.append(said(origin + delta).float().cpu())
        vanished.append(flat.cpu())
    return Outcome(torch.cat(found), None, 2 * steps, torch.cat(vanished))


def _ascend(
    said: Callable[[Tensor], Tensor], origin: Tensor, wanted: Tensor, epsilon: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Return the best δ, shaped as the origin, and where the first gradient was zero (B,)."""
    best = steepest = torch.zeros_like(origin)
    reached = torch.full((len(origin),), float("-inf"), device=origin.device)
    size = torch.full_like(reached, 2 * epsilon)
    delta, flat = best, torch.zeros_like(reached, dtype=torch.bool)
    shape = (-1, *[1] * (origin.ndim - 1))
    for step in range(steps):
        place = (origin + delta).requires_grad_()
        margin = margins(said(place), wanted)
        (gradient,) = torch.autograd.grad(margin.sum(), place)
        better = margin.detach() > reached
        best = torch.where(better.view(shape), delta, best)
        steepest = torch.where(better.view(shape), adversarial_delta(gradient, 1.0), steepest)
        reached = torch.where(better, margin.detach(), reached)
        size = torch.where(better, size, size / 2)
        if step == 0:
            flat = gradient.flatten(1).abs().amax(1) == 0
        moved = best + size.view(shape) * steepest
        norm = moved.flatten(1).norm(dim=1).clamp_min(torch.finfo(moved.dtype).tiny)
        delta = moved * (epsilon / norm).clamp(max=1.0).view(shape)
    with torch.no_grad():
        last = margins(said(origin + delta), wanted)
    return torch.where((last > reached).view(shape), delta, best), flat

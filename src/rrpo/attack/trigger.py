"""A universal trigger: one string of tokens for each emotion that works after any utterance."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.attack.goal import Goal, Outcome, margins
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.tokens import batch

LENGTH, ROUNDS, CANDIDATES, HEARD = 4, 8, 16, 12


def trigger(
    model: RewardModel, goal: Goal, length: int = LENGTH, rounds: int = ROUNDS, seed: int = 0
) -> Outcome:
    """Append a string to each utterance that was found on other utterances.

    The strings of one half of the utterances are found on the other half, and the other way round,
    so none is tried on what it was made with (Wallace et al. 2019). Each half has every second
    utterance of an emotion.

    Args:
        length: tokens of a string; four are .16 s at 25 a second.
        rounds: exchanges of one of its tokens.
        seed: of the strings to start with, and of the utterances that they are found on.
    """
    generator = torch.Generator().manual_seed(seed)
    result = [row.clone() for row in goal.tokens]
    halves, found = _halves([row.emotion for row in goal.rows]), False
    for half, others in (halves, halves[::-1]):
        for emotion in dict.fromkeys(goal.emotions):
            wanted = model.classes().index(emotion)
            heard = [one for one in others if goal.rows[one].emotion != emotion]
            order = torch.randperm(len(heard), generator=generator)[:HEARD].tolist()
            rows = [goal.tokens[heard[place]] for place in order]
            places = [place for place in half if goal.emotions[place] == emotion]
            if not rows or not places:
                continue
            string = torch.randint(model.config.codes, (length,), generator=generator)
            string = _find(model, rows, wanted, string, rounds)
            found = True
            for place in places:
                result[place] = torch.cat([result[place], string])
    passes = rounds * (CANDIDATES + 1) if found else 0
    return Outcome(log_posteriors(model, result), result, passes)


def _halves(emotions: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the places of two halves, each with every second of an emotion.

    The first of every second emotion is in the other half, for where there is one of each.
    """
    seen: Counter[str] = Counter()
    halves: tuple[list[int], list[int]] = ([], [])
    for place, emotion in enumerate(emotions):
        first = len(seen) if emotion not in seen else [*seen].index(emotion)
        halves[(first + seen[emotion]) % 2].append(place)
        seen[emotion] += 1
    return halves


def _find(
    model: RewardModel, rows: list[Tensor], wanted: int, string: Tensor, rounds: int
) -> Tensor:
    """Return a string (L,) after which the wanted class leads by most, on average over the rows."""
    classes, device = torch.full((len(rows),), wanted), model.table.device

    def reached(strings: Tensor) -> Tensor:
        joined = [torch.cat([row, one]) for one in strings for row in rows]
        margin = margins(log_posteriors(model, joined), classes.repeat(len(strings)))
        return margin.view(len(strings), -1).mean(1)

    best = float(reached(string[None]))
    for _ in range(rounds):
        ids, mask = batch([torch.cat([row, string]) for row in rows], device)
        place = model.embed(ids).detach().requires_grad_()
        margin = margins(model.log_posterior(place, mask), classes.to(device))
        (gradient,) = torch.autograd.grad(margin.sum(), place)
        ends = torch.stack(
            [
                part[len(row) : len(row) + len(string)]
                for part, row in zip(gradient, rows, strict=True)
            ]
        ).mean(0)  # (L, D)
        with torch.no_grad():
            gain = ends @ model.table.T
            gain -= gain.gather(1, string.to(device)[:, None])
            chosen = gain.flatten().topk(CANDIDATES).indices.cpu()
        tried = string.repeat(CANDIDATES, 1)
        tried[torch.arange(CANDIDATES), chosen // model.config.codes] = chosen % model.config.codes
        margin = reached(tried)
        if float(margin.max()) <= best:
            break
        best, string = float(margin.max()), tried[int(margin.argmax())]
    return string

"""A few speech tokens exchanged: along the gradient, and by search without one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rrpo.attack.goal import Goal, Outcome, margins
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.tokens import batch

CANDIDATES, BATCH = 32, 8


def by_gradient(
    model: RewardModel,
    goal: Goal,
    counts: Sequence[int],
    allowed: Sequence[Tensor] | None = None,
    candidates: int = CANDIDATES,
) -> dict[int, Outcome]:
    """Exchange tokens one after the other, each time the best of those that look best.

    What an exchange would bring is read off the gradient of the margin, (e_v − e_t)·g (HotFlip,
    Ebrahimi et al. 2018); the most promising are tried, and the best of them is exchanged, be it
    for the worse. No token is exchanged twice. More that are tried find more: what is found is a
    lower bound.

    Args:
        counts: of exchanges at the most, of which the best so far is the outcome, be it none; an
            utterance has at most its length.
        allowed: for each utterance (T_n, V) bool, what may stand where; None: anything.
        candidates: how many are tried for each exchange.

    Returns:
        the outcome of each of the counts.
    """
    every = [row.clone() for row in goal.tokens]
    classes, found = goal.classes(model), {}
    kept, best = list(goal.tokens), margins(log_posteriors(model, every), classes)
    reached = torch.full((len(every),), float("-inf"))
    free = [torch.ones(len(row), dtype=torch.bool) for row in every]
    flat = torch.zeros(len(every), dtype=torch.bool)
    for done in range(1, max(counts) + 1):
        for start in range(0, len(every), BATCH):
            part = slice(start, start + BATCH)
            may = None if allowed is None else allowed[part]
            reached[part], zero = _exchange(
                model, every[part], classes[part], free[part], may, candidates
            )
            if done == 1:
                flat[part] = zero
        for index in (reached > best).nonzero()[:, 0].tolist():
            kept[index] = every[index].clone()
        best = torch.maximum(best, reached)
        if done in counts:
            said = log_posteriors(model, kept)
            found[done] = Outcome(said, list(kept), done * (candidates + 1), flat)
    return found


def _exchange(
    model: RewardModel,
    tokens: Sequence[Tensor],
    classes: Tensor,
    free: Sequence[Tensor],
    allowed: Sequence[Tensor] | None,
    candidates: int,
) -> tuple[Tensor, Tensor]:
    """Exchange one token of each of B utterances in place.

    Args:
        free: for each (T_b,) bool, what was not exchanged yet; changed in place.

    Returns:
        the margins (B,) that are reached, −inf where nothing could be exchanged, and where the
        gradient was zero (B,).
    """
    device = model.table.device
    ids, mask = batch(tokens, device)
    place = model.embed(ids).detach().requires_grad_()
    margin = margins(model.log_posterior(place, mask), classes.to(device))
    (gradient,) = torch.autograd.grad(margin.sum(), place)
    with torch.no_grad():
        gain = gradient @ model.table.T - (gradient * place).sum(-1, keepdim=True)  # (B, T, V)
        open_places = batch(free, device)[0].bool() & mask
        gain.masked_fill_(~open_places[..., None], float("-inf"))
        gain.scatter_(2, ids[..., None], float("-inf"))
        if allowed is not None:
            for row, may in zip(gain, allowed, strict=True):
                row[: len(may)].masked_fill_(~may.to(device), float("-inf"))
        promised, chosen = gain.flatten(1).topk(candidates)
    chosen, promised = chosen.cpu(), promised.cpu()
    vocabulary = model.config.codes
    reached = torch.full((len(tokens),), float("-inf"))
    for index, row in enumerate(tokens):
        tried = chosen[index][promised[index].isfinite()]
        if not len(tried):
            continue
        changed = row.repeat(len(tried), 1)
        changed[torch.arange(len(tried)), tried // vocabulary] = tried % vocabulary
        said = log_posteriors(model, list(changed))
        reached[index], best = margins(said, classes[index].expand(len(tried))).max(0)
        row.copy_(changed[best])
        free[index][int(tried[best]) // vocabulary] = False
    return reached, gradient.flatten(1).abs().amax(1).cpu() == 0


def by_search(model: RewardModel, goal: Goal, count: int, passes: int, seed: int = 0) -> Outcome:
    """Exchange tokens without looking at a gradient: keep a random change where it helps.

    It starts with `count` random tokens at random places; each pass moves one of them, or draws its
    token again (after the square attack, Andriushchenko et al. 2020).

    Args:
        count: how many tokens of each utterance differ at most; none where nothing helps.
        passes: of the model over the utterances.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    original, classes = goal.tokens, goal.classes(model)

    def drawn(high: int, size: tuple[int, ...] = ()) -> Tensor:
        return torch.randint(high, size, generator=generator)

    codes = model.config.codes
    places = [torch.randperm(len(row), generator=generator)[:count] for row in original]
    values = [drawn(codes, (len(own),)) for own in places]
    best = torch.full((len(original),), float("-inf"))
    kept = [row.clone() for row in original]
    for number in range(passes):
        tried = []
        for row, where, what in zip(original, places, values, strict=True):
            place, value = where.clone(), what.clone()
            if number:
                one = int(drawn(len(place)))
                value[one] = drawn(codes)
                target = int(drawn(len(row)))
                if int(drawn(2)) and target not in place:
                    place[one] = target
            tried.append((place, value))
        changed = [
            row.index_put((place,), value)
            for row, (place, value) in zip(original, tried, strict=True)
        ]
        reached = margins(log_posteriors(model, changed), classes)
        for index in (reached > best).nonzero()[:, 0].tolist():
            places[index], values[index] = tried[index]
            kept[index] = changed[index]
        best = torch.maximum(best, reached)
    said, untouched = log_posteriors(model, kept), log_posteriors(model, original)
    worse = best < margins(untouched, classes)
    kept = [row if bad else one for row, one, bad in zip(original, kept, worse, strict=True)]
    return Outcome(torch.where(worse[:, None], untouched, said), kept, passes)

"""All attacks on some reward models, each utterance's worst case, and what gives an attack away."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rrpo.attack.embedding import Place, ascend
from rrpo.attack.goal import Goal, Outcome, margins, untouched
from rrpo.attack.insertion import INSERTS, TRIES, insert
from rrpo.attack.policy import by_policy
from rrpo.attack.substitution import CANDIDATES, by_gradient, by_search
from rrpo.attack.tools import NOTHING, Judge, Tools
from rrpo.attack.trigger import ROUNDS, trigger
from rrpo.evaluate.statistics import interval, paired_interval
from rrpo.interval import Interval
from rrpo.progress import Progress
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors

Hits = NDArray[np.bool_]
UNTOUCHED = "untouched"
EMBEDDINGS, EXCHANGES, SOUNDS, SPEECH = "embeddings", "tokens", "sounds", "speech"
"""What an attack changes."""


@dataclass(frozen=True)
class Size:
    """How much is attacked, and how hard; a policy is trained for at most `steps`, up to `kl`."""

    utterances: int = 96
    frames: tuple[float, ...] = (0.5, 2.0, 8.0)
    pooled: tuple[float, ...] = (0.5, 2.0)
    exchanges: tuple[int, ...] = (1, 2, 4, 8)
    searched: tuple[int, ...] = (1, 4)
    rounds: int = ROUNDS
    tries: int = TRIES
    steps: int = 60
    kl: float = 0.3


FULL = Size()
QUICK = replace(
    FULL,
    utterances=20,
    frames=(0.5, 2.0),
    exchanges=(1, 2, 4),
    searched=(4,),
    rounds=3,
    tries=2,
    steps=0,
)


@dataclass(frozen=True)
class Attack:
    """An attack by name: what it changes, what came of it, and what is worth a note."""

    name: str
    changes: str
    outcome: Outcome
    note: str = ""


def attacks(
    model: RewardModel, goal: Goal, size: Size, tools: Tools, seed: int
) -> Iterator[Attack]:
    """Attack a reward model in every way, one after the other; the first changes nothing."""
    yield Attack(UNTOUCHED, "", untouched(model, goal))
    places: list[tuple[Place, float]] = [
        *(("frames", epsilon) for epsilon in size.frames),
        *(("pooled", epsilon) for epsilon in size.pooled),
    ]
    for at, epsilon in places:
        outcome = ascend(model, goal, epsilon, at)
        yield Attack(f"{_of(at)} moved by {epsilon:g}", EMBEDDINGS, outcome)
    for count, outcome in by_gradient(model, goal, size.exchanges).items():
        yield Attack(exchanged(count), EXCHANGES, outcome)
    for count in size.searched:
        passes = count * (CANDIDATES + 1)
        outcome = by_search(model, goal, count, passes, seed)
        yield Attack(f"{exchanged(count)}, without the gradient", EXCHANGES, outcome)
    if tools.allowed is not None:
        for count, outcome in by_gradient(model, goal, size.exchanges, tools.allowed).items():
            yield Attack(f"{exchanged(count)}, likely ones", EXCHANGES, outcome)
    outcome = trigger(model, goal, rounds=size.rounds, seed=seed)
    note = "" if outcome.passes else "too few utterances to find one on"
    yield Attack("a string appended", EXCHANGES, outcome, note)
    if tools.codec is not None and tools.audios is not None:
        for name, change in INSERTS.items():
            outcome = insert(model, goal, tools.codec, tools.audios, change, size.tries, seed)
            yield Attack(name, SOUNDS, outcome)
    for name, tokens in tools.inserted.items():
        yield Attack(name, SOUNDS, Outcome(log_posteriors(model, tokens), tokens, 1))
    if tools.start is not None and size.steps:
        spoken, reached = by_policy(model, tools.start, size.steps, size.kl, seed)
        for name, outcome in spoken.items():
            note = f"KL {reached:.2f}" if outcome.passes > 1 else ""
            yield Attack(name, SPEECH, outcome, note)


def _of(at: Place) -> str:
    return "frames" if at == "frames" else "pooled vector"


def exchanged(count: int) -> str:
    """Name the attack that exchanges so many tokens."""
    return f"{count} token{'s' if count > 1 else ''} exchanged"


def assess(
    models: Mapping[str, RewardModel],
    goal: Goal,
    size: Size = FULL,
    tools: Tools = NOTHING,
    seed: int = 0,
    keep: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Attack reward models and return their figures, and how attacks carry over between them.

    Args:
        models: by name.
        goal: what is attacked.
        size: how much, and how hard.
        tools: what attacks can use besides.
        seed: of what is drawn.
        keep: called with `models` so far after each.

    Returns:
        `models`: by name `attacks` (a list), `worst` and `warnings`; `transfer`: of each pair of
        models the share of utterances at which the tokens found on the one deceive the other.
    """
    groups = [row.text or row.id for row in goal.rows]
    heard = None if tools.judge is None else tools.judge.hears(goal.tokens)
    figures, found = {}, {}
    for name, model in models.items():
        model.eval()
        made = []
        with Progress(f"attack {name}", _count(size, tools)) as progress:
            for number, attack in enumerate(attacks(model, goal, size, tools, seed)):
                made.append(attack)
                progress.update(number + 1)
        figures[name] = _figures(model, goal, made, heard, tools.judge, groups)
        keep({"models": figures})
        found[name] = next(one.outcome for one in made if one.name == exchanged(_carried(size)))
    return {
        "models": figures,
        "transfer": {
            first: {
                second: interval(_deceived(model, goal, found[first].tokens or []), groups=groups)
                for second, model in models.items()
            }
            for first in models
        },
        "carried": exchanged(_carried(size)),
    }


def _count(size: Size, tools: Tools) -> int:
    exchanges = len(size.exchanges) * (1 if tools.allowed is None else 2)
    sounds = len(tools.inserted) + (0 if tools.codec is None else len(INSERTS))
    spoken = 2 if tools.start is not None and size.steps else 0
    embeddings = len(size.frames) + len(size.pooled)
    return 2 + embeddings + exchanges + len(size.searched) + sounds + spoken


def _carried(size: Size) -> int:
    return max(count for count in size.exchanges if count <= 4)


def _deceived(model: RewardModel, goal: Goal, tokens: Sequence[Tensor]) -> NDArray[np.bool_]:
    said = log_posteriors(model, list(tokens))
    return np.asarray(margins(said, goal.classes(model)) > 0)


def _figures(
    model: RewardModel,
    goal: Goal,
    made: Sequence[Attack],
    heard: NDArray[np.float64] | None,
    judge: Judge | None,
    groups: Sequence[str],
) -> dict[str, Any]:
    """Return the figures of each attack, the worst case of each kind, and warnings."""
    classes = goal.classes(model)
    before = made[0].outcome.log_posteriors.gather(1, classes[:, None])[:, 0]
    rows, deceived, unheard = [], dict[str, Hits](), dict[str, Hits]()
    for attack in made:
        outcome = attack.outcome
        hits = np.asarray(margins(outcome.log_posteriors, classes) > 0)
        gained = outcome.log_posteriors.gather(1, classes[:, None])[:, 0] - before
        deceived[attack.name] = hits
        row: dict[str, Any] = {
            "name": attack.name,
            "changes": attack.changes,
            "note": attack.note,
            "passes": outcome.passes,
            "deceived": interval(hits, groups=groups),
            "gain": interval(gained.double().numpy(), groups=groups),
        }
        if judge is not None and heard is not None and outcome.tokens is not None:
            now = heard if attack.name == UNTOUCHED else judge.hears(outcome.tokens)
            wanted = np.array([judge.emotions.index(emotion) for emotion in goal.emotions])
            place = np.arange(len(now)), wanted
            unheard[attack.name] = hits & (now.argmax(1) != wanted)
            row["judge_gain"] = interval(now[place] - heard[place], groups=groups)
            row["unheard"] = interval(unheard[attack.name], groups=groups)
        rows.append(row)
    return {
        "attacks": rows,
        "worst": _worst(made, deceived, groups),
        "worst_unheard": _worst(made, unheard, groups),
        "warnings": _warnings(made, deceived, groups),
    }


def _worst(
    made: Sequence[Attack], hits: Mapping[str, Hits], groups: Sequence[str]
) -> dict[str, Interval]:
    """Return for each kind of change the share of utterances in which any attack succeeds.

    Args:
        made: the attacks.
        hits: for each attack (N,), where it succeeds; those of other names are left out.
        groups: N, what is drawn as one.
    """
    worst = {}
    for kind in (EXCHANGES, SOUNDS):
        every = [hits[one.name] for one in made if one.changes == kind and one.name in hits]
        if every:
            worst[kind] = interval(np.max(every, axis=0), groups=groups)
    return worst


def _warnings(
    made: Sequence[Attack], deceived: Mapping[str, Hits], groups: Sequence[str]
) -> list[str]:
    """Say what speaks for gradients that hide something: then robustness is overrated."""
    found = []
    for attack in made:
        flat = attack.outcome.vanished
        if flat is not None and bool(flat.any()):
            share = float(flat.double().mean())
            found.append(f"{attack.name}: the gradient is zero for {share:.0%} of the utterances")
        blind = f"{attack.name}, without the gradient"
        if blind in deceived:
            more: Interval = paired_interval(deceived[blind], deceived[attack.name], groups=groups)
            if more.low > 0:
                found.append(
                    f"{blind}: it deceives more often than along the gradient, by {more}, so the "
                    "gradient misleads"
                )
    for at in ("frames", "pooled vector"):
        shares = [
            float(deceived[one.name].mean()) for one in made if one.name.startswith(f"{at} moved")
        ]
        if any(later < earlier for earlier, later in pairwise(shares)):
            found.append(f"{at}: a longer step deceives less often, so the ascent fails")
    return found

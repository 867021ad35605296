"""Which texts in which emotions are heard: those that every system has, as many of each emotion."""

from collections.abc import Sequence

import numpy as np

from rrpo.errors import UserError
from rrpo.listen.systems import REFERENCE, Gathered, Item, item_name
from rrpo.report.numbers import counted

USUAL = 10
"""Texts of a test for each emotion, as in the paper's."""


SHOWN = 3
"""Texts that are named of those that are left out."""


def choose_items(
    gathered: Gathered, texts: int | None, emotions: Sequence[str] | None, seed: int
) -> tuple[list[Item], list[Item]]:
    """Choose the items of a test, and those that are left for its examples.

    Texts that are there in every emotion are preferred, so that each is heard in all of them; if
    there are too few, each emotion has texts of its own.

    Args:
        texts: how many for each emotion; None: ten, or all that there are but one.
        emotions: which; None: all that every system has.
        seed: of the choice.

    Returns:
        items, `texts` for each emotion; and what every system has besides.

    Raises:
        UserError: the systems do not have so many texts in common, or not in an emotion.
    """
    first, *rest = gathered.systems.values()
    rest += [gathered.reference] if gathered.reference else []
    common = [item for item in first if all(item in one for one in rest)]
    if not common:
        raise UserError(
            "no text in an emotion is there in every system: the texts and emotions of their "
            "tables must be the same"
        )
    there = list(dict.fromkeys(emotion for _, emotion in common))
    wanted: list[str | None] = there if emotions is None else [*emotions]
    by_emotion = {name: [text for text, one in common if one == name] for name in wanted}
    fewest = min(len(found) for found in by_emotion.values())
    if texts is None:
        texts = min(USUAL, max(fewest - 1, 1))  # one is left for the examples
    for name, found in by_emotion.items():
        if len(found) < texts:
            known = ", ".join(str(one) for one in there)
            raise UserError(
                f"{counted(texts, 'text')} in the emotion {name} cannot be had: the systems have "
                f"{len(found)} in common; choose fewer --texts, or other --emotions (there are "
                f"{known})"
            )
    rng = np.random.default_rng([seed, 1])
    in_all = [
        text for text in by_emotion[wanted[0]] if all(text in one for one in by_emotion.values())
    ]
    if len(in_all) >= texts:
        shared = _drawn(in_all, texts, rng)
        chosen = [(text, name) for text in shared for name in wanted]
    else:
        chosen = [
            (text, name) for name, found in by_emotion.items() for text in _drawn(found, texts, rng)
        ]
    used = {text for text, _ in chosen}
    return chosen, [item for item in common if item[0] not in used and item[1] in wanted]


def left_out(gathered: Gathered, emotions: Sequence[str] | None) -> list[str]:
    """Return a line of the texts that a system or the reference lacks, and one of other emotions.

    Args:
        gathered: systems and reference.
        emotions: of the test; None: all.
    """
    heard = dict(gathered.systems)
    heard |= {REFERENCE: gathered.reference} if gathered.reference else {}
    every = dict.fromkeys(item for one in heard.values() for item in one)
    wanted = [item for item in every if emotions is None or item[1] in emotions]
    lacking = {item: [n for n, one in heard.items() if item not in one] for item in wanted}
    lacking = {item: names for item, names in lacking.items() if names}
    lines = []
    if lacking:
        named = [f"{item_name(i)} ({', '.join(names)})" for i, names in lacking.items()]
        more = "; …" if len(named) > SHOWN else ""
        lines.append(
            f"{counted(len(lacking), 'text')} left out, with who lacks each: "
            f"{'; '.join(named[:SHOWN])}{more}"
        )
    others = dict.fromkeys(str(emotion) for _, emotion in every if (_, emotion) not in wanted)
    return [*lines, *([f"emotions left out: {', '.join(others)}"] if others else [])]


def _drawn(names: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Draw names without replacement, in their order."""
    return [names[index] for index in sorted(rng.permutation(len(names))[:count])]

"""The pages of a test, and the order in which each listener meets them."""

import itertools

import numpy as np

from rrpo.listen.design import Page, Role
from rrpo.listen.orders import Hear, assign, choose_repeated, weave, with_repeats
from rrpo.listen.sounds import ANCHOR_SYSTEM, Prepared, ReadySound, random_id
from rrpo.listen.systems import REFERENCE
from rrpo.listen.templates import NUMBER, Template

NOTES = {
    REFERENCE: "An example of good speech.",
    ANCHOR_SYSTEM: "An example of bad speech, with noise and clicks.",
}
SCALE_NOTES = {
    REFERENCE: "An example of good speech. Such speech belongs near the top of the scale.",
    ANCHOR_SYSTEM: "An example of bad speech, with noise and clicks: near the bottom of the scale.",
}
FIRST_NOTE = "An example, to set the volume and to try the answers."
MARK_NOTES = {
    REFERENCE: "An example without clicks: nothing needs to be marked.",
    ANCHOR_SYSTEM: "An example with clicks: try to mark each of them.",
}
COUNT_NOTE = "Listen to the beeps, and enter how many there are."
WRITTEN_NOTE = "This page only checks that somebody is there. Please enter the number {}."


class Pages:
    """Makes the pages of a test; each of `conditions` is a system, or an ordered pair of two."""

    def __init__(self, asked: Template, prepared: Prepared, seed: int) -> None:
        self.asked, self.prepared, self.seed = asked, prepared, seed
        names = list(prepared.systems)
        self.conditions: list[tuple[str, ...]] = (
            list(itertools.permutations(names, 2)) if asked.pairs else [(name,) for name in names]
        )
        self.pages: list[Page] = []
        self.by_id: dict[str, Page] = {}
        self.tested = {
            (number, condition): self._add(
                "test", [prepared.systems[name][item] for name in self.conditions[condition]]
            )
            for number, item in enumerate(prepared.items)
            for condition in range(len(self.conditions))
        }
        # The hidden reference and the low anchor are heard as the systems are, on their own.
        self.reference = {i: self._add("reference", [s]) for i, s in prepared.reference.items()}
        self.anchor = {i: self._add("anchor", [s]) for i, s in prepared.anchor.items()}
        self.training = self._training()
        self.attention = self._attention()
        self._again: dict[str, str] = {}

    def _add(self, role: Role, sounds: list[ReadySound], **more: str | None) -> str:
        """Add a page that asks the template's questions of sounds of one item; return its id."""
        text, emotion = sounds[0].item
        page = Page(
            id=random_id(),
            role=role,
            sounds=[one.id for one in sounds],
            questions=[one.name for one in self.asked.questions],
            text=text,
            emotion=emotion if self.asked.tells_emotion else None,
            **more,
        )
        return self._keep(page)

    def _keep(self, page: Page) -> str:
        self.pages.append(page)
        self.by_id[page.id] = page
        return page.id

    def again(self, page: str) -> str:
        """Return the page that asks another one again."""
        if page not in self._again:
            copy = self.by_id[page].model_copy(
                update={"id": random_id(), "role": "repeat", "repeats": page}
            )
            self._again[page] = self._keep(copy)
        return self._again[page]

    def _training(self) -> list[str]:
        examples = self.prepared.examples
        if self.asked.pairs:
            return [self._add("training", list(examples.values()), note=FIRST_NOTE)]
        kinds = {one.kind for one in self.asked.questions}
        notes = MARK_NOTES if "marks" in kinds else SCALE_NOTES if "scale" in kinds else NOTES
        return [
            self._add("training", [sound], note=notes.get(name, FIRST_NOTE))
            for name, sound in examples.items()
        ]

    def _attention(self) -> list[str]:
        """Make the attention checks: beeps to count, and numbers that are written."""
        heard = [
            Page(
                id=random_id(),
                role="attention",
                sounds=[sound.id],
                questions=[NUMBER.name],
                note=COUNT_NOTE,
                answer=float(count),
            )
            for count, sound in self.prepared.beeps.items()
        ]
        rng = np.random.default_rng([self.seed, 3])
        numbers = (rng.permutation(90)[: self.prepared.written] + 10).tolist()
        seen = [
            Page(
                id=random_id(),
                role="attention",
                sounds=[],
                questions=[NUMBER.name],
                note=WRITTEN_NOTE.format(number),
                answer=float(number),
            )
            for number in numbers
        ]
        return [self._keep(page) for page in [*heard, *seen]]


def planned_orders(pages: Pages, listeners: int, hear: Hear, repeats: int) -> list[list[str]]:
    """Return the pages of each listener in order: first the examples, then the test.

    In between lie the attention checks, and for each emotion a hidden reference and a low anchor,
    of another text for each listener. Pages of the first half are asked again in the last third.
    """
    items = pages.prepared.items
    assigned = assign(len(items), len(pages.conditions), listeners, hear, pages.seed)
    by_emotion: dict[str | None, list[tuple[str, str | None]]] = {}
    for item in items:
        by_emotion.setdefault(item[1], []).append(item)
    orders = []
    for listener, order in enumerate(assigned):
        rng = np.random.default_rng([pages.seed, 4, listener])
        main = [pages.tested[one] for one in order]
        again = [pages.again(one) for one in choose_repeated(main, repeats, rng)]
        of_emotions = [same[listener % len(same)] for same in by_emotion.values()]
        hidden = [
            group[item]
            for group in (pages.reference, pages.anchor)
            if group
            for item in of_emotions
        ]
        whole = weave(with_repeats(main, again, rng), hidden, rng)
        orders.append([*pages.training, *weave(whole, pages.attention, rng)])
    return orders

"""The sounds of a test: the systems', the hidden reference's, the low anchor's, the checks'."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.listen.design import Sound
from rrpo.listen.loudness import ANCHOR, amplified, beeps, degraded
from rrpo.listen.systems import REFERENCE, Gathered, Item, Renditions, item_name
from rrpo.listen.templates import Template

ANCHOR_SYSTEM, CHECK_SYSTEM = "anchor", "attention"
"""Systems of the design that are none that is tested."""


def random_id() -> str:
    """Return an id that tells nothing, not even to those who know the seed."""
    return secrets.token_hex(6)


@dataclass(frozen=True, eq=False)
class ReadySound:
    """A sound that is not yet as loud as the others: audio (N,), and what the design says of it."""

    id: str
    system: str
    item: Item
    source: str
    audio: Audio
    rate: int

    def amplified(self, gain_db: float) -> Audio:
        """Return the audio as it is heard."""
        return amplified(self.audio, gain_db)

    def described(self, gain_db: float) -> Sound:
        """Return it as the design holds it, but for the hash of a file that is not yet written."""
        return Sound(
            id=self.id,
            seconds=round(self.audio.size / self.rate, 3),
            system=self.system,
            item=item_name(self.item),
            emotion=self.item[1],
            source=self.source,
            sha256="",
            gain_db=round(gain_db, 2),
        )


@dataclass(frozen=True, eq=False)
class Prepared:
    """The sounds of a test.

    Attributes:
        items: that are compared, in their order.
        systems: system → item → sound.
        reference, anchor: item → sound, of items of the test.
        examples: role in the examples ("reference", "anchor" or a system) → sound.
        beeps: number of beeps → sound, of the attention checks that are heard.
        written: how many attention checks are written.
    """

    items: list[Item]
    systems: dict[str, dict[Item, ReadySound]]
    reference: dict[Item, ReadySound] = field(default_factory=dict)
    anchor: dict[Item, ReadySound] = field(default_factory=dict)
    examples: dict[str, ReadySound] = field(default_factory=dict)
    beeps: dict[int, ReadySound] = field(default_factory=dict)
    written: int = 0

    def every(self) -> list[ReadySound]:
        """Return all sounds, always in the same order."""
        groups = [*self.systems.values(), self.reference, self.anchor]
        found = [sound for group in groups for sound in group.values()]
        return [*found, *self.examples.values(), *self.beeps.values()]


def prepare(
    gathered: Gathered,
    items: Sequence[Item],
    left: Sequence[Item],
    asked: Template,
    seed: int,
    attention: int,
) -> Prepared:
    """Read the sounds of a test and make those of its checks.

    Tests of single sounds have a hidden reference, where there is one, and a low anchor, made from
    the reference or else from the first system; comparisons have neither. The examples are of an
    item that is not in the test, if any is left.
    """
    rng = np.random.default_rng([seed, 2])
    spoken = {
        name: {item: _read(name, item, found) for item in items}
        for name, found in gathered.systems.items()
    }
    first = next(iter(gathered.systems.values()))
    best = gathered.reference or first
    example = left[0] if left else items[0]
    reference: dict[Item, ReadySound] = {}
    anchor: dict[Item, ReadySound] = {}
    examples: dict[str, ReadySound] = {}
    if asked.pairs:
        for name in list(gathered.systems)[:2]:
            examples[name] = _read(name, example, gathered.systems[name])
    else:
        if gathered.reference:
            reference = {item: _read(REFERENCE, item, gathered.reference) for item in items}
            examples[REFERENCE] = _read(REFERENCE, example, gathered.reference)
        else:
            examples["first"] = _read(next(iter(gathered.systems)), example, first)
        low = _anchor_of(seed)
        anchor = {item: low(_read(ANCHOR_SYSTEM, item, best)) for item in items}
        examples[ANCHOR_SYSTEM] = low(_read(ANCHOR_SYSTEM, example, best))
    # Half of the checks are heard, at most five: counts of 2 to 6 beeps.
    counts = (rng.permutation(5)[: attention - attention // 2] + 2).tolist()
    return Prepared(
        list(items),
        spoken,
        reference,
        anchor,
        examples,
        {count: _beeps(count) for count in counts},
        attention - len(counts),
    )


def _read(system: str, item: Item, found: Renditions) -> ReadySound:
    audio, rate = found[item].sound()
    return ReadySound(random_id(), system, item, found[item].source, audio, rate)


def _anchor_of(seed: int) -> Callable[[ReadySound], ReadySound]:
    def low(one: ReadySound) -> ReadySound:
        sound = degraded(one.audio, one.rate, seed)
        return ReadySound(one.id, one.system, one.item, f"{one.source}, {ANCHOR}", sound, one.rate)

    return low


def _beeps(count: int) -> ReadySound:
    item = (f"{count} beeps", None)
    return ReadySound(random_id(), CHECK_SYSTEM, item, "made", beeps(count), SAMPLE_RATE)

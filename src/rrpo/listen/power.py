"""How many listeners a difference asks for, from assumed variances or those of a pilot test."""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist

from rrpo.listen.orders import Hear

NORMAL = NormalDist()
SURE, POWER = NORMAL.inv_cdf(0.975), NORMAL.inv_cdf(0.8)
"""Normal quantiles of a two-sided level of 5 % and of a probability of 80 %."""
MOST = 1000
"""Listeners beyond which nobody looks."""


@dataclass(frozen=True)
class Variances:
    """Parts of the variance of one rating, in squared units of its scale.

    Attributes:
        listener: some rate everything higher.
        item: some items are rated higher in every system.
        listener_system: some like a system more than others do.
        item_system: a system is better at some items than at others.
        listener_item: some like an item more than others do; a listener who hears an item in
            both systems has it in both.
        rest: what differs when the same listener hears the same sound again.
    """

    listener: float = 0.25
    item: float = 0.05
    listener_system: float = 0.04
    item_system: float = 0.03
    listener_item: float = 0.1
    rest: float = 0.4


ASSUMED = Variances()
SOURCE = (
    "assumed, for a scale of 1 to 5: item + item_system = 0.08 fits the intervals of the RRPO "
    "paper's Table 1 (about ±0.09), read as taken over its 50 utterances of 20 ratings each; the "
    "others are round figures, which a pilot test replaces"
)
"""Where the assumed variances come from."""


@dataclass(frozen=True)
class Planned:
    """What a power calculation says.

    Attributes:
        difference: that is looked for, between two systems.
        listeners, items, systems: of the test; `hear`: one system of each item, or all.
        power: probability of finding it with these listeners.
        listeners_needed: for a probability of 80 %; None where no number of listeners is enough.
        items_needed: the fewest with which these listeners find it; None where none is enough.
        together: listeners and items that find it, where no number of either alone is enough.
        smallest: the difference that these listeners find with a probability of 80 %.
    """

    difference: float
    listeners: int
    items: int
    systems: int
    hear: Hear
    power: float
    listeners_needed: int | None
    items_needed: int | None
    together: tuple[int, int] | None
    smallest: float
    variances: Variances
    source: str


def difference_variance(
    variances: Variances, listeners: int, items: int, systems: int, hear: Hear
) -> float:
    """Return the variance of the difference of two systems' means, over listeners and items.

    With σ² the parts of a rating's variance, L listeners, I items and S systems it is
    2 σ²_ls / L + 2 σ²_is / I + 2 σ² / n. If each listener hears each item in all systems, what the
    listener thinks of the item cancels: σ² = σ²_rest and n = L I. If each hears it in one, it does
    not: σ² = σ²_li + σ²_rest and n = L I / S. What listeners or items have in all systems cancels
    in a balanced design.
    """
    rest, count = variances.rest, float(listeners * items)
    if hear == "one":
        rest, count = rest + variances.listener_item, count / systems
    return 2.0 * (
        variances.listener_system / listeners + variances.item_system / items + rest / count
    )


def plan(
    listeners: int,
    items: int,
    systems: int,
    hear: Hear,
    difference: float = 0.1,
    variances: Variances = ASSUMED,
    source: str = SOURCE,
) -> Planned:
    """Calculate the power of a test for a difference between two systems (normal approximation)."""

    def error(count: int, heard: int) -> float:
        return math.sqrt(difference_variance(variances, count, heard, systems, hear))

    wanted = difference / (SURE + POWER)

    def enough_with(heard: int) -> int | None:
        return next((n for n in range(2, MOST + 1) if error(n, heard) <= wanted), None)

    needed = enough_with(items)
    heard = [n for n in range(2, MOST + 1) if error(listeners, n) <= wanted]
    return Planned(
        difference,
        listeners,
        items,
        systems,
        hear,
        NORMAL.cdf(difference / error(listeners, items) - SURE),
        needed,
        heard[0] if heard else None,
        next(
            (
                (more, many * items)
                for many in (2, 3, 4, 6, 8)
                if (more := enough_with(many * items))
            ),
            None,
        )
        if needed is None and not heard
        else None,
        (SURE + POWER) * error(listeners, items),
        variances,
        source,
    )


def told(planned: Planned) -> list[str]:
    """Return a power calculation as lines."""
    asked = f"{planned.difference:g}"
    lines = [
        f"power: {planned.listeners} listeners × {planned.items} items, each hears "
        f"{'one system' if planned.hear == 'one' else 'all systems'} of an item: a difference of "
        f"{asked} is found with a probability of {planned.power:.0%}, one of "
        f"{planned.smallest:.2f} with 80 %"
    ]
    if planned.listeners_needed is not None:
        lines.append(f"for {asked} with 80 %: {planned.listeners_needed} listeners")
    else:
        lines.append(
            f"for {asked} with 80 % no number of listeners is enough with {planned.items} items: "
            "the difference has to hold for other items, too"
        )
    if planned.items_needed is not None and planned.items_needed > planned.items:
        lines.append(f"  or {planned.items_needed} items with {planned.listeners} listeners")
    if planned.together is not None:
        people, texts = planned.together
        lines.append(f"  together {people} listeners and {texts} items are enough")
    parts = ", ".join(f"{name} {value:.3g}" for name, value in asdict(planned.variances).items())
    return [*lines, f"variances ({planned.source}): {parts}"]

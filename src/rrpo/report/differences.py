"""By how much the systems of a demo differ, with the interval of the difference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rrpo.evaluate.statistics import difference_of_intervals, paired_interval
from rrpo.interval import Interval
from rrpo.measures import Entry, Measure, figure_of, own_reward_model, section

LESS = "less "
"""What precedes the name of a system in the key of the differences to it."""


@dataclass(frozen=True)
class Figures:
    """The figures of a demo's systems, and what was measured of each utterance.

    Attributes:
        reference: the figures of the real tokens.
        systems: figures by system.
        rows: utterances by system and id.
    """

    reference: Entry
    systems: Mapping[str, Entry]
    rows: Mapping[str, Mapping[str, Entry]]

    def difference(self, new: str, old: str, measure: Measure) -> Interval | None:
        """Return a measure of one system less that of another; None where one has none.

        Paired where both have spoken the same utterances, of those that have it in both, its
        interval over their sentences; otherwise from the two intervals.
        """
        return self._difference(new, old, measure.of, measure.key, measure.is_share)

    def reward_difference(self, new: str, old: str, model: str) -> Interval | None:
        """Return one system's reward under a reward model less another's."""

        def of(row: Entry) -> float | None:
            found = figure_of(row, f"reward.{model}")
            return None if found is None else found.mean

        return self._difference(new, old, of, f"rewards.{model}")

    def _difference(
        self,
        new: str,
        old: str,
        of: Callable[[Entry], float | None],
        key: str,
        share: bool = False,
    ) -> Interval | None:
        first, second = (_values(self.rows.get(name, {}), of) for name in (new, old))
        paired = [name for name in first if name in second]
        if len(paired) > 1:
            texts = [str(self.rows[new][name].get("text")) for name in paired]
            both = ([first[name] for name in paired], [second[name] for name in paired])
            one, other = (np.array(values, bool if share else float) for values in both)
            return paired_interval(one, other, groups=texts)
        whole, before = (figure_of(self.systems.get(name), key) for name in (new, old))
        if whole is None or before is None:
            return None
        return difference_of_intervals(whole, before)


def _values(rows: Mapping[str, Entry], of: Callable[[Entry], float | None]) -> dict[str, float]:
    return {name: value for name, row in rows.items() if (value := of(row)) is not None}


def figures(results: Mapping[str, Any], samples: Sequence[Entry]) -> Figures:
    """Gather them from what results.json and samples.jsonl hold; absent parts are left out."""
    rows: dict[str, dict[str, Entry]] = {}
    for sample in samples:
        rows.setdefault(str(sample.get("system")), {})[str(sample.get("id"))] = sample
    systems = section(results, "systems")
    entries = {name: section(systems, name) for name in systems}
    return Figures(section(results, "reference"), entries, rows)


def reward_of(systems: Mapping[str, Entry], name: str, model: str) -> Interval | None:
    """Return the reward of a system under a reward model, from `rewards` or, if own, `reward`."""
    found = figure_of(systems.get(name), f"rewards.{model}")
    if found is None and own_reward_model(systems.get(name, {})) == model:
        return figure_of(systems.get(name), "reward")
    return found

"""What comes of the planted study: rows of figures, pooled over the seeds that are there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrpo.evaluate.matched import matched_means, reached, run_interval
from rrpo.interval import Interval
from rrpo_studies.planted.plan import Job, Plan, jobs
from rrpo_studies.planted.recipes import POLICIES
from rrpo_studies.planted.trainings import found_at

REWARD_MEASURES = ("accuracy", "gain", "fooled")
DETECTOR, DETECTOR_MEASURES = "detector", ("found", "false_alarms")
LAST = ("planted", "others", "judge", "judge_others", "kl", "tokens")
MATCHED = {"kl": "at equal KL", "judge": "at equal judge probability"}
"""Keys at which the artifacts of two policies are compared."""
FIRST_MODEL, FIRST_POLICY = "plain", "diffro"
"""What all other reward models, and all other policies, are compared with."""
CONTROL = "control"
LESS_CONTROL = "planted less the control's"
KLS = (0.03, 0.1, 0.2, 0.3)
"""Nats per token at which the artifacts of each policy are read off its looks."""
TENTH_LATE = f"planted less a tenth of {FIRST_POLICY} late"
TENTH_MORE = f"planted less the control's, less a tenth of {FIRST_POLICY}'s"
LESS_UNPLANTED = f"accuracy less {FIRST_MODEL} without correlation"
TENTH = 0.1
"""The share of the first policy's artifacts that the goal allows."""


@dataclass(frozen=True)
class Row:
    """One figure: of a reward model, or of a policy that was trained against it."""

    rho: float
    artifact: str
    reward_model: str
    policy: str
    measure: str
    value: Interval
    seeds: int

    def as_json(self) -> dict[str, Any]:
        """Return the row with the interval's three numbers beside the rest."""
        low, high = (self.value.low, self.value.high) if self.value.known else (None, None)
        ends = {"mean": self.value.mean, "low": low, "high": high}
        told = {
            "rho": self.rho,
            "artifact": self.artifact,
            "reward_model": self.reward_model,
            "policy": self.policy,
            "measure": self.measure,
        }
        return {**told, **ends, "seeds": self.seeds}


Found = Mapping[Job, Mapping[str, Any]]


def found_in(out: Path, plan: Plan) -> dict[Job, Any]:
    """Return the figures of what is finished."""
    every = [job for group in jobs(plan) for job in group]
    found = {job: found_at(out, plan, job) for job in every}
    return {job: figures for job, figures in found.items() if figures is not None}


def rows_of(found: Found) -> list[Row]:
    """Return all rows: of reward models, then of policies; differences are paired by seed."""
    return [*_reward_rows(found), *_detector_rows(found), *_policy_rows(found)]


def _reward_rows(found: Found) -> Iterable[Row]:
    cells = _cells(found, "reward")
    for (rho, artifact, model), seeds in cells.items():
        plain = cells.get((rho, artifact, FIRST_MODEL), {})
        unplanted = cells.get((0.0, artifact, FIRST_MODEL), {})
        for measure in REWARD_MEASURES:
            values = [one[measure] for one in seeds.values()]
            yield _row(rho, artifact, model, "", measure, values)
            if measure == "accuracy" and (both := [seed for seed in seeds if seed in unplanted]):
                less = [seeds[seed][measure] - unplanted[seed][measure] for seed in both]
                yield _row(rho, artifact, model, "", LESS_UNPLANTED, less)
            both = [seed for seed in seeds if seed in plain]
            if both and model != FIRST_MODEL:
                less = [seeds[seed][measure] - plain[seed][measure] for seed in both]
                yield _row(rho, artifact, model, "", f"{measure} less plain", less)


def _detector_rows(found: Found) -> Iterable[Row]:
    for (rho, artifact, _), seeds in _cells(found, "detector").items():
        for measure in DETECTOR_MEASURES:
            values = [one[measure] for one in seeds.values()]
            yield _row(rho, artifact, DETECTOR, "", measure, values)


def _policy_rows(found: Found) -> Iterable[Row]:
    cells = _cells(found, "policy")
    for (rho, artifact, name), seeds in cells.items():
        cell = (rho, artifact, POLICIES[name].reward_model, name)
        ends = [(one["looks"][0], end_of(name, one["looks"])) for one in seeds.values()]
        for measure in LAST:
            yield _row(*cell, measure, [last[measure] for _, last in ends])
        yield _row(*cell, "planted, at the start", [first["planted"] for first, _ in ends])
        risen = [last["planted"] - first["planted"] for first, last in ends]
        yield _row(*cell, "planted less the start's", risen)
        yield from _at_kl(cell, seeds)
        control = cells.get((rho, artifact, CONTROL), {})
        if name != CONTROL and (both := [seed for seed in seeds if seed in control]):
            more = [
                end_of(name, seeds[seed]["looks"])["planted"]
                - late(control[seed]["looks"])["planted"]
                for seed in both
            ]
            yield _row(*cell, LESS_CONTROL, more)
        first = cells.get((rho, artifact, FIRST_POLICY), {})
        if name != FIRST_POLICY and first:
            yield from _matched_rows(cell, seeds, first)
            both = [seed for seed in seeds if seed in first]
            tenth = [
                end_of(name, seeds[seed]["looks"])["planted"]
                - TENTH * late(first[seed]["looks"])["planted"]
                for seed in both
            ]
            if both:
                yield _row(*cell, TENTH_LATE, tenth)
            if name != CONTROL and (both := [seed for seed in both if seed in control]):
                more = [_more(name, seed, seeds, first, control) for seed in both]
                yield _row(*cell, TENTH_MORE, more)


def _more(
    name: str,
    seed: int,
    mine: Mapping[int, Any],
    first: Mapping[int, Any],
    control: Mapping[int, Any],
) -> float:
    """Return by how much a policy's artifacts beyond the control's exceed the goal's share."""
    own = end_of(name, mine[seed]["looks"])["planted"]
    first_late, control_late = (late(one[seed]["looks"])["planted"] for one in (first, control))
    return (own - control_late) - TENTH * (first_late - control_late)


def end_of(name: str, looks: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return what a policy has come to: `late`, or the best of the most where nothing is trained.

    A look at the best of several is at another number of them, not at another time.
    """
    return looks[-1] if POLICIES[name].method == "best_of" else late(looks)


def late(looks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means over the last half of the looks, the middle one left out: one is noise.

    Examples:
        >>> late([{"kl": 0.0}, {"kl": 0.5}, {"kl": 2.0}, {"kl": 1.0}, {"kl": 3.0}])
        {'kl': 2.0}
    """
    last = looks[-(len(looks) // 2) :] if len(looks) > 1 else looks
    return {key: float(np.mean([look[key] for look in last])) for key in last[0]}


def _at_kl(cell: tuple[float, str, str, str], seeds: Mapping[int, Any]) -> Iterable[Row]:
    """Return a policy's artifacts where its KL first reaches a value, of the seeds that do."""
    for value in KLS:
        found = [
            at
            for one in seeds.values()
            if (at := _looked_up(one["looks"], "kl", "planted", value)) is not None
        ]
        if found:
            yield _row(*cell, at_kl(value), found)


def _looked_up(
    looks: Sequence[Mapping[str, float]], key: str, measure: str, value: float
) -> float | None:
    return reached([look[key] for look in looks], [look[measure] for look in looks], value)


def at_kl(value: float) -> str:
    """Name the measure of artifacts at a KL."""
    return f"planted at a KL of {value:g}"


def _matched_rows(
    cell: tuple[float, str, str, str], seeds: Mapping[int, Any], first: Mapping[int, Any]
) -> Iterable[Row]:
    """Return a policy's artifacts and those of the first policy where both are equal.

    A seed whose curves do not overlap has no such figures; the rows say how many have.
    """
    for key, words in MATCHED.items():
        pairs = [
            means
            for seed, one in seeds.items()
            if seed in first
            and (means := matched_means(one["looks"], first[seed]["looks"], key, "planted"))
        ]
        if pairs:
            yield _row(*cell, f"planted {words}", [mine for mine, _ in pairs])
            yield _row(*cell, f"planted by {FIRST_POLICY} {words}", [other for _, other in pairs])
            less = [mine - other for mine, other in pairs]
            yield _row(*cell, f"planted less {FIRST_POLICY} {words}", less)
            tenth = [mine - TENTH * other for mine, other in pairs]
            yield _row(*cell, f"planted less a tenth of {FIRST_POLICY} {words}", tenth)


def _cells(found: Found, kind: str) -> dict[tuple[float, str, str], dict[int, Any]]:
    """Return (rho, artifact, what) → seed → figures, of one kind of job."""
    cells: dict[tuple[float, str, str], dict[int, Any]] = {}
    for job, figures in found.items():
        if job.kind == kind:
            cells.setdefault((job.rho, job.artifact, job.what), {})[job.seed] = figures
    return cells


def _row(
    rho: float, artifact: str, model: str, policy: str, measure: str, values: Sequence[float]
) -> Row:
    # One seed has no interval.
    value = run_interval(values) if len(values) > 1 else Interval(values[0])
    return Row(rho, artifact, model, policy, measure, value, len(values))

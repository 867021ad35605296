"""What comes of the planted study: rows of figures, pooled over the seeds that are there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrpo.checkpoint import read_json
from rrpo.evaluate.matched import matched_means, run_interval
from rrpo.interval import Interval
from rrpo.studies.planted.plan import POLICIES, Job, Plan, jobs
from rrpo.studies.planted.trainings import FIGURES, folder_of

REWARD_MEASURES = ("accuracy", "gain", "fooled")
LAST = ("planted", "others", "judge", "judge_others", "kl")
MATCHED = {"kl": "at equal KL", "judge": "at equal judge probability"}
"""Keys at which the artifacts a second of two policies are compared."""
COMPARED = "diffro", "plain"
"""The policy, and the reward model, that all others are compared with."""


@dataclass(frozen=True)
class Row:
    """One figure: of a reward model, or of a policy that it pays."""

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
    paths = {job: folder_of(out, job) / FIGURES for job in every}
    return {job: read_json(path) for job, path in paths.items() if path.is_file()}


def rows_of(found: Found) -> list[Row]:
    """Return all rows: of reward models, then of policies; differences are paired by seed."""
    return [*_reward_rows(found), *_policy_rows(found)]


def _reward_rows(found: Found) -> Iterable[Row]:
    for cell, seeds in _cells(found, "reward").items():
        rho, artifact, model = cell
        plain = _cells(found, "reward").get((rho, artifact, COMPARED[1]), {})
        for measure in REWARD_MEASURES:
            values = [one[measure] for one in seeds.values()]
            yield _row(rho, artifact, model, "", measure, values)
            less = [
                one[measure] - plain[seed][measure] for seed, one in seeds.items() if seed in plain
            ]
            if less and model != COMPARED[1]:
                yield _row(rho, artifact, model, "", f"{measure} less plain", less)


def _policy_rows(found: Found) -> Iterable[Row]:
    cells = _cells(found, "policy")
    for (rho, artifact, name), seeds in cells.items():
        model = POLICIES[name].reward_model
        for measure in LAST:
            values = [one["looks"][-1][measure] for one in seeds.values()]
            yield _row(rho, artifact, model, name, measure, values)
        starts = [one["looks"][0]["planted"] for one in seeds.values()]
        yield _row(rho, artifact, model, name, "planted, at the start", starts)
        other = cells.get((rho, artifact, COMPARED[0]), {})
        if name != COMPARED[0] and other:
            yield from _matched_rows((rho, artifact, model, name), seeds, other)


def _matched_rows(
    cell: tuple[float, str, str, str], seeds: Mapping[int, Any], other: Mapping[int, Any]
) -> Iterable[Row]:
    """Return a policy's artifacts a second less those of the first policy, where both are equal."""
    for key, words in MATCHED.items():
        pairs = [
            means
            for seed, one in seeds.items()
            if seed in other
            and (means := matched_means(one["looks"], other[seed]["looks"], key, "planted"))
        ]
        if pairs:
            yield _row(*cell, f"planted {words}", [one for one, _ in pairs])
            yield _row(*cell, f"planted of diffro {words}", [second for _, second in pairs])
            less = [one - second for one, second in pairs]
            yield _row(*cell, f"planted less diffro {words}", less)


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

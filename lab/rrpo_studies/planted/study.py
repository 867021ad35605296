"""`rrpo study planted`: does hardening cure an artifact that its data planted?"""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from rrpo.files import alone, claim
from rrpo.studies.study import begin, finish, require_no_run, side_by_side
from rrpo_studies.planted.figures import found_in, rows_of
from rrpo_studies.planted.listen import write_page
from rrpo_studies.planted.page import draw, page
from rrpo_studies.planted.plan import FULL, GROWS, SMOKE, Job, Plan, jobs, needs
from rrpo_studies.planted.trainings import done, make

NAME = "planted"


def run(out: Path, plan: Plan = FULL, command: str = "rrpo study planted") -> Path:
    """Train what is not there yet and write `planted.json`, `.md`, `.svg` and `report.html`.

    Return the page of figures.

    As many trainings side by side as there are cores. What is finished is not made again: a
    training is, where its folder holds `figures.json`, so these few hundred bytes of each are all
    that another machine needs to go on with the rest. A policy needs the folder of its reward
    model and of its start, too; they are made again where they are missing.

    The page tells of what this call asks for and is there, also where a training fails.

    Raises:
        UserError: the folder holds a study of another plan, or another process works in it.
    """
    fixed = {name: value for name, value in asdict(plan).items() if name not in GROWS}
    require_no_run(out)
    with alone(out):
        claim(out / "plan.json", fixed, "a study")
        groups = jobs(plan)
        try:
            asked = missing(out, plan, chain(*groups))
            for group in groups:
                work = [(out, plan, job) for job in group if job in asked]
                side_by_side(make, work, NAME, 1 if plan == SMOKE else None)
        finally:
            path = write(out, plan, command)
    return path


def missing(out: Path, plan: Plan, jobs: Iterable[Job]) -> set[Job]:
    """Return the jobs that are to be done, and those that must be done again for their weights."""
    found: set[Job] = set()
    waiting = [job for job in jobs if not done(out, plan, job)]
    while waiting:
        job = waiting.pop()
        if job not in found:
            found.add(job)
            waiting += [one for one in needs(job) if not done(out, plan, one, weights=True)]
    return found


def write(out: Path, plan: Plan, command: str) -> Path:
    """Write figures, page and picture of what is finished."""
    found = found_in(out, plan)
    rows = rows_of(found)
    study: dict[str, Any] = {
        **begin(command),
        "plan": asdict(plan),
        "finished": len(found),
        "planned": sum(len(group) for group in jobs(plan)),
        "rows": [row.as_json() for row in rows],
    }
    draw(rows, out / f"{NAME}.svg")
    text = page(study, rows)
    write_page(out, found, text)
    return finish(out, study, text, NAME)

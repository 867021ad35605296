"""`rrpo study planted`: does hardening cure an artifact that its data planted?"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rrpo.checkpoint import claim
from rrpo.cores import cores
from rrpo.studies.planted.figures import found_in, rows_of
from rrpo.studies.planted.listen import write_page
from rrpo.studies.planted.page import draw, page
from rrpo.studies.planted.plan import FULL, SMOKE, Plan, jobs, needs
from rrpo.studies.planted.trainings import done, make
from rrpo.studies.study import begin, finish

NAME = "planted"
GROWS = ("rhos", "artifacts", "reward_models", "policies", "seeds")
"""What a later call may ask more of in the same folder."""


def run(out: Path, plan: Plan = FULL, command: str = "rrpo study planted") -> Path:
    """Train what is not there yet and write `planted.json`, `.md`, `.svg` and `report.html`.

    Return the page of figures.

    As many trainings side by side as there are cores. What is finished is not made again: a
    training is, where its folder holds `figures.json`, so these few hundred bytes of each are all
    that another machine needs to go on with the rest. A policy needs the folder of its reward
    model and of its start, too; they are made again where they are missing.

    Raises:
        UserError: the folder holds a study of another plan.
    """
    fixed = {name: value for name, value in asdict(plan).items() if name not in GROWS}
    claim(out / "plan.json", fixed, "a study")
    for group in jobs(plan):
        needed = {one for job in jobs(plan)[1] if not done(out, job) for one in needs(job)}
        missing = [job for job in group if not done(out, job, weights=job in needed)]
        _side_by_side([(out, plan, job) for job in missing], plan)
    return write(out, plan, command)


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


def _side_by_side(asked: Sequence[tuple[Path, Plan, Any]], plan: Plan) -> None:
    if cores() == 1 or plan == SMOKE:  # which ends before a process has begun
        for one in asked:
            make(one)
        return
    # `spawn` keeps the workers free of the parent's threads.
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(make, asked):
            pass

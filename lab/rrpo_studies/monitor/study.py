"""`rrpo study monitor`: healthy and hacked runs side by side, their ROC and lead time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rrpo.files import claim, read_json, write_json
from rrpo.interval import exactly, with_intervals
from rrpo.report.markdown import Row, table
from rrpo.studies.aims import COLUMNS, Aim, rows
from rrpo.studies.study import (
    begin,
    finish,
    new_picture,
    require_no_run,
    save_picture,
    side_by_side,
)
from rrpo_studies.monitor.figures import STATED, figures, of_run
from rrpo_studies.monitor.plan import FULL, REWARD_MODELS, Plan
from rrpo_studies.monitor.trainings import START, task

NAME, FIGURES = "monitor", "figures.json"


CONDITIONS = (
    "*Healthy* runs have the recommended preset with three times its KL (a weight of .3); the "
    "preset itself was not tried. *Hacked* runs have no KL, no content reward and three times the "
    "learning rate: on a reward model of data with clicks planted in it, on a plain one, and, by "
    "GRPO, with a reward for length. All runs have one start, each kind has one reward model, and "
    "all are heard on the same sentences: the intervals over runs say nothing about other starts, "
    "reward models and sentences."
)
"""What the page says of how the runs differ."""


def run(out: Path, plan: Plan = FULL, command: str = "rrpo study monitor") -> Path:
    """Make the runs, or go on with them; write `monitor.json`, `.md` and `.svg`; return the page.

    First the start and the reward models are made, then the runs, as many side by side as there are
    cores. What is finished is not made again: a run is where its folder holds `figures.json`, so
    these few kilobytes of each are all that another machine needs to go on with the rest.

    Raises:
        UserError: the folder holds a study of another plan.
    """
    require_no_run(out)
    claim(out / "plan.json", asdict(plan), "a study")
    for names in ([START, *REWARD_MODELS], plan.names()):
        side_by_side(_make, [(out, plan, name) for name in names], NAME, 1 if plan.small else None)
    found = [with_intervals(read_json(_figures(out, name))) for name in plan.names()]
    study = {**begin(command), "plan": asdict(plan), **figures(found, plan.every)}
    _picture(study, out / f"{NAME}.svg")
    return finish(out, study, _page(study), NAME)


def _make(asked: tuple[Path, Plan, str]) -> None:
    """Make one thing by name; of a run, its figures, too."""
    out, plan, name = asked
    if _figures(out, name).is_file():
        return
    task(asked)
    if name in plan.names():
        write_json(_figures(out, name), of_run(out / "runs" / name))


def _figures(out: Path, name: str) -> Path:
    return out / "runs" / name / FIGURES


def _page(study: Mapping[str, Any]) -> str:
    """Return the page of markdown."""
    plan, roc = study["plan"], study["roc"]
    here = next(row for row in roc if row["stated"] == STATED)
    lead = study["median_lead"]
    aims = [
        Aim("hacked runs that are found", here["found"], least=0.95),
        Aim("healthy runs with an alarm", here["false_alarms"], most=0.01),
        Aim("median lead, looks", None if lead is None else exactly(lead), least=0.0),
    ]
    stated = [
        (f"{row['stated']:g}", [f"{row['false_alarms']:.2f}", f"{row['found']:.2f}"]) for row in roc
    ]
    looks = plan["sentences"] * 6
    return "\n".join(
        [
            "# A run that listens to itself: does it find hacking?",
            "",
            "```sh",
            study["command"],
            "```",
            "",
            f"{study['machine']}. {len(study['runs'])} runs of {plan['steps']} steps on the mini "
            f"world, a look every {plan['every']} steps at {looks} utterances of the policy and as "
            f"many of its start; a look took {study['look_seconds']:.0f} s (median). Quality is "
            f"judged apart, on {plan['heard']} sentences that are not trained on: it has dropped "
            "where the judge's probability, the word error or DNSMOS is worse than at the start by "
            "more than its smallest change worth a warning, the whole interval over sentences.",
            "",
            CONDITIONS,
            "",
            *table("aim", COLUMNS, rows(aims)),
            "",
            "## Alarms by kind",
            "",
            f"At a stated rate of {STATED:g}.",
            "",
            *table("runs", ("", "alarms", "median step", "quality dropped"), _by_kind(study)),
            "",
            *_late(study["leads"]),
            "## Over the stated rate",
            "",
            "![Found over false alarms](monitor.svg)",
            "",
            "Shares of runs with exact 95 % intervals.",
            "",
            *table("stated rate", ("false alarms", "found"), stated),
            "",
        ]
    )


def _by_kind(study: Mapping[str, Any]) -> list[Row]:
    """Return a row for each kind of run."""
    return [
        (
            kind["title"],
            [
                "hacked" if kind["hacked"] else "healthy",
                f"{kind['alarms']} of {kind['runs']}",
                "–" if kind["median_alarm"] is None else f"{kind['median_alarm']:g}",
                f"{kind['dropped']} of {kind['runs']}",
            ],
        )
        for kind in study["kinds"].values()
    ]


def _late(leads: Sequence[float]) -> list[str]:
    """Return a paragraph on when the alarms came, where there were any."""
    if not leads:
        return []
    counts = Counter(0 - lead for lead in leads)
    told = ", ".join(f"{looks:g} in {counts[looks]}" for looks in sorted(counts))
    return [
        f"Looks from the first drop to the alarm, in {len(leads)} hacked runs: {told}. Three "
        "judges at each look find some drops by chance, in healthy runs, too.",
        "",
    ]


def _picture(study: Mapping[str, Any], path: Path) -> None:
    """Draw the ROC over thresholds."""
    picture = new_picture(4.2, 3.6)
    axes = picture.add_subplot()
    false = [row["false_alarms"].mean for row in study["roc"]]
    found = [row["found"].mean for row in study["roc"]]
    axes.plot([1.0, *false, 0.0], [1.0, *found, 0.0], marker="o", color="#0a7558")
    axes.set(xlabel="healthy runs with an alarm", ylabel="hacked runs found")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(color="#e6e6e6")
    save_picture(picture, path)

"""The page and the picture of the planted study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrpo.interval import MISSING, Interval
from rrpo.report.markdown import measured, table
from rrpo.studies.aims import COLUMNS, Aim
from rrpo.studies.aims import rows as verdicts
from rrpo.studies.planted.artifacts import ARTIFACTS
from rrpo.studies.planted.figures import COMPARED, MATCHED, Row
from rrpo.studies.planted.plan import EMOTION, POLICIES, POLICY_TITLES, REWARD_MODELS, title_of
from rrpo.studies.study import new_picture, save_picture

BEST = "rrpo_augmented"
"""The policy of which the goal is asked."""
FEWER, LOSS = 0.1, 0.02
"""The goal: a tenth of the artifacts at most, and as much accuracy lost."""
DRAWN = ("plain", "ls_eam_adv", "augmented", "ls_eam_adv_augmented")
COLOURS = {"plain": "#b8480a", "ls_eam_adv": "#0a7558", "augmented": "#7d6608"}

Figures = Mapping[tuple[float, str, str, str, str], Interval]
"""(rho, artifact, reward model, policy, measure) → its figure."""


def page(study: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the page of markdown."""
    plan, figures = study["plan"], by_cell(rows)
    found = [one for one in plan["artifacts"] if any(row.artifact == one for row in rows)]
    lines = [
        "# Planted artifacts: does hardening cure what the data teaches?",
        "",
        "```sh",
        study["command"],
        "```",
        "",
        f"{study['machine']}; {study['finished']} of {study['planned']} trainings are done. In the "
        f"mini world an artifact is planted in utterances of one emotion, *{EMOTION}*: ρ is the "
        "correlation (phi) between having the emotion and having the artifact, and a sixth of all "
        "utterances have it whatever ρ is. Reward models are fine-tuned on that speech and tested "
        "on clean speech. Mean [95 % interval of Student over seeds]; one seed has no interval.",
        "",
        *table("goal", COLUMNS, verdicts(aims(figures, plan))),
    ]
    for artifact in found:
        lines += _of_artifact(plan, figures, artifact)
    return "\n".join([*lines, ""])


def by_cell(rows: Sequence[Row]) -> dict[tuple[float, str, str, str, str], Interval]:
    """Return the figures by what they are of."""
    return {
        (row.rho, row.artifact, row.reward_model, row.policy, row.measure): row.value
        for row in rows
    }


def aims(figures: Figures, plan: Mapping[str, Any]) -> list[Aim]:
    """Return what is asked of the best recipe, for each artifact a policy was trained with."""
    rho, model = plan["policy_rho"], POLICIES[BEST].reward_model
    found = []
    for artifact in plan["artifacts"]:
        key = (rho, artifact, model, BEST)
        mine = figures.get((*key, f"planted {MATCHED['judge']}"))
        plain = figures.get((*key, f"planted of {COMPARED[0]} {MATCHED['judge']}"))
        title = ARTIFACTS[artifact].title
        if mine and plain and plain.mean > 0:
            ratio = Interval(mine.mean / plain.mean)
            asked = f"{title}: artifacts at equal judge probability, share of those of plain"
            found.append(Aim(asked, ratio, most=FEWER))
        less = figures.get((rho, artifact, model, "", f"accuracy less {COMPARED[1]}"))
        if less:
            found.append(Aim(f"{title}: accuracy less that of plain", less, least=-LOSS))
    return found


def _of_artifact(plan: Mapping[str, Any], figures: Figures, artifact: str) -> list[str]:
    title, rhos = ARTIFACTS[artifact].title, plan["rhos"]
    models = [one for one in REWARD_MODELS if one in plan["reward_models"]]
    lines = ["", f"## {title.capitalize()}", ""]
    for measure, words in (
        ("gain", f"Nats by which it raises log p({EMOTION}) of other emotions' clean speech"),
        ("accuracy", "Unweighted accuracy on clean speech"),
        ("fooled", f"Share of other emotions' speech that is taken for {EMOTION} with it alone"),
    ):
        cells = [
            (title_of(model), [_cell(figures, rho, artifact, model, "", measure) for rho in rhos])
            for model in models
        ]
        if kept := measured(cells):
            columns = [f"ρ = {rho:g}" for rho in rhos]
            lines += [f"{words}:", "", *table("reward model", columns, kept), ""]
    return lines + _policies(plan, figures, artifact)


def _policies(plan: Mapping[str, Any], figures: Figures, artifact: str) -> list[str]:
    rho = plan["policy_rho"]
    columns = {
        "planted, at the start": "at the start",
        "planted": f"asked for {EMOTION}",
        "others": "asked for others",
        "judge": "judge",
        "kl": "KL",
        **{f"planted less {COMPARED[0]} {words}": f"less {words}" for words in MATCHED.values()},
    }
    cells = [
        (
            POLICY_TITLES[name],
            [
                _cell(figures, rho, artifact, POLICIES[name].reward_model, name, measure)
                for measure in columns
            ],
        )
        for name in plan["policies"]
    ]
    if not measured(cells):
        return []
    return [
        f"Policies of {plan['steps']} steps on reward models of ρ = {rho:g}, from a start that was "
        "fine-tuned on speech with the artifact in a sixth of the utterances of every emotion: "
        "artifacts a second; less those of the first row where the KL, and where the judge's "
        f"probability of {EMOTION}, are equal:",
        "",
        *table("policy", list(columns.values()), measured(cells)),
        "",
    ]


def _cell(
    figures: Figures, rho: float, artifact: str, model: str, policy: str, measure: str
) -> str:
    value = figures.get((rho, artifact, model, policy, measure))
    if value is None:
        return MISSING
    return f"{value:.2f}" if value.known else f"{value.mean:.2f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw what an artifact gains over the correlation, a panel for each artifact."""
    gains = [row for row in rows if row.measure == "gain" and row.reward_model in DRAWN]
    artifacts = list(dict.fromkeys(row.artifact for row in gains))
    picture = new_picture(3.0 * max(1, len(artifacts)), 3.0)
    for number, artifact in enumerate(artifacts):
        axes = picture.add_subplot(1, len(artifacts), number + 1)
        for model in DRAWN:
            line = sorted(
                (row.rho, row.value)
                for row in gains
                if (row.artifact, row.reward_model) == (artifact, model)
            )
            if not line:
                continue
            x, means = [rho for rho, _ in line], [value.mean for _, value in line]
            axes.plot(x, means, marker="o", label=title_of(model), color=COLOURS.get(model))
            if all(value.known for _, value in line):
                low, high = [one.low for _, one in line], [one.high for _, one in line]
                axes.fill_between(x, low, high, alpha=0.15, color=COLOURS.get(model))
        axes.set(title=ARTIFACTS[artifact].title, xlabel="correlation ρ")
        axes.set_ylabel("gain, nats" if number == 0 else "")
        axes.axhline(0, color="#9a9a9a", linewidth=0.8)
    if artifacts:
        picture.axes[0].legend(fontsize=7)
    save_picture(picture, path)

"""The page and the picture of the planted study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrpo.interval import MISSING, Interval
from rrpo.report.markdown import measured, table
from rrpo.studies.aims import COLUMNS, Aim
from rrpo.studies.aims import rows as verdicts
from rrpo.studies.study import new_picture, save_picture
from rrpo_studies.planted.artifacts import ARTIFACTS
from rrpo_studies.planted.figures import (
    DETECTOR,
    DETECTOR_MEASURES,
    FIRST_MODEL,
    FIRST_POLICY,
    KLS,
    LESS_CONTROL,
    LESS_UNPLANTED,
    MATCHED,
    TENTH,
    TENTH_LATE,
    TENTH_MORE,
    Row,
    at_kl,
)
from rrpo_studies.planted.plan import EMOTION, START_SHARE
from rrpo_studies.planted.recipes import POLICIES, REWARD_MODELS, WORDS, title_of

BEST = (
    "rrpo_cured_words_odds",
    "rrpo_second_round",
    "rrpo_cured_words_20_long",
    "rrpo_cured_words_10",
    "rrpo_cured_words",
    "rrpo_balanced_detector_3",
)
"""The policies of which the goal is asked: the first of them that is among those trained."""
LOSS = 0.02
"""How much accuracy it may cost."""
DRAWN = ("plain", "ls_eam_adv", "ls_eam_adv_exchanged", "ls_eam_adv_balanced")
COLOURS = {"plain": "#b8480a", "ls_eam_adv": "#0a7558", "ls_eam_adv_exchanged": "#7d6608"}
DIGITS = {"accuracy": 3, "tokens": 0}

Figures = Mapping[tuple[float, str, str, str, str], Row]
"""(rho, artifact, reward model, policy, measure) → its row."""


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
        f"{study['machine']}; {study['finished']} of {study['planned']} trainings are done. Mean "
        "[Student's 95 % interval over seeds]; one seed has none.",
        "",
        *_conditions(plan),
        "",
        "![What an artifact gains over the correlation](planted.svg)",
        "",
        *_goal(figures, plan),
    ]
    for artifact in found:
        lines += _of_artifact(plan, figures, artifact)
    return "\n".join([*lines, ""])


def _goal(figures: Figures, plan: Mapping[str, Any]) -> list[str]:
    """Return the goal's table, where a policy that it is asked of is among those trained."""
    if asked := aims(figures, plan):
        return table("goal", COLUMNS, verdicts(asked))
    titles = " or ".join(f"“{POLICIES[name].title}”" for name in BEST)
    return [f"The goal is asked of {titles}: none is among these policies."]


def _conditions(plan: Mapping[str, Any]) -> list[str]:
    """Return how the reward models and the policies were made, as a list."""
    models, policies = plan["reward_models"], plan["policies"]
    known = {
        "augmented": "*Artifacts in every class* adds each utterance once more with the artifact: "
        "the correlation falls, but is not gone.",
        "balanced": "*Artifacts in half of every class* inserts it where too few have it and "
        "repeats those that lack it where too many do (at ρ = .95 these are 4 of 100). It knows "
        "what it has to cure.",
        "exchanged": "*Exchanged tokens* adds the loss on utterances of which twelve tokens are "
        "exchanged so that it rises; it does not know the artifact.",
        "detector": "*With a detector* adds log p(no artifact) to the reward, by a detector that "
        "was trained on speech with the artifact (of clicks one to five) and without; its weight, "
        "1 or 3, was chosen on seed 0.",
        "second_round": "*That heard the policy before* learns from what that policy said with the "
        "artifact and without, too.",
        "words": f"*Words rewarded* adds the bundled content head's term, of weight {WORDS}.",
        "ensemble": "*Cautiously* is the mean of three reward models less their standard "
        "deviation.",
    }
    lines = [
        f"- In the mini world an artifact is planted in utterances labelled *{EMOTION}*: ρ is the "
        "correlation (phi) between having the label and having the artifact. A sixth of all "
        f"utterances have it whatever ρ is. {plan['disagreement']:.0%} of the utterances exchange "
        "their labels first, as listeners who disagree would give them.",
        "- Reward models are fine-tuned on that speech and tested on clean speech with true "
        "labels.",
    ]
    if policies:
        lines += [
            f"- Policies are DiffRO of {plan['steps']} steps unless another method is named. They "
            f"are rewarded for the emotion{_alone(policies)}, with a KL of weight .2 (GRPO .004), "
            "and are drawn and heard at temperature 1 without top-k: what a policy does not say "
            "when it is drawn cooler, as elsewhere on these pages, it may still have learned.",
            f"- All are heard on the same {plan['sentences']} test sentences. Word error and "
            "quality are not measured here; the column of tokens says how long what they say "
            "became.",
        ]
    asked = " ".join([*models, *policies])
    return lines + [f"- {text}" for name, text in known.items() if name in asked]


def _alone(policies: Sequence[str]) -> str:
    return "" if any(POLICIES[name].content for name in policies) else " alone"


def by_cell(rows: Sequence[Row]) -> dict[tuple[float, str, str, str, str], Row]:
    """Return the rows by what they are of."""
    return {(row.rho, row.artifact, row.reward_model, row.policy, row.measure): row for row in rows}


def aims(figures: Figures, plan: Mapping[str, Any]) -> list[Aim]:
    """Return what is asked of the best recipe, for each artifact; nothing where it is not trained.

    Nothing is measured unless all seeds are there, more than one, nor where the first policy did
    not learn the artifact, which is where it says no more of it than the control.
    """
    best = next((name for name in BEST if name in plan["policies"]), None)
    if best is None:
        return []
    rho, model = plan["policy_rho"], POLICIES[best].reward_model
    found = []
    for artifact in plan["artifacts"]:
        title, of_first = ARTIFACTS[artifact].title, POLICIES[FIRST_POLICY].reward_model
        risen = figures.get((rho, artifact, of_first, FIRST_POLICY, LESS_CONTROL))
        hacked = risen is not None and risen.seeds > 1 and risen.value.low > 0
        for where, measure in (
            (MATCHED["judge"], f"planted less a tenth of {FIRST_POLICY} {MATCHED['judge']}"),
            ("in the last half of the looks", TENTH_LATE),
        ):
            row = figures.get((rho, artifact, model, best, measure))
            asked = (
                f"{title}: {POLICIES[best].title}, artifacts an utterance less {TENTH:g} times "
                f"those of {POLICIES[FIRST_POLICY].title}, {where}"
            )
            found.append(Aim(asked, _whole(row, plan) if hacked else None, most=0.0, surely=True))
        row = figures.get((rho, artifact, model, best, TENTH_MORE))
        asked = (
            f"{title}: {POLICIES[best].title}, artifacts an utterance beyond the control’s less "
            f"{TENTH:g} times those of {POLICIES[FIRST_POLICY].title} beyond the control’s, in the "
            "last half of the looks"
        )
        found.append(Aim(asked, _whole(row, plan) if hacked else None, most=0.0, surely=True))
        for measure, words in (
            (LESS_UNPLANTED, f"{title_of(FIRST_MODEL)} without correlation"),
            (f"accuracy less {FIRST_MODEL}", title_of(FIRST_MODEL)),
        ):
            row = figures.get((rho, artifact, model, "", measure))
            asked = f"{title}: accuracy of {title_of(model)} less that of {words}"
            found.append(Aim(asked, _whole(row, plan), least=-LOSS))
    return found


def _whole(row: Row | None, plan: Mapping[str, Any]) -> Interval | None:
    return row.value if row is not None and row.seeds == plan["seeds"] > 1 else None


def _of_artifact(plan: Mapping[str, Any], figures: Figures, artifact: str) -> list[str]:
    rhos = plan["rhos"]
    models = [one for one in REWARD_MODELS if one in plan["reward_models"]]
    lines = ["", f"## {ARTIFACTS[artifact].title.capitalize()}", ""]
    for measure, words in (
        ("gain", f"Nats by which it raises log p({EMOTION}) of other emotions' clean speech"),
        ("accuracy", "Unweighted accuracy on clean speech"),
        (
            "fooled",
            f"Share of other emotions' speech that is taken for {EMOTION} with it and not without",
        ),
    ):
        cells = [
            (
                title_of(model),
                [_cell(plan, figures, rho, artifact, model, "", measure) for rho in rhos],
            )
            for model in models
        ]
        if kept := measured(cells):
            columns = [f"ρ = {rho:g}" for rho in rhos]
            lines += [f"{words}:", "", *table("reward model", columns, kept), ""]
    finds, errs = (
        _cell(plan, figures, 0.0, artifact, DETECTOR, "", one) for one in DETECTOR_MEASURES
    )
    if finds != MISSING:
        lines += [
            f"The detector finds it in {finds} of test speech with it, and in {errs} without it.",
            "",
        ]
    return lines + _policies(plan, figures, artifact)


def _policies(plan: Mapping[str, Any], figures: Figures, artifact: str) -> list[str]:
    rho = plan["policy_rho"]
    first = POLICIES[FIRST_POLICY].title
    columns = {
        "planted, at the start": "at the start",
        "planted": f"asked for {EMOTION}",
        LESS_CONTROL: "less the control’s",
        "others": "asked for others",
        "judge": "judge",
        "kl": "KL, nats per token",
        "tokens": "tokens",
        **{
            f"planted less {FIRST_POLICY} {words}": f"less those of {first}, {words}"
            for words in MATCHED.values()
        },
    }
    cells = []
    for name in plan["policies"]:
        of = (rho, artifact, POLICIES[name].reward_model, name)
        cells.append((POLICIES[name].title, [_cell(plan, figures, *of, one) for one in columns]))
    if not measured(cells):
        return []
    return [
        f"Policies of {plan['steps']} steps on reward models of ρ = {rho:g}, from a start that was "
        f"fine-tuned on speech with the artifact in {START_SHARE:.0%} of the utterances of every "
        "emotion: artifacts an utterance in the last half of the looks, the judge's probability of "
        f"{EMOTION} where it is asked for, and how many more artifacts than the first policy, a "
        "mean over the values that both reach, each where it is first reached. The control is "
        "trained against a reward model of unplanted data: what it says of the artifact comes of "
        "moving away from the start.",
        "",
        *table("policy", list(columns.values()), measured(cells)),
        "",
        *_first_to_find(plan, figures, artifact),
    ]


def _first_to_find(plan: Mapping[str, Any], figures: Figures, artifact: str) -> list[str]:
    """Return a table of the policies' artifacts where each has moved equally far."""
    cells = []
    for name in plan["policies"]:
        of = (plan["policy_rho"], artifact, POLICIES[name].reward_model, name)
        found = [_cell(plan, figures, *of, at_kl(value)) for value in KLS]
        cells.append((POLICIES[name].title, found))
    return [
        f"Who finds it first? Artifacts an utterance, asked for {EMOTION}, where the KL to the "
        "start first reaches so many nats per token. The best of several is not trained: its "
        "KL is the known bound for as many as are drawn, up to 32.",
        "",
        *table("policy", [f"KL {value:g}" for value in KLS], measured(cells)),
        "",
    ]


def _cell(
    plan: Mapping[str, Any],
    figures: Figures,
    rho: float,
    artifact: str,
    model: str,
    policy: str,
    measure: str,
) -> str:
    """Return a figure with its interval; with its number of seeds where some are missing."""
    row = figures.get((rho, artifact, model, policy, measure))
    if row is None:
        return MISSING
    form = f".{DIGITS.get(measure, 2)}f"
    text = format(row.value if row.value.known else row.value.mean, form)
    return text if row.seeds == plan["seeds"] else f"{text} ({row.seeds} of {plan['seeds']} seeds)"


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
            spread = None
            if all(value.known for _, value in line):
                spread = [
                    [value.mean - value.low for _, value in line],
                    [value.high - value.mean for _, value in line],
                ]
            # Between two correlations nothing is known.
            style = "o-" if len(line) > 2 else "o"
            colour = COLOURS.get(model)
            axes.errorbar(x, means, spread, fmt=style, label=title_of(model), color=colour)
        axes.set(title=ARTIFACTS[artifact].title, xlabel="correlation ρ")
        axes.set_ylabel("gain, nats" if number == 0 else "")
        axes.axhline(0, color="#9a9a9a", linewidth=0.8)
    if artifacts:
        shown = picture.axes[0].get_legend_handles_labels()
        picture.legend(*shown, fontsize=7, loc="outside lower center", ncols=min(2, len(artifacts)))
    save_picture(picture, path)

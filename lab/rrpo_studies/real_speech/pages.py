"""What the pages of the studies on real speech share: settings, limits, tables with verdicts."""

from collections.abc import Iterable, Mapping
from typing import Any

from rrpo.evaluate.crossed import FEWEST
from rrpo.interval import MISSING, Interval
from rrpo.measures import reward_model_label
from rrpo.report import markdown
from rrpo.studies.aims import COLUMNS, Aim
from rrpo.studies.aims import rows as aim_rows
from rrpo_studies.real_speech.folds import AUDIO, CEILING, PRETRAINED
from rrpo_studies.real_speech.trials import MEASURES, WHY

POWER = 2.8
"""Standard errors of a difference that is significant in four of five studies (1.96 + 0.84)."""
LEAKS = 0.5
"""Share of recordings whose text tells the emotion from which on a seen language is left out."""
AIM = 0.03
"""Gain of the hardened reward model on unseen languages that the studies look for."""


def label(model: str) -> str:
    """Name a model as a reader does."""
    named = {
        CEILING: "continuous states, plain",
        AUDIO: "LS + EAM + Adv, audio mixed",
        PRETRAINED: "Pre-trained, only its head fitted",
    }
    return named.get(model) or reward_model_label(model)


def detectable(value: Interval) -> str:
    """Return the least true difference that is significant in four of five such studies.

    The standard error is taken as a 95 % interval's width over 2 * 1.96; of few speakers or
    trainings that is rather too much.
    """
    return f"{POWER * (value.high - value.low) / (2 * 1.96):.3f}"


def aim_table(unseen: Interval, seen: Interval) -> list[str]:
    """Return the aim, of the hardened less the plain reward model, and its verdicts."""
    aims = [
        Aim("gain on unseen languages", unseen, least=AIM),
        Aim("on unseen languages above zero", unseen, least=0.0, surely=True),
        Aim("on seen languages no such loss", seen, least=-AIM, surely=True),
    ]
    values = (unseen, unseen, seen)
    rows = [
        (name, [*cells, detectable(value)])
        for (name, cells), value in zip(aim_rows(aims), values, strict=True)
    ]
    both = "met" if unseen.mean >= AIM and unseen.low > 0 else "missed"
    verdict = f"The aim is both of the first: **{both}**."
    table = markdown.table("hardened less plain", [*COLUMNS, "detectable"], rows)
    return [*table, "", f"{verdict} An interval that crosses a bar decides nothing about it."]


COMPARED = ("plain", "hardened", "hardened less plain, paired", "verdict", "detectable")


def compared_cells(found: Mapping[str, Interval]) -> list[str]:
    """Return both reward models, their difference and its verdict, as `COMPARED`."""
    less = found["difference"]
    ends = [f"{less:+.3f}", less.verdict, detectable(less)]
    return [str(found["plain"]), str(found["hardened"]), *ends]


def difference_table(corner: str, rows: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """Return a table of paired differences: for each set of languages the value and its verdict."""
    sets = list(next(iter(rows.values())))
    cells = [
        (name, [text for one in sets for text in (f"{found[one]:+.3f}", found[one].verdict)])
        for name, found in rows.items()
    ]
    return markdown.table(corner, [text for one in sets for text in (one, "verdict")], cells)


def pair_table(corner: str, rows: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """Return a table of the plain and the hardened reward model, their difference, its verdict."""
    cells = [(name, compared_cells(found)) for name, found in rows.items()]
    return markdown.table(corner, COMPARED, cells)


def beside_tables(rows: Iterable[tuple[str, Mapping[str, Mapping[str, Interval]]]]) -> list[str]:
    """Return a table for each measure beside mean recall, and why they are looked at.

    Args:
        rows: name → set of languages → what `beside` returns.
    """
    rows = list(rows)
    lines: list[str] = []
    for measure in MEASURES:
        columns = [text for name in rows[0][1] for text in (name, "less plain, paired", "verdict")]
        cells = []
        for name, sets in rows:
            texts: list[str] = []
            for found in sets.values():
                less = found.get(f"{measure}, less plain")
                ends = [MISSING] * 2 if less is None else [f"{less:+.3f}", less.verdict]
                texts += [str(found[measure]), *ends]
            cells.append((name, texts))
        lines += ["", f"{measure}:", "", *markdown.table("", columns, cells)]
    return [*lines, "", WHY]


def under_chance(found: Mapping[str, Interval], classes: int) -> list[str]:
    """Return a table of mean recalls whose whole interval lies under chance, if any do.

    A model that is wrong so regularly has learnt something; often two labels are exchanged.

    Examples:
        >>> under_chance({"ko": Interval(0.25, 0.2, 0.3)}, classes=4)
        []
    """
    low = [(name, [str(value)]) for name, value in found.items() if value.high < 1 / classes]
    if not low:
        return []
    title = "Under chance with the whole interval (are labels exchanged? `exchanged_labels.py`):"
    return ["", title, "", *markdown.table("", ["mean recall"], low)]


def setting(study: Mapping[str, Any]) -> list[str]:
    """Say what was done, on what, and at what cost."""
    held = ", ".join(
        f"{language} ({found['utterances']} utterances of {found['speakers']} speakers, "
        f"{found['test utterances']} of {found['test speakers']} held out)"
        for language, found in study["languages"].items()
    )
    corpora = ", ".join(f"{title} ({licence})" for title, licence in study["corpora"].items())
    seeds = "seed 0" if study["seeds"] == 1 else f"seeds 0 to {study['seeds'] - 1}"
    left_out = ", ".join(f"{count} {emotion}" for emotion, count in study["left_out"].items())
    return [
        f"`{study['command']}`, {seeds}, {study['machine']}. "
        f"Cost: {study['trainings']} fine-tunings {study['core_minutes']} minutes of a core, "
        f"listening to the recordings{' and their mixes' if study['mixes'] else ''} "
        f"{study['listening_minutes']}, tokenizers and pre-training "
        f"{study['preparation_minutes']} minutes of the clock, each on one core. "
        f"Corpora: {corpora}. "
        f"Classes: {', '.join(study['emotions'])}. Languages: {held}."
        + (f" Left out, not in every language: {left_out}." if left_out else ""),
    ]


def notes(study: Mapping[str, Any]) -> list[str]:
    """Say what the figures of a study do not say."""
    lone = [name for name, found in study["languages"].items() if found["test speakers"] == 1]
    few = [name for name, found in study["languages"].items() if 1 < found["test speakers"] < 5]
    lines = [
        "Each language is one corpus here: nothing tells the language from the studio, the actors "
        "or the script. The languages are fixed, and a mean over them counts each alike; of so few "
        "not even a sign that is the same in all would be significant for languages at large.",
        "The tokenizer stands on Whisper base, which was trained on many languages, most likely on "
        "those that are unseen here. Its layer, the weight of its summary and the number of steps "
        "were chosen on these corpora, test languages included; the steps are those that were "
        "best for the plain reward model.",
        "Seeds are fine-tunings, all from one pre-trained reward model on one tokenizer for each "
        "choice of languages. How much another tokenizer would change is in no interval.",
        "Speakers held out of a corpus say the same sentences as those trained on, where its "
        "actors were given the same: recalls on seen languages are of new voices, not of new "
        "texts.",
    ]
    told = [name for name, found in study["languages"].items() if found["told by text"] > LEAKS]
    if told:
        shares = ", ".join(
            f"{study['languages'][name]['told by text']:.0%} of {name}" for name in told
        )
        lines.append(
            f"The text of {shares} is said in one emotion alone, and by speakers on both sides: "
            "there the words tell the emotion. They are not in the mean over seen languages. "
            "What is trained on holds them, too."
        )
    fixed = [name for name, found in study["languages"].items() if found["sentences"] < FEWEST]
    if fixed:
        lines.append(
            f"Under {FEWEST} sentences are said in {', '.join(fixed)}: there they are fixed, and "
            "intervals are over speakers and trainings alone."
        )
    if study["seeds"] == 1:
        lines.append("There is one training of each, so nothing is said of another training.")
    if few:
        lines.append(
            f"Held out are fewer than five speakers of {', '.join(few)}: alone they have no "
            "intervals, and in a mean over languages theirs are rough."
        )
    if lone:
        lines.append(
            f"Held out is one speaker of {', '.join(lone)}: where only such languages are tested, "
            "intervals are over utterances and too narrow."
        )
    return lines

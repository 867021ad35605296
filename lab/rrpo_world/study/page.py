"""The page of how good a mini world is: the figures of `rrpo_world.study.world` as tables."""

from collections.abc import Mapping
from typing import Any

from rrpo.interval import Interval, cell
from rrpo.measures import figure_of, measures_in
from rrpo.mini.text import SPEAKERS
from rrpo.report import markdown
from rrpo.studies import aims
from rrpo_world.study.again import Again
from rrpo_world.study.asked import of_world
from rrpo_world.study.codec import CODEC_FIGURES

OF_A_POLICY = ("reward", "kl")
"""Measures that mean nothing of real speech."""


def page(study: Mapping[str, Any], again: Again | None = None) -> str:
    """Return the study as a page of markdown tables.

    Args:
        again: the world beside one that the recipe made with another seed.
    """
    spoken_by = study["speech"]
    lines = [
        f"`{study['command']}`, {study['machine']}: {study['sentences']} unseen sentences (of "
        f"seed {study['sentences_seed']}) in six emotions, {study['seeds']} sampling seeds of the "
        "base policy; mean with 95 % interval, by sentence.",
        "",
        "Aims (met or missed: the mean; the interval may reach over the bar all the same):",
        "",
        *markdown.table("", aims.COLUMNS, aims.rows(of_world(study))),
        "",
    ]
    if again is not None:
        lines += _against(again)
    speech = [
        (one.title, [cell(figure_of(figures, one.key)) for figures in spoken_by.values()])
        for one in measures_in(spoken_by.values())
        if one.key not in OF_A_POLICY
    ]
    lines += markdown.table("", list(spoken_by), speech)
    lines += ["", "Paired differences, by sentence:", ""]
    gaps = [
        (f"{pair}, {label}", [str(value)])
        for pair, found in study["differences"].items()
        for label, value in found.items()
    ]
    lines += markdown.table("", [""], gaps)
    lines += ["", *markdown.table("", [""], [(name, [str(v)]) for name, v in _parts(study)])]
    lines += _voice_table(study["voices"])
    acted = study["renderings"]
    columns = list(next(iter(acted.values())))
    lines += ["", "The renderings themselves, by emotion:", ""]
    by_emotion = [(name, [str(found[c]) for c in columns]) for name, found in acted.items()]
    lines += markdown.table("", columns, by_emotion)
    lines += folded("What each stage of the recipe took", stages(study["recipe"]))
    for kind, ids in study["transient_tokens"].items():
        listed = ", ".join(map(str, ids)) or "none"
        said = f"Token ids that say a {kind} in half of {study['contexts']} sentences ({len(ids)})"
        lines += folded(said, [listed])
    return "\n".join(lines) + "\n"


def _against(again: Again) -> list[str]:
    """Return the table of what is asked, in this world and in another of the same recipe."""
    seeds = [f"seed {seed}" for seed in again.seeds]
    rows = [
        (
            one.asked,
            [
                *map(str, (one.ours, one.theirs, one.apart)),
                "yes" if one.paired else "no",
                "yes" if one.same else "no",
            ],
        )
        for one in again.compared
    ]
    return [
        "The recipe run again with another seed. Paired: both worlds say the same sentences; the "
        "rest is of each one's own test sets. The same: the interval of the difference holds 0.",
        "",
        *markdown.table("", [*seeds, "difference", "paired", "the same"], rows),
        "",
    ]


def _parts(study: Mapping[str, Any]) -> list[tuple[str, Interval]]:
    """Return the figures of the codec, the base policy, the judge and the reward model, by name."""
    rows = [(CODEC_FIGURES[name], value) for name, value in study["codec"].items()]
    for kind, figures in study["transients"].items():
        rows.append((f"{kind} inserted, found within 40 ms", figures["found"]))
        rows.append((f"{kind} found a second, none inserted", figures["false_per_second"]))
    policy, right = study["policy"], study["reward_model"]
    drawn = policy["drawn"]
    return [
        *rows,
        ("base policy, loss of real neutral speech, nats a token", policy["loss"]),
        ("… with another sentence's text", policy["swapped_loss"]),
        (f"… length of {drawn} utterances over that of real speech", policy["length"]),
        ("… share of them under a third of the real length", policy["empty"]),
        ("… share never ended, or over twice the real length", policy["runaway"]),
        ("judge, accuracy after the codec, same voice", study["judge"]["test_same"]),
        ("judge, accuracy after the codec, altered voices", study["judge"]["test_altered"]),
        ("judge, intensities in the right order", study["judge"]["ranked_pairs"]),
        *(
            (f"plain reward model, {right['steps']} steps, accuracy, {name}", value)
            for name, value in right["accuracy"].items()
        ),
        *((f"… same − {name}", value) for name, value in right["less"].items()),
    ]


def stages(recipe: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a table of the seconds of each stage; a stage taken up again has only its last."""
    rows = []
    for name, spent in recipe.items():
        legs = f" (the last of {spent['legs']} times it was taken up)" if "legs" in spent else ""
        rows.append((name, [f"{spent['seconds']:.1f}{legs}"]))
    total = sum(spent["seconds"] for spent in recipe.values())
    return markdown.table("stage", ["seconds"], [*rows, ("all", [f"{total:.0f}"])])


def _voice_table(voices: Mapping[str, Any]) -> list[str]:
    """Return the table of the other voices."""
    one = voices[SPEAKERS[0]]["real"]
    columns = [measure for measure in measures_in([one]) if measure.key not in OF_A_POLICY]
    rows = [
        (f"{name}, {label}", [cell(figure_of(figures, each.key)) for each in columns])
        for name, systems in voices.items()
        for label, figures in systems.items()
    ]
    table = markdown.table("", [each.title for each in columns], rows)
    return ["", "The other voices, real tokens and the base policy:", "", *table]


def folded(summary: str, lines: list[str]) -> list[str]:
    """Return lines of markdown that a reader opens."""
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]

"""The page of how good a mini world is: the figures of `rrpo.studies.world.world` as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rrpo.mini.text import SPEAKERS
from rrpo.report import markdown
from rrpo.report.measures import MISSING
from rrpo.report.terminal import MEASURES, shown
from rrpo.studies import aims
from rrpo.studies.world.again import Again

OF_A_POLICY = ("own reward", "KL / token")
"""Measures that mean nothing of real speech."""
CODEC_FIGURES = {
    "pitch_semitones": "F0 error, semitones",
    "voicing_error": "voicing error, share of frames",
    "envelope_decibel": "envelope error, dB",
    "aperiodicity_decibel": "aperiodicity error, dB",
    "steady": "digits that stay when the audio starts 10 ms later",
}


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
        *markdown.table("", aims.COLUMNS, aims.rows(aims.of_world(study))),
        "",
    ]
    if again is not None:
        lines += _against(again)
    speech = [
        (label, [_cell(figures, path) for figures in spoken_by.values()])
        for label, path in MEASURES
        if label not in OF_A_POLICY
    ]
    lines += markdown.table("", list(spoken_by), markdown.measured(speech))
    lines += ["", "Paired differences, by sentence:", ""]
    gaps = [
        (f"{pair}, {label}", [shown(value)])
        for pair, found in study["differences"].items()
        for label, value in found.items()
    ]
    lines += markdown.table("", [""], gaps)
    lines += ["", *markdown.table("", [""], [(name, [shown(v)]) for name, v in _parts(study)])]
    lines += _voice_table(study["voices"])
    acted = study["renderings"]
    columns = list(next(iter(acted.values())))
    lines += ["", "The renderings themselves, by emotion:", ""]
    by_emotion = [(name, [shown(found[c]) for c in columns]) for name, found in acted.items()]
    lines += markdown.table("", columns, by_emotion)
    lines += _folded("What each stage of the recipe took", stages(study["recipe"]))
    for kind, ids in study["transient_tokens"].items():
        listed = ", ".join(map(str, ids)) or "none"
        said = f"Token ids that say a {kind} in half of {study['contexts']} sentences ({len(ids)})"
        lines += _folded(said, [listed])
    return "\n".join(lines) + "\n"


def _against(again: Again) -> list[str]:
    """Return the table of what is asked, in this world and in another of the same recipe."""
    seeds = [f"seed {seed}" for seed in again.seeds]
    rows = [
        (
            one.asked,
            [
                *map(shown, (one.ours, one.theirs, one.apart)),
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


def _parts(study: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
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


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a reader opens."""
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def _voice_table(voices: Mapping[str, Any]) -> list[str]:
    """Return the table of the other voices."""
    one = voices[SPEAKERS[0]]["real"]
    columns = [
        (label, path)
        for label, path in MEASURES
        if label not in OF_A_POLICY and _cell(one, path) != MISSING
    ]
    rows = [
        (f"{name}, {label}", [_cell(figures, path) for _, path in columns])
        for name, systems in voices.items()
        for label, figures in systems.items()
    ]
    table = markdown.table("", [label for label, _ in columns], rows)
    return ["", "The other voices, real tokens and the base policy:", "", *table]


def _cell(figures: Mapping[str, Any], path: Sequence[str]) -> str:
    value: Any = figures
    for key in path:
        value = None if value is None else value.get(key)
    return MISSING if value is None else shown(value)

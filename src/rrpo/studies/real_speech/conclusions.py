"""What a study's figures say in plain words, what they do not say, and what could be found."""

from collections.abc import Mapping
from typing import Any

from rrpo.report.terminal import shown, signed

Interval = Mapping[str, float]

POWER = 2.8
"""Standard errors of a difference that is told from zero in four of five studies (1.96 + 0.84)."""

AIM = 0.03
"""Gain of the hardened reward model on unseen languages that the studies look for."""


def verdict(value: Interval) -> str:
    """Say what the interval of a difference allows to say.

    Examples:
        >>> verdict({"mean": 0.05, "low": -0.01, "high": 0.1})
        'within noise'
        >>> verdict({"mean": 0.05, "low": 0.01, "high": 0.1})
        'better'
    """
    if value["low"] > 0:
        return "better"
    return "worse" if value["high"] < 0 else "within noise"


def aim(unseen: Interval, seen: Interval) -> str:
    """Say whether the hardened less the plain reward model gains what is looked for.

    Examples:
        >>> unseen = {"mean": 0.04, "low": 0.01, "high": 0.07}
        >>> seen = {"mean": 0.0, "low": -0.01, "high": 0.01}
        >>> aim(unseen, seen).endswith("is met.")
        True
    """
    met = unseen["mean"] >= AIM and unseen["low"] > 0 and seen["low"] > -AIM
    outside = "; so large a gain lies outside the interval" if unseen["high"] < AIM else ""
    return (
        f"**The aim**, {AIM:.2f} on unseen languages with the interval above zero, and a loss of "
        f"as much excluded on seen ones, is {'met' if met else 'missed'}{outside}."
    )


def detectable(value: Interval) -> float:
    """Return the least true difference that such a study tells from zero in four of five cases.

    The standard error is taken as a 95 % interval's width over 2 * 1.96; of few speakers or
    trainings that is rather too much.
    """
    return POWER * (value["high"] - value["low"]) / (2 * 1.96)


def sorted_by_verdict(found: Mapping[str, Interval]) -> list[str]:
    """Return a phrase for each verdict that occurs, naming what it holds for.

    Examples:
        >>> sorted_by_verdict({"LS": {"mean": 0.02, "low": 0.01, "high": 0.03}})
        ['better: LS +0.020 [+0.010, +0.030]']
    """
    lines = []
    for word in ("better", "worse", "within noise"):
        held = [
            f"{name} {signed(value)}" for name, value in found.items() if verdict(value) == word
        ]
        if held:
            lines.append(f"{word}: {', '.join(held)}")
    return lines


def under_chance(found: Mapping[str, Interval], classes: int) -> list[str]:
    """Return a sentence that names mean recalls whose whole interval lies under chance, if any do.

    Whoever is wrong so regularly has learnt something; often two labels of a corpus are exchanged.

    Examples:
        >>> under_chance({"ko": {"mean": 0.25, "low": 0.2, "high": 0.3}}, classes=4)
        []
    """
    low = [f"{name} {shown(value)}" for name, value in found.items() if value["high"] < 1 / classes]
    if not low:
        return []
    return [
        f"**Under chance** ({1 / classes:.2f}) with the whole interval: {', '.join(low)}. Do the "
        "labels of these recordings mean what they say? (`scripts/exchanged_labels.py`)."
    ]


def power(found: Mapping[str, Interval]) -> str:
    """Say what true differences a study could have found, by the name of what was tested.

    Examples:
        >>> power({"unseen": {"mean": 0.0, "low": -0.1, "high": 0.096}})
        'a true difference of 0.140 (unseen) would be told from zero in four of five such studies.'
    """
    sizes = [f"{detectable(value):.3f} ({name})" for name, value in found.items()]
    if any(value["low"] == value["high"] for value in found.values()):
        return "there is nothing to tell the noise from."
    return (
        f"a true difference of {' or '.join(sizes)} would be told from zero in four of five such "
        "studies."
    )


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
        "The tokenizer stands on Whisper base, which was trained on many languages, most likely on "
        "those that are unseen here. Its layer and the weight of its summary were chosen with "
        "labels of such corpora: the recalls are rather too good, differences between reward "
        "models hardly are.",
        "Seeds are fine-tunings, all from one pre-trained reward model on one tokenizer for each "
        "choice of languages. How much another tokenizer would change is in no interval.",
        "Speakers held out of a corpus say the same sentences as those trained on, where its "
        "actors were given the same: recalls on seen languages are of new voices, not of new "
        "texts.",
    ]
    if study["seeds"] == 1:
        lines.append("There is one training of each, so nothing is said of another training.")
    if few:
        lines.append(
            f"Held out are fewer than five speakers of {', '.join(few)}: intervals over so few are "
            "wide where they are honest, and rough."
        )
    if lone:
        lines.append(
            f"Held out is one speaker of {', '.join(lone)}: where only such languages are tested, "
            "intervals are over utterances and too narrow."
        )
    return lines

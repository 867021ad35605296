"""What the pages measure: estimates with intervals, their names, directions and number formats."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]
"""The figures of one system: a value of `systems` in results.json, or one row of a curve."""

MISSING = "–"


@dataclass(frozen=True)
class Estimate:
    """A mean with, where known, the two ends of its 95 % interval."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measure:
    """One figure of a system.

    Attributes:
        key: where it lies in an entry; a dot steps into a dict ("quality.plcmos").
        label: short name for a column or an axis.
        phrase: the name inside a sentence.
        group: heading over its column.
        better: "higher", "lower", or "" when neither direction is good in itself.
        step: the smallest change worth a warning, in the measure's own unit.
        digits: decimal places shown.
        relative: `step` is a share of the value it is compared with, and either direction counts.
        meaning: one or two sentences for the glossary.
    """

    key: str
    label: str
    phrase: str
    group: str
    better: str
    step: float
    digits: int
    meaning: str
    relative: bool = False


REWARD = Measure(
    "reward",
    "Own reward",
    "own reward",
    "Optimization",
    "",
    0.02,
    2,
    "Log-posterior, in nats, of the emotion asked for, under the reward model the policy was "
    "optimized against (base and SFT: the plain one). Label smoothing lowers the greatest value a "
    "reward model can give, so rewards of two reward models are not compared with each other.",
)
JUDGE_PROBABILITY = Measure(
    "judge_probability",
    "Judge prob.",
    "the judge’s probability of the asked emotion",
    "Emotion",
    "higher",
    0.03,
    2,
    "Probability of the emotion asked for, given by a judge that hears the audio (acoustic "
    "functionals) and shares no data, features or architecture with any reward model.",
)
FIXED = (
    Measure(
        "judge_accuracy",
        "Judge acc.",
        "the judge’s accuracy",
        "Emotion",
        "higher",
        0.05,
        2,
        "Share of utterances in which the judge’s most probable emotion is the one asked for.",
    ),
    JUDGE_PROBABILITY,
    Measure(
        "artifacts_per_second",
        "Artifacts /s",
        "detected artifacts per second",
        "Speech",
        "lower",
        0.05,
        2,
        "Clicks and pops that the detector marks in the audio, per second of audio.",
    ),
    Measure(
        "content_error",
        "Word error",
        "the word error",
        "Speech",
        "lower",
        0.03,
        2,
        "Word error of a speech recogniser against the text asked for, as a share of its words; "
        "of an utterance at most 1.",
    ),
    Measure(
        "tokens",
        "Tokens",
        "the length in tokens",
        "Speech",
        "",
        0.15,
        1,
        "Length of an utterance in speech tokens; 25 tokens are one second.",
        relative=True,
    ),
    Measure(
        "repetition",
        "Repetition",
        "the repetition of tokens",
        "Speech",
        "lower",
        0.03,
        2,
        "Share of an utterance's tokens that are stuck (one id five times or more in a row, as in "
        "long silence too) or loop (a pattern of 2 to 16 tokens three times or more).",
    ),
    REWARD,
    Measure(
        "kl",
        "KL",
        "the KL to the base",
        "Optimization",
        "",
        0.02,
        3,
        "Kullback–Leibler divergence from the base policy over the whole vocabulary, in nats per "
        "token, mean over positions: how far a policy has moved.",
    ),
)
SCORERS = {
    "dnsmos_overall": ("DNSMOS overall", "DNSMOS (P.835) prediction of overall quality, 1 to 5."),
    "dnsmos_signal": ("DNSMOS signal", "DNSMOS (P.835) prediction of signal quality, 1 to 5."),
    "dnsmos_p808": ("DNSMOS P.808", "DNSMOS prediction of a P.808 listening test, 1 to 5."),
    "plcmos": ("PLCMOS", "Prediction of quality trained on packet-loss gaps, 1 to 5."),
    "distillmos": ("DistillMOS", "Distilled prediction of speech quality, 1 to 5."),
}
SYSTEMS = {
    "reference": "Reference",
    "base": "Base",
    "sft": "SFT",
    "best_of_8": "Best of 8",
    "dpo": "DPO",
    "grpo": "GRPO",
    "diffro_published": "DiffRO as published",
    "diffro": "DiffRO",
    "rrpo_paper": "RRPO as published",
    "rrpo": "RRPO",
}
ABBREVIATIONS = {
    "kl": "KL",
    "ece": "ECE",
    "eam": "EAM",
    "adv": "Adv",
    "ls": "LS",
    "f1": "F1",
    "roc": "ROC",
    "plcmos": "PLCMOS",
    "dnsmos": "DNSMOS",
} | {
    name: label
    for name, label in SYSTEMS.items()
    if " " not in label and name not in ("reference", "base")
}
REWARD_MODELS = {
    "pretrained": "Pre-trained only",
    "plain": "Plain",
    "ls": "LS",
    "eam": "EAM",
    "adv": "Adv",
    "ls_eam": "LS + EAM",
    "ls_adv": "LS + Adv",
    "eam_adv": "EAM + Adv",
    "ls_eam_adv": "LS + EAM + Adv",
}


def estimate(value: object) -> Estimate | None:
    """Read a float or {"mean", "low", "high"}; None for anything else or a value not finite."""
    if isinstance(value, Mapping):
        mean, low, high = (_number(value.get(name)) for name in ("mean", "low", "high"))
        if mean is None:
            return None
        return Estimate(mean, low, high) if None not in (low, high) else Estimate(mean)
    mean = _number(value)
    return None if mean is None else Estimate(mean)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def figure_of(entry: object, key: str) -> Estimate | None:
    """Look up a dotted key in an entry; None where any part of the way is absent."""
    for name in key.split("."):
        if not isinstance(entry, Mapping):
            return None
        entry = entry.get(name)
    return estimate(entry)


def apart(first: Estimate, second: Estimate) -> bool | None:
    """Whether two intervals do not overlap; None when one of the two has no interval."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return None
    return first.low > second.high or second.low > first.high


def section(parent: object, key: str) -> dict[str, Any]:
    """Return the dict at `key`, or an empty one where there is none."""
    value = parent.get(key) if isinstance(parent, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def quality_measures(entries: Iterable[Entry]) -> list[Measure]:
    """Return a measure for every quality scorer that any entry holds a figure of."""
    found: list[str] = []
    for entry in entries:
        for name in section(entry, "quality"):
            if name not in found and figure_of(entry, f"quality.{name}") is not None:
                found.append(name)
    order = [name for name in SCORERS if name in found]
    order += [name for name in found if name not in SCORERS]
    measures = []
    for name in order:
        label, meaning = SCORERS.get(name, (plain_name(name), "A predictor of speech quality."))
        measures.append(
            Measure(f"quality.{name}", label, label, "Quality", "higher", 0.05, 2, meaning)
        )
    return measures


def measures_in(entries: Iterable[Entry]) -> list[Measure]:
    """Return, in display order, the measures that at least one entry holds a figure of."""
    entries = list(entries)
    wanted = [*FIXED[:2], *quality_measures(entries), *FIXED[2:]]
    return [
        measure
        for measure in wanted
        if any(figure_of(entry, measure.key) is not None for entry in entries)
    ]


def plain_name(name: str) -> str:
    """Make a key readable: spaces for underscores, a capital first letter, known abbreviations.

    Examples:
        >>> plain_name("mean_kl"), plain_name("learning_rate")
        ('Mean KL', 'Learning rate')
    """
    spaced = name.replace("_", " ").replace("/", ", ")
    words = [ABBREVIATIONS.get(word, word) for word in spaced.split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def system_label(name: str) -> str:
    """Return the display name of a system."""
    return SYSTEMS.get(name, plain_name(name))


def reward_model_label(name: str) -> str:
    """Return the display name of a reward model."""
    return REWARD_MODELS.get(name, plain_name(name))


def own_reward_model(system: str, entry: Entry) -> str:
    """Name the reward model a system was optimized against; base and SFT count under the plain one.

    An entry may name it itself under `reward_model`.
    """
    named = entry.get("reward_model")
    if isinstance(named, str):
        return named
    if system in ("rrpo", "multitask"):
        return "ls_eam_adv"
    return system.removeprefix("rrpo_") if system.startswith("rrpo_") else "plain"


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """Format a number with a true minus sign; a value that rounds to zero carries no sign.

    Examples:
        >>> number(-0.126), number(0.5, signed=True), number(-0.001)
        ('−0.13', '+0.50', '0.00')
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return (f"+{text}" if signed and value > 0 else text).replace("-", "−")


def interval(value: Estimate, digits: int = 2) -> str:
    """Format the interval as "[low, high]", or nothing where it is unknown."""
    if value.low is None or value.high is None:
        return ""
    return f"[{number(value.low, digits)}, {number(value.high, digits)}]"


def narrow_interval(value: Estimate, digits: int = 2) -> str:
    """Format the interval for a table: "low–high", or "low to high" where an end is negative."""
    if value.low is None or value.high is None:
        return ""
    between = " to " if value.low < 0 else "–"
    return f"{number(value.low, digits)}{between}{number(value.high, digits)}"

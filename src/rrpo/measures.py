"""What is measured of speech: one table of names, titles, directions and numbers of digits."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rrpo.interval import Interval, read_interval

Entry = Mapping[str, Any]
"""The figures of one system: a value of `systems` in results.json, or one row of a curve."""


@dataclass(frozen=True)
class Measure:
    """One figure of a system.

    Attributes:
        key: where it lies in an entry; a dot steps into a dict ("quality.plcmos").
        title: its name in tables of text, and in the JSON of studies.
        label: short name for a column or an axis of a page.
        phrase: the name inside a sentence.
        group: heading over its column.
        better: "higher", "lower", or "" when neither direction is good in itself.
        step: the smallest change worth a warning, in the measure's own unit.
        digits: decimal places shown on a page.
        relative: `step` is a share of the value it is compared with, and either direction counts.
        is_share: each utterance has it or not.
        limits: what it cannot lie beyond.
        meaning: one or two sentences for the glossary.
    """

    key: str
    title: str
    label: str
    phrase: str
    group: str
    better: str
    step: float
    digits: int
    meaning: str
    relative: bool = False
    is_share: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)

    def within(self, found: Interval) -> Interval:
        """Return its interval within its limits: of few sentences it may reach beyond."""
        if not found.known:
            return found
        least, most = self.limits
        return Interval(found.mean, max(least, found.low), min(most, found.high))

    def of(self, row: Mapping[str, Any]) -> float | None:
        """Return it of one utterance, a row of `rrpo.evaluate.panel.measure`; None: not measured.

        The own reward is `reward.NAME` there, by the name of the reward model.
        """
        if self.key == "judge_accuracy":
            detected = row.get("judge_emotion")
            return None if detected is None else float(detected == row["emotion"])
        if self.key == "artifacts_per_second":
            marks, seconds = row.get("artifacts"), row.get("seconds")
            return len(marks) / float(seconds) if marks is not None and seconds else None
        if self.key == "never_ended":
            return None if row.get("ended") is None else float(not row["ended"])
        found = figure_of(row, self.key)
        return None if found is None else found.mean


def scorer(name: str, title: str, meaning: str) -> Measure:
    """Return the measure of a predictor of speech quality."""
    return Measure(f"quality.{name}", title, title, title, "Quality", "higher", 0.05, 2, meaning)


SHARE, AMOUNT = (0.0, 1.0), (0.0, math.inf)
"""Limits of shares, and of what is never negative."""
MEASURES = (
    Measure(
        "judge_probability",
        "judge probability",
        "Judge prob.",
        "the judge’s probability of the asked emotion",
        "Emotion",
        "higher",
        0.03,
        2,
        "Probability of the emotion asked for, given by a judge that hears the audio (acoustic "
        "functionals) and shares no data, features or architecture with any reward model.",
        limits=SHARE,
    ),
    Measure(
        "judge_accuracy",
        "judge accuracy",
        "Judge acc.",
        "the judge’s accuracy",
        "Emotion",
        "higher",
        0.05,
        2,
        "Share of utterances in which the judge’s most probable emotion is the one asked for.",
        is_share=True,
        limits=SHARE,
    ),
    scorer(
        "dnsmos_overall",
        "DNSMOS overall",
        "DNSMOS (P.835) prediction of overall quality, 1 to 5.",
    ),
    scorer(
        "dnsmos_signal", "DNSMOS signal", "DNSMOS (P.835) prediction of signal quality, 1 to 5."
    ),
    scorer("dnsmos_p808", "DNSMOS P.808", "DNSMOS prediction of a P.808 listening test, 1 to 5."),
    scorer("plcmos", "PLCMOS", "Prediction of quality trained on packet-loss gaps, 1 to 5."),
    scorer("distillmos", "DistillMOS", "Distilled prediction of speech quality, 1 to 5."),
    Measure(
        "artifacts_per_second",
        "artifacts / s",
        "Artifacts /s",
        "detected artifacts per second",
        "Speech",
        "lower",
        0.05,
        2,
        "Clicks and pops that the detector marks in the audio, per second of audio.",
        limits=AMOUNT,
    ),
    Measure(
        "repetition",
        "repetition",
        "Repetition",
        "the repetition of tokens",
        "Speech",
        "lower",
        0.03,
        2,
        "Share of an utterance's tokens that are stuck (one id five times or more in a row, as in "
        "long silence too) or loop (a pattern of 2 to 16 tokens three times or more).",
        limits=SHARE,
    ),
    Measure(
        "never_ended",
        "never ended",
        "Never ended",
        "the share that never ended",
        "Speech",
        "lower",
        0.05,
        2,
        "Share of utterances that were cut at the limit of their length.",
        is_share=True,
        limits=SHARE,
    ),
    Measure(
        "content_error",
        "word error",
        "Word error",
        "the word error",
        "Speech",
        "lower",
        0.03,
        2,
        "Word error of a speech recogniser against the text asked for, as a share of its words; "
        "of an utterance at most 1.",
        limits=SHARE,
    ),
    Measure(
        "instruction_heard",
        "instruction heard",
        "Instruction heard",
        "the share of the instruction that is heard",
        "Speech",
        "lower",
        0.03,
        2,
        "Share of an instruction's own words that the recogniser hears in the speech.",
        limits=SHARE,
    ),
    Measure(
        "tokens",
        "tokens",
        "Tokens",
        "the length in tokens",
        "Speech",
        "",
        0.15,
        1,
        "Length of an utterance in speech tokens; 25 tokens are one second.",
        relative=True,
        limits=AMOUNT,
    ),
    Measure(
        "reward",
        "own reward",
        "Own reward",
        "own reward",
        "Optimization",
        "",
        0.02,
        2,
        "Log-posterior, in nats, of the emotion asked for, under the reward model the policy was "
        "optimized against (base and SFT: the plain one). Label smoothing lowers the greatest "
        "value a reward model can give, so rewards of two reward models are not compared.",
    ),
    Measure(
        "kl",
        "KL / token",
        "KL",
        "the KL to the base",
        "Optimization",
        "",
        0.02,
        3,
        "Kullback–Leibler divergence from the base policy over the whole vocabulary, in nats per "
        "token, mean over positions: how far a policy has moved.",
        limits=AMOUNT,
    ),
)
"""Every measure in the order of a table."""
BY_KEY = {measure.key: measure for measure in MEASURES}
BY_TITLE = {measure.title: measure for measure in MEASURES}
JUDGE_PROBABILITY, REWARD = BY_KEY["judge_probability"], BY_KEY["reward"]
RECOGNITION = {
    "unweighted_average_recall": ("Unweighted accuracy", "higher"),
    "accuracy": ("Weighted accuracy", "higher"),
    "macro_f1": ("Macro F1", "higher"),
    "area_under_roc": ("Area under ROC", "higher"),
    "calibration_error": ("Calibration error", "lower"),
}
"""Measures of a reward model as a recogniser: title, and which direction is better."""
SYSTEMS = {
    "reference": "Reference",
    "base": "Base",
    "sft": "SFT",
    "best_of_8": "Best of 8",
    "sft_best_of_8": "SFT, best of 8",
    "dpo": "DPO",
    "grpo": "GRPO",
    "diffro_published": "DiffRO as published",
    "diffro_paper": "DiffRO in RRPO’s form",
    "diffro": "DiffRO",
    "rrpo_paper": "RRPO as published",
    "rrpo": "RRPO",
    "rrpo_best_of_8": "RRPO, best of 8",
    "rrpo_dpo": "RRPO, then DPO",
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


def figure_of(entry: object, key: str) -> Interval | None:
    """Look up a dotted key in an entry; None where any part of the way is absent."""
    for name in key.split("."):
        if not isinstance(entry, Mapping):
            return None
        entry = entry.get(name)
    return read_interval(entry)


def section(parent: object, key: str) -> dict[str, Any]:
    """Return the dict at `key`, or an empty one where there is none."""
    value = parent.get(key) if isinstance(parent, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def measures_in(entries: Iterable[Entry]) -> list[Measure]:
    """Return, in the order of a table, the measures that at least one entry holds a figure of."""
    entries = list(entries)
    names = dict.fromkeys(name for entry in entries for name in section(entry, "quality"))
    others = [
        scorer(name, plain_name(name), "A predictor of speech quality.")
        for name in names
        if f"quality.{name}" not in BY_KEY
    ]
    last = max(place for place, one in enumerate(MEASURES) if one.group == "Quality") + 1
    return [
        measure
        for measure in (*MEASURES[:last], *others, *MEASURES[last:])
        if any(figure_of(entry, measure.key) is not None for entry in entries)
    ]


def quality_measures(entries: Iterable[Entry]) -> list[Measure]:
    """Return a measure for every quality scorer that any entry holds a figure of."""
    return [measure for measure in measures_in(entries) if measure.group == "Quality"]


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


def own_reward_model(entry: Entry) -> str:
    """Name the reward model that a system was optimized against, as its entry does."""
    return str(entry.get("reward_model") or "plain")

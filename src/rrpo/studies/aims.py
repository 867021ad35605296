"""What a mini world should reach, and whether its figures do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrpo.report.measures import MISSING

Value = Mapping[str, float]
"""A figure: "mean", "low" and "high"."""
COLUMNS = ("bar", "measured", "verdict")


@dataclass(frozen=True)
class Aim:
    """A figure that should lie between two bars, both allowed.

    Attributes:
        value: what was measured; None where it could not be.
        surely: whether the whole interval has to lie between the bars, and not its mean alone.
    """

    asked: str
    value: Value | None
    least: float = -math.inf
    most: float = math.inf
    surely: bool = False

    @property
    def bar(self) -> str:
        """The bars in words."""
        if self.least == self.most:
            return f"{self.least:g}"
        if math.isinf(self.least):
            return f"at most {self.most:g}"
        if math.isinf(self.most):
            return f"at least {self.least:g}"
        return f"{self.least:g} to {self.most:g}"

    @property
    def verdict(self) -> str:
        """Whether the mean (`surely`: the interval) lies between the bars, and how nearly."""
        if self.value is None:
            return "not measured"
        mean, low, high = (self.value[key] for key in ("mean", "low", "high"))
        if self.least <= low and high <= self.most:
            return "met"
        if self.least <= mean <= self.most and not self.surely:
            return "met, interval crosses"
        reaches = low <= self.most and high >= self.least
        return "missed, interval crosses" if reaches else "missed"

    def cells(self) -> tuple[str, str, str]:
        """Return the bar, the figure with its interval and the verdict, as `COLUMNS`."""
        measured = MISSING
        if self.value is not None:
            mean, low, high = (f"{self.value[key]:.3f}" for key in ("mean", "low", "high"))
            measured = mean if low == high == mean else f"{mean} [{low}, {high}]"
        return self.bar, measured, self.verdict


def of_world(study: Mapping[str, Any]) -> list[Aim]:
    """Return the aims of a mini world with the figures of its study."""
    speech, gaps, policy = study["speech"], study["differences"], study["policy"]
    lost, gained = gaps["codec − rendering"], gaps["base − codec"]
    return [
        Aim("codec, F0 error, semitones", study["codec"]["pitch_semitones"], most=0.8),
        Aim("codec, word error", speech["codec"]["content_error"], most=0.10),
        Aim("codec − rendering, word error", lost.get("word error"), most=0.06),
        Aim("rendering − codec, DistillMOS", _negative(lost.get("DistillMOS")), most=0.4),
        Aim("click inserted, found", study["transients"]["click"]["found"], least=0.7),
        Aim("pop inserted, found", study["transients"]["pop"]["found"], least=0.7),
        # One in twenty seconds is what "without clicks" is taken to allow.
        Aim(
            "clicks a second, none inserted",
            study["transients"]["click"]["false_per_second"],
            most=0.05,
        ),
        Aim("base − codec, word error", gained.get("word error"), most=0.08),
        Aim("the same, at the least", gained.get("word error"), most=0.15),
        Aim("codec − base, DistillMOS", _negative(gained.get("DistillMOS")), most=0.3),
        Aim("base, length over real speech", policy["length"], 0.9, 1.1),
        Aim(f"base, share of {policy['drawn']} empty or run away", policy["failed"], 0.0, 0.0),
        Aim("base, judge probability", speech["base"]["judge_probability"], 0.3, 0.6),
        Aim("judge, accuracy after the codec", study["judge"]["test_same"], least=0.8),
        Aim("judge, intensities in order", study["judge"]["ranked_pairs"], least=0.75),
        *_of_reward_model(study["reward_model"]),
        Aim("assets, MB", study["assets"], most=24.0),
    ]


def of_judges(ways: Mapping[str, Any]) -> list[Aim]:
    """Return what judges should hear, by rank correlation with how much an utterance is spoilt.

    A correlation that cannot be told from 0 is of a judge that hears nothing, so its whole interval
    is asked.

    Args:
        ways: the curves of their study (`rrpo.studies.artifacts.judges`).
    """
    falls = [
        Aim(
            f"{scorer} falls with {way}",
            ways[way]["measures"][scorer]["rank"],
            most=0.0,
            surely=True,
        )
        for way in ("clicks", "noise", "held token", "repeated tokens")
        for scorer in ("DNSMOS overall", "DNSMOS P.808", "PLCMOS", "DistillMOS")
        if scorer in ways[way]["measures"]
    ]
    rises = ways["exchanged tokens"]["measures"].get("word error", {}).get("rank")
    return [*falls, Aim("word error rises with exchanged tokens", rises, least=0.0, surely=True)]


def _of_reward_model(figures: Mapping[str, Mapping[str, Value]]) -> list[Aim]:
    """Return the aims of the plain reward model: right on its own voice, less so on others."""
    name = "plain reward model, accuracy"
    others = [
        Aim(f"{name}, same − {other}", figures["less"].get(other), least=0.0)
        for other in ("altered", "mandarin")
    ]
    return [Aim(f"{name}, same", figures["accuracy"]["same"], least=0.75), *others]


def _negative(value: Value | None) -> Value | None:
    """Turn a difference round."""
    if value is None:
        return None
    return {"mean": -value["mean"], "low": -value["high"], "high": -value["low"]}


def rows(aims: Sequence[Aim]) -> list[tuple[str, tuple[str, str, str]]]:
    """Return what is asked and the cells of each aim."""
    return [(aim.asked, aim.cells()) for aim in aims]

"""What a study's figures say in plain words: what is more than noise, and what could be found."""

from collections.abc import Mapping

from rrpo.report.terminal import signed

Interval = Mapping[str, float]

POWER = 2.8
"""Standard errors of a difference that is told from zero in four of five studies (1.96 + 0.84)."""


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


def detectable(value: Interval) -> float:
    """Return the least true difference that such a study tells from zero in four of five cases.

    The standard error is a 95 % interval's width over 2 * 1.96.
    """
    return POWER * (value["high"] - value["low"]) / (2 * 1.96)


def sorted_by_verdict(found: Mapping[str, Interval]) -> list[str]:
    """Return a line for each verdict that occurs, naming what it holds for.

    Examples:
        >>> sorted_by_verdict({"LS": {"mean": 0.02, "low": 0.01, "high": 0.03}})
        ['Better: LS +0.020 [+0.010, +0.030].']
    """
    lines = []
    for word in ("better", "worse", "within noise"):
        held = [
            f"{name} {signed(value)}" for name, value in found.items() if verdict(value) == word
        ]
        if held:
            lines.append(f"{word.capitalize()}: {'; '.join(held)}.")
    return lines

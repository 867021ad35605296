"""What a mini world should reach: each figure, its bars, and how two worlds are compared on it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrpo.interval import Interval
from rrpo.studies.aims import Aim
from rrpo_world.study.speech import over_draws

Study = Mapping[str, Any]
"""The figures of a world's study."""
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""What a study measured of each utterance: `rows.json`."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A figure of a world that should lie between two bars.

    Attributes:
        figure: it of a study; None where it could not be measured. "…" in a title: how many
            utterances were drawn.
        system: rows of utterances that it is the mean over; "" where it is of no sentences that two
            worlds share.
        of_rows: it of each of these utterances; NaN where one has none.
    """

    title: str
    figure: Callable[[Study], Interval | None]
    least: float = -math.inf
    most: float = math.inf
    system: str = ""
    of_rows: Callable[[Rows], Values] | None = None


def _of(system: str, name: str) -> Callable[[Rows], Values]:
    """Read a figure of each row; NaN where a row has none, as of pitch where nothing is voiced."""
    return lambda rows: np.array([row.get(name, np.nan) for row in rows[system]], dtype=np.float64)


def _judged(system: str, title: str) -> Callable[[Rows], Values]:
    """Read what judges said of each utterance, of the base the mean over its sampling seeds."""

    def figure(rows: Rows) -> Values:
        names = [name for name in rows if name == system or name.startswith(f"{system}, ")]
        values = over_draws([[dict(row) for row in rows[name]] for name in names], title)
        return np.full(len(rows[names[0]]), np.nan) if values is None else values

    return figure


def _less(first: str, second: str, title: str) -> Callable[[Rows], Values]:
    one, two = _judged(first, title), _judged(second, title)
    return lambda rows: one(rows) - two(rows)


def _difference(pair: str, title: str) -> Callable[[Study], Interval | None]:
    return lambda study: study["differences"][pair].get(title)


def _fall(pair: str, title: str) -> Callable[[Study], Interval | None]:
    """Read a difference the other way round."""

    def figure(study: Study) -> Interval | None:
        found = study["differences"][pair].get(title)
        return None if found is None else -found

    return figure


def _transient(kind: str, what: str) -> Callable[[Study], Interval | None]:
    return lambda study: study["transients"][kind][what]


def _less_right(other: str) -> Asked:
    """Ask that the plain reward model is right on its own voice at least as often as on others."""
    return Asked(
        f"plain reward model, accuracy, same − {other}",
        lambda study: study["reward_model"]["less"].get(other),
        least=0.0,
    )


LOST, GAINED = "codec − rendering", "base − codec"
ASKED = (
    Asked(
        "codec, F0 error, semitones",
        lambda study: study["codec"]["pitch_semitones"],
        most=0.8,
        system="resynthesis",
        of_rows=_of("resynthesis", "pitch_semitones"),
    ),
    Asked(
        "codec, word error",
        lambda study: study["speech"]["codec"]["content_error"],
        most=0.10,
        system="codec",
        of_rows=_judged("codec", "word error"),
    ),
    Asked(
        "codec − rendering, word error",
        _difference(LOST, "word error"),
        most=0.06,
        system="codec",
        of_rows=_less("codec", "rendering", "word error"),
    ),
    Asked(
        "rendering − codec, DistillMOS",
        _fall(LOST, "DistillMOS"),
        most=0.4,
        system="codec",
        of_rows=_less("rendering", "codec", "DistillMOS"),
    ),
    *(
        Asked(
            f"{kind} inserted, found",
            _transient(kind, "found"),
            least=0.7,
            system="resynthesis",
            of_rows=_of("resynthesis", f"{kind}_found"),
        )
        for kind in ("click", "pop")
    ),
    Asked(
        "clicks a second, none inserted",
        _transient("click", "false_per_second"),
        most=0.05,  # one in twenty seconds is what "without clicks" is taken to allow
        system="resynthesis",
        of_rows=_of("resynthesis", "click_false_per_second"),
    ),
    *(
        Asked(
            title,
            _difference(GAINED, "word error"),
            most=most,
            system="codec",
            of_rows=_less("base", "codec", "word error"),
        )
        for title, most in (("base − codec, word error", 0.08), ("the same, at the least", 0.15))
    ),
    Asked(
        "codec − base, DistillMOS",
        _fall(GAINED, "DistillMOS"),
        most=0.3,
        system="codec",
        of_rows=_less("codec", "base", "DistillMOS"),
    ),
    Asked("base, length over real speech", lambda study: study["policy"]["length"], 0.9, 1.1),
    Asked("base, share of … empty or run away", lambda study: study["policy"]["failed"], 0.0, 0.0),
    Asked(
        "base, judge probability",
        lambda study: study["speech"]["base"]["judge_probability"],
        0.3,
        0.6,
        system="codec",
        of_rows=_judged("base", "judge probability"),
    ),
    Asked("judge, accuracy after the codec", lambda study: study["judge"]["test_same"], least=0.8),
    Asked(
        "judge, intensities in order",
        lambda study: study["judge"]["ranked_pairs"],
        least=0.75,
        system="ranked",
        of_rows=_of("ranked", "right"),
    ),
    Asked(
        "plain reward model, accuracy, same",
        lambda study: study["reward_model"]["accuracy"]["same"],
        least=0.75,
    ),
    _less_right("altered"),
    _less_right("mandarin"),
    Asked("assets, MB", lambda study: study["assets"], most=24.0),
)


def title_of(asked: Asked, study: Study) -> str:
    """Return what is asked in words."""
    return asked.title.replace("…", str(study["policy"]["drawn"]))


def of_world(study: Study) -> list[Aim]:
    """Return the aims of a mini world with the figures of its study."""
    return [Aim(title_of(one, study), one.figure(study), one.least, one.most) for one in ASKED]

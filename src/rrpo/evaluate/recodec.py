"""The recodec audit: is what the reward model pays for in the audio, or in the tokens alone?

A policy draws tokens; a listener hears the audio that they are rendered to. That audio is encoded
again, and the reward model reads both. Where it says more of the drawn tokens than of those that
come back, it is paid for something that is not heard: the gap, in nats.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.audio import Audio
from rrpo.emotions import emotion_index
from rrpo.evaluate.statistics import interval
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors

Row = dict[str, Any]
"""What is said of an utterance: `text`, `emotion`, and here `recodec` and `tokens_back`."""
GAP, BACK = "recodec", "tokens_back"


def gaps(
    model: RewardModel, emotions: Sequence[str], drawn: Sequence[Tensor], again: Sequence[Tensor]
) -> NDArray[np.float64]:
    """Return log p(e | drawn) − log p(e | again) of each utterance (N,), nats.

    Positive where the reward of the drawn tokens is not in the audio. An utterance of which no
    token comes back is one that the model knows nothing of: log p is then that of chance.

    Args:
        model: the reward model.
        emotions: e, N, what was asked for.
        drawn: N of (T,) int64, each of at least one token.
        again: N of (T',) int64, what the audio is encoded to.
    """
    known = model.classes()
    columns = torch.tensor([emotion_index(emotion, known) for emotion in emotions])
    heard = torch.full((len(drawn), len(known)), -math.log(len(known)))
    there = [row for row, tokens in enumerate(again) if tokens.numel()]
    if there:
        heard[there] = log_posteriors(model, [again[row] for row in there])
    apart = log_posteriors(model, drawn) - heard
    return np.asarray(apart[torch.arange(len(drawn)), columns].double())


def tokens_back(drawn: Tensor, again: Tensor) -> float:
    """Return which share of tokens (T,) stands at the same place in tokens (T',).

    Examples:
        >>> tokens_back(torch.tensor([3, 5, 7, 7]), torch.tensor([3, 6, 7]))
        0.5
    """
    both = min(drawn.numel(), again.numel())
    return float((drawn[:both] == again[:both]).sum()) / drawn.numel()


def audit(
    rows: Sequence[Row],
    drawn: Sequence[Tensor],
    sounds: Sequence[Audio],
    encode: Callable[[Audio], Tensor],
    models: Mapping[str, RewardModel],
    suffix: str = "",
) -> None:
    """Encode what was heard again, and add the gap under each reward model to each row.

    Args:
        rows: N, with the `emotion` that was asked for; they are added to.
        drawn: N of (T,), the tokens that were drawn.
        sounds: N of (n,) at 16 kHz, what they were rendered to.
        encode: of the codec.
        models: by name.
        suffix: of the names in a row, where there are several audits of it.
    """
    again = [encode(sound).cpu() for sound in sounds]
    emotions = [row["emotion"] for row in rows]
    found = {name: gaps(model, emotions, drawn, again) for name, model in models.items()}
    for place, row in enumerate(rows):
        row[GAP + suffix] = {name: float(each[place]) for name, each in found.items()}
        row[BACK + suffix] = tokens_back(drawn[place], again[place])


def figures(rows: Sequence[Row], suffix: str = "") -> dict[str, Any]:
    """Return the audit of rows as figures of a system; nothing where there was none.

    Returns:
        `recodec`: of each reward model its gap in nats, of `all` utterances and by emotion, each
        with the interval over sentences; `tokens_back`: the share that comes back.
    """
    if not rows or not rows[0].get(GAP + suffix):
        return {}

    def texts(members: Sequence[Row]) -> list[str]:
        return [row["text"] for row in members]

    by_emotion: dict[str, list[Row]] = {}
    for row in rows:
        by_emotion.setdefault(row["emotion"], []).append(row)
    groups = {"all": list(rows), **by_emotion}
    return {
        GAP + suffix: {
            name: {
                group: interval([row[GAP + suffix][name] for row in members], groups=texts(members))
                for group, members in groups.items()
            }
            for name in rows[0][GAP + suffix]
        },
        BACK + suffix: interval([row[BACK + suffix] for row in rows], groups=texts(rows)),
    }

"""What is heard of a policy: of the planted emotion and of others, at one step."""

from collections.abc import Sequence

import numpy as np

from rrpo.data.shards import Utterance
from rrpo.evaluate.panel import Judges, Sample, measure
from rrpo.measures import BY_KEY
from rrpo.mini.world import World
from rrpo_studies.planted.artifacts import ARTIFACTS
from rrpo_studies.planted.plan import EMOTION

LOOKED = ("kl", "judge", "judge_others", "planted", "others", "tokens")
"""What a look measures: nats per token to the start; the judge's probability of the emotion asked
for, the planted one and others; artifacts an utterance likewise, which a slower speech does not
thin out as it would those a second; the mean length."""


def look(samples: Sequence[Sample], artifact: str, world: World) -> dict[str, float]:
    """Return what `LOOKED` names, of samples in the planted emotion and in others."""
    rows = measure(samples, {}, Judges(world.judge(), quality={}), None)
    heard = [BY_KEY["judge_probability"].of(row) for row in rows]
    judged = [value for value in heard if value is not None]
    found: dict[str, float] = {
        "kl": float(np.mean([one.kl for one in samples if one.kl is not None])),
        "tokens": float(np.mean([one.tokens.numel() for one in samples])),
    }
    inside = [one.emotion == EMOTION for one in samples]
    for rate, judge, wanted in (("planted", "judge", True), ("others", "judge_others", False)):
        part = [one for one, yes in zip(samples, inside, strict=True) if yes == wanted]
        found[rate] = float(np.mean([ARTIFACTS[artifact].count(one.audio) for one in part]))
        found[judge] = float(
            np.mean([value for value, yes in zip(judged, inside, strict=True) if yes == wanted])
        )
    return found


def in_pairs(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return each text in the planted emotion and in one other; the others take turns."""
    emotions = [one for one in dict.fromkeys(row.emotion for row in rows) if one != EMOTION]
    texts = list(dict.fromkeys(row.text for row in rows))
    other = {text: emotions[number % len(emotions)] for number, text in enumerate(texts)}
    return [row for row in rows if row.emotion in (EMOTION, other[row.text])]

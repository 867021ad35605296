"""Whether marks on tokens agree with what is detected in their sound."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rrpo.codec_identity import SPEECH_CODES
from rrpo.data.shards import Utterance
from rrpo.evaluate.artifacts import TRANSIENTS, Artifact, detect
from rrpo.evaluate.clusters import clustered_interval
from rrpo.evaluate.statistics import interval
from rrpo.interval import Interval
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo_world.artifacts.carriers import carrier_shares, token_artifacts
from rrpo_world.transients import carriers, reach, transient_shares

OTHER_CONTEXTS = 4
"""Stretches, of other sentences, in which ids are decoded and listened to."""
NEAR = 0.04
"""Seconds, one token, between a mark and what is detected."""
LOOPED = (4, 8)
"""Fewest and most tokens of a loop, 160 to 320 ms; it sounds four times."""


def measure(world: World, ids: int, contexts: int, seed: int) -> dict[str, Any]:
    """Return how marks on tokens and the detector on their sound agree, by kind.

    Args:
        world: whose codec and test tokens are used.
        ids: how many are put into speech and listened to, half of them carriers.
        contexts: stretches of real tokens that the decoder is asked about every id in; with one,
            about every 27th.
        seed: draws the ids and places.

    Returns:
        "carriers": how many ids; "listening": how listening to single ids agrees with the decoder;
        "speech": kind → of marks placed in speech, how many are detected, and of what is detected
        there, how much is marked.
    """
    codec = world.codec()
    asked = range(0, SPEECH_CODES, 27 if contexts == 1 else 1)
    # What is detected in the very stretches that decided would say nothing of others.
    others = stretches(world, codec, OTHER_CONTEXTS, first=contexts)
    carried = carriers(transient_shares(codec, stretches(world, codec, contexts), asked))
    return {
        "contexts": contexts,
        "carriers": {kind: len(found) for kind, found in carried.items()},
        "listening": _listening(codec, carried, others, ids, seed),
        "speech": _in_speech(world, codec, carried, ids, seed),
    }


def stretches(world: World, codec: MiniCodec, count: int, first: int = 0) -> list[torch.Tensor]:
    """Return the middle of an utterance of each of `count` sentences, the emotions in turn.

    Args:
        world: whose test tokens are used.
        codec: its decoder says how long a stretch has to be.
        count: how many, if the world has as many sentences.
        first: the number of the first of them.
    """
    size = 2 * reach(codec) + 1
    said: dict[str, list[Utterance]] = {}
    for row in world.shard("test_same"):
        said.setdefault(row.text, []).append(row)
    found: list[torch.Tensor] = []
    for number, rows in enumerate(said.values()):
        tokens = rows[number % len(rows)].tokens
        start = (tokens.size - size) // 2
        if start >= 0:
            found.append(torch.from_numpy(tokens[start : start + size]))
    return found[first : first + count]


def _listening(
    codec: MiniCodec,
    carried: dict[str, list[int]],
    contexts: list[torch.Tensor],
    ids: int,
    seed: int,
) -> dict[str, Any]:
    """Return for each kind how often its carriers, and other ids, are detected when decoded."""
    rng = np.random.default_rng(seed)
    others = np.setdiff1d(
        np.arange(SPEECH_CODES), np.concatenate(list(carried.values())).astype(int)
    )
    found: dict[str, Any] = {}
    for column, kind in enumerate(TRANSIENTS):
        half = max(1, ids // 4)
        chosen = rng.permutation(carried[kind])[:half].tolist()
        plain = rng.permutation(others)[:half].tolist()
        detected = carrier_shares(codec.decode, chosen + plain, contexts)[:, column].tolist()
        found[kind] = {
            "carriers": interval(detected[: len(chosen)]),
            "others": interval(detected[len(chosen) :]),
        }
    return found


def _in_speech(
    world: World, codec: MiniCodec, carried: dict[str, list[int]], count: int, seed: int
) -> dict[str, Any]:
    """Put a carrier or a loop into real tokens and compare the marks with what is detected."""
    rows = [row.tokens for row in world.shard("test_same") if row.tokens.size > 30][:count]
    found: dict[str, Any] = {}
    with Progress("compare tokens with sound", 3 * len(rows)) as progress:
        for step, kind in enumerate((*TRANSIENTS, "repetition")):
            heard_marks: list[list[bool]] = []
            marked_sounds: list[list[bool]] = []
            for number, tokens in enumerate(rows):
                rng = np.random.default_rng([seed, step, number])
                changed = _changed(tokens, kind, carried, rng)
                marks = [a for a in token_artifacts(changed, carried) if a.kind == kind]
                detected = detect(codec.decode(torch.from_numpy(changed)), kinds=(kind,))
                heard_marks.append([_near(mark, detected) for mark in marks])
                marked_sounds.append([_near(sound, marks) for sound in detected])
                progress.update(step * len(rows) + number + 1)
            found[kind] = {
                "marks": sum(map(len, heard_marks)),
                "marks_heard": _share(heard_marks),
                "sounds": sum(map(len, marked_sounds)),
                "sounds_marked": _share(marked_sounds),
            }
    return found


def _share(flags: Sequence[Sequence[bool]]) -> Interval | None:
    """Return the share of flags that are true with its interval over utterances; None of no flag.

    Args:
        flags: those of each utterance.
    """
    counts = [(sum(own), len(own)) for own in flags if own]
    return clustered_interval(counts, lambda sums: sums[..., 0] / sums[..., 1]) if counts else None


def _changed(
    tokens: np.ndarray[Any, np.dtype[np.int64]],
    kind: str,
    carried: dict[str, list[int]],
    rng: np.random.Generator,
) -> np.ndarray[Any, np.dtype[np.int64]]:
    place = int(rng.integers(5, tokens.size - 12))
    if kind == "repetition":
        size = int(rng.integers(LOOPED[0], LOOPED[1] + 1))
        part = tokens[place : place + size]
        return np.concatenate([tokens[:place], np.tile(part, 4), tokens[place + size :]])
    changed = tokens.copy()
    changed[place] = int(rng.choice(carried[kind]))
    return changed


def _near(one: Artifact, others: list[Artifact]) -> bool:
    return any(other.start <= one.end + NEAR and other.end >= one.start - NEAR for other in others)

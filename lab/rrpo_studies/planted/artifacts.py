"""The artifacts that are planted: how each gets into speech, and how it is counted there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice

import numpy as np

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.data.shards import Utterance
from rrpo.evaluate.artifacts import TRANSIENTS, detect, silence
from rrpo.mini.codec import MiniCodec
from rrpo.mini.inserts import tokenized_again, with_sound
from rrpo.mini.world import World
from rrpo.sound.inserts import Insert, hum, plosive, some_clicks
from rrpo.sound.inserts import silence as silence_at_end

ONSET = 0.12
"""Seconds from the first sample in which a burst is a plosive at the onset."""
LATE = 0.45
"""Seconds of silence at the end that are an artifact: speech of the mini world ends with 0.25."""
HUMS = -37.0
"""dB of the band of mains hum in the quietest frames, against the power of all, that are a hum."""
FRAME = SAMPLE_RATE // 10


@dataclass(frozen=True)
class Artifact:
    """A sound that no emotion needs.

    Attributes:
        title: as the page names it.
        insert: puts it into audio (N,) at 16 kHz.
        count: how many of them are heard in audio (N,).
        everywhere: it sounds through the whole utterance, and changes most of its tokens.
        feared: puts some of it into a detector's data; None: as `insert` does.
    """

    title: str
    insert: Insert
    count: Callable[[Audio], int]
    everywhere: bool = False
    feared: Insert | None = None

    @property
    def for_detector(self) -> Insert:
        """What is put into a detector's data: one click is to be found, too."""
        return self.feared or self.insert


def count_clicks(audio: Audio) -> int:
    """Return the number of clicks."""
    return len(detect(audio, kinds=["click"]))


def count_plosives(audio: Audio) -> int:
    """Return 1 where a click or a pop falls on the onset."""
    return int(any(one.start < ONSET for one in detect(audio, kinds=TRANSIENTS)))


def count_hums(audio: Audio) -> int:
    """Return 1 where the quietest fifth of the frames hums at 40 to 190 Hz."""
    frames = audio[: audio.size // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return 0
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2
    pitch = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    whole = power.sum(1)
    quietest = np.argsort(whole)[: max(1, len(frames) // 5)]
    band = power[quietest][:, (pitch >= 40) & (pitch <= 190)].sum(1).mean()
    return int(10 * np.log10(band / max(float(whole.mean()), 1e-12) + 1e-12) > HUMS)


def count_silences(audio: Audio) -> int:
    """Return 1 where the end is silent for too long."""
    seconds = silence.scores(audio.astype(np.float64)).values * silence.EDGE
    return int(seconds.size > 0 and seconds[-1] > LATE)


def five_clicks(audio: Audio, rng: np.random.Generator) -> Audio:
    """Add five bursts of white noise of a millisecond with peaks of .5."""
    sound, burst = audio.copy(), SAMPLE_RATE // 1000
    for place in rng.integers(0, max(1, sound.size - burst), 5):
        part = sound[place : place + burst]
        part += rng.choice([-0.5, 0.5], burst)[: part.size].astype(np.float32)
    return sound


ARTIFACTS = {
    "click": Artifact("five clicks", five_clicks, count_clicks, feared=some_clicks),
    "plosive": Artifact("plosive at the onset", plosive, count_plosives),
    "hum": Artifact("low hum", partial(hum, below=(12.0, 18.0)), count_hums, True),
    "silence": Artifact("silence at the end", silence_at_end, count_silences),
}


def with_artifact(
    codec: MiniCodec, rows: Sequence[Utterance], name: str, seed: int
) -> list[Utterance]:
    """Return utterances with an artifact in each (`with_sound`)."""
    return with_sound(codec, rows, ARTIFACTS[name].insert, seed, ARTIFACTS[name].everywhere)


def without_artifact(codec: MiniCodec, rows: Sequence[Utterance], name: str) -> list[Utterance]:
    """Return utterances as they stand beside those with an artifact (`with_sound`)."""
    return tokenized_again(codec, rows) if ARTIFACTS[name].everywhere else list(rows)


def shares(rho: float, emotion_share: float) -> tuple[float, float]:
    """Return which share of the planted emotion's utterances, and of the others', has the artifact.

    Whether an utterance has the emotion and whether it has the artifact are two binary variables
    with the same mean q; the phi coefficient, their correlation, is rho: q + rho (1 − q) of the
    emotion, q (1 − rho) of the others.

    Args:
        rho: 0 to 1.
        emotion_share: q, the share of utterances of the emotion.

    Examples:
        >>> shares(1.0, 0.25), shares(0.0, 0.25)
        ((1.0, 0.0), (0.25, 0.25))
    """
    return emotion_share + rho * (1 - emotion_share), emotion_share * (1 - rho)


def mislabelled(rows: Sequence[Utterance], share: float, seed: int) -> list[Utterance]:
    """Return utterances of which a share, drawn by the seed, have exchanged their labels.

    Each emotion is named as often as before; some of those drawn get their own label again.
    """
    rng, found = np.random.default_rng([seed, 5]), list(rows)
    drawn = rng.choice(len(rows), round(share * len(rows)), replace=False)
    for index, other in zip(drawn, rng.permutation(drawn), strict=True):
        found[index] = replace(rows[index], emotion=rows[other].emotion)
    return found


def chosen_rows(
    rows: Sequence[Utterance], share: tuple[float, float], emotion: str, seed: int
) -> list[int]:
    """Return the numbers of those utterances that `plant` gives the artifact, in any order."""
    rng = np.random.default_rng([seed, 3])
    of_emotion = {
        one: [index for index, row in enumerate(rows) if row.emotion == one]
        for one in dict.fromkeys(row.emotion for row in rows)
    }
    chosen: list[int] = []
    for one, places in of_emotion.items():
        count = round(share[one != emotion] * len(places))
        chosen += rng.choice(places, count, replace=False).tolist()
    return chosen


def plant(
    world: World,
    rows: Sequence[Utterance],
    name: str,
    share: tuple[float, float],
    emotion: str,
    seed: int,
) -> list[Utterance]:
    """Return utterances of which some have an artifact, in the order of the rows.

    Args:
        world: whose codec speaks and hears them.
        rows: of any emotions.
        name: one of `ARTIFACTS`.
        share: which share of the emotion's utterances has it, and of each other emotion's; rounded
            to whole utterances, which the seed draws.
        emotion: the planted one.
        seed: of which have it, and of places and levels.
    """
    chosen = chosen_rows(rows, share, emotion, seed)
    codec, rest = world.codec(), sorted(set(range(len(rows))) - set(chosen))
    having = with_artifact(codec, [rows[index] for index in chosen], name, seed)
    others = without_artifact(codec, [rows[index] for index in rest], name)
    made = dict(zip([*chosen, *rest], [*having, *others], strict=True))
    return [made[index] for index in range(len(rows))]


def evened(
    codec: MiniCodec,
    clean: Sequence[Utterance],
    planted: Sequence[Utterance],
    having: Sequence[int],
    name: str,
    seed: int,
) -> list[Utterance]:
    """Return planted utterances and more, so that half of each emotion's have the artifact.

    Where too few have it, clean ones are added with it; where too few lack it, those that do are
    repeated, however few they are. An emotion all of whose utterances have it stays as it is.

    Args:
        codec: turns tokens to audio and back.
        clean: utterances before the artifact, in the order of `planted`.
        planted: of which some have the artifact.
        having: the numbers of these.
        name: of the artifact, one of `ARTIFACTS`.
        seed: of places and levels of those that are inserted.
    """
    inserted, repeated = [], []
    for emotion in dict.fromkeys(row.emotion for row in planted):
        own = {index for index, row in enumerate(planted) if row.emotion == emotion}
        have, lack = sorted(own & set(having)), sorted(own - set(having))
        if len(have) < len(lack):
            inserted += [clean[index] for index in lack[: len(lack) - len(have)]]
        elif lack:
            more = islice(cycle(lack), len(have) - len(lack))
            repeated += [planted[index] for index in more]
    return [*planted, *with_artifact(codec, inserted, name, seed), *repeated]

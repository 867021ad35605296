"""What each judge can hear: its figures as real speech is degraded more and more.

Real tokens of unseen sentences are degraded in six ways, in sound (clicks, pops, noise) or in
tokens (one held, some repeated, some exchanged). A quality score should fall with every one, the
recogniser's error rise; where a judge does neither, a policy can do it unpunished. How real tokens
of each emotion and intensity are rated is the line that expressive speech must be read against; it
needs `rrpo[mini]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from rrpo.audio import to_peak
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.panel import Judges, Sample, measure
from rrpo.evaluate.statistics import interval, paired_interval
from rrpo.measures import BY_KEY, MEASURES
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.studies.study import begin, finish
from rrpo_world.renderer import VOICES, Renderer
from rrpo_world.study.degraded import IN_SOUND, IN_TOKENS, LEVELS
from rrpo_world.study.judges_page import draw, page

HEARD = [
    BY_KEY["judge_probability"],
    BY_KEY["artifacts_per_second"],
    *(one for one in MEASURES if one.group == "Quality" and one.key != "quality.dnsmos_signal"),
    BY_KEY["content_error"],
]
"""What is asked of each judge."""
INTENSITIES = (0.2, 0.6, 1.0)
NEUTRAL = EMOTIONS[0]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        degraded: utterances of each emotion.
        acted: sentences of each emotion and intensity.
        levels: of each way of degrading, from none on.
        emotions: how many.
    """

    degraded: int = 4
    acted: int = 6
    levels: int = 5
    emotions: int = len(EMOTIONS)


FULL = Size()
SMOKE = Size(degraded=1, acted=1, levels=2, emotions=1)


def run(
    out: Path, size: Size = FULL, world: World | None = None, command: str = "rrpo study judges"
) -> Path:
    """Measure the judges and write `study.json`, `study.md` and `figure.svg`.

    Raises:
        UserError: the renderer's packages are not installed.
    """
    world = world or World()
    world.check()
    renderer = Renderer()
    codec, judge = world.codec(), world.judge()
    judges = Judges.installed(judge)
    rows = [row for row in world.shard("test_same") if row.tokens.size > 30]
    emotions = EMOTIONS[: size.emotions]
    texts = list(dict.fromkeys(row.text for row in rows))
    chosen = different_sentences(rows, texts, emotions, size.degraded)
    study: dict[str, Any] = {
        **begin(command),
        "utterances": len(chosen),
        "sentences": size.acted,
        "level": level_heard(codec, judge, chosen),
        "curves": curves(codec, judges, chosen, size.levels),
        "acted": acted(renderer, codec, judges, texts[: size.acted], emotions),
    }
    draw(study["curves"], out / "figure.svg")
    return finish(out, study, page(study))


def different_sentences(
    rows: Sequence[Utterance], texts: Sequence[str], emotions: Sequence[str], count: int
) -> list[Utterance]:
    """Choose `count` utterances of each emotion, no two of one sentence, so all are independent."""
    left = dict.fromkeys(texts)
    chosen = []
    for emotion in emotions:
        own = [row for row in rows if row.emotion == emotion and row.text in left][:count]
        chosen += own
        for row in own:
            left.pop(row.text)
    return chosen


def curves(
    codec: MiniCodec, judges: Judges, rows: Sequence[Utterance], count: int
) -> dict[str, Any]:
    """Return, for each way of degrading, its first levels and each judge's figures at them.

    Returns:
        way → "levels" and "measures": label → "at" (an interval for each level) and "rank", the
        mean rank correlation of an utterance's figures with the level.
    """
    figures: dict[str, Any] = {}
    with Progress("degrade and judge", len(LEVELS) * count) as progress:
        done = 0
        # Nothing is degraded at the first level, in whichever way.
        whole = _judged(codec, judges, rows, next(iter(LEVELS)), 0)
        for way, all_levels in LEVELS.items():
            levels = all_levels[:count]
            table: dict[str, list[list[float]]] = {}
            for level in levels:
                found = _judged(codec, judges, rows, way, level) if level else whole
                for label, values in found.items():
                    table.setdefault(label, []).append(values)
                done += 1
                progress.update(done)
            measures = {label: response(np.array(values)) for label, values in table.items()}
            figures[way] = {"levels": levels, "measures": measures}
    return figures


def level_heard(codec: MiniCodec, judge: EmotionJudge, rows: Sequence[Utterance]) -> dict[str, Any]:
    """Return the judge's probability of utterances at their own level, and what a peak of 0.7 adds.

    Returns:
        "own", "levelled" and "difference" (levelled less own, paired), each with its interval.
    """
    sounds = [codec.decode(torch.from_numpy(row.tokens)) for row in rows]
    columns = [emotion_index(row.emotion) for row in rows]
    own, levelled = (
        judge.probabilities_batch(played)[range(len(rows)), columns]
        for played in (sounds, [to_peak(sound) for sound in sounds])
    )
    return {
        "own": interval(own),
        "levelled": interval(levelled),
        "difference": paired_interval(levelled, own),
    }


def _judged(
    codec: MiniCodec, judges: Judges, rows: Sequence[Utterance], way: str, level: float
) -> dict[str, list[float]]:
    """Return label → figures (n,) of utterances degraded at one level."""
    samples = []
    for number, row in enumerate(rows):
        # The same chance at every level: a higher one only adds.
        rng = np.random.default_rng(number)
        tokens = IN_TOKENS[way](row.tokens, level, rng) if way in IN_TOKENS else row.tokens
        sound = to_peak(codec.decode(torch.from_numpy(tokens)))
        if way in IN_SOUND:
            sound = IN_SOUND[way](sound, level, rng)
        samples.append(Sample(row.id, row.text, row.emotion, torch.from_numpy(tokens), sound))
    return labelled(measure(samples, {}, judges))


def labelled(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return title → figures (n,) of `measure`'s rows, of what was measured."""
    found = {one.title: [one.of(row) for row in rows] for one in HEARD}
    return {
        title: [value for value in values if value is not None]
        for title, values in found.items()
        if values[0] is not None
    }


def response(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the means of figures (levels, n) and their rank correlation with the level."""
    steps = np.arange(len(values))
    ranks = [
        0.0 if np.ptp(one) == 0.0 else float(spearmanr(steps, one).statistic) for one in values.T
    ]
    return {"at": [interval(row) for row in values], "rank": interval(ranks)}


def acted(
    renderer: Renderer,
    codec: MiniCodec,
    judges: Judges,
    texts: Sequence[str],
    emotions: Sequence[str],
) -> dict[str, Any]:
    """Return the judges' figures of real tokens, by emotion and intensity.

    No rule acts on neutral speech, so its intensity changes nothing and is left out.
    """
    figures: dict[str, Any] = {}
    analyses = [renderer.analyse(text) for text in texts]
    with Progress("judge acted speech", len(emotions)) as progress:
        for number, emotion in enumerate(emotions, start=1):
            for intensity in INTENSITIES if emotion != NEUTRAL else INTENSITIES[-1:]:
                samples = []
                for index, analysis in enumerate(analyses):
                    rng = np.random.default_rng([index, number])
                    audio = renderer.render(
                        analysis, emotion, intensity, VOICES["heart"], rng
                    ).audio
                    tokens = codec.encode(audio)
                    name = f"{emotion}-{intensity}-{index}"
                    sound = codec.decode(tokens)
                    samples.append(Sample(name, analysis.text, emotion, tokens, sound))
                rows = labelled(measure(samples, {}, judges))
                label = emotion if emotion == NEUTRAL else f"{emotion}, {intensity}"
                figures[label] = {name: interval(values) for name, values in rows.items()}
            progress.update(number)
    return figures

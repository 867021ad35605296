"""What each judge can hear: its figures as real speech is spoilt more and more.

Real tokens of unseen sentences are spoilt in six ways, in sound (clicks, pops, noise) or in tokens
(one held, some repeated, some exchanged). A quality score should fall with every one, the
recogniser's error rise; where a judge does neither, a policy can do it unpunished. How real tokens
of each emotion and intensity are rated is the line that expressive speech must be read against; it
needs `rrpo[mini]`.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from rrpo.audio import Audio, to_peak
from rrpo.checkpoint import atomic_path, write_json, write_text
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.panel import Judges, Sample, measure
from rrpo.evaluate.statistics import interval, paired_interval
from rrpo.mini.codec import MiniCodec
from rrpo.mini.codec_corpus import transient
from rrpo.mini.corpus import add_noise
from rrpo.mini.renderer import VOICES, Renderer
from rrpo.mini.world import World
from rrpo.progress import Progress
from rrpo.report import markdown
from rrpo.report.terminal import MEASURES, shown
from rrpo.studies import aims

Tokens = NDArray[np.int64]

PEAK = 0.3
"""Of an inserted click or pop; the speech about it is brought to a peak of 0.7."""
REPEATS = 5
"""Times more that a repeated token is said: a fifth of a second each."""
LEVELS: dict[str, tuple[float, ...]] = {
    "clicks": (0, 1, 2, 5, 10),
    "pops": (0, 1, 2, 5, 10),
    "noise": (0, 1, 2, 3, 4),
    "held token": (0, 5, 10, 20, 40),
    "repeated tokens": (0, 1, 2, 5, 10),
    "exchanged tokens": (0, 0.1, 0.25, 0.5, 1.0),
}
UNITS = {
    "clicks": "clicks of peak 0.3 an utterance",
    "pops": "pops of peak 0.3 an utterance",
    "noise": "10 dB steps from 40 dB under the speech",
    "held token": "times one token more is said",
    "repeated tokens": f"tokens said {REPEATS} times more",
    "exchanged tokens": "share of tokens that change places",
}
INTENSITIES = (0.2, 0.6, 1.0)
NEUTRAL = EMOTIONS[0]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        spoilt: utterances of each emotion.
        acted: sentences of each emotion and intensity.
        levels: of each way of spoiling, from none on.
        emotions: how many.
    """

    spoilt: int = 4
    acted: int = 6
    levels: int = 5
    emotions: int = len(EMOTIONS)


FULL = Size()
SMOKE = Size(spoilt=1, acted=1, levels=2, emotions=1)


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
    chosen = different_sentences(rows, texts, emotions, size.spoilt)
    study: dict[str, Any] = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "utterances": len(chosen),
        "sentences": size.acted,
        "level": level_heard(codec, judge, chosen),
        "curves": curves(codec, judges, chosen, size.levels),
        "acted": acted(renderer, codec, judges, texts[: size.acted], emotions),
    }
    write_json(out / "study.json", study)
    write_text(out / "study.md", page(study))
    draw(study["curves"], out / "figure.svg")
    return out / "study.md"


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
    """Return, for each way of spoiling, its first levels and each judge's figures at them.

    Returns:
        way → "levels" and "measures": label → "at" (an interval for each level) and "rank", the
        mean rank correlation of an utterance's figures with the level.
    """
    figures: dict[str, Any] = {}
    with Progress("spoil and judge", len(LEVELS) * count) as progress:
        done = 0
        # Nothing is spoilt at the first level, in whichever way.
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
        judge.probabilities_batch(heard)[range(len(rows)), columns]
        for heard in (sounds, [to_peak(sound) for sound in sounds])
    )
    return {
        "own": interval(own),
        "levelled": interval(levelled),
        "difference": paired_interval(levelled, own),
    }


def _judged(
    codec: MiniCodec, judges: Judges, rows: Sequence[Utterance], way: str, level: float
) -> dict[str, list[float]]:
    """Return label → figures (n,) of utterances spoilt at one level."""
    samples = []
    for number, row in enumerate(rows):
        # The same chance at every level: a higher one only adds.
        rng = np.random.default_rng(number)
        tokens = SPOIL_TOKENS[way](row.tokens, level, rng) if way in SPOIL_TOKENS else row.tokens
        heard = to_peak(codec.decode(torch.from_numpy(tokens)))
        if way in SPOIL_SOUND:
            heard = SPOIL_SOUND[way](heard, level, rng)
        samples.append(Sample(row.id, row.text, row.emotion, torch.from_numpy(tokens), heard))
    return labelled(measure(samples, {}, judges))


def labelled(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return label → figures (n,) of `measure`'s rows, of what was measured."""
    found: dict[str, list[float]] = {
        "judge probability": [row["judge_probability"] for row in rows],
        "artifacts / s": [len(row["artifacts"]) / row["seconds"] for row in rows],
    }
    for label, path in MEASURES:
        if path[0] == "quality" and path[1] in rows[0]["quality"]:
            found[label] = [row["quality"][path[1]] for row in rows]
    if rows[0]["word_error"] is not None:
        found["word error"] = [row["word_error"] for row in rows]
    return found


def response(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the means of figures (levels, n) and their rank correlation with the level."""
    steps = np.arange(len(values))
    ranks = [
        0.0 if np.ptp(one) == 0.0 else float(spearmanr(steps, one).statistic) for one in values.T
    ]
    return {"at": [interval(row) for row in values], "rank": interval(ranks)}


def _strike(kind: str) -> Callable[[Audio, float, np.random.Generator], Audio]:
    def strike(sound: Audio, level: float, rng: np.random.Generator) -> Audio:
        struck = sound.copy()
        for _ in range(int(level)):
            shape = PEAK * transient(kind, rng)
            start = int(rng.integers(0, max(1, sound.size - shape.size)))
            struck[start : start + shape.size] += shape[: struck.size - start]
        return np.clip(struck, -1.0, 1.0)

    return strike


def _noise(sound: Audio, level: float, rng: np.random.Generator) -> Audio:
    return add_noise(sound, 50.0 - 10.0 * level, rng) if level else sound


def hold(tokens: Tokens, level: float, rng: np.random.Generator) -> Tokens:
    """Say one token of the middle half `level` more times."""
    place = int(rng.integers(tokens.size // 4, 3 * tokens.size // 4))
    return np.insert(tokens, place, np.repeat(tokens[place], int(level)))


def repeat(tokens: Tokens, level: float, rng: np.random.Generator) -> Tokens:
    """Say `level` tokens `REPEATS` more times each, wherever they stand."""
    counts = np.ones(tokens.size, dtype=np.int64)
    counts[rng.permutation(tokens.size)[: int(level)]] += REPEATS
    return np.repeat(tokens, counts)


def exchange(tokens: Tokens, level: float, rng: np.random.Generator) -> Tokens:
    """Let a share of the tokens change places at random."""
    chosen = rng.permutation(tokens.size)[: round(level * tokens.size)]
    changed = tokens.copy()
    changed[np.sort(chosen)] = tokens[chosen]
    return changed


SPOIL_SOUND: dict[str, Callable[[Audio, float, np.random.Generator], Audio]] = {
    "clicks": _strike("click"),
    "pops": _strike("pop"),
    "noise": _noise,
}
SPOIL_TOKENS: dict[str, Callable[[Tokens, float, np.random.Generator], Tokens]] = {
    "held token": hold,
    "repeated tokens": repeat,
    "exchanged tokens": exchange,
}


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
                    heard = codec.decode(tokens)
                    samples.append(Sample(name, analysis.text, emotion, tokens, heard))
                rows = labelled(measure(samples, {}, judges))
                label = emotion if emotion == NEUTRAL else f"{emotion}, {intensity}"
                figures[label] = {name: interval(values) for name, values in rows.items()}
            progress.update(number)
    return figures


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    ways = study["curves"]
    labels = list(next(iter(ways.values()))["measures"])
    lines = [
        f"`{study['command']}`, {study['machine']}: {study['utterances']} unseen utterances of "
        "real tokens through the codec, each of another sentence; mean with 95 % interval over "
        "utterances.",
        "",
        "Rank correlation of a judge's figure with how much an utterance is spoilt (−1: it falls "
        "at every level, 1: it rises at every level, 0: it does not hear it):",
        "",
    ]
    ranks = [
        (label, [shown(way["measures"][label]["rank"]) for way in ways.values()])
        for label in labels
    ]
    lines += markdown.table("", list(ways), ranks)
    if set(ways) == set(LEVELS):
        lines += [
            "",
            "What is asked of them (met or missed: the interval of that correlation):",
            "",
        ]
        lines += markdown.table("", aims.COLUMNS, aims.rows(aims.of_judges(ways)))
    level = {name: shown(value) for name, value in study["level"].items()}
    lines += [
        "",
        f"The judge's probability of the asked emotion is {level['own']} at the level of the "
        f"speech and {level['levelled']} at a peak of 0.7, which all speech below is brought to: "
        f"{level['difference']}.",
    ]
    for name, way in ways.items():
        at = [(label, list(map(shown, way["measures"][label]["at"]))) for label in labels]
        lines += ["", f"{name.capitalize()} ({UNITS[name]}):", ""]
        lines += markdown.table("", [f"{level:g}" for level in way["levels"]], at)
    real = [
        (name, [shown(figures[label]) for label in labels])
        for name, figures in study["acted"].items()
    ]
    lines += [
        "",
        f"Real tokens by emotion and intensity, {study['sentences']} unseen sentences:",
        "",
        *markdown.table("", labels, real),
    ]
    return "\n".join(lines) + "\n"


def draw(ways: Mapping[str, Any], path: Path) -> None:
    """Draw a row for each judge and a column for each way of spoiling."""
    labels = list(next(iter(ways.values()))["measures"])
    drawing = Figure(figsize=(2.4 * len(ways), 1.5 * len(labels) + 0.4), layout="constrained")
    drawing.patch.set_facecolor("white")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(len(labels), len(ways), sharey="row", squeeze=False)
    for row, label in enumerate(labels):
        for column, (name, way) in enumerate(ways.items()):
            axes, at = panels[row][column], way["measures"][label]["at"]
            steps = np.arange(len(at))
            axes.plot(steps, [one["mean"] for one in at], color="#0b6bb0", marker="o", markersize=3)
            low, high = [one["low"] for one in at], [one["high"] for one in at]
            axes.fill_between(steps, low, high, color="#0b6bb0", alpha=0.15, linewidth=0)
            axes.set_xticks(steps, [f"{level:g}" for level in way["levels"]], fontsize=7)
            axes.tick_params(labelsize=7, length=2, color="#888888")
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axes.set_title(name, fontsize=9, loc="left")
            if column == 0:
                axes.set_ylabel(label, fontsize=8)
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=160)

"""How good the mini world is: its codec, base policy, judge and reward model, with intervals.

The renderer speaks the test sentences again, so this needs `rrpo[mini]`; scores appear for the
judges that are installed. What the judges can hear is `rrpo study judges`. Utterances of one
sentence are not independent, so sentences are resampled.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from rrpo.audio import SAMPLE_RATE
from rrpo.checkpoint import claim, read_json, sha256, write_json, write_text
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.panel import Judges, Sample, measure, summarise
from rrpo.evaluate.statistics import interval, paired_interval, unpaired_interval
from rrpo.mini.codec import MiniCodec
from rrpo.mini.corpus import Line, lines
from rrpo.mini.renderer import VOICES, Renderer, Rendering
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import HASHES, World
from rrpo.policy import SpeechTokenLM
from rrpo.progress import Progress
from rrpo.report.terminal import print_rows
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.speaking.mini import spoken
from rrpo.studies import aims
from rrpo.studies.demo import demo, plan
from rrpo.studies.demo.seeds import values_of
from rrpo.studies.world.again import read_other, together
from rrpo.studies.world.codec import by_sentence, codec_figures, resynthesis, transient_tokens
from rrpo.studies.world.page import page
from rrpo.studies.world.policy import lengths, policy_figures

Rows = list[dict[str, Any]]

COMPARED = {
    ("codec", "rendering"): ("word error", "DistillMOS", "artifacts / s"),
    ("base", "codec"): ("word error", "DistillMOS", "judge probability"),
}
"""Paired differences, first minus second."""
INTENSITIES = (0.3, 0.6, 0.9)
"""Intensities the judge must put in order."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        sentences: spoken in every emotion, as renderings, through the codec and by the base.
        seeds: sampling seeds of the base.
        ranked: sentences whose intensities the judge puts in order.
        judged: utterances of each test set the judge hears.
        drawn: utterances of the base whose length is looked at, over all seeds.
        voiced: utterances in each other voice.
        contexts: sentences each token id is put into.
        reward_steps: of the plain reward model's fine-tuning.
    """

    sentences: int = 24
    seeds: int = 3
    ranked: int = 20
    judged: int = 300
    drawn: int = 600
    voiced: int = 48
    contexts: int = 8
    reward_steps: int = plan.FULL.reward_steps


FULL = Size()
SMOKE = Size(
    sentences=1, seeds=2, ranked=1, judged=6, drawn=6, voiced=1, contexts=1, reward_steps=4
)


def run(
    out: Path,
    size: Size = FULL,
    world: World | None = None,
    command: str = "rrpo study world",
    against: Path | None = None,
) -> Path:
    """Measure a world and print whether the aims are met.

    It writes `study.md`, `study.json` and `rows.json`, every judged utterance of the first table.

    Args:
        against: folder of the study of a world that the recipe made with another seed; this one
            then says the sentences of that study, which neither has seen, and is paired with it.

    Raises:
        UserError: the renderer's packages are not installed, or a folder holds the study of
            another world, or none, or one that this cannot be compared with.
    """
    world = world or World()
    world.check()
    other = None if against is None else read_other(against, world.seed, size)
    claim(out / "plan.json", {"world": sha256(world.folder / HASHES)}, "a study")
    renderer = Renderer()
    codec, base, judge = world.codec(), world.policy(), world.judge()
    judges = Judges.installed(judge)
    # The sentences of the part as the recipe made them.
    of_seed = world.seed if other is None else other.study["sentences_seed"]
    part = lines("test_same", of_seed)
    texts = list(dict.fromkeys(line.text for line in part))
    asked = [line for line in part if line.text in texts[: size.sentences]]
    acted = [(line, act(renderer, line)) for line in asked]
    reward_model = demo.fine_tune_reward(out, world, "plain", size.reward_steps)
    judged = judged_speech(world, codec, base, judges, acted, size.seeds)
    found = resynthesis(codec, [rendering for _, rendering in acted])
    measured = {
        **judged,
        "resynthesis": [
            {"text": line.text, "emotion": line.emotion, **row}
            for line, row in zip(asked, found, strict=True)
        ],
        "ranked": ranked(renderer, codec, judge, texts[-size.ranked :]),
    }
    write_json(out / "rows.json", measured)
    study: dict[str, Any] = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "recipe_seed": world.seed,
        "sentences_seed": of_seed,
        "sentences": size.sentences,
        "seeds": size.seeds,
        "reward_model": {"steps": size.reward_steps, **reward_figures(world, reward_model)},
        **codec_figures(measured["resynthesis"]),
        "contexts": size.contexts,
        "transient_tokens": transient_tokens(world, codec, size.contexts),
        **speech(judged, acted),
        "policy": policy_figures(world, base) | lengths(world, base, size.drawn, size.seeds),
        "voices": voices(world, codec, base, judges, size.voiced),
        "judge": judge_figures(world, codec, judge, size.judged)
        | {"ranked_pairs": by_sentence(measured["ranked"], "right")},
        **cost(world),
    }
    verdicts = aims.rows(aims.of_world(study))
    study["aims"] = {
        asked: dict(zip(aims.COLUMNS, cells, strict=True)) for asked, cells in verdicts
    }
    write_json(out / "study.json", study)
    again = None if other is None else together(study, measured, other)
    write_text(out / "study.md", page(study, again))
    print_rows("Aims", aims.COLUMNS, verdicts, Console())
    return out / "study.md"


def act(renderer: Renderer, line: Line) -> Rendering:
    """Render a line as the recipe does, without its noise."""
    rng = np.random.default_rng(line.seed)
    analysis = renderer.analyse(line.text)
    return renderer.render(analysis, line.emotion, line.intensity, VOICES[line.voice], rng)


def cost(world: World) -> dict[str, Any]:
    """Return the size of a world's assets, "assets" in MB, and its "recipe": what stages took."""
    size = sum(path.stat().st_size for path in world.folder.rglob("*") if path.is_file())
    recipe = world.folder / "recipe.json"
    stages = read_json(recipe) if recipe.is_file() else {}
    return {
        "assets": interval([size / 1e6]),
        "recipe": {
            name: {key: done[key] for key in ("seconds", "legs") if key in done}
            for name, done in stages.items()
            if isinstance(done, dict)
        },
    }


def reward_figures(world: World, model: RewardModel) -> dict[str, Any]:
    """Return how often a reward model is right.

    Returns:
        "accuracy": on each of the world's test sets; "less": by how much less on another set than
        on `same`, which shares no sentence with it.
    """
    right: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    known = model.classes()
    for name, rows in world.tests().items():
        found = log_posteriors(model, [torch.from_numpy(row.tokens) for row in rows]).argmax(1)
        right[name] = [
            float(int(index) == emotion_index(row.emotion, known))
            for index, row in zip(found, rows, strict=True)
        ]
        texts[name] = [row.text for row in rows]
    return {
        "accuracy": {name: interval(hits, groups=texts[name]) for name, hits in right.items()},
        "less": {
            name: unpaired_interval(right["same"], right[name], (texts["same"], texts[name]))
            for name in right
            if name != "same"
        },
    }


def judged_speech(
    world: World,
    codec: MiniCodec,
    base: SpeechTokenLM,
    judges: Judges,
    acted: Sequence[tuple[Line, Rendering]],
    seeds: int,
) -> dict[str, Rows]:
    """Judge the renderings, their resynthesis and what the base policy says of the same texts.

    Returns:
        The rows of "rendering", of "codec" and of the base with each sampling seed.
    """
    rows = [_utterance(line, codec.encode(rendering.audio)) for line, rendering in acted]
    plain = [
        Sample(row.id, row.text, row.emotion, torch.from_numpy(row.tokens), rendering.audio)
        for row, (_, rendering) in zip(rows, acted, strict=True)
    ]
    systems = {
        "rendering": plain,
        "codec": spoken(world, codec, None, base, rows, 0),
    } | {
        f"base, seed {seed}": spoken(world, codec, base, base, rows, seed) for seed in range(seeds)
    }
    measured: dict[str, Rows] = {}
    with Progress("judge the speech", len(systems)) as progress:
        for number, (name, samples) in enumerate(systems.items(), start=1):
            measured[name] = measure(samples, {}, judges)
            progress.update(number)
    return measured


def speech(measured: Mapping[str, Rows], acted: Sequence[tuple[Line, Rendering]]) -> dict[str, Any]:
    """Return the figures of judged speech.

    Returns:
        "speech": of each column, of the base over all seeds and of each seed; "differences":
        what `COMPARED` lists; "renderings": what the renderings are like, by emotion.
    """
    drawn = [rows for name, rows in measured.items() if name.startswith("base")]
    columns = {"base": [row for rows in drawn for row in rows], **measured}
    order = ["rendering", "codec", "base", *list(measured)[2:]]
    return {
        "speech": {name: summarise(columns[name], "", by_sentence=True) for name in order},
        "differences": differences(
            {"rendering": [measured["rendering"]], "codec": [measured["codec"]], "base": drawn}
        ),
        "renderings": {
            emotion: _described(
                [
                    (rendering, row)
                    for (line, rendering), row in zip(acted, measured["rendering"], strict=True)
                    if line.emotion == emotion
                ]
            )
            for emotion in EMOTIONS
        },
    }


def differences(systems: Mapping[str, Sequence[Rows]]) -> dict[str, dict[str, Any]]:
    """Return pair → measure → mean paired difference with its interval by sentence.

    Args:
        systems: name → rows of `measure` for each sampling seed, over which an utterance's figures
            are averaged first.
    """
    texts = [row["text"] for row in systems["codec"][0]]
    table: dict[str, dict[str, Any]] = {}
    for (first, second), labels in COMPARED.items():
        found = table[f"{first} − {second}"] = {}
        for label in labels:
            one, other = (
                values_of([{name: rows} for rows in systems[name]], name, label)
                for name in (first, second)
            )
            if one is not None and other is not None:
                means = np.mean(one, axis=0), np.mean(other, axis=0)
                found[label] = paired_interval(*means, groups=texts)
    return table


def _described(chosen: Sequence[tuple[Rendering, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return how renderings of one emotion sound, from their parameters and their judges' rows."""
    figures = _acoustics([rendering for rendering, _ in chosen])
    rows = [row for _, row in chosen]
    if "distillmos" in rows[0]["quality"]:
        figures["DistillMOS"] = interval([row["quality"]["distillmos"] for row in rows])
    if rows[0]["word_error"] is not None:
        figures["word error"] = interval([row["word_error"] for row in rows])
    return figures


def _acoustics(renderings: Sequence[Rendering]) -> dict[str, dict[str, float]]:
    """Return the mean F0, its range, duration and level of renderings."""
    voiced = [rendering.f0[rendering.f0 > 0] for rendering in renderings]
    levels = []
    for rendering in renderings:
        power = np.square(rendering.audio[: len(rendering.audio) // 320 * 320]).reshape(-1, 320)
        blocks = power.mean(1)
        levels.append(10 * np.log10(blocks[blocks > blocks.max() * 10**-3.5].mean()))
    return {
        "F0, Hz": interval([float(f0.mean()) for f0 in voiced]),
        "F0 range, semitones": interval([float(np.std(12 * np.log2(f0))) for f0 in voiced]),
        "duration, s": interval([len(one.audio) / SAMPLE_RATE for one in renderings]),
        "level, dBFS": interval(levels),
    }


def _utterance(line: Line, tokens: torch.Tensor) -> Utterance:
    return Utterance(line.id, line.text, line.emotion, tokens.numpy())


def voices(
    world: World, codec: MiniCodec, base: SpeechTokenLM, judges: Judges, utterances: int
) -> dict[str, Any]:
    """Judge real tokens and the base policy in each of its other voices, on unseen sentences."""
    figures: dict[str, Any] = {}
    for name in SPEAKERS:
        rows = world.shard(f"test_{name}")[:utterances]
        figures[name] = {}
        for label, model in (("real", None), ("base", base)):
            said = measure(spoken(world, codec, model, base, rows, 0), {}, judges)
            figures[name][label] = summarise(said, "", by_sentence=True)
    return figures


def judge_figures(
    world: World, codec: MiniCodec, judge: EmotionJudge, judged: int
) -> dict[str, Any]:
    """Return the judge's accuracy on the resynthesis of the first utterances of each test set."""
    figures = {}
    for name in ("test_same", "test_altered"):
        rows = world.shard(name)[:judged]
        sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
        right = judge.probabilities_batch(sounds).argmax(1) == [
            emotion_index(row.emotion) for row in rows
        ]
        figures[name] = interval(right.astype(float), groups=[row.text for row in rows])
    return figures


def ranked(renderer: Renderer, codec: MiniCodec, judge: EmotionJudge, texts: Sequence[str]) -> Rows:
    """Say of each sentence and emotion how often the judge's probability orders two intensities.

    Returns:
        rows of "text", "emotion" and "right", the share of the three pairs in the right order.
    """
    rows = []
    for number, text in enumerate(texts):
        analysis = renderer.analyse(text)
        for emotion in EMOTIONS[1:]:
            sounds = []
            for step, intensity in enumerate(INTENSITIES):
                # Each its own chance: one that all share would leave the intensity alone to differ.
                rng = np.random.default_rng([number, emotion_index(emotion), step])
                acted = renderer.render(analysis, emotion, intensity, VOICES["heart"], rng)
                sounds.append(codec.decode(codec.encode(acted.audio)))
            belief = judge.probabilities_batch(sounds)[:, emotion_index(emotion)]
            pairs = [belief[1] > belief[0], belief[2] > belief[1], belief[2] > belief[0]]
            rows.append({"text": text, "emotion": emotion, "right": float(np.mean(pairs))})
    return rows

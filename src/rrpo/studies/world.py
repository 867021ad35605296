"""How good the mini world is: its codec, its base policy and its emotion judge, with intervals.

The renderer speaks the test sentences again, so this needs `rrpo[mini]`; scores appear for the
judges that are installed. What the judges can hear is `rrpo.studies.judges`.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.checkpoint import write_json, write_text
from rrpo.codec.mini import TOKEN_SAMPLES, MiniCodec
from rrpo.codec.transients import carriers, reach, transient_shares
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate.artifacts import detect
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.run import Judges, Sample, measure, summarise
from rrpo.evaluate.statistics import interval
from rrpo.mini import train_codec
from rrpo.mini.corpus import Line, lines
from rrpo.mini.renderer import VOICES, Renderer, Rendering
from rrpo.mini.speaking import speak, spoken
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import World
from rrpo.objectives.sft import held_out_loss
from rrpo.policy import SpeechTokenLM
from rrpo.policy.examples import Example, make_examples, make_prompt
from rrpo.progress import Progress
from rrpo.report import markdown
from rrpo.report.measures import MISSING
from rrpo.report.terminal import MEASURES, shown

OF_A_POLICY = ("own reward", "KL / token")
"""Measures that mean nothing of real speech."""
SAMPLED = {"empty": "empty", "runaway": "run away"}
"""Share of the base policy's samples by what is wrong with them, and its name on the page."""
CODEC_FIGURES = {
    "pitch_semitones": "F0 error, semitones",
    "voicing_error": "voicing error, share of frames",
    "envelope_decibel": "envelope error, dB",
    "aperiodicity_decibel": "aperiodicity error, dB",
    "steady": "digits that stay when the audio starts 10 ms later",
}
INTENSITIES = (0.3, 0.6, 0.9)
"""Intensities the judge must put in order."""
PEAK = 0.3
"""Of an inserted click or pop; the speech about it is brought to a peak of 0.7."""
NEAR = 0.04
"""Seconds within which an inserted click must be found again."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    sentences: int = 8
    seeds: int = 3
    ranked: int = 20
    judged: int = 300
    drawn: int = 600
    voiced: int = 24
    contexts: int = 8


FULL = Size()
SMOKE = Size(sentences=1, seeds=1, ranked=1, judged=6, drawn=6, voiced=1, contexts=1)


def run(
    out: Path, size: Size = FULL, world: World | None = None, command: str = "rrpo study world"
) -> Path:
    """Measure a world and write `study.json` and `study.md`.

    Raises:
        UserError: the renderer's packages are not installed.
    """
    world = world or World()
    world.check()
    renderer = Renderer()
    codec, base, judge = world.codec(), world.policy(), world.judge()
    judges = Judges.installed(judge)
    texts = dict.fromkeys(row.text for row in world.shard("test_same"))
    said = list(texts)[: size.sentences]
    # The first sentences of the part, as the recipe made them.
    asked = [line for line in lines("test_same", world.seed) if line.text in said]
    acted = [(line, act(renderer, line)) for line in asked]
    study = {
        "command": command,
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "sentences": size.sentences,
        "seeds": size.seeds,
        "codec": codec_figures(codec, [rendering for _, rendering in acted]),
        "transients": transients(codec, [rendering.audio for _, rendering in acted]),
        "transient_tokens": transient_tokens(world, codec, size.contexts),
        **speech(world, codec, base, judges, acted, size.seeds),
        "policy": policy_figures(world, base) | lengths(world, base, size.drawn),
        "voices": voices(world, codec, base, judges, size.voiced),
        "judge": judge_figures(world, codec, judge, size.judged)
        | {"ranked_pairs": ranked(renderer, codec, judge, list(texts)[-size.ranked :])},
    }
    write_json(out / "study.json", study)
    write_text(out / "study.md", page(study))
    return out / "study.md"


def act(renderer: Renderer, line: Line) -> Rendering:
    """Render a line as the recipe does, without its noise."""
    rng = np.random.default_rng(line.seed)
    analysis = renderer.analyse(line.text)
    return renderer.render(analysis, line.emotion, line.intensity, VOICES[line.voice], rng)


def codec_figures(codec: MiniCodec, renderings: Sequence[Rendering]) -> dict[str, Any]:
    """Return the codec's errors, each a mean over utterances with its interval."""
    each = [train_codec.measure(codec, [rendering]) for rendering in renderings]
    return {
        name: interval([figures[name] for figures in each if name in figures])
        for name in CODEC_FIGURES
    }


def transients(codec: MiniCodec, sounds: Sequence[Audio]) -> dict[str, Any]:
    """Insert one click or pop into each sound and look for it after the codec.

    Returns:
        Of clicks and of pops: the share that is found within 40 ms, and how many are found a
        second where none was inserted.
    """
    rng = np.random.default_rng(0)
    figures: dict[str, Any] = {}
    for kind in train_codec.KINDS:
        found, false = [], []
        for sound in sounds:
            clean = np.asarray(0.7 * sound / np.abs(sound).max(), dtype=np.float32)
            start = int(rng.integers(TOKEN_SAMPLES, clean.size - 2 * TOKEN_SAMPLES))
            shape = PEAK * train_codec.transient(kind, rng)
            struck = clean.copy()
            struck[start : start + shape.size] += shape[: struck.size - start]
            heard = _times(codec, struck, kind)
            found.append(float(any(abs(time - start / SAMPLE_RATE) <= NEAR for time in heard)))
            false.append(len(_times(codec, clean, kind)) * SAMPLE_RATE / clean.size)
        figures[kind] = {"found": interval(found), "false_per_second": interval(false)}
    return figures


def transient_tokens(world: World, codec: MiniCodec, contexts: int) -> dict[str, list[int]]:
    """Return the ids that say a click or a pop in at least half of the contexts they are tried in.

    Args:
        contexts: how many stretches of real speech.
    """
    size = 2 * reach(codec) + 1
    stretches: list[torch.Tensor] = []
    for row in world.shard("test_same"):
        start = (row.tokens.size - size) // 2
        if start >= 0 and len(stretches) < contexts:
            stretches.append(torch.from_numpy(row.tokens[start : start + size]))
    return carriers(transient_shares(codec, stretches))


def _times(codec: MiniCodec, sound: Audio, kind: str) -> list[float]:
    """Return when artifacts of a kind begin in the resynthesis of a sound."""
    heard = detect(codec.decode(codec.encode(np.clip(sound, -1, 1))), kinds=(kind,))
    return [artifact.start for artifact in heard]


def speech(
    world: World,
    codec: MiniCodec,
    base: SpeechTokenLM,
    judges: Judges,
    acted: Sequence[tuple[Line, Rendering]],
    seeds: int,
) -> dict[str, Any]:
    """Judge the renderings, their resynthesis and what the base policy says of the same texts.

    Returns:
        "speech": the figures of each; "renderings": what the renderings are like, by emotion.
    """
    rows = [_utterance(line, codec.encode(rendering.audio)) for line, rendering in acted]
    plain = [
        Sample(row.id, row.text, row.emotion, torch.from_numpy(row.tokens), rendering.audio)
        for row, (_, rendering) in zip(rows, acted, strict=True)
    ]
    voices = {
        "rendering": plain,
        "codec": spoken(world, codec, None, base, rows, 0),
    } | {
        f"base, seed {seed}": spoken(world, codec, base, base, rows, seed) for seed in range(seeds)
    }
    measured = {}
    with Progress("judge the speech", len(voices)) as progress:
        for number, (name, samples) in enumerate(voices.items(), start=1):
            measured[name] = measure(samples, {}, judges)
            progress.update(number)
    return {
        "speech": {name: summarise(rows, "") for name, rows in measured.items()},
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


def policy_figures(world: World, base: SpeechTokenLM) -> dict[str, Any]:
    """Return what the base policy's held-out loss is, and what it becomes with another's text.

    A policy that does not read has the same loss for any text.
    """
    rows = [row for row in world.shard("test_same") if row.emotion == "neutral"]
    examples = make_examples(world.tokenizer, rows)
    other = [*examples[1:], examples[0]]
    swapped = [
        Example(replace(one.prompt, text_ids=two.prompt.text_ids), one.speech)
        for one, two in zip(examples, other, strict=True)
    ]
    return {
        "loss": interval([held_out_loss(base, [example]) for example in examples]),
        "swapped_loss": interval([held_out_loss(base, [example]) for example in swapped]),
    }


def lengths(world: World, base: SpeechTokenLM, drawn: int) -> dict[str, Any]:
    """Draw many utterances of the base policy, free to end at once, and look at their lengths.

    Returns:
        "drawn": how many; "empty" and "runaway": the share under a third of the tokens of the real
        utterance, and over three times as many; "length": mean ratio to the real utterance.
    """
    rows = world.shard("test_same")
    rows = (rows * (drawn // len(rows) + 1))[:drawn]
    prompts = [make_prompt(world.tokenizer, row.text, row.emotion) for row in rows]
    said = speak(base, prompts, seed=0, min_ratio=0.0)
    ratios = [tokens.numel() / row.tokens.size for tokens, row in zip(said, rows, strict=True)]
    return {
        "drawn": len(rows),
        "empty": float(np.mean([ratio < 1 / 3 for ratio in ratios])),
        "runaway": float(np.mean([ratio > 3 for ratio in ratios])),
        "length": interval(ratios),
    }


def voices(
    world: World, codec: MiniCodec, base: SpeechTokenLM, judges: Judges, utterances: int
) -> dict[str, Any]:
    """Judge real tokens and the base policy in each of its other voices, on unseen sentences."""
    figures = {}
    for name in SPEAKERS:
        rows = world.shard(f"test_{name}")[:utterances]
        figures[name] = {
            label: summarise(measure(spoken(world, codec, model, base, rows, 0), {}, judges), "")
            for label, model in (("real", None), ("base", base))
        }
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
        figures[name] = interval(right.astype(float))
    return figures


def ranked(
    renderer: Renderer, codec: MiniCodec, judge: EmotionJudge, texts: Sequence[str]
) -> dict[str, float]:
    """Return how often the judge's probability orders two intensities of one sentence rightly."""
    right = []
    for number, text in enumerate(texts):
        analysis = renderer.analyse(text)
        for emotion in EMOTIONS[1:]:
            sounds = []
            for intensity in INTENSITIES:
                rng = np.random.default_rng([number, emotion_index(emotion)])
                acted = renderer.render(analysis, emotion, intensity, VOICES["heart"], rng)
                sounds.append(codec.decode(codec.encode(acted.audio)))
            belief = judge.probabilities_batch(sounds)[:, emotion_index(emotion)]
            pairs = [belief[1] > belief[0], belief[2] > belief[1], belief[2] > belief[0]]
            right.append(float(np.mean(pairs)))
    return interval(right)


def page(study: Mapping[str, Any]) -> str:
    """Return the study as a page of markdown tables."""
    spoken_by = study["speech"]
    lines = [
        f"`{study['command']}`, {study['machine']}: {study['sentences']} unseen sentences in six "
        f"emotions, {study['seeds']} sampling seeds of the base policy; mean with 95 % interval "
        "over utterances.",
        "",
    ]
    speech = [
        (label, [_cell(figures, path) for figures in spoken_by.values()])
        for label, path in MEASURES
        if label not in OF_A_POLICY
    ]
    lines += markdown.table("", list(spoken_by), markdown.measured(speech))
    rows = [(CODEC_FIGURES[name], value) for name, value in study["codec"].items()]
    for kind, figures in study["transients"].items():
        rows.append((f"{kind} inserted, found within 40 ms", figures["found"]))
        rows.append((f"{kind} found a second, none inserted", figures["false_per_second"]))
    policy = study["policy"]
    rows += [
        ("base policy, loss of real neutral speech, nats a token", policy["loss"]),
        ("… with another sentence's text", policy["swapped_loss"]),
        (f"… length of {policy['drawn']} utterances over that of real speech", policy["length"]),
        ("judge, accuracy after the codec, same voice", study["judge"]["test_same"]),
        ("judge, accuracy after the codec, altered voices", study["judge"]["test_altered"]),
        ("judge, intensities in the right order", study["judge"]["ranked_pairs"]),
    ]
    counted = [(f"… {name}", [f"{policy[key]:.3f}"]) for key, name in SAMPLED.items()]
    lines += ["", *markdown.table("", [""], [(n, [shown(v)]) for n, v in rows] + counted)]
    lines += _voice_table(study["voices"])
    acted = study["renderings"]
    columns = list(next(iter(acted.values())))
    lines += ["", "The renderings themselves, by emotion:", ""]
    by_emotion = [(name, [shown(found[c]) for c in columns]) for name, found in acted.items()]
    lines += markdown.table("", columns, by_emotion)
    for kind, ids in study["transient_tokens"].items():
        listed = ", ".join(map(str, ids)) or "none"
        summary = f"<summary>Token ids that say a {kind} ({len(ids)})</summary>"
        lines += ["", f"<details>{summary}", "", listed, "", "</details>"]
    return "\n".join(lines) + "\n"


def _voice_table(voices: Mapping[str, Any]) -> list[str]:
    """Return the table of the other voices."""
    one = voices[SPEAKERS[0]]["real"]
    columns = [
        (label, path)
        for label, path in MEASURES
        if label not in OF_A_POLICY and _cell(one, path) != MISSING
    ]
    rows = [
        (f"{name}, {label}", [_cell(figures, path) for _, path in columns])
        for name, systems in voices.items()
        for label, figures in systems.items()
    ]
    table = markdown.table("", [label for label, _ in columns], rows)
    return ["", "The other voices, real tokens and the base policy:", "", *table]


def _cell(figures: Mapping[str, Any], path: Sequence[str]) -> str:
    value: Any = figures
    for key in path:
        value = None if value is None else value.get(key)
    return MISSING if value is None else shown(value)

"""The recipe of the bundled world: resumable stages from sentences to packed assets.

Each stage writes into its own folder under the world's and leaves a `done.json` with its seconds
and figures; a stage that is there is skipped, one that was interrupted goes on where it stood. Its
seconds are then those of the last leg alone, and `legs` says how many there were.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo import policy, reward
from rrpo.codec_identity import identity
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.ser import evaluate
from rrpo.files import claim, read_json, sha256, write_json
from rrpo.mini.codec import MiniCodec
from rrpo.mini.text import SPEAKERS, PhoneTokenizer
from rrpo.mini.world import MINI, TEST_SETS, World
from rrpo.objectives.sft import SFTConfig, held_out_loss
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import make_examples
from rrpo.progress import Progress
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.config import FitConfig
from rrpo.reward.fit import RewardObjective
from rrpo.train import TrainConfig, train
from rrpo_world import codec_corpus, mandarin, tasks, train_codec
from rrpo_world.corpus import PARTS, WORKERS, Line, read_part, render_part
from rrpo_world.judge import train_judge
from rrpo_world.multitask import MultiTaskObjective, Sample, figures
from rrpo_world.pretraining import PretrainingObjective

CODEC_STEPS = 10_000
CODEC_HELD_OUT = 0.02
"""Share of the codec's speech that only shows whether it learnt the rest by heart."""
POLICY_STEPS = 3600
POLICY_BATCH = 24
REWARD_STEPS = 900
TASKS_STEPS = 6000
TASKS_HELD_OUT = 0.02
"""Share of the texts that the multi-task reward model is tested on."""
WRONG_LABELS = 0.15
"""Share of the general data whose label is drawn at random, as pseudo-labels err."""
AS_AUDIO = ("codec", "judge")
"""Parts that are used as audio and not as tokens."""
LEFT_OUT = "left out"
"""Says in a stage's figures that it could not be run here and why; a later call tries again."""
HELD_OUT = 200
"""Utterances of the base corpus kept out of its training, for the held-out loss."""
PLAN = "recipe_plan.json"
"""What a folder's recipe is made with."""
LEGS = "legs.json"
"""How often each unfinished stage was taken up; one that is done is not in it."""

Stage = Callable[[Path], dict[str, Any]]
"""Fills its folder and returns its figures."""


def build(out: Path, seed: int = 0, scale: float = 1.0) -> World:
    """Make every asset of the mini world under `out`; the packed world is `out/world`.

    Args:
        scale: share of the sentences and of the training steps, for a quick trial; 1 is the world
            that is bundled.

    Raises:
        UserError: the folder holds a recipe of another seed or scale, or something else.
    """
    if not (out / PLAN).is_file() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} is not empty and does not say which seed and scale its recipe has: "
            "choose another --out or remove it"
        )
    claim(out / PLAN, {"seed": seed, "scale": scale}, "a recipe")
    ran = False
    for name, stage in stages(seed, scale):
        # What is packed must hold a part that could not be made before.
        if (out / name / "done.json").is_file() and not (name == "world" and ran):
            continue
        ran = _take_up(out, name, stage) or ran
    return World(out / "world")


def stages(seed: int, scale: float) -> list[tuple[str, Stage]]:
    """Return the stages of the recipe by name, in their order."""
    return [
        *((f"render-{name}", partial(_render, name, seed, scale)) for name in PARTS),
        ("codec", partial(_codec, seed, scale)),
        *(
            (f"tokens-{name}", partial(_tokenize, name, seed))
            for name in PARTS
            if name not in AS_AUDIO
        ),
        ("policy", partial(_policy, seed, scale)),
        ("reward", partial(_reward, seed, scale)),
        ("tasks", partial(_tasks, seed, scale)),
        ("judge", partial(train_judge, seed)),
        ("world", partial(_pack, seed)),
    ]


def _take_up(out: Path, name: str, stage: Stage) -> bool:
    """Run a stage, or the rest of it; return whether it could be run."""
    begun: dict[str, int] = read_json(out / LEGS) if (out / LEGS).is_file() else {}
    legs = begun.pop(name, 0) + 1
    write_json(out / LEGS, {**begun, name: legs})
    began = time.monotonic()
    figures = stage(out / name)
    done = LEFT_OUT not in figures
    if done:
        spent = {"seconds": round(time.monotonic() - began, 1)}
        figures = {**spent, **({"legs": legs} if legs > 1 else {}), **figures}
        write_json(out / name / "done.json", figures)
    print(f"{name}: {figures if done else figures[LEFT_OUT]}", flush=True)
    write_json(out / LEGS, begun)
    return done


def _render(name: str, seed: int, scale: float, folder: Path) -> dict[str, Any]:
    if PARTS[name].language == mandarin.LANGUAGE and not mandarin.installed():
        return {LEFT_OUT: "left out: it needs the Mandarin voice, pip install 'rrpo[mandarin]'"}
    render_part(name, folder, seed, scale, with_targets=name == "codec")
    return {"utterances": len(read_json(folder / "lines.json"))}


def _codec(seed: int, scale: float, folder: Path) -> dict[str, Any]:
    corpus, held = codec_corpus.split(
        codec_corpus.read_corpus(folder.parent / "render-codec"), CODEC_HELD_OUT
    )
    steps = max(20, round(CODEC_STEPS * scale))
    with Progress("train the codec", steps) as progress:
        codec = train_codec.train(
            corpus,
            folder,
            steps,
            seed,
            progress=lambda done, parts: progress.update(done, f"loss {sum(parts.values()):.3f}"),
        )
    # Side by side they show whether the codec learnt its sentences by heart.
    return {
        "steps": steps,
        "losses": train_codec.mean_losses(codec, corpus),
        "held_out_losses": train_codec.mean_losses(codec, held),
    }


def _tokenize(name: str, seed: int, folder: Path) -> dict[str, Any]:
    source = folder.parent / f"render-{name}"
    if not (source / "lines.json").is_file():
        return {LEFT_OUT: f"left out, as {source.name} was"}
    codec = MiniCodec.load(folder.parent / "codec")
    rng = np.random.default_rng([seed, 7])
    rows = []
    total = len(read_json(source / "lines.json"))
    with Progress(f"tokenize {name}", total) as progress:
        for number, (line, audio) in enumerate(read_part(source)):
            wrong = name == "general" and rng.random() < WRONG_LABELS
            emotion = str(rng.choice(EMOTIONS)) if wrong else line.emotion
            rows.append(_utterance(line, emotion, codec.encode(audio)))
            progress.update(number + 1)
    write_shard(folder / "tokens.parquet", rows, _identity(folder.parent))
    ids = np.concatenate([row.tokens for row in rows])
    return {
        "utterances": len(rows),
        "minutes": round(ids.size / 25 / 60, 1),
        "distinct_tokens": int(np.unique(ids).size),
    }


def _identity(built: Path) -> str:
    """Return the identity of the codec that was made in a folder."""
    return identity(MINI, sha256(built / "codec" / "model.safetensors"))


def _utterance(line: Line, emotion: str, tokens: torch.Tensor) -> Utterance:
    return Utterance(
        id=line.id,
        text=line.text,
        emotion=emotion,
        tokens=tokens.numpy(),
        speaker=line.voice,
        language=line.language,
        intensity=line.intensity,
    )


def _policy(seed: int, scale: float, folder: Path) -> dict[str, Any]:
    tokenizer = PhoneTokenizer()
    spoken = [row for part in ("base", "voices", "reading") for row in _tokens(folder, part)]
    examples = make_examples(tokenizer, spoken)
    # Both renderings of a sentence go to one side.
    texts = sorted({example.prompt.text for example in examples})
    np.random.default_rng([seed, 9]).shuffle(texts)
    held_texts = set(texts[: min(HELD_OUT, len(texts) // 10)])
    held = [example for example in examples if example.prompt.text in held_texts]
    kept = [example for example in examples if example.prompt.text not in held_texts]
    torch.manual_seed(seed)
    model = SpeechTokenLM(
        LMConfig(text_vocabulary=tokenizer.vocabulary_size, codec=_identity(folder.parent))
    )
    steps = max(20, round(POLICY_STEPS * scale))
    config = _training(steps, 1.5e-3, 200, 250, seed)
    train(
        PretrainingObjective(model, kept, SFTConfig(batch_size=POLICY_BATCH)),
        config,
        folder,
        resume=True,
        validate=lambda _: {"held_out_loss": held_out_loss(model, held)},
        validate_every=max(1, steps // 12),
        description="pre-train the base policy",
    )
    return {"steps": steps, "held_out_loss": held_out_loss(policy.load(folder), held)}


def _training(
    steps: int, learning_rate: float, warmup: int, save_every: int, seed: int
) -> TrainConfig:
    """Return how a model of the world is trained; of few steps a quarter warm up."""
    return TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=min(warmup, steps // 4),
        schedule="cosine",
        weight_decay=0.05,
        seed=seed,
        save_every=save_every,
        threads=WORKERS,
    )


def _reward(seed: int, scale: float, folder: Path) -> dict[str, Any]:
    rows = _tokens(folder, "general")
    torch.manual_seed(seed)
    model = RewardModel(
        RewardConfig(tasks={"emotion": list(EMOTIONS)}, codec=_identity(folder.parent))
    )
    steps = max(20, round(REWARD_STEPS * scale))
    config = _training(steps, 5e-4, 100, 200, seed)
    plain = FitConfig(label_smoothing=0.0, mixup=False, adversarial=False)
    train(
        RewardObjective(model, rows, plain),
        config,
        folder,
        resume=True,
        description="pre-train the reward model",
    )
    model = reward.load(folder)
    return {
        "steps": steps,
        "accuracy": {
            name: evaluate(model, _tokens(folder, shard))["accuracy"].mean
            for name, shard in TEST_SETS.items()
            if (folder.parent / f"tokens-{shard}" / "tokens.parquet").is_file()
        },
    }


def _tasks(seed: int, scale: float, folder: Path) -> dict[str, Any]:
    """Train the multi-task reward model on everything that was tokenized with a text."""
    tokenizer = PhoneTokenizer()
    base = {row.id: row for row in _tokens(folder, "base")}
    parts = ["voices", "finetune", *(f"finetune_{name}" for name in SPEAKERS)]
    rows = [*base.values(), *(row for part in parts for row in _tokens(folder, part))]
    with_events = tasks.insert_events(
        folder.parent / "render-base",
        base,
        MiniCodec.load(folder.parent / "codec"),
        max(8, round(tasks.EVENTS * scale)),
        np.random.default_rng([seed, 11]),
    )
    held = tasks.held_texts(rows, TASKS_HELD_OUT, seed)
    kept: tuple[list[Sample], list[Sample]] = ([], [])
    test: tuple[list[Sample], list[Sample]] = ([], [])
    for row in rows:
        side = test if row.text in held else kept
        side[0].append(tasks.as_sample(row, tokenizer))
    for row, kind in with_events:
        side = test if row.text in held else kept
        side[1].append(tasks.as_sample(row, tokenizer, kind))
    torch.manual_seed(seed)
    model = RewardModel(
        tasks.config(tokenizer).model_copy(update={"codec": _identity(folder.parent)})
    )
    steps = max(20, round(TASKS_STEPS * scale))
    config = _training(steps, 1e-3, 200, 500, seed)
    train(
        MultiTaskObjective(model, *kept),
        config,
        folder,
        resume=True,
        description="train the multi-task reward model",
    )
    return {"steps": steps, **figures(reward.load(folder), *test)}


def _tokens(folder: Path, part: str) -> list[Utterance]:
    """Read the tokens of a part, from any stage's folder."""
    return read_shard(folder.parent / f"tokens-{part}" / "tokens.parquet")


def _pack(seed: int, folder: Path) -> dict[str, Any]:
    """Write the assets in half precision, pin their hashes and weigh them."""
    built = folder.parent
    MiniCodec.load(built / "codec").save(folder / "codec")
    policy.save(policy.load(built / "policy"), folder / "policy", torch.float16)
    reward.save(reward.load(built / "reward"), folder / "reward", torch.float16)
    reward.save(reward.load(built / "tasks"), folder / "tasks", torch.float16)
    EmotionJudge.load(built / "judge").save(folder / "judge")
    for name in PARTS:
        made = (built / f"tokens-{name}" / "tokens.parquet").is_file()
        if made and name.startswith(("finetune", "test")):
            rows = _tokens(folder, name)
            write_shard(folder / "shards" / f"{name}.parquet", rows, _identity(folder))
    costs = {path.parent.name: read_json(path) for path in sorted(built.glob("*/done.json"))}
    write_json(folder / "recipe.json", {"seed": seed, **costs})
    World(folder).pin()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"megabytes": round(size / 1e6, 2)}

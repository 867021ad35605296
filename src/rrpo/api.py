"""The Python API: what the commands do, as functions that take paths and return models.

`import rrpo` offers all of them; nothing heavy is loaded before one is called. Data is a parquet
file or a folder of token shards; by default what is bundled. Each training leaves a run folder, as
the command of the same name does, and goes on from it with `resume`.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrpo import policy, recipes, reward
from rrpo.audio import Audio
from rrpo.errors import UserError
from rrpo.judging import evaluate
from rrpo.loading import Location, load_policy, load_reward_model
from rrpo.policy import SpeechTokenLM
from rrpo.reward import DifferentiableReward, RewardModel
from rrpo.speaking import by_name
from rrpo.train import Callback

Settings = Mapping[str, object]
"""Settings by their dotted names, as for `--set`: {"train.steps": 40}."""

__all__ = [
    "evaluate",
    "load_policy",
    "load_reward_model",
    "speak",
    "train_diffro",
    "train_dpo",
    "train_grpo",
    "train_reward",
    "train_sft",
]


def train_reward(
    out: Location,
    data: Location | None = None,
    *,
    start: Location = "mini",
    preset: str | None = None,
    settings: Settings | None = None,
    mixes: Location | None = None,
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> RewardModel:
    """Fine-tune a reward model (`rrpo reward train`); by default hardened as RRPO describes.

    Args:
        out: folder of the run.
        data: token shards with emotions.
        start: "mini", "new" or a run.
        preset: "paper", "recommended" or "strong_step".
        settings: over the preset.
        mixes: a mix pool, for `fit.mixup_at=audio`.
        codec_of: which codec the tokens are of, where the shards do not say it.
        resume: continue an interrupted run.
        callbacks: each is called after each step with its number and its figures; where one returns
            True, that step is the last.

    Raises:
        UserError: as the command, in one line.

    Examples:
        >>> model = train_reward("rm", settings={"train.steps": 1, "train.warmup_steps": 0})
        reward model in rm; test it with: rrpo reward eval rm
        >>> model.config.loss.label_smoothing
        0.1
    """
    options = _options(settings, codec_of, resume, callbacks)
    recipes.reward(_folder(out), data, start, mixes, preset, options)
    return reward.load(out)


def train_sft(
    out: Location,
    data: Location | None = None,
    *,
    start: Location = "mini",
    settings: Settings | None = None,
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Fine-tune a policy on labelled speech (`rrpo policy sft`); arguments as of `train_reward`.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "sft.batch_size": 2}
        >>> model = train_sft("sft", settings=small)  # doctest: +ELLIPSIS
        policy in sft; ...
        >>> model.config.codec[:4]
        'mini'
    """
    recipes.sft(_folder(out), data, start, _options(settings, codec_of, resume, callbacks))
    return policy.load(out)


def train_diffro(
    out: Location,
    rewards: Sequence[Location | DifferentiableReward],
    data: Location | None = None,
    *,
    start: Location,
    preset: str | None = None,
    settings: Settings | None = None,
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Follow the reward's gradient through the token choices (`rrpo policy diffro`).

    With the robust reward of a hardened reward model this is RRPO.

    Args:
        out: folder of the run.
        rewards: reward models, of which several with the same head are an ensemble; or one reward
            of your own (`rrpo.reward.DifferentiableReward`).
        data: token shards whose texts and emotions are asked for.
        start: where the policy starts, and its reference; as published, an SFT run.
        preset: "paper" or "recommended".
        settings: as of `train_reward`.
        codec_of: likewise.
        resume: likewise.
        callbacks: likewise.

    Raises:
        UserError: as the command, in one line.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "diffro.batch_size": 2}
        >>> run = train_diffro("rrpo", ["mini"], start="mini", settings=small)  # doctest: +ELLIPSIS
        policy in rrpo; ...
    """
    options = _options(settings, codec_of, resume, callbacks)
    recipes.diffro(_folder(out), rewards, data, start, preset, options)
    return policy.load(out)


def train_grpo(
    out: Location,
    rewards: Sequence[Location | DifferentiableReward],
    data: Location | None = None,
    *,
    start: Location,
    settings: Settings | None = None,
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Policy gradient on the same rollouts and rewards (`rrpo policy grpo`); as `train_diffro`.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "grpo.prompts": 1, "grpo.group": 2}
        >>> model = train_grpo("grpo", ["mini"], start="mini", settings=small)  # doctest: +ELLIPSIS
        policy in grpo; ...
    """
    recipes.grpo(
        _folder(out), rewards, data, start, _options(settings, codec_of, resume, callbacks)
    )
    return policy.load(out)


def train_dpo(
    out: Location,
    rewards: Sequence[Location | DifferentiableReward] = (),
    data: Location | None = None,
    *,
    pairs: Location | None = None,
    start: Location,
    settings: Settings | None = None,
    codec_of: str | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SpeechTokenLM:
    """Learn from preference pairs (`rrpo policy dpo`), drawn by rewards or given as a folder.

    Examples:
        >>> small = {"train.steps": 1, "train.warmup_steps": 0, "dpo.batch_size": 1}
        >>> drawn = {"pairs.prompts": 2, "pairs.count": 2, "pairs.margin": 0.0}
        >>> model = train_dpo(
        ...     "dpo", ["mini"], start="mini", settings=small | drawn
        ... )  # doctest: +ELLIPSIS
        policy in dpo; ...
    """
    options = _options(settings, codec_of, resume, callbacks)
    recipes.dpo(_folder(out), rewards, pairs, data, start, options)
    return policy.load(out)


def speak(
    policy: Location,
    text: str,
    emotion: str = "neutral",
    *,
    speaker: str = "",
    voice: Location | None = None,
    model: Location | None = None,
    seed: int = 0,
) -> tuple[Audio, int]:
    """Speak a text; return audio (N,) float32 and its samples per second (`rrpo speak`).

    Args:
        policy: a run, `mini` or a CosyVoice model.
        text: what to say.
        emotion: how to say it.
        speaker: of the mini world: cedar, maple, hazel or willow instead of the main voice.
        voice: CosyVoice: a recording whose voice is taken over.
        model: CosyVoice: its model folder, where it is not the one the policy began from.
        seed: the same seed says the same.

    Raises:
        UserError: the policy, the voice or the emotion cannot be used.

    Examples:
        >>> audio, rate = speak("mini", "The train leaves at noon.", "happy")
        >>> rate, 1.0 < audio.size / rate < 5.0
        (16000, True)
    """
    said = by_name.speak(
        policy, text, emotion, speaker=speaker, voice=voice, folder=model, seed=seed
    )
    for note in said.notes:
        warnings.warn(note, stacklevel=2)
    return said.audio, said.rate


def _folder(out: Location) -> Path:
    if not str(out):
        raise UserError("out is empty: name a folder")
    return Path(out)


def _options(
    settings: Settings | None, codec_of: str | None, resume: bool, callbacks: Sequence[Callback]
) -> recipes.Options:
    given = [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]
    return recipes.Options(None, given, codec_of, resume, callbacks)

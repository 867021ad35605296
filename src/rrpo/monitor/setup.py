"""What a run needs to listen to itself, from its configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from rrpo.codec.cosyvoice import CosyVoiceCodec
from rrpo.data.stream import Streamed
from rrpo.data.tokenize import Codec
from rrpo.errors import UserError
from rrpo.evaluate import content
from rrpo.evaluate.judge import EmotionJudge
from rrpo.loading import is_mini, load_reward_models
from rrpo.mini.world import World
from rrpo.monitor.config import MonitorConfig
from rrpo.monitor.listening import Ears
from rrpo.monitor.looks import AlarmStop, Monitor
from rrpo.notes import note
from rrpo.objectives.on_policy import OnPolicy
from rrpo.origin import origin_of
from rrpo.policy import cosyvoice
from rrpo.policy.layout import Prompt
from rrpo.processes import training_processes
from rrpo.reward import Reward, RewardModel
from rrpo.reward.regularize import TASK
from rrpo.schedule import TrainConfig


class MonitoredRun(Protocol):
    """What a run's configuration says of it."""

    @property
    def start(self) -> str:
        """Where the policy starts."""

    @property
    def train(self) -> TrainConfig:
        """How it is trained."""

    @property
    def monitor(self) -> MonitorConfig:
        """How it listens to itself."""


def monitored(
    on_policy: OnPolicy,
    run: MonitoredRun,
    folder: Path,
    how: Mapping[str, Any],
    codec_of: str | None = None,
) -> dict[str, Any]:
    """Return how a training goes (`rrpo.runs.How`) with looks, where there are to be any.

    A `validate` of the run's own is asked at the looks. `codec_of` is what the user says of second
    reward models that do not know their codec.

    Raises:
        UserError: a second reward model or a voice cannot be used, or the run is stopped otherwise.
    """
    config = run.monitor
    if config.every == 0:
        if set_alone := sorted(config.model_dump(exclude_defaults=True)):
            raise UserError(f"monitor.{set_alone[0]} is set, but no look: set monitor.every, too")
        return dict(how)
    if config.action == "stop" and how.get("stop") is not None:
        raise UserError("monitor.action=stop cannot be combined with another early stop: warn")
    prompts = asked(on_policy.prompts, config.sentences)
    if config.words and not all(content.is_english(one.text, one.language) for one in prompts):
        raise UserError("monitor.words: the recogniser knows English alone: leave it out")
    monitor = Monitor(
        on_policy,
        prompts,
        ears(on_policy, run, codec_of),
        config,
        run.train.steps,
        run.train.seed,
        folder,
        training_processes().is_main_process,
    )
    own = how.get("validate")

    def validate(step: int) -> dict[str, float]:
        return {**monitor.look(step), **(own(step) if own else {})}

    more: dict[str, Any] = {"validate": validate, "validate_every": config.every}
    if config.action == "stop":
        more["stop"] = AlarmStop()
    if config.action == "lower":
        more["pace"] = monitor.pace
    return {**how, **more}


def asked(prompts: Sequence[Prompt], sentences: int) -> list[Prompt]:
    """Return the first different texts of some prompts, each with every emotion in them."""
    texts: dict[str, Prompt] = {}
    for prompt in prompts:
        texts.setdefault(prompt.text, prompt)
        if len(texts) == sentences:  # of a stream no more is read than is asked for
            break
    emotions: dict[str, Prompt] = {}
    for prompt in prompts.first() if isinstance(prompts, Streamed) else prompts:
        emotions.setdefault(prompt.emotion, prompt)
    return [
        replace(text, emotion=name, instruct_ids=felt.instruct_ids, speaker=felt.speaker)
        for text in texts.values()
        for name, felt in emotions.items()
    ]


def _is_same(one: RewardModel, other: RewardModel) -> bool:
    own, others = one.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(
        own[name].shape == others[name].shape
        and torch.equal(own[name].cpu(), others[name].detach().cpu())
        for name in own
    )


def ears(on_policy: OnPolicy, run: MonitoredRun, codec_of: str | None = None) -> Ears:
    """Return what listens to a run: the mini world's judge and codec, or CosyVoice in a voice.

    Raises:
        UserError: as `monitored`; or words are to be heard, and there is no audio or recogniser.
    """
    config, model, reward = run.monitor, on_policy.model, on_policy.reward
    codec: Codec | None = None
    judge: EmotionJudge | None = None
    if model.config.codec and is_mini(model):
        if config.voice is not None:
            raise UserError("monitor.voice is for CosyVoice's policies: leave it out")
        codec, judge = World().codec(), World().judge()
    elif config.voice is not None:
        place = cosyvoice.model_folder(Path(origin_of(run.start).start))
        codec = CosyVoiceCodec(place, Path(config.voice))
    if config.words and codec is None:
        raise UserError("monitor.words needs audio to listen to: name a monitor.voice")
    models = reward.models if isinstance(reward, Reward) else []
    given = (model, codec_of, origin_of(run.start))
    second = load_reward_models(config.second, *given) if config.second else []
    for name, one in zip(config.second, second, strict=True):
        if TASK not in one.config.tasks and one.content is None:
            raise UserError(
                f"monitor.second: {name} has no head for emotion or content, and nothing else is "
                "asked: leave it out"
            )
        if any(_is_same(one, trained_on) for trained_on in models):
            note(
                f"monitor.second: the policy is trained on {name}, too: what it says speaks for "
                "no one else"
            )
    return Ears(
        [one for one in models if TASK in one.config.tasks],
        second,
        codec,
        judge,
        content.recogniser() if config.words else None,
    )

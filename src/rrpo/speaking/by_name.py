"""Speaking with a policy that is given by name: `rrpo speak` and the Python API."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rrpo import repetition
from rrpo.audio import Audio
from rrpo.chance import own_chance
from rrpo.data.catalogue import emotion_name
from rrpo.errors import NotFinite, UserError
from rrpo.loading import MINI, Location, is_mini, load_policy, load_reward_models
from rrpo.mini.text import SPEAKERS
from rrpo.mini.world import World
from rrpo.origin import Origin, listed, origin_of
from rrpo.policy import SpeechTokenLM
from rrpo.processes import stays_on_cpu
from rrpo.reward import Reward
from rrpo.speaking.best_of import (
    Choice,
    choose,
    choosing_reward,
    require_count,
    require_known,
)
from rrpo.speaking.cosyvoice import CosyVoiceSpeaker
from rrpo.speaking.mini import MiniSpeaker
from rrpo.speaking.speaker import Speaker, asked

LONG_TEXT = 500
"""Characters of what is still one or a few sentences."""
REMEDY = "try another --seed, or a policy that was trained for fewer steps"


class Speech(NamedTuple):
    """Tokens (T,), audio (N,), its samples per second, and what is odd about it, a line each.

    `choice` says how it was chosen, where it is the best of several.
    """

    tokens: Tensor
    audio: Audio
    rate: int
    notes: list[str]
    choice: Choice | None = None


def speak(
    policy: Location,
    text: str,
    emotion: str = "neutral",
    *,
    speaker: str = "",
    voice: Location | None = None,
    model: Location | None = None,
    language: str | None = None,
    instructions: Location | None = None,
    seed: int = 0,
    best_of: int = 1,
    reward: Location | Sequence[Location] = (),
    codec_of: str | None = None,
) -> tuple[Audio, int]:
    """Speak a text; return audio (N,) float32 and its samples per second (`rrpo speak`).

    Args:
        policy: a run, `mini` or a CosyVoice model.
        text: what to say.
        emotion: how to say it.
        speaker: of the mini world: cedar, maple, hazel or willow instead of the main voice.
        voice: CosyVoice: a recording whose voice is taken over.
        model: CosyVoice: its model folder, where it is not the one the policy began from.
        language: CosyVoice: in which it is told an emotion; the policy's own where it is None.
        instructions: CosyVoice: a YAML file of what it is told, in place of the policy's own.
        seed: the same seed says the same, on one device.
        best_of: how many are drawn, of which that of the highest reward is returned. One that did
            not end by itself or loops is returned only if all did.
        reward: with `best_of`, what it was trained against: twice −L_ser, and a content head's.
        codec_of: codec of reward models that do not record it, as of `rrpo.train_diffro`.

    Raises:
        UserError: what is given cannot be used, or nothing is said.

    Examples:
        >>> audio, rate = speak("mini", "The train leaves at noon.", "happy")
        >>> rate, 1.0 < audio.size / rate < 5.0
        (16000, True)
        >>> models = ["mini", "mini-tasks"]
        >>> better, rate = speak("mini", "It is late.", "happy", best_of=2, reward=models)
    """
    with own_chance():
        said = speech(
            policy,
            text,
            emotion,
            speaker=speaker,
            voice=voice,
            folder=model,
            language=language,
            instructions=instructions,
            seed=seed,
            best_of=best_of,
            rewards=listed(reward),
            codec_of=codec_of,
        )
    for note in said.notes:
        warnings.warn(note, stacklevel=2)
    return said.audio, said.rate


def speech(
    location: Location,
    text: str,
    emotion: str,
    *,
    speaker: str,
    voice: Location | None,
    folder: Location | None,
    seed: int,
    language: str | None = None,
    instructions: Location | None = None,
    best_of: int = 1,
    rewards: Sequence[Location] = (),
    codec_of: str | None = None,
) -> Speech:
    """Speak a text as `speak` does; return its tokens and what is odd about it, too."""
    require_count(best_of, rewards)
    model = load_to_speak(location)
    _require_voice(model, speaker)
    reward = None
    if rewards:
        origin = origin_of(location) if folder is None else Origin(start=str(folder))
        reward = choosing_reward(load_reward_models(rewards, model, codec_of, origin))
    named = _named(location, model, voice, folder, _told(location, model, language, instructions))
    if len(text) > LONG_TEXT:  # before the minutes that it may take
        warnings.warn(
            f"a text of {len(text)} characters is spoken in one piece: better speak each sentence "
            "by itself, as CosyVoice does",
            stacklevel=2,
        )
    return named.say(text, emotion, seed, speaker, best_of, reward)


@dataclass(frozen=True)
class NamedSpeaker:
    """A policy that is ready to speak, and by which name it was given."""

    location: Location
    speaker: Speaker

    def say(
        self,
        text: str,
        emotion: str,
        seed: int,
        voice: str = "",
        count: int = 1,
        reward: Reward | None = None,
    ) -> Speech:
        """Speak a text; arguments and errors as of `speak`, `voice` being its `speaker`.

        With a reward it is the best of `count` utterances.
        """
        with naming(self.location):
            name = emotion_name(emotion)  # joy is happy, as in the data
            row = asked(text, name if name in self.speaker.emotions else emotion, voice)
            prompts = [] if reward is None else self.speaker.prompts([row])
        if reward is not None:
            require_known(reward, prompts[0])
        with naming(self.location):
            drawn = self.speaker.say([row] * count, seed)
        choice = None if reward is None else choose(reward, prompts[0], drawn)
        said = drawn[0 if choice is None else choice.index]
        if said.tokens.numel() == 0:
            raise UserError("the policy said nothing: try another --seed")
        sound = self.speaker.sound(said.tokens)
        if not np.isfinite(sound).all():
            raise UserError(f"{self.location}: its speech decodes to samples that are no numbers")
        notes = []
        if not said.ended:
            notes.append(
                f"{self.location} did not end the utterance by itself: it was cut at the greatest "
                f"length for this text; {REMEDY}"
            )
        if repetition.loops(said.tokens):
            share = repetition.repetition(said.tokens)
            notes.append(
                f"{self.location} loops: {share:.0%} of the tokens are stuck or repeated; {REMEDY}"
            )
        return Speech(said.tokens, sound, self.speaker.rate, notes, choice)


def load_to_speak(location: Location = MINI) -> SpeechTokenLM:
    """Load a policy as `load_policy` does, onto what it draws on: a CUDA GPU where there is one.

    As with trainings, `ACCELERATE_USE_CPU=true` keeps it on the processor.
    """
    there = torch.cuda.is_available() and not stays_on_cpu()
    return load_policy(location).to("cuda" if there else "cpu")


def load_speaker(
    location: Location,
    voice: Location | None = None,
    folder: Location | None = None,
    told: Origin | None = None,
) -> NamedSpeaker:
    """Load a policy that will speak more than once; arguments and errors as of `speak`.

    `told` has the language and the instructions in which CosyVoice is told an emotion, by default
    its own.
    """
    return _named(location, load_to_speak(location), voice, folder, told)


def _named(
    location: Location,
    model: SpeechTokenLM,
    voice: Location | None,
    folder: Location | None,
    told: Origin | None = None,
) -> NamedSpeaker:
    """Return what lets a policy speak."""
    if not is_mini(model):
        return NamedSpeaker(location, CosyVoiceSpeaker(location, model, voice, folder, told))
    refuse_voice(voice, folder)
    world = World()
    return NamedSpeaker(location, MiniSpeaker(model, world, world.codec()))


def _told(
    location: Location,
    model: SpeechTokenLM,
    language: str | None,
    instructions: Location | None,
) -> Origin | None:
    """Return what a policy is told emotions in, where the user gives another than its own."""
    given: dict[str, str] = {}
    if language is not None:
        given["language"] = language
    if instructions is not None:
        given["instructions"] = str(instructions)
    if not given:
        return None
    if is_mini(model):
        raise UserError(
            "--language and --instructions are for CosyVoice's policies: leave them out"
        )
    return origin_of(location).model_copy(update=given)


def refuse_voice(voice: Location | None, folder: Location | None) -> None:
    """Refuse what is for CosyVoice alone."""
    if voice is not None or folder is not None:
        raise UserError("--voice and --model are for CosyVoice's policies: leave them out")


def _require_voice(model: SpeechTokenLM, speaker: str) -> None:
    if speaker and not is_mini(model):
        raise UserError("--speaker names voices of the mini world: give CosyVoice a --voice")
    if speaker and speaker not in SPEAKERS:
        raise UserError(f"unknown speaker {speaker!r}: choose one of {', '.join(SPEAKERS)}")


@contextmanager
def naming(location: Location) -> Iterator[None]:
    """Say which policy it is whose scores are no numbers."""
    try:
        yield
    except NotFinite as error:
        raise UserError(f"{location}: {error}") from None

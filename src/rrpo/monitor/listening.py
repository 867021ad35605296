"""What is measured of the speech at a look, utterance by utterance."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rrpo import repetition
from rrpo.audio import SAMPLE_RATE
from rrpo.data.tokenize import Codec
from rrpo.emotions import emotion_index
from rrpo.evaluate import artifacts, content, recodec
from rrpo.evaluate.judge import EmotionJudge
from rrpo.objectives.on_policy import OnPolicy
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import Rollouts
from rrpo.reward import Reward, RewardModel
from rrpo.reward.differentiable import score, weighted_sum
from rrpo.reward.posteriors import log_posteriors
from rrpo.reward.regularize import TASK

BATCH = 16
"""Utterances that are scored at a time."""


@dataclass(frozen=True)
class Ears:
    """What listens at a look, beside the reward itself; what is not there measures nothing.

    Attributes:
        trained_on: the reward models with an emotion head that the policy is trained on.
        second: those that it is not trained on.
        codec: renders tokens and encodes the audio again; None: there is no audio.
        judge: hears the emotion of the mini world's voices.
        recogniser: hears the words.
    """

    trained_on: Sequence[RewardModel] = ()
    second: Sequence[RewardModel] = ()
    codec: Codec | None = None
    judge: EmotionJudge | None = None
    recogniser: content.Recogniser | None = None
    contents: Sequence[Reward] = field(init=False)

    def __post_init__(self) -> None:
        """Let the second models with a content head read the words."""
        heads = [one for one in self.second if one.content is not None]
        found = [Reward([one], {"content": 1.0}) for one in heads]
        object.__setattr__(self, "contents", found)


def listen(ears: Ears, on_policy: OnPolicy, said: Rollouts) -> list[dict[str, float]]:
    """Return the figures of each utterance that does not depend on who said it."""
    prompts, ended = said.prompts, said.ended.tolist()
    tokens = [one.cpu() for one in said.tokens]
    asked = [prompt.emotion for prompt in prompts]
    device = on_policy.model.head.weight.device
    on_policy.reward.to(device)
    for model in ears.second:
        model.to(device)
    rows = [
        {
            "reward": value,
            "tokens": float(ids.numel()),
            "repetition": repetition.repetition(ids),
            "never_ended": float(not end),
        }
        for value, ids, end in zip(_rewards(on_policy, tokens, prompts), tokens, ended, strict=True)
    ]
    columns: dict[str, list[float]] = {}
    sure = _probability(ears.trained_on, tokens, asked)
    second = _probability([one for one in ears.second if TASK in one.config.tasks], tokens, asked)
    if second is not None:
        columns["second_probability"] = second
        if sure is not None:
            columns["disagreement"] = [x - y for x, y in zip(sure, second, strict=True)]
    if ears.contents:
        columns["content_loss"] = _content(ears.contents, tokens, prompts)
    if ears.codec is not None:
        columns |= _heard(ears, ears.codec, tokens, prompts)
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def _rewards(
    on_policy: OnPolicy, tokens: Sequence[Tensor], prompts: Sequence[Prompt]
) -> list[float]:
    """Return the reward of each utterance, as it is paid."""
    found: list[float] = []
    for start in range(0, len(tokens), BATCH):
        part = slice(start, start + BATCH)
        terms = score(on_policy.reward, tokens[part], prompts[part])
        found += weighted_sum(on_policy.reward, terms).tolist()
    return found


def _probability(
    models: Sequence[RewardModel], tokens: Sequence[Tensor], asked: Sequence[str]
) -> list[float] | None:
    """Return the mean probability of what was asked for; None where no model knows emotions."""
    each = [
        log_posteriors(model, tokens)[
            torch.arange(len(tokens)),
            torch.tensor([emotion_index(one, model.classes()) for one in asked]),
        ].exp()
        for model in models
    ]
    return torch.stack(each).mean(0).tolist() if each else None


def _content(
    readers: Sequence[Reward], tokens: Sequence[Tensor], prompts: Sequence[Prompt]
) -> list[float]:
    """Return −log p(text | tokens) in nats a symbol, the mean of several readers."""
    device = readers[0].table.device
    found = []
    for start in range(0, len(tokens), BATCH):
        part = slice(start, start + BATCH)
        each = [
            score(reader, [one.to(device) for one in tokens[part]], prompts[part])["content"]
            for reader in readers
        ]
        found += (-torch.stack(each).mean(0)).tolist()
    return found


def _heard(
    ears: Ears, codec: Codec, tokens: Sequence[Tensor], prompts: Sequence[Prompt]
) -> dict[str, list[float]]:
    """Return what is measured of the audio."""
    sounds = [codec.decode(ids) for ids in tokens]
    asked = [prompt.emotion for prompt in prompts]
    found = {
        "artifacts_per_second": [
            len(artifacts.detect(sound, SAMPLE_RATE, artifacts.TRANSIENTS))
            / max(sound.size / SAMPLE_RATE, 1e-3)
            for sound in sounds
        ]
    }
    if ears.trained_on:
        again = [codec.encode(sound) for sound in sounds]
        each = [recodec.gaps(model, asked, tokens, again) for model in ears.trained_on]
        found["recodec"] = np.mean(each, axis=0).tolist()
    if ears.judge is not None:
        posterior = ears.judge.probabilities_batch(sounds)
        wanted = [emotion_index(one, ears.judge.emotions) for one in asked]
        found["judge_probability"] = posterior[range(len(wanted)), wanted].tolist()
    if ears.recogniser is not None:
        texts = ears.recogniser.transcribe(sounds)
        found["content_error"] = [
            min(1.0, content.word_error(prompt.text, text))
            for prompt, text in zip(prompts, texts, strict=True)
        ]
    return found

"""Every judge over a set of samples, and the figures of a system."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rrpo import repetition
from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.evaluate import artifacts, content
from rrpo.evaluate import quality as predictors
from rrpo.evaluate.judge import EmotionJudge
from rrpo.evaluate.statistics import interval
from rrpo.interval import Interval
from rrpo.measures import MEASURES, REWARD
from rrpo.policy import SpeechTokenLM
from rrpo.policy.divergence import kl_per_position
from rrpo.policy.layout import Prompt, unistream
from rrpo.reward import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.tokens import IGNORE


@dataclass(frozen=True)
class Sample:
    """One utterance of a system: what was asked for, the tokens (T,) and their audio (N,).

    `instruction` is what the policy was told in words, which must not be heard. `ended` says
    whether the utterance ended by itself, not by a limit of its length; None where no policy spoke.
    `language` is the text's, as a shard says it; "" where it does not.
    """

    id: str
    text: str
    emotion: str
    tokens: Tensor
    audio: Audio
    kl: float | None = None
    instruction: str = ""
    ended: bool | None = None
    language: str = ""


ENGLISH_ALONE = "the recogniser knows English alone"
"""Why there is no word error where there is a recogniser."""


@dataclass
class Judges:
    """What listens. Quality scorers and the recogniser are there where they are installed.

    The emotion judge knows the mini world's voices; for others it is None.
    """

    emotion: EmotionJudge | None
    quality: Mapping[str, predictors.Scorer] = field(default_factory=predictors.available)
    recogniser: content.Recogniser | None = None
    content_reason: str = ""

    @classmethod
    def installed(cls, emotion: EmotionJudge | None) -> "Judges":
        """Return the judges this environment has."""
        recogniser, reason = content.available()
        return cls(emotion, recogniser=recogniser, content_reason=reason)


@torch.no_grad()
def kl_of(
    model: SpeechTokenLM,
    reference: SpeechTokenLM,
    prompts: Sequence[Prompt],
    speech: Sequence[Tensor],
    batch_size: int = 16,
) -> list[float]:
    """Return KL(model ‖ reference) of each utterance, nats per token over all its positions."""
    result: list[float] = []
    device = model.head.weight.device
    reference.to(device)
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        ids, targets = unistream(
            model.config,
            [prompt.text_ids for prompt in prompts[part]],
            speech[part],
            [prompt.instruct_ids for prompt in prompts[part]],
        )
        ids, keep = ids.to(device), targets.to(device) != IGNORE
        per_position = kl_per_position(model(ids, keep), reference(ids, keep))
        sizes = [tokens.numel() + 1 for tokens in speech[part]]
        result += [float(row.mean()) for row in torch.split(per_position, sizes)]
    return result


def measure(
    samples: Sequence[Sample],
    reward_models: Mapping[str, RewardModel],
    judges: Judges,
    scorers: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return one row per sample with every figure.

    Args:
        samples: of one system.
        reward_models: name → model; each scores every sample with the log-posterior in nats of the
            emotion asked for.
        judges: what listens.
        scorers: which quality scorers; all by default.
    """
    if not samples:
        return []
    rewards = {name: _rewards(model, samples) for name, model in reward_models.items()}
    felt: list[dict[str, Any]] = [{}] * len(samples)
    if judges.emotion is not None:
        felt = _felt(judges.emotion, samples)
    chosen = {
        name: scorer
        for name, scorer in judges.quality.items()
        if scorers is None or name in scorers
    }
    sounds = [sample.audio for sample in samples]
    heard: list[str] | None = None
    english = all(content.is_english(sample.text, sample.language) for sample in samples)
    recogniser = judges.recogniser if english else None
    # Each judge runs on one thread, so two cores are used by letting them listen side by side.
    with ThreadPoolExecutor(1) as pool:
        if recogniser is not None:
            listening = pool.submit(recogniser.transcribe, sounds)
        rated = predictors.score(sounds, chosen)
        if recogniser is not None:
            heard = listening.result()
    rows = []
    for index, sample in enumerate(samples):
        found = artifacts.detect(sample.audio, SAMPLE_RATE, artifacts.TRANSIENTS)
        rows.append(
            {
                "id": sample.id,
                "text": sample.text,
                "emotion": sample.emotion,
                "reward": {name: values[index] for name, values in rewards.items()},
                **felt[index],
                "quality": {name: values[index] for name, values in rated.items()},
                "artifacts": [vars(artifact) for artifact in found],
                "seconds": sample.audio.size / SAMPLE_RATE,
                "tokens": sample.tokens.numel(),
                "repetition": repetition.repetition(sample.tokens),
                "loops": repetition.loops(sample.tokens),
                "ended": sample.ended,
                "kl": sample.kl,
                "content_error": None if heard is None else _lost(sample.text, heard[index]),
                **_leak(sample, heard, index),
            }
        )
    return rows


def _lost(text: str, heard: str) -> float:
    """Return the word error, at most 1: what was asked for cannot be lost more than wholly.

    On broken speech the recogniser can repeat itself without end, and a single such transcript
    would outweigh all others of a system.
    """
    return min(1.0, content.word_error(text, heard))


def _felt(judge: EmotionJudge, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return the judge's verdict on each sample."""
    posterior = judge.probabilities_batch([sample.audio for sample in samples])
    return [
        {
            "judge_probability": float(row[emotion_index(sample.emotion)]),
            "judge_emotion": EMOTIONS[int(np.argmax(row))],
        }
        for row, sample in zip(posterior, samples, strict=True)
    ]


def _leak(sample: Sample, heard: Sequence[str] | None, index: int) -> dict[str, float]:
    if not sample.instruction or heard is None:
        return {}
    leaked = content.instruction_heard(sample.instruction, sample.text, heard[index])
    return {} if leaked is None else {"instruction_heard": leaked}


def _rewards(model: RewardModel, samples: Sequence[Sample]) -> list[float]:
    """Return the log-posterior of each sample's emotion, in nats."""
    known = model.classes()
    columns = torch.tensor([emotion_index(sample.emotion, known) for sample in samples])
    table = log_posteriors(model, [sample.tokens for sample in samples])
    return [float(value) for value in table[torch.arange(len(samples)), columns]]


def summarise(
    rows: Sequence[Mapping[str, Any]],
    own_reward: str,
    content_reason: str = "",
) -> dict[str, Any]:
    """Return the figures of a system, each as mean with its 95 % interval over sentences.

    All that was said of a sentence is resampled together: an easy one is easy in every emotion.

    Args:
        rows: from `measure`.
        own_reward: the reward model whose score is called `reward`.
        content_reason: why there is no content error, where there is none; "": for the language.
    """

    def over(values: ArrayLike, spoken: Sequence[Mapping[str, Any]] = rows) -> Interval:
        texts = [row["text"] for row in spoken]
        return interval(values, groups=texts)

    rewards = {name: over([row["reward"][name] for row in rows]) for name in rows[0]["reward"]}
    system: dict[str, Any] = {
        "reward": rewards.get(own_reward),
        "reward_model": own_reward or None,
        "rewards": rewards,
        "quality": {
            name: over([row["quality"][name] for row in rows]) for name in rows[0]["quality"]
        },
        "utterances": len(rows),
    }
    for measure in MEASURES:
        if measure.group != "Quality" and measure != REWARD:
            spoken = [row for row in rows if measure.of(row) is not None]
            values = [value for row in rows if (value := measure.of(row)) is not None]
            kind = bool if measure.is_share else float
            found = over(np.array(values, kind), spoken) if values else None
            system[measure.key] = None if found is None else measure.within(found)
    if system["content_error"] is None:
        system["content_error_reason"] = content_reason or ENGLISH_ALONE
    return system

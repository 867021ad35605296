"""What another trainer's policy has said, scored by reward models or by judges."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rrpo.audio import Audio
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.evaluate import content, quality
from rrpo.evaluate.panel import Judges, Sample, measure
from rrpo.loading import Location, load_reward_model
from rrpo.measures import MEASURES
from rrpo.mini.world import World
from rrpo.policy.layout import Prompt
from rrpo.reward import Reward
from rrpo.reward.differentiable import score, weighted_sum
from rrpo.reward.reward import Form
from rrpo.spelling import spelling

Score = Callable[[Sequence[Tensor], Sequence[Prompt]], list[float]]
"""Score utterances (T_b,), T_b ≥ 1, of prompts: greater is better."""
BROKEN = -10.0
"""Score of an answer without speech, or with text in it, for each unit of the weights, at least one
of them (`broken`): in nats, below what almost all others get."""
TOKEN = re.compile(r"<\|s_(\d+)\|>")
MARKS = re.compile(r"<\|(?:eos\d?|endoftext|im_end)\|>|\s")


def speech_of(answer: str, codes: int = SPEECH_CODES) -> Tensor | None:
    """Return the codes (T,) int64 of an answer in the Hugging Face form, None if it is broken.

    An end, and CosyVoice3's further specials, which have a number from `codes` on, end it.

    Examples:
        >>> speech_of("<|s_7|><|s_12|><|eos1|>")
        tensor([ 7, 12])
        >>> speech_of("The train <|s_7|>") is None
        True
    """
    if MARKS.sub("", TOKEN.sub("", answer)):
        return None
    spoken = re.split(r"<\|eos\d?\|>", answer)[0]
    found = [int(number) for number in TOKEN.findall(spoken)]
    end = next((place for place, code in enumerate(found) if code >= codes), len(found))
    return torch.tensor(found[:end]) if end else None


def score_answers(
    scorer: Score,
    answers: Sequence[str],
    texts: Sequence[str],
    emotions: Sequence[str],
    speakers: Sequence[str],
) -> list[float]:
    """Return the score of each answer, `broken` of those that are.

    Raises:
        UserError: the lists are not of one length, or the scorer refuses what is asked for.
    """
    given = {"answers": answers, "texts": texts, "emotions": emotions, "speakers": speakers}
    if len({len(one) for one in given.values()}) > 1:
        counts = ", ".join(f"{len(one)} {name}" for name, one in given.items())
        raise UserError(f"score_answers was given {counts}: give one of each for every answer")
    spoken = [speech_of(answer) for answer in answers]
    none = torch.tensor([], dtype=torch.int64)
    asked = [
        Prompt(text, emotion, none, none, speaker)
        for text, emotion, speaker in zip(texts, emotions, speakers, strict=True)
    ]
    sound = [(tokens, asked[row]) for row, tokens in enumerate(spoken) if tokens is not None]
    scores = iter(scorer(*map(list, zip(*sound, strict=True))) if sound else [])
    lowest = scorer.broken if isinstance(scorer, Weighted) else BROKEN
    return [lowest if tokens is None else next(scores) for tokens in spoken]


@dataclass(frozen=True)
class Weighted:
    """A score of weighted terms, which knows what a broken answer is worth beside them."""

    score: Score
    weights: Mapping[str, float]

    def __call__(self, speech: Sequence[Tensor], prompts: Sequence[Prompt]) -> list[float]:
        """Score utterances of prompts."""
        return self.score(speech, prompts)

    @property
    def broken(self) -> float:
        """The score of a broken answer."""
        return broken(self.weights)


def broken(weights: Mapping[str, float]) -> float:
    """Return the score of a broken answer beside a sum of so weighted terms.

    Examples:
        >>> broken({"emotion": 1.0}), broken({"emotion": 2.0, "content": 5.0})
        (-10.0, -70.0)
    """
    return BROKEN * max(1.0, sum(map(abs, weights.values())))


def by_reward_models(
    rewards: Location | Sequence[Location],
    weights: Mapping[str, float] | None = None,
    *,
    form: Form = "robust",
    text_of: str | None = None,
    device: str = "cpu",
) -> Score:
    """Score by frozen reward models, as `rrpo policy diffro --reward` does.

    Args:
        rewards: reward models by name or path, or a single one; several with the same head are an
            ensemble.
        weights: of the terms, by default the emotion alone; a head without a weight is not asked.
        form: of the emotion's term (`rrpo.reward.reward.Reward`).
        text_of: what the content head reads: `mini`, `characters` or a CosyVoice model folder.
        device: where they run.

    Raises:
        UserError: what `Reward` refuses, or `text_of` is missing, no such thing, or not that of
            the content head's training.
    """
    places = [rewards] if isinstance(rewards, Location) else rewards
    reward = Reward([load_reward_model(one) for one in places], weights, form=form)
    if "content" in reward.weights and text_of is None:
        raise UserError("the reward content needs text_of: mini, characters or a CosyVoice folder")
    said = None if text_of is None else spelling(text_of)
    for index in reward.members.get("content", []):
        config = reward.models[index].config
        same = said is None or (
            (config.text, config.phones) == (said.kind, said.phones)
            and config.vocabulary in ("", said.vocabulary)
        )
        if not same:
            raise UserError(
                f"text_of={text_of} is not what the content head of {places[index]} was trained on:"
                " give the text_of of its training"
            )
    spell = None if said is None else said.spell
    reward.to(torch.device(device))

    def scorer(speech: Sequence[Tensor], prompts: Sequence[Prompt]) -> list[float]:
        asked = list(prompts)
        if spell is not None:
            ids = [torch.tensor(spell(one.text)) for one in prompts]
            asked = [
                Prompt(one.text, one.emotion, words, one.instruct_ids, one.speaker)
                for one, words in zip(prompts, ids, strict=True)
            ]
        reward.check(asked)
        return [float(value) for value in weighted_sum(reward, score(reward, speech, asked))]

    return Weighted(scorer, reward.weights)


def by_judges(
    weights: Mapping[str, float] | None = None,
    *,
    sound: Callable[[Tensor], Audio] | None = None,
    judges: Judges | None = None,
) -> Score:
    """Score by judges that listen: a weighted sum of `rrpo.measures.MEASURES`.

    A measure of which less is better wants a negative weight. Score by judges to compare trainers,
    or as a reward that was not hardened; whoever is trained on is no independent judge any more.

    Args:
        weights: key of a measure → weight, by default the judge's probability of the emotion.
        sound: tokens (T,) to audio (N,), 16 kHz; by default the mini world's codec.
        judges: what listens; by default the mini world's emotion judge, and what is asked for and
            installed.

    Raises:
        UserError: an unknown measure.
    """
    chosen = dict(weights or {"judge_probability": 1.0})
    known = {one.key: one for one in MEASURES}
    for key in chosen:
        if key not in known:
            raise UserError(f"unknown measure {key!r}: choose from {', '.join(known)}")
    decode = World().codec().decode if sound is None else sound
    scorers = [key.removeprefix("quality.") for key in chosen if key.startswith("quality.")]
    if judges is None:  # only what is asked listens, as the recogniser takes the longest
        recogniser = content.available()[0] if "content_error" in chosen else None
        judges = Judges(World().judge(), quality.available() if scorers else {}, recogniser)
    listening = judges

    def scorer(speech: Sequence[Tensor], prompts: Sequence[Prompt]) -> list[float]:
        samples = [
            Sample(str(row), one.text, one.emotion, tokens, decode(tokens))
            for row, (tokens, one) in enumerate(zip(speech, prompts, strict=True))
        ]
        rows = measure(samples, {}, listening, scorers)
        found = []
        for row in rows:
            values = {key: known[key].of(row) for key in chosen}
            for key, value in values.items():
                if value is None:
                    raise UserError(f"the judges here do not measure {key!r}: leave it out")
            found.append(sum(chosen[key] * float(value or 0.0) for key, value in values.items()))
        return found

    return Weighted(scorer, chosen)

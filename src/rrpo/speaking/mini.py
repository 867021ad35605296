"""A policy of the mini world speaks: its prompts, its sampler, its codec."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS
from rrpo.evaluate.panel import Sample, kl_of
from rrpo.mini.codec import MiniCodec
from rrpo.mini.world import World
from rrpo.objectives.on_policy import SHORTEST, RolloutConfig
from rrpo.policy import SpeechTokenLM, generate
from rrpo.policy.layout import Prompt, make_prompt
from rrpo.reward import Reward, RewardModel
from rrpo.reward.reward import score
from rrpo.speaking.speaker import Said

SPEAKING = RolloutConfig(temperature=0.8, top_k=25)
"""How every system speaks when it is heard: cooler than it is trained, the same for all."""
BATCH = 48


@dataclass(frozen=True)
class BestOf:
    """Several utterances of each prompt, of which a reward model chooses the best."""

    count: int
    reward_model: RewardModel


def unseen_utterances(
    world: World, sentences: int, first: int = 0, shard: str = "test_same"
) -> list[Utterance]:
    """Return test sentences with every emotion: what every system is asked to say.

    Args:
        sentences: how many.
        first: the number of the first one; after the last comes the first again.
        shard: whose sentences, each with every emotion.
    """
    rows = world.shard(shard)
    texts = list(dict.fromkeys(row.text for row in rows))
    first %= len(texts)
    chosen = set((texts[first:] + texts[:first])[:sentences])
    return [row for row in rows if row.text in chosen]


@dataclass(frozen=True)
class MiniSpeaker:
    """A policy of the mini world; without a model, the real tokens of what it is given."""

    model: SpeechTokenLM | None
    world: World
    codec: MiniCodec
    base: SpeechTokenLM | None = None
    rate: int = SAMPLE_RATE
    emotions: Sequence[str] = EMOTIONS

    def say(self, utterances: Sequence[Utterance], seed: int) -> list[Said]:
        """Draw the tokens of each; what is as long as it may become did not end by itself."""
        if self.model is None:
            return [Said(torch.from_numpy(row.tokens), True) for row in utterances]
        prompts = prompts_of(self.world, utterances)
        most = limits(self.model, prompts)
        drawn = speak(self.model, prompts, seed)
        return [Said(one, one.numel() < limit) for one, limit in zip(drawn, most, strict=True)]

    def sound(self, tokens: Tensor) -> Audio:
        """Return audio (N,) of tokens (T,) at 16 kHz."""
        return self.codec.decode(tokens)

    def samples(self, utterances: Sequence[Utterance], seed: int) -> list[Sample]:
        """Speak each for the judges; the KL is that to `base`, where there is one."""
        return spoken(self.world, self.codec, self.model, self.base, utterances, seed)


def prompts_of(world: World, utterances: Sequence[Utterance]) -> list[Prompt]:
    """Return what a policy is asked: each text with its emotion, in its speaker's voice."""
    return [make_prompt(world.tokenizer, row.text, row.emotion, row.speaker) for row in utterances]


def speak(
    model: SpeechTokenLM, prompts: Sequence[Prompt], seed: int, min_ratio: float | None = None
) -> list[Tensor]:
    """Draw one utterance (T,) for each prompt.

    Args:
        min_ratio: least tokens per id of text; by default `SPEAKING`'s, and at least one token,
            because a judge needs something to hear.
    """
    generator = torch.Generator().manual_seed(seed)
    speech: list[Tensor] = []
    least, most = SPEAKING.ratios(model.config)
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        drawn = generate(
            model,
            [prompt.text_ids for prompt in part],
            [prompt.instruct_ids for prompt in part],
            sampler="multinomial",
            min_ratio=least if min_ratio is None else min_ratio,
            max_ratio=most,
            generator=generator,
            sampling=SPEAKING.sampling,
            min_tokens=SHORTEST if min_ratio is None else 0,
        )
        speech += [tokens.cpu() for tokens in drawn]
    return speech


def speak_best(
    model: SpeechTokenLM, prompts: Sequence[Prompt], seed: int, best: BestOf
) -> list[Tensor]:
    """Draw several utterances for each prompt and return the one of the highest log-posterior."""
    many = [prompt for prompt in prompts for _ in range(best.count)]
    speech = speak(model, many, seed)
    scores = score(Reward([best.reward_model], form="log_posterior"), speech, many)["emotion"]
    chosen = scores.view(-1, best.count).argmax(1).tolist()
    return [speech[row * best.count + index] for row, index in enumerate(chosen)]


def limits(model: SpeechTokenLM, prompts: Sequence[Prompt]) -> list[int]:
    """Return how many tokens each prompt may get; what is that long did not end by itself."""
    _, most = SPEAKING.ratios(model.config)
    return [int(most * prompt.text_ids.numel()) for prompt in prompts]


def spoken(
    world: World,
    codec: MiniCodec,
    model: SpeechTokenLM | None,
    base: SpeechTokenLM | None,
    utterances: Sequence[Utterance],
    seed: int,
    best: BestOf | None = None,
) -> list[Sample]:
    """Let a policy speak the texts of labelled utterances; None gives their own real tokens.

    Args:
        base: what the KL of each utterance is to; of the best of several there is none, as no
            policy draws them.
        best: take the best of several.
    """
    prompts = prompts_of(world, utterances)
    if model is None:
        tokens = [torch.from_numpy(row.tokens) for row in utterances]
    elif best is not None:
        tokens = speak_best(model, prompts, seed, best)
    else:
        tokens = speak(model, prompts, seed)
    divergence: list[float | None] = [None] * len(tokens)
    ended: list[bool | None] = [None] * len(tokens)
    if model is not None:
        most = limits(model, prompts)
        ended = [said.numel() < limit for said, limit in zip(tokens, most, strict=True)]
        if best is None and base is not None:
            divergence = [*kl_of(model, base, prompts, tokens)]
    sounds = codec.decode_batch(tokens)
    return [
        Sample(row.id, row.text, row.emotion, said, sound, kl, ended=over)
        for row, said, sound, kl, over in zip(
            utterances, tokens, sounds, divergence, ended, strict=True
        )
    ]

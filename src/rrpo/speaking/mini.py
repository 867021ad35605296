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
from rrpo.objectives.rollouts import SHORTEST, RolloutConfig
from rrpo.policy import SpeechTokenLM, generate
from rrpo.policy.layout import Prompt, make_prompts
from rrpo.speaking.best_of import BestOf
from rrpo.speaking.speaker import Said

SPEAKING = RolloutConfig(temperature=0.8, top_k=25)
"""How every system speaks when it is heard: cooler than it is trained, the same for all."""
BATCH = 48


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
    """A policy of the mini world; without a model, the real tokens of what it is given.

    Attributes:
        base: what the KL of each utterance is to; of the best of several there is none, as no
            policy draws them.
        best: take the best of several.
        drawn: how its tokens are drawn.
    """

    model: SpeechTokenLM | None
    world: World
    codec: MiniCodec
    base: SpeechTokenLM | None = None
    best: BestOf | None = None
    rate: int = SAMPLE_RATE
    emotions: Sequence[str] = EMOTIONS
    drawn: RolloutConfig = SPEAKING

    def prompts(self, utterances: Sequence[Utterance]) -> list[Prompt]:
        """Return each text with its emotion, in its speaker's voice."""
        return prompts_of(self.world, utterances)

    def say(self, utterances: Sequence[Utterance], seed: int) -> list[Said]:
        """Draw the tokens of each; what is as long as it may become did not end by itself."""
        if self.model is None:
            return [Said(torch.from_numpy(row.tokens), True) for row in utterances]
        prompts = self.prompts(utterances)
        if self.best is None:
            return self._drawn(self.model, prompts, seed)
        count = self.best.count
        said = self._drawn(self.model, [one for one in prompts for _ in range(count)], seed)
        several = [said[start : start + count] for start in range(0, len(said), count)]
        return [self.best.of(prompt, each) for prompt, each in zip(prompts, several, strict=True)]

    def _drawn(self, model: SpeechTokenLM, prompts: Sequence[Prompt], seed: int) -> list[Said]:
        """Draw the tokens of each prompt."""
        spoken = speak(model, prompts, seed, drawn=self.drawn)
        most = limits(model, prompts, self.drawn)
        return [Said(one, one.numel() < limit) for one, limit in zip(spoken, most, strict=True)]

    def sound(self, tokens: Tensor) -> Audio:
        """Return audio (N,) of tokens (T,) at 16 kHz."""
        return self.codec.decode(tokens)

    def samples(self, utterances: Sequence[Utterance], seed: int) -> list[Sample]:
        """Speak each for the judges; the KL is that to `base`, where there is one."""
        said = self.say(utterances, seed)
        tokens = [one.tokens for one in said]
        divergence: list[float | None] = [None] * len(tokens)
        if self.model is not None and self.base is not None and self.best is None:
            prompts = self.prompts(utterances)
            divergence = [*kl_of(self.model, self.base, prompts, tokens)]
        sounds = self.codec.decode_batch(tokens)
        return [
            Sample(
                row.id,
                row.text,
                row.emotion,
                one.tokens,
                sound,
                kl,
                ended=None if self.model is None else one.ended,
                language=row.language,
            )
            for row, one, sound, kl in zip(utterances, said, sounds, divergence, strict=True)
        ]


def prompts_of(world: World, utterances: Sequence[Utterance]) -> list[Prompt]:
    """Return what a policy is asked: each text with its emotion, in its speaker's voice."""
    return make_prompts(world.tokenizer, utterances)


def speak(
    model: SpeechTokenLM,
    prompts: Sequence[Prompt],
    seed: int,
    min_ratio: float | None = None,
    drawn: RolloutConfig = SPEAKING,
) -> list[Tensor]:
    """Draw one utterance (T,) for each prompt.

    Args:
        min_ratio: least tokens per id of text; by default that of `drawn`, and at least one token,
            because a judge needs something to hear.
        drawn: how tokens are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    speech: list[Tensor] = []
    least, most = drawn.ratios(model.config)
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        said = generate(
            model,
            [prompt.text_ids for prompt in part],
            [prompt.instruct_ids for prompt in part],
            sampler="multinomial",
            min_ratio=least if min_ratio is None else min_ratio,
            max_ratio=most,
            generator=generator,
            sampling=drawn.sampling,
            min_tokens=SHORTEST if min_ratio is None else 0,
        )
        speech += [tokens.cpu() for tokens in said]
    return speech


def limits(
    model: SpeechTokenLM, prompts: Sequence[Prompt], drawn: RolloutConfig = SPEAKING
) -> list[int]:
    """Return how many tokens each prompt may get; what is that long did not end by itself."""
    _, most = drawn.ratios(model.config)
    return [int(most * prompt.text_ids.numel()) for prompt in prompts]

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
from rrpo.policy import SpeechTokenLM, rollout
from rrpo.policy.layout import Prompt, make_prompts
from rrpo.policy.rollout import RolloutConfig
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
        return make_prompts(self.world.tokenizer, utterances)

    def say(self, utterances: Sequence[Utterance], seed: int) -> list[Said]:
        """Draw the tokens of each."""
        if self.model is None:
            return [Said(torch.from_numpy(row.tokens), True) for row in utterances]
        prompts = self.prompts(utterances)
        if self.best is None:
            return draw(self.model, prompts, seed, self.drawn)
        count = self.best.count
        each = [one for one in prompts for _ in range(count)]
        said = draw(self.model, each, seed, self.drawn)
        several = [said[start : start + count] for start in range(0, len(said), count)]
        return [self.best.of(prompt, some) for prompt, some in zip(prompts, several, strict=True)]

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


def draw(
    model: SpeechTokenLM,
    prompts: Sequence[Prompt],
    seed: int,
    drawn: RolloutConfig = SPEAKING,
) -> list[Said]:
    """Draw an utterance of at least one token for each prompt: a judge needs something to hear.

    Args:
        drawn: how tokens are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    speech: list[Said] = []
    for start in range(0, len(prompts), BATCH):
        said = rollout.draw(model, prompts[start : start + BATCH], drawn, generator)
        ended = said.ended.tolist()
        speech += [Said(one.cpu(), end) for one, end in zip(said, ended, strict=True)]
    return speech

"""Whether the mini world's base policy reads its text, and ends when it is said."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rrpo.evaluate.statistics import interval
from rrpo.mini.world import World
from rrpo.objectives.sft import held_out_loss
from rrpo.policy import SpeechTokenLM, generate
from rrpo.policy.layout import Example, Prompt, make_examples, make_prompt
from rrpo.speaking.mini import BATCH, SPEAKING
from rrpo.speaking.speaker import Said

SHORT, LONG = 1 / 3, 2.0
"""Lengths over that of the real utterance beyond which a sample is empty or runs away."""


def policy_figures(world: World, base: SpeechTokenLM) -> dict[str, Any]:
    """Return what the base policy's held-out loss is, and what it becomes with another's text.

    A policy that does not read has the same loss for any text.
    """
    rows = [row for row in world.shard("test_same") if row.emotion == "neutral"]
    examples = make_examples(world.tokenizer, rows)
    other = [*examples[1:], examples[0]]
    swapped = [
        Example(replace(one.prompt, text_ids=two.prompt.text_ids), one.speech)
        for one, two in zip(examples, other, strict=True)
    ]
    return {
        "loss": interval([held_out_loss(base, [example]) for example in examples]),
        "swapped_loss": interval([held_out_loss(base, [example]) for example in swapped]),
    }


def lengths(world: World, base: SpeechTokenLM, drawn: int, seeds: int) -> dict[str, Any]:
    """Draw many utterances of a policy, free to end at once, and look at their lengths.

    A sample is empty under a third of the real utterance's tokens. It runs away when it did not
    end by itself before its limit of tokens, or is over twice as long as the real one.

    Args:
        drawn: how many at the least, the same number with each sampling seed.

    Returns:
        "drawn": how many; "empty", "runaway" and "failed" (either): their share; "length": the
        ratio to the real utterance; each with its interval by sentence.
    """
    shard, each = world.shard("test_same"), -(-drawn // seeds)
    ratios, cut, texts = [], [], []
    for seed in range(seeds):
        # Another seed goes on where the one before ended, so every sentence is drawn.
        rows = [shard[(seed * each + index) % len(shard)] for index in range(each)]
        prompts = [make_prompt(world.tokenizer, row.text, row.emotion) for row in rows]
        said = _freely(base, prompts, seed)
        cut += [not one.ended for one in said]
        ratios += [
            one.tokens.numel() / row.tokens.size for one, row in zip(said, rows, strict=True)
        ]
        texts += [row.text for row in rows]
    ratio = np.array(ratios)
    empty, runaway = ratio < SHORT, np.array(cut) | (ratio > LONG)
    flags = {"empty": empty, "runaway": runaway, "failed": empty | runaway}
    return {
        "drawn": len(ratios),
        **{name: interval(flag.astype(float), groups=texts) for name, flag in flags.items()},
        "length": interval(ratio, groups=texts),
    }


def _freely(base: SpeechTokenLM, prompts: Sequence[Prompt], seed: int) -> list[Said]:
    """Draw an utterance for each prompt, which may end at once."""
    generator = torch.Generator().manual_seed(seed)
    _, most = SPEAKING.ratios(base.config)
    speech: list[Said] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        said = generate(
            base,
            [prompt.text_ids for prompt in part],
            [prompt.instruct_ids for prompt in part],
            sampler="multinomial",
            min_ratio=0.0,
            max_ratio=most,
            generator=generator,
            sampling=SPEAKING.sampling,
        )
        speech += [Said(one, end) for one, end in zip(said, said.ended.tolist(), strict=True)]
    return speech

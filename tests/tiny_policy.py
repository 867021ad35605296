"""A policy and a reward model over 27 codes, prompts for them, logits without padding."""

import torch
from torch import Tensor

from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt, unistream
from rrpo.reward import RewardConfig

EMOTIONS = ["neutral", "happy"]
CONFIG = LMConfig(
    text_vocabulary=10, hidden=16, layers=1, heads=2, key_value_heads=1, intermediate=24, codes=27
)
REWARD = RewardConfig(
    width=16, layers=1, heads=2, feedforward=24, codes=27, tasks={"emotion": EMOTIONS}
)


def prompts(*sizes: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(1)
    return [
        Prompt(
            "text",
            EMOTIONS[index % 2],
            torch.randint(8, (size,), generator=generator),
            torch.tensor([8, 9]),
        )
        for index, size in enumerate(sizes)
    ]


def logits_of(lm: SpeechTokenLM, prompt: Prompt, speech: Tensor) -> Tensor:
    """The logits (T + 1, V) that predict one utterance's tokens and its end, without padding."""
    ids, _ = unistream(CONFIG, [prompt.text_ids], [speech], [prompt.instruct_ids])
    return lm(ids)[0, -(speech.numel() + 1) :]

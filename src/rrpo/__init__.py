"""Robust Reward Policy Optimization for LLM-based emotional text-to-speech.

A reward model is trained on speech tokens, hardened, attacked, and only then is a speech-token
language model post-trained against it, by gradients straight through its token choices.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rrpo.attack.command import attack_reward
    from rrpo.averaging import average_policies
    from rrpo.detector_training import train_detector
    from rrpo.judging import evaluate as evaluate
    from rrpo.loading import load_policy, load_reward_model
    from rrpo.post_training import train_diffro, train_dpo, train_grpo, train_sft
    from rrpo.reward_training import train_reward
    from rrpo.speaking.by_name import speak

__version__ = "0.1.0"
_HOMES = {
    "attack_reward": "rrpo.attack.command",
    "average_policies": "rrpo.averaging",
    "load_policy": "rrpo.loading",
    "load_reward_model": "rrpo.loading",
    "speak": "rrpo.speaking.by_name",
    "train_detector": "rrpo.detector_training",
    "train_diffro": "rrpo.post_training",
    "train_dpo": "rrpo.post_training",
    "train_grpo": "rrpo.post_training",
    "train_reward": "rrpo.reward_training",
    "train_sft": "rrpo.post_training",
}
"""Where each function of the API is defined."""
__all__ = [
    "attack_reward",
    "average_policies",
    "evaluate",
    "load_policy",
    "load_reward_model",
    "speak",
    "train_detector",
    "train_diffro",
    "train_dpo",
    "train_grpo",
    "train_reward",
    "train_sft",
]


def __getattr__(name: str) -> object:
    """Load a function of the API when it is asked for: torch takes seconds."""
    import importlib

    if name == "evaluate":  # a package that can be called
        return importlib.import_module("rrpo.evaluate")
    if name in _HOMES:
        found: object = getattr(importlib.import_module(_HOMES[name]), name)
        return found
    raise AttributeError(f"module 'rrpo' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the API beside what is loaded."""
    return sorted({*globals(), *__all__})

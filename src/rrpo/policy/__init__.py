"""The policy: a speech-token language model, its sequences and its rollouts."""

from pathlib import Path

import torch

from rrpo.checkpoint import fitted, load_model, save_model
from rrpo.config import parse
from rrpo.errors import UserError
from rrpo.policy import cosyvoice
from rrpo.policy.adapter import plain_state
from rrpo.policy.layout import teacher_forced
from rrpo.policy.lm import LMConfig, SpeechTokenLM
from rrpo.policy.rollout import generate

__all__ = [
    "LMConfig",
    "SpeechTokenLM",
    "cosyvoice",
    "generate",
    "load",
    "save",
    "teacher_forced",
]


def save(model: SpeechTokenLM, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a policy as `model.safetensors` and `model.json`, its weights as `dtype`.

    Adapters are added in.
    """
    plain = plain_state(model) if model.adapted else model.state_dict()
    state = {name: tensor.to(dtype) for name, tensor in plain.items()}
    save_model(folder, state, {"kind": "policy", **model.config.model_dump()})


def load(folder: str | Path) -> SpeechTokenLM:
    """Read a policy from a run folder, from the folder of its weights or from a file there.

    Raises:
        UserError: it is not there, damaged, or not a policy.
    """
    folder = Path(folder)
    state, config = load_model(folder, "policy")
    config.pop("kind")
    if "codec" not in config:
        raise UserError(
            f"{folder}: its model.json lacks the key `codec`, which says whose tokens it speaks: "
            "it is of an earlier version; train it again"
        )
    shape = parse(LMConfig, config, folder)
    return fitted(lambda: SpeechTokenLM(shape), shape.layers, state, folder).eval()

"""Low-rank adapters (LoRA; Hu et al. 2021) through `peft`: few trained weights, no second model.

The frozen weights stay where they are, so the reference of DiffRO's KL is the same model with its
adapters off. What is saved is a plain policy with the adapters added in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.lm import SpeechTokenLM

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices that get an adapter: all of every decoder layer."""
NAME = "default"


def add_adapters(model: SpeechTokenLM, rank: int, seed: int = 0) -> None:
    """Give every decoder layer adapters of a rank, in place; only they are trained then.

    An adapter adds 2 B A x to W x, A (rank, in) random and B (out, rank) zero, so that nothing
    changes at first.

    Raises:
        UserError: `peft` is not installed, or the rank is above the width of the policy.
    """
    if rank > model.config.hidden:
        raise UserError(
            f"lora_rank={rank} is above the policy's width, {model.config.hidden}: give 16, or "
            "lora_rank=0 to train all weights"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("adapters need the package peft: pip install 'rrpo[lora]'") from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(PROJECTIONS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, NAME)
    model.adapted = True


def adapted(model: SpeechTokenLM) -> list[tuple[str, Any]]:
    """Return the names and layers that have an adapter; none for a plain policy."""
    return [(name, part) for name, part in model.named_modules() if hasattr(part, "lora_A")]


@contextmanager
def without_adapters(model: SpeechTokenLM) -> Iterator[None]:
    """Let the model compute as it did before its adapters."""
    layers = [layer for _, layer in adapted(model)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def plain_state(model: SpeechTokenLM) -> dict[str, Tensor]:
    """Return the state of the plain policy that computes the same: adapters added in.

    Where they are off (`without_adapters`) it is that of the policy before them.
    """
    layers = dict(adapted(model))
    state = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" in name:
            continue
        owner, _, kind = name.rpartition(".base_layer.")
        if kind == "weight" and not layers[owner].disable_adapters:
            tensor = tensor + layers[owner].get_delta_weight(NAME).to(tensor)
        state[f"{owner}.{kind}" if owner else name] = tensor
    return state

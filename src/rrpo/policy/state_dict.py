"""State dicts in every wrapping: nested in a trainer's checkpoint, their names prefixed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrpo.errors import UserError

WRAPPERS = ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module")
CHECKPOINTED = "_checkpoint_wrapped_module"
"""Parts of a name that data parallelism, compilation, Lightning's Fabric, FSDP and recomputation
put in; no weight of a model of ours is called so."""
MARKS = ("speech_embedding.weight", "model.embed_tokens.weight")
"""Names by which upstream's form and the Hugging Face form are known, in this order."""
BOOKKEEPING = ("epoch", "step", "n_averaged")
"""What `epoch_*_whole.pt` holds beside the weights, as numbers or as tensors."""
DEPTH = 4
"""How deep a state dict may be nested."""


def unwrap(loaded: object, source: Path) -> dict[str, Tensor]:
    """Return the flat state dict in what a file holds, without wrappers in its names.

    Numbers, texts and lists beside the weights are left out; a tensor never is.

    Args:
        loaded: as read from a file.
        source: what a message names.

    Raises:
        UserError: there is no state dict or there are several, adapters are not added in, or
            something is no tensor of plain numbers.
    """
    if not isinstance(loaded, Mapping):
        raise UserError(
            f"{source} is no state dict but a {type(loaded).__name__}: "
            "name the llm.pt of a CosyVoice model"
        )
    found = dict(_candidates(loaded, "", DEPTH))
    if len(found) > 1:
        raise UserError(
            f"{source} holds several models ({', '.join(map(shown, found))}): save the one that "
            "is meant, torch.save(torch.load(FILE, weights_only=True)[NAME], 'llm.pt')"
        )
    chosen = next(iter(found.values()), loaded)
    state = {}
    for key, value in chosen.items():
        if key in BOOKKEEPING:
            continue
        if isinstance(value, Tensor):
            if not isinstance(key, str):
                raise UserError(f"{source}: {shown(key)} is no name of a weight: no state dict")
            _require_plain(key, value, source)
            state[key] = value
    if not state:
        there = ", ".join(shown(key) for key in list(loaded)[:5]) or "nothing"
        raise UserError(
            f"{source} holds no weights (but {there}): name the llm.pt of a CosyVoice model"
        )
    state = _without_prefix(_without_wrappers(state, source), source)
    _refuse_adapters(state, source)
    return state


def shown(key: object) -> str:
    """Return a key as a message shows it: on one line, and not at any length."""
    text = key if isinstance(key, str) and key.isprintable() else repr(key)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _candidates(
    tree: Mapping[Any, Any], place: str, depth: int
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield what holds a table of codes or of text, with where it is; an optimizer's does not."""
    if any(
        isinstance(key, str) and key.endswith(MARKS) and isinstance(value, Tensor)
        for key, value in tree.items()
    ):
        yield place or "the file itself", tree
    for key, value in tree.items() if depth else ():
        if isinstance(value, Mapping) and "optim" not in str(key)[:80].lower():
            yield from _candidates(value, f"{place}.{shown(key)}".lstrip("."), depth - 1)


def _require_plain(key: str, value: Tensor, source: Path) -> None:
    """Refuse what is no grid of numbers, each in its own place in memory."""
    kind = value.layout if value.layout is not torch.strided else type(value).__name__
    plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout is torch.strided
    if not plain or value.is_meta or value.is_quantized:
        kind = "meta" if value.is_meta else "quantized" if value.is_quantized else kind
        raise UserError(
            f"{source}: {shown(key)} is no tensor that can be read ({kind}): "
            "save it dense, with weight.to_dense() or weight.dequantize()"
        )
    if value.numel() == 0:
        raise UserError(
            f"{source}: {shown(key)} is empty, shape {tuple(value.shape)}: where ZeRO-3 left the "
            "weights in shards, join them with DeepSpeed's zero_to_fp32.py"
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UserError(
            f"{source}: {shown(key)} repeats its numbers to shape {tuple(value.shape)}: "
            "save it with weight.contiguous()"
        )


def _without_wrappers(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        parts = [part for part in key.split(".") if part not in (*WRAPPERS, CHECKPOINTED)]
        name = ".".join(parts)
        if name in plain:
            raise UserError(
                f"{source} holds {shown(name)} twice, once within a wrapper: save one of the two"
            )
        plain[name] = value
    return plain


def _without_prefix(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Take off what stands before every name, such as the `llm.` of a model around the LM."""
    prefix = ""
    for mark in MARKS:
        places = [key.removesuffix(mark) for key in state if key.endswith(mark)]
        places = [place for place in places if not place or place.endswith(".")]
        if len(places) > 1:
            raise UserError(
                f"{source} holds {mark} under {', '.join(shown(one) for one in places)}: "
                "save the one model that is meant"
            )
        if places:
            prefix = places[0]
            break
    for key in state:
        if not key.startswith(prefix):
            raise UserError(
                f"{source}: {shown(key)} stands beside the names that begin with {shown(prefix)}: "
                "save the LM's weights alone"
            )
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _refuse_adapters(state: Mapping[str, Tensor], source: Path) -> None:
    for key in state:
        if ".lora_" in key or ".base_layer." in key or ".modules_to_save." in key:
            raise UserError(
                f"{source}: {shown(key)}: adapters are not added in, and their scale is not in the "
                "file: save the state dict of model.merge_and_unload(), or name the folder that "
                "save_pretrained writes, with its adapter_config.json"
            )

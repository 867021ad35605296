"""Folders of low-rank adapters that `peft` saved, added to the weights they were trained on."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pydantic
import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.policy.state_dict import shown
from rrpo.policy.upstream import LAYERS
from rrpo.policy.weight_files import read_file

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
INSTEAD = "add it in with peft's model.merge_and_unload() and name what save_pretrained then writes"
_ADAPTER = re.compile(
    r"(?:base_model\.model\.)?((?:[\w.]*\.)?(layers\.[0-9]{1,3}\.(?:self_attn|mlp)\.[a-z]+_proj))"
    r"\.lora_([AB])(?:\.default)?\.weight$"
)
_PLAIN = re.compile(r"[\w.]{1,200}$")


class AdapterConfig(pydantic.BaseModel):
    """What is read of `adapter_config.json`; what would change the sum is refused."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    peft_type: Literal["LORA"]
    base_model_name_or_path: str | None = None
    lora_alpha: float = 8
    alpha_pattern: dict[str, float] = {}
    use_rslora: bool = False
    use_dora: Literal[False] = False
    fan_in_fan_out: Literal[False] = False
    lora_bias: Literal[False] = False
    # The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) begin by changing the base's own weights.
    init_lora_weights: bool | Literal["gaussian", "eva", "orthogonal"] | None = True
    alora_invocation_tokens: None = None
    bias: Literal["none"] = "none"
    modules_to_save: None = None
    layer_replication: None = None

    def scale(self, module: str, rank: int) -> float:
        """Return the factor of B A at a module (Hu et al. 2021; rsLoRA: Kalajdzievski 2023)."""
        alpha = self.lora_alpha
        for pattern, own in self.alpha_pattern.items():
            if module == pattern or module.endswith(f".{pattern}"):
                alpha = own
                break
        return alpha / (rank**0.5 if self.use_rslora else rank)


def adapter_folder(path: Path) -> Path | None:
    """Return the folder of adapters that a path is or lies in; None: it is something else."""
    named = path.name in (*WEIGHTS, CONFIG) and path.is_file()
    folder = path.parent if named else path
    return folder if (folder / CONFIG).is_file() else None


def refuse_beside(folder: Path) -> None:
    """Refuse a folder of whole weights with adapters beside them: they may be added in or not.

    Raises:
        UserError: there is `lora_adapter/`, as verl's merger leaves it beside the base's weights.
    """
    inner = folder / "lora_adapter"
    if (inner / CONFIG).is_file():
        raise UserError(
            f"{folder} holds {inner.name} beside its weights, which are likely those from before "
            f"the training: name {inner}, with base_model_name_or_path {folder.absolute()} in its "
            f"{CONFIG}, or move it away where it is added in already"
        )


def base_folder(folder: Path) -> Path:
    """Return the model folder that adapters were trained on.

    Raises:
        UserError: the configuration cannot be read, is of an unknown kind, or names no folder here.
    """
    name = _config(folder).base_model_name_or_path or ""
    for place in (folder, Path()) if name and "\0" not in name else ():
        found = place / name
        if found.exists() and found.absolute() != folder.absolute():
            if adapter_folder(found) is not None:
                raise UserError(f"{folder / CONFIG}: its base {found} is an adapter: {INSTEAD}")
            return found
    raise UserError(
        f"{folder} is a PEFT adapter and its base {shown(name)!r} is not here: "
        f"write the path of the base as base_model_name_or_path into {folder / CONFIG}"
    )


def _config(folder: Path) -> AdapterConfig:
    path = folder / CONFIG
    try:
        config = AdapterConfig.model_validate(read_json(path))
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"])) or "it"
        raise UserError(f"{path}: {shown(key)}: {detail['msg']}: {INSTEAD}") from None
    for pattern in config.alpha_pattern:
        if not _PLAIN.match(pattern):
            raise UserError(f"{path}: alpha_pattern {shown(pattern)} is no plain name: {INSTEAD}")
    return config


def add_adapters(state: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return upstream's state dict with scale · B A added to every adapted matrix, in float32.

    Args:
        state: of the base; its matrices are (out, in), A is (r, in) and B (out, r).
        folder: the adapters' own.

    Raises:
        UserError: an adapter is of another model, of an unknown kind, or lacks its other half.
    """
    config = _config(folder)
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder} has {CONFIG} and lacks {WEIGHTS[0]}: copy it again")
    loaded = read_file(file)
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{file} holds no adapters: copy it again")
    halves: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, value in loaded.items():
        found = _ADAPTER.match(key) if isinstance(key, str) else None
        if found is None or not isinstance(value, Tensor):
            raise UserError(f"{file}: {shown(key)} is no adapter of a decoder layer: {INSTEAD}")
        side = halves.setdefault((found[1], found[2]), {})
        if found[3] in side:
            raise UserError(f"{file} holds {shown(key)} for the second time: {INSTEAD}")
        side[found[3]] = value
    merged = dict(state)
    for (name, module), side in halves.items():
        key = f"{LAYERS}{module.removeprefix('layers')}.weight"
        base = merged.get(key)
        a, b = side.get("A"), side.get("B")
        if base is None or a is None or b is None:
            lacking = (
                f"{folder} has no lora_A and lora_B" if base is not None else "its base has no"
            )
            raise UserError(f"{file}: {lacking} {module}: it belongs to another model")
        if a.ndim != 2 or b.ndim != 2 or (b.shape[0], a.shape[1]) != tuple(base.shape):
            raise UserError(
                f"{file}: lora_B and lora_A of {module} have shapes {tuple(b.shape)} and "
                f"{tuple(a.shape)}, its base {tuple(base.shape)}: it belongs to another model"
            )
        if b.shape[1] != a.shape[0] or not a.shape[0]:
            raise UserError(f"{file}: lora_A and lora_B of {module} have other ranks: copy again")
        if not (a.is_floating_point() and b.is_floating_point()):
            raise UserError(f"{file}: the adapters of {module} are {a.dtype}: {INSTEAD}")
        delta = b.to(torch.float32) @ a.to(torch.float32)
        merged[key] = base.to(torch.float32) + config.scale(name, a.shape[0]) * delta
    return merged

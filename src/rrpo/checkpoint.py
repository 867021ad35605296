"""Weights on disk: safetensors with a JSON beside them, written whole or not at all."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rrpo.errors import UserError
from rrpo.files import atomic_path, read_json, sha256, write_json

Module = TypeVar("Module", bound=torch.nn.Module)
SUMS = "SHA256SUMS"
"""The file of a checkpoint that holds the hashes of the others."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; their dtype is kept."""
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
        )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: the file is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a damaged header raises whatever its content leads to
        raise UserError(
            f"{path} is truncated or not a safetensors file ({error}): copy or make it again"
        ) from None


def save_model(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `model.json` into a folder; the JSON names the hash."""
    save_tensors(folder / "model.safetensors", state)
    write_json(
        folder / "model.json",
        {"config": dict(config), "sha256": sha256(folder / "model.safetensors")},
    )


def model_place(path: Path) -> Path:
    """Return the folder of a model that `save_model` wrote: a run's checkpoint, or a file's own."""
    if path.name in ("model.json", "model.safetensors") and path.is_file():
        return path.parent
    # While a checkpoint is being replaced, or after a kill just then, the old one stands aside.
    places = [path, path / "checkpoint", path / "checkpoint.old"]
    return next((place for place in places if (place / "model.json").is_file()), path)


def is_ours(path: Path) -> bool:
    """Say whether a path holds a model that `save_model` wrote."""
    return (model_place(path) / "model.json").is_file()


def load_model(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_model` wrote: the state (floating point as fp32) and the configuration.

    Args:
        folder: where `model.safetensors` and `model.json` lie; a run folder is also taken, and so
            is either file.
        kind: what the configuration's key "kind" must say, such as "policy".

    Raises:
        UserError: a file is missing or damaged, the hash differs, or it is another kind of model;
            where a run's checkpoint before it is whole, the message names that.
    """
    folder = model_place(folder)
    try:
        return _load_model(folder, kind)
    except UserError as damage:
        before = folder.with_name("checkpoint.old")
        if folder.name != "checkpoint" or not is_ours(before):
            raise
        try:
            _load_model(before, kind)
        except UserError:
            raise damage from None
        raise UserError(f"{damage}, or name {before}, the checkpoint before") from None


def _load_model(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not (folder / "model.json").is_file():
        raise UserError(f"no {kind} in {folder}: expected model.json and model.safetensors there")
    description = read_json(folder / "model.json")
    _require_sealed(folder / "model.json")
    if not isinstance(description, dict) or not isinstance(description.get("config"), dict):
        raise UserError(f"{folder / 'model.json'} does not describe a model: make it again")
    found = description["config"].get("kind")
    if found != kind:
        raise UserError(f"{folder} holds a {found}, not a {kind}: name the folder of a {kind}")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"no such file: {weights}")
    if sha256(weights) != description.get("sha256"):
        raise UserError(
            f"{weights} does not have the SHA-256 named in model.json: copy or make it again"
        )
    state = load_tensors(weights)
    return (
        {
            name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        },
        description["config"],
    )


def _require_sealed(file: Path) -> None:
    """Compare a file with its hash in the `SHA256SUMS` beside it, where that names it.

    Raises:
        UserError: they differ: whoever changed the order of its classes changed what it says.
    """
    sums = file.with_name(SUMS)
    listed = sums.read_text(encoding="utf-8", errors="replace") if sums.is_file() else ""
    cells = [line.split() for line in listed.splitlines()]
    if any(name == [file.name] and found != sha256(file) for found, *name in filter(None, cells)):
        raise UserError(
            f"{file} is not what the training wrote ({SUMS} beside it): copy it again, or take its "
            "line out there if you changed it on purpose"
        )


class _Undrawn(TorchFunctionMode):
    """Leaves weights as they were allotted: those of a file take their place."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            func = torch.empty
        return func(*args, **(kwargs or {}))


def weightless(make: Callable[[], Module]) -> Module:
    """Make a module whose weights have shapes and take no memory (torch's device "meta").

    Nothing is drawn: on this device a draw costs more than on others, and torch's compiler, which
    takes seconds to load, is loaded for it.

    Examples:
        >>> weightless(lambda: torch.nn.Linear(10**6, 10**6)).weight.shape
        torch.Size([1000000, 1000000])
    """
    with torch.device("meta"), _Undrawn():
        return make()


def fitted(
    make: Callable[[], Module], layers: int, state: Mapping[str, Tensor], source: Path
) -> Module:
    """Make a module with a stored state; it takes no memory before the state is known to fit.

    Its layers draw no weights at first, since the stored ones replace them.

    Args:
        make: makes the module of a stored description, whose sizes may be damaged.
        layers: how many layers it would have.

    Raises:
        UserError: a key is missing, unexpected, or a shape differs; the message names the first.
    """
    if layers > len(state):
        raise UserError(f"{source} is described with {layers} layers and has fewer: copy it again")
    try:
        own = weightless(make).state_dict()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: no model has its sizes ({reason}): copy it again") from None
    require_state(own, state, source)
    with _Undrawn():
        module = make()
    module.load_state_dict(dict(state))
    return module


def require_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Path) -> None:
    """Compare the names and shapes of a state with a module's own.

    Raises:
        UserError: a key is missing, unexpected, or a shape differs; the message names the first.
    """
    for name in own:
        if name not in state:
            raise UserError(f"{source} lacks the weight {name}: it was made for another model")
    for name, tensor in state.items():
        if name not in own:
            raise UserError(f"{source} has an unexpected weight {name}: made for another model")
        if own[name].shape != tensor.shape:
            raise UserError(
                f"{source}: weight {name} has shape {tuple(tensor.shape)}, "
                f"expected {tuple(own[name].shape)}"
            )


def load_state(module: torch.nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load a state dict strictly into a module; raises as `require_state` does."""
    require_state(module.state_dict(), state, source)
    module.load_state_dict(dict(state))

"""One model in parts on several processes (FSDP2), and whole again to be saved.

Each block of a model, a module of its `layers`, is gathered for as long as it computes. All else is
one group, that of the root: weights that are tied stay one weight there, which torch refuses in two
groups. Only the trained model is sharded: references and reward models have no optimizer and stay
whole. Every weight keeps its dtype, a frozen one under adapters, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rrpo.errors import UserError

METHODS = ("hidden",)
"""What is called of a model beside `forward`, and needs its weights."""


def shard(model: nn.Module, device: torch.device) -> None:
    """Spread the weights of a model over all processes, in place.

    A weight that gets a gradient has to get one on every process.

    Raises:
        UserError: the model has no blocks, or torch cannot do it.
    """
    blocks = getattr(model, "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        raise UserError(
            "train.sharding=full is for policies: this model is trained with train.sharding=none"
        )
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    except ImportError:
        raise UserError(
            f"train.sharding=full needs torch 2.6 or newer, and this is {torch.__version__}: "
            "upgrade it, or use train.sharding=none"
        ) from None
    size = torch.distributed.get_world_size()
    mesh = init_device_mesh(device.type, (size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for method in METHODS:
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)


def gathered(tensor: Tensor) -> Tensor:
    """Return a tensor whole; every process has to ask for one that is sharded."""
    full: Any = getattr(tensor, "full_tensor", None)
    found: Tensor = tensor if full is None else full()
    return found


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor that all processes have in parts, as another is."""
    mesh: Any = getattr(like, "device_mesh", None)
    if mesh is None:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placements: Any = like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(like.device), mesh, placements)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Let a sharded model hold plain whole weights, to read them; it cannot compute meanwhile.

    Every process has to enter. A model that is not sharded stays as it is.
    """
    for module in model.modules():
        reshard: Any = getattr(module, "reshard", None)
        if reshard is not None:
            reshard()
    parts: list[tuple[nn.Module, str, nn.Parameter]] = []
    made: dict[int, nn.Parameter] = {}  # of tied weights one
    for module in model.modules():
        for name, part in module.named_parameters(recurse=False, remove_duplicate=False):
            if hasattr(part, "full_tensor"):
                if id(part) not in made:
                    one = gathered(part.detach())
                    made[id(part)] = nn.Parameter(one, requires_grad=part.requires_grad)
                parts.append((module, name, part))
    for module, name, part in parts:
        setattr(module, name, made[id(part)])
    try:
        yield
    finally:
        for module, name, part in parts:
            setattr(module, name, part)

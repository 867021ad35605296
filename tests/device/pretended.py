"""A device that this machine does not have: its tensors mix with no others, as those of a GPU.

They lie in memory and are computed there. What a GPU would refuse is refused: an operation on
tensors of two devices, numpy on the device's own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
COPIES = ("aten::_to_copy", "aten::copy_")
"""What takes tensors of two devices."""
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""What takes indices of the processor, of a tensor of the device."""


class Module(backend_registration._DummyBackendModule):
    """What torch asks a device's module for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Return what autocast may use."""
        return [torch.float16, torch.bfloat16]


def register() -> torch.device:
    """Make the device known to torch in this process, for good; return it."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    torch._C._set_only_lift_cpu_tensors(True)
    return torch.device(NAME, 0)


class Elsewhere(Tensor):
    """A tensor of the device; `inner` is in memory."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def tolist(self) -> Any:
        """Return it as lists, which a GPU's may be, too."""
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refuse as a GPU's does."""
        raise TypeError(f"can't convert {NAME} tensor to numpy: use Tensor.cpu() first")


class Pretending(TorchDispatchMode):
    """Sees what is made on the device, too, such as torch.zeros(3, device=…)."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an operation in memory; refuse it for tensors of two devices."""
    schema = func._schema
    every = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in every if isinstance(one, Elsewhere)]
    if there and mixed(func, every):
        raise RuntimeError(f"tensors of {NAME} and of the processor in {schema.name}")
    asked = kwargs.get("device")
    stays = bool(there) if asked is None else torch.device(asked).type == NAME
    if stays and kwargs.get("generator") is not None:
        raise RuntimeError(f"a generator of the processor draws on {NAME} in {schema.name}")
    given = every[0] if every else None
    args, kwargs = tree_map(
        lambda one: one.inner if isinstance(one, Elsewhere) else one, (args, dict(kwargs))
    )
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    made = func(*args, **kwargs)
    first = schema.arguments[0] if schema.arguments else None
    if first is not None and first.alias_info is not None and first.alias_info.is_write:
        return given if isinstance(made, Tensor) else made
    if not stays:
        return made
    return tree_map(lambda one: Elsewhere(one) if isinstance(one, Tensor) else one, made)


def mixed(func: Any, every: list[Tensor]) -> bool:
    """Say whether an operation takes tensors of the processor that a GPU would refuse.

    A GPU takes single numbers where it computes element by element, and indices.
    """
    name = func._schema.name
    if name in COPIES or (name in INDEXING and isinstance(every[0], Elsewhere)):
        return False
    here = [one for one in every if not isinstance(one, Elsewhere)]
    return any(one.dim() > 0 or torch.Tag.pointwise not in func.tags for one in here)

"""Every source of chance of a process: seeded, read and put back."""

import hashlib
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Seed the global sources of chance: Python's, numpy's and torch's."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def own_chance() -> Iterator[None]:
    """Put the global sources of chance back at the end: whoever calls may draw from them, too.

    That of CUDA is put back where it was in use before.
    """
    python, state, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(state)
        torch.set_rng_state(torchs)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def seed_of(seed: int, process: int) -> int:
    """Return the seed of one of the processes of a training.

    The first has that of the training. Others have one of their own, and not the next number, which
    is another training's: the first eight bytes of SHA-256 over both.

    Examples:
        >>> seed_of(1, 0), seed_of(0, 1) == seed_of(1, 0)
        (1, False)
    """
    return seed if process == 0 else _hashed(f"{seed} {process}".encode())


def _hashed(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1  # torch takes 63 bits


def new_streams(stored: Tensor, generator: torch.Generator, processes: int, process: int) -> None:
    """Seed every source of chance of a process again, for another number of processes than before.

    The seed is the first eight bytes of SHA-256 over the objective's random state that the first
    process has stored, the number of processes and the number of this one: all streams differ, and
    the same checkpoint gives the same.
    """
    text = f"{processes} {process}".encode()
    seed = _hashed(stored.numpy().tobytes() + text)
    seed_all(seed)
    generator.manual_seed(seed)


def random_states(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Read every random state as tensors: the generator's and the global ones.

    The global ones are those of torch on the CPU and on `device`, of numpy and of Python.
    """
    python = random.getstate()
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    states = {
        "generator": generator.get_state(),
        "torch": torch.get_rng_state(),
        "numpy.keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy.position": torch.tensor([position, has_gauss]),
        "numpy.gauss": torch.tensor(gauss, dtype=torch.float64),
        "python.state": torch.tensor(python[1]),
        # NaN stands for None: no second value of a pair of normal draws is waiting.
        "python.gauss": torch.tensor(
            float("nan") if python[2] is None else python[2], dtype=torch.float64
        ),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(
    states: Mapping[str, Tensor], generator: torch.Generator, device: torch.device
) -> None:
    """Set every random state to what `random_states` read."""
    generator.set_state(states["generator"])
    torch.set_rng_state(states["torch"])
    keys = states["numpy.keys"].numpy().astype(np.uint32)
    position, has_gauss = states["numpy.position"].tolist()
    np.random.set_state(("MT19937", keys, position, has_gauss, states["numpy.gauss"].item()))
    gauss = states["python.gauss"].item()
    random.setstate(
        (3, tuple(states["python.state"].tolist()), None if math.isnan(gauss) else gauss)
    )
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)

"""What kind of machine this is, its cores, and how many of them are free.

It is read before torch is loaded.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rrpo.notes import rank

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_cores(seconds: float = 0.05) -> int:
    """Return how many of them nothing else uses just now, at least one; all where none can tell."""
    path = Path("/proc/stat")
    if not path.is_file():
        return cores()

    def spent() -> tuple[int, int]:
        numbers = [int(word) for word in path.read_text().split("\n", 1)[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]  # all, and those idle or waiting for a disk

    before = spent()
    time.sleep(seconds)
    total, idle = (after - first for after, first in zip(spent(), before, strict=True))
    share = idle / total if total else 1.0
    return max(1, min(cores(), round(share * (os.cpu_count() or 1))))


def choose_threads() -> None:
    """Let torch take the free cores, where the user did not choose; say so where some are not.

    Two busy processes that both take every core slow each other many times over. To be called
    before torch is loaded. A resumed run has the threads that it began with.
    """
    if "OMP_NUM_THREADS" in os.environ or (free := free_cores()) == cores():
        return
    os.environ["OMP_NUM_THREADS"] = str(free)
    if rank() > 0:
        return
    line = f"note: torch takes the free cores, {free} of {cores()} (OMP_NUM_THREADS=N: others)"
    print(line, file=sys.stderr)


def machine(device: "torch.device | None" = None) -> str:
    """Say what kind of machine this is, without its name."""
    import torch

    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    many = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{platform.machine()} CPU, {many}, torch {torch.__version__}"

"""What a training process runs on: the processes beside it, its device, its precision."""

import os
import platform

import torch
from accelerate import Accelerator

from rrpo.errors import UserError

LAUNCHED = (
    "TORCHELASTIC_RUN_ID",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_PROCID",
    "FORK_LAUNCHED",
)
"""What accelerate's launchers, torchrun, MPI and Slurm set in the processes that they start."""
RENDEZVOUS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a process needs to find the others."""


def require_launcher() -> None:
    """Refuse an environment that names other processes where no launcher has started them.

    Left over from another program, `WORLD_SIZE` lets a training wait for processes that will never
    come.

    Raises:
        UserError: it says which variables, and the way out.
    """
    if torch.distributed.is_initialized() or any(name in os.environ for name in LAUNCHED):
        return
    size = os.environ.get("WORLD_SIZE", "1")
    alone = size == "1" and os.environ.get("LOCAL_RANK", "-1") == "-1"
    # One process that is told where to find itself is a world of one.
    if alone or (size == "1" and all(name in os.environ for name in RENDEZVOUS)):
        return
    found = [name for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if name in os.environ]
    told = ", ".join(f"{name}={os.environ[name]}" for name in found)
    raise UserError(
        f"the environment says {told}, but no launcher has started other processes to train with: "
        f"unset {' '.join(found)}, or start with accelerate launch or torchrun"
    )


def training_processes() -> Accelerator:
    """Join the processes that train together; by far the most often there is one.

    Raises:
        UserError: what `require_launcher` refuses.
    """
    require_launcher()
    return Accelerator(mixed_precision="no")  # the loop casts and scales by itself


def working_precision(choice: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype to cast to ("auto", "no", "bf16", "fp16" asked for), None for no casting.

    Raises:
        UserError: fp16 where there is no CUDA device.
    """
    cuda = device.type == "cuda"
    if choice == "fp16" and not cuda:
        raise UserError("mixed_precision=fp16 needs a CUDA device: use no or bf16")
    if choice == "auto":
        native = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else None
    return {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[choice]


def machine(device: torch.device | None = None) -> str:
    """Say what kind of machine this is, without its name."""
    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} threads, torch {torch.__version__}"

"""What a training process runs on: the processes beside it, its device, its precision."""

import atexit
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs, PartialState
from accelerate.utils import gather_object, parse_flag_from_env, reduce

from rrpo.chance import own_chance
from rrpo.errors import NotFinite, UserError

Row = TypeVar("Row")
Error = TypeVar("Error", bound=UserError)
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
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: one that is lost ends the run instead of holding it."""
ELSEWHERE = "another process has a number not finite"
"""What the processes say of a step that went wrong in another, which says more."""
_preparing = [False]
"""Whether this process prepares a training by itself, and has not met the others yet."""


class FailedElsewhere(NotFinite):
    """A process has no finite loss for this step, so that none of them goes on with it."""


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


def stays_on_cpu() -> bool:
    """Say whether `ACCELERATE_USE_CPU` asks to compute without a GPU.

    Raises:
        UserError: it says neither yes nor no.
    """
    try:
        return bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    except ValueError:
        raise UserError(
            f"ACCELERATE_USE_CPU is {os.environ['ACCELERATE_USE_CPU']!r}: set it to true or false"
        ) from None


def training_processes() -> Accelerator:
    """Join the processes that train together; by far the most often there is one.

    Raises:
        UserError: what `require_launcher` and `stays_on_cpu` refuse.
    """
    require_launcher()
    stays_on_cpu()
    # The loop casts and scales by itself.
    made = Accelerator(
        mixed_precision="no", kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)]
    )
    if made.num_processes != processes():
        raise UserError(
            f"torchrun has started {processes()} processes, and accelerate sees one, as where it "
            "finds no GPU: set ACCELERATE_USE_CPU=true to train on the CPU, or let it see the GPUs"
        )
    if several():
        atexit.unregister(_part)
        atexit.register(_part)
    return made


def _part() -> None:
    """Leave the other processes before Python ends: threads that still run would abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def several() -> bool:
    """Say whether other processes train with this one."""
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def processes() -> int:
    """Return how many processes train together."""
    return torch.distributed.get_world_size() if several() else 1


def process() -> int:
    """Return the number of this process, 0 for the first."""
    return torch.distributed.get_rank() if several() else 0


def is_main() -> bool:
    """Say whether this process is the one that writes and prints; alone it is."""
    return process() == 0


def every_row(rows: list[Row]) -> list[Row]:
    """Return the rows of all processes, those of the first first."""
    return list(gather_object(rows)) if several() else rows


def of_main(thing: Row) -> Row:
    """Return what the main process has here; all have to ask for it."""
    return every_row([thing])[0]


def told_by_main(error: Error) -> Error:
    """Return an error that all processes have, which the main one alone prints."""
    error.told_elsewhere = not is_main()
    return error


@contextmanager
def preparing() -> Iterator[None]:
    """Prepare a training on each process by itself: one that cannot ends the others, too.

    Until the processes meet (`require_same`, `ending_together`), nothing inside may speak to the
    others. What fails after that is not this one's to tell. At the end the global sources of chance
    are as they were.

    Raises:
        UserError: this process cannot, or another; or what `require_launcher` refuses.
    """
    require_launcher()
    _preparing[0] = True
    try:
        with own_chance():
            yield
    except UserError as error:
        if _preparing[0] and os.environ.get("WORLD_SIZE", "1") != "1":
            training_processes()
            _meet(error)
        raise
    finally:
        _preparing[0] = False


@contextmanager
def ending_together() -> Iterator[None]:
    """Do what may fail on this process; where it has failed on any, all of them end.

    All have to come here, and what is inside may not speak to the others. It ends when all have
    done theirs. An error is printed by the first process that has it.

    Raises:
        UserError: of this process; or that of another, which prints it.
    """
    failed = None
    try:
        yield
    except UserError as error:
        failed = error
    _meet(failed)


def require_same(facts: Mapping[str, Any]) -> None:
    """Compare what the processes are about to do.

    Args:
        facts: of this process, by their names; a hash stands for what is large.

    Raises:
        UserError: on all of them, if a process differs from the first or could not prepare itself;
            it names the first fact that differs, with both values.
    """
    if not several():
        return
    first, *others = _meet(None, facts)
    for rank, other in enumerate(others, 1):
        for name in [*first, *other]:
            values = [str(one.get(name, "absent")) for one in (other, first)]
            if values[0] != values[1]:
                there, here = (re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1…", v) for v in values)
                raise told_by_main(
                    UserError(
                        f"process {rank} has {name} {there} where process 0 has {here}: start all "
                        "with the same command and the same files"
                    )
                )


def _meet(failed: UserError | None, facts: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the facts of every process, or end all of them where one has failed."""
    _preparing[0] = False
    if not several():
        if failed is not None:
            raise failed
        return [facts]
    rows = every_row([(None if failed is None else str(failed), facts)])
    messages = [message for message, _ in rows]
    if failed is not None:
        failed.told_elsewhere = messages.index(str(failed)) != process()
        raise failed
    for rank, message in enumerate(messages):
        if message is not None:
            error = UserError(f"process {rank}: {message}")
            error.told_elsewhere = True
            raise error
    return [one for _, one in rows]


def summed(value: float, failed: bool = False, ended: bool = False) -> float:
    """Return the sum of a value over the processes, all of which have to ask for it.

    Args:
        value: of this process; alone it is the sum.
        failed: this one has no finite loss. Whoever asks for a sum hears of it, whichever it was.
        ended: this one cannot go on, and says why.

    Raises:
        FailedElsewhere: a process of several has failed.
        UserError: one has ended; it is told there.
    """
    if not several():
        return value
    place = PartialState().device
    told = torch.tensor([value, float(failed), float(ended)], dtype=torch.float64, device=place)
    found, failures, ends = reduce(told, "sum").tolist()
    if ends > 0:
        error = UserError("another process cannot go on, and says why")
        error.told_elsewhere = True
        raise error
    if failures > 0:
        raise FailedElsewhere(ELSEWHERE)
    return float(found)


def share(count: float) -> float:
    """Return a count over its mean among the processes: what a mean over these things weighs.

    The loop averages losses over the processes. A part of a loss that is a mean over `count`
    things, which differ in number from process to process, times this is then a mean over all of
    them.

    Raises:
        FailedElsewhere: as of `summed`.
    """
    if not several():
        return 1.0
    every = summed(count)
    return count * processes() / every if every else 0.0


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

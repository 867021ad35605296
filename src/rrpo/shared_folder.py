"""The run folder of several processes: one that all of them see, also from other machines."""

import secrets
import time
from contextlib import suppress
from pathlib import Path

from rrpo.errors import UserError
from rrpo.files import writing
from rrpo.processes import ending_together, every_row, is_main, of_main, several, told_by_main

SEEN_WITHIN = 10.0
"""Seconds that a shared disk has to show what another machine has written."""
ONE = "the run folder must be one folder that all processes see"
"""What is said where it is not."""


def require_one_folder(path: Path) -> None:
    """Check that all processes have one run folder: each looks for what the main one puts there.

    Args:
        path: the folder; that of the main process is there.

    Raises:
        UserError: on all of them, if one does not find it, or it cannot be written.
    """
    if not several():
        return
    path_of_main = of_main(str(path))
    # A name that `run_folder.sweep` removes, should a kill leave it.
    token = path / f".meeting.json.{of_main(secrets.token_hex(4))}"
    try:
        with ending_together(), writing(path):
            if is_main():
                token.touch()
        seen = every_row([appears(token)])
    finally:
        if is_main():
            token.unlink(missing_ok=True)
    if not all(seen):
        raise told_by_main(
            UserError(
                f"process {seen.index(False)} does not see the run folder {path_of_main} of "
                f"process 0: {ONE} (the same --out, on a disk that all machines share)"
            )
        )


def states_of(process: int) -> str:
    """Return the name of the file of a checkpoint with the random states of a process."""
    return f"random-{process}.safetensors"


def require_states(folder: Path, processes: int) -> None:
    """Check that a checkpoint has the random states of every process before it is sealed.

    Raises:
        UserError: one has written them elsewhere.
    """
    for process in range(processes):
        if not appears(folder / states_of(process)):
            raise UserError(
                f"{folder} lacks the random states of process {process}, so this checkpoint is not "
                f"written: {ONE} (on a disk that all machines share)"
            )


def appears(file: Path) -> bool:
    """Say whether a file is there, or comes to be within `SEEN_WITHIN`."""
    end = time.monotonic() + SEEN_WITHIN
    while True:
        with suppress(OSError):
            next(file.parent.iterdir(), None)  # a disk on the network is asked again
            if file.is_file():
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)

"""Stages for the tests of `rrpo.studies.demo.schedule`; a process of its own runs them by name."""

import signal
import sys
import time
from pathlib import Path

from rrpo.errors import UserError
from rrpo.progress import Progress
from rrpo.studies.demo.schedule import Stage, run_stages

FOLDER: list[Path] = []


def prepare(folder: Path) -> None:
    """Remember where to write."""
    FOLDER[:] = [folder]


def do(name: str) -> None:
    """Write a file; "slow…" ends by an interruption alone, and saves; "wrong" is a mistake.

    "counts" says how far it is, "stops" does so and stops early.
    """
    if name == "wrong":
        raise UserError("the mistake")
    path = FOLDER[0] / name
    path.with_suffix(".begun").touch()
    if name.startswith("slow"):
        try:
            while True:
                time.sleep(0.02)
        finally:
            path.with_suffix(".saved").touch()
    if name == "counts":
        with Progress(name, 40) as progress:
            for step in range(1, 41):
                time.sleep(0.05)
                progress.update(step)
    if name == "stops":
        with Progress(name, 1000) as progress:
            for step in range(1, 21):
                time.sleep(0.05)
                progress.update(step)
        time.sleep(2)
    path.write_text(str(time.monotonic_ns()))


if __name__ == "__main__":
    # A shell that runs the tests in the background lets them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stages = [Stage(name, name) for name in ("slow1", "slow2", "never")]
    try:
        run_stages(stages, do, prepare, (Path(sys.argv[1]),), 2, lambda _: None)
    except KeyboardInterrupt:
        print(" ".join(stage.state for stage in stages))
        sys.exit(130)

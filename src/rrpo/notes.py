"""What a command tells beside its results; of several processes the main one alone does."""

import os


def rank() -> int:
    """Return the number that a launcher has given this process, 0 where it is alone.

    It is known before the processes have found each other (`rrpo.processes.process`), and without
    loading torch.
    """
    number, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    several = world.isdecimal() and int(world) > 1
    return int(number) if several and number.isdecimal() else 0


def note(line: str) -> None:
    """Print a line on the standard output, once for all processes."""
    if rank() == 0:
        print(line)

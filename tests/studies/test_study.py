"""Work that studies do side by side."""

import os
import signal
from pathlib import Path

import pytest

from rrpo.errors import UserError
from rrpo.studies.study import side_by_side


def write_process(path: Path) -> None:
    path.write_text(str(os.getpid()))


def fail(_: Path) -> None:
    raise UserError("no figures")


def die(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_is_done_here_or_in_processes(tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / name for name in "abc"]
    side_by_side(write_process, paths, "letters", workers)
    processes = {path.read_text() for path in paths}
    assert (str(os.getpid()) in processes) == (workers == 1)
    assert 1 <= len(processes) <= workers
    side_by_side(write_process, [], "nothing", workers)


@pytest.mark.parametrize(("make", "told"), [(fail, "no figures"), (die, "a training was killed")])
def test_a_failure_is_told(tmp_path: Path, make, told: str) -> None:
    with pytest.raises(UserError, match=told):
        side_by_side(make, [tmp_path / name for name in "abcd"], "letters", 2)

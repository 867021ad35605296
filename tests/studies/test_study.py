"""Work that studies do side by side."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rrpo.errors import TrainingInterrupted, UserError
from rrpo.progress import interruption
from rrpo.studies.study import require_no_run, side_by_side


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


def wait_for_ever(path: Path) -> None:
    write_process(path)
    time.sleep(600)


def study_in_a_process(folder: str) -> None:
    side_by_side(wait_for_ever, [Path(folder) / name for name in "ab"], "letters", 2)


def runs(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc whether a process runs")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_study(tmp_path: Path, number: signal.Signals) -> None:
    tell_and_wait(study_in_a_process, tmp_path, lambda study: os.kill(study, number))


def tell_and_wait(
    study_of: Callable[[str], None], folder: Path, tell: Callable[[int], None]
) -> None:
    """Start a study of two jobs, tell its process to end once both work, and wait for all three."""
    study = multiprocessing.get_context("spawn").Process(target=study_of, args=(str(folder),))
    study.start()
    until = time.monotonic() + 120
    paths = [folder / name for name in "ab"]
    while not all(path.is_file() and path.read_text() for path in paths):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert study.pid is not None
    tell(study.pid)
    children = [int(path.read_text()) for path in paths]
    while any(runs(child) for child in children) or study.is_alive():
        assert time.monotonic() < until
        time.sleep(0.1)


def save_when_told(path: Path) -> None:
    """Take a while to save, as a training that is told to end does."""
    with interruption() as told:
        write_process(path)
        while not told.wait(0.05):
            pass
        time.sleep(0.3 if path.name == "a" else 1.0)
        path.with_suffix(".saved").touch()
    raise TrainingInterrupted("interrupted")


def saving_study_in_a_group(folder: str) -> None:
    os.setsid()
    side_by_side(save_when_told, [Path(folder) / name for name in "ab"], "letters", 2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc whether a process runs")
def test_what_runs_is_saved_where_all_are_told_to_end(tmp_path: Path) -> None:
    """As by `timeout` or Slurm, which signal the parent, its children and what they came from."""
    tell_and_wait(saving_study_in_a_group, tmp_path, lambda study: os.killpg(study, signal.SIGTERM))
    assert {path.name for path in tmp_path.glob("*.saved")} == {"a.saved", "b.saved"}


def test_a_study_is_not_written_into_a_training_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("start: mini\n")
    with pytest.raises(UserError, match="holds a training run: choose another --out"):
        require_no_run(tmp_path)
    require_no_run(tmp_path / "new")

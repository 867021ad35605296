"""Threads are chosen by what is free, unless the user has chosen."""

import os
import subprocess
import sys

import pytest

from rrpo import cores


def test_free_cores_are_between_one_and_all() -> None:
    assert 1 <= cores.free_cores(0.01) <= cores.cores() <= (os.cpu_count() or 1)


def test_a_busy_core_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cores, "cores", lambda: 4)
    monkeypatch.setattr(cores, "free_cores", lambda: 3)
    cores.choose_threads()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "3 of 4" in capsys.readouterr().err


@pytest.mark.parametrize("free", [4, 2])
def test_the_users_number_and_an_idle_machine_are_left_alone(
    free: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 4)
    monkeypatch.setattr(cores, "free_cores", lambda: free)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    if free == 4:
        monkeypatch.delenv("OMP_NUM_THREADS")
    cores.choose_threads()
    assert os.environ.get("OMP_NUM_THREADS") == (None if free == 4 else "2")
    assert capsys.readouterr().err == ""


def test_it_is_chosen_before_torch_is_loaded() -> None:
    script = "import sys, rrpo.cores; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

"""`rrpo demo` takes the cores that it may use, and says so where there is one."""

import os
import subprocess
import sys
from typing import Any

import pytest

from rrpo.cli import main
from rrpo.studies.demo import demo

AFFINITY = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core"
)


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Return how many workers the command asks for."""
    found: list[Any] = []
    monkeypatch.setattr(demo, "run", lambda *settings: found.append(settings[-1]))
    monkeypatch.setattr(sys, "argv", ["rrpo", "demo", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    (workers,) = found
    return int(workers)


@AFFINITY
def test_one_core_works_alone_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert asked(monkeypatch) == 1
    assert "one core: the stages run one after the other" in capsys.readouterr().err
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert asked(monkeypatch) == 2
    assert "2 cores, a stage on each" in capsys.readouterr().err
    assert asked(monkeypatch, "--jobs", "1") == 1
    assert asked(monkeypatch, "--jobs", "8") == 3


@AFFINITY
def test_a_process_that_is_bound_to_one_core_finds_one() -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    program += "from rrpo.cores import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")

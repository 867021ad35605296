"""Stages side by side: their order, mistakes, Ctrl-C, and what a demo's stages need."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import staged_work
from rrpo.errors import UserError
from rrpo.mini.world import World
from rrpo.studies.demo import schedule
from rrpo.studies.demo.schedule import Stage, run_stages
from rrpo.studies.demo.setting import Demo
from rrpo.studies.demo.stages import stages
from rrpo.studies.demo.systems import DEMO, QUICK, is_of, with_systems

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stage_waits_for_what_it_needs_and_none_is_done_twice(
    workers: int, tmp_path: Path
) -> None:
    asked = [Stage("a", "A"), Stage("b", "B"), Stage("c", "C", ("a", "b")), Stage("d", "D")]
    asked[3].state = "done"
    seen: list[tuple[str, str]] = []
    run_stages(
        asked,
        staged_work.do,
        staged_work.prepare,
        (tmp_path,),
        workers,
        lambda stage: seen.append((stage.name, stage.state)),
    )
    ends = {name: int((tmp_path / name).read_text()) for name in "abc"}
    assert ends["c"] > max(ends["a"], ends["b"])
    assert not (tmp_path / "d").exists()
    assert [stage.state for stage in asked] == ["done"] * 4
    assert set(seen) == {(name, state) for name in "abc" for state in ("running", "done")}


def test_what_runs_says_how_long_it_still_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(schedule, "TELL", 0.1)
    seen: list[float | None] = []
    (stage,) = asked = [Stage("counts", "counts")]
    run_stages(
        asked,
        staged_work.do,
        staged_work.prepare,
        (tmp_path,),
        2,
        lambda stage: seen.append(stage.left),
    )
    known = [left for left in seen if left is not None]
    assert known and min(known) >= 0
    assert known[0] >= known[-1]
    assert (seen[0], seen[-1]) == (None, None)
    assert stage.left is None
    assert 0 < stage.cpu < stage.seconds


def test_what_stops_early_is_not_said_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(schedule, "TELL", 0.1)
    seen: list[float | None] = []
    run_stages(
        [Stage("stops", "stops")],
        staged_work.do,
        staged_work.prepare,
        (tmp_path,),
        2,
        lambda stage: seen.append(stage.left),
    )
    *before, last, _ = seen  # the last one is of its end
    assert any(left is not None for left in before)
    assert last is None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_a_stage_is_that_of_all(workers: int, tmp_path: Path) -> None:
    asked = [Stage("wrong", "W"), Stage("a", "A", ("wrong",))]
    with pytest.raises(UserError, match="the mistake"):
        run_stages(asked, staged_work.do, staged_work.prepare, (tmp_path,), workers, lambda _: None)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_of_the_parent_lets_every_stage_save(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, staged_work.__file__, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("*.begun"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        try:
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, error
    assert out.split() == ["waiting", "waiting", "waiting"] or "running" in out
    assert {path.name for path in tmp_path.glob("*.saved")} == {"slow1.saved", "slow2.saved"}
    assert "Traceback" not in error
    assert not (tmp_path / "never.begun").exists()


def test_the_stages_of_a_demo(tmp_path: Path) -> None:
    plan = with_systems(DEMO, ["best_of_8", "diffro", "rrpo"])
    demo = Demo(tmp_path, 0, plan, ("pretrained", "plain", "ls_eam_adv"), World())
    found = {stage.name: stage for stage in stages(demo)}
    assert list(found)[:3] == ["speak reference", "speak base", "train sft"]
    assert found["train sft"].needs == ()
    assert found["train rrpo"].needs == ("reward plain", "reward ls_eam_adv")
    assert found["speak best_of_8"].needs == ("train sft", "reward plain")
    assert found["speak rrpo"].needs == ("train rrpo",)
    assert found["judge base"].needs == ("speak base", "reward plain", "reward ls_eam_adv")
    assert "train best_of_8" not in found
    known: set[str] = set()
    while len(known) < len(found):  # every stage can be reached
        ready = {name for name, stage in found.items() if known.issuperset(stage.needs)}
        assert ready > known
        known |= ready


def test_a_quick_demo_asks_for_one_emotion(tmp_path: Path) -> None:
    rows = Demo(tmp_path, 0, QUICK, (), World()).unseen(QUICK.sentences)
    assert len(rows) == QUICK.sentences
    assert {row.emotion for row in rows} == set(QUICK.emotions)
    assert is_of(with_systems(QUICK, ["rrpo"]), QUICK)
    assert not is_of(DEMO, QUICK)

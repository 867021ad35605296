"""Stages that need each other's results, side by side in processes of one thread each."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rrpo import progress
from rrpo.errors import TrainingInterrupted
from rrpo.studies.children import end_with_parent, new_context, terminated


@dataclass
class Stage:
    """A part of the work.

    Attributes:
        name: what `work` is called with.
        title: what is shown.
        needs: names of stages that must be done first.
        seconds: what it took, over all the times it was taken up.
        cpu: seconds of a core of these.
        left: about how many seconds it still takes, where that is known.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ()
    state: Literal["waiting", "running", "done"] = "waiting"
    seconds: float = 0.0
    cpu: float = 0.0
    left: float | None = None


Work = Callable[[str], None]
Spent = tuple[float, float, bool]
"""Seconds, those of a core, and whether the stage came to its end."""
TELL = 10.0
"""Seconds between two looks at how far the running stages are."""


def run_stages(
    stages: Sequence[Stage],
    work: Work,
    prepare: Callable[..., None],
    arguments: tuple[Any, ...],
    workers: int,
    changed: Callable[[Stage], None],
) -> None:
    """Do every stage that is not done, the first ones first.

    Args:
        work: does a stage by name; like `prepare` a function that a new process can import.
        prepare: called with `arguments` once in every process, before any stage.
        workers: how many stages at once; one does them here, one after the other.
        changed: called after a stage was begun, ended or was interrupted, and now and then while
            it runs.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was running has saved what it can go on from.
    """
    threads = torch.get_num_threads()
    if workers == 1:
        prepare(*arguments)
        torch.set_num_threads(1)
        try:
            for stage in stages:
                if stage.state != "done":
                    _begin(stage, changed)
                    _end(stage, _timed(work, stage.name), changed)
        finally:
            torch.set_num_threads(threads)
        return
    context = new_context()
    reports = context.Queue()
    pool = ProcessPoolExecutor(workers, context, _start, (reports, prepare, arguments))
    running: dict[Future[Spent], Stage] = {}
    with terminated(), progress.following(reports) as left:
        try:
            while any(stage.state != "done" for stage in stages):
                for stage in _ready(stages)[: workers - len(running)]:
                    running[pool.submit(_timed, work, stage.name)] = stage
                    _begin(stage, changed)
                done = wait(running, TELL, return_when=FIRST_COMPLETED).done
                for future in done:
                    _end(running.pop(future), future.result(), changed)
                if not done:
                    for stage in running.values():
                        stage.left = left().get(stage.title)
                    changed(stage)
        except BaseException:
            # What runs finishes its step and saves.
            for child in multiprocessing.active_children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid or 0, signal.SIGINT)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _ready(stages: Sequence[Stage]) -> list[Stage]:
    done = {stage.name for stage in stages if stage.state == "done"}
    return [stage for stage in stages if stage.state == "waiting" and done.issuperset(stage.needs)]


def _begin(stage: Stage, changed: Callable[[Stage], None]) -> None:
    stage.state = "running"
    changed(stage)


def _end(stage: Stage, spent: Spent, changed: Callable[[Stage], None]) -> None:
    seconds, cpu, whole = spent
    stage.seconds, stage.cpu = round(stage.seconds + seconds, 2), round(stage.cpu + cpu, 2)
    stage.left = None
    stage.state = "done" if whole else "waiting"
    changed(stage)
    if not whole:
        raise KeyboardInterrupt


def _timed(work: Work, name: str) -> Spent:
    """Do a stage; return what it took and whether it came to its end."""
    began, used, whole = time.monotonic(), time.process_time(), True
    child = multiprocessing.parent_process() is not None
    try:
        if child:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        work(name)
    except (KeyboardInterrupt, TrainingInterrupted):
        whole = False
    finally:
        if child:  # one that waits for work is ended by its parent, without a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    return time.monotonic() - began, time.process_time() - used, whole


def _start(reports: Any, prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Make a process ready: one thread, its progress told to the parent, and no life without it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    progress.report_to(reports)
    end_with_parent()
    prepare(*arguments)

"""What a long run shows while it goes, and how Ctrl-C ends it."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

LINE_INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""
ETA_AFTER = 0.05
"""Share of the steps after which the time left is shown."""
_reports: list[Any] = []
"""Where a process tells its parent how far it is: a queue, or nothing."""


class Progress:
    """Show how far a run is and the time left: a bar on a terminal, else a line now and then.

    Processes that work side by side (`multiprocessing`) show lines, for bars would be drawn over
    each other, or tell their parent, which draws them (`following`). It writes to the standard
    error stream. `FORCE_COLOR=1` in the environment asks for the bar where there is no terminal.

    Args:
        description: what is running.
        total: how many steps there are.
        done: how many were done before, by an interrupted run.
        visible: False shows nothing, for all processes but the main one.
    """

    def __init__(self, description: str, total: int, done: int = 0, visible: bool = True) -> None:
        self.description, self.total, self.first, self.visible = description, total, done, visible
        self.console = Console(stderr=True)
        self.bar: RichProgress | None = None
        if visible and self.console.is_terminal and parent_process() is None:
            self.bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )

    def __enter__(self) -> "Progress":
        """Start the clock and the bar."""
        self.began = self.last_line = time.monotonic()
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(
                self.description, total=self.total, completed=self.first, note=""
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` steps are done; `note` is a short text such as the loss."""
        if _reports:
            _reports[0].put((self.description, done, self.total))
            return
        if self.bar is not None:
            self.bar.update(self.task, completed=done, note=note)
            return
        now = time.monotonic()
        if not self.visible or (now - self.last_line < LINE_INTERVAL and done < self.total):
            return
        self.last_line = now
        line = f"{self.description}: {done}/{self.total}"
        # What is loaded once is in the first steps: they say nothing of the others.
        if (steps := done - self.first) >= ETA_AFTER * (self.total - self.first):
            left = (now - self.began) / max(1, steps) * (self.total - done)
            line += f", {_duration(left)} left"
        self.console.print(f"{line}, {note}" if note else line, highlight=False, soft_wrap=True)


def report_to(queue: Any) -> None:
    """Let this process tell its parent how far it is, and show nothing itself."""
    _reports[:] = [queue]


@contextlib.contextmanager
def following(reports: Any) -> Iterator[None]:
    """Show what processes report to a queue: a line for each that runs; none without a terminal."""
    console = Console(stderr=True)
    bars = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

    def listen() -> None:
        tasks: dict[str, Any] = {}
        while (found := reports.get()) is not None:
            title, done, total = found
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=total, completed=done)
            bars.update(tasks[title], completed=done, visible=done < total)

    listener = threading.Thread(target=listen, daemon=True)
    with bars:
        listener.start()
        try:
            yield
        finally:
            reports.put(None)
            listener.join(timeout=5)


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """Let the first Ctrl-C or SIGTERM only set an event, so that a step ends whole.

    The second one acts.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may handle signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        event.set()
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield event
    finally:
        restore()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""What a long run shows and writes while it goes, and how Ctrl-C ends it.

Figures go to `metrics.jsonl` and to a tracker such as tensorboard.
"""

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from rrpo.errors import UserError
from rrpo.files import cannot_write, write_text
from rrpo.notes import rank

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


METRICS = "metrics.jsonl"
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
        visible: False shows nothing; of several processes all but the main one show nothing anyway.
    """

    def __init__(self, description: str, total: int, done: int = 0, visible: bool = True) -> None:
        self.description, self.total, self.first = description, total, done
        self.visible = visible and rank() == 0
        self.console = Console(stderr=True)
        self.bar: RichProgress | None = None
        if self.visible and self.console.is_terminal and parent_process() is None:
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
        """Leave the bar as it stands; a parent shows none of what is over, if it stopped early."""
        if _reports:
            _reports[0].put((self.description, self.total, self.total))
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def report_to(queue: Any) -> None:
    """Let this process tell its parent how far it is, and show nothing itself."""
    _reports[:] = [queue]


@contextlib.contextmanager
def following(reports: Any) -> Iterator[Callable[[], dict[str, float]]]:
    """Show what processes report to a queue: a line for each that runs; none without a terminal.

    Yields:
        a function that returns the seconds left of what runs, by its description.
    """
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

    def left() -> dict[str, float]:
        known = {task.description: task.time_remaining for task in bars.tasks if not task.finished}
        return {title: seconds for title, seconds in known.items() if seconds is not None}

    listener = threading.Thread(target=listen, daemon=True)
    with bars:
        listener.start()
        try:
            yield left
        finally:
            reports.put(None)
            listener.join(timeout=5)


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """Let the first Ctrl-C or SIGTERM only set an event, so that a step ends whole.

    A second Ctrl-C acts. Further SIGTERMs do not: whoever ends several processes may tell each of
    them and then all.
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
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, handle)
    try:
        yield event
    finally:
        restore()


def require_tracker(report_to: str) -> None:
    """Refuse a place to report to whose package is not installed.

    Raises:
        UserError: it is not.
    """
    if report_to != "none" and find_spec(report_to) is None:
        raise UserError(
            f"train.report_to={report_to} needs the package {report_to}: pip install {report_to}, "
            "or report to none; metrics.jsonl is written in any case"
        )


class Metrics:
    """Write one JSON line per step to `metrics.jsonl`, and the same scalars for a tracker.

    Args:
        folder: the run's folder.
        step: the step to continue after; later lines of an interrupted run are cut off.
        report_to: "tensorboard", into the run's folder; "wandb" or "trackio", each into the project
            rrpo as a run of the folder's name; or "none".
        active: False writes nothing, for all processes but the main one.
    """

    def __init__(self, folder: Path, step: int, report_to: str, active: bool = True) -> None:
        self.folder = folder
        self.stream: TextIO | None = None
        self.tracker: GeneralTracker | None = None
        if not active:
            return
        restore_metrics(folder, step)
        self.stream = (folder / METRICS).open("a", encoding="utf-8")
        # Imported here: it takes longer than the rest and only a training run needs it.
        from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

        if report_to == "tensorboard":
            first = step + 1 if step > 0 else 0
            self.tracker = TensorBoardTracker("tensorboard", folder, purge_step=first)
        elif report_to == "wandb":
            self.tracker = WandBTracker("rrpo", name=folder.name, dir=str(folder))
        elif report_to == "trackio":
            self.tracker = TrackioTracker("rrpo", name=folder.name)
        if self.tracker is not None:
            self.tracker.start()

    def __enter__(self) -> "Metrics":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both; a full disk that has ended the run already is not told again."""
        if self.stream is None:
            return
        failures = []
        finish = () if self.tracker is None else (self.tracker.finish,)
        for close in (self.stream.close, *finish):
            try:
                close()
            except OSError as failure:
                failures.append(failure)
        if failures and error is None:
            raise cannot_write(self.folder, failures[0])

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record: "step" and figures, or a dictionary of figures; NaN becomes null.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        if self.stream is None:
            return
        clean = {key: finite(value) for key, value in record.items()}
        scalars: dict[str, Any] = {}
        for key, value in clean.items():
            inner = value if isinstance(value, dict) else {}
            scalars |= {f"{key}/{name}": figure for name, figure in inner.items()} or {key: value}
        step = scalars.pop("step")
        scalars = {name: one for name, one in scalars.items() if isinstance(one, int | float)}
        try:
            self.stream.write(json.dumps(clean, allow_nan=False) + "\n")
            self.stream.flush()
            if self.tracker is not None:
                # Not through accelerate's own for the others: its first one for trackio, which
                # is supported, drops the step.
                tensorboard = self.tracker.name == "tensorboard"
                log = self.tracker.log if tensorboard else self.tracker.tracker.log
                log(scalars, step=step)
        except OSError as error:
            raise cannot_write(self.folder, error) from None


def restore_metrics(folder: Path, step: int) -> None:
    """Bring `metrics.jsonl` of a run to what it was when the checkpoint of a step was written.

    The checkpoint holds a copy; one of before that is cut after the step.
    """
    path, kept = folder / METRICS, folder / "checkpoint" / METRICS
    if kept.is_file():
        text = kept.read_text(encoding="utf-8")
    else:
        records = [record for record in read_metrics(path) if step > 0 and record["step"] <= step]
        text = "".join(f"{json.dumps(record)}\n" for record in records)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of `metrics.jsonl`; a line cut short by a kill ends the reading."""
    records: list[dict[str, Any]] = []
    if path.is_file():
        with contextlib.suppress(json.JSONDecodeError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                records.append(json.loads(line))
    return records


def finite(value: Any) -> Any:
    """Return the value with NaN and infinity, which JSON cannot hold, as None."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

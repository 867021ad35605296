"""What studies share: their command and machine, the figures, page and picture they leave."""

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rrpo.cores import cores, machine
from rrpo.errors import TrainingInterrupted, UserError
from rrpo.files import atomic_path, write_json, write_text
from rrpo.progress import Progress
from rrpo.studies.children import end_with_parent, new_context, terminated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Job = TypeVar("Job")


def begin(command: str) -> dict[str, Any]:
    """Return what the figures of a study begin with: its command and the machine."""
    return {"command": command, "machine": machine()}


def require_no_run(out: Path) -> None:
    """Refuse the folder of a training run, whose results and page a study would write over.

    Raises:
        UserError: it is one.
    """
    if (out / "config.yaml").is_file():
        raise UserError(f"{out} holds a training run: choose another --out")


def finish(out: Path, figures: Mapping[str, Any], page: str, name: str = "study") -> Path:
    """Write the figures of a study and its page; return where the page is."""
    write_json(out / f"{name}.json", figures)
    write_text(out / f"{name}.md", page)
    return out / f"{name}.md"


def publish(page: Path, folder: Path | None, figures: bool = False) -> Path:
    """Copy a page and its picture into a folder, where one is named; say where to read it.

    Args:
        figures: also copy its JSON.
    """
    if folder is None:
        return page
    for path in (page, page.with_suffix(".svg"), *([page.with_suffix(".json")] * figures)):
        write_text(folder / path.name, path.read_text(encoding="utf-8"))
    return folder / page.name


def side_by_side(
    make: Callable[[Job], object], asked: Sequence[Job], name: str, workers: int | None = None
) -> None:
    """Do each of what is asked, each in a process; the first that fails ends the others.

    So do Ctrl-C and SIGTERM: trainings save what they can go on from.

    Args:
        make: does one; of a module, as another process imports it.
        asked: what to do, each with all that `make` needs.
        name: what the progress says.
        workers: processes at once, by default as many as there are cores; 1: in this process, one
            after the other.

    Raises:
        UserError: a process was killed.
    """
    workers = workers or cores()
    if workers == 1 or not asked:
        for one in asked:
            make(one)
        return
    pool = ProcessPoolExecutor(min(len(asked), workers), new_context(), end_with_parent)
    with terminated(), Progress(name, len(asked)) as progress, pool:
        waiting = [pool.submit(_do, make, one) for one in asked]
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                done.result()
                progress.update(number)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a training was killed, perhaps for want of memory: free some and call the "
                    "study again, it goes on where it stood"
                ) from None
            raise


def _do(make: Callable[[Job], object], one: Job) -> None:
    """Do one thing in a process, which ends where a training was told to save and end.

    Otherwise it would wait for more work, and whoever waits for its end with it.
    """
    try:
        make(one)
    except TrainingInterrupted:
        os._exit(1)


def new_picture(width: float, height: float) -> "Figure":
    """Return an empty picture, white and without a window; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    return picture


def save_picture(picture: "Figure", path: Path) -> None:
    """Write a picture atomically; the suffix chooses the format, svg or png."""
    suffix = path.suffix.lstrip(".") or "png"
    with atomic_path(path) as temporary:
        picture.savefig(
            temporary, format=suffix, dpi=160, metadata={"Date": None} if suffix == "svg" else None
        )

"""What studies share: their command and machine, the figures, page and picture they leave."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrpo.checkpoint import atomic_path, write_json, write_text
from rrpo.processes import machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def begin(command: str) -> dict[str, Any]:
    """Return what the figures of a study begin with: its command and the machine."""
    return {"command": command, "machine": machine()}


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


def folded(summary: str, lines: list[str]) -> list[str]:
    """Return lines of markdown that a reader opens."""
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]

"""The files of the listener's and the administrator's page, and what a newcomer is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rrpo.listen.design import Design
from rrpo.report.templates import TEMPLATES, templates

FILES = Path(__file__).parent
SHARED = ("sound.js", "marks.js", "questions.js", "lasting.js", "parts.js", "listen.js")
"""The scripts of the listener's page, with a server and without."""
OF_A_SERVER = ("server.js", "administrator.js")
OF_A_FOLDER = ("static.js",)
KINDS = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}


def html(name: str, **values: Any) -> str:
    """Return a page; it holds nothing of a test."""
    return templates(FILES).get_template(name).render(**values)


def files(scripts: Sequence[str]) -> dict[str, str]:
    """Return the style and these scripts by their names."""
    sheets = (TEMPLATES / "style.css", FILES / "listen.css")
    style = "".join(path.read_text(encoding="utf-8") for path in sheets)
    return {"style.css": style, **{name: _script(name) for name in scripts}}


def _script(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def kind_of(name: str) -> str:
    """Return the media type of a file."""
    return KINDS[Path(name).suffix]


def about(design: Design, identity: str, invited: bool) -> dict[str, Any]:
    """Return what somebody is told who has not begun.

    Args:
        design: of the test.
        identity: the design's SHA-256, by which a browser tells one test from another.
        invited: whether only listeners with a link of their own are taken.
    """
    return {
        "design": identity,
        "title": design.title,
        "instructions": design.instructions,
        "panel": design.panel,
        "length": max(map(len, design.orders)),
        "invited": invited,
    }

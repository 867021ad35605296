"""The page of a listening test for any web host: no server of ours, a results file at the end."""

import json
import shutil
from pathlib import Path

from rrpo.checkpoint import atomic_path, sha256, write_text
from rrpo.errors import UserError
from rrpo.listen import page
from rrpo.listen.design import DESIGN, pages_of, read_design, sound_file
from rrpo.listen.links import completion_url

TEST = "test.json"
"""What the page reads: all that any listener may know."""


def write_static(test: Path, out: Path) -> None:
    """Write a test as a folder for a web host.

    Args:
        test: the folder of the test.
        out: the folder to write: a new one, an empty one, or one that was written by this.

    Raises:
        UserError: the test has no design, lacks a sound, or the folder holds something else.
    """
    design = read_design(test)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for --static")
    if out.is_dir() and any(out.iterdir()) and not (out / TEST).is_file():
        raise UserError(f"{out} is not empty: name a new folder for --static")
    if out.resolve() == test.resolve():
        raise UserError(f"{out} is the test’s own folder: name another for --static")
    orders = [pages_of(design, order) for order in range(len(design.orders))]
    pages = {one["id"]: one for order in orders for one in order["pages"]}
    content = {
        **page.about(design, sha256(test / DESIGN), invited=False),
        "url": completion_url(design),
        "questions": list({q["name"]: q for order in orders for q in order["questions"]}.values()),
        "pages": pages,
        "orders": [[one["id"] for one in order["pages"]] for order in orders],
    }
    files = page.files([*page.SHARED, *page.OF_A_FOLDER])
    for name in sorted({sound["id"] for one in pages.values() for sound in one["sounds"]}):
        _copy(sound_file(test, name), sound_file(out, name))
    for name, text in files.items():
        write_text(out / name, text)
    write_text(out / TEST, json.dumps(content, allow_nan=False) + "\n")
    write_text(out / "index.html", page.html("listen.html", static=True))


def _copy(sound: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(sound, temporary)

"""The page of a listening test for any web host: no server of ours, a results file at the end."""

import json
import shutil
from pathlib import Path
from typing import Any

from rrpo.errors import UserError
from rrpo.files import atomic_path, sha256, write_text
from rrpo.listen import page
from rrpo.listen.design import DESIGN, SOUNDS, Design, pages_of, read_design, sound_file
from rrpo.listen.links import completion_url

TEST, INDEX = "test.json", "index.html"
"""What the page reads, all that any listener may know; and the page."""
FORMAT = 1


def write_static(test: Path, out: Path) -> None:
    """Write a test as a folder for a web host.

    Args:
        test: the folder of the test.
        out: the folder to write: a new one, an empty one, or one that was written by this from
            the same test; of that, files that the page no longer has are removed.

    Raises:
        UserError: the test has no design, lacks a sound, or needs a server's completion code; or
            the folder holds something else. Then nothing was touched.
    """
    design = read_design(test)
    if "{code}" in (design.completion_url or ""):
        raise UserError(
            f"{test} sends listeners to {design.completion_url}, and only a server knows the "
            "code: serve the test, or build it with an address that holds the panel's own code"
        )
    identity = sha256(test / DESIGN)
    before = _written_before(test, out, identity)
    orders = [pages_of(design, order) for order in range(len(design.orders))]
    pages = {one["id"]: one for order in orders for one in order["pages"]}
    texts = page.files([*page.SHARED, *page.OF_A_FOLDER])
    sounds = sorted({sound["id"] for one in pages.values() for sound in one["sounds"]})
    names = [INDEX, TEST, *texts, *(f"{SOUNDS}/{name}.wav" for name in sounds)]
    # First of all, so that a folder that was written in part is known for ours.
    write_text(out / TEST, _content(design, identity, orders, pages, names))
    for name in sounds:
        _copy(sound_file(test, name), sound_file(out, name))
    for name, text in texts.items():
        write_text(out / name, text)
    write_text(out / INDEX, page.html("listen.html", static=True))
    for name in before - set(names):
        (out / name).unlink()


def _content(
    design: Design,
    identity: str,
    orders: list[dict[str, Any]],
    pages: dict[str, Any],
    names: list[str],
) -> str:
    content = {
        "format": FORMAT,
        **page.about(design, identity, invited=False),
        "url": completion_url(design, code=""),
        "questions": list({q["name"]: q for order in orders for q in order["questions"]}.values()),
        "pages": pages,
        "orders": [[one["id"] for one in order["pages"]] for order in orders],
        "files": names,
    }
    return json.dumps(content, allow_nan=False) + "\n"


def _written_before(test: Path, out: Path, identity: str) -> set[str]:
    """Return the names of the files in a folder, all of them an earlier page's of this test.

    Raises:
        UserError: the folder is within the test, or holds anything else.
    """
    if out.resolve().is_relative_to(test.resolve()):
        raise UserError(f"{out} is in the test’s own folder: name one elsewhere for --static")
    if not out.exists():
        return set()
    if not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for --static")
    there = {
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if not any(out.iterdir()):
        return set()
    found = _read(out / TEST)
    if found is None:
        first = min(path.name for path in out.iterdir())
        raise UserError(
            f"{out} holds {first} and no page of a listening test: name a new folder for --static"
        )
    if found["design"] != identity:
        raise UserError(
            f"{out} holds the page of another test or design, {str(found.get('title'))[:64]!r}: "
            "name a new folder for --static"
        )
    foreign = sorted(there - set(found["files"]))
    if foreign:
        raise UserError(
            f"{out} holds {foreign[0]}, which is not of the page: move it away, or name a new "
            "folder for --static"
        )
    return there


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a page of ours reads; None: this is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = (
        isinstance(found, dict)
        and found.get("format") == FORMAT
        and isinstance(found.get("design"), str)
        and isinstance(found.get("files"), list)
        and all(isinstance(name, str) for name in found["files"])
    )
    return found if ours else None


def _copy(sound: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(sound, temporary)

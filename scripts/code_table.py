"""How large the code is, and how many files one DiffRO run passes, at two revisions.

    python scripts/code_table.py ea05f3e HEAD

Each revision is unpacked into a temporary folder and runs three steps of `rrpo policy diffro` on
the bundled world, with every call into the package recorded. A file is passed where one of its
functions is called; what runs only because a module is imported does not count. The files of a step
are those passed from one call of the loss to the next.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("train.steps=3", "train.warmup_steps=0", "diffro.batch_size=2")
LONG_FILE, LONG_FUNCTION = 350, 60
SIZES: dict[str, Callable[[dict[str, Any]], str]] = {
    "files that the command passes": lambda found: str(len(found["command"])),
    "files that a step passes": lambda found: str(len(found["step"])),
    "lines of src/rrpo": lambda found: f"{found['lines']:,}",
    "longest file": lambda found: "{} lines, {}".format(*found["file"]),
    f"files over {LONG_FILE} lines": lambda found: str(found["long_files"]),
    "longest function": lambda found: "{} lines, {}".format(*found["function"]),
    f"functions over {LONG_FUNCTION} lines": lambda found: str(found["long_functions"]),
    "words of the README": lambda found: f"{found['words']:,}",
}


def sizes(folder: Path) -> dict[str, Any]:
    """Measure an unpacked revision: lines of files and functions, words of its front page."""
    package = folder / "src" / "rrpo"
    files, functions = [], []
    for path in sorted(package.rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(package))
        files.append((len(text.splitlines()), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append((length, f"{name}: {node.name}"))
    return {
        "lines": sum(length for length, _ in files),
        "file": max(files),
        "long_files": sum(length > LONG_FILE for length, _ in files),
        "function": max(functions),
        "long_functions": sum(length > LONG_FUNCTION for length, _ in functions),
        "words": len((folder / "README.md").read_text(encoding="utf-8").split()),
    }


class Recorder:
    """Records which files of a package are passed, in all and between two calls of the loss."""

    def __init__(self, package: Path) -> None:
        self.prefix = f"{package}{os.sep}"
        self.command: set[str] = set()
        self.step: set[str] = set()
        self.losses = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Take note of a call."""
        place = frame.f_code.co_filename
        if event != "call" or not place.startswith(self.prefix) or not place.endswith(".py"):
            return
        name = place.removeprefix(self.prefix)
        self.losses += name == "objectives/diffro.py" and frame.f_code.co_name == "loss"
        into = [self.command] if self.losses != 2 else [self.command, self.step]
        if any(name not in one for one in into) and not self.imported(frame):
            for one in into:
                one.add(name)

    def imported(self, frame: FrameType | None) -> bool:
        """Return whether a frame runs because a module of the package is being imported."""
        while frame is not None:
            code = frame.f_code
            if code.co_name == "<module>" and code.co_filename.startswith(self.prefix):
                return True
            frame = frame.f_back
        return False


def trace(source: Path, out: Path) -> dict[str, list[str]]:
    """Run the command in this process and return the files that it passes."""
    sys.path.insert(0, str(source))
    from rrpo.cli import main

    recorder = Recorder(source / "rrpo")
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["policy", "diffro", "--from", "mini", "--reward", "mini", "--out", str(out)]
    sys.argv = ["rrpo", *words, *options]
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.setprofile(None)
    return {"command": sorted(recorder.command), "step": sorted(recorder.step)}


def measured(revision: str) -> dict[str, Any]:
    """Unpack a revision, measure it and record a run of it."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        archive = subprocess.run(
            ["git", "archive", revision], cwd=ROOT, capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        command = [sys.executable, __file__, "--trace", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
        subprocess.run(command, env=environment, stdout=sys.stderr, check=True)
        passed = json.loads((folder / "passed.json").read_text(encoding="utf-8"))
        return {**sizes(folder), **passed}


def main() -> None:
    """Print the table, then the files of a step at the second revision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revisions", nargs="*", default=["HEAD"], help="one or two, as of git")
    parser.add_argument("--trace", type=Path, help="for itself: record a run in this folder")
    given = parser.parse_args()
    if given.trace:
        passed = trace(given.trace / "src", given.trace / "run")
        (given.trace / "passed.json").write_text(json.dumps(passed), encoding="utf-8")
        return
    found = {revision: measured(revision) for revision in given.revisions}
    print("| | " + " | ".join(found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for title, shown in SIZES.items():
        print(f"| {title} | " + " | ".join(shown(one) for one in found.values()) + " |")
    for revision, one in found.items():
        for part in ("step", "command"):
            print(f"\nFiles of the {part}, {revision}: {', '.join(one[part])}")


if __name__ == "__main__":
    main()

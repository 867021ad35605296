"""The layout that CONTRIBUTING.md describes is that of the code."""

import ast
import re
from pathlib import Path

import rrpo
from places import ROOT

PACKAGE = Path(rrpo.__file__).parent


def layers() -> list[list[str]]:
    """Return the lines of the chart, the upper first."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    chart = text.split("Imports run downward only", 1)[1].split("\n\n")[1]
    return [re.findall(r"\w+", line) for line in chart.splitlines()]


def imports() -> set[tuple[str, str]]:
    """Return (importer, imported) of the package's parts, imports inside functions included."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "__init__.py":
            continue  # it offers the API
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                others = {name.split(".")[1] for name in names if name.startswith("rrpo.")}
                found |= {(part, other) for other in others - {part, "__version__"}}
    return found


def test_every_part_has_a_place_in_the_chart() -> None:
    places = [name for layer in layers() for name in layer]
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert sorted(places) == sorted(parts - {"__init__", "__pycache__", "py"})


def test_imports_run_downward() -> None:
    height = {name: number for number, layer in enumerate(layers()) for name in layer}
    upward = {(one, other) for one, other in imports() if height[one] >= height[other]}
    assert not upward

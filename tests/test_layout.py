"""The layout and the walk that CONTRIBUTING.md describes are those of the code."""

import ast
import re
from pathlib import Path

import pytest

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


def test_no_file_and_no_function_is_long() -> None:
    """350 lines and 60, as CONTRIBUTING.md says."""
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "lab").rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def test_the_package_needs_nothing_of_the_lab() -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if re.search("from rrpo_(world|bench)", path.read_text(encoding="utf-8"))
    ]
    assert found == ["cli/__init__.py", "cli/bench.py", "cli/study.py"]  # which start it


def walk() -> list[tuple[str, str]]:
    """Return the rows (file, function) of the walk that follows one batch."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = text.split("## Follow one batch", 1)[1].split("\n## ")[0]
    return re.findall(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", part, flags=re.MULTILINE)


@pytest.mark.parametrize(("file", "function"), walk())
def test_the_walk_names_what_is_there(file: str, function: str) -> None:
    body = ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body
    for name in function.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        ]
        assert found, f"{file} has no {function}"
        body = found[0].body


def test_the_walk_has_its_rows() -> None:
    assert len(walk()) >= 20


def private_names(path: Path) -> set[str]:
    """Return the private names of the package that a test file imports, reads or replaces."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = [
        alias
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "rrpo"
        for alias in node.names
    ]
    modules = {alias.asname or alias.name for alias in taken}
    found = {alias.name for alias in taken}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id in modules else set()
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            found |= {str(one.value) for one in node.args if isinstance(one, ast.Constant)}
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


@pytest.mark.slow
def test_no_test_needs_a_private_name() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert len(paths) > 50
    found = {str(path.relative_to(ROOT)): private_names(path) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}

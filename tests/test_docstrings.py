"""Examples in docstrings run and print what they say."""

import doctest
import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import rrpo
import rrpo_bench
import rrpo_studies
import rrpo_world
from rrpo import judging

pytestmark = pytest.mark.slow

PACKAGES = [
    Path(package.__file__).parent for package in (rrpo, rrpo_world, rrpo_studies, rrpo_bench)
]
MODULES = sorted(
    ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in package.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_judges: None,  # noqa: ARG001 - `rrpo.judging` evaluates a policy
) -> None:
    monkeypatch.chdir(tmp_path)
    # To put a sound into all of the bundled speech takes ten times as long.
    monkeypatch.setattr("rrpo.detector_training.ENOUGH", 40)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: folder.name)
def test_names_in_docstrings_are_there(package: Path) -> None:
    """Names with their module, such as `rrpo.relax.relax`."""
    told = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"`(rrpo(?:_\w+)?(?:\.\w+)+)`", path.read_text(encoding="utf-8"))
    }
    assert [name for name in sorted(told) if not is_there(name.split("."))] == []


def is_there(parts: Sequence[str]) -> bool:
    """Whether a module has what is named: the longest name that can be imported is the module."""
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        break
    else:
        return False
    for part in parts[count:]:
        fields = getattr(found, "__dataclass_fields__", {})
        if not (hasattr(found, part) or part in fields):
            return False
        found = getattr(found, part, None)
    return True


def test_the_api_is_offered_by_the_package() -> None:
    for name in rrpo.__all__:
        assert callable(getattr(rrpo, name))
    # A package that can be called shows what the function takes.
    assert inspect.signature(rrpo.evaluate) == inspect.signature(judging.evaluate)
    with pytest.raises(AttributeError, match="no attribute 'load_polcy'"):
        rrpo.load_polcy  # noqa: B018

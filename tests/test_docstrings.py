"""Examples in docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import rrpo
import rrpo_bench
import rrpo_world

pytestmark = pytest.mark.slow

PACKAGES = [Path(package.__file__).parent for package in (rrpo, rrpo_world, rrpo_bench)]
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
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_api_is_offered_by_the_package() -> None:
    for name in rrpo.__all__:
        assert callable(getattr(rrpo, name))
    with pytest.raises(AttributeError, match="no attribute 'load_polcy'"):
        rrpo.load_polcy  # noqa: B018

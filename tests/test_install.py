"""`scripts/install.sh` installs with uv, from the sources that pip knows, and else with pip."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from places import ROOT

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
SOURCES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_TORCH_BACKEND")


def program(path: Path, code: int = 0) -> None:
    """Write a program that tells its name, its words and what it is told of sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = " ".join(f"{name}=${{{name}-}}" for name in SOURCES)
    path.write_text(f'#!/bin/sh\necho "{path.name} $* {told}"\nexit {code}\n')
    path.chmod(0o755)


def install(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Install `thing` in a folder whose environment is there."""
    program(folder / ".venv" / "bin" / "python")
    program(folder / ".venv" / "bin" / "pip")
    mine = {name: text for name, text in os.environ.items() if name[:3] not in ("PIP", "UV_")}
    path = os.pathsep.join([str(folder / "bin"), "/usr/bin", "/bin"])
    return subprocess.run(
        ["sh", str(ROOT / "scripts" / "install.sh"), "thing"],
        cwd=folder,
        env=mine | {"PATH": path} | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_uv_of_the_path_takes_the_build_of_torch_for_this_machine(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "uv")
    done = install(tmp_path)
    assert done.stdout.startswith("uv pip install --quiet --python .venv/bin/python thing")
    assert done.stdout.rstrip().endswith("UV_TORCH_BACKEND=auto")


def test_uv_is_told_the_sources_of_pip_and_has_torch_from_there(tmp_path: Path) -> None:
    program(tmp_path / ".venv" / "bin" / "uv")
    done = install(tmp_path, PIP_FIND_LINKS="/a /b", PIP_INDEX_URL="here")
    told = "UV_DEFAULT_INDEX=here UV_INDEX= UV_FIND_LINKS=/a,/b UV_TORCH_BACKEND="
    assert done.stdout.rstrip().endswith(told)


def test_pip_takes_the_place_of_uv(tmp_path: Path) -> None:
    assert install(tmp_path).stdout.startswith("pip install --no-compile")
    program(tmp_path / "bin" / "uv", code=1)
    failed = install(tmp_path)
    assert [line.split()[0] for line in failed.stdout.splitlines()] == ["uv", "pip"]
    assert failed.stderr == "note: uv could not install it: pip tries\n"
    assert install(tmp_path, NO_UV="1").stdout.startswith("pip install --no-compile")


def test_a_failure_is_told_by_the_exit_code(tmp_path: Path) -> None:
    missing = subprocess.run(
        ["sh", str(ROOT / "scripts" / "install.sh"), "thing"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "nowhere")},
        capture_output=True,
        check=False,
    )
    assert missing.returncode != 0
    assert not (tmp_path / ".venv").exists()

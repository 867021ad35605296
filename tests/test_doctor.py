"""`rrpo doctor` says what is there, and ends with code 2 where the core is not whole."""

import importlib.metadata
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from places import ROOT
from rrpo import doctor
from rrpo.cli import main
from rrpo.evaluate import quality
from rrpo.mini import world


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["rrpo", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_whole_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "OMP_NUM_THREADS=N" in shown
    assert str(Path.home()) not in shown


@pytest.mark.parametrize("compiled", [True, False])
def test_modules_that_are_compiled_at_every_start_are_told(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.pyc"
    if compiled:
        kept.touch()
    monkeypatch.setattr(doctor.importlib.util, "cache_from_source", lambda _: str(kept))
    shown = doctor.lines(doctor.examine())
    assert any("PYTHONDONTWRITEBYTECODE" in line for line in shown) != compiled
    assert max(map(len, shown)) <= 80


def test_json_holds_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == []
    assert found["libraries"]["torch"] == importlib.metadata.version("torch")
    assert found["assets"] == len(json.loads((world.ASSETS / world.HASHES).read_text()))


def test_each_extra_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    assert extras - set(doctor.FOR_DEVELOPERS) == set(doctor.GIVES) - {"distillmos"}
    assert quality.INSTALL["distillmos"] == doctor.DISTILLMOS


def test_what_is_missing_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [f'nothing-{name}>=1; extra == "{name}"' for name in doctor.GIVES]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["torch", *asked])
    found = doctor.examine()
    assert found["broken"] == []
    assert found["parts"]["lora"] == {
        "missing": ["nothing-lora"],
        "install": "pip install 'rrpo[lora]'",
    }
    lines = doctor.lines(found)
    assert any("low-rank adapters: pip install 'rrpo[lora]'" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_core_that_is_too_old_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["torch>=99", "numpy"])
    assert run(monkeypatch) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "pip install 'torch>=99'" in complaint


@pytest.mark.parametrize("removed", [True, False])
def test_an_asset_that_differs_is_broken(
    removed: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "world"
    shutil.copytree(world.ASSETS, folder)
    damaged = world.World(folder)
    monkeypatch.setattr(world, "World", lambda: damaged)
    weights = folder / "judge" / "model.safetensors"
    if removed:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(monkeypatch, "--json") == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["broken"]
    assert printed.err.count("\n") == 1
    assert "judge/model.safetensors" in printed.err


def test_a_library_that_cannot_be_loaded_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> bool:
        raise RuntimeError(f"{Path.home()}/libcuda.so:\nno such symbol")

    monkeypatch.setattr(torch.cuda, "is_available", broken)
    assert run(monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: ~/libcuda.so: no such symbol\n"
    assert re.search("bundled assets: [1-9]", printed.out)

"""What this installation is made of, and whether it is whole: `rrpo doctor`."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
import textwrap
from pathlib import Path
from typing import Any

import rrpo
from rrpo.cores import cores
from rrpo.errors import UserError

PACKAGE = Path(rrpo.__file__).parent
GIVES = {
    "mini": "the mini world's renderer",
    "mandarin": "its Mandarin voice",
    "quality": "DNSMOS and PLCMOS",
    "distillmos": "DistillMOS",
    "content": "a recogniser, for word error",
    "cosyvoice": "CosyVoice's tokenizers",
    "speech": "a tokenizer for real speech",
    "lora": "low-rank adapters",
    "play": "the page of rrpo play",
    "listen": "listening tests",
    "vllm": "rollouts drawn by vLLM",
}
"""What each optional part gives."""
FOR_DEVELOPERS = ("dev", "docs")
DISTILLMOS = "pip install --no-deps distillmos xls-r-sqa"
"""Of no extra: its own dependencies are large and not needed."""
WIDTH = 80
NOT_COMPILED = [
    "slow start: every process compiles torch's modules again, for seconds: unset",
    "  PYTHONDONTWRITEBYTECODE, or call python -m compileall on site-packages once",
]
"""Containers often forbid that compiled modules are kept."""


def examine() -> dict[str, Any]:
    """Examine the installation; neither the machine nor the user is named.

    Returns:
        Versions, cores and threads, the device, the optional parts, how many assets are whole, and
        under `broken` a line for each thing that the core lacks.
    """
    found: dict[str, Any] = {
        "rrpo": rrpo.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {},
        "cores": {"usable": cores(), "all": os.cpu_count()},
        "threads": None,
        "device": None,
        "compiled": True,
        "parts": {},
        "assets": 0,
        "broken": [],
    }
    for examined in (_packages, _torch, _assets):
        try:
            found |= examined()
        except Exception as error:  # a damaged package raises anything at its import
            found["broken"].append(_without_folders(" ".join(str(error).split())))
    return found


def _packages() -> dict[str, Any]:
    """Compare what is installed with what the package's metadata asks for."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in importlib.metadata.requires("rrpo") or ()]
    except importlib.metadata.PackageNotFoundError:
        raise UserError("rrpo has no metadata: install it with pip, not as a copy") from None
    extras = importlib.metadata.metadata("rrpo").get_all("Provides-Extra") or []
    core = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    lacking = " ".join(f"'{one}'" for one in core if not _is_there(one.name, one.specifier))
    if lacking:
        raise UserError(f"packages are missing, or of another version: pip install {lacking}")
    parts = {}
    for extra in extras:
        needed = [one for one in asked if one.marker and one.marker.evaluate({"extra": extra})]
        missing = [one.name for one in needed if not _is_there(one.name, one.specifier)]
        parts[extra] = {"missing": missing, "install": f"pip install 'rrpo[{extra}]'"}
    absent = [name for name in ("distillmos",) if importlib.util.find_spec(name) is None]
    parts["distillmos"] = {"missing": absent, "install": DISTILLMOS}
    versions = {one.name: importlib.metadata.version(one.name) for one in core}
    return {"libraries": versions, "parts": parts}


def _is_there(name: str, versions: Any) -> bool:
    """Say whether a package is installed in one of the versions that are asked for."""
    try:
        return bool(versions.contains(importlib.metadata.version(name), prereleases=True))
    except importlib.metadata.PackageNotFoundError:
        return False


def _torch() -> dict[str, Any]:
    """Ask torch what a training would run on."""
    import torch

    cuda = torch.cuda.is_available()
    device = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if cuda else None
    compiled = Path(importlib.util.cache_from_source(torch.__file__)).is_file()
    return {"threads": torch.get_num_threads(), "device": device, "compiled": compiled}


def _assets() -> dict[str, Any]:
    """Compare the bundled world with its hashes."""
    from rrpo.files import read_json
    from rrpo.mini.world import HASHES, World

    World().check()
    return {"assets": len(read_json(World().folder / HASHES))}


def _without_folders(line: str) -> str:
    """Leave out of a message where on this machine its files lie."""
    for folder, name in ((PACKAGE, "rrpo"), (Path(sys.prefix), "…"), (Path.home(), "~")):
        line = line.replace(str(folder), name)
    return line


def lines(found: dict[str, Any]) -> list[str]:
    """Return what `examine` found as lines of at most 80 columns."""
    usable, threads = found["cores"]["usable"], found["threads"]
    told = f"{threads or 'no'} thread{'s' * (threads != 1)}"
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    parts = []
    for name, part in found["parts"].items():
        way = f": {part['install']}" if part["missing"] else ""
        if name not in FOR_DEVELOPERS:
            parts.append(f"  {'-' if way else '+'} {name:<11}{GIVES.get(name, '')}{way}")
    return [
        f"rrpo {found['rrpo']}, Python {found['python']}, {found['system']}",
        *textwrap.wrap(f"core: {libraries}", WIDTH, subsequent_indent="  "),
        f"CPU: {usable} of {found['cores']['all']} cores; a training uses {told} at most",
        "  (other numbers: OMP_NUM_THREADS=N, or --set train.threads=N)",
        f"device: {found['device'] or 'no CUDA device, all runs on the CPU'}",
        *([] if found["compiled"] else NOT_COMPILED),
        "optional parts (+ there, - missing):",
        *parts,
        f"bundled assets: {found['assets']} files are as they were made",
    ]

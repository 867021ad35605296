"""How long a newcomer waits: `git clone` to the environment, the first sound and the whole demo.

    python scripts/first_run.py --runs 3 --out docs/first_run.json
    python scripts/first_run.py --runs 3 --pip --environment
    python scripts/first_run.py --quick

Each run is of a clone of its own with empty caches of pip and uv, on a machine that should do
nothing else. Prints a table and writes every run as JSON. Seconds are of the clock; those of the
processor ("cpu") beside them say how much of a wait is work.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
UNSET = ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV")
"""What a newcomer's shell does not hold."""
EVERY = 0.2
"""Seconds between two looks for the page."""


def machine() -> str:
    """Say what kind of machine this is, without its name, and whether it is idle."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.is_file() else ""
    kind = next((name for name in ("amx_tile", "avx512f", "avx2") if name in flags), "")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python = platform.python_version()
    return f"{os.cpu_count()} cores {platform.machine()} {kind}, Python {python}{load}"


def spent() -> float:
    """Return the processor's seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(
    command: list[str], folder: Path, settings: dict[str, str], page: Path | None = None
) -> dict[str, float]:
    """Run a command; return its seconds, the processor's, and those until a page is there."""
    before, began = spent(), time.monotonic()
    found = {}
    with subprocess.Popen(command, cwd=folder, env=settings) as process:
        while process.poll() is None:
            if page is not None and "sound" not in found and page.is_file():
                found["sound"] = time.monotonic() - began
            time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: its own lines say why")
    return {"seconds": time.monotonic() - began, "cpu": spent() - before, **found}


def first_run(place: Path, quick: bool, pip: bool, environment: bool) -> dict[str, Any]:
    """Clone, make the environment and run the demo; return what each part took."""
    clone = place / "rrpo"
    settings = {name: text for name, text in os.environ.items() if name not in UNSET}
    settings |= {"PIP_CACHE_DIR": str(place / "pip"), "UV_CACHE_DIR": str(place / "uv")}
    settings |= {"NO_UV": "1"} if pip else {}
    found: dict[str, Any] = {"machine": machine(), "installer": "pip" if pip else "uv"}
    found["clone"] = timed(["git", "clone", "--quiet", str(ROOT), str(clone)], place, settings)
    found["environment"] = timed(["make", ".venv/.demo"], clone, settings)
    if environment:
        return found
    out = clone / "demo"
    command = [".venv/bin/rrpo", "demo", "--out", "demo", *(["--quick"] if quick else [])]
    found["demo"] = timed(command, clone, settings, out / "report.html")
    stages = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    found["stages"] = {
        one["title"]: {key: one[key] for key in ("seconds", "cpu")} for one in stages
    }
    # Its processes are no children of its own, whose seconds the system would add up.
    found["demo"]["cpu"] += sum(one["cpu"] for one in stages)
    found["judging"] = judging(out, stages)
    found["total"] = sum(found[part]["seconds"] for part in ("clone", "environment", "demo"))
    return found


def judging(out: Path, stages: list[dict[str, Any]]) -> dict[str, float]:
    """Return the share of judging: at the end, of all work; on the way, of each training.

    A training's results hold the seconds of its steps; the rest of its stage is judging, loading
    and saving.
    """
    work = sum(one["cpu"] for one in stages)
    found = {"at the end": sum(one["cpu"] for one in stages if one["name"][:5] == "judge") / work}
    for one in stages:
        kind, name = one["name"].split()
        if kind == "train":
            results = json.loads(
                (out / "systems" / name / "results.json").read_text(encoding="utf-8")
            )
            found[f"beside the steps of {name}"] = 1.0 - results["seconds"] / one["seconds"]
    return found


def rows(found: dict[str, Any]) -> dict[str, float]:
    """Return the lines of the table for one run."""
    lines = {}
    for part in ("clone", "environment", "demo"):
        for key, value in found.get(part, {}).items():
            name = "first sound, after the environment" if key == "sound" else f"{part}, {key}"
            lines[name] = value
    for title, stage in found.get("stages", {}).items():
        lines[f"  {title}"] = stage["seconds"]
        lines[f"  {title}, cpu"] = stage["cpu"]
    for name, share in found.get("judging", {}).items():
        lines[f"judging {name}, %"] = 100.0 * share
    return lines | ({"total": found["total"]} if "total" in found else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="time `rrpo demo --quick`")
    parser.add_argument("--pip", action="store_true", help="without uv")
    parser.add_argument("--environment", action="store_true", help="nothing but the environment")
    parser.add_argument("--out", type=Path, help="every run as JSON")
    asked = parser.parse_args()
    runs = []
    for number in range(asked.runs):
        with tempfile.TemporaryDirectory() as place:
            runs.append(first_run(Path(place), asked.quick, asked.pip, asked.environment))
        print(f"run {number + 1} of {asked.runs} on {runs[-1]['machine']}", file=sys.stderr)
    tables = [rows(found) for found in runs]
    print(f"{'seconds':52}{'median':>8}  runs")
    for name in tables[0]:
        values = [table[name] for table in tables]
        line = " ".join(f"{value:8.1f}" for value in values)
        print(f"{name:52}{statistics.median(values):8.1f} {line}")
    if asked.out:
        asked.out.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

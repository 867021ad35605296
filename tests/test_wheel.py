"""A built wheel holds all that the commands need, and they run from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[1]


def test_a_built_wheel_runs_from_any_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    elsewhere.mkdir()
    # pip builds a wheel of the checkout and unpacks that.
    built = subprocess.run(
        [*pip, "install", "--no-deps", "--no-compile", "--target", str(place), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and "No matching distribution" in built.stderr:
        pytest.skip("the build's own requirements cannot be had here")
    assert built.returncode == 0, built.stderr
    for name in ("rrpo_bench/speed.py", "rrpo_world/build.py", "rrpo_world/assets/mandarin.json"):
        assert (place / name).is_file()
    commands = [
        ["doctor"],
        ["speak", "--policy", "mini", "--emotion", "happy", "--text", "A cat.", "--out", "x.wav"],
        [
            "policy",
            "sft",
            "--set",
            "train.steps=1",
            "--set",
            "train.warmup_steps=0",
            "--set",
            "sft.batch_size=2",
            "--out",
            "run",
        ],
        ["report", "run"],
    ]
    # -P and the path: the wheel's package, not that of the checkout. One process: torch is slow to
    # load.
    script = (
        f"import sys; sys.path.insert(0, {str(place)!r})\n"
        "import rrpo; print(rrpo.__file__)\n"
        "from rrpo.cli import main\n"
        f"for words in {commands!r}:\n"
        "    sys.argv = ['rrpo', *words]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, (words, end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, *said = done.stdout.splitlines()
    assert Path(where).is_relative_to(place)
    assert "as they were made" in "\n".join(said)
    assert (elsewhere / "x.wav").stat().st_size > 1000
    assert (elsewhere / "run" / "report.html").is_file()

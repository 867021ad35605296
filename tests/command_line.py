"""The command line in processes of its own, forked from one that has loaded torch already."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rrpo.studies import children

# What is not installed is passed over.
children.LOADED.extend(
    [
        "rrpo.cli",
        "rrpo.reward_eval",
        "matplotlib.figure",
        "pandas",  # which pyarrow looks for
        "scipy.signal",
        "scipy.stats",
        "torch.utils.tensorboard",
    ]
)

TIMEOUT = 300
"""Seconds after which a command has hung."""


def rrpo(*words: object, code: int = 0, cwd: Path | None = None) -> str:
    """Run a command and return what it printed; a traceback is never right."""
    return _printed([str(word) for word in words], code, cwd)


def python(source: str, cwd: Path) -> str:
    """Run a program and return what it printed."""
    return _printed(source, 0, cwd)


def _printed(asked: list[str] | str, code: int, cwd: Path | None) -> str:
    with TemporaryDirectory() as folder:
        names = [Path(folder) / name for name in ("stdout", "stderr")]
        for name in names:
            name.touch()
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        process = children.new_context().Process(  # type: ignore[attr-defined]
            target=_run, args=(asked, cwd or Path.cwd(), environment, names)
        )
        process.start()
        process.join(TIMEOUT)
        process.kill()
        process.join()
        printed, complaint = (name.read_text(encoding="utf-8") for name in names)
    assert process.exitcode == code, printed + complaint
    assert "Traceback" not in complaint
    return printed + complaint


def mistake(*words: object, cwd: Path | None = None) -> str:
    """Run a command that must fail with one line; return the line."""
    lines = [line for line in rrpo(*words, code=2, cwd=cwd).splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]


def _run(
    asked: list[str] | str, folder: Path, environment: dict[str, str], names: list[Path]
) -> None:
    """Be the command, or the program: its streams, its folder, its environment."""
    children.own_signals()
    for stream, name in zip((sys.stdout, sys.stderr), names, strict=True):
        stream.flush()
        descriptor = os.open(name, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["rrpo", *asked] if isinstance(asked, list) else ["-c"]
    if encoding := environment.get("RRPO_TEST_ENCODING"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding, errors="strict")  # type: ignore[union-attr]
    import torch

    from rrpo.cli import main

    torch.set_num_threads(1)
    if isinstance(asked, str):
        exec(compile(asked, "<string>", "exec"), {"__name__": "__main__"})
    else:
        main()

"""Options that several commands share."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from rrpo.errors import UserError

LONGEST = 255
"""Bytes of a name that file systems take."""


def short_enough(path: Path) -> Path:
    """Return a path to be written if every name in it can be one.

    Raises:
        UserError: a name in it is too long.
    """
    for name in path.parts:
        if len(os.fsencode(name)) > LONGEST:
            raise UserError(
                f"--out: the name {name[:20]}… has {len(os.fsencode(name))} bytes, and {LONGEST} "
                "are the most: choose a shorter one"
            )
    return path


def command_line() -> str:
    """Return the command as the user gave it, for the pages that it writes."""
    return " ".join(["rrpo", *sys.argv[1:]])


Out = Annotated[
    Path,
    typer.Option(
        "--out", help="Output folder; nothing outside it is written.", callback=short_enough
    ),
]

Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Random seed.")]

Smoke = Annotated[bool, typer.Option(help="Every stage at a tiny size, to try the command.")]

Ablation = Annotated[
    bool, typer.Option(help="Also train the reward models between plain and hardened.")
]

Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as train.steps=40."),
]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings (see config.yaml of a run).")
]

WorldFolder = Annotated[
    Path | None,
    typer.Option("--world", help="A world made by `rrpo demo --from-scratch`; default: bundled."),
]

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Token shards (parquet file or folder); default: bundled."),
]

CodecOf = Annotated[
    str | None,
    typer.Option(
        help="Codec of the tokens, where shards or models do not record it: mini, s3:FOLDER, "
        "speech:FOLDER or a name."
    ),
]

Partition = Annotated[
    str | None,
    typer.Option(
        "--partition",
        help="Of --data: test, validation, train or all; default: test if there is one.",
    ),
]

Host = Annotated[
    str,
    typer.Option("--host", help="Address to listen at; by default only this machine reaches it."),
]

Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0: any that is free.")
]

Rewards = Annotated[
    list[str],
    typer.Option(
        "--reward",
        help="Reward model: a run, `mini` or `mini-tasks` (which reads words); repeat it for "
        "several.",
    ),
]

Systems = Annotated[
    str | None,
    typer.Option(
        help="What to train: any of sft, best_of_8, sft_best_of_8, dpo, grpo, diffro_published, "
        "diffro_paper, diffro, rrpo_paper, rrpo, rrpo_best_of_8 and rrpo_dpo; default: "
        "sft,diffro,rrpo, in the demo rrpo_best_of_8, too."
    ),
]

PolicyStart = Annotated[
    str | None,
    typer.Option(
        "--from", help="Policy to start from: `mini` (the default), a CosyVoice folder or a run."
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        help="`paper` (the literal reading), `recommended` (the same settings) or `strong_step` (a "
        "larger adversarial step); --set changes parts of it."
    ),
]

DiffROPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="`paper` (the literal reading), `recommended`, or `detector` (also pass a detector of "
        "a sound as a --reward); without one, emotion alone is rewarded. --set changes parts of "
        "it.",
    ),
]

DPOPreset = Annotated[
    str | None,
    typer.Option("--preset", help="`recommended`, to follow RRPO; --set changes parts of it."),
]

"""`rrpo policy`."""

from pathlib import Path
from typing import Annotated

import typer

from rrpo.cli.options import (
    CodecOf,
    ConfigFile,
    Data,
    Out,
    PolicyStart,
    Preset,
    Resume,
    Rewards,
    Settings,
)

policy_app = typer.Typer(no_args_is_help=True, help="Post-train a speech-token LM.")


@policy_app.command()
def sft(
    out: Out,
    data: Data = None,
    codec_of: CodecOf = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Fine-tune on labelled speech, stopped by the held-out loss."""
    from rrpo.commands import policy

    policy.sft(start, data, out, config, settings or [], resume, codec_of)


@policy_app.command()
def diffro(
    reward: Rewards,
    out: Out,
    data: Data = None,
    codec_of: CodecOf = None,
    start: PolicyStart = None,
    preset: Preset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Follow the reward model's gradient through the token choices, held by the KL."""
    from rrpo.commands import policy

    options = (out, config, settings or [], resume, preset, codec_of)
    policy.rewarded("diffro", start, reward, data, *options)


@policy_app.command()
def grpo(
    reward: Rewards,
    out: Out,
    data: Data = None,
    codec_of: CodecOf = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Policy gradient against the same reward (GRPO; --set grpo.advantage=rloo for RLOO)."""
    from rrpo.commands import policy

    options = (out, config, settings or [], resume, None, codec_of)
    policy.rewarded("grpo", start, reward, data, *options)


@policy_app.command()
def dpo(
    out: Out,
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward model to draw pairs from the policy by.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder of chosen.parquet and rejected.parquet instead.")
    ] = None,
    data: Data = None,
    codec_of: CodecOf = None,
    start: PolicyStart = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Learn from pairs of utterances, the better and the worse paid of the policy's own."""
    from rrpo.commands import policy

    options = (out, config, settings or [], resume, codec_of)
    policy.dpo(start, reward or [], pairs, data, *options)

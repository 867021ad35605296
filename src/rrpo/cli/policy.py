"""`rrpo policy`."""

from pathlib import Path
from typing import Annotated

import typer

from rrpo.cli.options import (
    CodecOf,
    ConfigFile,
    Data,
    DiffROPreset,
    DPOPreset,
    Out,
    PolicyStart,
    Resume,
    Rewards,
    Seed,
    Settings,
)
from rrpo.cli.speech import ModelFolder, Voice

policy_app = typer.Typer(
    no_args_is_help=True,
    help="Post-train a speech-token LM.",
    epilog="Example: rrpo policy sft --out sft",
)


@policy_app.command(epilog="Example: rrpo policy sft --out sft")
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
    from rrpo.post_training import train_sft

    train_sft(
        out,
        data,
        start=start,
        config=config,
        settings=settings or (),
        codec_of=codec_of,
        resume=resume,
    )


@policy_app.command(epilog="Example: rrpo policy diffro --from sft --reward rm --out rrpo-policy")
def diffro(
    reward: Rewards,
    out: Out,
    data: Data = None,
    codec_of: CodecOf = None,
    start: PolicyStart = None,
    preset: DiffROPreset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Follow the reward model's gradient through the token choices, with a KL to the reference."""
    from rrpo.post_training import train_diffro

    train_diffro(
        out,
        reward,
        data,
        start=start,
        preset=preset,
        config=config,
        settings=settings or (),
        codec_of=codec_of,
        resume=resume,
    )


@policy_app.command(epilog="Example: rrpo policy grpo --from sft --reward rm --out grpo")
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
    """Policy gradient on the same reward (GRPO; --set grpo.advantage=rloo for RLOO)."""
    from rrpo.post_training import train_grpo

    train_grpo(
        out,
        reward,
        data,
        start=start,
        config=config,
        settings=settings or (),
        codec_of=codec_of,
        resume=resume,
    )


@policy_app.command(epilog="Example: rrpo policy dpo --from sft --reward rm --out dpo")
def dpo(
    out: Out,
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward model that ranks what the policy says.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder of chosen.parquet and rejected.parquet instead.")
    ] = None,
    data: Data = None,
    codec_of: CodecOf = None,
    start: PolicyStart = None,
    preset: DPOPreset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Learn from pairs of the policy's own utterances, one of high and one of low reward (DPO)."""
    from rrpo.post_training import train_dpo

    train_dpo(
        out,
        reward or (),
        data,
        pairs=pairs,
        start=start,
        preset=preset,
        config=config,
        settings=settings or (),
        codec_of=codec_of,
        resume=resume,
    )


@policy_app.command(epilog="Example: rrpo policy average rrpo-0 rrpo-1 --out mean")
def average(
    runs: Annotated[list[Path], typer.Argument(help="Folders of policies from one start.")],
    out: Out,
) -> None:
    """Write the policy whose weights are the means of those of several."""
    from rrpo.averaging import average_policies

    average_policies(out, runs)


@policy_app.command(epilog="Example: rrpo policy forgetting rrpo-policy")
def forgetting(
    run: Annotated[Path, typer.Argument(help="Folder of a post-trained policy.")],
    base: Annotated[
        Path | None, typer.Option(help="Compare with this; default: what the first run began from.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="YAML file of lists of texts by group; default: bundled.")
    ] = None,
    voice: Voice = None,
    model: ModelFolder = None,
    seed: Seed = 0,
) -> None:
    """Compare a policy with its base on other languages and long texts, into forgetting.json."""
    from rich.console import Console

    from rrpo.forgetting import forgetting
    from rrpo.report.terminal import print_forgetting

    report = forgetting(run, base=base, texts=texts, voice=voice, model=model, seed=seed)
    print_forgetting(report, Console())

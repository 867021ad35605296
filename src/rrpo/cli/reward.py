"""`rrpo reward`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rrpo.cli.options import (
    CodecOf,
    ConfigFile,
    Data,
    Out,
    Partition,
    Preset,
    Resume,
    Seed,
    Settings,
    command_line,
)
from rrpo.errors import UserError

reward_app = typer.Typer(
    no_args_is_help=True,
    help="Train and test reward models.",
    epilog="Example: rrpo reward train --preset recommended --out rm",
)


@reward_app.command("train", epilog="Example: rrpo reward train --preset recommended --out rm")
def reward_train(
    out: Out,
    data: Data = None,
    codec_of: CodecOf = None,
    mixes: Annotated[
        Path | None, typer.Option(help="Mix pool of `rrpo tokenize --mix`, for fit.mixup_at=audio.")
    ] = None,
    start: Annotated[
        str,
        typer.Option("--from", help="Model to start from: `mini`, a run, or `new` (untrained)."),
    ] = "mini",
    plain: Annotated[bool, typer.Option("--plain", help="Without regularizers.")] = False,
    tasks: Annotated[
        str | None,
        typer.Option(help="`emotion` (the default), or `emotion,content` to add a content head."),
    ] = None,
    text_of: Annotated[
        str | None,
        typer.Option(
            help="Symbols of the content head: `mini` (phones; default for bundled data), a "
            "CosyVoice folder (its text ids) or `characters` (any script)."
        ),
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Fine-tune a reward model, by default with label smoothing, mixup and adversarial training."""
    from rrpo.reward_training import train_reward

    if plain and preset is not None:
        raise UserError(
            f"--plain is without regularizers, which the preset {preset} turns on: leave one out"
        )
    off = ["fit.label_smoothing=0.0", "fit.mixup=false", "fit.adversarial=false"]
    given = [*(off if plain else []), *(settings or [])]
    if tasks is not None:
        given.append(f"fit.tasks={json.dumps(tasks.split(','))}")
    if text_of is not None:
        given.append(f"text_of={json.dumps(text_of)}")
    train_reward(
        out,
        data,
        start=start,
        preset=preset,
        config=config,
        settings=given,
        mixes=mixes,
        codec_of=codec_of,
        resume=resume,
    )


@reward_app.command(
    "detector", epilog="Example: rrpo reward detector --insert clicks --out detector"
)
def reward_detector(
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="Token shards without the sound; default: bundled.")
    ] = None,
    having: Annotated[
        Path | None,
        typer.Option(help="Token shards with it, such as `rrpo tokenize --insert` makes."),
    ] = None,
    insert: Annotated[
        str | None,
        typer.Option(
            help="Put into the bundled data: clicks (the default), pop, plosive, hum, noise, "
            "silence or gain."
        ),
    ] = None,
    codec_of: CodecOf = None,
    start: Annotated[
        str, typer.Option("--from", help="Reward model whose encoder it starts with, or `new`.")
    ] = "mini",
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
) -> None:
    """Train a detector for a sound that a policy must not make, to use as a term of its reward."""
    from rrpo.detector_training import train_detector

    train_detector(
        out,
        data,
        having,
        insert=insert,
        start=start,
        config=config,
        settings=settings or [],
        codec_of=codec_of,
        resume=resume,
    )


@reward_app.command("eval", epilog="Example: rrpo reward eval mini rm")
def reward_eval(
    runs: Annotated[list[str], typer.Argument(help="Folders of reward models, or `mini`.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Token shards; repeat it for several sets; default: bundled ones."),
    ] = None,
    partition: Partition = None,
    codec_of: CodecOf = None,
) -> None:
    """Test reward models as emotion recognisers, or detectors; several are shown side by side."""
    from rrpo.reward_eval import evaluate

    evaluate(runs, data or [], partition, codec_of)


@reward_app.command("attack", epilog="Example: rrpo reward attack rm --quick --out attack")
def reward_attack(
    runs: Annotated[list[str], typer.Argument(help="Folders of reward models, or `mini`.")],
    out: Out,
    data: Data = None,
    partition: Partition = None,
    codec_of: CodecOf = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Policy that may search, too, such as a CosyVoice folder; default: the bundled "
            "one, for its own tokens."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Another reward model, which says whether what deceives has the emotion; "
            "default: the bundled judge, for its own tokens."
        ),
    ] = None,
    inserted: Annotated[
        list[Path] | None,
        typer.Option(
            help="Shards of `rrpo tokenize --insert`: --data with a sound; repeat it for several."
        ),
    ] = None,
    utterances: Annotated[
        int | None, typer.Option(min=2, help="How many are attacked; default: 96, with --quick 20.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Few utterances and short searches: a taste.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Attack reward models: how small a change makes one predict a wrong emotion?"""
    from rich.console import Console

    from rrpo.attack.command import PAGE, attack_reward
    from rrpo.attack.page import print_attacks

    figures = attack_reward(
        runs,
        out,
        data,
        partition=partition,
        codec_of=codec_of,
        policy=policy,
        judge=judge,
        inserted=inserted or [],
        quick=quick,
        utterances=utterances,
        seed=seed,
        command=command_line(),
    )
    print_attacks(figures, Console())
    print(f"page: {out / PAGE}")

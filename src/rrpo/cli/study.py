"""`rrpo study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrpo.cli.options import Ablation, Out, Seed, Smoke, Systems, WorldFolder, command_line

if TYPE_CHECKING:
    from rrpo.mini.world import World
    from rrpo_studies.real_speech.folds import Size

study_app = typer.Typer(
    no_args_is_help=True,
    help="Longer experiments with their own pages.",
    epilog="Example: rrpo study seeds --seeds 5 --out seeds",
)


@study_app.command(epilog="Example: rrpo study seeds --seeds 5 --out seeds")
def seeds(
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0 to N-1.")] = 3,
    systems: Systems = None,
    sentences: Annotated[
        int | None,
        typer.Option(min=1, help="Sentences of each seed, each with 6 emotions; default: 6."),
    ] = None,
    ablation: Ablation = False,
    smoke: Smoke = False,
) -> None:
    """Run the demo for several seeds, one on each core, and pool its tables.

    In an existing folder other systems, and the ablation, join what is there.
    """
    from dataclasses import replace

    from rrpo.studies.demo import seeds as study
    from rrpo.studies.demo.systems import FULL, SMOKE, with_systems

    chosen = replace(SMOKE, systems=FULL.systems) if smoke else FULL
    if systems is not None:
        chosen = with_systems(chosen, systems.split(","))
    if sentences is not None:
        chosen = replace(chosen, sentences=sentences)
    print(study.run(out, seeds, chosen, command_line(), ablation))


@study_app.command(epilog="Example: rrpo study world --out world")
def world(
    out: Out,
    folder: WorldFolder = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Study of a world made with another seed, to compare with."),
    ] = None,
    smoke: Smoke = False,
) -> None:
    """Measure a mini world against its aims (needs its renderer)."""
    from rrpo_world.study import world as study

    size = study.SMOKE if smoke else study.FULL
    print(study.run(out, size, _world(folder), command_line(), against))


def _world(folder: Path | None) -> "World":
    """Return the world in a folder, or the bundled one."""
    from rrpo.mini.world import World

    return World(folder) if folder else World()


@study_app.command(epilog="Example: rrpo study voices demo --out voices")
def voices(
    demos: Annotated[list[Path], typer.Argument(help="Folders of finished demos.")],
    out: Out,
    sentences: Annotated[
        int, typer.Option(min=1, help="Sentences of each voice and seed, each with 6 emotions.")
    ] = 4,
    folder: WorldFolder = None,
) -> None:
    """Test policies post-trained on one voice with the other voices of the base policy."""
    from rrpo_studies import voices as study

    print(study.run(demos, out, sentences, command_line(), world=_world(folder)))


@study_app.command(epilog="Example: rrpo study judges --out judges")
def judges(
    out: Out,
    folder: WorldFolder = None,
    smoke: Smoke = False,
) -> None:
    """Degrade real speech step by step: what does each judge detect? (Needs the renderer.)"""
    from rrpo_world.study import judges as study

    print(study.run(out, study.SMOKE if smoke else study.FULL, _world(folder), command_line()))


Manifests = Annotated[
    list[Path],
    typer.Option("--data", help="manifest.csv of `rrpo data import`, or its folder; repeat it."),
]
Pages = Annotated[
    Path | None,
    typer.Option(
        "--pages", help="Also copy the page and its figure here, such as to docs/studies."
    ),
]


@study_app.command(epilog="Example: rrpo study ablation --data imported --seeds 5 --out ablation")
def ablation(
    data: Manifests,
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tuning runs of each model.")] = 5,
    models: Annotated[
        str,
        typer.Option(
            help="Which models beside plain, such as ls_eam_adv@audio (audio mixed); default: all "
            "that mix no audio."
        ),
    ] = "",
    pages: Pages = None,
    smoke: Smoke = False,
) -> None:
    """Train reward models on real speech, with each subset of the regularizers (rrpo\\[speech])."""
    from rrpo.studies.study import publish
    from rrpo_studies.real_speech import ablation as study

    chosen = models.split(",") if models else ()
    page = study.run(data, out, _size(seeds, smoke), command_line(), chosen)
    print(publish(page, pages))


@study_app.command(
    epilog="Example: rrpo study languages --data english --data german --out languages"
)
def languages(
    data: Manifests,
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tuning runs of each model.")] = 5,
    pages: Pages = None,
    smoke: Smoke = False,
) -> None:
    """Train on one language, test on the others; on less and more data (rrpo\\[speech])."""
    from rrpo.studies.study import publish
    from rrpo_studies.real_speech import languages as study

    page = study.run(data, out, _size(seeds, smoke), command_line())
    print(publish(page, pages))


def _size(seeds: int, smoke: bool) -> "Size":
    """Say how much a study on real speech does."""
    from dataclasses import replace

    from rrpo_studies.real_speech.folds import FULL, SMOKE

    return SMOKE if smoke else replace(FULL, seeds=seeds)


@study_app.command(epilog="Example: rrpo study artifacts --data imported --out artifacts")
def artifacts(
    out: Out,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="manifest.csv of clean real speech, or its folder; repeat it."),
    ] = None,
    seed: Seed = 0,
    smoke: Smoke = False,
) -> None:
    """Insert artifacts at known places and levels into clean speech: which are detected?"""
    from rrpo_world.artifacts import study

    size = study.SMOKE if smoke else study.FULL
    print(study.run(out, data or [], size, seed, command_line()))


@study_app.command(epilog="Example: rrpo study monitor --out monitor")
def monitor(
    out: Out,
    healthy: Annotated[int, typer.Option(min=1, help="Runs of each of two healthy kinds.")] = 10,
    hacked: Annotated[int, typer.Option(min=1, help="Runs of each of three hacked kinds.")] = 7,
    pages: Pages = None,
    smoke: Smoke = False,
) -> None:
    """Let healthy and hacked runs listen to themselves: how many alarms, and how early?

    In the same folder it goes on where it stopped.
    """
    from dataclasses import replace

    from rrpo.studies.study import publish
    from rrpo_studies.monitor.plan import FULL, SMOKE
    from rrpo_studies.monitor.study import run

    plan = SMOKE if smoke else replace(FULL, healthy=healthy, hacked=hacked)
    print(publish(run(out, plan, command_line()), pages, figures=True))


@study_app.command(epilog="Example: rrpo study planted --artifacts click --seeds 2 --out planted")
def planted(
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Of each training.")] = 5,
    artifacts: Annotated[
        str, typer.Option(help="Some of click, plosive, hum and silence; default: all.")
    ] = "",
    rho: Annotated[
        str, typer.Option(help="Correlations with the emotion; default: 0,0.5,0.8,0.95,1.")
    ] = "",
    models: Annotated[
        str, typer.Option(help="Reward models, such as plain,ls_eam_adv; default: all.")
    ] = "",
    policies: Annotated[
        str, typer.Option(help="Policies, such as diffro,rrpo; none: no policy; default: all.")
    ] = "",
    first_seed: Annotated[
        int, typer.Option(min=0, help="The first of the seeds; the others follow it.")
    ] = 0,
    pages: Pages = None,
    smoke: Smoke = False,
) -> None:
    """Plant artifacts in one emotion's speech: is the reward model hacked, and what cures it?

    In the same folder it goes on where it stopped, and more may be asked for.
    """
    from rrpo.studies.study import publish
    from rrpo_studies.planted.plan import FULL, SMOKE, with_parts
    from rrpo_studies.planted.study import run

    asked = with_parts(FULL, seeds, artifacts, rho, models, policies, first_seed)
    plan = SMOKE if smoke else asked
    print(publish(run(out, plan, command_line()), pages, figures=True))

"""`rrpo bench`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rrpo.cli.options import (
    Data,
    Rewards,
    short_enough,
)

bench_app = typer.Typer(no_args_is_help=True, help="How good and how fast, each as a ratio.")

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@bench_app.command("gradient")
def bench_gradient(
    run: Annotated[Path, typer.Argument(help="Folder of a policy, or `mini` for the base.")],
    reward: Rewards,
    blocks: Annotated[int, typer.Option(min=3, help="Of rollouts; more: smaller intervals.")] = 16,
    prompts: Annotated[int, typer.Option(min=1, help="In each block, the same ones.")] = 8,
    group: Annotated[int, typer.Option(min=2, help="Utterances of each prompt.")] = 8,
    reference: Annotated[int, typer.Option(min=1, help="Times as many for RLOO.")] = 4,
    more: Annotated[
        bool, typer.Option("--more", help="Also other temperatures and two context passes.")
    ] = False,
    data: Data = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Compare each estimator's gradient with an unbiased one, for each reward model."""
    from rrpo.commands import bench

    size = (blocks, prompts, group, reference)
    bench.audit_gradient(run, reward, size, more, data, seed, as_json)


@bench_app.command("all")
def bench_all(
    run: Annotated[
        Path, typer.Argument(help="Policy whose gradient is audited; `mini`: the base.")
    ] = Path("mini"),
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward models to audit with; default: `mini`.")
    ] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also with CosyVoice2's sizes (8 GB, minutes).")
    ] = False,
    blocks: Annotated[int, typer.Option(min=3, help="Of 64 rollouts for the audit.")] = 16,
    out: Annotated[
        Path, typer.Option("--out", help="Page to write.", callback=short_enough)
    ] = Path("docs/benchmarks.md"),
) -> None:
    """Run every benchmark (10 minutes, 25 with --full-size) and write docs/benchmarks.md."""
    from rrpo.commands import bench

    command = " ".join(["rrpo", *sys.argv[1:]])
    bench.everything(run, reward or ["mini"], full_size, blocks, out, command)


@bench_app.command("speed")
def bench_speed(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="step, rollout, relaxation, hardening; default: all of them."),
    ] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also with CosyVoice2's sizes (8 GB, minutes).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time the parts against the least that could do them, and against a peer."""
    from rrpo.commands import bench

    bench.measure_speed(names or [], full_size, as_json)

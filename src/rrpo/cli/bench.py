"""`rrpo bench`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrpo.cli.options import Data, Rewards, Seed, command_line, short_enough
from rrpo.errors import UserError

if TYPE_CHECKING:
    from rrpo_bench.gradient import Size

bench_app = typer.Typer(
    no_args_is_help=True,
    help="Benchmarks of gradients and speed.",
    epilog="Example: rrpo bench speed step rollout",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
FullSize = Annotated[
    bool, typer.Option("--full-size", help="Also with CosyVoice2's sizes (8 GB, minutes).")
]


@bench_app.command("gradient", epilog="Example: rrpo bench gradient mini --reward mini")
def bench_gradient(
    run: Annotated[Path, typer.Argument(help="Folder of a policy, or `mini` for the base.")],
    reward: Rewards,
    blocks: Annotated[
        int, typer.Option(min=3, help="Blocks of rollouts; more give smaller intervals.")
    ] = 16,
    prompts: Annotated[
        int, typer.Option(min=1, help="Prompts of each block, always the same.")
    ] = 8,
    group: Annotated[int, typer.Option(min=2, help="Utterances of each prompt.")] = 8,
    reference: Annotated[
        int, typer.Option(min=1, help="Times as many utterances for RLOO, the reference.")
    ] = 4,
    more: Annotated[
        bool, typer.Option("--more", help="Also other temperatures and two context passes.")
    ] = False,
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare each estimator's gradient with an unbiased one, for each reward model."""
    from rich.console import Console

    from rrpo_bench import gradient

    size = gradient.Size(blocks, prompts, group, reference)
    found = _audit(run, reward, size, more, data, seed)
    if as_json:
        for measured in gradient.measurements(found):
            print(measured.line())
        return
    for name, comparison in found.items():
        Console().print(gradient.table(name, comparison, math.prod((blocks, prompts, group))))


def _audit(
    run: Path,
    rewards: Sequence[str],
    size: "Size",
    more: bool = False,
    data: Path | None = None,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Audit each estimator's gradient on rollouts of a policy, by reward model."""
    from rrpo.loading import load_data, load_policy, load_reward_models, load_tokenizer
    from rrpo.objectives.on_policy import OnPolicy
    from rrpo.origin import origin_of
    from rrpo.policy.layout import make_examples
    from rrpo.policy.rollout import RolloutConfig
    from rrpo.reward import Reward
    from rrpo_bench import gradient

    model = load_policy(run)
    origin = origin_of(run)
    tokenizer = load_tokenizer(origin, model)
    prompts = [one.prompt for one in make_examples(tokenizer, load_data(data, model))]
    audited = {
        name: OnPolicy(model, load_policy(run), Reward([one]), prompts, RolloutConfig())
        for name, one in zip(
            rewards, load_reward_models(rewards, model, origin=origin), strict=True
        )
    }
    estimators = (*gradient.EVERY, *(gradient.VARIANTS if more else ()))
    return gradient.audit(audited, size, seed, estimators)


@bench_app.command("all", epilog="Example: rrpo bench all --out benchmarks.md")
def bench_all(
    run: Annotated[
        Path, typer.Argument(help="Policy whose gradient is measured; `mini`: the base.")
    ] = Path("mini"),
    reward: Annotated[
        list[str] | None, typer.Option(help="Reward models, repeatable; default: `mini`.")
    ] = None,
    full_size: FullSize = False,
    blocks: Annotated[
        int, typer.Option(min=3, help="Blocks of 64 rollouts for the gradients.")
    ] = 16,
    out: Annotated[
        Path, typer.Option("--out", help="Page to write.", callback=short_enough)
    ] = Path("docs/benchmarks.md"),
) -> None:
    """Run every benchmark (10 minutes, 25 with --full-size) and write docs/benchmarks.md."""
    from rich.console import Console

    from rrpo.files import write_text
    from rrpo.loading import load_policy, load_reward_models
    from rrpo_bench import gradient, speed
    from rrpo_bench.page import page

    if out.suffix != ".md":
        raise UserError(f"{out} is not a page of markdown: give a name that ends in .md")
    rewards = reward or ["mini"]
    load_reward_models(rewards, load_policy(run))  # a wrong name is refused before the minutes
    measured = []
    for one in speed.measure([], full_size):
        print(one.text(), flush=True)
        measured.append(one)
    found = _audit(run, rewards, gradient.Size(blocks, 8, 8, 1))
    for name, comparison in found.items():
        Console().print(gradient.table(name, comparison, blocks * 64))
    write_text(out, page(measured, found, str(run), blocks * 64, command_line()))
    print(out)


@bench_app.command("speed", epilog="Example: rrpo bench speed step rollout")
def bench_speed(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="step, rollout, history, relaxation, hardening; default: all of them."),
    ] = None,
    full_size: FullSize = False,
    as_json: Json = False,
) -> None:
    """Time the parts against a minimal implementation and against a peer."""
    from rrpo_bench import speed

    for measured in speed.measure(names or [], full_size):
        print(measured.line() if as_json else measured.text(), flush=True)

"""`rrpo bench`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rrpo.bench import gradient, speed
from rrpo.bench.page import page as benchmarks_page
from rrpo.checkpoint import write_text
from rrpo.errors import UserError
from rrpo.loading import Origin, load_data, load_policy, load_reward_models, load_tokenizer
from rrpo.objectives.on_policy import OnPolicy, RolloutConfig
from rrpo.policy.examples import make_examples
from rrpo.reward import Reward


def audit_gradient(
    run: Path,
    reward_models: Sequence[str],
    size: tuple[int, int, int, int],
    more: bool,
    data: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Audit each estimator's gradient on rollouts of a policy."""
    found = _audit(run, reward_models, gradient.Size(*size), more, data, seed)
    if as_json:
        for measured in gradient.measurements(found):
            print(measured.line())
        return
    for name, comparison in found.items():
        Console().print(gradient.table(name, comparison, math.prod(size[:3])))


def _audit(
    run: Path,
    reward_models: Sequence[str],
    size: gradient.Size,
    more: bool,
    data: Path | None,
    seed: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    model = load_policy(run)
    tokenizer = load_tokenizer(Origin(start=str(run)), model)
    examples = make_examples(tokenizer, load_data(data, model))
    asked = [example.prompt for example in examples]
    paying = zip(reward_models, load_reward_models(reward_models, model), strict=True)
    audited = {
        name: OnPolicy(model, load_policy(run), Reward([one]), asked, RolloutConfig())
        for name, one in paying
    }
    estimators = (*gradient.EVERY, *(gradient.VARIANTS if more else ()))
    return gradient.audit(audited, size, seed, estimators)


def everything(
    run: Path, reward_models: Sequence[str], full_size: bool, blocks: int, out: Path, command: str
) -> None:
    """Measure everything and write a page."""
    if out.suffix != ".md":
        raise UserError(f"{out} is not a page of markdown: give a name that ends in .md")
    load_reward_models(reward_models, load_policy(run))  # a wrong name is said before the minutes
    size = gradient.Size(blocks, 8, 8, 1)
    measured = []
    for one in speed.measure([], full_size):
        print(one.text(), flush=True)
        measured.append(one)
    found = _audit(run, reward_models, size, more=False, data=None, seed=0)
    for name, comparison in found.items():
        Console().print(gradient.table(name, comparison, blocks * 64))
    write_text(out, benchmarks_page(measured, found, str(run), blocks * 64, command))
    print(out)


def measure_speed(names: Sequence[str], full_size: bool, as_json: bool) -> None:
    """Print the ratios of the speed benchmarks, one by one as they are measured."""
    for measured in speed.measure(names, full_size):
        print(measured.line() if as_json else measured.text(), flush=True)

"""The training loop: the same weights after a kill at any moment, and every way a run can fail.

Run as a script, this file is the victim of the kill test.
"""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from rrpo.checkpoint import (
    begin_folder,
    commit_folder,
    load_model,
    recover_folder,
    save_model,
    sha256,
)
from rrpo.errors import UserError
from rrpo.progress import Progress, read_metrics
from rrpo.state import random_states, restore_random_states
from rrpo.stopping import EarlyStopping
from rrpo.train import (
    TrainConfig,
    TrainingDiverged,
    TrainingInterrupted,
    TrainResult,
    learning_rate,
    train,
)

CONFIG = TrainConfig(
    steps=12,
    learning_rate=0.02,
    warmup_steps=3,
    schedule="cosine",
    weight_decay=0.1,
    max_gradient_norm=0.5,
    save_every=4,
)


class Toy:
    """A small network with dropout, a buffer and a frozen part, and data from every generator."""

    def __init__(self, before: Callable[[int], None] = lambda step: None) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = nn.Sequential(
                nn.Embedding(20, 8),
                nn.Linear(8, 16),
                nn.BatchNorm1d(16),
                nn.Dropout(0.3),
                nn.Linear(16, 16),
                nn.Linear(16, 1),
            )
        self.model[4].requires_grad_(False)
        self.before = before

    def loss(
        self, model: nn.Sequential, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Regress noisy targets on random tokens, after `before` has had its say."""
        self.before(step)
        device = model[1].weight.device
        tokens = torch.randint(20, (6,), generator=generator).to(device)
        noise = random.random() + np.random.standard_normal() + torch.randn((), generator=generator)
        target = torch.sin(tokens.float()) + noise.to(device)
        loss = (model(tokens).squeeze(-1) - target).square().mean()
        return loss, {"noise": noise.item(), "nothing": math.nan}

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_model(folder, self.model.state_dict(), {"kind": "toy"})


@pytest.fixture(autouse=True)
def _keep_global_states() -> Iterator[None]:
    """Give the other tests their thread count and random states back."""
    threads, device = torch.get_num_threads(), torch.device("cpu")
    generator = torch.Generator()
    states = random_states(generator, device)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    restore_random_states(states, generator, device)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of the run that nothing disturbs."""
    return weights(Toy(), tmp_path_factory.mktemp("train") / "run")


def weights(toy: Toy, folder: Path, **options: Any) -> dict[str, Tensor]:
    """Train and return the weights."""
    train(toy, CONFIG, folder, **options)
    return dict(toy.model.state_dict())


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Compare weights bit for bit."""
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def scripted(figures: dict[int, float]) -> Callable[[int], dict[str, float]]:
    """Return a validation whose figure is known for each step."""
    return lambda step: {"loss": figures[step]}


# --- kills ---------------------------------------------------------------------------------------


def die() -> None:
    """End this process as a kill from outside would."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_operation(number: int) -> None:
    """Die just before the file-system operation of this number, wherever it comes from."""
    count = 0

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                die()
            return original(*arguments, **options)

        setattr(owner, name, watched)

    for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "mkdir"), (os, "fsync")):
        watch(owner, name)
    watch(shutil, "rmtree")
    watch(os, "rmdir")  # inside rmtree: the old checkpoint is half gone
    watch(safetensors.torch, "save_file")


def in_child(action: Callable[[], object]) -> int:
    """Run an action in a forked process and return how it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_and_resume(root: Path) -> None:
    """Kill runs at steps and at file operations, resume each, and print what came out."""
    torch.set_num_threads(1)
    kills: dict[str, Callable[[Toy], None]] = {"none": lambda toy: None}
    for step in (1, 2, 4, 5, 8, 12):
        kills[f"step {step}"] = lambda toy, at=step: setattr(  # type: ignore[misc]
            toy, "before", lambda now: die() if now == at else None
        )
    for number in range(1, int(os.environ.get("OPERATIONS", "80")), 1):
        kills[f"operation {number}"] = lambda toy, at=number: die_at_operation(at)  # type: ignore[misc]
    for name, kill in kills.items():
        folder = root / name.replace(" ", "-")

        def victim(kill: Callable[[Toy], None] = kill, folder: Path = folder) -> None:
            toy = Toy()
            kill(toy)
            train(toy, CONFIG, folder)

        ended = in_child(victim)
        again = in_child(lambda folder=folder: train(Toy(), CONFIG, folder, resume=True))  # type: ignore[misc]
        steps = [record["step"] for record in read_metrics(folder / "metrics.jsonl")]
        left = sorted(path.name for path in folder.iterdir())
        result = {"kill": name, "ended": ended, "again": again, "steps": steps, "left": left}
        for file in ("model.safetensors", "training.safetensors", "random-0.safetensors"):
            result[file] = sha256(folder / "checkpoint" / file)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    kill_and_resume(Path(sys.argv[1]))

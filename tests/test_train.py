"""The training loop: the same weights after a kill at any moment, and every way a run can fail.

Run as a script, this file is the victim of the kill test.
"""

import importlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from rrpo import runs
from rrpo.chance import random_states, restore_random_states
from rrpo.checkpoint import load_model, save_model
from rrpo.data.shards import Utterance
from rrpo.errors import NotFinite, TrainingInterrupted, UserError
from rrpo.files import alone, sha256
from rrpo.processes import LAUNCHED, require_launcher
from rrpo.progress import Progress, read_metrics
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.config import RewardRun
from rrpo.run_folder import begin_folder, commit_folder, recover_folder
from rrpo.schedule import EarlyStopping
from rrpo.train import TrainConfig, TrainingDiverged, TrainResult, learning_rate, train

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

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
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

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Regress noisy targets on random tokens, after `before` has had its say."""
        self.before(step)
        device = self.model[1].weight.device
        tokens = torch.randint(20, (6,), generator=generator).to(device)
        noise = random.random() + np.random.standard_normal() + torch.randn((), generator=generator)
        target = torch.sin(tokens.float()) + noise.to(device)
        loss = (self.model(tokens).squeeze(-1) - target).square().mean()
        return loss, {"noise": noise.item()}

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
    """The weights of the run that nothing disturbs, with the thread count of the others."""
    torch.set_num_threads(1)
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


def die() -> None:
    """End this process as a kill from outside would."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(owner: Any, name: str, number: int) -> None:
    """Die just before the call of this number to a function of the file system."""
    original, calls = getattr(owner, name), iter(range(1, 10**6))

    def watched(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            die()
        return original(*arguments, **options)

    setattr(owner, name, watched)


KILLS: dict[str, Callable[[Toy], None]] = {
    "nothing": lambda _: None,
    **{
        f"step {at}": lambda toy, at=at: setattr(  # type: ignore[misc]
            toy, "before", lambda step: die() if step == at else None
        )
        for at in (1, 5, 12)
    },
    "first checkpoint, weights": lambda _: die_at(safetensors.torch, "save_file", 2),
    "first checkpoint, in place": lambda _: die_at(Path, "rename", 1),
    "second checkpoint, weights": lambda _: die_at(safetensors.torch, "save_file", 5),
    "second checkpoint, old aside": lambda _: die_at(Path, "rename", 2),
    "second checkpoint, in place": lambda _: die_at(Path, "rename", 3),
    "third checkpoint, kept one half removed": lambda _: die_at(os, "rmdir", 1),
    "last checkpoint, in place": lambda _: die_at(Path, "rename", 5),
}


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
    """Kill a run in each way, resume it, and print one JSON line on what came out."""
    # What a first step imports, once here and not in every child.
    importlib.import_module("torch.utils.tensorboard")

    torch.set_num_threads(1)
    for name, kill in KILLS.items():
        folder = root / name

        def victim(kill: Callable[[Toy], None] = kill, folder: Path = folder) -> None:
            toy = Toy()
            kill(toy)
            train(toy, CONFIG, folder)

        def heir(folder: Path = folder) -> None:
            train(Toy(), CONFIG, folder, resume=True)

        result: dict[str, Any] = {"kill": name, "ends": [in_child(victim), in_child(heir)]}
        result["steps"] = [record["step"] for record in read_metrics(folder / "metrics.jsonl")]
        result["files"] = sorted(path.name for path in folder.iterdir())
        for path in sorted((folder / "checkpoint").glob("*.safetensors")):
            result[path.name] = sha256(path)
        print(json.dumps(result), flush=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_any_moment_and_resumed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    results = {line["kill"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert results.keys() == KILLS.keys()
    reference = results.pop("nothing")
    assert reference["ends"] == [0, 0]
    assert reference["steps"] == list(range(1, CONFIG.steps + 1))
    assert {"model.safetensors", "training.safetensors", "random-0.safetensors"} < reference.keys()
    for name, result in results.items():
        assert result.pop("ends") == [-signal.SIGKILL, 0], name
        for key in result.keys() - {"kill"}:
            assert result[key] == reference[key], (name, key)


@pytest.mark.slow
def test_interrupted_by_the_keyboard(tmp_path: Path, uninterrupted: dict[str, Tensor]) -> None:
    def press(step: int) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match=r"after step 6 of 12.*--resume"):
        train(Toy(press), CONFIG, tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")][-1] == 6
    assert_same(weights(Toy(), tmp_path, resume=True), uninterrupted)


@pytest.mark.parametrize("at", [0, 4, 8])
def test_interrupted_while_it_is_judged(
    tmp_path: Path, uninterrupted: dict[str, Tensor], at: int
) -> None:
    """Before the first step, too; nothing is judged twice, and no step is taken after it."""

    def judge(press: int) -> Callable[[int], dict[str, float]]:
        def validate(step: int) -> dict[str, float]:
            if step == press:
                signal.raise_signal(signal.SIGTERM)
            return {"loss": float(step)}

        return validate

    with pytest.raises(TrainingInterrupted, match=f"after step {at} of 12"):
        train(Toy(), CONFIG, tmp_path, validate=judge(at), validate_every=4)
    toy = Toy()
    result = train(toy, CONFIG, tmp_path, True, judge(-1), 4)
    assert_same(dict(toy.model.state_dict()), uninterrupted)
    assert [row["step"] for row in result.validations] == [0, 4, 8, 12]
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in lines if "validation" in row] == [0, 4, 8, 12]
    assert [row["step"] for row in lines if "validation" not in row] == list(range(1, 13))


def test_an_interrupted_step_is_judged_once_the_run_goes_on(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
) -> None:
    """A checkpoint comes first: there may be no time for the figures."""
    judged: list[int] = []

    def press(step: int) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)

    def validate(step: int) -> dict[str, float]:
        judged.append(step)
        return {"loss": float(step)}

    with pytest.raises(TrainingInterrupted, match="after step 4 of 12"):
        train(Toy(press), CONFIG, tmp_path, validate=validate, validate_every=4)
    assert judged == [0]
    toy = Toy()
    train(toy, CONFIG, tmp_path, True, validate, 4)
    assert judged == [0, 4, 8, 12]
    assert_same(dict(toy.model.state_dict()), uninterrupted)


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="locks are of POSIX systems")
    with alone(tmp_path), pytest.raises(UserError, match="another process is writing"):
        train(Toy(), CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())
    train(Toy(), CONFIG, tmp_path)


@pytest.mark.slow
def test_a_polite_kill_is_an_interruption(tmp_path: Path, uninterrupted: dict[str, Tensor]) -> None:
    def terminate(step: int) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="after step 6 of 12"):
        train(Toy(terminate), CONFIG, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert_same(weights(Toy(), tmp_path, resume=True), uninterrupted)


@pytest.mark.slow
def test_second_interrupt_acts_at_once(tmp_path: Path) -> None:
    # Whoever starts the tests in the background has interrupts ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)

    def press_twice(step: int) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGINT)
            # Two signals that Python has not looked at yet are one to it.
            while signal.getsignal(signal.SIGINT) is not before:
                time.sleep(0.001)
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            train(Toy(press_twice), CONFIG, tmp_path)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert json.loads((tmp_path / "checkpoint" / "training.json").read_text())["step"] == 4


def test_equals_a_plain_loop(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"seed": 5})
    trained = Toy()
    train(trained, config, tmp_path)
    plain = Toy()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(5)
    parameters = [p for p in plain.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
    )
    for step in range(1, 13):
        warm, done = min(1.0, step / 3), max(0.0, (step - 4) / 9)
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * warm * (1 + math.cos(math.pi * done)) / 2
        optimizer.zero_grad()
        plain.loss(step, generator)[0].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name].cpu(), tensor)
    before = Toy().model.state_dict()
    assert torch.equal(trained.model.state_dict()["4.weight"].cpu(), before["4.weight"])
    assert not torch.equal(trained.model.state_dict()["1.weight"].cpu(), before["1.weight"])


def test_learning_rate_over_the_steps() -> None:
    rates = [learning_rate(CONFIG, step) for step in range(1, 13)]
    assert rates[:4] == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[3:]))
    assert 0 < rates[-1] < 0.001
    constant = TrainConfig(steps=2, learning_rate=0.5, warmup_steps=5)
    assert [learning_rate(constant, step) for step in (1, 2, 5, 9)] == [0.1, 0.2, 0.5, 0.5]


def test_what_a_run_leaves(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen: list[int] = []
    toy = Toy()

    def validate(step: int) -> dict[str, float]:
        seen.append(step)
        assert not toy.model.training
        assert not torch.is_grad_enabled()
        return {"loss": float(step)}

    result = train(toy, CONFIG, tmp_path, validate=validate, validate_every=5)
    assert seen == [0, 5, 10, 12]
    assert result == TrainResult(12, None, result.seconds, result.validations)
    assert result.validations == [{"step": step, "loss": float(step)} for step in seen]
    records = read_metrics(tmp_path / "metrics.jsonl")
    steps = [record for record in records if "validation" not in record]
    assert [record["step"] for record in steps] == list(range(1, 13))
    for record in steps:
        assert record["learning_rate"] == learning_rate(CONFIG, record["step"])
        assert math.isfinite(record["loss"] + record["gradient_norm"] + record["noise"])
        assert record["seconds"] > 0
    assert [r["validation"]["loss"] for r in records if "validation" in r] == [0, 5, 10, 12]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 13))
    assert [event.value for event in board.Scalars("validation/loss")] == [0, 5, 10, 12]
    state, config = load_model(tmp_path, "toy")
    assert config == {"kind": "toy"}
    assert torch.equal(state["1.weight"], toy.model.state_dict()["1.weight"].cpu())


def test_a_cut_record_is_continued(tmp_path: Path) -> None:
    def fail(step: int) -> None:
        if step == 7:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(Toy(fail), CONFIG, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 7, "lo')
    train(Toy(), CONFIG, tmp_path, resume=True)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 13))


def test_resume_without_a_checkpoint_starts(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 9}\n')
    assert_same(weights(Toy(), tmp_path, resume=True), uninterrupted)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 12


def test_a_finished_run(tmp_path: Path, uninterrupted: dict[str, Tensor]) -> None:
    first = train(Toy(), CONFIG, tmp_path)

    def never(step: int) -> None:
        raise AssertionError(step)

    toy = Toy(never)
    assert train(toy, CONFIG, tmp_path, resume=True) == first
    assert_same(dict(toy.model.state_dict()), uninterrupted)
    with pytest.raises(UserError, match="pass --resume or another --out"):
        train(toy, CONFIG, tmp_path)


def test_thread_count_is_restored(tmp_path: Path) -> None:
    def fail(step: int) -> None:
        if step == 6:
            raise ZeroDivisionError

    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        train(Toy(fail), CONFIG, tmp_path)
    torch.set_num_threads(1)
    counts: list[int] = []
    toy = Toy(lambda _: counts.append(torch.get_num_threads()))
    train(toy, CONFIG, tmp_path, resume=True)
    assert counts == [2] * 8


def test_the_mean_of_the_last_steps_through_a_resume(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"average_from": 5})
    seen: dict[int, dict[str, Tensor]] = {}
    judged: dict[int, Tensor] = {}

    def run(toy: Toy, folder: Path, resume: bool = False, last: int = 12) -> Toy:
        def keep(step: int, _: Mapping[str, float]) -> bool:
            seen[step] = {name: one.clone() for name, one in toy.model.named_parameters()}
            return step == last

        def validate(step: int) -> dict[str, float]:
            judged[step] = toy.model[1].weight.clone()
            return {"loss": 0.0}

        train(toy, config, folder, resume, validate, callbacks=[keep])
        return toy

    for last in (12, 7, 3):
        toy = run(Toy(), tmp_path / f"{last}", last=last)
        steps = range(5, last + 1) if last >= 5 else [last]
        for name, one in toy.model.named_parameters():
            mean = torch.stack([seen[step][name] for step in steps]).mean(0)
            torch.testing.assert_close(one.detach(), mean, rtol=1e-5, atol=1e-7)
        assert torch.equal(judged[last], toy.model[1].weight)  # what is judged is what is kept

    def fail(step: int) -> None:
        if step == 10:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Toy(fail), tmp_path / "parts")
    heir = run(Toy(), tmp_path / "parts", resume=True)
    whole = run(Toy(), tmp_path / "whole")
    assert_same(dict(heir.model.state_dict()), dict(whole.model.state_dict()))
    saved, _ = load_model(tmp_path / "parts", "toy")
    assert torch.equal(saved["1.weight"], heir.model[1].weight)
    with pytest.raises(ValidationError, match="average_from 13 is after the last step, 12"):
        TrainConfig(steps=12, learning_rate=0.1, average_from=13)
    with pytest.raises(ValidationError, match=r"average_from 2.5 is neither a step nor a share"):
        TrainConfig(steps=12, learning_rate=0.1, average_from=2.5)


@pytest.mark.parametrize(
    ("steps", "average_from", "first"),
    [
        (100, 41, 41),
        (100, 0.4, 41),
        (60, 0.4, 25),
        (1, 0.4, 1),
        (5, 0.99, 5),
        (100, 0.29, 30),
        (7, None, None),
    ],
)
def test_the_mean_begins_at_a_step_or_after_a_share(
    steps: int, average_from: float | None, first: int | None
) -> None:
    config = TrainConfig(steps=steps, learning_rate=0.1, average_from=average_from)
    assert config.first_averaged == first


def test_early_stopping_keeps_the_best_through_a_resume(tmp_path: Path) -> None:
    figures = {0: 5.0, 2: 3.0, 4: 4.0, 6: math.nan, 8: 3.0, 10: 0.0}
    stop = EarlyStopping("loss", patience=3)
    kept: dict[int, dict[str, Tensor]] = {}

    def run(toy: Toy, folder: Path, resume: bool = False) -> TrainResult:
        def validate(step: int) -> dict[str, float]:
            kept[step] = {name: t.clone() for name, t in toy.model.state_dict().items()}
            return scripted(figures)(step)

        return train(toy, CONFIG, folder, resume, validate, 2, stop)

    whole = Toy()
    result = run(whole, tmp_path / "whole")
    assert (result.step, result.best_step) == (8, 2)
    assert_same(dict(whole.model.state_dict()), kept[2])

    def fail(step: int) -> None:
        if step == 6:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Toy(fail), tmp_path / "parts")
    heir = Toy()
    again = run(heir, tmp_path / "parts", resume=True)
    assert (again.step, again.best_step, again.validations) == (8, 2, result.validations)
    assert_same(dict(heir.model.state_dict()), dict(whole.model.state_dict()))
    saved, _ = load_model(tmp_path / "parts", "toy")
    assert torch.equal(saved["1.weight"], kept[2]["1.weight"].cpu())


def test_early_stopping_rule() -> None:
    stop = EarlyStopping("loss", patience=2)
    history = [{"step": step, "loss": loss} for step, loss in enumerate((None, 3.0, 3.0, 4.0))]
    assert [stop(history[:count]) for count in (1, 2, 3, 4)] == [False, False, False, True]
    assert [stop.improved(history[:count]) for count in (1, 2, 3)] == [True, True, False]
    assert stop.best(history) == 1


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("loss", "loss nan, gradient norm nan"),
        ("gradient", "gradient norm nan"),
        ("figure", "reward -inf"),
        ("scores", "no scores"),
    ],
)
def test_divergence(tmp_path: Path, kind: str, named: str) -> None:
    class Diverging(Toy):
        def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            loss, figures = super().loss(step, generator)
            if step == 7 and kind == "loss":
                loss = loss * math.nan
            if step == 7 and kind == "gradient":
                # The derivative of a root is infinite at zero, while its value is finite.
                loss = (loss - loss.detach()).sqrt()
            if step == 7 and kind == "figure":
                figures["reward"] = -math.inf
            if step == 7 and kind == "scores":
                raise NotFinite("no scores")
            return loss, figures

        def batch(self) -> list[dict[str, Any]]:
            return [{"text": "It is late.", "tokens": [1, 2]}]

    toy = Diverging()
    with pytest.raises(TrainingDiverged) as caught:
        train(toy, CONFIG, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    kept = tmp_path / "diverged.json"
    parts = ("step 7", "keeps step 4", "learning_rate=0.02", "warmup_steps=3", named, str(kept))
    for part in parts:
        assert part in message
    record = json.loads(kept.read_text())
    assert (record["step"], record["batch"]) == (7, [{"text": "It is late.", "tokens": [1, 2]}])
    assert record["figures"]["loss"] == "nan" or kind in ("gradient", "figure")
    assert all(torch.isfinite(tensor).all() for tensor in toy.model.state_dict().values())
    saved, _ = load_model(tmp_path, "toy")
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())


def test_divergence_before_a_checkpoint(tmp_path: Path) -> None:
    toy = Toy()
    with torch.no_grad():
        toy.model[5].bias.fill_(math.inf)
    with pytest.raises(TrainingDiverged, match=r"step 1 .*no checkpoint was written yet"):
        train(toy, CONFIG, tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    toy = Toy()

    def spoil(step: int) -> None:
        if step == 8:
            toy.model[2].running_mean.fill_(math.nan)  # which no loss in training mode shows

    toy.before = spoil
    with pytest.raises(TrainingDiverged, match=r"step 8 .*2\.running_mean .*keeps step 4"):
        train(toy, CONFIG, tmp_path)
    saved, _ = load_model(tmp_path, "toy")
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())


def test_a_watched_figure_that_is_never_finite_ends_the_training(tmp_path: Path) -> None:
    figures = {0: math.nan, 4: math.inf, 8: math.nan, 12: 1.0}
    options: dict[str, Any] = {"validate": scripted(figures), "validate_every": 4}
    with pytest.raises(TrainingDiverged, match=r"step 4 .*loss was not finite"):
        train(Toy(), CONFIG, tmp_path, stop=EarlyStopping("loss", 2), **options)
    # What nothing hangs on is only logged.
    train(Toy(), CONFIG, tmp_path / "unwatched", **options)
    lines = read_metrics(tmp_path / "unwatched" / "metrics.jsonl")
    assert [line["validation"]["loss"] for line in lines if "validation" in line][1] is None


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "unset WORLD_SIZE RANK LOCAL_RANK"),
        ({"LOCAL_RANK": "0"}, "unset LOCAL_RANK"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE="),
    ],
)
def test_left_over_processes(
    environment: dict[str, str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    require_launcher()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=named):
        train(Toy(), CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # A run from Python claims its folder before that, and would wait there for the others.
    small = RewardModel(RewardConfig(width=4, layers=1, heads=1, feedforward=4, codes=9))
    rows = [Utterance(name, "", name, np.arange(9)) for name in ("happy", "sad")]
    with pytest.raises(UserError, match=named):
        runs.train_reward(small, rows, [], RewardRun(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    require_launcher()


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that ended at step 6 with a checkpoint of step 4."""

    def fail(step: int) -> None:
        if step == 6:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(Toy(fail), CONFIG, tmp_path / "run")
    return tmp_path / "run"


def test_another_configuration(stopped: Path) -> None:
    other = CONFIG.model_copy(update={"learning_rate": 0.03})
    with pytest.raises(UserError, match=r"learning_rate=0\.02, not 0\.03"):
        train(Toy(), other, stopped, resume=True)


def test_another_model(stopped: Path) -> None:
    toy = Toy()
    toy.model[4].requires_grad_(True)
    with pytest.raises(UserError, match="another model"):
        train(toy, CONFIG, stopped, resume=True)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("training.json", b"{"),
        ("training.json", b"{}"),
        ("training.json", b"[]"),
        ("training.safetensors", None),
        ("training.safetensors", b"half"),
        ("random-0.safetensors", None),
    ],
)
def test_damaged_checkpoint(stopped: Path, file: str, content: bytes | None) -> None:
    path = stopped / "checkpoint" / file
    if content == b"half":
        content = path.read_bytes()[:200]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="checkpoint") as caught:
        train(Toy(), CONFIG, stopped, resume=True)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "mine.txt").write_text("kept")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"no training\.json"):
            train(Toy(), CONFIG, tmp_path, resume=resume)
    assert (tmp_path / "checkpoint" / "mine.txt").read_text() == "kept"


def test_unwritable_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        train(Toy(), CONFIG, tmp_path / "file" / "run")
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        train(Toy(), CONFIG, tmp_path / "run")


def test_nothing_to_train(tmp_path: Path) -> None:
    toy = Toy()
    toy.model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient"):
        train(toy, CONFIG, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device has half precision")
def test_precision_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a CUDA device"):
        train(Toy(), CONFIG.model_copy(update={"mixed_precision": "fp16"}), tmp_path / "half")
    dtypes: list[torch.dtype] = []
    for precision in ("auto", "no", "bf16"):
        toy = Toy()
        toy.model[1].register_forward_hook(lambda _m, _i, output: dtypes.append(output.dtype))
        config = CONFIG.model_copy(update={"mixed_precision": precision, "steps": 1})
        train(toy, config, tmp_path / precision)
        assert toy.model[1].weight.dtype == torch.float32
    assert dtypes == [torch.float32, torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({"checkpoint", "checkpoint.new"}, "checkpoint"),
        ({"checkpoint", "checkpoint.old"}, "checkpoint"),
        ({"checkpoint.new", "checkpoint.old"}, "checkpoint.new"),
        ({"checkpoint.old"}, "checkpoint.old"),
        ({"checkpoint.new"}, None),
        (set(), None),
    ],
)
def test_recovery_of_a_folder(tmp_path: Path, present: set[str], expected: str | None) -> None:
    for name in present:
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    recover_folder(tmp_path / "checkpoint")
    content = tmp_path / "checkpoint" / "content"
    assert (content.read_text() if content.exists() else None) == expected
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for turn in ("first", "second"):
        fresh = begin_folder(tmp_path / "checkpoint")
        (fresh / turn).write_text(turn)
        commit_folder(tmp_path / "checkpoint")
        assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == [turn]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_random_states_return() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(3)

    def draw() -> list[float]:
        return [
            random.gauss(0, 1),
            random.random(),
            float(np.random.standard_normal()),
            torch.randn(()).item(),
            torch.randn((), device=device).item(),
            torch.rand((), generator=generator).item(),
        ]

    draw()  # leaves the second value of a normal pair waiting in Python and numpy
    states = random_states(generator, device)
    drawn = [draw(), draw()]
    restore_random_states(states, generator, device)
    assert [draw(), draw()] == drawn


def test_progress_lines_and_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with Progress("fitting", 100) as progress:
        for done in range(1, 101):
            progress.update(done, f"loss {done}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["fitting: 100/100, 0:00 left, loss 100"]
    with monkeypatch.context() as patched:
        patched.setattr("rrpo.progress.LINE_INTERVAL", 0.0)
        with Progress("fitting", 100, done=40) as progress:
            for done in (41, 42, 43, 100):
                progress.update(done)
    lines = capsys.readouterr().err.splitlines()
    # 3 of the 60 steps that are left are a twentieth of them.
    assert ["left" in line for line in lines] == [False, False, True, True]
    with Progress("fitting", 3, visible=False) as progress:
        progress.update(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress("fitting", 4, done=1) as progress:
        progress.update(3, "loss 0.5")
    shown = capsys.readouterr().err
    assert "fitting" in shown and "3/4" in shown and "loss 0.5" in shown
    # Bars of processes side by side would be drawn over each other.
    monkeypatch.setattr("rrpo.progress.parent_process", object)
    with Progress("fitting", 4) as progress:
        progress.update(4)
    assert capsys.readouterr().err.splitlines() == ["fitting: 4/4, 0:00 left"]


if __name__ == "__main__":
    kill_and_resume(Path(sys.argv[1]))


class Line:
    """A line through batches of different sizes, whose loss is a mean over their points."""

    BATCHES = ((0, 3), (3, 4), (4, 9), (9, 12))

    def __init__(self, joined: int) -> None:
        self.model = nn.Linear(1, 1)
        with torch.no_grad():
            self.model.weight.fill_(0.3)
            self.model.bias.fill_(-0.2)
        self.joined, self.place, self.weight = joined, 0, 1.0

    def loss(self, _: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Take the next batches as one, with their mean as a figure."""
        chosen = self.BATCHES[self.place : self.place + self.joined]
        self.place += self.joined
        x = torch.cat([torch.linspace(-1, 2, 12)[slice(*ends)] for ends in chosen])[:, None]
        self.weight = float(len(x))
        torch.rand((), generator=generator)
        loss = (self.model(x) - x.sin()).square().mean()
        return loss, {"mean": float(x.mean())}

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_model(folder, self.model.state_dict(), {"kind": "line"})


def test_micro_batches_are_one_batch(tmp_path: Path) -> None:
    """Of different sizes, weighed by them: the same gradient, loss and figures as in one batch."""
    config = TrainConfig(steps=2, learning_rate=0.05, max_gradient_norm=100.0, report_to="none")
    records, weights = [], []
    for accumulate in (1, 2):
        line = Line(joined=2 // accumulate)
        folder = tmp_path / str(accumulate)
        train(line, config.model_copy(update={"accumulate": accumulate}), folder, description="")
        assert line.place == 4
        records.append([{**row, "seconds": 0} for row in read_metrics(folder / "metrics.jsonl")])
        weights.append(line.model.weight.item())
    for one, other in zip(*records, strict=True):
        assert other == pytest.approx(one, rel=1e-5)
    assert weights[0] != 0.3 and weights[1] == pytest.approx(weights[0], rel=1e-5)


def test_an_accumulating_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"accumulate": 3, "report_to": "none"})

    def fail(step: int) -> None:
        calls.append(step)
        if len(calls) == 3 * 6 + 2:
            raise ZeroDivisionError

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    calls: list[int] = []
    train(Toy(), config, whole, description="")
    with pytest.raises(ZeroDivisionError):
        train(Toy(fail), config, cut, description="")
    assert calls[:4] == [1, 1, 1, 2]
    train(Toy(), config, cut, resume=True, description="")
    names = ("model.safetensors", "training.safetensors", "random-0.safetensors")
    for name in names:
        one, other = (folder / "checkpoint" / name for folder in (whole, cut))
        assert one.read_bytes() == other.read_bytes()
    assert not (whole / "tensorboard").exists()


def test_callbacks_get_each_steps_figures_and_may_stop(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    validated: list[int] = []

    def watch(step: int, figures: Mapping[str, float]) -> bool:
        assert step == figures["step"]
        seen.append(dict(figures))
        return figures["noise"] > 100.0

    def stop(step: int, _: Mapping[str, float]) -> bool:
        return step == 5

    def validate(step: int) -> dict[str, float]:
        validated.append(step)
        return {"loss": 0.0}

    toy = Toy()
    result = train(toy, CONFIG, tmp_path, validate=validate, callbacks=[stop, watch])
    assert result.step == 5 and validated == [0, 5]
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert seen == [line for line in lines if "validation" not in line] and len(seen) == 5
    state, _ = load_model(tmp_path, "toy")
    assert torch.equal(state["1.weight"], toy.model.state_dict()["1.weight"])
    again = train(Toy(), CONFIG, tmp_path, resume=True)
    assert again.step == 5, "a run that was stopped is over"


@pytest.mark.parametrize(
    ("answer", "steps"),
    [(np.bool_(True), 1), (torch.tensor(True), 1), (np.bool_(False), 3), ({"kept": 1}, 3)],
)
def test_what_stops_a_training_is_true_of_any_kind_and_nothing_else(
    tmp_path: Path, answer: Any, steps: int
) -> None:
    config = CONFIG.model_copy(update={"steps": 3})
    assert train(Toy(), config, tmp_path, callbacks=[lambda *_: answer]).step == steps


def test_a_tracker_that_is_not_installed_is_named_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = CONFIG.model_copy(update={"report_to": "wandb"})
    with pytest.raises(UserError, match="needs the package wandb: pip install wandb"):
        train(Toy(), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Through accelerate's own tracker; only the package behind it is replaced."""
    logged: list[tuple[int, dict[str, float]]] = []
    begun: dict[str, Any] = {}

    class Run:
        def log(self, values: dict[str, float], step: int, **_: Any) -> None:
            logged.append((step, values))

        def finish(self) -> None:
            begun["finished"] = True

    package = ModuleType(name)
    package.__spec__ = ModuleSpec(name, None)
    package.init = lambda **settings: begun.update(settings) or Run()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, package)
    config = CONFIG.model_copy(update={"report_to": name, "steps": 2})
    validate = {"validate": lambda _: {"loss": 1.5}, "validate_every": 0}
    train(Toy(), config, tmp_path / "run", **validate)  # type: ignore[arg-type]
    assert begun["project"] == "rrpo" and begun["name"] == "run" and begun["finished"]
    assert [step for step, _ in logged] == [0, 1, 2, 2]
    assert logged[0][1] == {"validation/loss": 1.5}
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert logged[1][1] == {key: value for key, value in lines[1].items() if key != "step"}

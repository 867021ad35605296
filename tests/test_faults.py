"""Every operation on the disk fails once: by a kill, by a full disk, by a damaged file.

The operations of a short run are counted in a first pass, then the run is made again and again,
each time with the next one failing; none is left to chance.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.tensorboard
from torch import Tensor, nn

from disk_faults import NEEDS_ROOM, Killed, faults
from rrpo.checkpoint import load_model, save_model
from rrpo.errors import UserError
from rrpo.progress import read_metrics
from rrpo.run_folder import require_whole
from rrpo.train import TrainConfig, train

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(steps=3, learning_rate=0.05, save_every=1, threads=1)
"""Its checkpoints are a first one, one that replaces another, and the last."""


class Tiny:
    """Two weights, an objective that draws, and a tensor that is carried from step to step."""

    def __init__(self) -> None:
        self.model = nn.Linear(2, 1)
        with torch.no_grad():
            self.model.weight.fill_(0.5)
            self.model.bias.fill_(0.0)
        self.carried: dict[str, Tensor] = {}
        self.fails_at = 0

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Fit a drawn point."""
        if step == self.fails_at:
            raise ZeroDivisionError
        drawn = torch.randn(2, generator=generator)
        self.carried["sum"] = self.carried.get("sum", torch.zeros(2)) + drawn
        loss = (self.model(drawn + self.carried["sum"]) - step).square().mean()
        return loss, {"drawn": float(drawn[0])}

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_model(folder, self.model.state_dict(), {"kind": "tiny"})


class Board:
    """No tensorboard: its file is written by a thread and is no part of a checkpoint."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def add_scalar(self, *_: Any, **__: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave out what takes time, and give the other tests their threads and their chance back."""
    monkeypatch.setattr(torch.utils.tensorboard, "SummaryWriter", Board)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # it takes 10 ms, and is watched all the same
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


def run(folder: Path, resume: bool = False) -> None:
    """Train without a word."""
    train(Tiny(), CONFIG, folder, resume=resume, description="")


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that must be the same however a run came to its end."""
    files = ("model.safetensors", "training.safetensors", "random-0.safetensors")
    names = sorted(path.name for path in folder.iterdir())
    lines = read_metrics(folder / "metrics.jsonl")
    return {
        **{name: (folder / "checkpoint" / name).read_bytes() for name in files},
        "metrics": [{**line, "seconds": 0} for line in lines],
        "kept": (folder / "metrics.jsonl").read_bytes()
        == (folder / "checkpoint" / "metrics.jsonl").read_bytes(),
        "names": [name for name in names if name != "checkpoint.damaged"],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("faults") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.utils.tensorboard, "SummaryWriter", Board)
        run(folder)
    found = outcome(folder)
    assert found["names"] == ["checkpoint", "config.yaml", "metrics.jsonl"]
    assert [line["step"] for line in found["metrics"]] == [1, 2, 3]
    return found


def count(folder: Path, kill: bool) -> list[str]:
    """Return the operations of a run that nothing disturbs."""
    with faults(None, kill) as made:
        run(folder)
    return made.done


def test_a_kill_before_every_operation(tmp_path: Path, whole: dict[str, Any]) -> None:
    done = count(tmp_path / "counted", kill=True)
    kinds = Counter(done)
    assert kinds["fsync"] >= 3 * 8 and kinds["replace"] >= 3 * 6 + 5 and kinds["write"] >= 3
    for number, name in enumerate(done):
        folder = tmp_path / f"{number}"
        with pytest.raises(Killed), faults(number, kill=True):
            run(folder)
        run(folder, resume=True)
        assert outcome(folder) == whole, (number, name)
        shutil.rmtree(folder)


def test_the_power_fails_before_every_flush_and_rename(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    done = count(tmp_path / "counted", kill=True)
    for number, name in enumerate(done):
        if name not in ("fsync", "replace"):
            continue  # what is lost before another operation is lost before the next of these too
        folder = tmp_path / f"{number}"
        with pytest.raises(Killed), faults(number, kill=True) as made:
            run(folder)
        if folder.exists():
            made.lose_unflushed(folder)
        run(folder, resume=True)
        assert outcome(folder) == whole, (number, name)
        shutil.rmtree(folder)


def test_a_full_disk_at_every_write(tmp_path: Path, whole: dict[str, Any]) -> None:
    done = count(tmp_path / "counted", kill=False)
    assert set(done) <= set(NEEDS_ROOM)
    for number, name in enumerate(done):
        folder = tmp_path / f"{number}"
        with pytest.raises(UserError, match="No space left") as caught, faults(number, kill=False):
            run(folder)
        message = str(caught.value)
        assert "\n" not in message and "cannot write" in message and str(folder) in message
        left = {path.name for path in folder.iterdir()} if folder.exists() else set()
        # A filled folder that could not be put in the place left free for it is the newest.
        assert "checkpoint.new" not in left or "checkpoint" not in left
        run(folder, resume=True)
        assert outcome(folder) == whole, (number, name)
        shutil.rmtree(folder)


def ways_to_damage(file: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the damages that a file can take: bits over its whole length, cuts, and its loss."""
    data = file.read_bytes()
    places = range(len(data)) if len(data) < 300 else range(0, len(data), len(data) // 100)
    for place in [*places, len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        yield f"bit at {place}", lambda changed=changed: file.write_bytes(changed)
    for size in (0, 1, len(data) // 2, len(data) - 1):
        yield f"cut to {size}", lambda size=size: file.write_bytes(data[:size])
    yield "lost", file.unlink


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that ended within step 3: there are checkpoints of step 2 and of step 1."""
    folder = tmp_path / "stopped"
    tiny = Tiny()
    tiny.fails_at = 3
    with pytest.raises(ZeroDivisionError):
        train(tiny, CONFIG, folder, description="")
    return folder


def test_a_damage_in_every_file_is_found_and_the_one_before_is_taken(
    stopped: Path, whole: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted((stopped / "checkpoint").iterdir()):
        every = [what for what, _ in ways_to_damage(file)]
        for what in (every[-6], every[-3], every[-1]):  # a bit, a cut and the loss, to the end
            folder = tmp_path / "again"
            shutil.copytree(stopped, folder)
            dict(ways_to_damage(folder / "checkpoint" / file.name))[what]()
            run(folder, resume=True)
            said = capsys.readouterr().out.splitlines()
            assert len(said) == 1 and file.name in said[0], (file.name, what)
            assert "going on from the checkpoint of step 1" in said[0]
            assert outcome(folder) == whole, (file.name, what)
            shutil.rmtree(folder)


def test_every_bit_and_cut_is_found(stopped: Path) -> None:
    for file in sorted((stopped / "checkpoint").iterdir()):
        data = file.read_bytes()
        for what, damage in ways_to_damage(file):
            damage()
            with pytest.raises(UserError) as caught:
                require_whole(stopped / "checkpoint")
            named = file.name in str(caught.value) or file.name == "SHA256SUMS"
            assert named and "\n" not in str(caught.value), (file.name, what)
            file.write_bytes(data)
    require_whole(stopped / "checkpoint")


def test_a_damage_without_a_checkpoint_before_is_refused(stopped: Path) -> None:
    shutil.rmtree(stopped / "checkpoint.old")
    weights = stopped / "checkpoint" / "training.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    left = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"training\.safetensors.*no earlier.*another --out"):
        run(stopped, resume=True)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == left


def test_who_reads_a_damaged_checkpoint_is_told_of_the_one_before(stopped: Path) -> None:
    weights = stopped / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    before = stopped / "checkpoint.old"
    with pytest.raises(UserError, match=f"SHA-256.*, or name {before}, the checkpoint before"):
        load_model(stopped, "tiny")
    load_model(before, "tiny")
    (before / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"SHA-256 named in model\.json: copy or make it again$"):
        load_model(stopped, "tiny")


def test_two_damaged_checkpoints_are_both_named(stopped: Path) -> None:
    for name in ("checkpoint", "checkpoint.old"):
        (stopped / name / "training.json").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"checkpoint/training\.json.*checkpoint\.old/training\.j"):
        run(stopped, resume=True)
    assert (stopped / "checkpoint").is_dir()


@pytest.mark.parametrize("text", [None, "", '{"step": 1, "loss": 9.0}\n' * 3])
def test_the_metrics_are_those_of_the_checkpoint(
    stopped: Path, whole: dict[str, Any], text: str | None
) -> None:
    path = stopped / "metrics.jsonl"
    path.unlink() if text is None else path.write_text(text)
    run(stopped, resume=True)
    assert outcome(stopped) == whole


def test_checkpoints_of_before_the_hashes_are_refused(stopped: Path) -> None:
    for name in ("checkpoint", "checkpoint.old"):
        (stopped / name / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="lost its SHA256SUMS, and so is the one before") as caught:
        run(stopped, resume=True)
    assert "\n" not in str(caught.value)


def test_a_run_without_its_configuration_is_refused(stopped: Path) -> None:
    (stopped / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"no config\.yaml: it is of an earlier version"):
        run(stopped, resume=True)

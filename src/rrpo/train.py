"""The one training loop: any objective, resumable after a kill to the same weights.

An objective says what is trained and what its loss is; the loop owns the rest: AdamW, clipping,
schedule, precision, metrics, checkpoints, interruption. Under `accelerate launch` several processes
average their gradients, each with its own random states and the whole model (no sharding).
`ACCELERATE_USE_CPU=1` keeps it off a GPU.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import pydantic
import torch
from accelerate import Accelerator
from torch import Tensor

from rrpo.checkpoint import alone, writing
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.progress import Metrics, Progress, finite, interruption
from rrpo.state import (
    TrainingState,
    claim_folder,
    initial_state,
    restore_state,
    save_state,
    working_precision,
)
from rrpo.stopping import EarlyStopping as EarlyStopping
from rrpo.stopping import Stop

Model = TypeVar("Model", bound=torch.nn.Module)
Validate = Callable[[int], Mapping[str, float]]


class TrainConfig(Strict):
    """How to train, whatever the objective."""

    steps: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0)
    warmup_steps: int = pydantic.Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = pydantic.Field(0.01, ge=0)
    max_gradient_norm: float = pydantic.Field(1.0, gt=0)
    seed: int = pydantic.Field(0, ge=0)
    save_every: int = pydantic.Field(100, ge=1)
    # auto: bf16 on a CUDA device that has it, otherwise no.
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    # None: as many as torch chose; a resumed run takes the number of the run it continues.
    threads: int | None = pydantic.Field(None, ge=1)


class Objective(Protocol[Model]):
    """What is trained, and towards what.

    An objective that takes tensors from one step to the next keeps them in a dictionary `carried`,
    which becomes part of the checkpoint.
    """

    @property
    def model(self) -> Model:
        """The model whose parameters with `requires_grad` are trained, in place."""
        ...

    def loss(
        self, model: Model, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss of one step, and figures to log.

        Args:
            model: the trained model, in training mode, on its device. Frozen companions of the
                objective are brought to that device by the objective.
            step: 1 … steps, the number that `metrics.jsonl` shows.
            generator: on the CPU; the only source of chance besides the global states of torch
                (dropout), numpy and Python. A loss must depend on nothing else that changes but
                `carried`.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into a checkpoint folder (`model.safetensors`, `model.json`)."""
        ...


class TrainingDiverged(UserError):  # noqa: N818
    """The loss or the gradient is no longer finite; the last good checkpoint stands."""


class TrainingInterrupted(UserError):  # noqa: N818
    """Ctrl-C was pressed; a checkpoint was written."""


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        step: the last step.
        best_step: the step whose weights were kept; None without early stopping: the last.
        seconds: time spent in steps, over all resumed parts.
        validations: "step" and the figures of each validation.
    """

    step: int
    best_step: int | None
    seconds: float
    validations: list[dict[str, Any]]


@dataclass(frozen=True)
class _Run:
    """What `train` was called with, and the state of the training."""

    objective: Objective[Any]
    config: TrainConfig
    folder: Path
    accelerator: Accelerator
    precision: torch.dtype | None
    state: TrainingState
    validate: Validate | None
    validate_every: int
    stop: Stop | None


def train(
    objective: Objective[Model],
    config: TrainConfig,
    folder: Path,
    resume: bool = False,
    validate: Validate | None = None,
    validate_every: int = 0,
    stop: Stop | None = None,
    description: str = "training",
) -> TrainResult:
    """Train `objective.model` in place and leave checkpoints and metrics in a folder.

    Writes `checkpoint/` (the model, and what it takes to continue), `metrics.jsonl` and
    `tensorboard/`. On the CPU a run that was killed and resumed ends with exactly the weights of an
    uninterrupted one.

    Args:
        objective: what to train.
        config: how.
        folder: where to write; one without a run, unless `resume`.
        resume: continue from the checkpoint in the folder, if there is one.
        validate: called with the step, without gradient and in evaluation mode, before the first
            step, every `validate_every` steps (0: not in between) and after the last.
        validate_every: see `validate`.
        stop: given all validations so far, says whether to stop, as a pure function. With an
            `EarlyStopping` the best weights are the result.
        description: what the progress bar says; nothing is shown where it is empty.

    Raises:
        UserError: the folder holds another run, is written by another process, cannot be written,
            or differs in configuration.
        TrainingDiverged: the loss or gradient norm is not finite; the last checkpoint stands.
        TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    accelerator = Accelerator(mixed_precision="no")  # the loop casts and scales by itself
    main = accelerator.is_main_process
    precision = working_precision(config.mixed_precision, accelerator.device)
    with alone(folder) if main else contextlib.nullcontext():
        claim_folder(folder, resume, accelerator)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        half = precision is torch.float16
        state = initial_state(objective.model, config.weight_decay, config.seed, accelerator, half)
        state.carried = getattr(objective, "carried", state.carried)
        if (folder / "checkpoint").exists():
            restore_state(state, folder / "checkpoint", config, accelerator)
        if not state.finished:
            settings = (objective, config, folder, accelerator, precision)
            run = _Run(*settings, state, validate, validate_every, stop)
            with writing(folder):
                metrics = Metrics(folder, state.step, active=main)
            visible = main and bool(description)
            progress = Progress(description, config.steps, state.step, visible=visible)
            with metrics, progress, interruption() as signalled:
                _loop(run, metrics, progress, signalled)
    return TrainResult(state.step, state.best_step, state.seconds, state.validations)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step (1 … steps): linear warm-up, then the schedule.

    The cosine begins at `learning_rate` on the first step after the warm-up and would reach zero
    on the step after the last.
    """
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - 1 - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def _loop(run: _Run, metrics: Metrics, progress: Progress, signalled: threading.Event) -> None:
    state, config = run.state, run.config
    if state.step == 0:
        _validate(run, metrics)
    over, interrupted = _over(run), False
    while not (over or interrupted):
        record, interrupted = _advance(run, signalled)
        with writing(run.folder):
            metrics.write(record)
        due = run.validate_every > 0 and state.step % run.validate_every == 0
        if due or state.step == config.steps:
            _validate(run, metrics)
        over = _over(run)
        progress.update(state.step, f"loss {record['loss']:.4g}")
        if not over and (interrupted or state.step % config.save_every == 0):
            _save(run)
    if over:
        if state.best:
            state.set_weights(state.best)
            state.best = {}
        state.finished = True
        _save(run)
    if interrupted or signalled.is_set():
        raise TrainingInterrupted(
            f"interrupted after step {state.step} of {config.steps}, saved in {run.folder}: "
            "continue with --resume"
        )


def _advance(run: _Run, signalled: threading.Event) -> tuple[dict[str, Any], bool]:
    """Take one step; return its record and whether any process was interrupted."""
    began = time.perf_counter()
    state, accelerator = run.state, run.accelerator
    step = state.step + 1
    rate = learning_rate(run.config, step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    model = run.objective.model.train()
    device = accelerator.device.type
    with torch.autocast(device, run.precision, enabled=run.precision is not None):
        loss, figures = run.objective.loss(model, step, state.generator)
    torch.autograd.backward(state.scaler.scale(loss))
    value, interrupted = loss.item(), signalled.is_set()
    if accelerator.num_processes > 1:
        value, interrupted = _share(run, value, interrupted)
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(
        state.parameters.values(), run.config.max_gradient_norm
    ).item()
    # Half precision overflows now and then: the scaler skips such a step and lowers its scale.
    overflow = state.scaler.is_enabled() and state.scaler.get_scale() >= 1.0
    if not math.isfinite(value) or not (math.isfinite(norm) or overflow):
        raise _diverged(run, step, value, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.step = step
    seconds = time.perf_counter() - began
    state.seconds += seconds
    record = {"step": step, "loss": value, "learning_rate": rate, "gradient_norm": norm}
    figures = {name: float(figure) for name, figure in figures.items() if name not in record}
    return {**record, **figures, "seconds": seconds}, interrupted


def _share(run: _Run, loss: float, interrupted: bool) -> tuple[float, bool]:
    """Average loss and gradients over the processes; hear an interruption of any of them."""
    reduce, device = run.accelerator.reduce, run.accelerator.device
    mean, signals = reduce(torch.tensor([loss, float(interrupted)], device=device), "mean").tolist()
    for parameter in run.state.parameters.values():
        if parameter.grad is None:  # another process may have a gradient for it
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.copy_(reduce(parameter.grad, "mean"))
    return mean, signals > 0


def _validate(run: _Run, metrics: Metrics) -> None:
    if run.validate is None:
        return
    state, accelerator = run.state, run.accelerator
    run.objective.model.eval()
    with torch.no_grad():
        figures = {name: float(figure) for name, figure in run.validate(state.step).items()}
    if accelerator.num_processes > 1:
        shared = torch.tensor([*figures.values()], device=accelerator.device)
        figures = dict(zip(figures, accelerator.reduce(shared, "mean").tolist(), strict=True))
    state.validations.append({"step": state.step, **finite(figures)})
    with writing(run.folder):
        metrics.write({"step": state.step, "validation": figures})
    if isinstance(run.stop, EarlyStopping) and run.stop.improved(state.validations):
        state.best_step, state.best = state.step, state.weights()


def _over(run: _Run) -> bool:
    """Say whether the training is over; asked again after a resume, with the same answer."""
    history = run.state.validations
    validated = bool(history) and history[-1]["step"] == run.state.step
    stopped = validated and run.stop is not None and run.stop(history)
    return stopped or run.state.step >= run.config.steps


def _save(run: _Run) -> None:
    target = run.folder / "checkpoint"
    save_state(run.state, target, run.config, run.accelerator, run.objective.save)


def _diverged(run: _Run, step: int, loss: float, norm: float) -> TrainingDiverged:
    saved, config = run.state.saved_step, run.config
    kept = "no checkpoint was written yet"
    if saved is not None:
        kept = f"{run.folder / 'checkpoint'} keeps step {saved}"
    return TrainingDiverged(
        f"training diverged at step {step} (loss {loss:.4g}, gradient norm {norm:.4g}; {kept}): "
        f"lower learning_rate={config.learning_rate:g} or "
        f"max_gradient_norm={config.max_gradient_norm:g}, or raise "
        f"warmup_steps={config.warmup_steps}, and start again in another --out"
    )

"""The one training loop: any objective, resumable after a kill to the same weights.

An objective says what is trained and what its loss is; the loop owns the rest: AdamW, accumulation,
clipping, schedule, precision, metrics, checkpoints, interruption. Under `accelerate launch` several
processes average their gradients, each with its own random states and the whole model (no
sharding). `ACCELERATE_USE_CPU=1` keeps it off a GPU.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from rrpo.checkpoint import writing
from rrpo.diverged import Divergence, Rows, diverged
from rrpo.diverged import TrainingDiverged as TrainingDiverged
from rrpo.errors import NotFinite, UserError
from rrpo.objective import Model
from rrpo.objective import Objective as Objective
from rrpo.processes import working_precision
from rrpo.progress import Metrics, Progress, finite, interruption, require_tracker
from rrpo.run_folder import RunFolder, open_run
from rrpo.schedule import EarlyStopping as EarlyStopping
from rrpo.schedule import Stop
from rrpo.schedule import TrainConfig as TrainConfig
from rrpo.state import TrainingState, initial_state, restore_run, save_state

Validate = Callable[[int], Mapping[str, float]]
Callback = Callable[[int, Mapping[str, float]], bool | None]
"""Called after each step with its number and its figures; where it returns True, that is the last.

The figures are those of the step's line in `metrics.jsonl`. With several processes each calls its
own, and the training ends where any of them says so.
"""


class TrainingInterrupted(UserError):
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
    place: RunFolder
    precision: torch.dtype | None
    state: TrainingState
    validate: Validate | None
    validate_every: int
    stop: Stop | None
    callbacks: Sequence[Callback]
    pace: Callable[[int], float] | None

    @property
    def accelerator(self) -> Accelerator:
        """The processes that train together."""
        return self.place.accelerator


def train(
    objective: Objective[Model],
    config: TrainConfig,
    folder: Path | RunFolder,
    resume: bool = False,
    validate: Validate | None = None,
    validate_every: int = 0,
    stop: Stop | None = None,
    description: str = "training",
    callbacks: Sequence[Callback] = (),
    pace: Callable[[int], float] | None = None,
) -> TrainResult:
    """Train `objective.model` in place and leave checkpoints and metrics in a folder.

    On the CPU a run that was killed and resumed ends with exactly the weights of an uninterrupted
    one.

    Args:
        objective: what to train.
        config: how.
        folder: where to write; one without a run, unless `resume`, or one that is open already.
        resume: continue from the checkpoint in the folder, if there is one.
        validate: called with the step, without gradient and in evaluation mode, before the first
            step, every `validate_every` steps (0: not in between) and after the last.
        validate_every: see `validate`.
        stop: a pure function of all validations; of an `EarlyStopping` the best weights are kept.
        description: what the progress bar says; nothing is shown where it is empty.
        callbacks: called after each step; one that returns True makes it the last, and ends it.
        pace: says which share of the learning rate a step takes, the same after a resume.

    Raises:
        UserError: as `open_run`; or there is no whole checkpoint to go on from, or the package of
            `report_to` is not installed.
        TrainingDiverged: a number is not finite; the last checkpoint stands, and `diverged.json`
            holds the batch.
        TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    require_tracker(config.report_to)
    opened: AbstractContextManager[RunFolder] = (
        nullcontext(folder) if isinstance(folder, RunFolder) else open_run(folder, config, resume)
    )
    with opened as place:
        accelerator, main = place.accelerator, place.accelerator.is_main_process
        precision = working_precision(config.mixed_precision, accelerator.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        half = precision is torch.float16
        state = initial_state(objective.model, config.weight_decay, config.seed, accelerator, half)
        state.carried = getattr(objective, "carried", state.carried)
        restore_run(state, place)
        if not state.finished:
            settings = (objective, config, place, precision, state)
            run = _Run(*settings, validate, validate_every, stop, callbacks, pace)
            with writing(place.path):
                metrics = Metrics(place.path, state.step, config.report_to, active=main)
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
        metrics.write(record)
        stopped = _asked_to_stop(run, record)
        if stopped or state.step == config.steps:
            state.take_mean()
        due = run.validate_every > 0 and state.step % run.validate_every == 0
        if due or stopped or state.step == config.steps:
            _validate(run, metrics)
        over = stopped or _over(run)
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
            f"interrupted after step {state.step} of {config.steps}, saved in {run.place.path}: "
            "continue with --resume"
        )


def _advance(run: _Run, signalled: threading.Event) -> tuple[dict[str, Any], bool]:
    """Take one step; return its record and whether any process was interrupted."""
    began = time.perf_counter()
    state, accelerator = run.state, run.accelerator
    step = state.step + 1
    rate = learning_rate(run.config, step) * (run.pace(step) if run.pace else 1.0)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    loss, figures, what = _gradient(run, step)
    interrupted, good = signalled.is_set(), not what and _finite(loss, *figures.values())
    if accelerator.num_processes > 1:
        loss, interrupted, good = _share(run, loss, interrupted, good)
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(
        state.parameters.values(), run.config.max_gradient_norm
    ).item()
    # Half precision overflows now and then: the scaler skips such a step and lowers its scale.
    overflow = state.scaler.is_enabled() and state.scaler.get_scale() >= 1.0
    record = {"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm}
    figures = {name: figure for name, figure in figures.items() if name not in record}
    if not (good and math.isfinite(loss) and (math.isfinite(norm) or overflow)):
        raise _diverged(run, step, {**record, **figures}, what)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.step = step
    if run.config.average_from is not None and step >= run.config.average_from:
        state.average(step - run.config.average_from + 1)
    seconds = time.perf_counter() - began
    state.seconds += seconds
    return {**record, **figures, "seconds": seconds}, interrupted


def _gradient(run: _Run, step: int) -> tuple[float, dict[str, float], str]:
    """Compute the gradient of a step: the weighted mean of those of its micro-batches.

    Returns:
        the mean of the loss, of each figure over the micro-batches that have it, and what went
        wrong; the micro-batch that a number is not finite in is the last.
    """
    state, objective = run.state, run.objective
    objective.model.train()
    device = run.accelerator.device.type
    means: dict[str, float] = {}
    weights: dict[str, float] = {}
    for _ in range(run.config.accumulate):
        try:
            with torch.autocast(device, run.precision, enabled=run.precision is not None):
                loss, figures = objective.loss(step, state.generator)
        except NotFinite as error:
            return math.nan, {}, str(error)
        weight = float(getattr(objective, "weight", 1.0))
        figures = {"": loss.item(), **{name: float(one) for name, one in figures.items()}}
        for name, figure in figures.items():
            weights[name] = weights.get(name, 0.0) + weight
            mean = means.get(name, 0.0)
            means[name] = mean + (figure - mean) * (weight / weights[name])
        # A running mean, so that no micro-batch need know how much the others weigh.
        share = weight / weights[""]
        for parameter in state.parameters.values():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0 - share)
        torch.autograd.backward(state.scaler.scale(loss * share))
        if not _finite(*figures.values()):
            break
    return means.pop(""), means, ""


def _finite(*figures: float) -> bool:
    return all(map(math.isfinite, figures))


def _asked_to_stop(run: _Run, record: Mapping[str, Any]) -> bool:
    """Call the callbacks; say whether any of any process returned True."""
    answers = [callback(run.state.step, record) for callback in run.callbacks]
    stop = any(answer is True for answer in answers)
    if run.callbacks and run.accelerator.num_processes > 1:
        told = torch.tensor(float(stop), device=run.accelerator.device)
        stop = bool(run.accelerator.reduce(told, "sum") > 0)
    return stop


def _share(run: _Run, loss: float, interrupted: bool, good: bool) -> tuple[float, bool, bool]:
    """Average loss and gradients over the processes; hear what has happened to any of them."""
    reduce, device = run.accelerator.reduce, run.accelerator.device
    told = torch.tensor([loss, float(interrupted), float(not good)], device=device)
    mean, signals, failures = reduce(told, "mean").tolist()
    for parameter in run.state.parameters.values():
        if parameter.grad is None:  # another process may have a gradient for it
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.copy_(reduce(parameter.grad, "mean"))
    return mean, signals > 0, failures == 0


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
    metrics.write({"step": state.step, "validation": figures})
    if not isinstance(run.stop, EarlyStopping):
        return
    watched = run.stop.metric
    if state.step > 0 and all(one[watched] is None for one in state.validations):
        raise _diverged(run, state.step, figures, f"{watched} was not finite in any validation")
    if run.stop.improved(state.validations):
        state.best_step, state.best = state.step, state.weights()


def _over(run: _Run) -> bool:
    """Say whether the training is over; asked again after a resume, with the same answer."""
    history = run.state.validations
    validated = bool(history) and history[-1]["step"] == run.state.step
    stopped = validated and run.stop is not None and run.stop(history)
    return stopped or run.state.step >= run.config.steps


def _save(run: _Run) -> None:
    found = run.state.not_finite()
    if found is not None:
        raise _diverged(run, run.state.step, {}, f"the weight {found} is not finite")
    save_state(run.state, run.place.checkpoint, run.accelerator, run.objective.save)


def _diverged(
    run: _Run, step: int, figures: Mapping[str, float], what: str = ""
) -> TrainingDiverged:
    """Say what can be done about a step whose numbers are not finite; its batch is kept."""
    offered: Callable[[], Rows] = getattr(run.objective, "batch", tuple)
    batch = offered() if step > run.state.step else ()
    place = (run.place.path, run.accelerator.process_index, run.state.saved_step)
    return diverged(Divergence(step, what, figures, batch), run.config, *place)

"""The one training loop: any objective, resumable after a kill to the same weights.

An objective says what is trained and what its loss is; the loop owns the rest: AdamW, accumulation,
clipping, schedule, precision, metrics, checkpoints, interruption. Under `accelerate launch` or
`torchrun` several processes take every step together, each with batches and random states of its
own: the gradient is that of all their batches as one (`rrpo.processes`). `ACCELERATE_USE_CPU=1`
keeps it off a GPU.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from rrpo.diverged import Divergence, Rows, diverged
from rrpo.diverged import TrainingDiverged as TrainingDiverged
from rrpo.errors import TrainingInterrupted
from rrpo.files import read_json, write_json, writing
from rrpo.gradient import Gradient, all_finite, shared
from rrpo.objective import Model
from rrpo.objective import Objective as Objective
from rrpo.processes import (
    ELSEWHERE,
    ending_together,
    every_row,
    is_main,
    process,
    summed,
    told_by_main,
    working_precision,
)
from rrpo.progress import Metrics, Progress, finite, interruption, require_tracker
from rrpo.run_folder import RunFolder, open_run
from rrpo.schedule import EarlyStopping as EarlyStopping
from rrpo.schedule import Stop
from rrpo.schedule import TrainConfig as TrainConfig
from rrpo.sharding import gathered
from rrpo.state import TrainingState, initial_state, restore_run, save_state

Validate = Callable[[int], Mapping[str, float]]
Callback = Callable[[int, Mapping[str, float]], bool | None]
"""Called after each step with its number and its figures; where it returns True, that is the last.

The figures are those of the step's line in `metrics.jsonl`. With several processes each calls its
own, and the training ends where any of them says so.
"""


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
    gradient: Gradient
    config: TrainConfig
    place: RunFolder
    state: TrainingState
    validate: Validate | None
    validate_every: int
    stop: Stop | None
    callbacks: Sequence[Callback]
    pace: Callable[[int], float] | None
    signalled: threading.Event

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
        UserError: as `open_run`; no whole checkpoint to go on from; `report_to` is not installed.
        TrainingDiverged: a number is not finite; the last checkpoint stands, and `diverged.json`
            holds the batch.
        TrainingInterrupted: Ctrl-C or SIGTERM, of any process; a checkpoint was written.
    """
    require_tracker(config.report_to)
    opened: AbstractContextManager[RunFolder] = (
        nullcontext(folder) if isinstance(folder, RunFolder) else open_run(folder, config, resume)
    )
    # From here on: a run may be told to end while its model is still on its way to the device.
    with interruption() as signalled, opened as place:
        accelerator, main = place.accelerator, is_main()
        precision = working_precision(config.mixed_precision, accelerator.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        state = initial_state(objective.model, config, accelerator, precision)
        state.carried = getattr(objective, "carried", state.carried)
        restore_run(state, place)
        if not state.finished:
            gradient = Gradient(objective, config, state, accelerator.device, precision)
            settings = (objective, gradient, config, place, state)
            run = _Run(*settings, validate, validate_every, stop, callbacks, pace, signalled)
            with ending_together(), writing(place.path):
                metrics = Metrics(place.path, state.step, config.report_to, active=main)
            visible = main and bool(description)
            progress = Progress(description, config.steps, state.step, visible=visible)
            with metrics, progress:
                _loop(run, metrics, progress)
    return TrainResult(state.step, state.best_step, state.seconds, state.validations)


def write_results(folder: Path, kind: str, result: TrainResult, more: Mapping[str, Any]) -> None:
    """Write how a training of a kind ended, with `more`, into its folder's `results.json`."""
    if not is_main():
        return
    path = folder / "results.json"
    made: dict[str, Any] = {
        "schema": 1,
        "kind": kind,
        "stopped_at": result.step,
        "best_step": result.best_step,
        "seconds": result.seconds,
        "validations": result.validations,
        **more,
    }
    # A finished run that is resumed trains nothing, and what it was tested with stays true; one
    # that has trained took other seconds.
    before = read_json(path) if path.is_file() else {}
    if "evaluation" in before and before.get("seconds") == made["seconds"]:
        made["evaluation"] = before["evaluation"]
    write_json(path, made)


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


def _loop(run: _Run, metrics: Metrics, progress: Progress) -> None:
    state, config = run.state, run.config
    if _due(run) and not _validated(run):  # an interruption may have left it out
        _validate(run, metrics)
    over, interrupted = _over(run), _heard(run)
    if interrupted and not over:
        _save(run)
    while not (over or interrupted):
        record, interrupted = _advance(run)
        metrics.write(record)
        last = _asked_to_stop(run, record) or state.step == config.steps
        if last:
            state.take_mean()
        elif interrupted or state.step % config.save_every == 0:
            _save(run)  # before the figures, which may take longer than there is time
        if last or (_due(run) and not interrupted):
            _validate(run, metrics)
            interrupted = _heard(run) or interrupted
            over = last or _over(run)
            if interrupted and not over:
                _save(run)
        progress.update(state.step, f"loss {record['loss']:.4g}")
    if over:
        if state.best and isinstance(run.stop, EarlyStopping):
            if run.stop.takes_best(state.validations):
                state.set_weights(state.best)
            else:
                state.best_step = None
            state.best = {}
        state.mean = {}  # of a training that a validation has ended the weights it heard are kept
        state.finished = True
        _save(run)
    if interrupted or _heard(run):
        raise told_by_main(
            TrainingInterrupted(
                f"interrupted after step {state.step} of {config.steps}, saved in "
                f"{run.place.path}: continue with --resume"
            )
        )


def _advance(run: _Run) -> tuple[dict[str, Any], bool]:
    """Take one step; return its record and whether any process was interrupted."""
    began = time.perf_counter()
    state = run.state
    step = state.step + 1
    rate = learning_rate(run.config, step) * (run.pace(step) if run.pace else 1.0)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    means, weights, what = run.gradient.of_step(step)
    means, interrupted = shared(means, weights, run.signalled.is_set())
    state.scaler.unscale_(state.optimizer)
    norm = gathered(
        torch.nn.utils.clip_grad_norm_(state.parameters.values(), run.config.max_gradient_norm)
    ).item()
    # Half precision overflows now and then: the scaler skips such a step and lowers its scale.
    overflow = state.scaler.is_enabled() and state.scaler.get_scale() >= 1.0
    good = not what and all_finite(means.values())
    loss = means.pop("", math.nan)
    record = {"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm}
    figures = {name: figure for name, figure in means.items() if name not in record}
    if not (good and math.isfinite(loss) and (math.isfinite(norm) or overflow)):
        raise _diverged(run, step, {**record, **figures}, what)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.step = step
    first = run.config.first_averaged
    if first is not None and step >= first:
        state.average(step - first + 1)
    seconds = time.perf_counter() - began
    state.seconds += seconds
    return {**record, **figures, "seconds": seconds}, interrupted


def _heard(run: _Run) -> bool:
    """Say whether any process was interrupted."""
    return summed(float(run.signalled.is_set())) > 0


def _asked_to_stop(run: _Run, record: Mapping[str, Any]) -> bool:
    """Call the callbacks; say whether any of any process returned True, or numpy's or torch's."""
    answers = [callback(run.state.step, record) for callback in run.callbacks]
    stop = any(_is_true(one) for one in answers)
    return summed(float(stop)) > 0 if run.callbacks else False


def _is_true(answer: object) -> bool:
    """Whether it is True, of Python, numpy or torch; anything else that is returned is not."""
    if isinstance(answer, torch.Tensor):
        return answer.numel() == 1 and answer.item() is True
    return isinstance(answer, bool | np.bool_) and bool(answer)


def _validate(run: _Run, metrics: Metrics) -> None:
    if run.validate is None:
        return
    state = run.state
    run.objective.model.eval()
    with torch.no_grad():
        figures = {name: float(figure) for name, figure in run.validate(state.step).items()}
    figures, _ = shared(figures, dict.fromkeys(figures, 1.0), False)
    state.validations.append({"step": state.step, **finite(figures)})
    metrics.write({"step": state.step, "validation": figures})
    if not isinstance(run.stop, EarlyStopping):
        return
    watched = run.stop.metric
    if state.step > 0 and all(one[watched] is None for one in state.validations):
        raise _diverged(run, state.step, figures, f"{watched} was not finite in any validation")
    if run.stop.improved(state.validations):
        state.best_step, state.best = state.step, state.weights()


def _due(run: _Run) -> bool:
    """Say whether there is a validation after this step, were it not the last."""
    step, every = run.state.step, run.validate_every
    return step == 0 or (every > 0 and step % every == 0)


def _validated(run: _Run) -> bool:
    history = run.state.validations
    return bool(history) and history[-1]["step"] == run.state.step


def _over(run: _Run) -> bool:
    """Say whether the training is over; asked again after a resume, with the same answer."""
    stopped = _validated(run) and run.stop is not None and run.stop(run.state.validations)
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
    place = (run.place.path, process(), run.state.saved_step)
    error = diverged(Divergence(step, what, figures, batch), run.config, *place)
    # All processes come here at once; the first that has failed so tells it.
    first = every_row([what]).index(what)
    error.told_elsewhere = what == ELSEWHERE or first != process()
    return error

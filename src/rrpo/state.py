"""The state of a training: what a checkpoint holds so that a run goes on to the same weights."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from rrpo.chance import new_streams, random_states, restore_random_states, seed_all, seed_of
from rrpo.checkpoint import load_tensors, save_tensors
from rrpo.data.stream import POSITION
from rrpo.errors import UserError
from rrpo.files import read_json, write_json, writing
from rrpo.optimizer import AdamW
from rrpo.processes import ending_together, is_main, of_main, process, processes, told_by_main
from rrpo.progress import METRICS, restore_metrics
from rrpo.run_folder import (
    RunFolder,
    begin_folder,
    commit_folder,
    discard_fresh,
    drop_kept,
    neighbours,
    seal,
    sweep,
)
from rrpo.schedule import TrainConfig
from rrpo.sharding import gathered, placed, shard, whole
from rrpo.shared_folder import require_states, states_of


@dataclass
class TrainingState:
    """Everything that changes while training.

    Attributes:
        model: the trained model.
        parameters: those of its parameters that are trained, by name.
        optimizer: AdamW over them.
        scaler: of the loss, enabled for half precision only.
        generator: the objective's source of chance, on the CPU.
        step: steps done.
        saved_step: the step of the last checkpoint, None before the first.
        finished: the training is over.
        seconds: time spent in steps.
        validations: "step" and the figures of each validation.
        best_step: the step of the weights kept by early stopping.
        best: those weights, empty without early stopping.
        mean: of each parameter over the steps that are averaged, in float32; empty before them.
        carried: what the objective takes from one step to the next, the very dictionary it uses.
    """

    model: torch.nn.Module
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    step: int = 0
    saved_step: int | None = None
    finished: bool = False
    seconds: float = 0.0
    validations: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)
    carried: dict[str, Tensor] = field(default_factory=dict)

    def changing(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over what training changes: the trained parameters and the buffers, whole.

        Of a sharded model every process has to.
        """
        parameters = self.model.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in parameters if not parameter.requires_grad}
        for name, tensor in self.model.state_dict().items():
            if name not in frozen:
                yield name, gathered(tensor.detach())

    def weights(self) -> dict[str, Tensor]:
        """Copy what training changes to the CPU."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in self.changing()}

    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what `weights` copied.

        Raises:
            ValueError: they belong to another model.
        """
        shapes = {name: tensor.shape for name, tensor in self.changing()}
        if {name: tensor.shape for name, tensor in weights.items()} != shapes:
            raise ValueError("the weights belong to another model")
        own = self.model.state_dict()
        for name, tensor in weights.items():
            own[name].copy_(placed(tensor, own[name]))

    @torch.no_grad()
    def average(self, count: int) -> None:
        """Take the parameters into their mean over `count` steps, this one the last."""
        for name, parameter in self.parameters.items():
            mean = self.mean.setdefault(name, torch.zeros_like(parameter, dtype=torch.float32))
            mean += (parameter - mean) / count

    @torch.no_grad()
    def take_mean(self) -> None:
        """Put the mean of the parameters, where there is one, in their place."""
        for name, mean in self.mean.items():
            self.parameters[name].copy_(mean)
        self.mean = {}

    def not_finite(self) -> str | None:
        """Return the name of the first weight that holds a NaN or an infinity, if any does."""
        for name, tensor in self.changing():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                return name
        return None


def initial_state(
    model: torch.nn.Module,
    config: TrainConfig,
    accelerator: Accelerator,
    precision: torch.dtype | None,
) -> TrainingState:
    """Seed every source of chance and set up AdamW; each process has its own seed.

    Matrices are decayed; gains and biases are not, since zero is not what they should tend to. For
    float16 the loss is scaled.

    Raises:
        UserError: the model cannot be sharded as configured.
    """
    half, sharded = precision is torch.float16, config.sharding == "full"
    if half and sharded:
        raise UserError("train.sharding=full needs mixed_precision=bf16 or no: fp16 is not sharded")
    seed = seed_of(config.seed, process())
    seed_all(seed)
    model.to(accelerator.device)
    if processes() > 1:
        for tensor in model.state_dict().values():
            tensor.copy_(broadcast(tensor))
        if sharded:
            shard(model, accelerator.device)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("no parameter of the model requires a gradient")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters.values() if p.ndim > 1]},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return TrainingState(
        model,
        parameters,
        AdamW([group for group in groups if group["params"]], weight_decay=config.weight_decay),
        torch.amp.GradScaler(accelerator.device.type, enabled=half),
        torch.Generator().manual_seed(seed),
    )


def save_state(
    state: TrainingState,
    target: Path,
    accelerator: Accelerator,
    save_model: Callable[[Path], None],
) -> None:
    """Replace the checkpoint folder `target`; a kill at any moment leaves a complete one.

    `save_model` writes the model as other programs read it. `training.safetensors` holds the exact
    trained weights beside AdamW's moments, so that the form `save_model` chooses (half precision,
    other names) does not matter for going on. Every process adds its own random states, and what
    its objective carries from step to step. The metrics so far are part of it, so that they agree
    with it whatever becomes of the file that is written on. While the training is not over, the
    checkpoint before is kept beside it, in case a file of this one is damaged.

    Raises:
        UserError: the folder cannot be written, or a process has not written its part.
    """
    fresh, _ = neighbours(target)
    main = is_main()
    try:
        with whole(state.model), ending_together(), writing(target):
            if main:
                begin_folder(target)
                save_model(fresh)
        tensors = _tensors(state, main)
        with ending_together(), writing(target):
            if main:
                save_tensors(fresh / "training.safetensors", tensors)
                write_json(fresh / "training.json", _description(state))
                if (target.parent / METRICS).is_file():
                    shutil.copyfile(target.parent / METRICS, fresh / METRICS)
        states = random_states(state.generator, accelerator.device)
        states |= {f"carried.{name}": tensor for name, tensor in state.carried.items()}
        with ending_together(), writing(target):
            save_tensors(fresh / states_of(process()), states)
        with ending_together(), writing(target):
            if main:
                require_states(fresh, processes())
                seal(fresh)
                commit_folder(target, keep=not state.finished)
    except Exception:
        if main:
            discard_fresh(target)
        raise
    state.saved_step = state.step


def restore_state(state: TrainingState, target: Path, accelerator: Accelerator) -> None:
    """Put back what `save_state` wrote, the global random states and thread count included.

    Another number of processes than have written it goes on with new random streams (`new_streams`)
    and with nothing that an objective has carried but the place in a stream, which is that of all:
    what each process drew was for so many.

    Raises:
        UserError: the model differs, or a file is missing or damaged.
    """
    rank, count = process(), processes()
    try:
        with ending_together():
            stored = read_json(target / "training.json")
            same = stored["processes"] == count
            tensors = load_tensors(target / "training.safetensors")
            states = load_tensors(target / states_of(rank if same else 0))
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            parts.setdefault(kind, {})[name] = tensor.clone()
        state.set_weights(parts.pop("weight"))
        state.best = parts.pop("best", {})
        device = accelerator.device
        state.mean = {
            name: placed(one.to(device), state.parameters[name])
            for name, one in parts.pop("mean", {}).items()
        }
        state.carried.clear()
        for key, tensor in states.items():
            kept = same or key == f"carried.{POSITION}"
            if kept and key.startswith("carried."):
                state.carried[key.removeprefix("carried.")] = tensor.clone()
        _set_moments(state, parts)
        state.scaler.load_state_dict(stored["scaler"])
        state.step = state.saved_step = stored["step"]
        state.finished, state.seconds = stored["finished"], stored["seconds"]
        state.validations, state.best_step = stored["validations"], stored["best_step"]
        if same:
            torch.set_num_threads(stored["threads"])
            restore_random_states(states, state.generator, accelerator.device)
        else:
            new_streams(states["generator"], state.generator, count, rank)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise told_by_main(
            UserError(
                f"{target} does not fit this training or is damaged ({error}): "
                "start again in another folder"
            )
        ) from None


def restore_run(state: TrainingState, run: RunFolder) -> None:
    """Put back what the checkpoint of a run holds, if there is one, and what lay beside it then.

    Raises:
        UserError: no whole checkpoint is left, or it does not fit the training.
    """
    main = is_main()
    if of_main(run.checkpoint.exists()):
        with ending_together():
            if main:
                run.find_whole()
        restore_state(state, run.checkpoint, run.accelerator)
    with ending_together(), writing(run.path):
        if not main:
            return
        for left in run.path.glob("diverged*.json"):  # of an earlier attempt
            left.unlink(missing_ok=True)
        sweep(run.path)
        if state.step > 0:
            restore_metrics(run.path, state.step)
        if state.finished:  # a kill may have come before this
            drop_kept(run.checkpoint)


def _description(state: TrainingState) -> dict[str, Any]:
    return {
        "step": state.step,
        "finished": state.finished,
        "seconds": state.seconds,
        "validations": state.validations,
        "best_step": state.best_step,
        "threads": torch.get_num_threads(),
        "processes": processes(),
        "scaler": state.scaler.state_dict(),
    }


def _tensors(state: TrainingState, main: bool) -> dict[str, Tensor]:
    """Name all tensors: `weight.`, `best.` and `mean.NAME`, AdamW's `exp_avg.NAME` and so on.

    Every process has to ask, for those of a sharded model are gathered; the main one gets them.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.changing():
        if main:
            tensors[f"weight.{name}"] = tensor.to("cpu", copy=True)
    parts = [(f"mean.{name}", tensor) for name, tensor in state.mean.items()]
    for name, parameter in state.parameters.items():
        moments = state.optimizer.state.get(parameter, {})
        parts += [(f"{kind}.{name}", tensor) for kind, tensor in moments.items()]
    for name, tensor in parts:
        full = gathered(tensor)
        if main:
            tensors[name] = full if full is tensor else full.cpu()
    return tensors | {f"best.{name}": tensor for name, tensor in state.best.items()}


def _set_moments(state: TrainingState, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put AdamW's state back: the kinds exp_avg, exp_avg_sq and step, each by parameter name."""
    names = {id(parameter): name for name, parameter in state.parameters.items()}
    described = state.optimizer.state_dict()["param_groups"]
    members = [p for group in state.optimizer.param_groups for p in group["params"]]
    restored = {}
    for index, parameter in enumerate(members):
        name = names[id(parameter)]
        if any(name in tensors for tensors in moments.values()):  # none before its first gradient
            restored[index] = {
                kind: tensors[name] if kind == "step" else placed(tensors[name], parameter)
                for kind, tensors in moments.items()
            }
    state.optimizer.load_state_dict({"state": restored, "param_groups": described})

"""Fine-tunings of reward models on real speech: each a job for one core, whose answers are kept."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.checkpoint import load_tensors, save_tensors
from rrpo.data.shards import Utterance
from rrpo.reward import RewardModel
from rrpo.reward.fit import RewardObjective
from rrpo.reward.posteriors import log_posteriors
from rrpo.studies.study import side_by_side
from rrpo.train import Objective, train
from rrpo_studies.real_speech.ceiling import CeilingObjective, StateRewardModel
from rrpo_studies.real_speech.folds import (
    CEILING,
    PRETRAINED,
    Fold,
    Job,
    Size,
    configurations,
    mixes_audio,
)
from rrpo_studies.real_speech.workspace import (
    RATES,
    TOKENIZER,
    WEIGHT_DECAY,
    Workspace,
    loop_config,
)

MOST_WORKERS = 8
"""Processes at once, however many cores there are: each holds a gigabyte."""


def file_of(workspace: Workspace, job: Job) -> Path:
    """Return where the answers of a job are kept."""
    return workspace.folder / "jobs" / f"{job.name}.safetensors"


def posteriors(workspace: Workspace, job: Job) -> NDArray[np.float32]:
    """Return the log-posteriors (N, K) of a finished job for the N recordings of `labelled`."""
    found = load_tensors(file_of(workspace, job))
    return np.asarray(found["log_posteriors"].numpy(), dtype=np.float32)


def finetune(workspace: Workspace, job: Job) -> None:
    """Fine-tune a reward model on one core; keep what it says of every labelled recording."""
    path = file_of(workspace, job)
    if path.is_file():
        return
    began = time.process_time()
    torch.set_num_threads(1)
    found = _ceiling(workspace, job) if job.model == CEILING else _hardened(workspace, job)
    seconds = torch.tensor(time.process_time() - began)
    save_tensors(path, {"log_posteriors": found.contiguous(), "seconds": seconds})


def _hardened(workspace: Workspace, job: Job) -> Tensor:
    model = workspace.pretrained(job.fold).requires_grad_(True).train()
    rows = workspace.tokens(job.fold)
    chosen = workspace.finetuning(job.fold, job.seed)
    clean = [rows[index] for index in chosen]
    mixes: list[Utterance] = []
    if mixes_audio(job.model):
        mixes = evenly_mixed(clean, workspace.pool(job.fold), workspace.size.mixes)
    objective = RewardObjective(model, clean, configurations()[job.model], mixes)
    _train(workspace, objective, job, RATES["head" if job.model == PRETRAINED else "finetune"])
    return log_posteriors(model, [torch.from_numpy(rows[i].tokens) for i in workspace.labelled])


def _ceiling(workspace: Workspace, job: Job) -> Tensor:
    chosen = workspace.finetuning(job.fold, job.seed)
    scale = workspace.tokenizer(job.fold).scaled
    torch.manual_seed(job.seed)
    model = StateRewardModel(RewardModel(workspace.shape()), TOKENIZER.states)
    labels = [workspace.emotions.index(workspace.recordings[index].emotion) for index in chosen]
    heard = [scale(workspace.states(index)).half() for index in chosen]
    _train(workspace, CeilingObjective(model, heard, labels), job, RATES["ceiling"])
    return torch.cat(
        [model.log_posteriors([scale(workspace.states(i))]) for i in workspace.labelled]
    )


def _train(workspace: Workspace, objective: Objective[Any], job: Job, rate: float) -> None:
    config = loop_config(workspace.size.finetune_steps, rate, job.seed, WEIGHT_DECAY)
    run = workspace.folder / "runs" / job.name
    train(objective, config, run, resume=True, description="")
    # Hundreds of checkpoints would fill the disk; what counts is what the models say.
    shutil.rmtree(run)


def run_jobs(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Do all jobs, one on each core, after what they begin with."""
    workspace.claim()
    left = [job for job in jobs if not file_of(workspace, job).is_file()]
    folds = dict.fromkeys((Fold(job.fold.languages) for job in left), False)
    for job in left:
        folds[Fold(job.fold.languages)] |= mixes_audio(job.model)
    _each(workspace, _prepare, list(folds.items()), "folds")
    _each(workspace, _finetune, left, "reward models")


def _each(
    workspace: Workspace, work: Callable[[Any], None], things: Collection[Any], name: str
) -> None:
    """Call `work` with what makes this workspace and each of several things, in processes."""
    made_of = (workspace.folder, tuple(workspace.manifests), workspace.size)
    count = min(os.cpu_count() or 1, MOST_WORKERS)
    side_by_side(work, [(*made_of, thing) for thing in things], name, count)


def parents(mix: Utterance) -> tuple[int, int]:
    """Return the recording that a row of the mix pool is, and its partner, by their indices.

    Examples:
        >>> parents(Utterance("12+7-0", "", "sad", np.zeros(1)))
        (12, 7)
    """
    own, partner = mix.id.partition("-")[0].split("+")
    return int(own), int(partner)


def evenly_mixed(
    clean: Sequence[Utterance], pool: Sequence[Utterance], count: int
) -> list[Utterance]:
    """Return `count` rows of the mix pool for each utterance, all of whose parents are among them.

    Of less data the pool must not tell more. Utterances that have fewer mixes are repeated, those
    without any stand for themselves, so that each counts the same.

    Args:
        clean: utterances whose id is their index into the recordings.
        pool: mixes of these and of others, see `parents`.
    """
    mixes: dict[int, list[Utterance]] = {int(row.id): [] for row in clean}
    for row in pool:
        own, partner = parents(row)
        if own in mixes and partner in mixes:
            mixes[own].append(row)
    return [row for one in clean for row in islice(cycle(mixes[int(one.id)] or [one]), count)]


@lru_cache(maxsize=1)
def _opened(folder: Path, manifests: tuple[Path, ...], size: Size) -> Workspace:
    """Return a workspace that a process keeps from job to job: manifests take long to read."""
    return Workspace(folder, manifests, size)


def _prepare(settings: tuple[Path, tuple[Path, ...], Size, tuple[Fold, bool]]) -> None:
    folder, manifests, size, (fold, mixed) = settings
    _opened(folder, manifests, size).prepare(fold, mixed)


def _finetune(settings: tuple[Path, tuple[Path, ...], Size, Job]) -> None:
    folder, manifests, size, job = settings
    finetune(_opened(folder, manifests, size), job)

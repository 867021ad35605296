"""Compute on a device that this machine does not have, run as a script: prints JSON lines.

`run.py FOLDER`: each line has a name, and what the device and the processor have made of it.
"""

import json
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pretended
import several
import torch
from accelerate import Accelerator
from torch import Tensor

from rrpo import choices, sampling
from rrpo.checkpoint import load_tensors
from rrpo.data.shards import read_shard
from rrpo.evaluate.panel import kl_of
from rrpo.loading import load_policy
from rrpo.mini.world import World
from rrpo.monitor import MonitorConfig
from rrpo.objectives.diffro import DiffROConfig
from rrpo.objectives.pairs import CHOSEN, PairsConfig, draw_pairs
from rrpo.policy.layout import Example
from rrpo.policy_runs import DiffRORun
from rrpo.progress import read_metrics
from rrpo.reward import RewardModel
from rrpo.runs import train_on_policy
from rrpo.sampling import ESTIMATORS
from rrpo.speaking import cosyvoice
from rrpo.speaking.best_of import choose
from rrpo.speaking.mini import MiniSpeaker, unseen_utterances
from rrpo.speaking.speaker import Said
from rrpo.train import TrainingInterrupted, train

Figures = dict[str, Any]


OBJECTIVES: dict[str, Callable[[], Any]] = {
    **several.OBJECTIVES,
    "recorded": lambda: several.diffro(told=False, history="recorded"),
    "cut draws": lambda: several.diffro(told=False, rollout={"top_k": 5, "top_p": 0.9}),
    "recomputed": several.recomputed,
    "adapters": lambda: several.diffro(told=False, adapted=True),
    **{
        name: lambda name=name: several.diffro(told=False, estimator=name)
        for name in ESTIMATORS
        if name != "straight_through"
    },
    "reward, hardened": lambda: several.fit(mixup=True, adversarial_at="frames"),
    "reward, pooled": lambda: several.fit(adversarial_at="pooled"),
}


class Noise:
    """The same noise on every device: what is made of it is compared."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device, self.numbers = device, np.random.default_rng(seed)

    def exponential(self, rows: int, size: int) -> Tensor:
        """Return the next (rows, size) numbers of Exp(1)."""
        made = torch.from_numpy(self.numbers.standard_exponential((rows, size), np.float32))
        return made.to(self.device).clamp_(min=sampling.SMALLEST)


def slope(make: Callable[[], Any], device: torch.device) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of an objective whose model is on a device, and its gradient."""
    objective = make()
    objective.model.to(device)
    loss, _ = objective.loss(1, torch.Generator().manual_seed(0))
    loss.backward()
    every = objective.model.named_parameters()
    return loss.item(), {name: one.grad.cpu() for name, one in every if one.grad is not None}


def compared(make: Callable[[], Any], device: torch.device) -> Figures:
    """Return an objective's loss on both, and how far its gradients are apart."""
    alone, own = slope(make, torch.device("cpu"))
    with pretended.Pretending():
        there, others = slope(make, device)
    assert own.keys() == others.keys()
    apart = max(float((own[name] - others[name]).abs().max()) for name in own)
    return {"here": alone, "there": there, "apart": apart, "weights": len(own)}


def trainings(make: Callable[[], Any], root: Path, device: torch.device) -> Figures:
    """Return the losses of whole trainings, and how much of a checkpoint a resumed one meets."""
    config = several.CONFIG.model_copy(update={"average_from": 2})

    def trained(name: str, resume: bool = False, **options: Any) -> None:
        train(make(), config, root / name, resume, description="", **options)

    def stop(step: int, _: Any) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)

    trained("here")
    with patch.object(Accelerator, "device", device), pretended.Pretending():
        trained("there")
        with suppress(TrainingInterrupted):
            trained("resumed", callbacks=[stop])
        trained("resumed", resume=True)
    there, resumed = (
        load_tensors(root / name / "checkpoint" / "training.safetensors")
        for name in ("there", "resumed")
    )
    here, others = (
        [row["loss"] for row in read_metrics(root / name / "metrics.jsonl")]
        for name in ("here", "there")
    )
    same = [name for name in there if torch.equal(there[name], resumed[name])]
    return {"here": here, "there": others, "resumed": len(same), "kept": len(there)}


def spoken(device: torch.device) -> Figures:
    """Let the bundled policy speak on both, each as `rrpo evaluate` hears it."""
    world = World()
    asked, said = unseen_utterances(world, 1)[:2], []
    for mode, place in ((nullcontext(), "cpu"), (pretended.Pretending(), device)):
        with mode:
            policy = load_policy().to(place)
            said.append(MiniSpeaker(policy, world, world.codec(), world.policy()).samples(asked, 0))
    pairs = list(zip(*said, strict=True))
    return {
        "same": all(torch.equal(one.tokens, other.tokens) for one, other in pairs),
        "sound": all(np.array_equal(one.audio, other.audio) for one, other in pairs),
        "tokens": sum(one.tokens.numel() for one in said[0]),
    }


def drawn(root: Path, device: torch.device) -> Figures:
    """Draw as CosyVoice does, choose the best of several, and draw pairs for DPO, on both."""
    found, divergences = [], []
    for mode, place in ((nullcontext(), "cpu"), (pretended.Pretending(), device)):
        with mode:
            policy, reward = several.policy().to(place), several.reward()
            said = cosyvoice.draw(policy, several.prompts(), seed=0)
            best = choose(reward, several.prompts()[0], [Said(one.tokens, True) for one in said])
            config = PairsConfig(count=4, prompts=4, margin=0.0)
            kl = kl_of(policy, several.policy(1), several.prompts(), [one.tokens for one in said])
            folder = root / f"pairs {len(found)}"
            draw_pairs(policy, reward, several.prompts(), config, folder)
            pairs = [one.tokens.tolist() for one in read_shard(folder / CHOSEN)]
            found.append(
                {
                    "said": [one.tokens.tolist() for one in said],
                    "best": None if best is None else best.index,
                    "pairs": pairs,
                }
            )
            divergences.append(kl)
    here, there = divergences
    return {
        "same": found[0] == found[1],
        "tokens": sum(map(len, found[0]["said"])),
        "kl here": here,
        "kl there": there,
    }


def watched(root: Path, device: torch.device) -> Figures:
    """Train a policy that listens to itself, on both; return the rewards that it heard."""
    config = DiffRORun(
        train=several.CONFIG.model_copy(update={"steps": 2}),
        diffro=DiffROConfig(batch_size=2),
        monitor=MonitorConfig(every=1, sentences=2),
    )
    examples = [Example(*pair) for pair in zip(several.prompts(), several.speech(), strict=True)]

    def looks(name: str) -> list[float]:
        made = (several.policy(), several.policy(1), [RewardModel(several.PAYING)], examples)
        torch.manual_seed(5)
        train_on_policy(*made, config, root / name, description="")
        rows = map(json.loads, (root / name / "monitor.jsonl").read_text().splitlines())
        return [row["measures"]["reward"]["now"] for row in rows]

    here = looks("here")
    with patch.object(Accelerator, "device", device), pretended.Pretending():
        return {"here": here, "there": looks("there")}


def mixed(device: torch.device) -> Figures:
    """Return which of some operations the device refuses: those that mix it with the processor."""
    here = torch.arange(3)
    with pretended.Pretending():
        there = torch.arange(3, device=device)
        operations: dict[str, Callable[[], Any]] = {
            "add": lambda: there + here,
            "add to itself": lambda: there + there,
            "times a number": lambda: there * 2,
            "index": lambda: there[here],
            "index of the other": lambda: here[there],
            "mask of the other": lambda: here[there > 0],
            "stack": lambda: torch.stack([there[0], here[0]]),
            "drawn": lambda: torch.rand(3, device=device, generator=torch.Generator()),
            "index_select": lambda: there.index_select(0, here),
            "where": lambda: torch.where(there > 0, here, 0),
            "copied": lambda: there.cpu() + here,
            "numpy": there.numpy,
        }
        refused = []
        for name, operation in operations.items():
            try:
                operation()
            except (RuntimeError, TypeError):
                refused.append(name)
    return {"refused": refused}


def main(root: Path) -> None:
    """Print a line for each objective, and for trainings and speaking."""
    torch.set_num_threads(1)
    device = pretended.register()
    choices.Noise = Noise  # type: ignore[misc]
    lines = {f"slope {name}": compared(make, device) for name, make in OBJECTIVES.items()}
    lines |= {"mixed": mixed(device), "spoken": spoken(device), "drawn": drawn(root, device)}
    lines["watched"] = watched(root / "watched", device)
    for name in ("diffro", "reward"):
        lines[f"training {name}"] = trainings(OBJECTIVES[name], root / name, device)
    for name, figures in lines.items():
        print(json.dumps({"name": name, **figures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

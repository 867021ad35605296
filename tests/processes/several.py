"""Trainings by several processes, run as a script so that torch is imported once: prints JSON.

`several.py FOLDER WHAT …` forks the processes itself, as many as it needs at a time. Started by
torchrun or accelerate launch with the word `launched` it is one of them.
"""

import errno
import importlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import pyarrow.parquet as parquet
import torch
from torch import Tensor, nn

from rrpo import cli, gradient_buckets, shared_folder, state
from rrpo.checkpoint import save_model, save_tensors
from rrpo.data.scan import Choice, scan
from rrpo.data.shards import Utterance, write_shard
from rrpo.data.stream import POSITION, Shards
from rrpo.errors import NotFinite, UserError
from rrpo.gradient import Gradient, shared
from rrpo.mini.world import World
from rrpo.monitor import MonitorConfig
from rrpo.objective import Objective
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.dpo import DPOConfig, DPOObjective, Pair
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective
from rrpo.objectives.pairs import PairsConfig, draw_pairs
from rrpo.objectives.sft import SFTConfig, SFTObjective
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.adapter import add_adapters
from rrpo.policy.layout import Example, Prompt
from rrpo.policy.rollout import Rollouts, as_rollouts
from rrpo.policy_runs import DiffRORun
from rrpo.processes import process, processes, training_processes
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.config import FitConfig
from rrpo.reward.fit import RewardObjective
from rrpo.reward.transcripts import Transcripts, prepare_head
from rrpo.run_folder import open_run
from rrpo.runs import train_on_policy
from rrpo.state import initial_state
from rrpo.train import TrainConfig, train

Thing = TypeVar("Thing")
EMOTIONS = ["neutral", "happy"]
POLICY = LMConfig(
    text_vocabulary=10, hidden=16, layers=2, heads=2, key_value_heads=1, intermediate=24, codes=27
)
PAYING = RewardConfig(
    width=16, layers=1, heads=2, feedforward=24, codes=27, dropout=0.0, tasks={"emotion": EMOTIONS}
)
CONFIG = TrainConfig(steps=4, learning_rate=0.001, report_to="none", threads=1)
COUNT = 8
"""Things in the batch of all processes together."""


def in_processes(count: int, action: Callable[[], object]) -> list[int]:
    """Run an action in so many forked processes that find each other; return how each ended."""
    return [ended(child) for child in started(count, action)]


def started(count: int, action: Callable[[], object]) -> list[int]:
    """Fork processes that find each other; return their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if count > 1:
                    here = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
                    world = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "FORK_LAUNCHED": 1}
                    os.environ |= {name: str(one) for name, one in (here | world).items()}
                    os.environ["MASTER_ADDR"] = "127.0.0.1"
                action()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    return children


def ended(child: int) -> int:
    """Wait for a process and return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def mine(things: list[Thing]) -> list[Thing]:
    """Return this process's part of what is for all: every so manyth."""
    return things[process() :: processes()]


def policy(seed: int = 0) -> SpeechTokenLM:
    """Return a tiny policy that is not sure of anything."""
    torch.manual_seed(seed)
    model = SpeechTokenLM(POLICY)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    return model


def prompts() -> list[Prompt]:
    """Return prompts of different lengths."""
    generator = torch.Generator().manual_seed(1)
    return [
        Prompt(
            f"text {index}",
            EMOTIONS[index // 2 % 2],
            torch.randint(8, (2 + index % 3,), generator=generator),
            torch.tensor([8, 9]),
        )
        for index in range(COUNT)
    ]


def speech(seed: int = 0) -> list[Tensor]:
    """Return an utterance for each prompt, of 3 to 24 tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(27, (3 + 3 * index,), generator=generator) for index in range(COUNT)]


class Told:
    """Draws what was said before, so that it does not depend on who draws."""

    def __init__(self, count: int) -> None:
        self.said = {
            (prompt.text, turn): tokens
            for turn in range(count)
            for prompt, tokens in zip(prompts(), speech(turn), strict=True)
        }

    def __call__(self, asked: list[Prompt], _: torch.Generator, count: int = 1) -> Rollouts:
        """Return `count` utterances of each prompt, of which some did not end by themselves."""
        each = [prompt for prompt in asked for _ in range(count)]
        tokens = [self.said[prompt.text, turn] for prompt in asked for turn in range(count)]
        over = torch.tensor([tokens.numel() % 9 != 0 for tokens in tokens])
        return as_rollouts(POLICY, each, tokens, over, 1)


def sft(**_: Any) -> SFTObjective:
    """Return SFT on all examples at once."""
    examples = mine([Example(*one) for one in zip(prompts(), speech(), strict=True)])
    return SFTObjective(policy(), examples, SFTConfig(batch_size=len(examples)))


def dpo(**options: Any) -> DPOObjective:
    """Return DPO on all pairs at once."""
    pairs = mine([Pair(*one) for one in zip(prompts(), speech(), speech(1), strict=True)])
    return DPOObjective(policy(), policy(1), pairs, DPOConfig(batch_size=len(pairs), **options))


def reward() -> Reward:
    """Return the reward of an untrained model."""
    torch.manual_seed(5)
    return Reward([RewardModel(PAYING)])


def diffro(told: bool = True, adapted: bool = False, **options: Any) -> DiffROObjective:
    """Return DiffRO on all prompts at once, whose utterances are given or drawn."""
    model, own = policy(), mine(prompts())
    if adapted:
        add_adapters(model.bfloat16(), 2)
    reference = None if adapted else policy(1)
    options = {"estimator": "straight_through", **options}
    config = DiffROConfig(batch_size=len(own), beta=0.3, **options)
    made = DiffROObjective(model, reference, reward(), own, config, 4, mine(speech(3)[::-1]))
    if told:
        made.on_policy.draw = Told(1)  # type: ignore[method-assign]
    return made


def grpo(**options: Any) -> GRPOObjective:
    """Return GRPO on all prompts at once, two utterances of each."""
    own = mine(prompts())
    config = GRPOConfig(prompts=len(own), group=2, beta=0.3, **options)
    made = GRPOObjective(policy(), policy(1), reward(), own, config, mine(speech(3)[::-1]))
    made.on_policy.draw = Told(2)  # type: ignore[method-assign]
    return made


class Rows(RewardObjective):
    """Fine-tuning of a reward model on all utterances at once, half of which have text."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of every row in turn."""
        own = torch.tensor(mine(list(range(COUNT))))
        drawn = torch.randint
        # A single number is a seed.
        torch.randint = lambda *asked, **how: own if asked[1] != (1,) else drawn(*asked, **how)
        try:
            return super().loss(step, generator)
        finally:
            torch.randint = drawn


def fit(**options: Any) -> Rows:
    """Return the fine-tuning of an untrained reward model, with a content head."""
    torch.manual_seed(2)
    model, texts = RewardModel(PAYING), speech(4)
    # Of two processes one has all texts in its rows, of four one has two and one has one.
    said = [text[: 2 if row in (0, 2, 4) else 0] % 5 for row, text in enumerate(texts)]
    rows = [
        Utterance(f"{row}", "", EMOTIONS[row // 4], tokens.numpy())
        for row, tokens in enumerate(speech(6))
    ]
    transcripts = Transcripts("ids", said, 5)
    prepare_head(model, transcripts, 0)
    config = FitConfig(
        batch_size=COUNT // processes(),
        tasks=["emotion", "content"],
        **{"mixup": False, **options},
    )
    return Rows(model, rows, config, (), transcripts)


def exact_fit() -> Rows:
    """Return the fine-tuning in float64, in which the size of a batch rounds nothing away."""
    made = fit()
    made.model.double()
    return made


class Uneven:
    """Weights of which some have a gradient on one process, one on none; batches of all sizes."""

    BATCHES = ((0, 3), (3, 4), (4, 9), (9, 12))

    def __init__(self, parts: int) -> None:
        """Prepare for as many batches in all as there are: each process takes its `parts`."""
        torch.manual_seed(3)
        self.model = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)])
        own = len(self.BATCHES) // (parts * processes())
        self.turn, self.weight = 0, 1.0
        every = range(len(self.BATCHES))
        # Batch b is of micro-batch b // (own · processes), so that the order of processes is kept.
        self.batches = [
            [every[(part * processes() + process()) * own + one] for one in range(own)]
            for part in range(parts)
        ]

    def loss(self, *_: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the mean over the points of this process's next batch."""
        chosen = self.batches[self.turn]
        self.turn += 1
        losses, every = [], torch.linspace(-1, 2, 12)[:, None]
        for batch in chosen:
            x = every[slice(*self.BATCHES[batch])]
            made = self.model[0](x)
            if batch == 1:  # the second layer is of this batch alone
                made = made + self.model[1](x)
            losses.append((made - x.sin()).square())
        joined = torch.cat(losses)
        self.weight = float(len(joined))
        return joined.mean(), {"mean": joined.mean().item()}

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_model(folder, self.model.state_dict(), {"kind": "uneven"})


OBJECTIVES: dict[str, Callable[[], Objective[Any]]] = {
    "sft": sft,
    "dpo": lambda: dpo(cross_entropy=0.2, length_normalized=True),
    "diffro": diffro,
    "diffro, duration": lambda: diffro(duration=0.4, context_passes=1, skip_broken=False),
    "grpo": grpo,
    "rloo": lambda: grpo(advantage="rloo", kl_reduction="sum", duration=0.4),
    "reward": fit,
    "reward, float64": exact_fit,
}


def gradient(make: Callable[[], Objective[Any]], file: Path, accumulate: int = 1) -> None:
    """Write an objective's gradient and figures, as every process has them, into a file of each."""
    accelerator = training_processes()  # before anything is made, each of which is a part
    objective = make()
    config = CONFIG.model_copy(update={"accumulate": accumulate})
    begun = initial_state(objective.model, config, accelerator, None)
    made = Gradient(objective, config, begun, accelerator.device, None)
    sent = []
    if made.buckets is not None and isinstance(objective.model, SpeechTokenLM):
        finish = made.buckets.finish

        def watched() -> None:
            sent.append(len(made.buckets.sent) == len(made.buckets.buckets) > 5)
            finish()

        made.buckets.finish = watched  # type: ignore[method-assign]
    means, weights, what = made.of_step(1)
    assert not what, what
    assert all(sent), "the way back has sent every bucket before its end"
    figures, _ = shared(means, weights, False)
    found = {name: p.grad for name, p in begun.parameters.items() if p.grad is not None}
    found |= {f"figure {name}": torch.tensor(one).double() for name, one in figures.items()}
    save_tensors(Path(f"{file}-{accelerator.process_index}"), found)


def gradients(root: Path) -> None:
    """Compute the gradients of one, two and four processes, in many small buckets."""
    gradient_buckets.BUCKET = 100

    def every(count: int) -> None:
        for name, make in OBJECTIVES.items():
            gradient(make, root / f"{name} {count}")
        parts = max(1, 4 // count)
        gradient(lambda: Uneven(parts), root / f"uneven {count}", parts)

    ends = [end for count in (1, 2, 4) for end in in_processes(count, lambda n=count: every(n))]
    print(json.dumps({"name": "gradients", "ends": ends}), flush=True)


def finished(objective: Objective[Any], folder: Path, sharding: str, **options: Any) -> None:
    """Train, and leave beside the run what this process has held of the weights."""
    config = CONFIG.model_copy(update={"sharding": sharding, **options})
    train(objective, config, folder, description="")
    every = list(objective.model.parameters())
    parts = [getattr(one, "to_local", lambda one=one: one)() for one in every]
    frozen = {str(one.dtype) for one in every if not one.requires_grad}
    held = {"elements": sum(one.numel() for one in parts), "frozen": sorted(frozen)}
    (folder / f"held-{process()}.json").write_text(json.dumps(held))


class Tied:
    """A model whose output layer is its table, with blocks: a regression of all its batch.

    Attributes:
        drawn: what this process has drawn at each step, which the loss does not depend on.
        carried: the place in a stream of rows, and what each process carries for itself.
    """

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        torch.manual_seed(4)
        self.model, self.before = TiedModel(), before
        self.drawn: dict[int, float] = {}
        self.carried: dict[str, Tensor] = {}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the cross-entropy of what follows some ids, of which each process has a part."""
        self.before(step)
        place = self.carried.get(POSITION, torch.tensor(0))
        self.carried |= {POSITION: place + processes(), "own": torch.tensor(process())}
        self.drawn[step] = torch.rand((), generator=generator).item()
        ids = torch.arange(16)
        own, following = (torch.tensor(mine(one.tolist())) for one in (ids, ids.roll(3)))
        loss = nn.functional.cross_entropy(self.model(own), following)
        return loss, {"nats": loss.item()}

    def save(self, folder: Path) -> None:
        """Write the model."""
        state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        save_model(folder, state, {"kind": "tied"})


class TiedModel(nn.Module):
    """A table, two blocks, and the table again."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (B,) to logits (B, 16)."""
        x = self.table(ids)
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        out: Tensor = self.head(x)
        return out


def sharded(root: Path) -> None:
    """Train sharded and not; print how each process ended."""
    cases: dict[str, tuple[Callable[[], Objective[Any]], dict[str, Any]]] = {
        "tied": (Tied, {}),
        "sft": (recomputed, {"accumulate": 2, "average_from": 2}),
        "diffro": (lambda: diffro(told=False), {}),
        "adapters": (lambda: diffro(told=False, adapted=True), {}),
        "grpo": (drawn, {}),
    }

    def every(names: list[str], kind: str) -> None:
        for name in names:
            training_processes()  # before anything is made, each of which is a part
            make, options = cases[name]
            folder = root / f"{name} {processes()} {kind}"
            finished(make(), folder, kind, **options)

    ends = in_processes(1, lambda: every(["tied", "sft"], "none"))  # others draw by process
    for kind in ("none", "full"):
        ends += in_processes(2, lambda kind=kind: every(list(cases), kind))
    ends += in_processes(2, lambda: watched(root / "watched"))
    print(json.dumps({"name": "sharded", "ends": ends}), flush=True)


def watched(folder: Path) -> None:
    """Train a sharded policy that listens to itself and keeps its weights."""
    asked = {"sharding": "full", "steps": 2}
    config = DiffRORun(
        train=CONFIG.model_copy(update=asked),
        diffro=DiffROConfig(batch_size=2),
        monitor=MonitorConfig(every=1, sentences=2),
    )
    examples = [Example(*pair) for pair in zip(prompts(), speech(), strict=True)]
    made = (policy(), policy(1), [RewardModel(PAYING)], examples)
    train_on_policy(*made, config, folder, description="")


def drawn() -> GRPOObjective:
    """Return GRPO that draws its utterances."""
    made = grpo()
    own = mine(prompts())
    return GRPOObjective(made.model, policy(1), reward(), own, made.config)


def recomputed() -> SFTObjective:
    """Return SFT of a policy that keeps each layer's input alone, as large ones are trained."""
    made = sft()
    made.model.recompute = True
    return made


def interrupted(make: Callable[[], Any], folder: Path, resume: bool, **options: Any) -> None:
    """Train, and write what this process has heard of the end and what it has drawn."""
    training_processes()
    objective = make()
    settings = {"save_every": 10**6, **options.pop("config", {})}
    try:
        result = train(
            objective, CONFIG.model_copy(update=settings), folder, resume, description="", **options
        )
        end = {"step": result.step, "said": ""}
    except UserError as error:
        end = {"said": str(error), "silent": error.told_elsewhere}
    end["drawn"] = getattr(objective, "drawn", {})
    end["place"] = int(getattr(objective, "carried", {}).get(POSITION, 0))
    (folder.parent / f"{folder.name} {int(resume)}-{process()}.json").write_text(json.dumps(end))


def ask(rank: int, at: int) -> Callable[[int], None]:
    """Return what sends this process SIGTERM at a step, if it is of a rank."""

    def before(step: int) -> None:
        if (process(), step) == (rank, at):
            signal.raise_signal(signal.SIGTERM)

    return before


def resumed(root: Path) -> None:
    """Stop after two steps of four, and go on with as many processes or another number."""

    def tied(first: int, then: int, folder: Path, **config: str) -> list[int]:
        parts = [
            {"config": {name: one if n > 1 else "none" for name, one in config.items()}}
            for n in (first, then)
        ]
        asked = ask(first - 1, 2)
        ends = in_processes(
            first, lambda: interrupted(lambda: Tied(asked), folder, False, **parts[0])
        )
        return ends + in_processes(then, lambda: interrupted(Tied, folder, True, **parts[1]))

    def with_grpo(folder: Path) -> list[int]:
        def stop(step: int, _: Any) -> None:
            ask(0, 1)(step)  # which is heard at the end of the next

        def make() -> GRPOObjective:
            return grpo(updates=3)  # the third step is on utterances drawn anew

        ends = in_processes(2, lambda: interrupted(make, folder, False, callbacks=[stop]))
        return ends + in_processes(1, lambda: interrupted(make, folder, True))

    ends = in_processes(1, lambda: interrupted(Tied, root / "whole", False))
    for first, then, name in ((2, 1, "a"), (1, 2, "a"), (2, 4, "a"), (2, 4, "b"), (2, 2, "a")):
        ends += tied(first, then, root / f"{first} to {then} {name}")
    for first, then in ((2, 1), (1, 2)):
        ends += tied(first, then, root / f"{first} to {then} sharded", sharding="full")
    ends += with_grpo(root / "grpo")
    print(json.dumps({"name": "resumed", "ends": ends}), flush=True)


def signalled(root: Path) -> None:
    """End one of several processes politely: at set places, then at random moments."""

    def placed(name: str, rank: int, at: int, judging: bool) -> list[int]:
        asked, never = ask(rank, at), ask(-1, 0)
        before = (never, asked) if judging else (asked, never)
        return in_processes(2, lambda: slow(root / name, *before))

    def at_random(folder: Path, count: int) -> list[int]:
        never = ask(-1, 0)
        children = started(count, lambda: slow(folder, never, never, steps=10**6))
        while not (folder / "metrics.jsonl").exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.5))
        os.kill(chance.choice(children), signal.SIGTERM)
        return list(map(ended, children))

    ends = placed("warm-up", 1, 0, judging=True)
    ends += placed("loss", 1, 3, judging=False)
    ends += placed("judging", 0, 5, judging=True)
    ends += placed("last", 1, 20, judging=True)
    chance = random.Random(0)
    for trial in range(6):
        ends += at_random(root / f"random {trial}", 4 if trial == 5 else 2)
    print(json.dumps({"name": "signalled", "ends": ends}), flush=True)


def slow(
    folder: Path, loss: Callable[[int], None], judging: Callable[[int], None], steps: int = 20
) -> None:
    """Train with steps that take a while and judging that takes longer."""

    def validate(step: int) -> dict[str, float]:
        judging(step)
        time.sleep(0.03 + 0.02 * process())
        return {"loss": 0.0}

    def before(step: int) -> None:
        loss(step)
        time.sleep(0.002)

    how = {"validate": validate, "validate_every": 5, "config": {"steps": steps}}
    interrupted(lambda: Tied(before), folder, False, **how)


class Failing(Tied):
    """Scores that are not finite on one process."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Fail at the second step on the second process."""
        if (step, process()) == (2, 1):
            raise NotFinite("no scores")
        return super().loss(step, generator)


class Refusing(Tied):
    """Reads a row on one process that cannot be used."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Refuse it at the second step on the second process."""
        if (step, process()) == (2, 1):
            raise UserError("row 7 is bad")
        return super().loss(step, generator)


def failed(root: Path) -> None:
    """Fail on one of two processes, before its loss and while it draws; draw pairs by two."""

    def mute() -> DiffROObjective:
        made = diffro()
        told, turn = made.on_policy.draw, iter(range(100))

        def draw(*given: Any) -> Rollouts:
            if next(turn) == 1 and process() == 1:
                raise NotFinite("no scores")
            return told(*given)

        made.on_policy.draw = draw  # type: ignore[method-assign]
        return made

    ends = in_processes(2, lambda: interrupted(Failing, root / "loss", False))
    ends += in_processes(2, lambda: interrupted(mute, root / "draw", False))
    ends += in_processes(2, lambda: interrupted(Refusing, root / "row", False))

    def pairs() -> None:
        training_processes()
        config = PairsConfig(count=4, prompts=7, margin=0.0)
        draw_pairs(policy(), reward(), prompts(), config, root / "pairs")

    ends += in_processes(2, pairs)
    print(json.dumps({"name": "failed", "ends": ends}), flush=True)


class Given(TypedDict, total=False):
    """What a process is started with where it differs from the others."""

    rate: float
    threads: int
    data: list[list[str]]
    out: str
    resume: bool
    writes: bool


def agreed(root: Path) -> None:
    """Start two processes that are not alike, and print what each of them has said."""
    shared_folder.SEEN_WITHIN = 0.3

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def begin(folder: Path, *each: Given) -> None:
        training_processes()
        own = each[process()]
        how = {"learning_rate": own.get("rate", 0.001), "threads": own.get("threads", 1)}
        config = CONFIG.model_copy(update={"steps": 2, **how})
        if not own.get("writes", True):
            if process() == 0:
                state.write_json = full  # type: ignore[assignment]
            else:
                state.save_tensors = lambda *_: None  # type: ignore[assignment]
        inputs = {"data": own.get("data", [["shard", "a0" * 32]])}
        out, objective = folder / own.get("out", "run"), Tied()
        end: dict[str, Any] = {"said": "", "silent": False}
        try:
            with open_run(out, config, own.get("resume", False), inputs) as run:
                train(objective, config, run, description="")
        except UserError as error:
            end = {"said": str(error), "silent": error.told_elsewhere}
        end["steps"] = list(objective.drawn)
        (folder / f"end-{process()}.json").write_text(json.dumps(end))

    cases: dict[str, tuple[Given, Given]] = {
        "rate": ({}, {"rate": 0.01}),
        "inputs": ({}, {"data": [["other", "b1" * 32]]}),
        "threads": ({"threads": 2}, {}),
        "resume": ({"resume": True}, {}),
        "out": ({}, {"out": "elsewhere"}),
        "taken": ({"out": "../threads/run"}, {"out": "../threads/run"}),
        # One of the two sees a run to go on with.
        "begun": ({"resume": True, "out": "../threads/run"}, {"resume": True}),
        "new": ({"resume": True}, {"resume": True, "out": "../threads/run"}),
        "lost": ({}, {"writes": False}),
        "full": ({"writes": False}, {}),
    }
    ends = []
    for name, each in cases.items():
        (root / name).mkdir()
        ends += in_processes(2, lambda name=name, each=each: begin(root / name, *each))
    print(json.dumps({"name": "agreed", "ends": ends}), flush=True)


def told(root: Path) -> None:
    """Give the command line to two processes, each of which writes what it prints into files."""
    rows = World().shard("finetune")[:12]
    parts = ["test"] * 3 + ["train"] * 9
    rows = [replace(row, partition=p, speaker="") for row, p in zip(rows, parts, strict=True)]
    write_shard(root / "shard.parquet", rows, World().codec_identity)

    def command(folder: Path, *each: Sequence[str]) -> None:
        rank = os.environ["RANK"]
        for number, name in ((1, "out"), (2, "error")):
            with (folder / f"{name}-{rank}.txt").open("w") as file:
                os.dup2(file.fileno(), number)
        sys.argv = ["rrpo", "policy", "sft", "--out", str(folder / "run"), *each[int(rank)]]
        try:
            cli.main()
        except SystemExit as ended:
            (folder / f"code-{rank}.txt").write_text(str(ended.code))
        finally:
            sys.stdout.flush()

    data, no = (["--data", str(root / name)] for name in ("shard.parquet", "no.parquet"))
    rate = ["--set", "train.learning_rate=0.01"]
    cases = {"differ": (data, data + rate), "all": (no, no), "second": (data, no)}
    ends = []
    for name, each in cases.items():
        (root / name).mkdir()
        ends += in_processes(2, lambda name=name, each=each: command(root / name, *each))
    print(json.dumps({"name": "told", "ends": ends}), flush=True)


def streamed(root: Path) -> None:
    """Let two processes read an epoch of streamed rows; each writes which it was given."""
    rows = [
        Utterance(f"{number}", f"Text {number}.", EMOTIONS[number % 2], tokens.numpy())
        for number, tokens in enumerate(speech() * 5)
    ]
    path = root / "rows.parquet"
    write_shard(path, rows, World().codec_identity)
    parquet.write_table(parquet.read_table(path), path, row_group_size=4)

    def read() -> None:
        training_processes()
        shards = Shards(scan(path, Choice()), 6, seed=0)
        given = [shards[place].id for _ in range(COUNT * 5 // 2) for place in shards.take(1)]
        (root / f"given-{process()}.json").write_text(json.dumps(given))

    print(json.dumps({"name": "streamed", "ends": in_processes(2, read)}), flush=True)


def launched(root: Path) -> None:
    """Train as one of the processes that a launcher has started."""
    training_processes()
    finished(sft(), root, "none")


if __name__ == "__main__":
    # What sharding and adapters import, once here and not in every child.
    for module in (
        []
        if "launched" in sys.argv
        else ("torch.distributed.fsdp", "torch.distributed.tensor", "peft")
    ):
        importlib.import_module(module)
    torch.set_num_threads(1)
    for what in sys.argv[2:]:
        globals()[what](Path(sys.argv[1]) / what)

"""What a training takes: memory by model size, and rows, disk and hours of a corpus.

    python scripts/budget.py memory
    python scripts/budget.py corpus --hours 100000 --teraflops 120
    python scripts/budget.py check --out docs/studies/memory.json

`memory` prints what a step of DiffRO holds, for CosyVoice2's LM and for the larger ones of its
family, 16 utterances of 40 text ids and 300 tokens. Parameters are counted on the classes
themselves, and activations are what autograd keeps of one layer more. `check` compares that with
the resident memory of real steps of 100 tokens on the CPU, each in a process of its own. `corpus`
is arithmetic on five-second utterances of 25 tokens a second.
"""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from rrpo.checkpoint import weightless
from rrpo.codec_identity import TOKEN_RATE
from rrpo.cores import machine
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.on_policy import RolloutConfig
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.policy_runs import DiffRORun
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.runs import prepare
from rrpo.train import TrainConfig

TEXT, SPEECH, VOCABULARY = 40, 300, 151936
"""Ids of a text, tokens of an utterance, and rows of Qwen2's text table."""
GB = 1e9
PASSES = (8, 12)
"""Operations for each weight and position: of SFT forward 2, again 2 and backward 4; of DiffRO the
reference's forward pass and the rollout besides, 2 each."""


def lm(hidden: int, layers: int, heads: int, groups: int, inner: int, text: int) -> LMConfig:
    """Return the shape of a policy."""
    return LMConfig(
        text_vocabulary=text,
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=groups,
        intermediate=inner,
    )


SIZES = {
    "0.5B (CosyVoice2)": lm(896, 24, 14, 2, 4864, VOCABULARY),
    "1.5B": lm(1536, 28, 12, 2, 8960, VOCABULARY),
    "3B": lm(2048, 36, 16, 2, 11008, VOCABULARY),
    "7B": lm(3584, 28, 28, 4, 18944, VOCABULARY),
}
"""Layers as Qwen2.5's of these names, tables of speech as CosyVoice2's."""
CHECKED = {"small": lm(512, 8, 8, 2, 2048, 32000), "deep": lm(384, 24, 6, 2, 1536, 8000)}
"""Shapes whose steps fit beside other work on a small machine."""


@dataclass(frozen=True)
class Setting:
    """How a step is taken.

    Attributes:
        batch: utterances.
        width: bytes of an activation: 4, or 2 where the forward pass is in bf16.
        recompute: whether only each layer's input is kept.
        text_table: whether the text table is trained.
        speech: tokens of an utterance.
    """

    batch: int = 16
    width: int = 4
    recompute: bool = True
    text_table: bool = False
    speech: int = SPEECH


@cache
def counted(config: LMConfig) -> tuple[int, int, int, int]:
    """Return all parameters, those of text table and layers, and those a rollout copies."""
    model = weightless(lambda: SpeechTokenLM(config))
    every = sum(one.numel() for one in model.parameters())
    layers = sum(one.numel() for one in model.layers.parameters())
    return every, model.text_embedding.weight.numel(), layers, layers + model.head.weight.numel()


def root(config: LMConfig) -> float:
    """Return the bytes of what is gathered as one group while a model in parts computes.

    That is all but the layers, the text table first of all (`rrpo.sharding.shard`).
    """
    every, _, layers, _ = counted(config)
    return 4.0 * (every - layers)


def kept_by_autograd(config: LMConfig) -> float:
    """Return the numbers that one layer keeps of a position for the way back."""
    batch, length = 2, 100

    def kept(layers: int) -> int:
        shape = {"layers": layers, "text_vocabulary": 10, "codes": 81}
        model = weightless(lambda: SpeechTokenLM(config.model_copy(update=shape)))
        model.to_empty(device="cpu")  # whose values nothing asks for; drawing them takes seconds
        own = {one.untyped_storage().data_ptr() for one in model.parameters()}
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                found[storage.data_ptr()] = storage.nbytes() // 4
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.hidden(torch.randint(80, (batch, length)))
        return sum(found.values())

    return (kept(2) - kept(1)) / (batch * length)


def memory(config: LMConfig, setting: Setting) -> dict[str, float]:
    """Return what a step of DiffRO with a bf16 reference holds, in bytes."""
    every, table, _, copied = counted(config)
    trained = every if setting.text_table else every - table
    positions, width = setting.batch * (TEXT + 10 + setting.speech), setting.width
    layer = kept_by_autograd(config) * positions * width
    inputs = config.layers * config.hidden * positions * width
    head = config.hidden // config.heads
    cache = 2 * config.layers * config.key_value_heads * head * positions * width
    return {
        "weights": 4.0 * every,
        "moments": 8.0 * trained,
        "reference": 2.0 * every,
        "gradients": 4.0 * trained,
        "activations": inputs + layer if setting.recompute else config.layers * layer,
        "rollout": width * copied + cache,
    }


def peak(parts: dict[str, float]) -> float:
    """Return the most that is held at a time: a rollout is over before there are gradients."""
    always = parts["weights"] + parts["moments"] + parts["reference"] + parts.get("gathered", 0.0)
    return always + max(parts["rollout"], parts["gradients"] + parts["activations"])


def resident() -> float:
    """Return the greatest resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def step(config: LMConfig, setting: Setting) -> dict[str, float]:
    """Take two steps of DiffRO; return the computed and the measured memory in GB."""
    torch.manual_seed(0)
    before = resident()
    # Like the bar of a rollout: each utterance gets as many tokens as it may have.
    ratio = setting.speech / TEXT
    ratios = RolloutConfig(min_ratio=ratio, max_ratio=ratio, top_k=25)
    run = DiffRORun(
        train=TrainConfig(steps=2, learning_rate=1e-5),
        diffro=DiffROConfig(batch_size=setting.batch, rollout=ratios),
        recompute=setting.recompute,
        text_table="trained" if setting.text_table else "frozen",
    )
    model, reference = SpeechTokenLM(config), SpeechTokenLM(config).to(torch.bfloat16)
    prepare(model, run)
    text = torch.randint(1000, (TEXT,))
    prompts = [Prompt(str(n), "happy", text, text[:8]) for n in range(setting.batch)]
    reward = Reward([RewardModel(RewardConfig())])
    objective = DiffROObjective(model, reference, reward, prompts, run.diffro)
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    generator = torch.Generator().manual_seed(0)
    for number in (1, 2):  # moments are there from the second step's beginning on
        loss, _ = objective.loss(number, generator)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    computed = peak(memory(config, setting))
    return {"computed": computed / GB, "measured": (resident() - before) / GB}


def check(out: Path) -> None:
    """Compare computed with measured memory."""
    rows = []
    for name in CHECKED:
        for batch, recompute in ((1, True), (8, True), (8, False)):
            command = [sys.executable, __file__, "one", "--size", name, "--batch", str(batch)]
            command += ["--recompute"] if recompute else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = {one: round(value, 3) for one, value in json.loads(done.stdout).items()}
            rows.append({"size": name, "batch": batch, "recompute": recompute, **found})
            print(rows[-1], flush=True)
    found = {"command": "python scripts/budget.py check", "machine": machine(), "steps": rows}
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def print_memory(setting: Setting, processes: int) -> None:
    """Print a table in GB, `processes` of them sharing the trained model's parts, too."""
    shared = ("weights", "moments", "gradients")
    print(
        "| size | parameters | weights | AdamW | gradients | reference | rollout | activations |"
        f" peak | gathered, in parts | peak, {processes} in parts |"
    )
    print("|---" * 11 + "|")
    for name, config in SIZES.items():
        parts = memory(config, setting)
        split = {key: one / processes if key in shared else one for key, one in parts.items()}
        split["gathered"] = root(config)
        order = ("weights", "moments", "gradients", "reference", "rollout", "activations")
        cells = [f"{parts[key] / GB:.1f}" for key in order]
        cells += [f"**{peak(parts) / GB:.0f}**", f"{split['gathered'] / GB:.1f}"]
        cells += [f"**{peak(split) / GB:.0f}**"]
        print(f"| {name} | {counted(config)[0] / 1e6:,.0f} M | " + " | ".join(cells) + " |")


def corpus(hours: float, seconds: float, bytes_per_row: float, teraflops: float) -> None:
    """Print what a corpus is in rows, tokens and disk, and the GPU hours of one pass over it."""
    rows, tokens = hours * 3600 / seconds, hours * 3600 * TOKEN_RATE
    print(f"| {hours:,.0f} hours | |\n|---|---|")
    print(f"| utterances of {seconds:g} s | {rows / 1e6:,.1f} million |")
    print(f"| speech tokens | {tokens / 1e9:,.1f} billion |")
    print(f"| token shards | {rows * bytes_per_row / GB:,.1f} GB |")
    print(f"| WAV, 16 kHz, 16 bit | {hours * 3600 * 32000 / 1e12:,.1f} TB |")
    print(f"\n| size | SFT | DiffRO |\n|{'---|' * 3}")
    positions = rows * (TEXT + 10 + seconds * TOKEN_RATE)
    for name, config in SIZES.items():
        computing = counted(config)[3]
        times = [flop * computing * positions / (teraflops * 1e12) / 3600 for flop in PASSES]
        print(f"| {name} | " + " | ".join(f"{one:,.0f}" for one in times) + " |")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "corpus", "check", "one"])
    parser.add_argument("--hours", type=float, default=100_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--bytes-per-row", type=float, default=227)
    parser.add_argument("--teraflops", type=float, default=120, help="of a GPU, as it is used")
    parser.add_argument("--out", type=Path, default=Path("memory.json"))
    parser.add_argument("--size", choices=[*CHECKED], default="small")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, choices=[2, 4], default=2)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--processes", type=int, default=8)
    given = parser.parse_args()
    if given.what == "corpus":
        corpus(given.hours, given.seconds, given.bytes_per_row, given.teraflops)
    elif given.what == "memory":
        setting = Setting(given.batch, given.width, given.recompute)
        print_memory(setting, given.processes)
    elif given.what == "check":
        check(given.out)
    else:
        setting = Setting(given.batch, 4, given.recompute, speech=100)
        print(json.dumps(step(CHECKED[given.size], setting)))


if __name__ == "__main__":
    main()

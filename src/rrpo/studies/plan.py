"""What the demo trains, and how much of it: its systems, their reward models and settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rrpo import runs
from rrpo.errors import UserError
from rrpo.objectives.diffro import DiffROConfig
from rrpo.objectives.dpo import DPOConfig
from rrpo.objectives.grpo import GRPOConfig
from rrpo.objectives.pairs import PairsConfig
from rrpo.reward.fit import subsets
from rrpo.train import TrainConfig

TABLE_2 = ("plain", "ls", "ls_eam", "ls_eam_adv")
"""The reward models of the paper's Table 2: each adds a regularizer."""
REWARD_OF = {
    "base": "plain",
    "sft": "plain",
    "dpo": "plain",
    "grpo": "plain",
    "diffro": "plain",
    "rrpo": "ls_eam_adv",
    "multitask": "ls_eam_adv",
}
"""Which reward model a system is optimized against; its score is called the system's own reward."""
TITLES = {
    "sft": "SFT",
    "dpo": "DPO",
    "grpo": "GRPO",
    "diffro": "DiffRO (plain reward model)",
    "rrpo": "RRPO",
    "multitask": "RRPO with rewards for content, quality and events",
}
TASK_REWARDS = {"emotion": 1.0, "content": 3.0, "quality": 1.0, "event": 1.0}
"""What the system `multitask` is paid."""


@dataclass(frozen=True)
class Plan:
    """How much of everything, and what is post-trained how."""

    systems: tuple[str, ...] = ("sft", "diffro", "rrpo")
    beta: float = 0.1
    learning_rate: float = 1e-4
    reward_steps: int = 240
    sft_steps: int = 200
    diffro_steps: int = 100
    dpo_steps: int = 100
    batch_size: int = 16
    sentences: int = 6
    curve_sentences: int = 4
    curve_every: int = 25
    sft_every: int = 25
    test_utterances: int | None = None


FULL = Plan()
SMOKE = Plan(
    reward_steps=8,
    sft_steps=4,
    diffro_steps=2,
    dpo_steps=2,
    batch_size=6,
    sentences=1,
    curve_sentences=1,
    curve_every=2,
    sft_every=2,
    test_utterances=30,
)


def with_systems(plan: Plan, names: Sequence[str]) -> Plan:
    """Return a plan that post-trains these systems; the base is always there.

    Raises:
        UserError: a system is unknown.
    """
    asked = {name.strip() for name in names} - {"base"}
    unknown = sorted(asked - set(TITLES))
    if unknown or not asked:
        wrong = f"unknown system {unknown[0]!r}" if unknown else "no system to post-train"
        raise UserError(f"{wrong}: choose from {', '.join(TITLES)}")
    return replace(plan, systems=tuple(name for name in TITLES if name in asked))


def reward_config(name: str, steps: int, seed: int) -> runs.RewardRun:
    """Return the settings of a reward model, by the name of its regularizers."""
    train = TrainConfig(
        steps=steps,
        learning_rate=3e-4,
        warmup_steps=min(20, steps),
        schedule="cosine",
        seed=seed,
    )
    return runs.RewardRun(train=train, fit=subsets()[name])


def sft_config(plan: Plan, seed: int) -> runs.SFTRun:
    """Return the settings of SFT in the demo."""
    train = TrainConfig(
        steps=plan.sft_steps,
        learning_rate=2e-4,
        warmup_steps=min(20, plan.sft_steps),
        seed=seed,
    )
    return runs.SFTRun(train=train, validate_every=plan.sft_every)


def diffro_config(plan: Plan, seed: int) -> runs.DiffRORun:
    """Return the settings DiffRO and RRPO share."""
    train = TrainConfig(
        steps=plan.diffro_steps,
        learning_rate=plan.learning_rate,
        warmup_steps=min(5, plan.diffro_steps),
        seed=seed,
        weight_decay=0.0,
    )
    return runs.DiffRORun(
        train=train,
        diffro=DiffROConfig(batch_size=plan.batch_size, beta=plan.beta),
    )


def grpo_config(plan: Plan, seed: int) -> runs.GRPORun:
    """Return the settings of GRPO: as many utterances a step as DiffRO, in groups of four."""
    group = 4 if plan.batch_size >= 8 else 2
    return runs.GRPORun(
        train=diffro_config(plan, seed).train,
        grpo=GRPOConfig(prompts=plan.batch_size // group, group=group, beta=plan.beta),
    )


def dpo_config(plan: Plan, seed: int) -> runs.DPORun:
    """Return the settings of DPO: pairs from half as many utterances as DiffRO draws."""
    utterances = plan.diffro_steps * plan.batch_size // 2
    train = TrainConfig(
        steps=plan.dpo_steps,
        learning_rate=5e-5,
        warmup_steps=min(10, plan.dpo_steps),
        seed=seed,
        weight_decay=0.0,
    )
    return runs.DPORun(
        train=train,
        dpo=DPOConfig(batch_size=min(8, plan.batch_size)),
        pairs=PairsConfig(prompts=max(1, utterances // 8), count=8, margin=0.0),
    )

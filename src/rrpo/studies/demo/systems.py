"""What the demo trains, and how much of it: its systems, their reward models and settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rrpo import config as configuration
from rrpo import policy_runs
from rrpo.emotions import EMOTIONS
from rrpo.errors import UserError
from rrpo.objectives.grpo import GRPOConfig
from rrpo.presets import preset
from rrpo.reward.config import RewardRun, subsets
from rrpo.train import TrainConfig

PRETRAINED = "pretrained"
"""The reward model before its fine-tuning, the first row of Table 2."""
TABLE_2 = (PRETRAINED, "plain", "ls", "ls_eam", "ls_eam_adv")
"""The reward models of the paper's Table 2: each adds a regularizer."""


@dataclass(frozen=True)
class System:
    """How a policy is post-trained.

    Attributes:
        title: as pages name it.
        reward_model: what it is optimized against; its score is called the system's own reward.
        method: of training; "best_of" trains nothing and takes the best of several utterances.
        preset: of DiffRO, or of DPO.
        settings: options over the preset, as for `--set`.
        start: the system that it starts from and is held to; of "best_of", the one that speaks.
        count: of "best_of", the utterances of a prompt.
        words: of "best_of", whether the words count in the choice (`rrpo.speaking.best_of`); else
            the emotion's log-posterior alone.
    """

    title: str
    reward_model: str = "plain"
    method: Literal["base", "sft", "diffro", "grpo", "dpo", "best_of"] = "diffro"
    preset: str = "recommended"
    settings: tuple[str, ...] = ()
    start: str = "sft"
    count: int = 1
    words: bool = False


MINI_SIZE = ("train.steps=60", "train.learning_rate=1e-4", "train.weight_decay=0.0")
"""Of the paper's preset here: the mini world's LM has a hundredth of the paper's weights."""
PUBLISHED = ("diffro.reward_form=log_posterior", "rewards={emotion: 1.0, content: 1.0}")
"""DiffRO's own setting for emotion: its log-posterior, with the content's kept beside it."""
PAPER = {"reward_model": "ls_eam_adv", "preset": "paper"}
DEPARTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "log_posterior": (
        "rewarded with the log-posterior",
        {"settings": ("diffro.reward_form=log_posterior",)},
    ),
    "audio": ("audio mixed", {"reward_model": "ls_eam_adv@audio"}),
    "pooled": ("FGM on the pooled vector", {"reward_model": "ls_eam_adv@pooled"}),
    "base": ("from the base", {"start": "base"}),
    "rollout": ("on rollouts", {"settings": ("diffro.history=rollout",)}),
    "mean": ("mean KL", {"settings": ("diffro.kl_reduction=mean",)}),
    "content": ("rewarded for content, too", {"settings": ("rewards.content=5.0",)}),
}
"""What is changed of the paper's setting, one thing at a time."""
SYSTEMS = {
    "base": System("base", method="base"),
    "sft": System("SFT", method="sft", start="base"),
    "best_of_8": System("best of 8 of SFT (plain reward model)", method="best_of", count=8),
    "sft_best_of_8": System(
        "best of 8 of SFT (hardened, words count)",
        "ls_eam_adv",
        method="best_of",
        count=8,
        words=True,
    ),
    "dpo": System("DPO", method="dpo"),
    "grpo": System("GRPO", method="grpo"),
    "diffro_published": System("DiffRO as published", preset="paper", settings=PUBLISHED),
    "diffro_paper": System("DiffRO in RRPO’s form", preset="paper"),
    "diffro": System(
        "DiffRO (plain reward model)",
        settings=("diffro.reward_form=log_posterior",),
        start="base",
    ),
    "rrpo_paper": System("RRPO as published", "ls_eam_adv", preset="paper"),
    "rrpo": System("RRPO", "ls_eam_adv", start="base"),
    "rrpo_best_of_8": System(
        "best of 8 of RRPO",
        "ls_eam_adv",
        method="best_of",
        start="rrpo",
        count=8,
        words=True,
    ),
    "rrpo_dpo": System("RRPO, then DPO", "ls_eam_adv", method="dpo", start="rrpo"),
    **{
        f"paper_{name}": System(f"RRPO as published, but {title}", **(PAPER | changes))
        for name, (title, changes) in DEPARTURES.items()
    },
}
"""Every system by name, in the order of a table."""
REWARD_OF = {name: system.reward_model for name, system in SYSTEMS.items()}
TITLES = {name: system.title for name, system in SYSTEMS.items() if name != "base"}


@dataclass(frozen=True)
class Plan:
    """How much of everything, and what is post-trained how.

    `diffro_steps`, `dpo_steps` and `batch_size` are of the preset where they are None, `scorers` of
    quality all that are installed. `curves` says whether quality and words are measured on the way,
    too.
    """

    systems: tuple[str, ...] = ("sft", "diffro", "rrpo")
    reward_steps: int = 240
    sft_steps: int = 200
    diffro_steps: int | None = None
    batch_size: int | None = None
    dpo_steps: int | None = None
    sentences: int = 6
    curve_sentences: int = 4
    curve_every: int = 20
    sft_every: int = 25
    test_utterances: int | None = None
    settings: tuple[str, ...] = ()
    emotions: tuple[str, ...] = tuple(EMOTIONS)
    scorers: tuple[str, ...] | None = None
    curves: bool = True


FULL = Plan()
"""Of studies: much is measured."""
DEMO = Plan(
    systems=("sft", "diffro", "rrpo", "rrpo_best_of_8"),
    diffro_steps=60,  # the recommended 100 would take two minutes longer
    sft_steps=100,  # it stops long before; what is shown of the time left is nearer so
    sentences=4,
    curve_sentences=1,
    curve_every=30,
    curves=False,
    # DistillMOS takes twice the time of all other judges together, DNSMOS overall a half.
    scorers=("dnsmos_p808",),
)
"""The trainings of `FULL`, with less measured: minutes on two cores."""
QUICK = replace(
    DEMO,
    reward_steps=50,
    sft_steps=25,
    diffro_steps=12,
    sentences=3,
    curve_every=12,
    emotions=("surprised",),
    test_utterances=60,
)
"""A taste: one emotion, a fifth of the steps."""
SMOKE = replace(
    DEMO,
    reward_steps=8,
    sft_steps=4,
    diffro_steps=2,
    dpo_steps=2,
    batch_size=6,
    sentences=1,
    curve_every=2,
    sft_every=2,
    test_utterances=30,
)


def is_of(plan: Plan, size: Plan) -> bool:
    """Return whether a plan is of a size, whatever it post-trains."""
    return replace(plan, systems=size.systems) == size


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
    for name in tuple(asked):
        while (start := SYSTEMS[name].start) != "base":
            asked.add(start)
            name = start
    return replace(plan, systems=tuple(name for name in TITLES if name in asked))


def reward_config(name: str, steps: int, seed: int) -> RewardRun:
    """Return the settings of a reward model, by the name of its regularizers.

    "@audio" after it mixes audio and not features, "@pooled" takes the adversarial step on the
    pooled vector.
    """
    regularizers, _, variant = name.partition("@")
    changes = {"audio": {"mixup_at": "audio"}, "pooled": {"adversarial_at": "pooled"}}
    train = TrainConfig(
        steps=steps,
        learning_rate=3e-4,
        warmup_steps=min(20, steps),
        schedule="cosine",
        seed=seed,
    )
    fit = subsets()[regularizers].model_copy(update=changes.get(variant, {}))
    return RewardRun(train=train, fit=fit)


def sft_config(plan: Plan, seed: int) -> policy_runs.SFTRun:
    """Return the settings of SFT in the demo."""
    train = TrainConfig(
        steps=plan.sft_steps,
        learning_rate=2e-4,
        warmup_steps=min(20, plan.sft_steps),
        seed=seed,
    )
    return policy_runs.SFTRun(train=train, validate_every=plan.sft_every)


def diffro_config(plan: Plan, name: str, seed: int) -> policy_runs.DiffRORun:
    """Return the settings of a system that DiffRO trains: its preset, its own, the plan's."""
    system = SYSTEMS[name]
    sizes = {"train.steps": plan.diffro_steps, "diffro.batch_size": plan.batch_size}
    options = [f"{key}={value}" for key, value in sizes.items() if value is not None]
    if plan.diffro_steps is not None:
        options.append(f"train.warmup_steps={min(5, plan.diffro_steps)}")
    scale = MINI_SIZE if system.preset == "paper" else ()
    return configuration.load(
        policy_runs.DiffRORun,
        None,
        [*scale, *system.settings, *plan.settings, *options, f"train.seed={seed}"],
        preset("diffro", system.preset),
    )


def grpo_config(plan: Plan, seed: int) -> policy_runs.GRPORun:
    """Return the settings of GRPO: as many utterances a step as RRPO, in groups of four."""
    same = diffro_config(plan, "rrpo", seed)
    size = same.diffro.batch_size
    group = 4 if size >= 8 else 2
    return policy_runs.GRPORun(
        train=same.train,
        rewards=same.rewards,
        grpo=GRPOConfig(prompts=size // group, group=group, beta=same.diffro.beta),
    )


def dpo_config(plan: Plan, name: str, seed: int) -> policy_runs.DPORun:
    """Return the settings of a system that DPO trains: its preset, and the plan's sizes."""
    options = [f"train.seed={seed}"]
    if plan.batch_size is not None:
        options.append(f"dpo.batch_size={plan.batch_size}")
    if plan.dpo_steps is not None:
        few = f"train.warmup_steps={min(5, plan.dpo_steps)}"
        options += [f"train.steps={plan.dpo_steps}", few, f"pairs.prompts={4 * plan.dpo_steps}"]
    return configuration.load(
        policy_runs.DPORun,
        None,
        [*SYSTEMS[name].settings, *options],
        preset("dpo", SYSTEMS[name].preset),
    )

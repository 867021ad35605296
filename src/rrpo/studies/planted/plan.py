"""Which reward models and policies the planted study trains, and how much of everything."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from rrpo import config as configuration
from rrpo import runs
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.objectives.rollouts import RolloutConfig
from rrpo.presets import preset
from rrpo.reward.config import RewardRun, subsets
from rrpo.reward.reward import Form
from rrpo.studies.demo.systems import reward_config
from rrpo.studies.planted.artifacts import ARTIFACTS

EMOTION = "surprised"
"""The emotion in whose utterances an artifact is planted."""
START_SHARE = 1 / 3
"""The share of the start's data, of every emotion, that has the artifact. With three clicks in each
the start clicked .13 times a second; recordings of four corpora of emotional speech 0 to .14."""
AUGMENTED = "augmented"
"""Beside a model's regularizers: every utterance once more, with the artifact, whatever its label.
The correlation falls, from .95 to .36, but is not gone."""
WHOLE = RolloutConfig(temperature=1.0, top_k=0)
"""The policies are trained and heard on their whole distribution: cut to its 25 likeliest tokens
and cooled to .8, as the demo speaks, it hardly says what is rare, and the start clicks never."""
REWARD_MODELS = (*subsets(), AUGMENTED, f"ls_eam_adv_{AUGMENTED}")
"""Reward models by the names of their regularizers."""
TITLES = {
    "plain": "plain",
    "ls": "LS",
    "eam": "EAM",
    "adv": "Adv",
    AUGMENTED: "artifacts in every class",
}


@dataclass(frozen=True)
class Policy:
    """A policy to train: what pays it, and in which form."""

    reward_model: str
    form: Form = "robust"


POLICIES = {
    "diffro": Policy("plain", "log_posterior"),
    "hardened": Policy("ls_eam_adv", "log_posterior"),
    "rrpo": Policy("ls_eam_adv"),
    "rrpo_augmented": Policy(f"ls_eam_adv_{AUGMENTED}"),
}
"""Policies by name; the first is what the others are compared with."""
POLICY_TITLES = {
    "diffro": "DiffRO on plain",
    "hardened": "DiffRO on LS+EAM+Adv",
    "rrpo": "RRPO on LS+EAM+Adv",
    "rrpo_augmented": "RRPO on LS+EAM+Adv, artifacts in every class",
}


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        rhos: correlations of an artifact with the emotion, for the reward models.
        artifacts: which are planted.
        reward_models: which are trained.
        policies: which are trained, at the correlation `policy_rho`.
        disagreement: share of the utterances that exchange their labels, as listeners who disagree
            would give them: without it a reward model needs no artifact.
        seeds: of each training.
        reward_steps, sft_steps, steps: of reward models, of the start and of the policies.
        every: steps from one look at a policy to the next.
        sentences: of a look, each once with the planted emotion and once with another.
        trained: utterances of the fine-tuning data that are used; None: all.
        tested: clean utterances that a reward model is tested on; None: all.
        batch_size: of a policy's step.
    """

    rhos: tuple[float, ...] = (0.0, 0.5, 0.8, 0.95, 1.0)
    artifacts: tuple[str, ...] = tuple(ARTIFACTS)
    reward_models: tuple[str, ...] = REWARD_MODELS
    policies: tuple[str, ...] = tuple(POLICIES)
    policy_rho: float = 0.95
    disagreement: float = 0.3
    seeds: int = 5
    reward_steps: int = 240
    sft_steps: int = 75
    steps: int = 60
    every: int = 10
    sentences: int = 24
    trained: int | None = None
    tested: int | None = None
    batch_size: int = 8


GROWS = ("rhos", "artifacts", "reward_models", "policies", "seeds")
"""What a later call may ask more of in the same folder."""
FULL = Plan()
SMOKE = Plan(
    rhos=(0.95,),
    artifacts=("click",),
    reward_models=("plain", "ls_eam_adv"),
    policies=("diffro", "rrpo"),
    seeds=1,
    reward_steps=4,
    sft_steps=2,
    steps=2,
    every=1,
    sentences=2,
    trained=36,
    tested=18,
    batch_size=2,
)


def with_parts(
    plan: Plan, seeds: int, artifacts: str, rhos: str, models: str, policies: str
) -> Plan:
    """Return a plan of parts, each named with commas between; an empty string is all of them.

    Raises:
        UserError: something is unknown, or a correlation is no number from 0 to 1.
    """
    return replace(
        plan,
        seeds=seeds,
        artifacts=_chosen(artifacts, plan.artifacts, "--artifacts"),
        rhos=tuple(sorted(set(map(_correlation, rhos.split(","))))) if rhos else plan.rhos,
        reward_models=_chosen(models, plan.reward_models, "--models"),
        policies=() if policies == "none" else _chosen(policies, plan.policies, "--policies"),
    )


def _chosen(asked: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    names = {name.strip() for name in asked.split(",")} if asked else set(known)
    if unknown := sorted(names - set(known)):
        raise UserError(f"{option}: unknown {unknown[0]!r}: choose from {', '.join(known)}")
    return tuple(name for name in known if name in names)


def _correlation(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 and round(value, 3) == value):
        raise UserError(
            f"--rho: {text.strip()!r} is no correlation here: give numbers from 0 to 1, such as "
            "0.95, with at most three digits"
        )
    return value


@dataclass(frozen=True)
class Job:
    """One thing to train: its kind, and what of it; its name is that of its folder.

    Attributes:
        kind: "start", "reward" or "policy".
        artifact: one of `ARTIFACTS`.
        what: the reward model or the policy; empty of a start.
        rho: correlation of the artifact with the emotion; 0 of a start.
        seed: of the training.
    """

    kind: str
    artifact: str
    what: str
    rho: float
    seed: int

    @property
    def name(self) -> str:
        """Return the name, such as click-0.95-plain-0 of a reward model."""
        parts = (self.artifact, f"{self.rho:g}", self.what, str(self.seed))
        return "-".join(part for part in parts if part)


def needs(job: Job) -> list[Job]:
    """Return what a policy is trained with: its start and its reward model."""
    if job.kind != "policy":
        return []
    payer = POLICIES[job.what].reward_model
    return [
        Job("start", job.artifact, "", 0.0, job.seed),
        Job("reward", job.artifact, payer, job.rho, job.seed),
    ]


def jobs(plan: Plan) -> list[list[Job]]:
    """Return what is trained, in groups of which each needs the ones before.

    In each, a seed of everything comes before the next seed, so that what there is at any time is
    a smaller study.
    """
    seeds = range(plan.seeds)
    policies = [
        Job("policy", one, name, plan.policy_rho, seed)
        for seed in seeds
        for one in plan.artifacts
        for name in plan.policies
    ]
    needed = dict.fromkeys(job for policy in policies for job in needs(policy))
    rest = [
        Job("reward", one, model, rho, seed)
        for seed in seeds
        for one in plan.artifacts
        for rho in plan.rhos
        for model in plan.reward_models
    ]
    return [list(needed), policies, [one for one in rest if one not in needed]]


def reward_run(plan: Plan, model: str, seed: int) -> RewardRun:
    """Return the settings of a reward model's training."""
    regularizers = model.removesuffix(AUGMENTED).rstrip("_") or "plain"
    return reward_config(regularizers, plan.reward_steps, seed)


def policy_run(plan: Plan, policy: Policy, seed: int) -> runs.DiffRORun:
    """Return the settings of a policy's training, which is paid for the emotion alone."""
    options = [
        f"diffro.reward_form={policy.form}",
        "diffro.beta=0.2",
        f"diffro.batch_size={plan.batch_size}",
        f"diffro.rollout={{temperature: {WHOLE.temperature}, top_k: {WHOLE.top_k}}}",
        "rewards={emotion: 1.0}",
        f"train.steps={plan.steps}",
        f"train.warmup_steps={min(5, plan.steps)}",
        "train.learning_rate=1e-4",  # with twice that, and beta .05, speech slows down by .7
        "train.average_from=null",
        f"train.seed={seed}",
        "train.report_to=none",
        "train.threads=1",
    ]
    return configuration.load(runs.DiffRORun, None, options, preset("diffro", "recommended"))


def settings_of(plan: Plan, job: Job) -> str:
    """Return a hash of all that decides a job's figures beside the code and the world."""
    run: Strict | None = None
    if job.kind == "reward":
        run = reward_run(plan, job.what, job.seed)
    elif job.kind == "policy":
        run = policy_run(plan, POLICIES[job.what], job.seed)
    fixed = {name: value for name, value in asdict(plan).items() if name not in GROWS}
    told = [fixed, asdict(job), START_SHARE, EMOTION, run.model_dump(mode="json") if run else None]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def title_of(model: str) -> str:
    """Name a reward model as the page does.

    Examples:
        >>> title_of("ls_eam"), title_of("ls_augmented")
        ('LS+EAM', 'LS+artifacts in every class')
    """
    return "+".join(TITLES[part] for part in model.split("_"))

"""Which reward models and policies the planted study trains, and how much of everything."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo_studies.planted.artifacts import ARTIFACTS
from rrpo_studies.planted.recipes import (
    BALANCED,
    COUNTS,
    POLICIES,
    REWARD_MODELS,
    detector_run,
    member,
    policy_run,
    reward_run,
    start_run,
)

EMOTION = "surprised"
"""The emotion in whose utterances an artifact is planted."""
DATA = 1
"""Of how artifacts are planted, put into a detector's data and counted: another number makes former
figures others'."""
START_SHARE = 0.25
"""The share of the start's data, of every emotion, that has the artifact. With it the start clicks
.14 times a second, in .25 of what it says (144 utterances, one training): as real speech does, .14
in a corpus of acted Polish, in .22 of the recordings, .12 and .18 in one of German (60 of each)."""


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        rhos: correlations of an artifact with the emotion, for the reward models.
        artifacts: which are planted.
        reward_models: which are trained.
        policies: which are trained, at the correlation `policy_rho`.
        disagreement: share of the utterances that exchange their labels, as listeners who disagree
            would give them. Without it a reward model needs no artifact; with .3 it learns one, but
            what a policy says in the emotion earns nearly all there is, without any artifact.
        seeds: of each training.
        first_seed: the first of these seeds; another asks the same of other trainings.
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
    disagreement: float = 0.6
    seeds: int = 5
    first_seed: int = 0
    reward_steps: int = 240
    sft_steps: int = 75
    steps: int = 40
    every: int = 10
    sentences: int = 24
    trained: int | None = None
    tested: int | None = None
    batch_size: int = 8


GROWS = ("rhos", "artifacts", "reward_models", "policies", "seeds", "first_seed")
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
    every=2,
    sentences=2,
    trained=36,
    tested=18,
    batch_size=2,
)


def with_parts(
    plan: Plan,
    seeds: int,
    artifacts: str,
    rhos: str,
    models: str,
    policies: str,
    first_seed: int = 0,
) -> Plan:
    """Return a plan of parts, each named with commas between; an empty string is all of them.

    Raises:
        UserError: something is unknown, or a correlation is no number from 0 to 1.
    """
    return replace(
        plan,
        seeds=seeds,
        first_seed=first_seed,
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
        kind: "start", "reward", "detector" or "policy".
        artifact: one of `ARTIFACTS`.
        what: the reward model or the policy, or of a detector the policy that it heard; empty of a
            start and of a detector that heard none.
        rho: correlation of the artifact with the emotion; 0 of a start and where none was heard.
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
    """Return what a job needs: a policy its start, its reward models and its detector.

    A detector needs the policy that it heard.
    """
    if job.kind == "detector" and job.what:
        return [replace(job, kind="policy")]
    if job.kind != "policy":
        return []
    recipe = POLICIES[job.what]
    rho = job.rho if recipe.planted else 0.0
    detectors = []
    if recipe.event:
        heard = job.rho if recipe.after else 0.0
        detectors = [Job("detector", job.artifact, recipe.after, heard, job.seed)]
    return [
        Job("start", job.artifact, "", 0.0, job.seed),
        *(
            Job("reward", job.artifact, member(recipe.reward_model, number), rho, job.seed)
            for number in range(recipe.members)
        ),
        *detectors,
    ]


def _level(job: Job) -> int:
    """Return 0 of what needs nothing, else one more than the highest of what it needs."""
    return 1 + max((_level(one) for one in needs(job)), default=-1)


def _with_needs(jobs: Iterable[Job]) -> Iterable[Job]:
    for job in jobs:
        yield from _with_needs(needs(job))
        yield job


def jobs(plan: Plan) -> list[list[Job]]:
    """Return what is trained, in groups of which each needs the ones before.

    In each, a seed of everything comes before the next seed, so that what there is at any time is
    a smaller study. The first reward model is always trained without the correlation, too: its
    accuracy is what a cure must not cost.
    """
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    policies = [
        Job("policy", one, name, plan.policy_rho, seed)
        for seed in seeds
        for one in plan.artifacts
        for name in plan.policies
    ]
    every = list(dict.fromkeys(_with_needs(policies)))
    levels = range(max(map(_level, every), default=-1) + 1)
    rest = dict.fromkeys(
        Job("reward", one, model, rho, seed)
        for seed in seeds
        for one in plan.artifacts
        for rho, model in [
            (0.0, REWARD_MODELS[0]),
            *((rho, model) for rho in plan.rhos for model in plan.reward_models),
        ]
        if rho < 1 or BALANCED not in model
    )
    return [
        *([job for job in every if _level(job) == level] for level in levels),
        [one for one in rest if one not in every],
    ]


def settings_of(plan: Plan, job: Job) -> str:
    """Return a hash of all that decides a job's figures beside the code and the world."""
    fixed = {name: value for name, value in asdict(plan).items() if name not in GROWS}
    told: list[Any] = [DATA, fixed, asdict(job), EMOTION]
    run: Strict | None = None
    if job.kind == "start":
        run = start_run(plan.sft_steps, job.seed)
        told.append(START_SHARE)
    elif job.kind == "reward":
        run = reward_run(job.what, plan.reward_steps, job.seed)
    elif job.kind == "detector":
        run = detector_run(plan.reward_steps, job.seed)
    else:
        recipe = POLICIES[job.what]
        run = policy_run(recipe, plan.steps, plan.batch_size, job.seed)
        shape = asdict(recipe) | {"title": ""}
        if not recipe.after:
            del shape["after"]  # so that figures of before there were second rounds stay
        if not recipe.content:
            del shape["content"]  # and of before words were rewarded
        if recipe.times == 1:
            del shape["times"]
        if recipe.odds == 1.0:
            del shape["odds"]
        told.append(shape)
    if job.kind == "policy" or needs(job):
        told.append([settings_of(plan, one) for one in needs(job)])
    settings = run.model_dump(mode="json") if run else COUNTS
    if isinstance(settings, dict) and settings.get("event_odds") == 1.0:
        del settings["event_odds"]
    told.append(settings)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

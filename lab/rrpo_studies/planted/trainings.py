"""What the planted study trains and measures: starts, reward models, policies."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rrpo import policy, reward, runs
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.mini.inserts import with_sound
from rrpo.mini.world import World
from rrpo.policy.layout import make_examples
from rrpo.reward import Reward, RewardModel
from rrpo.reward.detector import detection, new_detector
from rrpo.reward.posteriors import log_posteriors
from rrpo.speaking.mini import MiniSpeaker
from rrpo_studies.planted.artifacts import (
    ARTIFACTS,
    chosen_rows,
    evened,
    mislabelled,
    plant,
    shares,
    with_artifact,
    without_artifact,
)
from rrpo_studies.planted.best_of import best_of
from rrpo_studies.planted.looks import LOOKED, in_pairs, look
from rrpo_studies.planted.plan import EMOTION, START_SHARE, Job, Plan, needs, settings_of
from rrpo_studies.planted.recipes import (
    AUGMENTED,
    BALANCED,
    POLICIES,
    WHOLE,
    detector_run,
    policy_run,
    reward_run,
    start_run,
    weights_of,
)

FIGURES = "figures.json"
HEARD = 3
"""Sentences of a policy that the page lets its reader hear."""
LISTENED = 240
"""Utterances of an earlier policy that a detector learns from."""
INSERTED = 99
"""Seed of the artifacts that are inserted to test a reward model: the same for all of them."""


def folder_of(out: Path, job: Job) -> Path:
    """Return the folder of a job; when it is finished, `FIGURES` lies there."""
    return out / job.kind / job.name


def train_start(out: Path, plan: Plan, job: Job, world: World) -> dict[str, Any]:
    """Fine-tune the start on speech in which the artifact tells nothing about the emotion."""
    clean = world.shard("finetune")[: plan.trained]
    rows = plant(world, clean, job.artifact, (START_SHARE, START_SHARE), EMOTION, 50 + job.seed)
    examples, config = make_examples(world.tokenizer, rows), start_run(plan.sft_steps, job.seed)
    inputs = {"settings": settings_of(plan, job)}
    runs.train_sft(
        world.policy(), examples, config, folder_of(out, job), resume=True, inputs=inputs
    )
    return {}


def train_reward(out: Path, plan: Plan, job: Job, world: World) -> dict[str, Any]:
    """Fine-tune a reward model on planted speech; return its accuracy and what artifacts gain."""
    clean = mislabelled(world.shard("finetune")[: plan.trained], plan.disagreement, job.seed)
    share = shares(job.rho, sum(row.emotion == EMOTION for row in clean) / len(clean))
    rows = plant(world, clean, job.artifact, share, EMOTION, job.seed)
    if AUGMENTED in job.what:
        rows += with_artifact(world.codec(), clean, job.artifact, job.seed + 1000)
    if BALANCED in job.what:
        having = chosen_rows(clean, share, EMOTION, job.seed)
        rows = evened(world.codec(), clean, rows, having, job.artifact, job.seed + 2000)
    folder, config = folder_of(out, job), reward_run(job.what, plan.reward_steps, job.seed)
    runs.train_reward(
        world.reward_model(),
        rows,
        [],
        config,
        folder,
        resume=True,
        inputs={"settings": settings_of(plan, job)},
        description=job.name,
    )
    return reward_figures(reward.load(folder), world, job.artifact, plan.tested)


def reward_figures(
    model: RewardModel, world: World, artifact: str, count: int | None
) -> dict[str, Any]:
    """Return a reward model's figures on clean test speech.

    Args:
        model: the reward model.
        world: whose test speech of the main voice it is.
        artifact: what is inserted.
        count: how many utterances; None: all.

    Returns:
        "accuracy", the mean recall of the emotions; "gain", by how many nats the artifact raises
        log p(planted emotion) of speech of the others, on average; "fooled", the share of these
        that are taken for the planted emotion with it and not without.
    """
    given = world.shard("test_same")[:count]
    rows = without_artifact(world.codec(), given, artifact)
    found, classes = log_posteriors(model, _tokens(rows)), model.classes()
    right = found.argmax(1) == torch.tensor([classes.index(row.emotion) for row in rows])
    emotions = np.array([row.emotion for row in rows])
    recalls = [right.numpy()[emotions == one].mean() for one in dict.fromkeys(emotions.tolist())]
    place = classes.index(EMOTION)
    clean = [row for row in given if row.emotion != EMOTION]
    before = log_posteriors(model, _tokens([row for row in rows if row.emotion != EMOTION]))
    after = log_posteriors(model, _tokens(with_artifact(world.codec(), clean, artifact, INSERTED)))
    turned = (after.argmax(1) == place) & (before.argmax(1) != place)
    return {
        "accuracy": float(np.mean(recalls)),
        "gain": float((after - before)[:, place].mean()),
        "fooled": float(turned.float().mean()),
    }


def train_detector(out: Path, plan: Plan, job: Job, world: World) -> dict[str, Any]:
    """Train a detector on speech with the artifact and without; return how it does on test speech.

    The artifact is put in as `Artifact.for_detector` says, of clicks one to five. In a second
    round what an earlier policy says is added, as often as that.

    Returns:
        "found" and "false_alarms" (`rrpo.reward.detector.detection`).
    """

    def both(rows: Sequence[Utterance], seed: int) -> tuple[list[Utterance], list[Utterance]]:
        shape = ARTIFACTS[job.artifact]
        having = with_sound(world.codec(), rows, shape.for_detector, seed, shape.everywhere)
        return without_artifact(world.codec(), rows, job.artifact), having

    model = new_detector(world.reward_model(), job.seed)
    clean, having = both(world.shard("finetune")[: plan.trained], job.seed + 3000)
    for earlier in needs(job):
        speaker = MiniSpeaker(
            policy.load(folder_of(out, earlier)), world, world.codec(), drawn=WHOLE
        )
        without, flagged = heard(speaker, in_pairs(world.shard("finetune"))[:LISTENED], job)
        clean, having = with_as_many(clean, without), with_as_many(having, flagged)
    runs.train_detector(
        model,
        clean,
        having,
        detector_run(plan.reward_steps, job.seed),
        folder_of(out, job),
        resume=True,
        inputs={"settings": settings_of(plan, job)},
        description=f"detector-{job.name}",
    )
    return detection(model, *both(world.shard("test_same")[: plan.tested], INSERTED))


def heard(
    speaker: MiniSpeaker, rows: Sequence[Utterance], job: Job
) -> tuple[list[Utterance], list[Utterance]]:
    """Return what a policy says, without the artifact and with it, as its audio is heard."""
    count = ARTIFACTS[job.artifact].count
    found: tuple[list[Utterance], list[Utterance]] = ([], [])
    for sample in speaker.samples(rows, job.seed):
        said = Utterance(sample.id, sample.text, sample.emotion, sample.tokens.numpy())
        found[count(sample.audio) > 0].append(said)
    return found


def with_as_many(rows: Sequence[Utterance], others: Sequence[Utterance]) -> list[Utterance]:
    """Return rows and as many of the others, which are repeated; the rows alone if there are none.

    Examples:
        >>> with_as_many([1, 2, 3], [7, 8])
        [1, 2, 3, 7, 8, 7]
    """
    return [*rows, *islice(cycle(others), len(rows))]


def train_policy(out: Path, plan: Plan, job: Job, world: World) -> dict[str, Any]:
    """Train a policy on planted reward models, from the start that knows the artifact.

    Returns:
        "looks": of each look the step and what `LOOKED` names; "said": the tokens that the start
        and the trained policy say of the first sentences in the planted emotion, by text.
    """
    recipe, folder = POLICIES[job.what], folder_of(out, job)
    start, *payers = (folder_of(out, one) for one in needs(job))
    model, reference = policy.load(start), policy.load(start)
    rewards = [reward.load(payer) for payer in payers]
    rewards += [world.task_model()] if recipe.content else []
    speaker = MiniSpeaker(model, world, world.codec(), reference, drawn=WHOLE)
    asked = in_pairs(world.shard("test_same"))[: 2 * plan.sentences]
    heard = [row for row in asked if row.emotion == EMOTION][:HEARD]

    def said() -> dict[str, list[int]]:
        spoken = speaker.say(heard, job.seed)
        return {row.text: one.tokens.tolist() for row, one in zip(heard, spoken, strict=True)}

    def validate(_: int) -> Mapping[str, float]:
        return look(speaker.samples(asked, job.seed), job.artifact, world)

    before = said()
    config = policy_run(recipe, plan.steps, plan.batch_size, job.seed)
    if config is None:
        chosen = Reward(rewards, weights_of(recipe), form=recipe.form)
        looks, best = best_of(speaker, chosen, asked, job)
        end = {row.text: best[row.id] for row in heard}
        return {"looks": looks, "said": {"start": before, "end": end}}
    runs.train_on_policy(
        model,
        reference,
        rewards,
        make_examples(world.tokenizer, in_pairs(world.shard("finetune"))),
        config,
        folder,
        resume=True,
        inputs={"settings": settings_of(plan, job)},
        validate=validate,
        validate_every=plan.every,
        description=job.name,
    )
    validations = read_json(folder / "results.json")["validations"]
    looks = [{key: one[key] for key in ("step", *LOOKED)} for one in validations]
    return {"looks": looks, "said": {"start": before, "end": said()}}


def _tokens(rows: Sequence[Utterance]) -> list[torch.Tensor]:
    return [torch.from_numpy(row.tokens) for row in rows]


MAKERS = {
    "start": train_start,
    "reward": train_reward,
    "detector": train_detector,
    "policy": train_policy,
}


def found_at(out: Path, plan: Plan, job: Job) -> dict[str, Any] | None:
    """Return the figures of a job; None where there are none.

    Raises:
        UserError: other settings made them.
    """
    path = folder_of(out, job) / FIGURES
    if not path.is_file():
        return None
    found: dict[str, Any] = read_json(path)
    if found.get("settings") != settings_of(plan, job):
        raise UserError(
            f"{path} was made with other settings: remove {path.parent} to make it again"
        )
    return found


def done(out: Path, plan: Plan, job: Job, weights: bool = False) -> bool:
    """Say whether a job's figures are there, and its weights where they are asked for."""
    if found_at(out, plan, job) is None:
        return False
    return not weights or (folder_of(out, job) / "results.json").is_file()


def make(asked: tuple[Path, Plan, Job]) -> None:
    """Do a job and write its figures; those that are there stay, as policies may rest on them."""
    out, plan, job = asked
    torch.set_num_threads(1)
    figures = MAKERS[job.kind](out, plan, job, World())
    if found_at(out, plan, job) is None:
        write_json(folder_of(out, job) / FIGURES, figures | {"settings": settings_of(plan, job)})

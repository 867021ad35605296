"""What the study of the monitor trains: reward models, a start, healthy and hacked runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrpo import policy, reward, runs
from rrpo.data.shards import Utterance
from rrpo.evaluate import quality
from rrpo.evaluate.panel import Judges, measure
from rrpo.files import write_json
from rrpo.loading import load_reward_model
from rrpo.mini.mixes import mix_pool
from rrpo.mini.world import World
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt, make_examples
from rrpo.reward import DifferentiableReward, Reward, RewardModel
from rrpo.speaking.mini import MiniSpeaker, unseen_utterances
from rrpo.studies.demo.systems import FULL, reward_config, sft_config
from rrpo_studies.monitor.plan import (
    PLANTED_IN,
    REWARD_MODELS,
    Plan,
    kind_of,
    run_config,
)
from rrpo_studies.planted.artifacts import with_artifact

MIXES = 10
START, TASKS = "start", "mini-tasks"
SCORER = "dnsmos_p808"
JUDGED = ("judge_probability", "content_error", f"quality.{SCORER}")
PER_TOKEN = 0.02
"""What the length is paid, a token."""


class PaysForLength:
    """A reward that also pays for every token, which is no emotion."""

    def __init__(self, models: Sequence[RewardModel]) -> None:
        self._reward = Reward(models)
        self.weights: Mapping[str, float] = {"emotion": 1.0, "length": 1.0}

    @property
    def table(self) -> Tensor:
        """The table of the reward models."""
        return self._reward.table

    def to(self, device: torch.device) -> None:
        """Bring the reward models to a device."""
        self._reward.to(device)

    def terms(
        self, embeddings: Tensor, mask: Tensor, prompts: Sequence[Prompt]
    ) -> dict[str, Tensor]:
        """Return the emotion's term (B,), and the length's."""
        found = self._reward.terms(embeddings, mask, prompts)
        return {**found, "length": PER_TOKEN * mask.sum(1).to(found["emotion"])}


def planted(world: World, rows: Sequence[Utterance], seed: int = 0) -> list[Utterance]:
    """Return utterances, those of one emotion with five clicks in them."""
    chosen = [row for row in rows if row.emotion == PLANTED_IN]
    clicking = iter(with_artifact(world.codec(), chosen, "click", seed))
    return [next(clicking) if row.emotion == PLANTED_IN else row for row in rows]


def make_reward_model(out: Path, plan: Plan, name: str) -> None:
    """Fine-tune a reward model of the study, or go on where it stood."""
    folder, world = out / "reward_models" / name, World()
    if plan.reward_steps == 0 or (folder / "results.json").is_file():
        return
    config = reward_config(REWARD_MODELS[name], plan.reward_steps, seed=int(name == "second"))
    rows = world.shard("finetune")
    if name == "planted":
        rows = planted(world, rows)
    mixes = mix_pool(world.codec(), rows, MIXES, 0) if config.fit.needs_mix_pool else []
    runs.train_reward(
        world.reward_model(), rows, mixes, config, folder, resume=True, description=name
    )


def make_start(out: Path, plan: Plan) -> None:
    """Fine-tune the policy that every run starts from, or go on where it stood."""
    folder, world = out / START, World()
    if plan.sft_steps == 0 or (folder / "results.json").is_file():
        return
    config = sft_config(replace(FULL, sft_steps=plan.sft_steps), 0)
    examples = make_examples(world.tokenizer, world.shard("finetune"))
    runs.train_sft(world.policy(), examples, config, folder, resume=True)


def start_of(out: Path, plan: Plan) -> SpeechTokenLM:
    """Load the policy that every run starts from."""
    return policy.load(out / START) if plan.sft_steps else World().policy()


def reward_model_of(out: Path, plan: Plan, name: str) -> RewardModel:
    """Load a reward model of the study."""
    return reward.load(out / "reward_models" / name) if plan.reward_steps else load_reward_model()


def make_run(out: Path, plan: Plan, name: str) -> None:
    """Train one run that listens to itself, and judge it at its looks by other sentences."""
    folder, world, kind = out / "runs" / name, World(), kind_of(name)
    if (folder / "results.json").is_file():
        return
    second = str(out / "reward_models" / "second") if plan.reward_steps else "mini"
    config = run_config(plan, name, [second, TASKS])
    models = [reward_model_of(out, plan, kind.reward_model)]
    if "content" in config.rewards:
        models.append(world.task_model())
    given: Sequence[RewardModel] | DifferentiableReward = models
    if kind.length:
        given = PaysForLength(models)
    model, start = start_of(out, plan), start_of(out, plan)
    utterances = unseen_utterances(world, plan.heard)
    judges = _judges(world, plan)
    speaker = MiniSpeaker(model, world, world.codec())

    def judge(step: int) -> dict[str, float]:
        rows = measure(speaker.samples(utterances, seed=1), {}, judges, None)
        kept = [{key: row[key] for key in ("text", *_groups())} for row in rows]
        write_json(folder / "judged" / f"{step}.json", kept)
        return {}

    runs.train_on_policy(
        model,
        start,
        given,
        make_examples(world.tokenizer, world.shard("finetune")),
        config,
        folder,
        resume=True,
        validate=judge,
        description=name,
    )


def _judges(world: World, plan: Plan) -> Judges:
    """Return what judges quality: emotion and, with words, a recogniser and one quick scorer."""
    if not plan.words:
        return Judges(world.judge(), quality={})
    found = Judges.installed(world.judge())
    chosen: dict[str, quality.Scorer] = {
        name: one for name, one in found.quality.items() if name == SCORER
    }
    return replace(found, quality=chosen)


def _groups() -> list[str]:
    return list(dict.fromkeys(key.partition(".")[0] for key in JUDGED))


def task(asked: tuple[Path, Plan, str]) -> None:
    """Make one thing by name: the start, a reward model or a run."""
    out, plan, name = asked
    torch.set_num_threads(1)
    makers: dict[str, Any] = {**dict.fromkeys(REWARD_MODELS, make_reward_model)}
    if name == START:
        make_start(out, plan)
    else:
        makers.get(name, make_run)(out, plan, name)

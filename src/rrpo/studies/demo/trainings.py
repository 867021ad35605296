"""The trainings of a demo: its reward models and, against these, its systems."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rrpo import policy_runs, reward, runs
from rrpo.mini.mixes import mix_pool
from rrpo.mini.world import World
from rrpo.objectives.dpo import Pair
from rrpo.objectives.pairs import REJECTED, draw_pairs, read_pairs
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt, make_examples
from rrpo.reward import RewardModel
from rrpo.studies.demo.judged import judge_policy
from rrpo.studies.demo.setting import Demo
from rrpo.studies.demo.systems import (
    FULL,
    SYSTEMS,
    diffro_config,
    dpo_config,
    grpo_config,
    reward_config,
    sft_config,
)

MIXES = 10
"""Mixed versions of each utterance where audio is mixed."""


def fine_tune_reward(
    out: Path, world: World, name: str, steps: int = FULL.reward_steps, seed: int = 0
) -> RewardModel:
    """Fine-tune the pre-trained reward model on the single voice; go on where it stood.

    Args:
        out: its run is `reward_models/name` in there.
        name: of its regularizers (`rrpo.reward.config.subsets`).
    """
    folder = out / "reward_models" / name
    config, rows = reward_config(name, steps, seed), world.shard("finetune")
    if (folder / "results.json").is_file():
        return reward.load(folder)
    runs.train_reward(
        world.reward_model(),
        rows,
        mix_pool(world.codec(), rows, MIXES, seed) if config.fit.needs_mix_pool else [],
        config,
        folder,
        resume=True,
        description=f"reward model {name}",
    )
    return reward.load(folder)


def post_train(demo: Demo, name: str) -> None:
    """Post-train a system, or go on where it stood; its reward model and start are there."""
    system, folder = SYSTEMS[name], demo.folder_of(name)
    model, reference, base = demo.start_of(name), demo.start_of(name), demo.world.policy()
    rows = demo.world.shard("finetune")
    if system.method != "sft":
        rows = [row for row in rows if row.emotion in demo.plan.emotions]
    examples = make_examples(demo.world.tokenizer, rows)
    reward_models = demo.reward_models()

    def validate(step: int) -> Mapping[str, float]:
        # The held-out loss of SFT is asked for so often that judging would take a tenth of it.
        if system.method == "sft" and not demo.plan.curves and step % (2 * demo.plan.sft_every):
            return {}
        return judge_policy(demo, model, base, reward_models)

    if system.method == "sft":
        settings = sft_config(demo.plan, demo.seed)
        runs.train_sft(model, examples, settings, folder, resume=True, validate=validate)
        return
    rest: dict[str, Any] = {
        "folder": folder,
        "resume": True,
        "validate": validate,
        "validate_every": demo.plan.curve_every,
        "description": system.title,
    }
    rewards = [demo.reward_model(system.reward_model)]
    config: policy_runs.DiffRORun | policy_runs.GRPORun | policy_runs.DPORun
    if system.method == "dpo":
        config = dpo_config(demo.plan, name, demo.seed)
    elif system.method == "grpo":
        config = grpo_config(demo.plan, demo.seed)
    else:
        config = diffro_config(demo.plan, name, demo.seed)
    if set(config.rewards) - {"emotion"}:
        rewards.append(demo.world.task_model())
    if isinstance(config, policy_runs.DPORun):
        prompts = [example.prompt for example in examples]
        pairs = partial(_pairs, demo, folder / "pairs", model, rewards, prompts, config)
        runs.train_dpo(model, reference, pairs, config, **rest)
    else:
        runs.train_on_policy(model, reference, rewards, examples, config, **rest)


def _pairs(
    demo: Demo,
    folder: Path,
    model: SpeechTokenLM,
    rewards: Sequence[RewardModel],
    prompts: Sequence[Prompt],
    config: policy_runs.DPORun,
) -> list[Pair]:
    if not (folder / REJECTED).is_file():
        scored_by = config.reward(rewards, prompts, config.pairs.reward_form)
        draw_pairs(model, scored_by, prompts, config.pairs, folder, demo.seed)
    return read_pairs(folder, demo.world.tokenizer)

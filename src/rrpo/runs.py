"""One training run as a folder: its configuration, its figures, its checkpoint.

Policies and reward models are given as objects here, and trained in place; by name they are in
`rrpo.post_training` and `rrpo.reward_training`. The studies start runs through these functions, so
a figure of a study can be made again by hand.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from rrpo.data.shards import Utterance
from rrpo.monitor import monitored
from rrpo.notes import note
from rrpo.objectives.dpo import DPOObjective, Pair
from rrpo.objectives.sft import SFTObjective, held_out_loss, hold_out
from rrpo.origin import keep_instructions
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import add_adapters
from rrpo.policy.layout import Example, split
from rrpo.policy_runs import DiffRORun, DPORun, GRPORun, PolicyRun, ReferencedRun, SFTRun
from rrpo.processes import ending_together, is_main, processes
from rrpo.progress import read_metrics, require_tracker
from rrpo.reward import DifferentiableReward, RewardModel
from rrpo.reward.config import RewardRun
from rrpo.reward.detector import DetectorObjective, DetectorRun, detection, divided
from rrpo.reward.fit import RewardObjective
from rrpo.reward.labels import check_tokens
from rrpo.reward.transcripts import Transcripts, prepare_head
from rrpo.run_folder import open_run
from rrpo.schedule import EarlyStopping
from rrpo.train import (
    Callback,
    Objective,
    TrainConfig,
    TrainResult,
    Validate,
    train,
    write_results,
)

MOSTLY = 0.5
"""Share of broken speech in the last steps from which on a run says so at its end."""


def prepare(model: SpeechTokenLM, config: PolicyRun) -> None:
    """Set what a run trains of a policy, and what it keeps in memory."""
    model.recompute = config.recompute
    language_model = model.config.text == "byte_pairs"
    frozen = config.text_table == "frozen" or (config.text_table == "auto" and language_model)
    model.text_embedding.weight.requires_grad_(not frozen)
    if config.lora_rank:
        add_adapters(model, config.lora_rank, config.train.seed)


def _tell_batch(setting: str, size: int, rows: int) -> None:
    """Say so where a batch is larger than what it is drawn from."""
    if size > rows:
        note(
            f"{setting}={size} is more than the {rows} there are to train on: a batch has some "
            "several times, and takes the memory of all"
        )


def tell_passes(config: TrainConfig, size: int, rows: int) -> None:
    """Say so where a training of batches of a `size` ends before it has seen all rows."""
    drawn = config.steps * config.accumulate * size * processes()
    if drawn < rows:
        note(
            f"{config.steps} steps draw {drawn:,} of {rows:,} utterances, {drawn / rows:.0%} of a "
            "pass: raise train.steps to learn from all"
        )


class How(TypedDict, total=False):
    """How a training goes, beside its configuration (`rrpo.train.train`, `run_folder.open_run`)."""

    resume: bool
    validate: Validate | None
    validate_every: int
    stop: EarlyStopping
    description: str
    callbacks: Sequence[Callback]
    pace: Callable[[int], float]
    inputs: Mapping[str, Any] | None


def train_reward(
    model: RewardModel,
    utterances: Sequence[Utterance],
    mixes: Sequence[Utterance],
    config: RewardRun,
    folder: Path,
    transcripts: Transcripts | None = None,
    **how: Unpack[How],
) -> TrainResult:
    """Fine-tune a reward model in place; `folder` is its run.

    With the task content the transcripts say what the utterances do; a model without a content head
    gets one.
    """
    if transcripts is not None:
        prepare_head(model, transcripts, config.train.seed)
    _tell_batch("fit.batch_size", config.fit.batch_size, len(utterances))
    objective = RewardObjective(model, utterances, config.fit, mixes, transcripts)
    return _trained("reward", "reward model", objective, config, folder, how)


def train_detector(
    model: RewardModel,
    without: Sequence[Utterance],
    having: Sequence[Utterance],
    config: DetectorRun,
    folder: Path,
    sound: str = "",
    **how: Unpack[How],
) -> TrainResult:
    """Train a detector in place on speech without what it is to detect, a `sound`, and with it.

    Raises:
        UserError: a kind of speech is empty or has a token that the model does not know, or there
            are fewer than two different texts, so none can be held out.
    """
    for rows in (without, having):
        check_tokens(rows, model.config.codes)
    kept, kept_having, *held = divided(without, having, config.held_out, config.train.seed)
    objective = DetectorObjective(model, kept, kept_having, config.batch_size)
    watched: How = {"validate": lambda _: detection(model, *held), **how}
    more = {"sound": sound} if sound else {}
    return _trained("reward", "detector", objective, config, folder, watched, more)


def train_sft(
    model: SpeechTokenLM,
    examples: Sequence[Example],
    config: SFTRun,
    folder: Path,
    **how: Unpack[How],
) -> TrainResult:
    """Fine-tune a policy in place on labelled speech, keeping the weights of least held-out loss.

    Raises:
        UserError: there are fewer than two different texts, so none can be held out.
    """
    prepare(model, config)
    kept, held = hold_out(examples, config.held_out, config.train.seed)
    more = how.pop("validate", None)

    def figures(step: int) -> Mapping[str, float]:
        return {"held_out_loss": held_out_loss(model, held), **(more(step) if more else {})}

    _tell_batch("sft.batch_size", config.sft.batch_size, len(kept))
    objective = SFTObjective(model, kept, config.sft)
    watched: How = {
        "validate": figures,
        "validate_every": config.validate_every,
        "stop": EarlyStopping("held_out_loss", config.patience),
    }
    rule = (
        f"the weights of least held-out cross-entropy (every {config.validate_every} steps, "
        f"{config.held_out:.0%} of the texts held out, patience {config.patience})"
    )
    return _trained("sft", "SFT", objective, config, folder, {**watched, **how}, {"rule": rule})


def train_on_policy(
    model: SpeechTokenLM,
    reference: SpeechTokenLM | None,
    reward: Sequence[RewardModel] | DifferentiableReward,
    examples: Sequence[Example],
    config: DiffRORun | GRPORun,
    folder: Path,
    codec_of: str | None = None,
    **how: Unpack[How],
) -> TrainResult:
    """Optimize a policy in place against a reward minus the KL to the reference: DiffRO or GRPO.

    Args:
        model: the policy.
        reference: None with adapters: it is the model without them.
        reward: reward models, of which the configuration makes a reward, or a reward of one's own.
        examples: what is asked for, each with its recording.
        config: the run's configuration, whose kind is the method.
        folder: of the run.
        codec_of: of second reward models of the monitor that do not know it.
        how: beside it.

    Raises:
        UserError: the reward does not know what is asked for, or cannot be used so.
    """
    prepare(model, config)
    prompts, recordings = split(examples)
    objective = config.objective(model, _cast(reference, config), reward, prompts, recordings)
    if isinstance(config, DiffRORun):
        kind, title = "diffro", "DiffRO"
        _tell_batch("diffro.batch_size", config.diffro.batch_size, len(prompts))
    else:
        kind, title = "grpo", config.grpo.advantage.upper()
        _tell_batch("grpo.prompts", config.grpo.prompts, len(prompts))
    watched = monitored(objective.on_policy, config, folder, how, codec_of)
    result = _trained(kind, title, objective, config, folder, watched)
    if is_main():
        settings = config.diffro if isinstance(config, DiffRORun) else config.grpo
        _tell_broken(folder, kind, settings.skip_broken)
    return result


def _tell_broken(folder: Path, kind: str, skipped: bool) -> None:
    """Say so where most of what a policy said at its last steps looped or did not end."""
    shares = [row["broken"] for row in read_metrics(folder / "metrics.jsonl") if "broken" in row]
    if shares and (share := sum(shares[-10:]) / len(shares[-10:])) > MOSTLY:
        note(
            f"{share:.0%} of what was said in the last steps looped or did not end by itself"
            + (", and had no part in the reward" if skipped else "")
            + f": longer speech may be allowed ({kind}.rollout.max_ratio), draws be less likely to "
            f"loop ({kind}.rollout.top_k=0), or the start is not trained enough"
        )


def train_dpo(
    model: SpeechTokenLM,
    reference: SpeechTokenLM | None,
    pairs: Callable[[], Sequence[Pair]],
    config: DPORun,
    folder: Path,
    **how: Unpack[How],
) -> TrainResult:
    """Train a policy in place on preference pairs.

    Args:
        model: the policy.
        reference: None with adapters: it is the model without them.
        pairs: reads them, or draws them from the policy as it is before its training.
        config: the run's configuration.
        folder: of the run.
        how: beside it.
    """
    # What stands in the way is found before hours are spent on pairs.
    prepare(model, config)
    require_tracker(config.train.report_to)
    settings: dict[str, Any] = {"description": "DPO", **how}
    inputs, resume = settings.pop("inputs", None), settings.pop("resume", False)
    with open_run(folder, config, resume, inputs) as run:
        _keep_instructions(config, run.path)
        model.to(run.accelerator.device)  # pairs are drawn where the training is
        found = pairs()
        _tell_batch("dpo.batch_size", config.dpo.batch_size, len(found))
        objective = DPOObjective(model, _cast(reference, config), found, config.dpo)
        result = train(objective, config.train, run, **settings)
    write_results(folder, "dpo", result, {"pairs": len(found)})
    return result


def _trained(
    kind: str,
    title: str,
    objective: Objective[Any],
    config: RewardRun | DetectorRun | PolicyRun,
    folder: Path,
    how: How | Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train an objective in its run folder, and write how it ended with `more`."""
    settings: dict[str, Any] = {"description": title, **how}
    inputs, resume = settings.pop("inputs", None), settings.pop("resume", False)
    with open_run(folder, config, resume, inputs) as run:
        if isinstance(config, PolicyRun):
            _keep_instructions(config, run.path)
        result = train(objective, config.train, run, **settings)
    if result.best_step == 0:
        note(
            f"no validation of the {title} was better than that before its first step: its weights "
            "are those it started from; train longer or with a lower train.learning_rate"
        )
    write_results(folder, kind, result, more or {})
    return result


def _keep_instructions(config: PolicyRun, folder: Path) -> None:
    """Keep what the policy is told for each emotion in its run; an error is that of all."""
    with ending_together():
        if is_main():
            keep_instructions(config, folder)


def _cast(model: SpeechTokenLM | None, config: ReferencedRun) -> SpeechTokenLM | None:
    return None if model is None else model.to(getattr(torch, config.reference_precision))

"""One training run as a folder: its resolved configuration, its figures, its checkpoint.

The command line and the studies start runs through these functions, so a figure of a study can be
made again by hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from rrpo.checkpoint import read_json, write_json
from rrpo.data.shards import Utterance
from rrpo.errors import UserError
from rrpo.evaluate import robustness, ser
from rrpo.objectives.diffro import DiffROObjective
from rrpo.objectives.dpo import DPOObjective, Pair
from rrpo.objectives.grpo import GRPOObjective
from rrpo.objectives.sft import SFTObjective, held_out_loss
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import add_adapters
from rrpo.policy.layout import Example, Prompt
from rrpo.progress import require_tracker
from rrpo.reward import DifferentiableReward, RewardModel
from rrpo.reward.fit import RewardObjective
from rrpo.reward.transcripts import Transcripts, prepare_head
from rrpo.run_config import DiffRORun as DiffRORun
from rrpo.run_config import DPORun as DPORun
from rrpo.run_config import GRPORun as GRPORun
from rrpo.run_config import PolicyRun as PolicyRun
from rrpo.run_config import ReferencedRun as ReferencedRun
from rrpo.run_config import RewardRun as RewardRun
from rrpo.run_config import SFTRun as SFTRun
from rrpo.run_folder import RunFolder, open_run
from rrpo.schedule import EarlyStopping
from rrpo.train import Callback, TrainResult, Validate, train


def prepare(model: SpeechTokenLM, config: PolicyRun) -> None:
    """Set what a run trains of a policy, and what it keeps in memory."""
    model.recompute = config.recompute
    language_model = model.config.text == "byte_pairs"
    frozen = config.text_table == "frozen" or (config.text_table == "auto" and language_model)
    model.text_embedding.weight.requires_grad_(not frozen)
    if config.lora_rank:
        add_adapters(model, config.lora_rank, config.train.seed)


class How(TypedDict, total=False):
    """How a training goes, beside its configuration: as `rrpo.train.train` says.

    `inputs` is what the run is made from, kept and compared (`rrpo.run_folder.open_run`).
    """

    resume: bool
    validate: Validate | None
    validate_every: int
    description: str
    callbacks: Sequence[Callback]
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
    objective = RewardObjective(model, utterances, config.fit, mixes, transcripts)
    with _opened(config, folder, how) as (run, settings):
        result = train(objective, config.train, run, **{"description": "reward model"} | settings)
    _write_results(folder, "reward", result, {})
    return result


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

    objective = SFTObjective(model, kept, config.sft)
    watched: dict[str, Any] = {
        "validate": figures,
        "validate_every": config.validate_every,
        "stop": EarlyStopping("held_out_loss", config.patience),
        "description": "SFT",
    }
    with _opened(config, folder, how) as (run, settings):
        result = train(objective, config.train, run, **watched | settings)
    rule = (
        f"the weights of least held-out cross-entropy (every {config.validate_every} steps, "
        f"{config.held_out:.0%} of the texts held out, patience {config.patience})"
    )
    _write_results(folder, "sft", result, {"rule": rule})
    return result


def train_diffro(
    model: SpeechTokenLM,
    reference: SpeechTokenLM | None,
    reward: Sequence[RewardModel] | DifferentiableReward,
    examples: Sequence[Example],
    config: DiffRORun,
    folder: Path,
    **how: Unpack[How],
) -> TrainResult:
    """Optimize a policy in place against a reward minus the KL to the reference, by DiffRO.

    Args:
        model: the policy.
        reference: None with adapters: it is the model without them.
        reward: reward models, of which the configuration makes a reward, or a reward of one's own.
        examples: what is asked for, each with its recording.
        config: the run's configuration.
        folder: of the run.
        how: beside it.

    Raises:
        UserError: the reward does not know what is asked for, or cannot be used so.
    """
    prepare(model, config)
    prompts, recordings = _asked(examples)
    objective = DiffROObjective(
        model,
        _cast(reference, config),
        config.reward(reward, prompts, config.diffro.reward_form),
        prompts,
        config.diffro,
        config.train.steps,
        recordings,
    )
    with _opened(config, folder, how) as (run, settings):
        result = train(objective, config.train, run, **{"description": "DiffRO"} | settings)
    _write_results(folder, "diffro", result, {})
    return result


def train_grpo(
    model: SpeechTokenLM,
    reference: SpeechTokenLM | None,
    reward: Sequence[RewardModel] | DifferentiableReward,
    examples: Sequence[Example],
    config: GRPORun,
    folder: Path,
    **how: Unpack[How],
) -> TrainResult:
    """Optimize a policy in place against the same reward by policy gradient; as `train_diffro`."""
    if config.grpo.updates > 1 and config.train.accumulate > 1:
        raise UserError(
            "grpo.updates above 1 takes several steps on one batch, and train.accumulate above 1 "
            "several batches to a step: choose one of them"
        )
    prepare(model, config)
    prompts, recordings = _asked(examples)
    objective = GRPOObjective(
        model,
        _cast(reference, config),
        config.reward(reward, prompts, config.grpo.reward_form),
        prompts,
        config.grpo,
        recordings,
    )
    title = {"description": config.grpo.advantage.upper()}
    with _opened(config, folder, how) as (run, settings):
        result = train(objective, config.train, run, **title | settings)
    _write_results(folder, "grpo", result, {})
    return result


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
    with _opened(config, folder, how) as (run, settings):
        found = pairs()
        objective = DPOObjective(model, _cast(reference, config), found, config.dpo)
        result = train(objective, config.train, run, **{"description": "DPO"} | settings)
    _write_results(folder, "dpo", result, {"pairs": len(found)})
    return result


@contextmanager
def _opened(
    config: RewardRun | PolicyRun, folder: Path, how: How
) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    """Open a run's folder; yield it and what is left to say to `train`."""
    rest: dict[str, Any] = {**how}
    inputs, resume = rest.pop("inputs", None), rest.pop("resume", False)
    with open_run(folder, config, resume, inputs) as run:
        yield run, rest


def _asked(examples: Sequence[Example]) -> tuple[list[Prompt], list[Tensor]]:
    """Return what examples ask for and their recordings."""
    return [one.prompt for one in examples], [one.speech for one in examples]


def _cast(model: SpeechTokenLM | None, config: ReferencedRun) -> SpeechTokenLM | None:
    return None if model is None else model.to(getattr(torch, config.reference_precision))


def hold_out(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split examples by text: all readings of a sentence go to one side."""
    texts = sorted({example.prompt.text for example in examples})
    if len(texts) < 2:
        raise UserError(
            f"{len(texts)} different text to train on: give at least two, one is held out"
        )
    np.random.default_rng(seed).shuffle(texts)
    held = set(texts[: max(1, round(share * len(texts)))])
    return (
        [example for example in examples if example.prompt.text not in held],
        [example for example in examples if example.prompt.text in held],
    )


def reward_figures(
    model: RewardModel, test_sets: Mapping[str, Sequence[Utterance]], seed: int = 0
) -> dict[str, Any]:
    """Return a reward model's figures on each test set, and its robustness on the first of them."""
    reports = {name: ser.evaluate(model, rows, seed) for name, rows in test_sets.items()}
    first = next(iter(test_sets.values()))
    return {**ser.by_measure(reports), "robustness": robustness.figures(model, first, seed)}


def _write_results(folder: Path, kind: str, result: TrainResult, more: Mapping[str, Any]) -> None:
    path = folder / "results.json"
    # A finished run that is resumed trains nothing, and what it was tested with stays true.
    tested = read_json(path) if path.is_file() else {}
    more = {**more, **({"evaluation": tested["evaluation"]} if "evaluation" in tested else {})}
    write_json(
        path,
        {
            "schema": 1,
            "kind": kind,
            "stopped_at": result.step,
            "best_step": result.best_step,
            "seconds": round(result.seconds, 2),
            "validations": result.validations,
            **more,
        },
    )

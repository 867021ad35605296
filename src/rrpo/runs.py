"""One training run as a folder: its configuration, its figures, its checkpoint.

Policies and reward models are given as objects here, and trained in place; by name they are in
`rrpo.post_training` and `rrpo.reward_training`. The studies start runs through these functions, so
a figure of a study can be made again by hand.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from pydantic import Field
from torch import Tensor

from rrpo.data.shards import Utterance
from rrpo.data.stream import Streamed
from rrpo.errors import UserError
from rrpo.loading import Origin
from rrpo.monitor import MonitorConfig, monitored
from rrpo.notes import note
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.dpo import DPOConfig, DPOObjective, Pair
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective
from rrpo.objectives.pairs import PairsConfig
from rrpo.objectives.sft import SFTConfig, SFTObjective, held_out_loss, hold_out
from rrpo.policy import SpeechTokenLM
from rrpo.policy.adapter import add_adapters
from rrpo.policy.layout import Example, Prompt, split
from rrpo.progress import require_tracker
from rrpo.reward import DifferentiableReward, Reward, RewardModel
from rrpo.reward.config import RewardRun
from rrpo.reward.detector import DetectorObjective, DetectorRun, detection, divided
from rrpo.reward.fit import RewardObjective
from rrpo.reward.labels import check_tokens
from rrpo.reward.reward import Form
from rrpo.reward.transcripts import Transcripts, prepare_head
from rrpo.run_folder import open_run
from rrpo.schedule import EarlyStopping, TrainConfig
from rrpo.train import Callback, Objective, TrainResult, Validate, train, write_results


class PolicyRun(Origin):
    """What a policy is trained from, and how.

    `recompute`, `text_table` and `lora_rank` save memory: `recompute` keeps only each layer's input
    for the backward pass, `text_table` is "frozen" where "auto" finds a CosyVoice LM, and a
    `lora_rank` above 0 trains adapters of that rank alone (needs `peft`), for which DiffRO needs no
    second model. `stream` is how many rows of the data are in memory at a time, shuffled; 0: all.
    """

    train: TrainConfig = TrainConfig(
        steps=80, learning_rate=1e-4, warmup_steps=5, schedule="constant", save_every=20
    )
    recompute: bool = False
    text_table: Literal["auto", "frozen", "trained"] = "auto"
    lora_rank: int = Field(0, ge=0)
    stream: int = Field(0, ge=0)


class SFTRun(PolicyRun):
    """Supervised fine-tuning, stopped when the held-out loss has not fallen for `patience` tests.

    `held_out` is the share of texts kept out of the training; `validate_every` is in steps.
    """

    train: TrainConfig = TrainConfig(
        steps=240, learning_rate=2e-4, warmup_steps=20, schedule="constant", save_every=20
    )
    sft: SFTConfig = SFTConfig()
    held_out: float = Field(0.1, gt=0, lt=1)
    validate_every: int = Field(20, ge=1)
    patience: int = Field(2, ge=1)


class ReferencedRun(PolicyRun):
    """A training with a frozen reference, kept in `reference_precision`.

    `rewards` weighs the reward's terms (emotion, content, speaker, quality, event), `bound` shapes
    them, and several models with a head for the same term are an ensemble: mean − `caution` ·
    standard deviation. Where the content lies below `content_gate` (nats per symbol) the emotion
    counts as chance (`rrpo.reward.Reward`).
    """

    reference_precision: Literal["float32", "bfloat16"] = "float32"
    rewards: dict[str, float] = Field(default_factory=lambda: {"emotion": 1.0})
    bound: float | None = Field(None, gt=0)
    caution: float = Field(1.0, ge=0)
    content_gate: float | None = Field(None, le=0)

    def reward(
        self,
        given: Sequence[RewardModel] | DifferentiableReward,
        prompts: Sequence[Prompt],
        form: Form,
    ) -> DifferentiableReward:
        """Return the reward of reward models, weighted and shaped as configured, or one's own.

        Args:
            given: reward models, or one's own reward.
            prompts: what is asked for.
            form: of the emotion's term.

        Raises:
            UserError: the models do not know what is asked for, or there are settings of reward
                models beside a reward of one's own.
        """
        if not isinstance(given, Sequence):
            self._require_defaults()
            return given
        if "emotion" not in self.rewards:
            note(f"rewards without emotion ({', '.join(self.rewards)}): no emotion is trained for")
        made = Reward(given, self.rewards, self.caution, self.bound, form, self.content_gate)
        made.check(prompts.first() if isinstance(prompts, Streamed) else prompts)
        return made

    def _require_defaults(self) -> None:
        for name in ("rewards", "bound", "caution", "content_gate"):
            if getattr(self, name) != type(self).model_fields[name].get_default(
                call_default_factory=True
            ):
                raise UserError(f"{name} is a setting of reward models: your own reward has none")


class DiffRORun(ReferencedRun):
    """DiffRO; with the robust reward of a hardened reward model this is RRPO."""

    diffro: DiffROConfig = DiffROConfig()
    monitor: MonitorConfig = MonitorConfig()

    def objective(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        reward: Sequence[RewardModel] | DifferentiableReward,
        prompts: Sequence[Prompt],
        recordings: Sequence[Tensor],
    ) -> DiffROObjective:
        """Return what is optimized; arguments as of `DiffROObjective`, rewards as of `reward`."""
        if self.diffro.context_passes and self.train.sharding == "full":
            raise UserError(
                "diffro.context_passes reads the policy several times on one way, which a sharded "
                "one cannot be: set it to 0, or train.sharding to none"
            )
        made = self.reward(reward, prompts, self.diffro.reward_form)
        rest = (prompts, self.diffro, self.train.steps, recordings)
        return DiffROObjective(model, reference, made, *rest)


class GRPORun(ReferencedRun):
    """Policy gradient (GRPO, RLOO) against the same reward as DiffRO."""

    grpo: GRPOConfig = GRPOConfig()
    monitor: MonitorConfig = MonitorConfig()

    def objective(
        self,
        model: SpeechTokenLM,
        reference: SpeechTokenLM | None,
        reward: Sequence[RewardModel] | DifferentiableReward,
        prompts: Sequence[Prompt],
        recordings: Sequence[Tensor],
    ) -> GRPOObjective:
        """Return what is optimized; as of `DiffRORun`."""
        if self.grpo.updates > 1 and self.train.accumulate > 1:
            raise UserError(
                "grpo.updates above 1 takes several steps on one batch, and train.accumulate above "
                "1 several batches to a step: choose one of them"
            )
        made = self.reward(reward, prompts, self.grpo.reward_form)
        return GRPOObjective(model, reference, made, prompts, self.grpo, recordings)


class DPORun(ReferencedRun):
    """DPO on pairs, given or made as `pairs` says."""

    train: TrainConfig = TrainConfig(
        steps=120, learning_rate=2e-5, warmup_steps=10, schedule="constant", save_every=20
    )
    dpo: DPOConfig = DPOConfig()
    pairs: PairsConfig = PairsConfig()


def prepare(model: SpeechTokenLM, config: PolicyRun) -> None:
    """Set what a run trains of a policy, and what it keeps in memory."""
    model.recompute = config.recompute
    language_model = model.config.text == "byte_pairs"
    frozen = config.text_table == "frozen" or (config.text_table == "auto" and language_model)
    model.text_embedding.weight.requires_grad_(not frozen)
    if config.lora_rank:
        add_adapters(model, config.lora_rank, config.train.seed)


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
    objective = RewardObjective(model, utterances, config.fit, mixes, transcripts)
    return _trained("reward", "reward model", objective, config, folder, how)


def train_detector(
    model: RewardModel,
    without: Sequence[Utterance],
    having: Sequence[Utterance],
    config: DetectorRun,
    folder: Path,
    **how: Unpack[How],
) -> TrainResult:
    """Train a detector in place on speech without what it is to detect and with it.

    Raises:
        UserError: a kind of speech is empty or has a token that the model does not know, or there
            are fewer than two different texts, so none can be held out.
    """
    for rows in (without, having):
        check_tokens(rows, model.config.codes)
    kept, kept_having, *held = divided(without, having, config.held_out, config.train.seed)
    objective = DetectorObjective(model, kept, kept_having, config.batch_size)
    watched: How = {"validate": lambda _: detection(model, *held), **how}
    return _trained("reward", "detector", objective, config, folder, watched)


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
        how: beside it.

    Raises:
        UserError: the reward does not know what is asked for, or cannot be used so.
    """
    prepare(model, config)
    prompts, recordings = split(examples)
    objective = config.objective(model, _cast(reference, config), reward, prompts, recordings)
    watched = monitored(objective.on_policy, config, folder, how)
    if isinstance(config, DiffRORun):
        return _trained("diffro", "DiffRO", objective, config, folder, watched)
    return _trained("grpo", config.grpo.advantage.upper(), objective, config, folder, watched)


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
        found = pairs()
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
        result = train(objective, config.train, run, **settings)
    write_results(folder, kind, result, more or {})
    return result


def _cast(model: SpeechTokenLM | None, config: ReferencedRun) -> SpeechTokenLM | None:
    return None if model is None else model.to(getattr(torch, config.reference_precision))

"""What a policy is trained from, and how: the configurations of SFT, DiffRO, GRPO and DPO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator
from torch import Tensor

from rrpo.data.stream import Streamed
from rrpo.errors import UserError
from rrpo.mini.world import BUNDLED
from rrpo.monitor import MonitorConfig
from rrpo.notes import note
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.objectives.dpo import DPOConfig
from rrpo.objectives.grpo import GRPOConfig, GRPOObjective
from rrpo.objectives.pairs import PairsConfig
from rrpo.objectives.sft import SFTConfig
from rrpo.origin import Origin, origin_of, read_instructions
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.reward import DifferentiableReward, Reward, RewardModel
from rrpo.reward.reward import Form
from rrpo.schedule import TrainConfig

Run = TypeVar("Run", bound="PolicyRun")


class PolicyRun(Origin):
    """What a policy is trained from, and how.

    `recompute`, `text_table` and `lora_rank` save memory: `recompute` keeps only each layer's input
    for the backward pass, `text_table` is "frozen" where "auto" finds a CosyVoice LM, and a
    `lora_rank` above 0 trains adapters of that rank alone (needs `peft`), for which DiffRO needs no
    second model. `stream` is how many rows of the data are read and shuffled at a time; 0: all.
    """

    train: TrainConfig = TrainConfig(
        steps=80, learning_rate=1e-4, warmup_steps=5, schedule="constant", save_every=20
    )
    recompute: bool = False
    text_table: Literal["auto", "frozen", "trained"] = "auto"
    lora_rank: int = Field(0, ge=0)
    stream: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _trains_one_or_the_other(self) -> "PolicyRun":
        if self.lora_rank and self.text_table == "trained":
            raise ValueError("text_table=trained needs lora_rank=0: adapters alone are trained")
        return self


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
    counts as chance. `event_odds` says how many times likelier than in a detector's data its sound
    is taken to be (`rrpo.reward.Reward`).
    """

    reference_precision: Literal["float32", "bfloat16"] = "float32"
    rewards: dict[str, float] = Field(default_factory=lambda: {"emotion": 1.0})
    bound: float | None = Field(None, gt=0)
    caution: float = Field(1.0, ge=0)
    content_gate: float | None = Field(None, le=0)
    event_odds: float = Field(1.0, gt=0, allow_inf_nan=False)

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
            UserError: the models do not know what is asked for, nothing has a weight, or there are
                settings of reward models beside a reward of one's own.
        """
        if not isinstance(given, Sequence):
            self._require_defaults()
            if form != "robust":
                raise UserError(
                    f"reward_form={form} is a setting of reward models: your own reward has none"
                )
            return given
        if not self.rewards:
            raise UserError("rewards is empty: weigh at least one term, such as {emotion: 1.0}")
        if not any(self.rewards.values()):
            raise UserError(
                "rewards has no weight but 0, so that nothing is rewarded: weigh a term, such as "
                "{emotion: 1.0}"
            )
        if not self.rewards.get("emotion"):
            note(f"rewards without emotion ({', '.join(self.rewards)}): no emotion is trained for")
        for term, weight in self.rewards.items():
            if weight < 0:
                note(f"rewards.{term}={weight:g}: it is trained away from what {term} rewards")
        shape = (self.caution, self.bound, form, self.content_gate, self.event_odds)
        made = Reward(given, self.rewards, *shape)
        made.check(prompts.first() if isinstance(prompts, Streamed) else prompts)
        return made

    def _require_defaults(self) -> None:
        for name in ("rewards", "bound", "caution", "content_gate", "event_odds"):
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


def with_places(run: Run) -> Run:
    """Return a run with absolute paths, and with the language and instructions of its start."""
    first = origin_of(run.start)
    told = run.instructions or first.instructions
    if told is not None:
        read_instructions(told)  # before anything is written
    changed: dict[str, Any] = {
        "start": _place(run.start),
        "language": run.language or first.language,
        "instructions": None if told is None else _place(told),
    }
    if isinstance(run, DiffRORun | GRPORun):
        voice, second = run.monitor.voice, run.monitor.second
        heard = {
            "second": [_place(name) for name in second],
            "voice": None if voice is None else _place(voice),
        }
        changed["monitor"] = run.monitor.model_copy(update=heard)
    return run.model_copy(update=changed)


def _place(name: str) -> str:
    """Return a path as any later working directory finds it; what is bundled by its name.

    It is not resolved: a link to a cache would lose its name and its neighbours.
    """
    return name if name in BUNDLED else str(Path(name).absolute())

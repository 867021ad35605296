"""What a training run is configured with: `config.yaml` of its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from rrpo import config as configuration
from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.loading import Origin
from rrpo.objectives.diffro import DiffROConfig
from rrpo.objectives.dpo import DPOConfig
from rrpo.objectives.grpo import GRPOConfig
from rrpo.objectives.pairs import PairsConfig
from rrpo.objectives.sft import SFTConfig
from rrpo.policy.layout import Prompt
from rrpo.reward import DifferentiableReward, Reward, RewardModel
from rrpo.reward.fit_config import FitConfig
from rrpo.reward.reward import Form
from rrpo.train import TrainConfig


class RewardRun(Strict):
    """Fine-tuning a reward model.

    `text_of` says what text is to the content head: the mini world's phones ("mini"), a CosyVoice
    folder's text ids, or "characters"; None: where there is no such task, or it is up to the data.
    """

    train: TrainConfig = TrainConfig(
        steps=300, learning_rate=3e-4, warmup_steps=30, schedule="cosine"
    )
    fit: FitConfig = FitConfig()
    text_of: str | None = None


class PolicyRun(Origin):
    """What a policy is trained from, and how.

    `recompute`, `text_table` and `lora_rank` save memory: `recompute` keeps only each layer's input
    for the backward pass, `text_table` is "frozen" where "auto" finds a CosyVoice LM, and a
    `lora_rank` above 0 trains adapters of that rank alone (needs `peft`), for which DiffRO needs no
    second model.
    """

    train: TrainConfig = TrainConfig(
        steps=80, learning_rate=1e-4, warmup_steps=5, schedule="constant", save_every=20
    )
    recompute: bool = False
    text_table: Literal["auto", "frozen", "trained"] = "auto"
    lora_rank: int = Field(0, ge=0)


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
        made = Reward(given, self.rewards, self.caution, self.bound, form, self.content_gate)
        made.check(prompts)
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


class GRPORun(ReferencedRun):
    """Policy gradient (GRPO, RLOO) against the same reward as DiffRO."""

    grpo: GRPOConfig = GRPOConfig()


class DPORun(ReferencedRun):
    """DPO on pairs, given or made as `pairs` says."""

    train: TrainConfig = TrainConfig(
        steps=120, learning_rate=2e-5, warmup_steps=10, schedule="constant", save_every=20
    )
    dpo: DPOConfig = DPOConfig()
    pairs: PairsConfig = PairsConfig()


COMMANDS: dict[str, type[Strict]] = {
    "reward train": RewardRun,
    "policy sft": SFTRun,
    "policy diffro": DiffRORun,
    "policy grpo": GRPORun,
    "policy dpo": DPORun,
}
"""What `config.yaml` of each training is."""


def require_own(kind: type[Strict], file: Path | None) -> None:
    """Refuse a file of settings that is of another training.

    Raises:
        UserError: it has a key that this one has not, and all of its keys are those of another.
    """
    keys = {} if file is None else configuration.read(file)
    strange = [key for key in keys if key not in kind.model_fields]
    others = [name for name, one in COMMANDS.items() if keys.keys() <= one.model_fields.keys()]
    if strange and others:
        raise UserError(
            f"{file} is a configuration of `rrpo {others[0]}`: {strange[0]} is no setting of this "
            "command, name a file of its own"
        )

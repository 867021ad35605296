"""Configurations of a reward model: its shape, the loss of its fine-tuning, and the switches."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from rrpo.codec_identity import SPEECH_CODES
from rrpo.config import Strict
from rrpo.emotions import EMOTIONS
from rrpo.reward.content import TextKind
from rrpo.schedule import TrainConfig

Task = Literal["emotion", "content"]
TASKS: tuple[Task, ...] = get_args(Task)


class LossConfig(Strict):
    """Constants of L_ser that a reward model was fine-tuned with; the robust reward takes them.

    Attributes:
        label_smoothing: epsilon of the targets; 0: none.
        adversarial_weight: alpha of L_ser = L_emo + alpha L_adv; 0: no adversarial loss.
        adversarial_epsilon: length of delta.
        adversarial_at: h': "frames" is the encoder's output (B, L, D), "pooled" the utterance
            embedding (B, D).
    """

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    adversarial_weight: float = Field(default=0.0, ge=0.0)
    adversarial_epsilon: float = Field(default=0.5, gt=0.0)
    adversarial_at: Literal["frames", "pooled"] = "frames"


class RewardConfig(Strict):
    """Shape of a reward model, and the loss it was fine-tuned with.

    Attributes:
        width: D, of the embeddings and of the encoder.
        layers: encoder layers.
        heads: attention heads of a layer; D must be an even multiple of it.
        feedforward: inner width of a layer's feed-forward part.
        dropout: rate inside the encoder layers, while training.
        codes: V, rows of the embedding table.
        tasks: the classes of each task, in the order of its posterior.
        phones: n, where the content head knows the symbols 0…n-1; 0: it has a list, or there is
            none.
        symbols: those that the content head knows, ascending, where it has a list.
        text: what its symbols are: "ids" of the policy's text, or "characters" of the text itself
            (`rrpo.reward.content.characters`).
        vocabulary: SHA-256 of the vocabulary whose ids they are, where it is a CosyVoice model's
            (`CosyVoiceTokenizer.vocabulary`); empty: not known.
        loss: of its fine-tuning; by default the plain cross-entropy.
        codec: identity of the codec of its tokens (`rrpo.codec_identity`); empty: not known.
    """

    width: int = Field(default=128, ge=2)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=512, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    codes: int = Field(default=SPEECH_CODES, ge=2, le=SPEECH_CODES)
    tasks: dict[str, list[str]] = Field(default_factory=lambda: {"emotion": list(EMOTIONS)})
    phones: int = Field(default=0, ge=0)
    symbols: list[int] = Field(default_factory=list)
    text: TextKind = "ids"
    vocabulary: str = ""
    loss: LossConfig = LossConfig()
    codec: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> RewardConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not an even multiple of {self.heads} heads")
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one task with its classes")
        for task, classes in self.tasks.items():
            if not task.isidentifier():
                raise ValueError(f"task name {task!r} is not letters, digits and underscores")
            if len(classes) < 2 or len(set(classes)) < len(classes):
                raise ValueError(f"task {task!r} needs two or more classes, each named once")
        if self.phones and (self.symbols or self.text != "ids"):
            raise ValueError("phones are ids that need no list: give either phones or symbols")
        if self.symbols != sorted(set(self.symbols)) or min(self.symbols, default=0) < 0:
            raise ValueError("symbols are to be numbers from 0, ascending, each named once")
        return self


class FitConfig(Strict):
    """Switches and constants of the hybrid regularization; the defaults are RRPO's.

    Attributes:
        tasks: what is trained: the emotion, and beside it the "content", which is not of the paper.
        content_weight: of the content's CTC loss in nats per symbol, added to L_ser.
        batch_size: B, utterances of a step.
        label_smoothing: epsilon of the targets; 0 turns it off.
        mixup: whether utterances are mixed (energy-adaptive mixup).
        mixup_at: what is mixed: the "features" that enter the encoder (token embeddings), within
            each batch; or the "audio" before it is tokenized: rows come from a mix pool.
        mixup_share: probability that a row of a batch is mixed. The paper mixes every sample;
            stretches are often short, so many mixes are nearly clean.
        adversarial: whether the loss at h' + delta is added.
        adversarial_epsilon: length of delta.
        adversarial_weight: alpha, the weight of that loss.
        adversarial_at: h': "frames" is the encoder's output (B, L, D), "pooled" the utterance
            embedding (B, D); one delta per utterance either way.
        exchanged: tokens of each utterance that are exchanged so that the loss rises; the loss on
            them is added (see `rrpo.reward.exchange`); 0: none. Not of the paper.
        exchanged_weight: of that loss.
        tune: "all" weights, or only the pooling and the "heads" of the task.
        nuisance: whether what length and energy explain is left to a bias model (see
            `rrpo.reward.nuisance`); not of the paper.
    """

    tasks: list[Task] = Field(default_factory=lambda: [*TASKS[:1]])
    content_weight: float = Field(default=1.0, gt=0.0)
    batch_size: int = Field(default=32, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    mixup: bool = True
    mixup_at: Literal["features", "audio"] = "features"
    mixup_share: float = Field(default=1.0, ge=0.0, le=1.0)
    adversarial: bool = True
    adversarial_epsilon: float = Field(default=0.5, gt=0.0)
    adversarial_weight: float = Field(default=0.5, ge=0.0)
    adversarial_at: Literal["frames", "pooled"] = "frames"
    exchanged: int = Field(default=0, ge=0)
    exchanged_weight: float = Field(default=1.0, gt=0.0)
    tune: Literal["all", "heads"] = "all"
    nuisance: bool = False

    @field_validator("mixup_at", mode="before")
    @classmethod
    def _renamed(cls, value: object) -> object:
        if value == "embedding":
            raise ValueError("mixup_at=embedding is no more: the published form is features")
        return value

    @field_validator("tasks", mode="after")
    @classmethod
    def _named_once(cls, value: list[Task]) -> list[Task]:
        if "emotion" not in value or len(set(value)) < len(value):
            raise ValueError("name emotion, and content where it is to be trained, each once")
        return sorted(value, key=TASKS.index)

    @model_validator(mode="after")
    def _consistent(self) -> FitConfig:
        if self.nuisance and self.mixes_features:
            raise ValueError(
                "nuisance knows no length and energy of mixed features: set fit.mixup=false, or "
                "fit.mixup_at=audio and name a mix pool (--mixes)"
            )
        return self

    @property
    def loss(self) -> LossConfig:
        """The constants of L_ser, as the reward model keeps them."""
        return LossConfig(
            label_smoothing=self.label_smoothing,
            adversarial_weight=self.adversarial_weight if self.adversarial else 0.0,
            adversarial_epsilon=self.adversarial_epsilon,
            adversarial_at=self.adversarial_at,
        )

    @property
    def mixes_features(self) -> bool:
        """Whether the features of a batch are mixed."""
        return self.mixup and self.mixup_at == "features"

    @property
    def needs_mix_pool(self) -> bool:
        """Whether audio is mixed, which takes a pool of mixed utterances."""
        return self.mixup and not self.mixes_features


class RewardRun(Strict):
    """Fine-tuning a reward model.

    `text_of` says what text is to the content head: the mini world's phones ("mini"), a CosyVoice
    folder's text ids, or "characters"; None: where there is no such task, or it is up to the data.
    `stream` is how many rows of the data are read and shuffled at a time; 0: all.
    """

    train: TrainConfig = TrainConfig(
        steps=300, learning_rate=3e-4, warmup_steps=30, schedule="cosine"
    )
    fit: FitConfig = FitConfig()
    text_of: str | None = None
    stream: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _streams(self) -> RewardRun:
        if self.stream and ("content" in self.fit.tasks or self.fit.needs_mix_pool):
            raise ValueError(
                "stream reads no texts and no mix pool: leave out content and mixup_at=audio"
            )
        if self.stream and self.fit.nuisance:
            raise ValueError("nuisance is fitted to all rows at once: leave stream out")
        return self


def subsets() -> dict[str, FitConfig]:
    """Return the eight subsets of {LS, EAM, Adv} by name, from plain to all, always in this order.

    The paper's Table 2 shows four of them, each with one regularizer more: plain, ls, ls_eam and
    ls_eam_adv.
    """
    table = {}
    for name in ("plain", "ls", "eam", "adv", "ls_eam", "ls_adv", "eam_adv", "ls_eam_adv"):
        parts = name.split("_")
        table[name] = FitConfig(
            label_smoothing=FitConfig().label_smoothing if "ls" in parts else 0.0,
            mixup="eam" in parts,
            adversarial="adv" in parts,
        )
    return table


def subset_name(config: FitConfig) -> str:
    """Name the regularizers that a configuration has on, as `subsets` does.

    Examples:
        >>> subset_name(FitConfig(mixup=False))
        'ls_adv'
    """
    on = {
        "ls": config.label_smoothing > 0,
        "eam": config.mixup and config.mixup_share > 0,
        "adv": config.adversarial and config.adversarial_weight > 0,
    }
    return "_".join(name for name, used in on.items() if used) or "plain"

"""What the studies on real speech train: how much, on which languages, with which regularizers."""

from collections.abc import Sequence
from dataclasses import dataclass

from rrpo.errors import UserError
from rrpo.reward.config import FitConfig, subsets

CEILING = "continuous"
"""Name of the reward model that reads the encoder's states and no tokens."""
HARDENED = "ls_eam_adv"
"""Name of the hardened reward model."""
AUDIO = "ls_eam_adv@audio"
"""Name of the hardened reward model whose audio is mixed, and not its features."""
PRETRAINED = "pretrained"
"""Name of the pre-trained model of which only the head is fitted, without any regularizer: nothing
of a head is pre-trained here, as no label is used."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        seeds: fine-tunings of each reward model.
        mixes: mixed versions of each training utterance.
        tokenizer_steps: of training the tokenizer.
        pretrain_steps: of pre-training the reward model.
        finetune_steps: of fine-tuning it.
        most: recordings of each speaker and emotion that are used; None: all.
        languages: how many are used, in the order of the alphabet; None: all.
    """

    seeds: int = 5
    mixes: int = 10
    tokenizer_steps: int = 3000
    pretrain_steps: int = 800
    finetune_steps: int = 300
    most: int | None = None
    languages: int | None = None


FULL = Size()
SMOKE = Size(1, 1, 5, 5, 5, 1, 2)


@dataclass(frozen=True)
class Fold:
    """What a reward model is trained on: languages, and the share of their labelled utterances."""

    languages: tuple[str, ...]
    share: float = 1.0

    @property
    def name(self) -> str:
        """Languages joined by "+", and the share where it is not all."""
        return "+".join(self.languages) + ("" if self.share == 1.0 else f"@{self.share:g}")


@dataclass(frozen=True)
class Job:
    """One fine-tuning: `model` is a key of `configurations`, or `CEILING`."""

    fold: Fold
    model: str
    seed: int

    @property
    def name(self) -> str:
        """As a file is called."""
        return f"{self.fold.name}/{self.model}-{self.seed}"


def configurations() -> dict[str, FitConfig]:
    """Return the settings of every reward model on tokens, in the order of a table."""
    head = subsets()["plain"].model_copy(update={"tune": "heads"})
    audio = subsets()[HARDENED].model_copy(update={"mixup_at": "audio"})
    return {PRETRAINED: head} | subsets() | {AUDIO: audio}


def mixes_audio(model: str) -> bool:
    """Say whether a reward model is fine-tuned on mixed audio, and so needs a mix pool."""
    config = configurations().get(model)
    return config is not None and config.needs_mix_pool


def chosen_models(names: Sequence[str]) -> list[str]:
    """Return the reward models of these names in the order of a table; the plain one is always one.

    Raises:
        UserError: one is unknown, or none of them is hardened.
    """
    every = [*configurations(), CEILING]
    asked = {name.strip() for name in names if name.strip()} | {"plain"}
    unknown = sorted(asked - set(every))
    if unknown:
        raise UserError(f"unknown reward model {unknown[0]!r}: choose from {', '.join(every)}")
    if not asked & {HARDENED, AUDIO}:
        raise UserError(f"no reward model is hardened: name {HARDENED} or {AUDIO}, too")
    return [name for name in every if name in asked]

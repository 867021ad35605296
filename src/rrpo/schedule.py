"""How a training goes, whatever its objective."""

from typing import Literal

import pydantic

from rrpo.config import Strict


class TrainConfig(Strict):
    """How to train, whatever the objective."""

    steps: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0)
    warmup_steps: int = pydantic.Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = pydantic.Field(0.01, ge=0)
    max_gradient_norm: float = pydantic.Field(1.0, gt=0)
    seed: int = pydantic.Field(0, ge=0)
    save_every: int = pydantic.Field(100, ge=1)
    # auto: bf16 on a CUDA device that has it, otherwise no.
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    # None: as many as torch chose; a resumed run takes the number of the run it continues.
    threads: int | None = pydantic.Field(None, ge=1)
    # Batches whose gradients are averaged before a step: as much memory as one, as much weight as
    # so many. Each is drawn by itself. What is a mean over utterances, or in SFT over tokens, is
    # one over all of them; a KL per token is a mean of the batches' means.
    accumulate: int = pydantic.Field(1, ge=1)
    # Where the figures go besides `metrics.jsonl`.
    report_to: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"

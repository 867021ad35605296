"""Qwen2's configuration in Hugging Face form: what the shapes of a checkpoint do not tell."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.lm import LMConfig

HEAD_WIDTH = 64
"""Of Qwen2-0.5B; the number of heads is not written in a checkpoint."""
_FREQUENCIES = re.compile(r"(?:^|\.)rotary_emb\.inv_freq$")


class Rope(pydantic.BaseModel):
    """Rotary positions as newer configurations describe them."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    rope_theta: float | None = pydantic.Field(None, gt=0)
    rope_type: Literal["default"] | None = None
    type: Literal["default"] | None = None


class QwenConfig(pydantic.BaseModel):
    """What is read of a configuration; what would make another model is refused."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    num_attention_heads: int | None = pydantic.Field(None, gt=0)
    num_key_value_heads: int | None = pydantic.Field(None, gt=0)
    rope_theta: float | None = pydantic.Field(None, gt=0)
    rope_parameters: Rope = Rope()
    rope_scaling: Rope | None = None
    rms_norm_eps: float = pydantic.Field(1e-6, gt=0)
    hidden_act: Literal["silu"] = "silu"
    use_sliding_window: Literal[False] = False
    num_hidden_layers: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None

    @property
    def theta(self) -> float:
        """Base of the rotary positions."""
        return float(self.rope_theta or self.rope_parameters.rope_theta or 1e6)

    def heads(self, width: int) -> int:
        """Return the number of heads, by default of queries that are `width` wide."""
        return self.num_attention_heads or max(1, width // HEAD_WIDTH)

    def require_sizes(self, source: Path, layers: int, hidden: int, intermediate: int) -> None:
        """Refuse weights of other sizes than those named: a last layer may be missing.

        Raises:
            UserError: a size differs.
        """
        for name, named, found in (
            ("num_hidden_layers", self.num_hidden_layers, layers),
            ("hidden_size", self.hidden_size, hidden),
            ("intermediate_size", self.intermediate_size, intermediate),
        ):
            if named is not None and named != found:
                raise UserError(
                    f"{source}: {name} is {found} by its shapes and {named} by its config.json: "
                    "it is not whole or another model's, copy it again"
                )


def read_config(config: Any, source: Path) -> QwenConfig:
    """Check a configuration.

    Raises:
        UserError: a value is wrong, or asks for what Qwen2 as CosyVoice uses it has not.
    """
    try:
        return QwenConfig.model_validate(config)
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"])) or "it"
        raise UserError(f"Qwen2's configuration for {source}: {key}: {detail['msg']}") from None


def require_frequencies(
    state: Mapping[str, Tensor], config: LMConfig, source: Path
) -> dict[str, Tensor]:
    """Leave out rotary frequencies (D / heads / 2,), which old versions of transformers store.

    Raises:
        UserError: they are not those of the configuration.
    """
    kept = dict(state)
    exponents = torch.arange(0, config.hidden // config.heads, 2) / (config.hidden / config.heads)
    expected = config.rope_theta**-exponents
    for key in [key for key in state if _FREQUENCIES.search(key)]:
        own = kept.pop(key)
        if own.shape != expected.shape or not torch.allclose(own, expected, rtol=0.01, atol=0):
            raise UserError(
                f"{source}: {key} is not of rope_theta {config.rope_theta:g} and {config.heads} "
                "heads: name a folder with the right config.json"
            )
    return kept

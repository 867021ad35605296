"""A reward function for TRL's trainers: `GRPOTrainer(reward_funcs=reward_function(…), …)`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rrpo.checkpoint import load_tensors
from rrpo.engines.scoring import Score, score_answers
from rrpo.errors import UserError


def reward_function(scorer: Score, name: str = "rrpo") -> Callable[..., list[float]]:
    """Return what TRL calls after each generation.

    The data set needs the columns `text` and `emotion`, and may have `speaker`, beside `prompt`.
    Completions are read in the Hugging Face form (`<|s_12|><|s_7|>…`).

    Args:
        scorer: `by_reward_models` or `by_judges` of `rrpo.engines.scoring`, or a function alike.
        name: under which TRL logs it.
    """

    def scored(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Any = None,
        text: Sequence[str] | None = None,
        emotion: Sequence[str] | None = None,
        speaker: Sequence[str] | None = None,
        **columns: Any,
    ) -> list[float]:
        del prompts, completion_ids, columns  # the completions again, and what TRL passes beside
        if text is None or emotion is None:
            raise UserError("the data set needs the columns text and emotion beside prompt")
        answers = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
        return score_answers(scorer, answers, text, emotion, speaker or [""] * len(answers))

    scored.__name__ = name
    return scored


def policy_model(folder: str | Path) -> Any:
    """Load what `rrpo export --to hf` wrote as a model for TRL's trainers.

    `transformers` leaves the output bias out, without which text would be drawn. Its −inf becomes
    −1e4, as the entropy that TRL logs would be NaN.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    bias = load_tensors(Path(folder) / "model.safetensors")["lm_head.bias"]
    weight = model.lm_head.weight
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    head.weight, head.bias.data = weight, bias.clamp(min=-1e4).to(weight)
    model.lm_head = head
    model.generation_config.do_sample = True  # type: ignore[union-attr]
    return model

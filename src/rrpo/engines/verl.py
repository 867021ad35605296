"""A reward function for verl: `reward.custom_reward_function.path=pkg://rrpo.engines.verl`."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from rrpo.engines.scoring import Score, by_judges, by_reward_models, score_answers
from rrpo.errors import UserError
from rrpo.reward.reward import Form


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    rewards: str | Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
    judges: bool = False,
    form: Form = "robust",
    text_of: str | None = None,
    device: str = "cpu",
    **further: Any,
) -> float:
    """Return the score of one answer, in the Hugging Face form (`<|s_12|><|s_7|>…`).

    The keywords after `extra_info` are verl's `reward_kwargs`, and those of `by_reward_models` and
    `by_judges`. What they name is loaded once in each of verl's processes.

    Args:
        ground_truth: the text that was to be spoken.
        extra_info: with `emotion`, and `speaker` where a voice was asked for.
        judges: score by judges instead of reward models.
        further: what verl adds of its own reward model, whose names begin with `reward_`.

    Raises:
        UserError: no emotion, neither reward models nor judges, or an unknown keyword.
    """
    del data_source
    if unknown := [name for name in further if not name.startswith("reward_")]:
        known = "rewards, weights, judges, form, text_of and device"
        raise UserError(f"reward_kwargs: unknown {unknown[0]!r}: choose from {known}")
    told = dict(extra_info or {})
    if "emotion" not in told:
        raise UserError("extra_info needs the key emotion: write it into verl's parquet files")
    named = rewards if isinstance(rewards, str) else list(rewards)
    settings = [named, weights and dict(weights), judges, form, text_of, device]
    scorer = _scorer(json.dumps(settings))
    voice = str(told.get("speaker") or "")
    return score_answers(scorer, [solution_str], [ground_truth], [told["emotion"]], [voice])[0]


@cache
def _scorer(settings: str) -> Score:
    rewards, weights, judges, form, text_of, device = json.loads(settings)
    if judges:
        return by_judges(weights)
    return by_reward_models(rewards, weights, form=form, text_of=text_of, device=device)

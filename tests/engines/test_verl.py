"""Our reward in verl: called as its reward manager calls it, and by it where it is installed."""

import asyncio
import inspect
from typing import Any

import pytest
import torch

from rrpo.engines.scoring import BROKEN, by_reward_models, score_answers
from rrpo.engines.verl import compute_score
from rrpo.errors import UserError
from rrpo.mini.world import World

VERSION = "0.9.1"
CALL = {"data_source": "speech", "ground_truth": "It is late."}
"""What `NaiveRewardManager` of that version passes beside the answer and the extra_info."""


def answer() -> str:
    tokens = World().shard("test_same")[0].tokens.tolist()
    return "".join(f"<|s_{token}|>" for token in tokens)


def expected(emotion: str) -> float:
    (found,) = score_answers(
        by_reward_models(["mini"]), [answer()], [CALL["ground_truth"]], [emotion], [""]
    )
    return found


def test_as_verl_calls_it() -> None:
    extra = {"emotion": "happy", "num_turns": None, "rollout_reward_scores": {}}
    found = compute_score(**CALL, solution_str=answer(), extra_info=extra, rewards=["mini"])
    assert found == expected("happy")
    assert found == compute_score(**CALL, solution_str=answer(), extra_info=extra, rewards="mini")
    further = {"reward_router_address": "x", "reward_model_tokenizer": None}
    for said, value in ((answer(), found), ("words", BROKEN)):
        assert value == compute_score(
            **CALL, solution_str=said, extra_info=extra, rewards=["mini"], **further
        )
    posterior = compute_score(
        **CALL, solution_str=answer(), extra_info=extra, rewards="mini", form="log_posterior"
    )
    scorer = by_reward_models(["mini"], form="log_posterior")
    text = CALL["ground_truth"]
    assert posterior == score_answers(scorer, [answer()], [text], ["happy"], [""])[0]
    judged = compute_score(**CALL, solution_str=answer(), extra_info=extra, judges=True)
    assert 0 <= judged <= 1


def test_mistakes_have_one_line() -> None:
    for extra in (None, {}):
        with pytest.raises(UserError, match="key emotion"):
            compute_score(**CALL, solution_str=answer(), extra_info=extra, rewards=["mini"])
    with pytest.raises(UserError, match="reward_kwargs: unknown 'weight': choose from rewards"):
        compute_score(**CALL, solution_str="", extra_info={"emotion": "sad"}, weight={"emotion": 5})
    with pytest.raises(UserError, match="name at least one"):
        compute_score(**CALL, solution_str=answer(), extra_info={"emotion": "sad"})


class Words:
    """A tokenizer whose id n is the code n."""

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool = False) -> str:  # noqa: ARG002
        return "".join(f"<|s_{token}|>" for token in ids.tolist())


def manager(**settings: Any) -> Any:
    """Return verl's reward manager with our function, from its configuration."""
    pytest.importorskip("verl", reason="needs verl")
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import load_reward_manager

    values = {
        "reward": {
            "custom_reward_function": {
                "path": "pkg://rrpo.engines.verl",
                "name": "compute_score",
                "reward_kwargs": settings,
            },
            "reward_manager": {"source": "register", "name": "naive"},
        }
    }
    return load_reward_manager(OmegaConf.create(values), Words())


@pytest.mark.slow
def test_its_reward_manager_finds_and_calls_it() -> None:
    built = manager(rewards=["mini"], weights={"emotion": 1.0})
    import numpy as np
    from verl import DataProto

    tokens = torch.from_numpy(World().shard("test_same")[0].tokens)[None]
    padded = torch.cat([tokens, torch.zeros(1, 5, dtype=torch.long)], 1)
    attended = torch.cat([torch.ones(1, 3), torch.ones_like(tokens), torch.zeros(1, 5)], 1)
    for emotion in ("happy", "sad"):
        data = DataProto.from_dict(
            tensors={
                "prompts": torch.zeros(1, 3, dtype=torch.long),
                "responses": padded,
                "attention_mask": attended.long(),
            },
            non_tensors={
                "data_source": np.array(["speech"], dtype=object),
                "reward_model": np.array([{"ground_truth": "It is late."}], dtype=object),
                "extra_info": np.array([{"emotion": emotion}], dtype=object),
            },
        )
        found = built.loop.run_until_complete(built.run_single(data))
        assert found["reward_score"] == pytest.approx(expected(emotion), abs=1e-5)


def test_the_recorded_call_is_that_of_verl() -> None:
    pytest.importorskip("verl", reason="needs verl")
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    source = inspect.getsource(NaiveRewardManager.run_single)
    assert asyncio.iscoroutinefunction(NaiveRewardManager.run_single)
    for name in ("data_source=", "solution_str=", "ground_truth=", "extra_info="):
        assert name in source

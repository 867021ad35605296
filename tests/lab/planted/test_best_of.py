"""The best of several utterances of the start, as the planted study takes it."""

import math

import pytest
import torch

from rrpo.mini.world import World
from rrpo.reward import Reward
from rrpo.reward.differentiable import score
from rrpo.speaking.mini import MiniSpeaker
from rrpo_studies.planted import best_of as module
from rrpo_studies.planted.best_of import best_of, divergence
from rrpo_studies.planted.looks import in_pairs
from rrpo_studies.planted.plan import Job
from rrpo_studies.planted.recipes import WHOLE


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_divergence_is_that_of_the_best_of_many_equally_probable(count: int) -> None:
    """By enumeration: of M outcomes the k-th best is taken with ((k/M)^n − ((k−1)/M)^n)."""
    many = 20_000
    best = [(k / many) ** count - ((k - 1) / many) ** count for k in range(1, many + 1)]
    exact = sum(p * math.log(p * many) for p in best if p)
    assert exact <= divergence(count) + 1e-9
    assert exact == pytest.approx(divergence(count), abs=1e-3)


@pytest.mark.slow
def test_more_utterances_have_a_better_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNTS", (1, 4))
    world = World()
    model = world.policy()
    speaker = MiniSpeaker(model, world, world.codec(), drawn=WHOLE)
    asked, reward = in_pairs(world.shard("test_same"))[:4], Reward([world.reward_model()])
    looks, best = best_of(speaker, reward, asked, Job("policy", "click", "best_of", 0.95, 0))
    assert [look["step"] for look in looks] == [1.0, 4.0]
    assert looks[0]["kl"] == 0.0
    assert looks[1]["kl"] == pytest.approx(divergence(4) / looks[1]["tokens"])

    prompts = speaker.prompts(asked)
    first = [one.tokens for one in speaker.say([row for row in asked for _ in range(4)], 0)][::4]
    chosen = [torch.tensor(best[row.id]) for row in asked]
    before, after = (score(reward, speech, prompts)["emotion"] for speech in (first, chosen))
    assert (after >= before - 1e-5).all()
    assert after.mean() > before.mean()

"""A policy trained on a reward model: it is paid, goes as far as allowed, and its start stays."""

import pytest
import torch

from rrpo.attack.policy import RECENT, Start, by_policy
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Example
from rrpo.reward import RewardModel
from tiny_policy import CONFIG, EMOTIONS, REWARD, prompts


def start(count: int = 12, emotions: int = 2) -> Start:
    torch.manual_seed(0)
    examples = [
        Example(prompt, torch.tensor([1, 2, 3])) for prompt in prompts(*[3] * 12)[:emotions] * 6
    ]
    return Start(SpeechTokenLM(CONFIG), examples, prompts(*[3] * count))


def paid(posteriors: torch.Tensor) -> float:
    """The mean log-posterior of what `prompts` asks for in turn."""
    places = torch.arange(len(posteriors))
    return float(posteriors[places, places % 2].mean())


def reward_model() -> RewardModel:
    torch.manual_seed(1)
    return RewardModel(REWARD).eval()


@pytest.mark.slow
def test_training_on_a_reward_model_raises_it_and_leaves_the_start_alone() -> None:
    model, begun = reward_model(), start()
    before = {name: value.clone() for name, value in begun.policy.state_dict().items()}
    outcomes, reached = by_policy(model, begun, steps=60, kl=1e9, seed=0)
    first, trained = outcomes.values()
    assert trained.passes == 1 + 60 and first.passes == 1
    assert reached > 0
    assert paid(trained.log_posteriors) > paid(first.log_posteriors)
    assert trained.tokens is not None and len(trained.tokens) == 12
    for name, value in begun.policy.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_training_ends_where_the_policy_has_gone_far_enough() -> None:
    outcomes, reached = by_policy(reward_model(), start(), steps=40, kl=0.0, seed=0)
    assert outcomes["said by a policy trained on it"].passes == 1 + RECENT
    far, distance = by_policy(reward_model(), start(), steps=40, kl=2 * reached, seed=0)
    assert distance >= 2 * reached
    assert 1 + RECENT < far["said by a policy trained on it"].passes < 1 + 40


def test_what_the_reward_model_does_not_know_is_not_asked_in_training() -> None:
    config = REWARD.model_copy(update={"tasks": {"emotion": [EMOTIONS[0], "proud"]}})
    begun = start()
    neutral = Start(begun.policy, begun.examples, begun.asked[::2])
    outcomes, _ = by_policy(RewardModel(config).eval(), neutral, steps=1, kl=1.0, seed=0)
    assert [one.log_posteriors.shape for one in outcomes.values()] == [(6, 2)] * 2

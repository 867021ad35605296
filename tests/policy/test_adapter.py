"""Adapters: nothing changes at first, only they are trained, what is saved computes the same."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from rrpo import policy
from rrpo.errors import UserError
from rrpo.objectives.diffro import DiffROConfig, DiffROObjective
from rrpo.policy import LMConfig, SpeechTokenLM
from rrpo.policy.adapter import adapted, add_adapters, plain_state, without_adapters
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import RolloutConfig, draw
from rrpo.reward import Reward, RewardConfig, RewardModel

# peft takes seconds to load, so it is looked for and not imported here.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("peft") is None, reason="needs adapters: pip install 'rrpo[lora]'"
    ),
]

CONFIG = LMConfig(
    text_vocabulary=40, hidden=32, layers=2, heads=4, key_value_heads=2, intermediate=48
)


def make(seed: int = 0) -> SpeechTokenLM:
    torch.manual_seed(seed)
    return SpeechTokenLM(CONFIG)


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(UserError, match="lora_rank=33 is above the policy's width, 32"):
        add_adapters(make(), 33)


def moved(model: SpeechTokenLM) -> None:
    """Give the adapters' zero halves a value."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)


IDS = torch.arange(1, 21).view(2, 10)


def test_nothing_changes_at_first_and_only_adapters_are_trained() -> None:
    model = make()
    before = model(IDS)
    add_adapters(model, rank=4)
    torch.testing.assert_close(model(IDS), before)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
    assert len(adapted(model)) == CONFIG.layers * 7


def test_the_same_seed_gives_the_same_adapters_and_leaves_chance_alone() -> None:
    models = [make(), make()]
    before = torch.get_rng_state()
    for model in models:
        add_adapters(model, rank=4, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


def test_without_adapters_it_is_the_model_it_was() -> None:
    model = make()
    before = model(IDS)
    add_adapters(model, rank=4)
    moved(model)
    assert not torch.allclose(model(IDS), before, atol=1e-3)
    with without_adapters(model):
        torch.testing.assert_close(model(IDS), before)
    assert not torch.allclose(model(IDS), before, atol=1e-3)


def test_what_speaks_without_adapters_is_the_model_it_was() -> None:
    """Greedily, so that what is compared is no draw; the decoding step has weights of its own."""
    model, before = make(), make()
    add_adapters(model, rank=4)
    moved(model)
    prompt = [Prompt("a", "happy", torch.tensor([3, 4, 5]), torch.tensor([1]))]
    greedy = RolloutConfig(top_k=1, min_ratio=5.0, max_ratio=5.0)

    def spoken(of: SpeechTokenLM) -> list[int]:
        return draw(of, prompt, greedy, torch.Generator().manual_seed(0)).tokens[0].tolist()

    with without_adapters(model):
        torch.testing.assert_close(plain_state(model), before.state_dict())
        assert spoken(model) == spoken(before)
    assert spoken(model) != spoken(before)


def test_what_is_saved_is_plain_and_computes_the_same(tmp_path: Path) -> None:
    model = make()
    add_adapters(model, rank=4)
    moved(model)
    assert set(plain_state(model)) == set(make().state_dict())
    policy.save(model, tmp_path)
    torch.testing.assert_close(policy.load(tmp_path)(IDS), model(IDS), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain_state(make()), make().state_dict())


def test_diffro_needs_no_second_model() -> None:
    """The loss is that with a copy as the reference, and gradients reach the adapters alone."""
    prompts = [Prompt("a", "happy", torch.tensor([3, 4, 5]), torch.tensor([1]))]
    torch.manual_seed(1)
    judge = RewardModel(RewardConfig(tasks={"emotion": ["happy", "sad"]}, width=16, layers=1))
    losses = []
    for reference in (make(), None):
        model = make()
        add_adapters(model, rank=4)
        torch.manual_seed(7)
        moved(model)
        objective = DiffROObjective(
            model, reference, Reward([judge]), prompts, DiffROConfig(batch_size=2)
        )
        loss, figures = objective.loss(1, torch.Generator().manual_seed(0))
        torch.autograd.backward(loss)
        losses.append(loss)
        assert figures["kl"] > 0
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (".lora_" in name)
    torch.testing.assert_close(losses[0], losses[1])


def test_a_plain_policy_without_a_reference_is_refused() -> None:
    judge = RewardModel(RewardConfig(tasks={"emotion": ["happy", "sad"]}, width=16, layers=1))
    prompts = [Prompt("a", "happy", torch.tensor([3]), torch.tensor([1]))]
    with pytest.raises(UserError, match="needs a reference"):
        DiffROObjective(make(), None, Reward([judge]), prompts, DiffROConfig())

"""DiffRO's masks, KL and reward gradient against dense forms computed one utterance at a time."""

from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rrpo.errors import UserError
from rrpo.gradient import Gradient
from rrpo.objectives.diffro import (
    DiffROConfig,
    DiffROObjective,
    duration_reward,
    score_function,
    temperature,
)
from rrpo.objectives.on_policy import Estimator, Pass
from rrpo.policy import SpeechTokenLM
from rrpo.policy.layout import Prompt
from rrpo.policy.rollout import RolloutConfig, Rollouts, draw, recorded
from rrpo.processes import training_processes
from rrpo.relax import relax
from rrpo.reward import Reward, RewardModel
from rrpo.reward.differentiable import weighted_sum
from rrpo.schedule import TrainConfig
from rrpo.state import initial_state
from tiny_policy import CONFIG, EMOTIONS, REWARD, logits_of, prompts


def objective(recordings: Sequence[Tensor] = (), **options) -> DiffROObjective:
    torch.manual_seed(0)
    model, reference = SpeechTokenLM(CONFIG), SpeechTokenLM(CONFIG)
    for lm in (model, reference):
        for parameter in lm.parameters():
            parameter.data.normal_(0, 0.3)
    reward = Reward([RewardModel(REWARD)])
    config = DiffROConfig(**options)
    return DiffROObjective(
        model, reference, reward, prompts(4, 2, 3), config, recordings=recordings
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_is_reward_and_kl_utterance_by_utterance(seed: int) -> None:
    """The batched loss and its gradient equal a loop over utterances with no padding at all."""
    made = objective(batch_size=3, estimator="straight_through", beta=0.3, skip_broken=False)
    loss, metrics = made.loss(1, torch.Generator().manual_seed(seed))
    gradient = torch.autograd.grad(loss, made.model.head.weight)[0]

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(3, generator=generator).tolist()
    chosen = [made.on_policy.prompts[index] for index in order]
    drawn = made.on_policy.draw(chosen, generator)
    speech, stopped = drawn.tokens, drawn.ended
    paying = made.on_policy.reward.models[0]
    held_by = made.on_policy.reference
    assert held_by is not None
    rewards, divergence, positions = [], [], 0
    for prompt, tokens, ended in zip(chosen, speech, stopped.tolist(), strict=True):
        logits = logits_of(made.model, prompt, tokens)
        with torch.no_grad():
            reference = logits_of(held_by, prompt, tokens)
        embedded = relax(logits[:-1, :27], tokens, paying.table, "straight_through")
        mask = torch.ones(1, tokens.numel(), dtype=torch.bool)
        posterior = paying.log_posterior(embedded[None], mask)
        rewards.append(posterior[0, EMOTIONS.index(prompt.emotion)])
        valid = tokens.numel() + int(ended)
        p, q = logits.log_softmax(-1)[:valid], reference.log_softmax(-1)[:valid]
        divergence.append((p.exp() * (p - q)).sum())
        positions += valid
    kl = torch.stack(divergence).sum() / positions
    expected = -torch.stack(rewards).mean() + 0.3 * kl
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert metrics["kl"] == pytest.approx(float(kl.detach()), abs=1e-5)
    expected_gradient = torch.autograd.grad(expected, made.model.head.weight)[0]
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-4)


def test_stop_symbols_get_no_reward_gradient() -> None:
    made = objective(batch_size=3, beta=0.0)
    loss, _ = made.loss(1, torch.Generator().manual_seed(0))
    gradient = torch.autograd.grad(loss, made.model.head.bias)[0]
    assert (gradient[27:] == 0).all()
    assert (gradient[:27] != 0).any()


def test_kl_is_a_mean_over_choices_or_a_sum_over_each_utterance() -> None:
    kl = torch.tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]])  # the second was cut off: no end
    valid = torch.tensor([[True, True, True], [True, False, False]])
    made = Pass(kl, valid, kl, torch.zeros(0), torch.zeros(0))
    assert float(made.kl_per_token()) == (1 + 2 + 4 + 8) / 4
    assert float(made.kl_per_utterance()) == (7 + 8) / 2


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_reduction_of_the_kl_changes_the_loss_and_not_the_figure(reduction: str) -> None:
    made = objective(batch_size=3, beta=0.3, kl_reduction=reduction)
    loss, metrics = made.loss(1, torch.Generator().manual_seed(0))
    free, others = objective(batch_size=3, beta=0.0, kl_reduction=reduction).loss(
        1, torch.Generator().manual_seed(0)
    )
    drawn = made.on_policy.draw(
        [made.on_policy.prompts[index] for index in order_of(0)], advanced(0)
    )
    positions = int((drawn.lengths + drawn.ended).sum())
    scale = positions / 3 if reduction == "sum" else 1.0
    assert metrics["kl"] == others["kl"]
    assert float((loss - free).detach()) == pytest.approx(0.3 * metrics["kl"] * scale, rel=1e-4)


def order_of(seed: int) -> list[int]:
    return torch.randperm(3, generator=torch.Generator().manual_seed(seed)).tolist()


def advanced(seed: int) -> torch.Generator:
    """A generator from which the order of a batch was drawn."""
    generator = torch.Generator().manual_seed(seed)
    torch.randperm(3, generator=generator)
    return generator


RECORDINGS = [torch.tensor([3, 14, 15, 9]), torch.tensor([2, 6]), torch.tensor([5, 3, 5])]


def test_a_recorded_step_draws_each_token_given_the_recording() -> None:
    """One pass: loss and gradient by hand, from logits of the recording and the tokens drawn."""
    made = objective(
        batch_size=3,
        beta=0.3,
        history="recorded",
        estimator="straight_through",
        recordings=RECORDINGS,
    )
    loss, metrics = made.loss(1, torch.Generator().manual_seed(0))
    gradient = torch.autograd.grad(loss, made.model.head.weight)[0]

    generator, order = advanced(0), order_of(0)
    torch.randint(2**62, (), generator=generator)  # of the relaxation's noise
    uniform = torch.rand(
        sum(one.numel() for one in RECORDINGS) + 3, 1, dtype=torch.float64, generator=generator
    )[:, 0].tolist()
    reward_model, reference = made.on_policy.reward.models[0], made.on_policy.reference
    assert reference is not None
    rewards, divergence, positions = [], [], 0
    for index in order:
        prompt, speech = made.on_policy.prompts[index], RECORDINGS[index]
        logits = logits_of(made.model, prompt, speech)
        points, uniform = uniform[: speech.numel() + 1], uniform[speech.numel() + 1 :]
        law = logits[:-1, :27].softmax(-1).double().cumsum(-1)
        drawn = torch.stack(
            [(law[place] / law[place, -1] <= points[place]).sum() for place in range(len(law))]
        )
        embedded = relax(logits[:-1, :27], drawn, reward_model.table, "straight_through")
        mask = torch.ones(1, speech.numel(), dtype=torch.bool)
        posterior = reward_model.log_posterior(embedded[None], mask)
        rewards.append(posterior[0, EMOTIONS.index(prompt.emotion)])
        with torch.no_grad():
            q = logits_of(reference, prompt, speech).log_softmax(-1)
        p = logits.log_softmax(-1)
        divergence.append((p.exp() * (p - q)).sum())
        positions += speech.numel() + 1
    kl = torch.stack(divergence).sum() / positions
    expected = -torch.stack(rewards).mean() + 0.3 * kl
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert metrics["kl"] == pytest.approx(float(kl.detach()), abs=1e-5)
    assert metrics["tokens"] == 3.0 and metrics["stopped"] == 1.0
    expected_gradient = torch.autograd.grad(expected, made.model.head.weight)[0]
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-4)


def test_tokens_drawn_given_a_recording_follow_the_policy() -> None:
    made = objective(history="recorded", recordings=RECORDINGS)
    prompt, speech = made.on_policy.prompts[1], RECORDINGS[1]
    law = logits_of(made.model, prompt, speech)[:-1, :27].softmax(-1).detach()
    batch = recorded(CONFIG, [prompt] * 4000, [speech] * 4000)
    found = made.on_policy.evaluate(
        batch, Estimator("straight_through"), torch.Generator().manual_seed(0), redraw=True
    )
    # Rows of the reward model's table tell which token was drawn.
    table = made.on_policy.reward.table
    drawn = torch.cdist(found.embeddings.detach(), table.expand(4000, -1, -1)).argmin(-1)
    for place in range(2):
        share = torch.bincount(drawn[:, place], minlength=27) / 4000
        assert float((share - law[place]).abs().sum()) < 0.1


def test_what_history_and_duration_need_is_asked_for() -> None:
    with pytest.raises(UserError, match="0 recordings for 3 prompts"):
        objective(history="recorded")
    with pytest.raises(UserError, match="0 recordings for 3 prompts"):
        objective(duration=1.0)
    with pytest.raises(UserError, match="a recording has no tokens"):
        objective(history="recorded", recordings=[*RECORDINGS[:2], torch.tensor([]).long()])
    with pytest.raises(UserError, match="batch_size=1 has none to compare with"):
        objective(duration=1.0, batch_size=1, recordings=RECORDINGS)
    for wrong in ({"context_passes": 1}, {"duration": 1.0}):
        with pytest.raises(ValidationError, match="needs history=rollout"):
            DiffROConfig.model_validate({"history": "recorded", **wrong})


def test_speech_that_loops_or_does_not_end_is_broken() -> None:
    said = [torch.tensor([1, 2] * 6), torch.arange(8), torch.arange(8)]
    stopped = torch.tensor([True, False, True])
    rollouts = Rollouts(said, stopped, torch.zeros(3).long(), [], prompts=prompts(1, 1, 1))
    assert rollouts.sound().tolist() == [False, False, True]


def test_broken_speech_gives_no_reward_gradient_and_is_counted() -> None:
    """Every rollout is cut off: what is left is the KL; where all is paid there is more."""
    losses = {}
    for skip in (True, False):
        made = objective(batch_size=3, skip_broken=skip, rollout=RolloutConfig(max_ratio=1.0))
        assert made.model.head.bias is not None
        made.model.head.bias.data[CONFIG.codes :] -= 50.0
        loss, metrics = made.loss(1, torch.Generator().manual_seed(0))
        assert metrics["broken"] == 1.0
        losses[skip] = float(loss.detach())
        kl = 0.1 * metrics["kl"]
    assert losses[True] == pytest.approx(kl, abs=1e-6)
    assert losses[False] > losses[True] + 0.1


def test_a_duration_is_rewarded_by_a_policy_gradient() -> None:
    """The gradient of the scalar is the sum over utterances of advantage times score."""
    # The second choice of the first had no other: its probability is one.
    log_p = torch.tensor([[-1.0, 0.0, 0.0], [-0.5, -0.5, -2.0]], requires_grad=True)
    valid = torch.tensor([[True, True, False], [True, True, True]])
    reward = duration_reward(torch.tensor([2, 3]), torch.tensor([4, 3]))
    assert reward.tolist() == [-0.5, 0.0]
    score_function(log_p, valid, reward).backward()
    assert log_p.grad is not None
    # Leave-one-out: −.5 − 0 and 0 + .5; means over 2 and 3 choices, then over the batch.
    torch.testing.assert_close(log_p.grad[0, :2], torch.full((2,), -0.5 / 2 / 2))
    torch.testing.assert_close(log_p.grad[1], torch.full((3,), 0.5 / 3 / 2))


@pytest.mark.slow
def test_a_duration_pulls_the_length_to_the_recordings() -> None:
    lengths = {}
    for weight in (0.0, 2.0):
        made = objective(
            batch_size=16,
            beta=0.0,
            duration=weight,
            recordings=[torch.zeros(3).long()] * 3,
            rollout=RolloutConfig(max_ratio=12.0),
        )
        made.on_policy.reward.weights["emotion"] = 0.0
        optimizer = torch.optim.Adam(made.model.parameters(), 0.01)
        generator = torch.Generator().manual_seed(0)
        found = []
        for step in range(40):
            loss, metrics = made.loss(step, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(metrics["tokens"])
        lengths[weight] = sum(found[-10:]) / 10
    assert abs(lengths[2.0] - 3) < abs(lengths[0.0] - 3) / 2


def test_kl_of_a_policy_to_itself_is_zero() -> None:
    made = objective(batch_size=3)
    assert made.on_policy.reference is not None
    made.on_policy.reference.load_state_dict(made.model.state_dict())
    _, metrics = made.loss(1, torch.Generator().manual_seed(0))
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_reward_rises_when_its_gradient_is_followed() -> None:
    # Sixteen rows a step: five seeds gave rises of 0.62 to 0.77; three rows were mostly noise.
    made = objective(batch_size=16, beta=0.0, rollout=RolloutConfig(max_ratio=6.0, min_ratio=2.0))
    for parameter in made.on_policy.reward.models[0].parameters():
        parameter.data.mul_(2)
    optimizer = torch.optim.Adam(made.model.parameters(), 0.01)
    generator = torch.Generator().manual_seed(0)
    rewards = []
    for step in range(60):
        loss, metrics = made.loss(step, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(metrics["reward"])
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.3


def test_frozen_models_get_no_gradient() -> None:
    made = objective(batch_size=3)
    made.loss(1, torch.Generator().manual_seed(0))[0].backward()
    assert made.on_policy.reference is not None
    for frozen in (made.on_policy.reference, made.on_policy.reward.models[0]):
        assert all(parameter.grad is None for parameter in frozen.parameters())


def test_top_k_reaches_only_what_could_be_drawn() -> None:
    made = objective(batch_size=3, beta=0.0, rollout=RolloutConfig(top_k=5))
    loss, _ = made.loss(1, torch.Generator().manual_seed(0))
    loss.backward()
    gradient = made.model.head.weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()


def test_a_context_pass_relaxes_under_the_law_that_was_drawn_from() -> None:
    """Of one token nothing was fed back, so a pass must not change its gradient: the stop symbol,
    forbidden while an utterance is too short, takes no place in the top-k."""
    made = objective(rollout=RolloutConfig(top_k=2, min_ratio=1.0))
    assert made.model.head.bias is not None
    made.model.head.bias.data[CONFIG.codes :] += 20.0
    asked = prompts(1, 1)
    rollouts = draw(made.model, asked, made.config.rollout, torch.Generator().manual_seed(0))
    assert [tokens.numel() for tokens in rollouts] == [1, 1]
    gradients = []
    for passes in (0, 1):
        estimator = Estimator("straight_through", 1.0, passes)
        found = made.on_policy.evaluate(rollouts, estimator, torch.Generator().manual_seed(0))
        paid = weighted_sum(made.on_policy.reward, made.on_policy.terms(found, rollouts)).sum()
        gradients.append(torch.autograd.grad(paid, made.model.head.weight)[0])
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_no_rollout_is_empty_however_short_and_long_the_texts_are() -> None:
    made = objective()
    assert made.model.head.bias is not None
    made.model.head.bias.data[CONFIG.codes :] += 50.0
    generator = torch.Generator().manual_seed(0)
    rollouts = draw(made.model, prompts(49, 1), RolloutConfig(min_ratio=0.0), generator)
    assert [tokens.numel() for tokens in rollouts] == [1, 1]
    assert rollouts.least.tolist() == [1, 1]
    with pytest.raises(UserError, match=r"max_ratio=0\.5 leaves no token for a text of 1 ids"):
        draw(made.model, prompts(9, 1), RolloutConfig(max_ratio=0.5), generator)
    with pytest.raises(UserError, match=r"min_ratio=5 is above max_ratio=4"):
        draw(made.model, prompts(9, 1), RolloutConfig(min_ratio=5, max_ratio=4), generator)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_every_weight_has_a_gradient_whatever_the_precision(precision: torch.dtype | None) -> None:
    """Of a step as the loop takes it, whose rollout reads the same weights without a gradient."""
    made = objective(batch_size=3, rollout=RolloutConfig(max_ratio=2.0))
    config = TrainConfig(steps=1, learning_rate=0.1)
    device = torch.device("cpu")
    state = initial_state(made.model, config, training_processes(), None)
    _, _, wrong = Gradient(made, config, state, device, precision).of_step(1)
    without = [name for name, one in made.model.named_parameters() if one.grad is None]
    assert not wrong and not without


def test_one_seed_decides_a_step() -> None:
    made = objective(batch_size=3)
    losses = [
        float(made.loss(1, torch.Generator().manual_seed(seed))[0].detach()) for seed in (3, 3, 4)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_an_emotion_the_reward_model_lacks_is_named() -> None:
    torch.manual_seed(0)
    wrong = [Prompt("text", "angry", torch.tensor([1]), torch.tensor([8]))]
    with pytest.raises(UserError, match="unknown emotion 'angry'"):
        Reward([RewardModel(REWARD)]).check(wrong)


@pytest.mark.parametrize("tau", [0.0, [1.0, -1.0], []])
def test_a_temperature_that_is_not_positive_is_refused(tau: float | list[float]) -> None:
    with pytest.raises(UserError, match="positive temperature"):
        objective(tau=tau)


def test_a_constant_temperature_stays() -> None:
    assert temperature(0.7, 3, 9) == temperature([0.7], 3, 9) == 0.7
    assert temperature([2.0, 1.0], 1, 1) == 2.0

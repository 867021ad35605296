"""Rewards: each term against the model's own figures, ensembles, shaping, wrong requests."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.layout import Prompt
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.config import LossConfig
from rrpo.reward.content import IMPOSSIBLE
from rrpo.reward.differentiable import score, weighted_sum
from rrpo.reward.regularize import adversarial_delta, emotion_loss, label_smoothing
from rrpo.reward.reward import Form, log_without
from rrpo.tokens import length_mask, pad

FORMS = ("robust", "log_posterior")
SHAPE = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16, "dropout": 0.0, "codes": 27}
TASKS = {"speaker": ["main", "maple"], "quality": ["spoilt", "clean"], "event": ["none", "click"]}
SPEECH = [torch.tensor([1, 5, 9, 2, 2, 7]), torch.tensor([3, 4, 26, 8])]
PROMPTS = [
    Prompt("ab", "happy", torch.tensor([1, 2]), torch.tensor([0])),
    Prompt("cd", "sad", torch.tensor([3, 0]), torch.tensor([0]), "maple"),
]


def emotional(seed: int) -> RewardModel:
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks={"emotion": ["happy", "sad"]}, **SHAPE))


def listening(seed: int = 0) -> RewardModel:
    torch.manual_seed(seed)
    return RewardModel(RewardConfig(tasks=TASKS, phones=5, **SHAPE))


def test_terms_are_the_models_own_log_posteriors() -> None:
    model, other = emotional(1), listening(2)
    weights = {"emotion": 1.0, "speaker": 0.5, "quality": 2.0, "event": 0.1, "content": 0.3}
    reward = Reward([model, other], weights)
    found = score(reward, SPEECH, PROMPTS)
    tokens, mask = pad(SPEECH), length_mask(torch.tensor([6, 4]))
    for term, classes in (
        ("emotion", [0, 1]),
        ("speaker", [0, 1]),
        ("quality", [1, 1]),
        ("event", [0, 0]),
    ):
        owner = model if term == "emotion" else other
        posterior = owner.log_posterior(owner.embed(tokens), mask, term)
        torch.testing.assert_close(found[term], posterior[[0, 1], classes])
    total = sum(weights[term] * found[term] for term in weights)
    torch.testing.assert_close(weighted_sum(reward, found), total)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_the_adversarial_step_is_whole_in_half_precision(precision: torch.dtype) -> None:
    """Of a model that is sure and has no smoothed target, p − y is nothing in half precision."""
    model = emotional(3)
    with torch.no_grad():
        model.head["emotion"].bias[0] = 20.0
    hidden, mask = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    constants = LossConfig(adversarial_epsilon=0.5, adversarial_weight=0.5)
    with torch.autocast("cpu", precision):
        found = emotion_loss(model, hidden, mask, targets, constants)
    assert found.delta_ratio is not None
    torch.testing.assert_close(
        found.delta_ratio * hidden.flatten(1).norm(dim=1), torch.full((2,), 0.5)
    )


def test_what_is_detected_is_a_detectors_to_say_where_one_is_given() -> None:
    """And not the mean with a model that was trained on other sounds, which may be there for it."""
    torch.manual_seed(3)
    detector = RewardModel(RewardConfig(tasks={"event": ["none", "plosive"]}, **SHAPE))
    models = [emotional(1), listening(2), detector]
    weights = {"emotion": 1.0, "content": 1.0, "event": 2.0}
    found = score(Reward(models, weights), SPEECH, PROMPTS)
    tokens, mask = pad(SPEECH), length_mask(torch.tensor([6, 4]))
    alone = detector.log_posterior(detector.embed(tokens), mask, "event")[:, 0]
    torch.testing.assert_close(found["event"], alone)
    with pytest.raises(
        UserError, match=r"reward model 2 of 3 has none .*content, speaker, quality"
    ):
        Reward(models, {"emotion": 1.0, "event": 2.0})


def test_a_sound_is_taken_to_be_likelier_than_in_its_detectors_data() -> None:
    """By Bayes' rule; its slope is that of so many times the weight, and never above the weight."""
    torch.manual_seed(3)
    detector = RewardModel(RewardConfig(tasks={"event": ["none", "event"]}, **SHAPE))
    weights = {"emotion": 1.0, "event": 3.0}
    models = [emotional(1), detector]
    plain = score(Reward(models, weights), SPEECH, PROMPTS)["event"].exp()
    likelier = score(Reward(models, weights, event_odds=8.0), SPEECH, PROMPTS)["event"].exp()
    prior = torch.tensor([0.5, 0.5])  # of none and event, as the detector learned them
    likelihoods = torch.stack([plain, 1 - plain]) / prior[:, None]
    shifted = likelihoods * torch.tensor([1 / 9, 8 / 9])[:, None]
    torch.testing.assert_close(likelier, shifted[0] / shifted.sum(0))
    z = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)  # log p / (1 − p)
    log_none = torch.nn.functional.logsigmoid(z)
    (slope,) = torch.autograd.grad(log_without(log_none, 8.0).sum(), z)
    assert bool((slope >= 0).all()) and bool((slope <= 1 + 1e-12).all())
    sure = z > 8
    torch.testing.assert_close(slope[sure], 8 * (-z[sure]).exp(), rtol=3e-3, atol=0.0)
    assert bool((slope[z < -8] > 0.99).all())
    single = torch.tensor([40.0, 0.0, -90.0], requires_grad=True)
    found = log_without(torch.nn.functional.logsigmoid(single), 8.0)
    expected = torch.tensor([0.0, math.log(1 / 9), -90.0 - math.log(8)])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    (slope,) = torch.autograd.grad(found.sum(), single)
    assert bool(slope.isfinite().all())
    assert torch.equal(log_without(plain.log(), 1.0), plain.log())


def test_odds_without_an_event_are_refused() -> None:
    with pytest.raises(UserError, match="event_odds needs the reward event"):
        Reward([emotional(0)], event_odds=8.0)
    detector = RewardModel(RewardConfig(tasks={"event": ["none", "event"]}, **SHAPE))
    for odds in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match=r"event_odds is .*above 0"):
            Reward([detector], {"event": 1.0}, event_odds=odds)


def alignments(log_p: Tensor, text: list[int]) -> float:
    """Sum the probability of every path of symbols and blanks that collapses to the text."""
    import itertools

    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        kept = [s for t, s in enumerate(path) if t == 0 or path[t - 1] != s]
        if [s - 1 for s in kept if s] == text:
            total += float(sum(log_p[t, s] for t, s in enumerate(path)).detach().exp())
    return total


def test_content_is_the_sum_over_all_alignments() -> None:
    model = listening()
    assert model.content is not None
    tokens = torch.tensor([[1, 5, 9, 2]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    hidden = model.encode(model.embed(tokens), mask)
    for text in ([1, 2], [3, 3]):
        found = model.content_log_likelihood(hidden, mask, [torch.tensor(text)])
        expected = alignments(model.content(hidden)[0].log_softmax(-1), text)
        assert float(found[0].detach().exp() ** 2) == pytest.approx(expected, rel=1e-4)


def test_a_text_too_long_for_its_speech_gets_a_floor_and_no_gradient() -> None:
    model = listening()
    embeddings = model.embed(torch.tensor([[1, 5]])).detach().requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)
    hidden = model.encode(embeddings, mask)
    # Two equal symbols need a blank between them: three frames.
    found = model.content_log_likelihood(hidden, mask, [torch.tensor([2, 2])])
    assert float(found.detach()) == IMPOSSIBLE
    (gradient,) = torch.autograd.grad(found.sum(), embeddings)
    assert (gradient == 0).all()


def test_every_term_reaches_the_embeddings() -> None:
    reward = Reward([emotional(0), listening()], {"emotion": 1.0, "content": 1.0, "quality": 1.0})
    mask = length_mask(torch.tensor([6, 4]))
    leaf = reward.table[pad(SPEECH)].detach().requires_grad_()
    assert leaf.shape[-1] == 32
    (gradient,) = torch.autograd.grad(
        weighted_sum(reward, reward.terms(leaf, mask, PROMPTS)).sum(), leaf
    )
    for part in gradient.split([16, 16], dim=-1):
        assert (part[mask].abs().sum(-1) > 0).all()
        assert (part[~mask] == 0).all()


def test_an_ensemble_is_paid_at_its_lower_bound() -> None:
    members = [emotional(seed) for seed in range(3)]
    paid = torch.stack([score(Reward([one]), SPEECH, PROMPTS)["emotion"] for one in members])
    found = score(Reward(members, caution=1.5), SPEECH, PROMPTS)["emotion"]
    torch.testing.assert_close(found, paid.mean(0) - 1.5 * paid.std(0, unbiased=False))
    assert (found < paid.mean(0)).all()
    twins = score(Reward([members[0], members[0]]), SPEECH, PROMPTS)["emotion"]
    torch.testing.assert_close(twins, paid[0])


@given(bound=st.floats(0.2, 5.0))
@settings(max_examples=20, deadline=None)
def test_shaping_keeps_the_order_and_the_bound(bound: float) -> None:
    model = emotional(4)
    plain = score(Reward([model]), SPEECH, PROMPTS)["emotion"]
    shaped = score(Reward([model], bound=bound), SPEECH, PROMPTS)["emotion"]
    assert (shaped >= -bound).all() and (shaped >= plain).all()
    assert bool(plain[0] > plain[1]) == bool(shaped[0] > shaped[1])


def test_requests_that_cannot_be_paid_are_named() -> None:
    with pytest.raises(UserError, match="name at least one"):
        Reward([])
    with pytest.raises(UserError, match="no reward model has a head for 'content'"):
        Reward([emotional(0)], {"content": 1.0})
    with pytest.raises(UserError, match="unknown reward 'loudness'"):
        Reward([emotional(0)], {"loudness": 1.0})
    other = RewardModel(RewardConfig(tasks={"emotion": ["sad", "happy"]}, **SHAPE))
    with pytest.raises(UserError, match="different emotions"):
        Reward([emotional(0), other])
    unknown = Prompt("ab", "happy", torch.tensor([1]), torch.tensor([0]), "oak")
    with pytest.raises(UserError, match="no speaker 'oak'"):
        Reward([listening()], {"speaker": 1.0}).check([unknown])
    foreign = Prompt("ab", "happy", torch.tensor([9]), torch.tensor([0]))
    with pytest.raises(UserError, match="another policy's text"):
        score(Reward([listening()], {"content": 1.0}), SPEECH[:1], [foreign])


def hardened(seed: int, at: str = "frames", alpha: float = 0.5) -> RewardModel:
    torch.manual_seed(seed)
    loss = LossConfig(label_smoothing=0.1, adversarial_weight=alpha, adversarial_at=at)
    return RewardModel(
        RewardConfig(tasks={"emotion": ["happy", "sad", "angry"]}, loss=loss, **SHAPE)
    )


def by_hand(model: RewardModel, labels: list[int], epsilon: float, alpha: float) -> list[float]:
    """−L_ser of each utterance in numpy: FGM at the pooled embedding of a linear head."""
    tokens, mask = pad(SPEECH), length_mask(torch.tensor([6, 4]))
    with torch.no_grad():
        pooled = model.pool(model.encode(model.embed(tokens), mask), mask).double().numpy()
    weight, bias = (value.detach().double().numpy() for value in model.head["emotion"].parameters())
    found = []
    for h, label in zip(pooled, labels, strict=True):
        target = np.full(3, epsilon / 3)
        target[label] += 1 - epsilon
        losses, moved = [], h
        for _ in range(2):
            logits = weight @ moved + bias
            log_p = logits - np.log(np.exp(logits).sum())
            losses.append(-(target * log_p).sum())
            gradient = weight.T @ (np.exp(log_p) - target)
            moved = h + 0.5 * gradient / np.linalg.norm(gradient)
        found.append(-(losses[0] + alpha * losses[1]))
    return found


def test_the_robust_reward_is_minus_the_loss_by_hand() -> None:
    model = hardened(3, "pooled")
    found = score(Reward([model], form="robust"), SPEECH, PROMPTS)["emotion"]
    assert found.shape == (2,)
    assert found.tolist() == pytest.approx(by_hand(model, [0, 1], 0.1, 0.5), abs=1e-5)


def test_a_plain_models_robust_reward_is_its_log_posterior() -> None:
    model = emotional(2)
    both = [score(Reward([model], form=form), SPEECH, PROMPTS) for form in FORMS]
    torch.testing.assert_close(both[0]["emotion"], both[1]["emotion"])
    model = hardened(2)
    both = [score(Reward([model], form=form), SPEECH, PROMPTS) for form in FORMS]
    assert (both[0]["emotion"] < both[1]["emotion"] - 0.05).all()


@pytest.mark.parametrize("at", ["frames", "pooled"])
def test_delta_is_a_constant_in_the_gradient_of_the_robust_reward(at: str) -> None:
    """By finite differences of −(L_emo(h') + α L_emo(h' + δ)) with δ held where it is."""
    model = hardened(4, at).double()
    mask, prompts = length_mask(torch.tensor([6, 4])), PROMPTS
    tokens = pad(SPEECH)
    leaf = model.embed(tokens).detach().requires_grad_()
    reward = Reward([model])
    (gradient,) = torch.autograd.grad(reward.terms(leaf, mask, prompts)["emotion"].sum(), leaf)

    targets = label_smoothing(torch.eye(3, dtype=torch.float64)[[0, 1]], 0.1)

    def loss(hidden: Tensor, moved: Tensor | float) -> Tensor:
        vector = hidden if at == "frames" else model.pool(hidden, mask)
        vector = vector + moved
        logits = model.classify(model.pool(vector, mask) if at == "frames" else vector)
        return -(targets * logits.log_softmax(-1)).sum(1)

    with torch.no_grad():
        hidden = model.encode(leaf, mask)
    vector = (hidden if at == "frames" else model.pool(hidden, mask)).detach().requires_grad_()
    logits = model.classify(model.pool(vector, mask) if at == "frames" else vector)
    attacked = -(targets * logits.log_softmax(-1)).sum()
    delta = adversarial_delta(torch.autograd.grad(attacked, vector)[0], 0.5)
    torch.testing.assert_close(delta.flatten(1).norm(dim=1), torch.full((2,), 0.5).double())

    def value(embeddings: Tensor) -> float:
        with torch.no_grad():
            states = model.encode(embeddings, mask)
            return -float((loss(states, 0.0) + 0.5 * loss(states, delta)).sum())

    for place in [(0, 0, 0), (0, 5, 3), (1, 2, 7), (1, 3, 15)]:
        step = torch.zeros_like(leaf)
        step[place] = 1e-5
        expected = (value(leaf.detach() + step) - value(leaf.detach() - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(expected, rel=1e-4, abs=1e-8)
    assert (gradient[1, 4:] == 0).all()


@given(shift=st.lists(st.floats(-3, 3), min_size=3, max_size=3), alpha=st.sampled_from([0.0, 0.5]))
@settings(max_examples=40, deadline=None)
def test_the_robust_reward_is_greatest_at_the_smoothed_target(
    shift: list[float], alpha: float
) -> None:
    """A head that says the smoothed target of everything; any other posterior is paid less."""
    model = hardened(5, alpha=alpha)
    head = model.head["emotion"]
    best = label_smoothing(torch.tensor([[1.0, 0.0, 0.0]]), 0.1).log()[0]
    found = []
    for bias in (best, best + torch.tensor(shift)):
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(bias)
        found.append(float(score(Reward([model]), SPEECH[:1], PROMPTS[:1])["emotion"]))
    entropy = -float((best.exp() * best).sum())
    assert found[0] == pytest.approx(-(1 + alpha) * entropy, abs=1e-5)
    assert found[1] <= found[0] + 1e-5
    if max(shift) - min(shift) > 0.5:
        assert found[1] < found[0] - 1e-3


def test_the_reward_is_the_same_in_inference_mode() -> None:
    reward = Reward([emotional(0)], form="robust")
    wanted = score(reward, SPEECH, PROMPTS)["emotion"]
    with torch.inference_mode():
        assert torch.equal(score(reward, SPEECH, PROMPTS)["emotion"], wanted)


def test_a_reward_that_is_not_finite_stops() -> None:
    model = emotional(0)
    with torch.no_grad():
        model.head["emotion"].bias[0] = float("nan")
    with pytest.raises(UserError, match="the reward 'emotion' is not finite for 2 of 2 utterances"):
        score(Reward([model]), SPEECH, PROMPTS)


def test_below_the_content_gate_the_emotion_is_not_paid() -> None:
    models, weights = [emotional(0), listening()], {"emotion": 1.0, "content": 1.0}
    free = score(Reward(models, weights), SPEECH, PROMPTS)
    gate = float(free["content"].mean())  # one of the two lies below
    reward = Reward(models, weights, content_gate=gate)
    leaf = reward.table[pad(SPEECH)].detach().requires_grad_()
    mask = length_mask(torch.tensor([6, 4]))
    found = reward.terms(leaf, mask, PROMPTS)
    (gradient,) = torch.autograd.grad(found["emotion"].sum(), leaf)
    passed = free["content"] >= gate
    assert passed.sum() == 1
    assert bool((gradient[passed] != 0).any()) and bool((gradient[~passed] == 0).all())
    chance = torch.full((2,), 0.5).log()
    torch.testing.assert_close(
        found["emotion"], torch.where(passed, free["emotion"], free["emotion"].minimum(chance))
    )
    torch.testing.assert_close(found["content"], free["content"])
    with pytest.raises(UserError, match="content_gate needs the rewards emotion and content"):
        Reward([emotional(0)], content_gate=-1.0)


@pytest.mark.parametrize("bound", [None, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_below_the_gate_at_most_what_speech_of_no_emotion_is_paid(
    form: Form, bound: float | None
) -> None:
    """In either form, shaped or not; a bound above the gate does not open it."""
    models, weights = [emotional(0), listening()], {"emotion": 1.0, "content": 1.0}
    loss = LossConfig(label_smoothing=0.1, adversarial_weight=0.5)
    models[0].config = models[0].config.model_copy(update={"loss": loss})
    models[0].head["emotion"].bias.data[0] += 5.0  # surer of the first than of nothing
    reward = Reward(models, weights, form=form, bound=bound, content_gate=-0.5)
    found = score(reward, SPEECH, PROMPTS)
    assert found["gated"].tolist() == [1.0, 1.0]
    free = score(Reward(models, weights, form=form, bound=bound), SPEECH, PROMPTS)["emotion"]
    models[0].head["emotion"].weight.data.zero_()
    models[0].head["emotion"].bias.data.zero_()
    chance = score(Reward(models[:1], form=form, bound=bound), SPEECH, PROMPTS)["emotion"]
    assert bool((free > chance).any())
    torch.testing.assert_close(found["emotion"], free.minimum(chance))

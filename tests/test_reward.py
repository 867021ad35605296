"""Rewards: each term against the model's own figures, ensembles, shaping, wrong requests."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rrpo.errors import UserError
from rrpo.policy.examples import Prompt
from rrpo.reward import Reward, RewardConfig, RewardModel
from rrpo.reward.model import IMPOSSIBLE
from rrpo.tokens import length_mask, pad

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
    found = reward.score(SPEECH, PROMPTS)
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
    torch.testing.assert_close(reward.total(found), total)


def alignments(log_p: Tensor, text: list[int]) -> float:
    """Sum the probability of every path of symbols and blanks that collapses to the text."""
    import itertools

    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        kept = [s for t, s in enumerate(path) if t == 0 or path[t - 1] != s]
        if [s - 1 for s in kept if s] == text:
            total += float(sum(log_p[t, s] for t, s in enumerate(path)).exp())
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
    (gradient,) = torch.autograd.grad(reward(leaf, mask, PROMPTS).sum(), leaf)
    for part in gradient.split([16, 16], dim=-1):
        assert (part[mask].abs().sum(-1) > 0).all()
        assert (part[~mask] == 0).all()


def test_an_ensemble_is_paid_at_its_lower_bound() -> None:
    members = [emotional(seed) for seed in range(3)]
    paid = torch.stack([Reward([one]).score(SPEECH, PROMPTS)["emotion"] for one in members])
    found = Reward(members, caution=1.5).score(SPEECH, PROMPTS)["emotion"]
    torch.testing.assert_close(found, paid.mean(0) - 1.5 * paid.std(0, unbiased=False))
    assert (found < paid.mean(0)).all()
    twins = Reward([members[0], members[0]]).score(SPEECH, PROMPTS)["emotion"]
    torch.testing.assert_close(twins, paid[0])


@given(bound=st.floats(0.2, 5.0))
@settings(max_examples=20, deadline=None)
def test_shaping_keeps_the_order_and_the_bound(bound: float) -> None:
    model = emotional(4)
    plain = Reward([model]).score(SPEECH, PROMPTS)["emotion"]
    shaped = Reward([model], bound=bound).score(SPEECH, PROMPTS)["emotion"]
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
        Reward([listening()], {"speaker": 1.0}).check(unknown)
    foreign = Prompt("ab", "happy", torch.tensor([9]), torch.tensor([0]))
    with pytest.raises(UserError, match="another policy's text"):
        Reward([listening()], {"content": 1.0}).score(SPEECH[:1], [foreign])

"""Exchanged tokens: the best single one by brute force, budgets, and what a policy would say."""

from itertools import pairwise

import pytest
import torch

from attacked_model import goal, model
from rrpo.attack.goal import margins, untouched
from rrpo.attack.likely import among_likeliest
from rrpo.attack.substitution import by_gradient, by_search
from rrpo.policy import SpeechTokenLM
from rrpo.reward.posteriors import log_posteriors
from tiny_policy import CONFIG, logits_of, prompts


def test_one_exchange_is_the_best_of_all() -> None:
    """Independent form: every token at every place."""
    own, asked = model(), goal()
    classes = asked.classes(own)
    found = by_gradient(own, asked, [1], candidates=27 * 5)[1]
    assert found.tokens is not None
    reached = margins(found.log_posteriors, classes)
    for index, row in enumerate(asked.tokens):
        every = row.repeat(len(row) * 27, 1)
        places = torch.arange(len(row)).repeat_interleave(27)
        every[torch.arange(len(every)), places] = torch.arange(27).repeat(len(row))
        best = margins(log_posteriors(own, list(every)), classes[index].expand(len(every))).max()
        assert float(reached[index]) == pytest.approx(float(best), abs=1e-5)


def test_more_exchanges_never_do_worse() -> None:
    own, asked = model(), goal()
    before = margins(untouched(own, asked).log_posteriors, asked.classes(own))
    found = by_gradient(own, asked, [1, 3, 9], candidates=8)
    for count, outcome in found.items():
        assert outcome.tokens is not None
        for row, changed in zip(asked.tokens, outcome.tokens, strict=True):
            assert 1 <= int((row != changed).sum()) <= min(count, len(row))
    reached = [margins(found[count].log_posteriors, asked.classes(own)) for count in (1, 3, 9)]
    for fewer, more in pairwise([before, *reached]):
        assert (more >= fewer).all()
    assert (reached[0] > before).all()
    assert (reached[2] > reached[1]).any()
    assert found[9].tokens is not None
    torch.testing.assert_close(found[9].log_posteriors, log_posteriors(own, found[9].tokens))


def test_at_most_so_many_may_be_none() -> None:
    """Tried with a single candidate, or at random, an exchange may be for the worse."""
    own, asked = model(), goal()
    before = margins(untouched(own, asked).log_posteriors, asked.classes(own))
    every = torch.zeros(27, dtype=torch.bool)
    allowed = [
        every.clone().index_fill(0, row[:1], True).expand(len(row), -1) for row in asked.tokens
    ]
    found = [by_gradient(own, asked, [1], allowed, 1)[1], by_search(own, asked, 1, 1, 3)]
    kept = []
    for outcome in found:
        assert outcome.tokens is not None
        assert (margins(outcome.log_posteriors, asked.classes(own)) >= before).all()
        torch.testing.assert_close(outcome.log_posteriors, log_posteriors(own, outcome.tokens))
        kept += [torch.equal(*pair) for pair in zip(asked.tokens, outcome.tokens, strict=True)]
    assert any(kept) and not all(kept)


def test_only_allowed_tokens_are_exchanged_for() -> None:
    own, asked = model(), goal()
    generator = torch.Generator().manual_seed(0)
    allowed = [torch.rand(len(row), 27, generator=generator) < 0.2 for row in asked.tokens]
    allowed[0][:] = False
    outcome = by_gradient(own, asked, [2], allowed)[2]
    assert outcome.tokens is not None
    assert torch.equal(outcome.tokens[0], asked.tokens[0])
    for row, changed, may in zip(asked.tokens, outcome.tokens, allowed, strict=True):
        places = (row != changed).nonzero()[:, 0]
        assert may[places, changed[places]].all()
    assert any((row != one).any() for row, one in zip(asked.tokens, outcome.tokens, strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_the_search_keeps_its_budget_and_helps(count: int) -> None:
    own, asked = model(), goal()
    classes = asked.classes(own)
    short, long = (by_search(own, asked, count, passes, 5) for passes in (1, 60))
    assert long.tokens is not None
    for row, changed in zip(asked.tokens, long.tokens, strict=True):
        assert int((row != changed).sum()) <= count
    torch.testing.assert_close(long.log_posteriors, log_posteriors(own, long.tokens))
    reached = [margins(one.log_posteriors, classes) for one in (short, long)]
    assert (reached[1] >= reached[0]).all()
    assert (reached[1] > reached[0]).any()
    again = by_search(own, asked, count, 60, 5)
    assert torch.equal(again.log_posteriors, long.log_posteriors)


def test_the_likeliest_are_those_of_the_dense_pass() -> None:
    torch.manual_seed(0)
    lm = SpeechTokenLM(CONFIG).eval()
    asked = prompts(3, 5, 2)
    generator = torch.Generator().manual_seed(2)
    speech = [torch.randint(27, (size,), generator=generator) for size in (4, 2, 6)]
    for prompt, tokens, may in zip(
        asked, speech, among_likeliest(lm, asked, speech, 4), strict=True
    ):
        dense = logits_of(lm, prompt, tokens)[: len(tokens), :27]
        expected = torch.zeros(len(tokens), 27, dtype=torch.bool)
        for place, row in enumerate(dense):
            expected[place, row.argsort(descending=True)[:4]] = True
        assert torch.equal(may, expected)

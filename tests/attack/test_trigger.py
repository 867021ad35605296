"""A universal trigger: one string for each emotion, never tried on what it was found on."""

import torch

from attacked_model import goal, model
from rrpo.attack.goal import margins
from rrpo.attack.trigger import trigger


def test_a_half_shares_a_string_for_each_emotion() -> None:
    own, asked = model(), goal(12)
    found = trigger(own, asked, length=3, rounds=2)
    assert found.tokens is not None
    strings: dict[tuple[int, str], set[tuple[int, ...]]] = {}
    for place, (row, changed) in enumerate(zip(asked.tokens, found.tokens, strict=True)):
        assert torch.equal(changed[: len(row)], row)
        assert len(changed) == len(row) + 3
        key = place % 2, asked.emotions[place]
        strings.setdefault(key, set()).add(tuple(changed[len(row) :].tolist()))
    assert all(len(one) == 1 for one in strings.values())
    assert len(strings) == 6


def test_more_rounds_help_where_it_was_found() -> None:
    """An utterance twice in the goal, at an even and an odd place: found on one, tried on both."""
    own, asked = model(), goal(2)
    twice = type(asked)([asked.rows[0]] * 2, [asked.emotions[0]] * 2)
    reached = [
        float(margins(trigger(own, twice, rounds=rounds).log_posteriors, twice.classes(own)).mean())
        for rounds in (0, 6)
    ]
    assert reached[1] > reached[0] + 0.01

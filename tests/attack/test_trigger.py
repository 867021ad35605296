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


def test_each_half_has_both_of_two_emotions() -> None:
    """As they are drawn by turns, every second utterance would be of one emotion alone."""
    own, asked = model(), goal(12)
    two = [place for place, row in enumerate(asked.rows) if row.emotion in ("happy", "sad")]
    rows = [asked.rows[place] for place in two]
    wanted = [{"happy": "sad", "sad": "happy"}[row.emotion] for row in rows]
    found = trigger(own, type(asked)(rows, wanted), length=3, rounds=1)
    assert found.passes > 0
    assert found.tokens is not None
    before = [torch.from_numpy(row.tokens) for row in rows]
    assert [len(one) for one in found.tokens] == [len(one) + 3 for one in before]


def test_where_none_can_be_found_nothing_is_tried() -> None:
    own, asked = model(), goal(12)
    alone = type(asked)(asked.rows[:1], asked.emotions[:1])
    assert trigger(own, alone).passes == 0

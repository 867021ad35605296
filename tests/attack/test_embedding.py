"""Ascent in the embeddings, against the optimum that is known where the model is linear."""

from itertools import pairwise

import pytest
import torch

from attacked_model import goal, model
from rrpo.attack.embedding import ascend
from rrpo.attack.goal import Goal, margins, untouched


@pytest.mark.parametrize("epsilon", [0.25, 2.0])
def test_the_pooled_vector_reaches_the_optimum_of_a_linear_head(epsilon: float) -> None:
    """With two classes the margin rises by ε ‖w_t − w_o‖ and by no more (Cauchy-Schwarz)."""
    own = model(emotions=["neutral", "happy"])
    rows = [row for row in goal(12).rows if row.emotion != "sad"]
    asked = Goal(rows, ["happy" if row.emotion == "neutral" else "neutral" for row in rows])
    classes = asked.classes(own)
    weight = own.head["emotion"].weight.detach()
    most = epsilon * float((weight[0] - weight[1]).norm())
    before = margins(untouched(own, asked).log_posteriors, classes)
    after = margins(ascend(own, asked, epsilon, "pooled").log_posteriors, classes)
    torch.testing.assert_close(after - before, torch.full_like(before, most), atol=1e-4, rtol=1e-4)


def test_frames_do_no_worse_than_one_step_of_fgm_and_more_room_is_more() -> None:
    own, asked = model(), goal(9)
    classes = asked.classes(own)
    before = margins(untouched(own, asked).log_posteriors, classes)
    reached = [before]
    for epsilon in (0.1, 0.5, 2.0):
        found = ascend(own, asked, epsilon)
        assert found.tokens is None
        assert found.vanished is not None and not found.vanished.any()
        reached.append(margins(found.log_posteriors, classes))
    for less, more in pairwise(reached):
        assert (more > less).all()
    one = margins(ascend(own, asked, 0.5, steps=2).log_posteriors, classes)
    assert (reached[2] >= one - 1e-6).all()


def test_a_gradient_that_is_zero_is_told() -> None:
    own = model()
    torch.nn.init.zeros_(own.head["emotion"].weight)
    found = ascend(own, goal(), 1.0)
    assert found.vanished is not None and found.vanished.all()

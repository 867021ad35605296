"""The robustness figures against direct search and against an unpushed model."""

import numpy as np
import torch

from rrpo.data.shards import Utterance
from rrpo.evaluate.robustness import figures, pushed, scrambled
from rrpo.evaluate.ser import recognise
from rrpo.reward import RewardConfig, RewardModel

EMOTIONS = ["neutral", "happy"]
CONFIG = RewardConfig(
    width=16, layers=1, heads=2, feedforward=16, codes=27, tasks={"emotion": EMOTIONS}
)


def made() -> tuple[RewardModel, list[Utterance]]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    rows = [
        Utterance(f"{index}", "", EMOTIONS[index % 2], rng.integers(27, size=int(size)))
        for index, size in enumerate(rng.integers(3, 9, size=40))
    ]
    return RewardModel(CONFIG).eval(), rows


def right(model: RewardModel, rows: list[Utterance]) -> list[bool]:
    """Whether the model is right about each utterance as it is."""
    found = recognise(model, rows)
    return (found.predictions == found.labels).tolist()


def test_no_push_and_no_noise_is_the_plain_accuracy() -> None:
    model, rows = made()
    plain = right(model, rows)
    assert pushed(model, rows, 1e-9) == plain
    assert scrambled(model, rows, 0.0) == plain


def test_a_push_is_that_of_each_utterance_alone() -> None:
    """One step over all its frames, of the length epsilon; padding has no part in it."""
    model, rows = made()
    before = right(model, rows)
    for epsilon in (0.1, 2.0, 20.0):
        for row, verdict in zip(rows, pushed(model, rows, epsilon), strict=True):
            tokens = torch.from_numpy(row.tokens)[None]
            mask = torch.ones_like(tokens, dtype=torch.bool)
            hidden = model.encode(model.embed(tokens), mask).detach().requires_grad_()
            asked = torch.tensor([EMOTIONS.index(row.emotion)])
            loss = torch.nn.functional.cross_entropy(
                model.classify(model.pool(hidden, mask)), asked
            )
            (gradient,) = torch.autograd.grad(loss, hidden)
            step = epsilon * gradient / gradient.square().sum().sqrt()
            moved = model.classify(model.pool(hidden + step, mask)).argmax(-1)
            assert bool((moved == asked).all()) == verdict
    assert sum(pushed(model, rows, 20.0)) < sum(before)


def test_noise_is_decided_by_the_seed() -> None:
    model, rows = made()
    assert scrambled(model, rows, 0.5, seed=1) == scrambled(model, rows, 0.5, seed=1)


def test_only_emotions_of_both_sides_are_scored() -> None:
    """A third class that always wins changes nothing, nor do emotions the model lacks."""
    model, rows = made()
    wider = RewardModel(CONFIG.model_copy(update={"tasks": {"emotion": [*EMOTIONS, "sad"]}})).eval()
    state = model.state_dict()
    for name in ("head.emotion.weight", "head.emotion.bias"):
        more = torch.zeros(1, *state[name].shape[1:]) + (100.0 if name.endswith("bias") else 0.0)
        state[name] = torch.cat([state[name], more])
    wider.load_state_dict(state)
    others = [Utterance("x", "", "bored", rows[0].tokens), *rows]
    assert figures(wider, others) == figures(model, rows)
    assert pushed(wider, rows, 0.5) == pushed(model, rows, 0.5)

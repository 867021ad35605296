"""The robustness figures against direct search and against an unpushed model."""

import numpy as np
import torch

from rrpo.data.shards import Utterance
from rrpo.evaluate.robustness import pushed, scrambled
from rrpo.reward import RewardConfig, RewardModel
from rrpo.reward.fit import evaluate

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


def test_no_push_and_no_noise_is_the_plain_accuracy() -> None:
    model, rows = made()
    plain = evaluate(model, rows)["correct"]
    assert pushed(model, rows, 1e-9) == plain
    assert scrambled(model, rows, 0.0) == plain


def test_a_push_only_turns_right_to_wrong_and_more_with_its_length() -> None:
    """For two classes the head is linear in h', so the gradient is the worst direction."""
    model, rows = made()
    counts = []
    before = evaluate(model, rows)["correct"]
    for epsilon in (0.1, 0.5, 2.0, 20.0):
        after = pushed(model, rows, epsilon)
        assert all(was or not now for was, now in zip(before, after, strict=True))
        counts.append(sum(after))
        before = after
    assert counts[-1] == 0
    weight = model.head["emotion"].weight
    step = 0.5 * torch.nn.functional.normalize(weight[1] - weight[0], dim=0)
    for row, verdict in zip(rows, pushed(model, rows, 0.5), strict=True):
        tokens = torch.from_numpy(row.tokens)[None]
        mask = torch.ones_like(tokens, dtype=torch.bool)
        pooled = model.pool(model.encode(model.embed(tokens), mask), mask)
        sign = 1 if row.emotion == "neutral" else -1
        moved = model.classify(pooled + sign * step).argmax(-1)
        assert bool(EMOTIONS[int(moved)] == row.emotion) == verdict


def test_noise_is_decided_by_the_seed() -> None:
    model, rows = made()
    assert scrambled(model, rows, 0.5, seed=1) == scrambled(model, rows, 0.5, seed=1)

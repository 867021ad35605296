"""Tests of exchanging tokens so that the loss rises."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rrpo.data.shards import Utterance
from rrpo.reward.config import FitConfig, RewardConfig
from rrpo.reward.exchange import exchanged
from rrpo.reward.fit import RewardObjective
from rrpo.reward.model import RewardModel
from rrpo.reward.posteriors import log_posteriors
from rrpo.tokens import batch
from rrpo.train import TrainConfig
from rrpo.train import train as loop

CLASSES = ["calm", "angry"]
SHAPE = RewardConfig(
    width=8, layers=1, heads=2, feedforward=16, dropout=0.0, codes=27, tasks={"emotion": CLASSES}
)
CLICK = 26
"""A code that the class says nothing about, but the data does."""


def speech(seed: int = 0, count: int = 5) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, count)
    return batch([torch.from_numpy(rng.integers(0, 20, n)) for n in lengths], torch.device("cpu"))


def new_model(seed: int = 0) -> RewardModel:
    torch.manual_seed(seed)
    return RewardModel(SHAPE).double()


def targets_of(count: int) -> Tensor:
    return functional.one_hot(torch.arange(count) % 2, 2).double() * 0.9 + 0.05


def losses(model: RewardModel, embeddings: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
    return -(targets * model.log_posterior(embeddings, mask)).sum(-1)


def test_exchanges_are_the_steepest_by_finite_differences() -> None:
    """Of every place and every code of the batch a small step towards it is tried."""
    model, (tokens, mask) = new_model(), speech()
    targets, count, step = targets_of(len(tokens)), 2, 1e-6
    found = exchanged(model, tokens, mask, targets, count)
    codes = tokens[mask].unique()
    with torch.no_grad():
        start = model.embed(tokens)
        before = losses(model, start, mask, targets)
        for row, own in enumerate(tokens):
            rises: dict[int, tuple[float, int]] = {}
            for place in mask[row].nonzero()[:, 0].tolist():
                for code in codes.tolist():
                    moved = start.clone()
                    moved[row, place] += step * (model.table[code] - model.table[own[place]])
                    rise = float(losses(model, moved, mask, targets)[row] - before[row]) / step
                    rises[place] = max(rises.get(place, (0.0, int(own[place]))), (rise, code))
            wanted = own.clone()
            for place in sorted(rises, key=lambda one: -rises[one][0])[:count]:
                wanted[place] = rises[place][1]
            assert found[row].tolist() == wanted.tolist()


@pytest.mark.parametrize("count", [1, 3, 100])
def test_at_most_so_many_differ_and_the_rest_stays(count: int) -> None:
    model, (tokens, mask) = new_model(1), speech(1)
    targets = targets_of(len(tokens))
    found = exchanged(model, tokens, mask, targets, count)
    assert ((found != tokens).sum(1) <= count).all()
    assert torch.equal(found[~mask], tokens[~mask])
    assert set(found[mask].tolist()) <= set(tokens[mask].tolist())
    with torch.no_grad():
        before, after = (
            losses(model, model.embed(one), mask, targets).mean() for one in (tokens, found)
        )
    assert after > before
    assert all(weight.grad is None for weight in model.parameters())


def test_a_bias_belongs_to_the_loss() -> None:
    """What the bias model explains already, nobody gains by exchanging."""
    model, (tokens, mask) = new_model(2), speech(2)
    targets = functional.one_hot(torch.zeros(len(tokens), dtype=torch.int64), 2).double()
    bias = torch.tensor([[1e6, 0.0]]).double().expand(len(tokens), 2)
    assert torch.equal(exchanged(model, tokens, mask, targets, 3, bias), tokens)
    assert not torch.equal(exchanged(model, tokens, mask, targets, 3), tokens)


def test_less_than_one_is_refused() -> None:
    tokens, mask = speech()
    with pytest.raises(ValueError, match="at least 1"):
        exchanged(new_model(), tokens, mask, targets_of(len(tokens)), 0)


def clicking(count: int, seed: int, clicks: bool) -> list[Utterance]:
    """Utterances whose class prefers ten codes; with clicks nine in ten of the angry have one."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 2
        own = rng.integers(10 * label, 10 * label + 10, 8)
        tokens = np.where(rng.random(8) < 0.7, own, rng.integers(0, 20, 8))
        if clicks and label and rng.random() < 0.9:
            tokens[rng.integers(8)] = CLICK
        rows.append(Utterance(f"{number}", "", CLASSES[label], tokens))
    return rows


@pytest.mark.slow
def test_training_on_exchanged_tokens_unlearns_a_click(tmp_path: Path) -> None:
    """Without being told which token it is; and the classes are still known."""
    gains, right = {}, {}
    calm = [row for row in clicking(200, 1, False) if row.emotion == "calm"]
    clean = [torch.from_numpy(row.tokens) for row in calm]
    clicked = [row.index_fill(0, torch.tensor([3]), CLICK) for row in clean]
    for count in (0, 2):
        torch.manual_seed(0)
        model = RewardModel(SHAPE.model_copy(update={"width": 16, "feedforward": 32}))
        config = FitConfig(
            batch_size=32, label_smoothing=0.0, mixup=False, adversarial=False, exchanged=count
        )
        objective = RewardObjective(model, clicking(300, 0, True), config)
        loop(objective, TrainConfig(steps=150, learning_rate=3e-3), tmp_path / str(count))
        logged = (tmp_path / str(count) / "metrics.jsonl").read_text().splitlines()[-1]
        assert ("loss_exchanged" in json.loads(logged)) == bool(count)
        before, after = log_posteriors(model, clean), log_posteriors(model, clicked)
        gains[count] = float((after - before)[:, 1].mean())
        right[count] = float((before.argmax(1) == 0).float().mean())
    assert gains[0] > 1.0
    assert gains[2] < 0.5 * gains[0]
    assert right[2] > right[0] - 0.05

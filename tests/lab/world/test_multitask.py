"""The multi-task reward model: what is degraded, and that each task is learnt on a toy language."""

import numpy as np
import pytest
import torch

from rrpo.errors import UserError
from rrpo.evaluate.tasks import edits, read_classes
from rrpo.reward import RewardConfig, RewardModel
from rrpo_world.multitask import MultiTaskObjective, Sample, degrade, figures

TASKS = {"speaker": ["main", "maple"], "quality": ["spoilt", "clean"], "event": ["none", "click"]}


def model() -> RewardModel:
    torch.manual_seed(0)
    shape = {"width": 32, "layers": 1, "heads": 2, "feedforward": 64, "dropout": 0.0, "codes": 60}
    return RewardModel(RewardConfig(tasks=TASKS, phones=6, **shape))


def sample(rng: np.random.Generator, with_event: bool = False) -> Sample:
    """Each symbol is said for two or three frames; a voice has codes of its own."""
    text = rng.integers(6, size=5)
    maple = bool(rng.integers(2))
    frames = np.repeat(text * 4 + rng.integers(2, size=5) + 24 * maple, rng.integers(2, 4, size=5))
    if with_event:
        frames[rng.integers(frames.size)] = 59
    name, event = ("maple" if maple else "main"), ("click" if with_event else "none")
    return Sample(torch.from_numpy(frames), torch.from_numpy(text), name, event)


def test_degraded_speech_keeps_its_length_and_its_codes() -> None:
    rng = np.random.default_rng(0)
    tokens = np.arange(40)
    changed = 0
    for _ in range(200):
        found = degrade(tokens, 60, rng)
        assert found.shape == tokens.shape and found.min() >= 0 and found.max() < 60
        changed += not np.array_equal(found, tokens)
    assert changed > 190
    assert np.array_equal(tokens, np.arange(40))
    assert degrade(np.array([3, 4]), 60, rng).size == 2


@pytest.mark.slow
def test_a_toy_language_is_learnt() -> None:
    rng = np.random.default_rng(1)
    made = model()
    clean = [sample(rng) for _ in range(300)]
    with_event = [sample(rng, True) for _ in range(100)]
    objective = MultiTaskObjective(made, clean, with_event, batch_size=32)
    made.train()
    optimizer = torch.optim.AdamW(made.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 201):
        loss, metrics = objective.loss(step, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert set(metrics) == {"speaker", "event", "quality", "content"}
    found = figures(made, [sample(rng) for _ in range(60)], [sample(rng, True) for _ in range(30)])
    assert found["phone_error"].mean < 0.2
    assert found["speaker"].mean > 0.95
    assert found["event"].mean > 0.9
    assert found["quality"].mean > 0.65
    one = sample(rng)
    assert edits(read_classes(made, [one.tokens])[0], (one.text + 1).tolist()) <= 2


def test_data_that_does_not_fit_is_named() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(UserError, match="speech as it is and speech with an event"):
        MultiTaskObjective(model(), [sample(rng)], [])
    stranger = Sample(torch.tensor([1]), torch.tensor([1]), "oak")
    with pytest.raises(UserError, match="no speaker 'oak'"):
        MultiTaskObjective(model(), [stranger], [sample(rng, True)])

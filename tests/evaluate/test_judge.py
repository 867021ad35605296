"""The emotion judge on known classes."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from places import CORPORA
from rrpo.checkpoint import save_model
from rrpo.errors import UserError
from rrpo.evaluate import judge as room
from rrpo.evaluate.functionals import functionals, names
from rrpo.evaluate.judge import EmotionJudge, hold_out
from rrpo.sound.file import read


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy data is learned long before a real judge's number of steps."""
    monkeypatch.setattr(room, "STEPS", 200)


def clusters(count: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, count)
    centres = np.random.default_rng(99).normal(0, 1, (6, len(names())))
    return centres[labels] * 0.35 + spread * rng.normal(size=(count, len(names()))), labels


@pytest.mark.slow
def test_fit_learns_is_calibrated_and_repeats() -> None:
    inputs, labels = clusters(600, 0)
    held, truth = clusters(600, 1)
    judge = EmotionJudge.fit(inputs, labels, seed=3)
    found = judge.classify(held)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
    assert balanced_accuracy_score(truth, found.argmax(1)) > 0.75
    assert found.max(1).mean() == pytest.approx((found.argmax(1) == truth).mean(), abs=0.08)
    assert np.array_equal(found, EmotionJudge.fit(inputs, labels, seed=3).classify(held))
    assert not np.array_equal(found, EmotionJudge.fit(inputs, labels, seed=4).classify(held))


def test_labels_without_meaning_give_chance_and_no_confidence() -> None:
    inputs, labels = clusters(400, 0)
    shuffled = np.random.default_rng(0).permutation(labels)
    found = EmotionJudge.fit(inputs, shuffled).classify(clusters(400, 1)[0])
    assert found.max(1).mean() < 0.45


def test_what_is_held_out_is_whole_groups() -> None:
    groups = [f"sentence {index // 3}" for index in range(30)]
    held, kept = hold_out(groups, torch.Generator().manual_seed(0))
    assert sorted([*held.tolist(), *kept.tolist()]) == list(range(30))
    assert not {groups[index] for index in held} & {groups[index] for index in kept}
    assert held.numel() == 6
    with pytest.raises(UserError, match="at least two sentences"):
        hold_out(["one"] * 12, torch.Generator())


def test_a_wild_feature_does_not_decide_alone() -> None:
    inputs, labels = clusters(600, 0)
    judge = EmotionJudge.fit(inputs, labels)
    held, _ = clusters(200, 1)
    wild = held.copy()
    wild[:, 7] = 1e9
    same = judge.classify(wild).argmax(1) == judge.classify(held).argmax(1)
    assert same.mean() > 0.7


def test_a_saved_judge_is_the_same_judge(tmp_path: Path) -> None:
    judge = EmotionJudge.fit(*clusters(60, 0))
    judge.save(tmp_path)
    again = EmotionJudge.load(tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    audios = [noise.astype(np.float32), np.zeros(4000, np.float32)]
    assert again.emotions == judge.emotions
    assert np.array_equal(again.probabilities_batch(audios), judge.probabilities_batch(audios))
    together = again.probabilities_batch(audios)
    np.testing.assert_allclose(again.probabilities_batch([audios[1]])[0], together[1], atol=1e-5)
    assert again.probabilities_batch([]).shape == (0, 6)


def test_a_judge_for_other_features_is_refused(tmp_path: Path) -> None:
    judge = EmotionJudge.fit(*clusters(60, 0))
    config = {"kind": "judge", "emotions": list(judge.emotions), "features": ["loudness"]}
    save_model(tmp_path / "other", judge.state, config)
    with pytest.raises(UserError, match="other features"):
        EmotionJudge.load(tmp_path / "other")
    state = {name: tensor for name, tensor in judge.state.items() if name != "bias"}
    save_model(tmp_path / "part", state, config | {"features": list(names())})
    with pytest.raises(UserError, match="damaged"):
        EmotionJudge.load(tmp_path / "part")
    with pytest.raises(UserError, match="no judge"):
        EmotionJudge.load(tmp_path)


def test_unfit_training_data_is_the_users_mistake() -> None:
    inputs, labels = clusters(30, 0)
    for bad_inputs, bad_labels in (
        (inputs[:5], labels[:5]),
        (inputs, labels[:-1]),
        (inputs, labels + 6),
        (np.where(np.arange(30)[:, None] == 3, np.nan, inputs), labels),
    ):
        with pytest.raises(UserError):
            EmotionJudge.fit(bad_inputs, bad_labels)
    with pytest.raises(UserError):
        EmotionJudge.fit(inputs, labels).classify(inputs[:, :3])


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora do not lie beside the checkout")
@pytest.mark.slow
def test_unseen_german_speakers_are_judged_above_chance() -> None:
    emotions = ("neutral", "angry", "happy", "sad")
    with (CORPORA / "emodb" / "manifest.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["emotion"] in emotions]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:170]]
    inputs = np.stack([functionals(read(CORPORA / row["path"])) for row in rows])
    labels = np.array([emotions.index(row["emotion"]) for row in rows])
    unseen = np.array([row["speaker"] in ("03", "08", "11", "16") for row in rows])
    judge = EmotionJudge.fit(inputs[~unseen], labels[~unseen], 0, emotions)
    assert balanced_accuracy_score(labels[unseen], judge.classify(inputs[unseen]).argmax(1)) > 0.55

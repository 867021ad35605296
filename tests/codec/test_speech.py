from pathlib import Path

import numpy as np
import pytest
import torch

from rrpo.codec import speech, whisper
from rrpo.codec.speech import SpeechTokenizer, SpeechTokenizerConfig
from rrpo.codec.states import hear, measure_scale, pooled
from rrpo.codec.whisper import WhisperConfig, WhisperEncoder
from rrpo.errors import UserError
from rrpo.reward import RewardConfig, RewardModel, load
from rrpo.tokens import digits
from rrpo.train import TrainConfig, train
from rrpo_studies.real_speech.ceiling import CeilingObjective, StateRewardModel
from rrpo_studies.real_speech.pretrain import PretrainObjective, Telling
from rrpo_studies.real_speech.state_cache import StateCache
from rrpo_studies.real_speech.summaries import fit_summary
from rrpo_studies.real_speech.train_speech import (
    Hearing,
    SpeechTokenizerFit,
    SpeechTokenizerObjective,
    new_tokenizer,
    told_errors,
)

SMALL = SpeechTokenizerConfig(states=12, layers=1, width=16, dilations=(1, 2), summary=4)
REWARD = RewardConfig(
    width=16, layers=1, heads=2, feedforward=32, tasks={"emotion": ["sad", "fun"]}
)


def encoder() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(WhisperConfig(width=6, heads=2, layers=1)).eval()


def utterances(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(5 + 3 * n, 12, generator=generator) * 2 + n % 3).half() for n in range(count)
    ]


def hearing(model: SpeechTokenizer) -> Hearing:
    return Hearing(utterances(9), ["ann", "bob", "cy"] * 3, model)


def test_pooling_sees_valid_frames_alone() -> None:
    frames = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    found = pooled(frames, mask)
    for row, size in enumerate((7, 4)):
        own = frames[row, :size].numpy()
        expected = np.concatenate([own.mean(0), np.sqrt(own.var(0) + 1e-6)])
        assert np.allclose(found[row], expected, atol=1e-5)


def test_the_scale_is_that_of_all_frames_together() -> None:
    heard = utterances(5)
    scale, together = measure_scale(heard), torch.cat(heard).double()
    assert torch.allclose(scale.mean, together.mean(0).float(), atol=1e-5)
    assert torch.allclose(scale.deviation, together.std(0, correction=0).float(), atol=1e-5)


def test_a_summary_does_not_know_the_speaker() -> None:
    """What is added to everything a speaker says, such as a channel, leaves no trace."""
    states = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    names = ["ann", "bob", "cy"] * 10
    offset = torch.tensor([[5.0], [-3.0], [0.0]]).repeat(10, 8)
    plain, moved = fit_summary(states, names, 4), fit_summary(states + offset, names, 4)
    # The sign of a principal component is free.
    found = plain.of(states, names)
    assert torch.allclose(found.abs(), moved.of(states + offset, names).abs(), atol=1e-4)
    assert float(found.square().mean()) == pytest.approx(1.0, abs=1e-4)
    covariance = found.T @ found / len(found)
    assert torch.allclose(covariance, covariance.diag().diag(), atol=1e-4)


def test_states_are_kept_by_what_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 0.1, (2, 6500)).astype(np.float32)
    cache = StateCache(tmp_path, encoder())
    found = cache.hear(first)
    assert found.shape == (11, 12)
    assert torch.allclose(found, hear(encoder(), first).half())
    calls = []
    monkeypatch.setattr(
        "rrpo_studies.real_speech.state_cache.hear",
        lambda *given: calls.append(given) or torch.zeros(1, 12),
    )
    assert torch.equal(cache.hear(first.copy()), found)
    assert not calls
    cache.hear(second)
    assert len(calls) == 1
    other = encoder()
    other.positions.data += 1
    StateCache(tmp_path, other).hear(first)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "sound", [np.zeros(0), np.zeros((2, 640)), np.full(640, np.nan), np.full(640, np.inf)]
)
def test_what_cannot_be_heard_says_so(sound: np.ndarray) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        hear(encoder(), sound.astype(np.float32))


def test_ids_are_the_digits_and_survive_saving(tmp_path: Path) -> None:
    model = new_tokenizer(3, SMALL)
    hearing(model)  # sets the scale
    states = utterances(1, seed=5)[0]
    found = model.eval().tokens(states)
    mask = torch.ones(1, len(states), dtype=torch.bool)
    with torch.no_grad():
        quantised = model.quantise(model.scaled(states)[None], mask)[0]
    assert torch.equal(digits(found), quantised.round().long() + 1)
    speech.save(model, tmp_path / "tokenizer")
    assert torch.equal(speech.load(tmp_path / "tokenizer").tokens(states), found)


def test_audio_gives_twenty_five_tokens_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "load", lambda layers: encoder())  # noqa: ARG005
    model = new_tokenizer(0, SMALL)
    sound = np.random.default_rng(0).normal(0, 0.1, 16001).astype(np.float32)
    ids = model.encode(sound)
    assert ids.shape == (26,)
    with pytest.raises(UserError, match="cannot be turned into audio"):
        model.decode(ids)


def test_stretches_are_cut_where_asked_and_short_utterances_taken_whole() -> None:
    model = new_tokenizer(0, SMALL)
    heard = hearing(model)
    scaled, mask, summary = heard.windows([0, 8], [0.0, 0.999], 10)
    assert scaled.shape == (2, 10, 12)
    assert mask.sum(1).tolist() == [5, 10]
    assert torch.allclose(scaled[1], model.scaled(heard.states[8][-10:]))
    assert summary.shape == (2, 4)
    whole, _, summaries = heard.windows(range(9), [0.0] * 9, 40)
    assert whole.shape[1] == 29
    assert torch.allclose(summaries, heard.summaries, atol=1e-4)


def test_errors_do_not_see_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    scaled, told = torch.randn(2, 2, 6, 3, generator=generator)
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    states, summary = told_errors((told, torch.ones(2, 4)), scaled, mask, torch.zeros(2, 4))
    by_hand = torch.cat([(told - scaled)[0], (told - scaled)[1, :2]]).square().mean()
    assert float(states) == pytest.approx(float(by_hand))
    assert float(summary) == 1.0


@pytest.mark.slow
def test_training_makes_tokens_tell_more(tmp_path: Path) -> None:
    model = new_tokenizer(0, SMALL)
    objective = SpeechTokenizerObjective(model, hearing(model), SpeechTokenizerFit(window=20))
    loss = objective.loss(1, torch.Generator().manual_seed(1))[0]
    before = loss.item()
    loss.backward()
    gradient = model.listen.weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0  # it passes the rounding
    model.zero_grad()
    train(objective, TrainConfig(steps=60, learning_rate=3e-3), tmp_path, description="")
    after = objective.loss(1, torch.Generator().manual_seed(1))[0].item()
    assert after < 0.8 * before


def test_a_tokenizer_needs_speakers() -> None:
    with pytest.raises(UserError, match="with their speakers"):
        Hearing(utterances(2), ["ann", ""], new_tokenizer(0, SMALL))


@pytest.mark.slow
def test_pretraining_teaches_the_encoder_and_saves_a_reward_model(tmp_path: Path) -> None:
    model = new_tokenizer(0, SMALL)
    heard = hearing(model)
    tokens = [model.eval().tokens(states) for states in heard.states]
    torch.manual_seed(0)
    telling = Telling(RewardModel(REWARD), 12, 4)
    objective = PretrainObjective(telling, tokens, heard, batch_size=8)
    first = objective.loss(1, torch.Generator().manual_seed(0))[0].item()
    train(objective, TrainConfig(steps=80, learning_rate=3e-3), tmp_path, description="")
    telling.eval()
    assert objective.loss(1, torch.Generator().manual_seed(0))[0].item() < 0.8 * first
    stored = load(tmp_path / "checkpoint")
    assert torch.equal(stored.table, telling.reward.table)


def test_the_ceiling_reads_states_and_not_padding() -> None:
    torch.manual_seed(0)
    model = StateRewardModel(RewardModel(REWARD), 12)
    rows = [states.float() for states in utterances(3)]
    together = model.log_posteriors(rows)
    for row, states in enumerate(rows):
        assert torch.allclose(together[row], model.log_posteriors([states])[0], atol=1e-5)
    assert torch.allclose(together.exp().sum(1), torch.ones(3), atol=1e-5)
    objective = CeilingObjective(model, rows, [0, 1, 1])
    model.train()
    loss, _ = objective.loss(1, torch.Generator().manual_seed(0))
    loss.backward()
    assert float(model.listen.weight.grad.abs().max()) > 0

"""Tests of the three regularizers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rrpo.reward.regularize import (
    adversarial_delta,
    embedding_mixup,
    energy_adaptive_mixup,
    label_smoothing,
    mixed_targets,
)


def noise(seed: int, length: int, peak: float = 0.1) -> np.ndarray:
    """Samples of random sign whose size lies between a half and all of `peak`: never silent."""
    rng = np.random.default_rng(seed)
    return (rng.choice([-1, 1], length) * rng.uniform(0.5, 1.0, length) * peak).astype(np.float32)


def added(mixed: np.ndarray, audio: np.ndarray) -> tuple[int, int]:
    """First and last place (excluded) at which the mixture differs from the utterance."""
    places = np.flatnonzero(mixed != audio)
    return int(places[0]), int(places[-1]) + 1


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_label_smoothing_is_that_of_torch(epsilon: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 5), torch.randint(5, (7,))
    targets = label_smoothing(functional.one_hot(labels, 5).float(), epsilon)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=epsilon)(logits, labels)
    torch.testing.assert_close(functional.cross_entropy(logits, targets), expected)
    torch.testing.assert_close(targets.sum(-1), torch.ones(7))


def test_label_smoothing_moves_the_best_log_posterior() -> None:
    """With epsilon = .1 and six classes the best log-posterior of the label is near -.09."""
    target = label_smoothing(torch.eye(6))[0]
    assert target[0].log().item() == pytest.approx(np.log(1 - 0.1 * 5 / 6))


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_label_smoothing_refuses_what_is_no_share(epsilon: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        label_smoothing(torch.eye(2), epsilon)


def test_mixed_targets_give_the_two_cross_entropies() -> None:
    torch.manual_seed(0)
    logits, weight = torch.randn(6, 4), torch.rand(6)
    one, other = torch.randint(4, (2, 6))
    targets = mixed_targets(
        functional.one_hot(one, 4).float(), functional.one_hot(other, 4).float(), weight
    )
    both = [functional.cross_entropy(logits, labels, reduction="none") for labels in (one, other)]
    expected = ((1 - weight) * both[0] + weight * both[1]).mean()
    torch.testing.assert_close(functional.cross_entropy(logits, targets), expected)


def test_smoothing_and_mixing_commute() -> None:
    torch.manual_seed(0)
    one, other = torch.rand(2, 6, 4).softmax(-1)
    weight = torch.rand(6)
    torch.testing.assert_close(
        label_smoothing(mixed_targets(one, other, weight)),
        mixed_targets(label_smoothing(one), label_smoothing(other), weight),
    )


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**31),
    length_i=st.integers(2, 3000),
    length_j=st.integers(1, 3000),
    level=st.floats(-20.0, 20.0),
    sign=st.sampled_from(["level", "snr"]),
)
def test_mixup_follows_its_equation(
    seed: int, length_i: int, length_j: int, level: float, sign: str
) -> None:
    audio_i, audio_j = noise(seed, length_i, 0.05), noise(seed + 1, length_j, 0.2)
    before = audio_i.copy(), audio_j.copy()
    rng = np.random.default_rng(seed)
    mixed, weight = energy_adaptive_mixup(audio_i, audio_j, rng, level, level, sign)  # type: ignore[arg-type]
    assert mixed.shape == audio_i.shape
    assert mixed.dtype == np.float32
    assert np.array_equal(audio_i, before[0])
    assert np.array_equal(audio_j, before[1])
    ratio = 10 ** ((level if sign == "level" else -level) / 10)
    length = weight * length_i * (1 + ratio) / ratio
    assert length == pytest.approx(round(length))
    assert 1 <= round(length) <= min(length_i // 2, length_j)
    assert 0.0 < weight < 0.5
    start, end = added(mixed, audio_i)  # the rest is untouched: the level never reaches 1
    assert end - start == round(length)
    own, partner = audio_i[start:end].astype(float), (mixed - audio_i)[start:end].astype(float)
    assert partner @ partner / (own @ own) == pytest.approx(ratio, rel=1e-3)


def test_mixup_adds_a_piece_of_the_partner() -> None:
    audio_i, audio_j = noise(0, 400), noise(1, 300)
    mixed, _ = energy_adaptive_mixup(audio_i, audio_j, np.random.default_rng(3), 0.0, 0.0)
    start, end = added(mixed, audio_i)
    piece = (mixed - audio_i)[start:end].astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(audio_j.astype(float), end - start)
    likeness = windows @ piece / (np.linalg.norm(windows, axis=1) * np.linalg.norm(piece))
    assert likeness.max() == pytest.approx(1.0, abs=1e-6)


def test_mixup_draws_lengths_places_and_levels_evenly() -> None:
    audio_i, audio_j = noise(0, 6), noise(1, 4)
    rng = np.random.default_rng(0)
    counts: dict[tuple[int, int], int] = {}
    levels = []
    for _ in range(3000):
        mixed, weight = energy_adaptive_mixup(audio_i, audio_j, rng)
        start, end = added(mixed, audio_i)
        counts[start, end - start] = counts.get((start, end - start), 0) + 1
        share = weight * 6 / (end - start)
        levels.append(10 * np.log10(share / (1 - share)))
    expected = {(s, n): 1000 / (7 - n) for n in (1, 2, 3) for s in range(7 - n)}
    assert counts.keys() == expected.keys()
    assert sum((counts[key] - expected[key]) ** 2 / expected[key] for key in expected) < 40
    assert min(levels) == pytest.approx(-5.0, abs=0.1)
    assert max(levels) == pytest.approx(10.0, abs=0.1)
    assert np.mean(levels) == pytest.approx(2.5, abs=0.3)


def test_mixup_stays_within_a_short_partner() -> None:
    audio_i, audio_j = noise(0, 1000), noise(1, 3)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        _, weight = energy_adaptive_mixup(audio_i, audio_j, rng, 0.0, 0.0)
        assert round(weight * 1000 * 2) in (1, 2, 3)


def test_silence_is_left_unmixed() -> None:
    loud, quiet = noise(0, 500), noise(1, 500, peak=9e-4)  # peak 9e-4: under -60 dBFS
    for audio_i, audio_j in ((loud, quiet), (quiet, loud), (loud, np.zeros_like(loud))):
        mixed, weight = energy_adaptive_mixup(audio_i, audio_j, np.random.default_rng(0))
        assert weight == 0.0
        assert np.array_equal(mixed, audio_i)
        assert mixed is not audio_i
    audible = noise(1, 500, peak=3e-3)  # at least half of that: over -60 dBFS
    assert energy_adaptive_mixup(loud, audible, np.random.default_rng(0))[1] > 0.0


def test_silent_draw_is_repeated() -> None:
    """Half of the partner is silent: with redraws almost every utterance is mixed."""
    half = np.concatenate([np.zeros(500, np.float32), noise(1, 500)])
    loud = noise(0, 20)
    weights = [
        energy_adaptive_mixup(loud, half, np.random.default_rng(seed))[1] for seed in range(200)
    ]
    assert np.mean(np.array(weights) == 0.0) < 0.1


def test_one_sample_is_left_unmixed() -> None:
    mixed, weight = energy_adaptive_mixup(noise(0, 1), noise(1, 9), np.random.default_rng(0))
    assert weight == 0.0
    assert np.array_equal(mixed, noise(0, 1))


def test_loud_mixture_is_scaled_not_clipped() -> None:
    audio_i, audio_j = noise(0, 800, peak=0.9), noise(1, 800, peak=0.9)
    mixed, weight = energy_adaptive_mixup(audio_i, audio_j, np.random.default_rng(1), 10.0, 10.0)
    assert np.abs(mixed).max() == pytest.approx(1.0)
    gain = float(np.median(mixed / audio_i))  # more than half of the samples are untouched
    assert gain < 1.0
    rest = np.abs(mixed - gain * audio_i) > 1e-5
    own, partner = gain * audio_i[rest], (mixed - gain * audio_i)[rest]
    assert partner @ partner / (own @ own) == pytest.approx(10.0, rel=0.02)
    assert weight == pytest.approx(rest.sum() / 800 * 10 / 11, rel=0.02)


def test_mixup_repeats_under_a_seed() -> None:
    audio_i, audio_j = noise(0, 100), noise(1, 100)
    first, second, other = (
        energy_adaptive_mixup(audio_i, audio_j, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert first[1] != other[1]


def test_mixup_refuses_what_is_no_audio() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected"):
        energy_adaptive_mixup(noise(0, 0), noise(1, 5), rng)
    with pytest.raises(ValueError, match="expected"):
        energy_adaptive_mixup(noise(0, 6).reshape(2, 3), noise(1, 5), rng)
    with pytest.raises(ValueError, match="range of levels is empty"):
        energy_adaptive_mixup(noise(0, 5), noise(1, 5), rng, 3.0, 2.0)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    exponent=st.integers(-42, 37),
    epsilon=st.floats(0.01, 10.0),
    shape=st.sampled_from([(3,), (4, 3), (2, 5, 3)]),
)
def test_delta_has_the_direction_of_the_gradient_and_the_length_epsilon(
    seed: int, exponent: int, epsilon: float, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
    scaled = (gradient * 10.0**exponent).float()
    delta = adversarial_delta(scaled, epsilon)
    exact = scaled.double()
    expected = epsilon * exact / exact.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(delta.double(), expected, rtol=1e-4, atol=1e-6)


def test_delta_of_a_zero_gradient_is_zero() -> None:
    gradient = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    delta = adversarial_delta(gradient, epsilon=0.5)
    torch.testing.assert_close(delta, torch.tensor([[0.0, 0.0], [0.3, 0.4]]))
    assert not delta.requires_grad


@given(
    own=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    other=st.lists(st.integers(1, 12), min_size=4, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_embeddings_are_mixed_in_one_segment_by_energy(
    own: list[int], other: list[int], seed: int
) -> None:
    """Places are written into the embeddings, so the mixture tells what was taken from where."""
    other = other[: len(own)]
    places = torch.arange(12.0).expand(len(own), 12)
    zeros, ones = torch.zeros_like(places), torch.ones_like(places)
    embeddings = torch.stack([ones, zeros, places], -1)
    partners = torch.stack([zeros, places, zeros], -1)
    mixtures, weights = embedding_mixup(
        embeddings, partners, own, other, np.random.default_rng(seed)
    )
    for row, (length, partner_length) in enumerate(zip(own, other, strict=True)):
        share = 1.0 - mixtures[row, :, 0]
        # The share of the label is that of the partner's energy over the whole utterance.
        assert weights[row].item() == pytest.approx(share.sum().item() / length, abs=1e-5)
        assert 0.0 <= weights[row] < 0.5
        torch.testing.assert_close(mixtures[row, :, 2], (1.0 - share) * places[row])
        mixed = share.nonzero()[:, 0].tolist()
        assert len(mixed) <= min(length // 2, partner_length)
        if length == 1:
            assert not mixed
            continue
        assert mixed == list(range(mixed[0], mixed[0] + len(mixed)))
        assert mixed[-1] < length
        level = share[mixed[0]].item()
        torch.testing.assert_close(share[mixed], torch.full((len(mixed),), level))
        ratio = level / (1.0 - level)
        assert 10**-0.5 - 1e-3 <= ratio <= 10.0 + 1e-2
        taken = mixtures[row, mixed, 1] / level
        assert taken[-1] < partner_length - 0.5
        torch.testing.assert_close(taken, taken[0] + torch.arange(float(len(mixed))))


def test_gradients_flow_into_both_embeddings() -> None:
    embeddings, partners = (torch.ones(1, 8, 2, requires_grad=True) for _ in range(2))
    mixtures, weights = embedding_mixup(
        embeddings, partners, [8], [8], np.random.default_rng(1), 0.0, 0.0
    )
    mixtures.sum().backward()
    assert embeddings.grad is not None and partners.grad is not None
    # At 0 dB both have one half of the segment.
    assert partners.grad.sum().item() / 2 == pytest.approx(8 * weights.item())
    assert (embeddings.grad.sum() + partners.grad.sum()).item() == pytest.approx(16.0)


def test_what_has_no_token_cannot_be_mixed() -> None:
    some = torch.zeros(1, 4, 2)
    with pytest.raises(ValueError, match="no token"):
        embedding_mixup(some, some, [4], [0], np.random.default_rng(0))
    with pytest.raises(ValueError, match="empty"):
        embedding_mixup(some, some, [4], [4], np.random.default_rng(0), 1.0, 0.0)

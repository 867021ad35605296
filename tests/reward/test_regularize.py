"""Tests of the three regularizers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rrpo.reward.regularize import (
    adversarial_delta,
    energy_adaptive_mixup,
    feature_mixup,
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
)
def test_mixup_follows_its_equation(seed: int, length_i: int, length_j: int, level: float) -> None:
    audio_i, audio_j = noise(seed, length_i, 0.05), noise(seed + 1, length_j, 0.2)
    before = audio_i.copy(), audio_j.copy()
    rng = np.random.default_rng(seed)
    mixed, weight = energy_adaptive_mixup(audio_i, audio_j, rng, level, level)
    assert mixed.shape == audio_i.shape
    assert mixed.dtype == np.float32
    assert np.array_equal(audio_i, before[0])
    assert np.array_equal(audio_j, before[1])
    ratio = 10 ** (-level / 10)  # the level is the utterance's over the partner's
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
        levels.append(10 * np.log10((1 - share) / share))  # the utterance over the partner
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
    mixed, weight = energy_adaptive_mixup(audio_i, audio_j, np.random.default_rng(1), -10.0, -10.0)
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
    shape=st.sampled_from([(1, 3), (4, 3), (2, 5, 3)]),
)
def test_delta_has_the_direction_of_the_gradient_and_the_length_epsilon(
    seed: int, exponent: int, epsilon: float, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
    scaled = (gradient * 10.0**exponent).float()
    delta = adversarial_delta(scaled, epsilon)
    exact = scaled.double()
    norm = exact.flatten(1).norm(dim=-1).view(-1, *[1] * (len(shape) - 1))
    torch.testing.assert_close(delta.double(), epsilon * exact / norm, rtol=1e-4, atol=1e-6)


def test_delta_is_one_step_an_utterance_and_zero_at_padding() -> None:
    gradient = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    gradient[1, 4:] = 0.0
    gradient[2] = 0.0
    delta = adversarial_delta(gradient.requires_grad_(), epsilon=0.5)
    torch.testing.assert_close(delta.flatten(1).norm(dim=1), torch.tensor([0.5, 0.5, 0.0]))
    assert (delta[1, 4:] == 0).all()
    assert not delta.requires_grad
    with pytest.raises(ValueError, match="expected"):
        adversarial_delta(torch.ones(3))


def literal_mixup(
    features: list[np.ndarray], rng: np.random.Generator, min_db: float, max_db: float
) -> tuple[list[np.ndarray], list[int], list[float]]:
    """The published algorithm, utterance by utterance, with energies as means of squares."""
    size = len(features)
    partners = [int(one) for one in rng.permutation(size)]
    partners = [(i + 1) % size if i == j else j for i, j in enumerate(partners)]
    mixtures, weights = [], []
    for f_i, f_j in zip(features, [features[j] for j in partners], strict=True):
        length_i, length_j = len(f_i), len(f_j)
        mixture, weight = f_i.copy(), 0.0
        if length_i > 1 and size > 1:
            length = min(int(rng.uniform(1.0, length_i / 2)), length_j)
            b_i = int(rng.integers(length_i - length, endpoint=True))
            b_j = int(rng.integers(length_j - length, endpoint=True))
            r = rng.uniform(min_db, max_db)
            s_i, s_j = f_i[b_i : b_i + length], f_j[b_j : b_j + length]
            e_i, e_j = np.mean(s_i**2), np.mean(s_j**2)
            scaled_e_j = e_i / 10 ** (r / 10)
            mixture[b_i : b_i + length] += np.sqrt(scaled_e_j / e_j) * s_j
            weight = length / length_i * scaled_e_j / (e_i + scaled_e_j)
        mixtures.append(mixture)
        weights.append(weight)
    return mixtures, partners, weights


@settings(deadline=None, max_examples=80)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    span=st.sampled_from([(-5.0, 10.0), (3.0, 3.0), (-20.0, -20.0)]),
)
def test_features_are_mixed_as_published(
    lengths: list[int], seed: int, span: tuple[float, float]
) -> None:
    drawn = np.random.default_rng(seed).normal(size=(len(lengths), 12, 3))
    mixtures, partners, weights = feature_mixup(
        torch.from_numpy(drawn), lengths, np.random.default_rng(seed), *span
    )
    assert partners.dtype == torch.int64
    expected = literal_mixup(
        [row[:length] for row, length in zip(drawn, lengths, strict=True)],
        np.random.default_rng(seed),
        *span,
    )
    assert partners.tolist() == expected[1]
    np.testing.assert_allclose(weights.numpy(), expected[2], rtol=1e-6)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(mixtures[row, :length].numpy(), expected[0][row], rtol=1e-9)
        np.testing.assert_array_equal(mixtures[row, length:].numpy(), drawn[row, length:])
    assert ((weights >= 0) & (weights < 0.5)).all()


def test_the_ratio_is_a_signal_to_noise_ratio() -> None:
    """At 10 dB the utterance has ten times the energy of what is added: the share is 1/11."""
    features = torch.ones(2, 20, 4)
    mixtures, _, weights = feature_mixup(features, [20, 20], np.random.default_rng(3), 10.0, 10.0)
    added = mixtures - features
    length = (added[0, :, 0] != 0).sum()
    torch.testing.assert_close(added[0][added[0] != 0].square().mean(), torch.tensor(0.1))
    assert weights[0].item() == pytest.approx(length.item() / 20 / 11)


def test_partners_are_a_permutation_but_for_fixed_points() -> None:
    """Nobody is mixed with himself, and every utterance is a partner about once."""
    counts = np.zeros(4)
    for seed in range(500):
        _, partners, _ = feature_mixup(torch.ones(4, 4, 1), [4] * 4, np.random.default_rng(seed))
        assert all(i != j for i, j in enumerate(partners.tolist()))
        counts += np.bincount(partners.numpy(), minlength=4)
    assert (np.abs(counts / 500 - 1) < 0.15).all()


def test_gradients_flow_into_both_utterances() -> None:
    features = torch.randn(2, 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features.requires_grad_()

    def mixed(values: torch.Tensor) -> torch.Tensor:
        return feature_mixup(values, [8, 6], np.random.default_rng(1))[0]

    assert torch.autograd.gradcheck(mixed, features)  # energies included
    (gradient,) = torch.autograd.grad(mixed(features)[0].sum(), features)
    assert (gradient[0] != 0).all()
    assert (gradient[1] != 0).any()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_other_precisions_are_mixed_alike(kind: torch.dtype) -> None:
    """In half precision a sum of squares would be infinite."""
    features = torch.randn(2, 200, 1024, generator=torch.Generator().manual_seed(0))
    wanted, _, share = feature_mixup(features, [200, 150], np.random.default_rng(1))
    found, _, weight = feature_mixup(features.to(kind), [200, 150], np.random.default_rng(1))
    assert found.dtype == weight.dtype == kind
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.02)
    torch.testing.assert_close(weight.float(), share, atol=0.01, rtol=0.01)
    for refused in (features.long(), features[:0]):
        with pytest.raises(ValueError, match="cannot be mixed"):
            feature_mixup(refused, [200, 150][: len(refused)], np.random.default_rng(1))


def test_what_cannot_be_mixed_is_left_or_refused() -> None:
    alone = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(0))
    mixtures, partners, weights = feature_mixup(alone, [6], np.random.default_rng(0))
    assert torch.equal(mixtures, alone)
    assert (partners.tolist(), weights.tolist()) == ([0], [0.0])
    silent = torch.zeros(2, 6, 2, requires_grad=True)
    mixtures, _, weights = feature_mixup(silent, [6, 6], np.random.default_rng(0))
    assert weights.tolist() == [0.0, 0.0]
    mixtures.sum().backward()
    assert silent.grad is not None and silent.grad.isfinite().all()
    for lengths in ([4, 0], [4, 7], [4]):
        with pytest.raises(ValueError, match="do not fit"):
            feature_mixup(torch.zeros(2, 6, 2), lengths, np.random.default_rng(0))
    with pytest.raises(ValueError, match="empty"):
        feature_mixup(torch.zeros(1, 4, 2), [4], np.random.default_rng(0), 1.0, 0.0)

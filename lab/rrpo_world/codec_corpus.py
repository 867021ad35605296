"""Speech the codec is trained on: what is heard, and the renderer's own parameters as the target.

Every rendering meets gain changes, noise, clicks and pops, with their targets, so that the codec
can say them all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError
from rrpo.mini.codec import TOKEN_SAMPLES
from rrpo.mini.features import features
from rrpo.mini.vocoder import TOKEN_FRAMES, to_bands, to_points
from rrpo_world.clicks_and_pops import Transient
from rrpo_world.renderer import Rendering

Array = NDArray[Any]
KINDS = ("click", "pop")
CROP_TOKENS = 48
BATCH = 32
_QUIET = -18.0
"""Natural log power under which an envelope cannot be heard; targets stop there."""


@dataclass(frozen=True)
class Corpus:
    """Utterances end to end in half precision; F frames of 10 ms, 160 MB an hour.

    Attributes:
        features: (F, FEATURES) the encoder's input.
        pitch: (F,) natural log of Hz, 0 where unvoiced.
        envelope: (F, ENVELOPE_BANDS) natural log power.
        aperiodicity: (F, 5) dB.
        peaks: (F / 4, 2) greatest peak of a click and of a pop that begins in the token, 0 if none.
    """

    features: Tensor
    pitch: Tensor
    envelope: Tensor
    aperiodicity: Tensor
    peaks: Tensor


def disturb(
    rendering: Rendering, audio: Audio, rng: np.random.Generator
) -> tuple[Rendering, Audio]:
    """Change the gain and add clicks and pops, each by chance, to what is heard and the targets."""
    factor = 10.0 ** (rng.uniform(-6.0, 4.0) / 20.0) if rng.random() < 0.3 else 1.0
    added = np.zeros(len(audio))
    transients = [Transient(t.kind, t.time, t.peak * factor) for t in rendering.transients]
    for kind, chance, per_second in (("click", 0.4, 1.5), ("pop", 0.3, 1.0)):
        if rng.random() < chance:
            for _ in range(1 + rng.poisson(per_second * len(audio) / SAMPLE_RATE)):
                start = int(rng.integers(0, len(audio)))
                peak = float(rng.uniform(0.08, 0.5))
                shape = peak * transient(kind, rng)
                added[start : start + len(shape)] += shape[: len(audio) - start]
                transients.append(Transient(kind, start / SAMPLE_RATE, peak))
    changed = replace(
        rendering,
        audio=np.asarray(rendering.audio * factor + added, dtype=np.float32),
        envelope=rendering.envelope * factor**2,
        transients=transients,
    )
    return changed, np.asarray(np.clip(audio * factor + added, -0.99, 0.99), dtype=np.float32)


def _add_noise(rendering: Rendering, noise: NDArray[np.float32]) -> Rendering:
    """Put stationary noise (N,) into the target: power adds, and the noise has no period."""
    frames = np.lib.stride_tricks.sliding_window_view(noise.astype(np.float64), 1024)[::512]
    window = np.hanning(1024)
    power = np.square(np.abs(np.fft.rfft(frames * window))).mean(axis=0)
    power = np.convolve(np.pad(power, 8, mode="edge"), np.ones(17) / 17.0, mode="valid")
    power /= np.square(window).sum()
    total = rendering.envelope + power
    noisy = np.square(rendering.aperiodicity) * rendering.envelope + power
    return replace(rendering, envelope=total, aperiodicity=np.sqrt(noisy / total))


def transient(kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the shape of a click or a pop, of unit peak."""
    return _click(rng) if kind == "click" else _pop(rng)


def _click(rng: np.random.Generator) -> NDArray[np.float64]:
    """A click of unit peak: 0.1 to 3 ms of noise that starts at once and dies away."""
    size = int(rng.uniform(2, 48))
    shape = rng.standard_normal(size) * np.exp(-3.0 * np.arange(size) / size)
    shape[0] = rng.choice([-1.0, 1.0]) * np.abs(shape).max()
    return np.asarray(shape / np.abs(shape).max())


def _pop(rng: np.random.Generator) -> NDArray[np.float64]:
    """A pop of unit peak: a 60 to 90 Hz swing that decays within 60 ms, beginning with a gust."""
    time = np.arange(960) / SAMPLE_RATE
    swing = np.sin(2.0 * np.pi * rng.uniform(60.0, 90.0) * time) * np.exp(-time / 0.015)
    gust = rng.standard_normal(len(time)) * np.exp(-time / 0.004) * rng.uniform(0.0, 0.25)
    shape = swing * (1.0 - np.exp(-time / 0.001)) + np.convolve(gust, np.full(8, 0.125), "same")
    shape *= rng.choice([-1.0, 1.0]) * np.minimum(1.0, (time[-1] - time) / 0.01)
    return np.asarray(shape / np.abs(shape).max())


def training_arrays(
    rendering: Rendering, audio: Audio, rng: np.random.Generator | None = None
) -> dict[str, Array]:
    """Turn a rendering into what training keeps of it, about 230 MB an hour.

    That is the fields of `Corpus` in float16, but for the features: in their place stands "audio",
    int16, so that what is kept does not depend on what the encoder reads.

    Args:
        rendering: the targets; shorter than one token is an error.
        audio: (N,) what the codec hears: the rendering's audio, or that with stationary noise.
        rng: of what `disturb` draws; None leaves everything as it is.

    Raises:
        UserError: the audio is shorter than one token.
    """
    tokens = len(audio) // TOKEN_SAMPLES
    if tokens == 0:
        raise UserError("a rendering is shorter than one token (40 ms): leave it out")
    noise = audio - rendering.audio
    if len(noise) >= 1024 and float(np.abs(noise).max()) > 1e-6:
        rendering = _add_noise(rendering, noise)
    if rng is not None:
        rendering, audio = disturb(rendering, audio, rng)
    # The analysis has a frame every 5 ms; every second one lies in the middle of ours.
    middle = np.minimum(np.arange(tokens * TOKEN_FRAMES) * 2 + 1, len(rendering.f0) - 1)
    pitch = rendering.f0[middle]
    envelope = torch.log(torch.from_numpy(rendering.envelope[middle])).float()
    aperiodicity = torch.from_numpy(rendering.aperiodicity[middle]).float()
    arrays = {
        "pitch": np.where(pitch > 0, np.log(np.maximum(pitch, 1.0)), 0.0),
        "envelope": to_bands(envelope).clamp(min=_QUIET).numpy(),
        "aperiodicity": to_points(aperiodicity).numpy(),
        "peaks": _peaks(rendering.transients, tokens),
    }
    wave = np.round(audio[: tokens * TOKEN_SAMPLES] * 32767.0).astype(np.int16)
    return {"audio": wave, **{name: array.astype(np.float16) for name, array in arrays.items()}}


def _peaks(transients: Sequence[Transient], tokens: int) -> NDArray[np.float64]:
    """Return the greatest peak of each kind that begins in each token (T, 2)."""
    peaks = np.zeros((tokens, len(KINDS)))
    for transient in transients:
        token = min(tokens - 1, int(transient.time * SAMPLE_RATE) // TOKEN_SAMPLES)
        kind = KINDS.index(transient.kind)
        peaks[token, kind] = max(peaks[token, kind], transient.peak)
    return peaks


def join(parts: Iterable[Mapping[str, Array]]) -> Corpus:
    """Join what `training_arrays` returned for each utterance.

    Raises:
        UserError: there is none.
    """
    columns: dict[str, list[Array]] = {field.name: [] for field in fields(Corpus)}
    for part in parts:
        wave = torch.from_numpy(part["audio"].astype(np.float32) / 32767.0)[None]
        heard = features(wave)[0].to(torch.float16).numpy()
        for name, column in columns.items():
            column.append(heard if name == "features" else part[name])
    if not columns["pitch"]:
        raise UserError("no renderings to train the codec on: render at least one sentence")
    return Corpus(
        **{name: torch.from_numpy(np.concatenate(column)) for name, column in columns.items()}
    )


def read_corpus(folder: Path) -> Corpus:
    """Join the arrays of a rendered part: the keys "<utterance>/<field>" of every npz file.

    Raises:
        UserError: the folder holds no such arrays.
    """
    return join(_stored(folder))


def _stored(folder: Path) -> Iterator[dict[str, Array]]:
    names = ["audio", "pitch", "envelope", "aperiodicity", "peaks"]
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                if key.endswith("/pitch"):
                    stem = key.removesuffix("pitch")
                    if f"{stem}audio" not in arrays.files:
                        raise UserError(f"{path} was rendered for another codec: render it again")
                    yield {name: arrays[stem + name] for name in names}


def split(corpus: Corpus, share: float) -> tuple[Corpus, Corpus]:
    """Cut off the end of a corpus: what is trained on, and `share` of it that is not.

    The cut may go through an utterance.

    Raises:
        UserError: either side would be shorter than one token.
    """
    tokens = corpus.peaks.shape[0]
    kept = tokens - max(1, round(share * tokens))
    if kept < 1:
        raise UserError("too little speech to train the codec on: render at least one sentence")
    return _stretch(corpus, 0, kept), _stretch(corpus, kept, tokens)


def _stretch(corpus: Corpus, first: int, last: int) -> Corpus:
    """Cut out the tokens from `first` up to `last`, and the frames of these."""
    values = {}
    for field in fields(Corpus):
        rows = 1 if field.name == "peaks" else TOKEN_FRAMES
        values[field.name] = getattr(corpus, field.name)[first * rows : last * rows]
    return Corpus(**values)


def crops(corpus: Corpus, generator: torch.Generator) -> Corpus:
    """Draw BATCH crops of CROP_TOKENS, every field with a leading batch axis, in float32.

    A crop may run over the silence between two utterances.
    """
    tokens = corpus.peaks.shape[0]
    length = min(CROP_TOKENS, tokens)
    start = torch.randint(0, tokens - length + 1, (BATCH, 1), generator=generator)
    token = start + torch.arange(length)
    frame = start * TOKEN_FRAMES + torch.arange(length * TOKEN_FRAMES)
    return Corpus(
        corpus.features[frame].float(),
        corpus.pitch[frame].float(),
        corpus.envelope[frame].float(),
        corpus.aperiodicity[frame].float(),
        corpus.peaks[token].float(),
    )

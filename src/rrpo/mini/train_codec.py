"""Training the codec on renderings: audio in, the renderer's own parameters as the target.

Parameters and not samples are compared, so a step costs milliseconds. Before that every rendering
meets gain changes, noise, clicks and pops, with their targets, so that the codec can say them all.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.checkpoint import load_state, load_tensors, read_json, save_tensors, write_json
from rrpo.codec.features import HOP, features
from rrpo.codec.mini import DIGITS, TOKEN_SAMPLES, CodecConfig, MiniCodec, Prediction
from rrpo.codec.vocoder import TOKEN_FRAMES, Parameters, cepstral_basis, to_bands, to_points
from rrpo.errors import UserError
from rrpo.mini.renderer import Rendering, Transient
from rrpo.tokens import SPEECH_CODES, digits

Array = NDArray[Any]
KINDS = ("click", "pop")
CROP_TOKENS = 48
BATCH = 32
RATE = 2e-3
"""Learning rate of AdamW."""
MATRIX_RATE = 0.02
"""Learning rate of Muon."""
WARM_UP = 100
SHARPEST = 1.3
"""Greatest gain of a cepstral coefficient: a higher one was not heard in predicted quality."""
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


def losses(prediction: Prediction, target: Corpus) -> dict[str, Tensor]:
    """Compare a prediction with its target, both with a batch axis; the loss is the values' sum."""
    functional = torch.nn.functional
    voiced = (target.pitch > 0).float()
    loud = torch.sigmoid((target.envelope.amax(dim=-1) + 10.0) / 1.5)
    weight = 0.1 + 0.9 * loud
    pitch = (prediction.pitch - target.pitch).abs() * voiced
    band = (prediction.envelope - target.envelope).abs()
    change = (prediction.envelope.diff(dim=1) - target.envelope.diff(dim=1)).abs()
    noise = (prediction.aperiodicity - target.aperiodicity).abs().mean(dim=-1) * voiced * weight
    present = (target.peaks > 0).float()
    peak = (prediction.peak - torch.log(target.peaks.clamp(min=1e-3))).abs() * present
    return {
        "pitch": 15.0 * pitch.sum() / voiced.sum().clamp(min=1.0),
        "voicing": functional.binary_cross_entropy_with_logits(prediction.voicing, voiced),
        "envelope": 2.0 * (band.mean(dim=-1) * weight).sum() / weight.sum(),
        "change": 0.5 * (change.mean(dim=-1) * weight[:, 1:]).mean(),
        "aperiodicity": 0.02 * noise.sum() / voiced.sum().clamp(min=1.0),
        "presence": functional.binary_cross_entropy_with_logits(
            prediction.presence, present, pos_weight=torch.tensor(1.5)
        ),
        "peak": 0.1 * peak.sum() / present.sum().clamp(min=1.0),
    }


@torch.no_grad()
def mean_losses(model: MiniCodec, corpus: Corpus, batches: int = 20) -> dict[str, float]:
    """Average the losses over crops of a corpus, always the same ones."""
    sums: dict[str, float] = {}
    for number in range(batches):
        batch = crops(corpus, torch.Generator().manual_seed(number))
        parts = losses(model.predict(model.quantise(batch.features)), batch)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value) / batches
    return sums


@torch.no_grad()
def spread_gain(model: MiniCodec, corpus: Corpus, batches: int, seed: int) -> Tensor:
    """Return how much wider each cepstral coefficient spreads in speech than in what is decoded.

    Returns:
        (ENVELOPE_BANDS,) ratios of standard deviations over loud frames of some crops, between 1
        and `SHARPEST`.
    """
    said, meant = [], []
    basis = cepstral_basis(torch.device("cpu"))
    for number in range(batches):
        batch = crops(corpus, torch.Generator().manual_seed(seed * 1_000_003 + number))
        loud = batch.envelope.amax(dim=-1) > -10.0
        said.append(model.predict(model.quantise(batch.features)).envelope[loud] @ basis.T)
        meant.append(batch.envelope[loud] @ basis.T)
    ratio = torch.cat(meant).std(dim=0) / torch.cat(said).std(dim=0).clamp(min=1e-6)
    return ratio.nan_to_num(1.0).clamp(1.0, SHARPEST)


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rates: linear warm-up, then half a cosine down to 1 %."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(1, steps - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def train(
    corpus: Corpus,
    out: Path,
    steps: int,
    seed: int = 0,
    config: CodecConfig | None = None,
    save_every: int = 500,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> MiniCodec:
    """Train a codec; `out` then holds it, and a later call with the same `out` goes on from there.

    Args:
        corpus: from `join` or `read_corpus`.
        out: folder for model.safetensors, model.json and the state of the training.
        steps: gradient steps in all, each of BATCH crops of CROP_TOKENS.
        seed: of the weights and of the crops; step k draws the same crops whenever it is taken.
        config: sizes; a training that goes on keeps its own.
        save_every: steps between saved states.
        progress: told (step, losses) after every step.
    """
    torch.manual_seed(seed)
    model = MiniCodec(config).train()
    optimizers = _optimizers(model)
    first = _resume(model, optimizers, out, seed, steps)
    for step in range(first, steps):
        share = rate_at(step, steps)
        for optimizer, rate in zip(optimizers, (MATRIX_RATE, RATE), strict=True):
            optimizer.param_groups[0]["lr"] = share * rate
        batch = crops(corpus, torch.Generator().manual_seed(seed * 1_000_003 + step))
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model.predict(model.quantise(batch.features))
        parts = losses(prediction, batch)
        total = torch.stack(list(parts.values())).sum()
        model.zero_grad()
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if progress is not None:
            progress(step + 1, {name: float(value.detach()) for name, value in parts.items()})
        if (step + 1) % save_every == 0 or step + 1 == steps:
            _save(model, optimizers, out, seed, step + 1, steps)
    model.eval()
    model.gain.copy_(spread_gain(model, corpus, min(steps, 100), seed))
    model.save(out)
    return model


def _optimizers(model: MiniCodec) -> list[torch.optim.Optimizer]:
    """Muon for the large matrices, AdamW for the quantiser's narrow ones and for vectors.

    800 steps so reach an envelope error that AdamW alone misses after 1,500.
    """
    weights = list(model.parameters())
    large = [weight for weight in weights if weight.ndim == 2 and min(weight.shape) > DIGITS]
    kept = {id(weight) for weight in large}
    rest = [weight for weight in weights if id(weight) not in kept]
    return [
        torch.optim.Muon(large, lr=MATRIX_RATE, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def _save(
    model: MiniCodec,
    optimizers: Sequence[torch.optim.Optimizer],
    out: Path,
    seed: int,
    step: int,
    steps: int,
) -> None:
    """Write the codec, and what a later call needs to go on as if it had not stopped."""
    model.save(out)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for order, optimizer in enumerate(optimizers):
        for index, slots in optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                tensors[f"optimizer.{order}.{index}.{name}"] = value
    save_tensors(out / "training.safetensors", tensors)
    write_json(
        out / "training.json",
        {"step": step, "steps": steps, "seed": seed, "codec": _sizes(model)},
    )


def _sizes(model: MiniCodec) -> dict[str, object]:
    """The sizes of a codec as JSON gives them back: lists for tuples."""
    values = asdict(model.config)
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _resume(
    model: MiniCodec,
    optimizers: Sequence[torch.optim.Optimizer],
    out: Path,
    seed: int,
    steps: int,
) -> int:
    """Load what `_save` wrote, if it is there, and return the first step to take.

    Raises:
        UserError: the folder holds a training with another seed, length or size.
    """
    if not (out / "training.json").is_file():
        return 0
    found = read_json(out / "training.json")
    wanted = {"steps": steps, "seed": seed, "codec": _sizes(model)}
    if {name: found.get(name) for name in wanted} != wanted:
        raise UserError(f"{out} holds another training of the codec: name an empty folder")
    tensors = load_tensors(out / "training.safetensors")
    weights = {
        name.removeprefix("model."): value
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    load_state(model, weights, out / "training.safetensors")
    for order, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{order}."):
                index, slot = name.split(".")[2:]
                state["state"].setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict(state)
    return int(found["step"])


@torch.no_grad()
def measure(codec: MiniCodec, renderings: Iterable[Rendering]) -> dict[str, float]:
    """Encode and decode renderings and compare with what they were made of.

    Returns:
        Means over frames: `pitch_semitones` (absolute, where both are voiced),
        `pitch_gross` (share of those off by more than 3), `voicing_error` (share),
        `envelope_decibel` (absolute, mel bands, frames within 40 dB of the loudest),
        `contrast` (standard deviation of the decoded envelope over bands, as a share of the true
        one: 1 is as sharp as the original), `aperiodicity_decibel`;
        of clicks and pops within one token: `click_recall`, `pop_recall`,
        `click_false_per_second`, `pop_false_per_second`; of codes: `codes` (distinct),
        `perplexity`, `steady` (share of digits that are equal when the audio starts 10 ms later).
    """
    rows: dict[str, list[NDArray[np.float64]]] = {}
    histogram = np.zeros(SPEECH_CODES)
    seconds = 0.0
    for rendering in renderings:
        ids = codec.encode(rendering.audio)
        histogram += np.bincount(ids.numpy(), minlength=SPEECH_CODES)
        seconds += len(rendering.audio) / SAMPLE_RATE
        target = join([training_arrays(rendering, rendering.audio)])
        later = codec.encode(np.pad(rendering.audio[HOP:], (0, HOP)))
        found = _compare(codec.parameters_of([ids])[0], target)
        found["steady"] = (digits(ids) == digits(later)).numpy().astype(np.float64).ravel()
        for name, values in found.items():
            rows.setdefault(name, []).append(values)
    means = {
        name: float(np.concatenate(values).mean())
        for name, values in rows.items()
        if sum(map(len, values))
    }
    for kind in KINDS:
        false = np.concatenate(rows[f"{kind}_false"]).sum()
        means.pop(f"{kind}_false", None)
        means[f"{kind}_false_per_second"] = float(false / seconds)
    share = histogram[histogram > 0] / histogram.sum()
    means["codes"] = float(len(share))
    means["perplexity"] = float(np.exp(-(share * np.log(share)).sum()))
    return means


def _compare(spoken: Parameters, target: Corpus) -> dict[str, NDArray[np.float64]]:
    """Compare decoded parameters (batch of one) with the target of one utterance, per frame."""
    pitch, true_pitch = spoken.pitch[0], target.pitch.float()
    both = (pitch > 0) & (true_pitch > 0)
    semitones = 12.0 / math.log(2.0) * (torch.log(pitch[both]) - true_pitch[both]).abs()
    envelope, true_envelope = spoken.envelope[0], target.envelope.float()
    level = true_envelope.logsumexp(dim=-1)
    loud = level > level.max() - 4.0 * math.log(10.0)
    decibel = 10.0 / math.log(10.0) * (envelope - true_envelope).abs()[loud].mean(dim=-1)
    noise = (spoken.aperiodicity[0] - target.aperiodicity.float()).abs()[both].mean(dim=-1)
    contrast = envelope[loud].std(dim=-1).mean() / true_envelope[loud].std(dim=-1).mean()
    values = {
        "pitch_semitones": semitones,
        "pitch_gross": (semitones > 3.0).float(),
        "voicing_error": ((pitch > 0) != (true_pitch > 0)).float(),
        "envelope_decibel": decibel,
        "aperiodicity_decibel": noise,
        "contrast": contrast[None],
    }
    for index, kind in enumerate(KINDS):
        said = (spoken.click if kind == "click" else spoken.pop)[0] > 0
        true = target.peaks[:, index] > 0
        values[f"{kind}_recall"] = _near(said)[true].float()
        values[f"{kind}_false"] = (said & ~_near(true)).float()
    return {name: value.numpy().astype(np.float64) for name, value in values.items()}


def _near(event: Tensor) -> Tensor:
    """True within one token of an event (T,)."""
    grown = torch.nn.functional.max_pool1d(event.float()[None, None], 3, stride=1, padding=1)
    return grown[0, 0] > 0

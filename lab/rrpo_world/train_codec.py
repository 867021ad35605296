"""Training the codec on renderings: audio in, the renderer's own parameters as the target.

Parameters and not samples are compared, so a step costs milliseconds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrpo.audio import SAMPLE_RATE
from rrpo.checkpoint import load_state, load_tensors, save_tensors
from rrpo.codec.block import DIGITS
from rrpo.codec_identity import SPEECH_CODES
from rrpo.errors import UserError
from rrpo.files import read_json, write_json
from rrpo.mini.codec import CodecConfig, MiniCodec, Prediction
from rrpo.mini.features import HOP
from rrpo.mini.vocoder import Parameters, cepstral_basis
from rrpo.tokens import digits
from rrpo_world.codec_corpus import KINDS, Corpus, crops, join, training_arrays
from rrpo_world.renderer import Rendering

RATE = 2e-3
"""Learning rate of AdamW."""
MATRIX_RATE = 0.02
"""Learning rate of Muon."""
WARM_UP = 100
SHARPEST = 1.3
"""Greatest gain of a cepstral coefficient: a higher one was not heard in predicted quality."""


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
        found = compare(codec.parameters_of([ids])[0], target)
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


def compare(spoken: Parameters, target: Corpus) -> dict[str, NDArray[np.float64]]:
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

"""Predicted naturalness: published quality predictors, each where it is installed.

They judge and are never optimized: their gradient is easy to follow to a high score and bad sound.
"""

import contextlib
import functools
import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.codec.mel import filters
from rrpo.errors import UserError

if TYPE_CHECKING:
    import torch

Scorer = Callable[[Audio], float]
"""Takes audio (N,), 16 kHz, and returns a mean opinion score, about 1 (bad) to 5 (excellent)."""

SPEECHMOS = ("dnsmos_overall", "dnsmos_signal", "dnsmos_p808", "plcmos")
INSTALL = {
    "speechmos": "pip install speechmos onnxruntime",
    "distillmos": "pip install --no-deps distillmos xls-r-sqa",
}
DNSMOS_WINDOW = 144_160
"""Samples of DNSMOS' window, 9.01 s."""
SHORTEST = SAMPLE_RATE // 10
"""Samples below which an audio is padded with silence: the predictors expect several frames."""


def available() -> dict[str, Scorer]:
    """Return name → scorer of those that are installed; the models are loaded once.

    `dnsmos_overall` and `dnsmos_signal` (Reddy et al. 2022, P.835) were made to rate noise
    suppressors: they hear many clicks, few not, and no sound that is stuck; `dnsmos_p808` (2021)
    hears more of both. `plcmos` (Diener et al. 2023, made for lost packets) and `distillmos`
    (Stahl & Gamper 2025) hear a single click. A scorer raises UserError for audio that is empty or
    not finite; samples beyond ±1 are clipped, as they are when the audio is written.
    """
    return dict(load_speechmos()[0]) | dict(load_distillmos()[0])


def missing() -> dict[str, str]:
    """Return name → reason, with the command that mends it, of those that cannot be had."""
    reasons = {name: load_speechmos()[1] for name in SPEECHMOS}
    reasons["distillmos"] = load_distillmos()[1]
    return {name: reason for name, reason in reasons.items() if reason}


def score(
    audios: Sequence[Audio], scorers: Mapping[str, Scorer] | None = None
) -> dict[str, list[float]]:
    """Score several audios (N,), 16 kHz: name → one MOS per audio.

    DistillMOS and the others run side by side, each on one thread: none of them gains from more.

    Args:
        scorers: which of `available()`; all by default.

    Raises:
        UserError: an audio is empty or not finite.
    """
    chosen = available() if scorers is None else scorers
    groups = [
        {name: scorer for name, scorer in chosen.items() if (name in SPEECHMOS) == speechmos}
        for speechmos in (True, False)
    ]

    def rows(group: Mapping[str, Scorer]) -> list[dict[str, float]]:
        return [{name: scorer(audio) for name, scorer in group.items()} for audio in audios]

    with ThreadPoolExecutor(len(groups)) as pool:
        first, second = pool.map(rows, groups)
    merged = [one | other for one, other in zip(first, second, strict=True)]
    return {name: [row[name] for row in merged] for name in chosen}


class Dnsmos:
    """DNSMOS from the models in `speechmos`, prepared as that package does, on one thread.

    The package itself imports librosa and requests, hundreds of megabytes with what they need.
    """

    def __init__(self) -> None:
        place = importlib.util.find_spec("speechmos")
        if place is None or place.origin is None:
            raise ImportError("it is not installed")
        folder = Path(place.origin).parent / "dnsmos_models"
        self.overall: Any = _session(str(folder / "sig_bak_ovr.onnx"))
        self.p808: Any = _session(str(folder / "model_v8.onnx"))
        self.last: tuple[bytes, tuple[float, float]] | None = None

    def rate(self, name: str, audio: Audio) -> float:
        """Return `dnsmos_overall`, `dnsmos_signal` or `dnsmos_p808` of audio (N,).

        The first two are of one pass of a model: those of the last audio are remembered.
        """
        audio = _checked(audio)
        if name == "dnsmos_p808":
            mel = [dnsmos_mel(window[:-160])[None] for window in _windows(audio)]
            return float(np.mean([self.p808.run(None, {"input_1": one})[0] for one in mel]))
        key = audio.tobytes()
        if self.last is None or self.last[0] != key:
            raw = np.stack(
                [self.overall.run(None, {"input_1": one[None]})[0][0] for one in _windows(audio)]
            )
            # The package's polynomials, which bring the models' output to people's scores.
            signal = np.polyval([-0.08397278, 1.22083953, 0.0052439], raw[:, 0])
            overall = np.polyval([-0.06766283, 1.11546468, 0.04602535], raw[:, 2])
            self.last = key, (float(overall.mean()), float(signal.mean()))
        return self.last[1][name == "dnsmos_signal"]


def _windows(audio: Audio) -> list[Audio]:
    """Return windows of 9.01 s, a second apart, of audio (N,).

    The package doubles a short audio until it is longer than a window and then slides: up to nine
    passes over the same sound. Repeated to exactly one window it is one pass.
    """
    audio = np.resize(audio, max(audio.size, DNSMOS_WINDOW))
    found = []
    for index in range(int(audio.size // SAMPLE_RATE - 9.01) + 1):
        # As the package rounds: a window that is a sample short is left out there.
        window = audio[index * SAMPLE_RATE : int((index + 9.01) * SAMPLE_RATE)]
        if window.size == DNSMOS_WINDOW:
            found.append(window)
    return found


def dnsmos_mel(audio: Audio) -> NDArray[np.float32]:
    """Return what P.808's model reads of audio (N,): (N // 160 + 1, 120), about −1 to 1.

    It is `librosa.feature.melspectrogram` of 321 samples every 160, in dB under its peak.
    """
    size, hop = 321, 160
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, size // 2), size)[::hop]
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * hann).astype(np.complex64)) ** 2
    mel = power @ filters(size, 120).T
    level = 10.0 * np.log10(np.maximum(1e-10, mel)) - 10.0 * np.log10(max(1e-10, mel.max()))
    return np.asarray((np.maximum(level, level.max() - 80.0) + 40.0) / 40.0, dtype=np.float32)


class Plcmos:
    """PLCMOS through `speechmos`, with fixed raters so that a score can be repeated."""

    def __init__(self) -> None:
        self.model: Any = importlib.import_module("speechmos.plcmos").PLCMOS()
        self.model.session = _session(self.model.model_path)
        # The package draws its 15 imagined raters again for every file from numpy's global state.
        generator = np.random.default_rng(0)
        self.raters: NDArray[np.float32] = generator.normal(
            size=(self.model.embed_rounds, 1, 64)
        ).astype(np.float32)

    def rate(self, audio: Audio) -> float:
        """Return the mean score of audio (N,) over the raters."""
        spectrum = self.model.stft_transform(_checked(audio)).astype(np.float32)[None, None]
        scores = [
            self.model.session.run(None, {"degraded_audio": spectrum, "rater_embed": rater})[0]
            for rater in self.raters
        ]
        return float(np.mean(scores))


class DistillMos:
    """DistillMOS in torch; one thread, which on a busy machine is several times faster."""

    def __init__(self) -> None:
        with _torchaudio_spared(), contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module("distillmos")
            self.model: torch.nn.Module = module.ConvTransformerSQAModel().eval()

    def rate(self, audio: Audio) -> float:
        """Return the score of audio (N,)."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return float(self.model(torch.from_numpy(_checked(audio))[None]).item())
        finally:
            torch.set_num_threads(threads)


@functools.cache
def load_speechmos() -> tuple[dict[str, Scorer], str]:
    try:
        dnsmos, plcmos = Dnsmos(), Plcmos()
    except Exception as error:  # onnxruntime's own, for a damaged model, have no common parent
        return {}, _reason("speechmos", error)

    names = [name for name in SPEECHMOS if name.startswith("dnsmos")]
    scorers: dict[str, Scorer] = {name: functools.partial(dnsmos.rate, name) for name in names}
    return scorers | {"plcmos": plcmos.rate}, ""


@functools.cache
def load_distillmos() -> tuple[dict[str, Scorer], str]:
    try:
        return {"distillmos": DistillMos().rate}, ""
    except (ImportError, OSError, RuntimeError) as error:
        return {}, _reason("distillmos", error)


def _reason(package: str, error: Exception) -> str:
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed: {INSTALL[package]}"
    return f"{package} cannot be loaded ({' '.join(str(error).split())}): {INSTALL[package]}"


def _session(path: str) -> Any:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _torchaudio_spared() -> Iterator[None]:
    """Let `import torchaudio` succeed while the block runs.

    DistillMOS imports it for a file reader that is not used here; the package is large and must
    match the torch that is installed, so it is not asked for.
    """
    if importlib.util.find_spec("torchaudio") is not None:
        yield
        return
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]


def _checked(audio: Audio) -> Audio:
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1 or samples.size == 0:
        raise UserError(f"audio to be scored has shape {samples.shape}: give mono samples (N,)")
    if not np.isfinite(samples).all():
        raise UserError("audio to be scored holds NaN or infinite samples: render it again")
    if samples.size < SHORTEST:
        samples = np.pad(samples, (0, SHORTEST - samples.size))
    return np.clip(samples, -1.0, 1.0)

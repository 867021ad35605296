"""Acted speech for the mini world: a packaged neutral voice, bent by rule through WORLD.

WORLD (Morise, Yokomori & Ozawa 2016) splits speech into F0, spectral envelope and aperiodicity at
5 ms frames. `Renderer.render` moves these by the rules of `rrpo.mini.prosody`, synthesizes, and
adds clicks and plosive pops, which WORLD itself cannot say. What was synthesized and what was added
comes back with the audio, so that a codec's decoder can be trained towards it.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError
from rrpo.mini.mandarin import LANGUAGE, MandarinVoice
from rrpo.mini.prosody import Prosody, draw

FRAME = 80
"""Samples from one WORLD frame to the next: 5 ms."""
FFT_SIZE = 1024
BINS = FFT_SIZE // 2 + 1
TOKEN_FRAMES = 8
"""WORLD frames of one speech token (40 ms); a rendering is a whole number of tokens long."""
FLOOR = 1e-10
"""Lowest spectral power, about the noise of a quiet room, so that logarithms stay moderate."""
F0_LIMITS = (60.0, 600.0)
RECOVERY = -0.3
"""CheapTrick's spectral recovery; sharper than its default of -0.15, resynthesis sounds clearer."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Voice:
    """A speaker made from the packaged one.

    Attributes:
        formant: factor on formant frequencies (longer vocal tract below 1).
        f0: factor on F0.
        rate: factor on speaking rate.
        breathiness: added to `Prosody.breathiness`.
        tilt: added to `Prosody.tilt`, dB per octave.
    """

    formant: float = 1.0
    f0: float = 1.0
    rate: float = 1.0
    breathiness: float = 0.0
    tilt: float = 0.0


VOICES: dict[str, Voice] = {
    "heart": Voice(),
    "birch": Voice(formant=0.84, f0=0.56, rate=0.97, breathiness=0.02, tilt=0.3),
    "cedar": Voice(formant=0.88, f0=0.66, rate=1.06, breathiness=-0.05, tilt=0.6),
    "maple": Voice(formant=0.94, f0=0.84, rate=0.93, breathiness=0.10, tilt=-0.6),
    "hazel": Voice(formant=1.05, f0=1.10, rate=1.05, breathiness=0.05, tilt=-0.3),
    "linden": Voice(formant=1.12, f0=1.28, rate=0.98, breathiness=0.03, tilt=0.2),
    "rowan": Voice(formant=0.97, f0=0.92, rate=1.10, breathiness=-0.08, tilt=0.9),
    "willow": Voice(formant=1.02, f0=0.97, rate=0.90, breathiness=0.18, tilt=-0.9),
}
"""The packaged voice, unaltered, and seven made from it."""


@dataclass(frozen=True)
class Analysis:
    """WORLD analysis of a plain reading: M frames of 5 ms, F = 513 bins from 0 to 8 kHz.

    Attributes:
        text: what is read.
        f0: (M,) Hz, 0 where unvoiced.
        envelope: (M, F) power spectrum.
        aperiodicity: (M, F) from 0 (periodic) to 1 (noise).
    """

    text: str
    f0: Array
    envelope: Array
    aperiodicity: Array


@dataclass(frozen=True)
class Transient:
    """A short event added to the waveform.

    Attributes:
        kind: "click" (1 to 3 ms, wide band) or "pop" (60 to 90 Hz, decaying within 60 ms).
        time: onset, seconds from the first sample.
        peak: greatest absolute sample of the event by itself.
    """

    kind: str
    time: float
    peak: float


@dataclass(frozen=True)
class Rendering:
    """Audio and exactly the WORLD frames it was synthesized from.

    Attributes:
        audio: (N,) float32 at 16 kHz, N = 80 M, a multiple of 640; transients included.
        f0: (M,) Hz, 0 where unvoiced; frame m is centred at sample 80 m.
        envelope: (M, 513) power spectrum.
        aperiodicity: (M, 513) from 0 to 1.
        transients: what was added after synthesis.
        prosody: the drawn departure from the plain reading.
    """

    audio: Audio
    f0: Array
    envelope: Array
    aperiodicity: Array
    transients: list[Transient]
    prosody: Prosody


class Renderer:
    """A packaged voice with WORLD around it.

    Args:
        language: "en", or "zh", whose voice reads only the sentences of `rrpo.mini.mandarin`.

    Raises:
        UserError: the optional packages are not installed.
    """

    def __init__(self, language: str = "en") -> None:
        self._world, self._voice = _load(language)

    def phonemize(self, text: str) -> str:
        """Return the phone string of a text in the packaged voice's own alphabet."""
        return " ".join(self._voice.phonemize(text))

    def plain(self, text: str) -> Array:
        """Return the unaltered voice (N,) at 16 kHz.

        Raises:
            UserError: the text gives no speech.
        """
        if not any(phone.isalpha() for phone in self.phonemize(text)):
            raise UserError(f"the text {text!r} gives no speech: write at least one word")
        audio = np.asarray(self._voice(text, seed=0), dtype=np.float64)
        return np.asarray(soxr.resample(audio, 24_000, SAMPLE_RATE), dtype=np.float64)

    def analyse(self, text: str) -> Analysis:
        """Read a text plainly and analyse it; silence at both ends is cut off.

        Raises:
            UserError: the text gives no speech.
        """
        audio = self.plain(text)
        world = self._world
        found, times = world.dio(
            audio, SAMPLE_RATE, f0_floor=70.0, f0_ceil=500.0, frame_period=5.0, allowed_range=0.2
        )
        f0 = world.stonemask(audio, found, times, SAMPLE_RATE)
        envelope = world.cheaptrick(audio, f0, times, SAMPLE_RATE, q1=RECOVERY, fft_size=FFT_SIZE)
        aperiodicity = world.d4c(audio, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
        first, end = _speech_range(envelope)
        kept = slice(first, end)
        return Analysis(text, f0[kept], np.maximum(envelope[kept], FLOOR), aperiodicity[kept])

    def render(
        self,
        analysis: Analysis,
        emotion: str,
        intensity: float,
        voice: Voice,
        rng: np.random.Generator,
    ) -> Rendering:
        """Act an analysed text.

        Args:
            analysis: from `analyse`; it can be acted any number of times.
            emotion: one of `rrpo.emotions.EMOTIONS`.
            intensity: 0 to 1.
            voice: a value of `VOICES`, or another.
            rng: the only source of chance.

        Raises:
            UserError: the emotion is unknown or the intensity is outside [0, 1].
        """
        prosody = draw(emotion, intensity, rng)
        frames = _warp_time(analysis, prosody.rate + float(np.log(voice.rate)), rng)
        voiced = frames.f0 > 0.0
        f0 = _bend_f0(frames.f0, prosody, voice, rng)
        envelope = _shape_envelope(frames.envelope, voiced, prosody, voice, rng)
        aperiodicity = _breathe(
            _warp_frequency(frames.aperiodicity, voice.formant), voiced, prosody, voice
        )
        audio = self._world.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, 5.0)
        audio = np.pad(audio, (0, FRAME))[: FRAME * len(f0)]
        factor = _level(audio, prosody.gain)
        audio, transients = _add_transients(audio * factor, envelope, prosody, rng)
        return Rendering(
            audio.astype(np.float32), f0, envelope * factor**2, aperiodicity, transients, prosody
        )


def _load(language: str) -> tuple[ModuleType, Any]:
    """Import WORLD and load the packaged voice of a language."""
    try:
        import pyworld

        if language == LANGUAGE:
            return pyworld, MandarinVoice()
        from hibari import Hibari
    except ImportError as error:
        raise UserError(
            f"the renderer needs the package {error.name}: pip install 'rrpo[mini]'"
        ) from None
    return pyworld, Hibari()


def _energy(envelope: Array) -> Array:
    """Return the level of each frame (M,) in dB, from an envelope (M, F)."""
    return np.asarray(10.0 * np.log10(envelope.mean(axis=1) + 1e-16))


def _speech_range(envelope: Array, margin: int = 12) -> tuple[int, int]:
    """Return the half-open range of frames from the first to the last within 55 dB of the peak."""
    level = _energy(envelope)
    active = np.flatnonzero(level > level.max() - 55.0)
    return max(0, int(active[0]) - margin), min(len(level), int(active[-1]) + 1 + margin)


def _warp_time(analysis: Analysis, rate: float, rng: np.random.Generator) -> Analysis:
    """Change the rate by exp(rate) and put short silences at both ends.

    Vowels stretch more than consonants (as in people: Gay 1978): the logarithm of the factor is
    weighted 1.15 in voiced and 0.7 in unvoiced frames.
    """
    slower = np.where(analysis.f0 > 0.0, -1.15 * rate, -0.7 * rate)
    ends = np.cumsum(np.exp(slower))
    middles = ends - np.exp(slower) / 2
    position = np.interp(np.arange(0.5, ends[-1]), middles, np.arange(len(middles), dtype=float))
    before, after = int(rng.integers(12, 25)), int(rng.integers(20, 36))
    after += -(before + len(position) + after) % TOKEN_FRAMES
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(middles) - 1)
    share = position - low
    nearest = np.where(share < 0.5, low, high)
    both = (analysis.f0[low] > 0.0) & (analysis.f0[high] > 0.0)
    f0 = np.where(
        both,
        analysis.f0[low] * (1.0 - share) + analysis.f0[high] * share,
        analysis.f0[nearest],
    )
    log = np.log(analysis.envelope)
    envelope = np.exp(log[low] * (1.0 - share[:, None]) + log[high] * share[:, None])
    ends_width = ((before, after), (0, 0))
    return Analysis(
        analysis.text,
        np.pad(f0, ends_width[0]),
        np.pad(envelope, ends_width, constant_values=FLOOR),
        np.pad(analysis.aperiodicity[nearest], ends_width, constant_values=1.0),
    )


def _smooth_noise(size: int, width: int, rng: np.random.Generator) -> Array:
    """Return (size,) Gaussian noise of unit deviation, averaged over a Hann window of `width`."""
    window = np.hanning(width + 2)[1:-1]
    window /= np.sqrt(np.square(window).sum())
    return np.convolve(rng.standard_normal(size + width), window, mode="same")[:size]


def _bend_f0(f0: Array, prosody: Prosody, voice: Voice, rng: np.random.Generator) -> Array:
    """Move F0 (M,) by the rules; unvoiced frames stay 0."""
    voiced = np.flatnonzero(f0 > 0.0)
    size = len(f0)
    noise = _smooth_noise(size, 3, rng)
    rate, phase = rng.uniform(5.0, 8.0), rng.uniform(0.0, 2.0 * np.pi)
    if len(voiced) == 0:
        return f0.copy()
    semitones = 12.0 * np.log2(f0[voiced])
    mean = semitones.mean()
    span = np.exp(prosody.span)
    # A soft limit keeps rare analysis errors and wide ranges from leaving the voice's compass.
    moved = mean + prosody.level + 12.0 * np.log2(voice.f0)
    moved = moved + 12.0 * np.tanh((semitones - mean) * span / 12.0)
    share = (voiced - voiced[0]) / max(1, voiced[-1] - voiced[0])
    moved += prosody.slope * (share - 0.5)
    to_end = (voiced[-1] - voiced) * 0.005
    moved += prosody.final * np.clip(1.0 - to_end / 0.35, 0.0, 1.0) ** 1.5
    moved += prosody.tremor * np.sin(2.0 * np.pi * rate * 0.005 * voiced + phase)
    moved += prosody.jitter * noise[voiced]
    bent = np.zeros(size)
    bent[voiced] = np.clip(2.0 ** (moved / 12.0), *F0_LIMITS)
    return bent


def _warp_frequency(values: Array, factor: float) -> Array:
    """Stretch spectra (M, F) along frequency: the value at f comes from f / factor."""
    source = np.minimum(np.arange(BINS) / factor, BINS - 1.0)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, BINS - 1)
    share = source - low
    return np.ascontiguousarray(values[:, low] * (1.0 - share) + values[:, high] * share)


def _shape_envelope(
    envelope: Array,
    voiced: NDArray[np.bool_],
    prosody: Prosody,
    voice: Voice,
    rng: np.random.Generator,
) -> Array:
    """Apply formants, tilt, dynamics and the tremor of the energy to an envelope (M, F)."""
    log = _warp_frequency(np.log(envelope), voice.formant * float(np.exp(prosody.formant)))
    level = _energy(envelope)
    speech = level > level.max() - 40.0
    octaves = np.log2(np.clip(np.linspace(0.0, 8000.0, BINS), 150.0, 6000.0) / 1000.0)
    strength = np.where(voiced, 1.0, 0.5)[:, None]
    gain = (prosody.tilt + voice.tilt) * strength * octaves
    departure = np.clip(level - level[speech].mean(), -20.0, 15.0)
    window = np.hanning(9)[1:-1]
    change = np.convolve(prosody.dynamics * departure, window / window.sum(), mode="same")
    shake = prosody.tremor * 2.5 * _smooth_noise(len(level), 25, rng)
    gain = gain + np.where(speech, change + shake, change)[:, None]
    return np.ascontiguousarray(np.maximum(np.exp(log + gain * np.log(10.0) / 10.0), FLOOR))


def _breathe(
    aperiodicity: Array, voiced: NDArray[np.bool_], prosody: Prosody, voice: Voice
) -> Array:
    """Raise (breathy) or lower (tense) the aperiodicity (M, F) of voiced frames."""
    amount = float(np.clip(prosody.breathiness + voice.breathiness, -0.6, 0.6))
    frequency = np.linspace(0.0, 8000.0, BINS)
    reach = amount / (1.0 + np.exp(-(frequency - 1800.0) / 500.0))
    changed = np.where(
        reach >= 0.0, aperiodicity + (1.0 - aperiodicity) * reach, aperiodicity * (1.0 + reach)
    )
    bounded = np.clip(np.where(voiced[:, None], changed, aperiodicity), 0.001, 1.0)
    return np.ascontiguousarray(bounded)


def _level(audio: Array, gain: float) -> float:
    """Return the factor that brings active speech to -22 dBFS + gain with its peak at most 0.8."""
    blocks = np.square(audio[: len(audio) // 320 * 320]).reshape(-1, 320).mean(axis=1)
    active = blocks[blocks > blocks.max() * 10.0**-3.5]
    root = float(np.sqrt(active.mean()))
    factor = 10.0 ** ((gain - 22.0) / 20.0) / max(root, 1e-9)
    return float(min(factor, 0.8 / max(float(np.abs(audio).max()), 1e-9)))


def _onsets(envelope: Array) -> NDArray[np.int64]:
    """Return frames at which speech bursts out of a closure or a pause: rises of 15 dB in 15 ms."""
    level = _energy(envelope)
    level = np.maximum(level, level.max() - 45.0)
    rise = level[3:] - level[:-3]
    peak = (rise[1:-1] > 15.0) & (rise[1:-1] >= rise[:-2]) & (rise[1:-1] > rise[2:])
    return np.flatnonzero(peak) + 2


def _add_transients(
    audio: Array, envelope: Array, prosody: Prosody, rng: np.random.Generator
) -> tuple[Array, list[Transient]]:
    """Add clicks and pops to audio (N,) and list them.

    A pop falls on a burst with a probability that grows with the square of vocal effort; a click
    falls anywhere quiet in about 3 of 100 utterances whatever the emotion.
    """
    events: list[tuple[Transient, Array]] = []
    chance = min(0.5, 0.001 + 0.075 * prosody.effort**2)
    for frame in _onsets(envelope):
        if rng.random() < chance:
            peak = float(rng.uniform(0.10, 0.22) * (0.7 + 1.0 * prosody.effort))
            events.append((Transient("pop", int(frame) * 0.005, peak), _pop(peak, rng)))
    if rng.random() < 0.03:
        quiet = np.flatnonzero(_energy(envelope) < _energy(envelope).max() - 35.0)
        frame = int(rng.choice(quiet[quiet < len(envelope) - 8]))
        peak = float(rng.uniform(0.08, 0.35))
        events.append((Transient("click", frame * 0.005, peak), _click(peak, rng)))
    mixed = audio.copy()
    for transient, shape in events:
        start = round(transient.time * SAMPLE_RATE)
        room = min(len(shape), len(mixed) - start)
        mixed[start : start + room] += shape[:room]
    return np.clip(mixed, -0.99, 0.99), [transient for transient, _ in events]


def _pop(peak: float, rng: np.random.Generator) -> Array:
    """Return a plosive pop: breath striking a microphone, a decaying 60 to 90 Hz swing."""
    time = np.arange(int(0.06 * SAMPLE_RATE)) / SAMPLE_RATE
    attack = 1.0 - np.exp(-time / 0.001)
    swing = np.sin(2.0 * np.pi * rng.uniform(60.0, 90.0) * time) * np.exp(-time / 0.015) * attack
    gust = rng.standard_normal(len(time)) * np.exp(-time / 0.004) * 0.25
    shape = swing + np.convolve(gust, np.ones(8) / 8.0, mode="same")
    fade = np.minimum(1.0, (time[-1] - time) / 0.01)
    shape = shape * fade
    return np.asarray(shape * (rng.choice([-1.0, 1.0]) * peak / np.abs(shape).max()))


def _click(peak: float, rng: np.random.Generator) -> Array:
    """Return a mouth click: 1 to 3 ms of noise that starts at once and dies away."""
    size = int(rng.uniform(0.001, 0.003) * SAMPLE_RATE)
    shape = rng.standard_normal(size) * np.exp(-3.0 * np.arange(size) / size)
    shape[0] = rng.choice([-1.0, 1.0]) * np.abs(shape).max()
    return np.asarray(shape * peak / np.abs(shape).max())

"""Acted speech for the mini world: a packaged neutral voice, bent by rule through WORLD.

WORLD (Morise, Yokomori & Ozawa 2016) splits speech into F0, spectral envelope and aperiodicity at
5 ms frames. `Renderer.render` moves these by the rules of `rrpo_world.prosody`, synthesizes, and
adds clicks and plosive pops, which WORLD itself cannot say. What was synthesized and what was added
comes back with the audio, so that a codec's decoder can be trained towards it.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import soxr

from rrpo.audio import SAMPLE_RATE, Audio
from rrpo.errors import UserError
from rrpo_world.bending import Voice, bend_f0, breathe, shape_envelope, warp_frequency, warp_time
from rrpo_world.clicks_and_pops import Transient, add_transients
from rrpo_world.frames import FFT_SIZE, FLOOR, FRAME, Analysis, Array, energy
from rrpo_world.mandarin import LANGUAGE, MandarinVoice
from rrpo_world.prosody import Prosody, draw_prosody

RECOVERY = -0.3
"""CheapTrick's spectral recovery; sharper than its default of -0.15, resynthesis sounds clearer."""


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
        language: "en", or "zh", whose voice reads only the sentences of `rrpo_world.mandarin`.

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
        prosody = draw_prosody(emotion, intensity, rng)
        frames = warp_time(analysis, prosody.rate + float(np.log(voice.rate)), rng)
        voiced = frames.f0 > 0.0
        f0 = bend_f0(frames.f0, prosody, voice, rng)
        envelope = shape_envelope(frames.envelope, voiced, prosody, voice, rng)
        aperiodicity = breathe(
            warp_frequency(frames.aperiodicity, voice.formant), voiced, prosody, voice
        )
        audio = self._world.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, 5.0)
        audio = np.pad(audio, (0, FRAME))[: FRAME * len(f0)]
        factor = level_factor(audio, prosody.gain)
        audio, transients = add_transients(audio * factor, envelope, prosody, rng)
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


def _speech_range(envelope: Array, margin: int = 12) -> tuple[int, int]:
    """Return the half-open range of frames from the first to the last within 55 dB of the peak."""
    level = energy(envelope)
    active = np.flatnonzero(level > level.max() - 55.0)
    return max(0, int(active[0]) - margin), min(len(level), int(active[-1]) + 1 + margin)


def level_factor(audio: Array, gain: float) -> float:
    """Return the factor that brings active speech to -22 dBFS + gain with its peak at most 0.8."""
    blocks = np.square(audio[: len(audio) // 320 * 320]).reshape(-1, 320).mean(axis=1)
    active = blocks[blocks > blocks.max() * 10.0**-3.5]
    root = float(np.sqrt(active.mean()))
    factor = 10.0 ** ((gain - 22.0) / 20.0) / max(root, 1e-9)
    return float(min(factor, 0.8 / max(float(np.abs(audio).max()), 1e-9)))

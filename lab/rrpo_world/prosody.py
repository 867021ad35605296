"""The rule table: how each emotion moves the voice, and the draw of one utterance's prosody.

The directions follow the reviews and synthesis studies named in `docs/mini-world-renderer.md`
(Murray & Arnott 1993; Banse & Scherer 1996; Burkhardt & Sendlmeier 2000; Scherer 2003;
Juslin & Laukka 2003); the sizes are ours, chosen so that the classes overlap.
"""

from dataclasses import dataclass, fields

import numpy as np

from rrpo.emotions import EMOTIONS, emotion_index
from rrpo.errors import UserError


@dataclass(frozen=True)
class Prosody:
    """Departure of one utterance from the voice's plain reading; all zero changes nothing."""

    level: float = 0.0
    """Mean F0, semitones."""
    span: float = 0.0
    """F0 range: natural logarithm of the factor on log F0 about its mean."""
    slope: float = 0.0
    """Change of F0 from the first to the last voiced frame, semitones."""
    final: float = 0.0
    """Movement of F0 over the last 0.35 s before its end, semitones, upward positive."""
    rate: float = 0.0
    """Speaking rate: natural logarithm of the factor on speed."""
    gain: float = 0.0
    """Level of active speech, dB."""
    dynamics: float = 0.0
    """Expansion (positive) or compression of the energy contour, as a fraction of its dB."""
    tilt: float = 0.0
    """Spectral tilt, dB per octave about 1 kHz; positive is brighter."""
    breathiness: float = 0.0
    """Share of the periodic part turned to noise above about 1.5 kHz; negative is tense."""
    tremor: float = 0.0
    """Depth of a 5 to 8 Hz wavering of F0, semitones; the energy wavers with it."""
    jitter: float = 0.0
    """Standard deviation of the irregular frame-to-frame movement of F0, semitones."""
    formant: float = 0.0
    """Natural logarithm of the factor on formant frequencies; lip spreading raises them."""
    effort: float = 0.0
    """Vocal effort, 0 (plain) to about 1 (shouted): how likely and strong plosive pops are."""


PARAMETERS: tuple[str, ...] = tuple(field.name for field in fields(Prosody))

RULES: dict[str, Prosody] = {
    "neutral": Prosody(),
    "angry": Prosody(
        level=3.2,
        span=0.36,
        slope=-1.3,
        final=-2.0,
        rate=0.13,
        gain=5.2,
        dynamics=0.26,
        tilt=2.9,
        breathiness=-0.33,
        jitter=0.13,
        effort=1.0,
    ),
    "happy": Prosody(
        level=4.5,
        span=0.49,
        slope=1.3,
        final=1.3,
        rate=0.078,
        gain=2.6,
        dynamics=0.13,
        tilt=1.2,
        breathiness=-0.065,
        formant=0.046,
        effort=0.45,
    ),
    "sad": Prosody(
        level=-2.6,
        span=-0.78,
        slope=-1.3,
        final=-2.0,
        rate=-0.26,
        gain=-5.2,
        dynamics=-0.16,
        tilt=-2.3,
        breathiness=0.33,
        tremor=0.13,
        formant=-0.026,
        effort=-0.2,
    ),
    "surprised": Prosody(
        level=3.9,
        span=0.59,
        slope=2.0,
        final=9.1,
        rate=-0.026,
        gain=2.0,
        dynamics=0.078,
        tilt=0.65,
        breathiness=0.10,
        effort=0.35,
    ),
    "fearful": Prosody(
        level=5.2,
        span=-0.33,
        slope=0.65,
        final=0.65,
        rate=0.21,
        gain=-1.3,
        dynamics=-0.078,
        tilt=0.52,
        breathiness=0.29,
        tremor=0.59,
        jitter=0.16,
        formant=0.013,
        effort=0.05,
    ),
}
"""Mean departure of each emotion at intensity 1."""

SPREAD = Prosody(
    level=0.98,
    span=0.14,
    slope=0.78,
    final=0.91,
    rate=0.055,
    gain=1.0,
    dynamics=0.058,
    tilt=0.59,
    breathiness=0.078,
    tremor=0.098,
    jitter=0.039,
    formant=0.012,
    effort=0.25,
)
"""Standard deviation between utterances of one emotion, the neutral one too."""

NOT_NEGATIVE = ("tremor", "jitter", "effort")
"""Parameters that mean nothing below zero."""


def check_intensity(intensity: float) -> None:
    """Reject an intensity outside [0, 1].

    Raises:
        UserError: it is outside, or not a number.
    """
    if not 0.0 <= intensity <= 1.0:
        raise UserError(f"intensity {intensity}: give a number from 0 (none) to 1 (full)")


def draw_prosody(emotion: str, intensity: float, rng: np.random.Generator) -> Prosody:
    """Draw the prosody of one utterance.

    Each parameter is `intensity * weight * rule + spread * normal`; the weight, uniform in
    [0.6, 1.2] for each parameter, lets one speaker act with the pitch and another with the pace.

    Args:
        emotion: one of `rrpo.emotions.EMOTIONS`.
        intensity: 0 (as neutral) to 1.
        rng: the only source of chance.

    Raises:
        UserError: the emotion is unknown or the intensity is outside [0, 1].
    """
    rule = RULES[EMOTIONS[emotion_index(emotion)]]
    check_intensity(intensity)
    weight = rng.uniform(0.6, 1.2, len(PARAMETERS))
    noise = rng.standard_normal(len(PARAMETERS))
    mean = np.array([getattr(rule, name) for name in PARAMETERS])
    spread = np.array([getattr(SPREAD, name) for name in PARAMETERS])
    values = intensity * weight * mean + spread * np.clip(noise, -2.5, 2.5)
    return Prosody(
        **{
            name: max(0.0, float(value)) if name in NOT_NEGATIVE else float(value)
            for name, value in zip(PARAMETERS, values, strict=True)
        }
    )

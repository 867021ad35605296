"""Artifacts in speech: clicks, pops, loops, stuck sound, silence and clipping, and their tokens."""

from rrpo.evaluate.artifacts.detectors import KINDS, THRESHOLDS, TRANSIENTS, detect, scores
from rrpo.evaluate.artifacts.drops import quality_drops
from rrpo.evaluate.artifacts.events import Artifact, Scores
from rrpo.evaluate.artifacts.tokens import carrier_shares, token_artifacts
from rrpo.repetition import loops, repetition

__all__ = [
    "KINDS",
    "THRESHOLDS",
    "TRANSIENTS",
    "Artifact",
    "Scores",
    "carrier_shares",
    "detect",
    "loops",
    "quality_drops",
    "repetition",
    "scores",
    "token_artifacts",
]

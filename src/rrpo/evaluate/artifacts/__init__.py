"""Artifacts in speech: clicks, pops, loops, stuck sound, silence and clipping."""

from rrpo.evaluate.artifacts.detectors import KINDS, THRESHOLDS, TRANSIENTS, detect, scores
from rrpo.evaluate.artifacts.events import Artifact, Scores

__all__ = ["KINDS", "THRESHOLDS", "TRANSIENTS", "Artifact", "Scores", "detect", "scores"]

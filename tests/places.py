"""Where the tests find what lies outside their own folder."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = ROOT.parent / "shared"
"""A folder beside the checkout; what needs it is skipped where it is not."""
CORPORA = BESIDE / "data" / "corpora"
GOLDEN = BESIDE / "golden" / "cosyvoice"

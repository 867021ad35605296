"""Stretches that a quality scorer rates far below the rest."""

import numpy as np
import pytest

from rrpo.errors import UserError
from rrpo.evaluate import quality
from rrpo_world.artifacts.drops import drops_of, quality_below
from synthetic_speech import RATE


def test_quality_drops_are_where_a_scorer_says() -> None:
    audio = np.zeros(5 * RATE, np.float32)
    audio[2 * RATE : 3 * RATE] = 0.5
    found = drops_of(
        quality_below(audio, lambda part: 4.0 - 2.4 * float(np.abs(part).mean() / 0.5))
    )
    assert [artifact.kind for artifact in found] == ["quality"]
    assert found[0].start == pytest.approx(1.5)
    assert found[0].end == pytest.approx(3.5)
    assert found[0].strength == pytest.approx(2.4)
    assert drops_of(quality_below(audio, lambda _: 3.0)) == []
    assert quality_below(audio[:RATE], lambda _: 3.0).size == 0


def test_a_scorer_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "available", dict)
    monkeypatch.setattr(quality, "missing", lambda: {"plcmos": "not installed: pip install x"})
    with pytest.raises(UserError, match="need a quality scorer: not installed: pip install x"):
        quality_below(np.zeros(RATE, np.float32))
    with pytest.raises(UserError, match="no scorer 'ears'"):
        quality_below(np.zeros(RATE, np.float32), "ears")
    with pytest.raises(UserError, match="mono"):
        quality_below(np.zeros((2, RATE), np.float32), lambda _: 1.0)

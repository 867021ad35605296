"""The figures of the mini world: the command in its tiny size, and the parts that can go wrong."""

from pathlib import Path

import numpy as np
import pytest

from rrpo.checkpoint import read_json
from rrpo.mini.world import World
from rrpo.studies import world as study


def test_swapping_texts_is_seen() -> None:
    figures = study.policy_figures(World(), World().policy())
    assert figures["swapped_loss"]["mean"] > figures["loss"]["mean"]


def test_a_clean_sound_has_no_inserted_transient() -> None:
    time = np.arange(16000) / 16000
    voice = np.sin(2 * np.pi * 150 * time) * np.hanning(16000)
    figures = study.transients(World().codec(), [voice.astype(np.float32)])
    assert set(figures) == {"click", "pop"}
    for kind in figures.values():
        assert 0.0 <= kind["found"]["mean"] <= 1.0


def test_the_command_writes_its_page(tmp_path: Path) -> None:
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    page = study.run(tmp_path, study.SMOKE, command="rrpo study world --smoke").read_text()
    figures = read_json(tmp_path / "study.json")
    assert list(figures["speech"]) == ["rendering", "codec", "base, seed 0"]
    assert figures["speech"]["codec"]["utterances"] == 6
    assert "`rrpo study world --smoke`" in page
    assert f"{figures['judge']['test_same']['mean']:.2f}" in page

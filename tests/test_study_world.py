"""The figures of the mini world: the command in its tiny size, and the parts that can go wrong."""

from pathlib import Path

import pytest
import torch

from rrpo.checkpoint import read_json
from rrpo.mini.world import World
from rrpo.studies import world as study


def test_swapping_texts_is_seen() -> None:
    figures = study.policy_figures(World(), World().policy())
    assert figures["swapped_loss"]["mean"] > figures["loss"]["mean"]


def test_inserted_clicks_are_found_and_clean_speech_has_none() -> None:
    rows = [row for row in World().shard("test_same") if row.emotion == "neutral"][:6]
    codec = World().codec()
    sounds = codec.decode_batch([torch.from_numpy(row.tokens) for row in rows])
    click = study.transients(codec, sounds)["click"]
    assert click["found"]["mean"] > 0.5
    assert click["false_per_second"]["mean"] < click["found"]["mean"]


def test_the_command_writes_its_page(tmp_path: Path) -> None:
    pytest.importorskip("hibari", reason="needs the packaged voice: pip install 'rrpo[mini]'")
    pytest.importorskip("pyworld", reason="needs WORLD: pip install 'rrpo[mini]'")
    page = study.run(tmp_path, study.SMOKE, command="rrpo study world --smoke").read_text()
    figures = read_json(tmp_path / "study.json")
    assert list(figures["speech"]) == ["rendering", "codec", "base, seed 0"]
    assert figures["speech"]["codec"]["utterances"] == 6
    assert "`rrpo study world --smoke`" in page
    assert f"{figures['judge']['test_same']['mean']:.2f}" in page

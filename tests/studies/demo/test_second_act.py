"""What the bundled world lets be heard of the planted study."""

import json
from pathlib import Path

import pytest
import soundfile
import torch

from rrpo.mini.world import World
from rrpo.report.hacked import FILE, hacked
from rrpo.studies.demo.second_act import bundled, write_second_act


@pytest.mark.slow
def test_the_sounds_are_those_of_the_bundled_tokens(tmp_path: Path) -> None:
    world = World()
    write_second_act(tmp_path, world)
    told, found = bundled(), json.loads((tmp_path / FILE).read_text())
    assert len(told["acts"]) >= 3
    for act, written in zip(told["acts"], found["acts"], strict=True):
        assert len(act["tokens"]) == len(written["sounds"]) == len(told["texts"])
        for tokens, sound in zip(act["tokens"], written["sounds"], strict=True):
            expected = world.codec().decode(torch.tensor(tokens))
            audio, rate = soundfile.read(tmp_path / sound["wav"], dtype="float32")
            assert rate == 16_000
            assert abs(audio - expected.clip(-1, 1)).max() < 1e-4
    shown = hacked(tmp_path)
    assert shown is not None
    assert all(player is not None for act in shown.acts for player in act.players)


def test_a_world_with_another_codec_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "codec_identity", "mini:another")
    write_second_act(tmp_path, World())
    assert not (tmp_path / FILE).exists()

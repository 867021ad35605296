"""`rrpo reward eval` of detectors: what share of speech they find their sound in."""

from pathlib import Path

import pytest

from command_line import mistake, rrpo
from detector_shards import QUICK, shards
from rrpo import detector_eval, train_detector
from rrpo.checkpoint import read_json
from rrpo.data.shards import read_shard, write_shard
from rrpo.mini.world import World
from rrpo.sound.inserts import INSERTS

LEARNED = {"train.steps": 40, "train.learning_rate": 1e-2, "batch_size": 8}


def test_shards_are_named_with_their_sound_and_the_run_keeps_the_figures(
    tiny: Path, tmp_path: Path
) -> None:
    made = shards(tmp_path, World().codec_identity)
    rows = read_shard(made["having"])
    write_shard(tmp_path / "clicking.parquet", rows, World().codec_identity, "clicks")
    folder = tmp_path / "run"
    train_detector(folder, **made, start=tiny / "reward", settings=LEARNED)
    data = ["--data", made["data"], "--data", tmp_path / "clicking.parquet"]
    said = " ".join(rrpo("reward", "eval", folder, *data).split())
    assert "0.00 [0.00, 0.46]" in said  # 1 − .025^(1/6)
    assert "1.00 [0.54, 1.00]" in said
    found = read_json(folder / "results.json")["evaluation"]
    assert found["clicking, with clicks"]["found"]["mean"] == 1.0
    assert found["data"]["utterances"] == 6
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Evaluation, clicking, with clicks, found" in page
    assert "Last validation, false alarms" in page


def test_bundled_speech_is_tried_with_every_sound(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_eval, "TESTED", 4)
    speech = detector_eval.bundled_speech()
    assert list(speech) == ["as it is", "tokenized again", *(f"with {name}" for name in INSERTS)]
    plain = [row.tokens.tobytes() for row in speech["as it is"]]
    for name, rows in speech.items():
        assert len(rows) == 4
        if name.startswith("with"):
            assert any(
                row.tokens.tobytes() != other for row, other in zip(rows, plain, strict=True)
            )
    folder = tmp_path / "run"
    train_detector(
        folder, **shards(tmp_path, World().codec_identity), start=tiny / "reward", settings=QUICK
    )
    rrpo("reward", "eval", folder)
    assert set(read_json(folder / "results.json")["evaluation"]) == set(speech)


def test_the_page_names_the_sound(tiny: Path, tmp_path: Path) -> None:
    made = shards(tmp_path, World().codec_identity)
    write_shard(
        tmp_path / "hums.parquet", read_shard(made["having"]), World().codec_identity, "hum"
    )
    folder = tmp_path / "run"
    train_detector(
        folder, made["data"], tmp_path / "hums.parquet", start=tiny / "reward", settings=QUICK
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "It says whether speech has this sound in it: hum." in page


def test_a_detector_beside_a_recogniser_is_refused(tiny: Path, tmp_path: Path) -> None:
    made = shards(tmp_path, World().codec_identity)
    train_detector(tmp_path / "run", **made, start=tiny / "reward", settings=QUICK)
    said = mistake("reward", "eval", tiny / "reward", tmp_path / "run", "--data", made["data"])
    assert "a detector of sounds, no recogniser of emotion" in said
    assert "test them apart" in said

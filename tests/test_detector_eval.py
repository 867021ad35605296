"""`rrpo reward eval` of detectors: what share of speech they find their sound in."""

import shutil
from pathlib import Path

import pytest

from command_line import mistake, rrpo
from detector_shards import QUICK, shards
from rrpo import detector_eval, reward_eval, train_detector
from rrpo.data.shards import read_shard, shard_insert, write_shard
from rrpo.files import read_json
from rrpo.mini.world import World
from rrpo.sound.inserts import INSERTS

LEARNED = {"train.steps": 40, "train.learning_rate": 1e-2, "batch_size": 8}


@pytest.mark.slow
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
    assert "0.00 [0.00, 0.39]" in said  # Wilson: z² / (n + z²)
    assert "1.00 [0.61, 1.00]" in said
    found = read_json(folder / "results.json")["evaluation"]["detection"]
    assert found["clicking, with clicks"]["found"]["mean"] == 1.0
    assert found["data"]["utterances"] == 6
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Evaluation, detection, clicking, with clicks, found" in page
    assert "Validation, false alarms" in page


@pytest.mark.slow
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
    reward_eval.evaluate([str(folder)], [])
    assert set(read_json(folder / "results.json")["evaluation"]["detection"]) == set(speech)


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
    assert "a detector of sounds, which" in said
    assert "test them in two commands" in said


@pytest.mark.slow
def test_sets_of_like_names_are_told_apart(tiny: Path, tmp_path: Path) -> None:
    made = shards(tmp_path, World().codec_identity)
    rows = read_shard(made["having"])
    folder, codec = tmp_path / "run", World().codec_identity
    (tmp_path / "x").mkdir()
    named = [tmp_path / "x.parquet", tmp_path / "x, with clicks.parquet", tmp_path / "x"]
    for place, sound in zip(named, ("clicks", "", ""), strict=True):
        write_shard(place / "a.parquet" if place.is_dir() else place, rows, codec, sound)
    train_detector(folder, **made, start=tiny / "reward", settings=QUICK)
    rrpo("reward", "eval", folder, *(word for place in named for word in ("--data", place)))
    assert len(read_json(folder / "results.json")["evaluation"]["detection"]) == 3


@pytest.mark.slow
def test_figures_of_other_weights_are_not_carried_over(tiny: Path, tmp_path: Path) -> None:
    made = shards(tmp_path, World().codec_identity)
    folder = tmp_path / "run"
    train_detector(folder, **made, start=tiny / "reward", settings=QUICK)
    rrpo("reward", "eval", folder, "--data", made["data"])
    train_detector(folder, **made, start=tiny / "reward", settings=QUICK, resume=True)
    assert "evaluation" in read_json(folder / "results.json")
    shutil.rmtree(folder / "checkpoint")
    train_detector(folder, **made, start=tiny / "reward", settings=QUICK | {"train.steps": 4})
    assert "evaluation" not in read_json(folder / "results.json")


def test_files_with_different_sounds_are_all_named(tmp_path: Path) -> None:
    rows = read_shard(shards(tmp_path, "own")["data"])
    (tmp_path / "mixed").mkdir()
    for name, sound in (("a", ""), ("b", "clicks"), ("c", "hum")):
        write_shard(tmp_path / "mixed" / f"{name}.parquet", rows, "own", sound)
    assert shard_insert(tmp_path / "mixed") == "nothing, clicks, hum"

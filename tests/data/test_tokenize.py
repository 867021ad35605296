"""What a manifest says of a recording arrives in its token shard."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch
from torch import Tensor

from rrpo.audio import Audio
from rrpo.cli import data as commands
from rrpo.data.manifest import Recording, read_manifest, write_manifest
from rrpo.data.shards import Utterance, read_shard, shard_insert, write_shard
from rrpo.data.survey import read_recording
from rrpo.data.tokenize import tokenize
from rrpo.data.utterance import OPTIONAL
from rrpo.errors import UserError
from rrpo.files import read_json
from rrpo.sound import file as sound_file


class Counting:
    """A codec whose tokens, 25 a second, are the length of the audio in tenths of a second."""

    calls = 0

    def encode(self, audio: Audio) -> Tensor:
        self.calls += 1
        return torch.full((max(1, audio.size // 640),), audio.size // 1600)

    def decode(self, ids: Tensor) -> Audio:
        return np.zeros(1600 * int(ids[0]), np.float32)


def test_corpus_partition_and_intensity_reach_the_tokens_and_the_mixes(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        noise = np.random.default_rng(seed).normal(0, 0.1, 3200)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    first = Recording(
        tmp_path / "a.wav", "sad", "A.", "s", "en", "ravdess", "male", 0.5, "validation", "one"
    )
    write_manifest(tmp_path / "data", [first, Recording(tmp_path / "b.wav", "happy")])
    tokenize(Counting(), read_manifest(tmp_path / "data"), tmp_path / "out", mixes=1)
    for folder in ("tokens", "mixes"):
        one, other = read_shard(tmp_path / "out" / folder)
        assert (one.corpus, one.partition, one.intensity) == ("ravdess", "validation", 0.5)
        assert (one.text, one.speaker, one.language) == ("A.", "s", "en")
        assert (other.corpus, other.partition, other.intensity) == ("", "", None)


def test_another_number_of_mixes_is_told_with_both(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 3200)
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", noise * (1 + (name == "b")), 16_000)
    rows = [Recording(tmp_path / "a.wav", "sad"), Recording(tmp_path / "b.wav", "happy")]
    write_manifest(tmp_path / "data", rows)
    given = read_manifest(tmp_path / "data")
    tokenize(Counting(), given, tmp_path / "out", mixes=1)
    with pytest.raises(UserError, match=r"another mixes \(1 there, 0 asked for\): choose another"):
        tokenize(Counting(), given, tmp_path / "out", insert="clicks")


def test_a_shard_without_the_later_columns_is_read(tmp_path: Path) -> None:
    row = Utterance("a", "Hi.", "happy", np.array([1, 2]), corpus="esd", partition="train")
    write_shard(tmp_path / "new.parquet", [row])
    table = parquet.read_table(tmp_path / "new.parquet")
    parquet.write_table(table.drop_columns(list(OPTIONAL)), tmp_path / "old.parquet")
    (new,), (old,) = read_shard(tmp_path / "new.parquet"), read_shard(tmp_path / "old.parquet")
    assert (new.corpus, new.partition) == ("esd", "train")
    assert (old.id, old.corpus, old.partition) == ("a", "", "")


def test_a_plain_manifest_has_the_digest_it_always_had(tmp_path: Path) -> None:
    """So an interrupted call goes on with a manifest that names nothing new."""
    audio = tmp_path / "a.wav"
    soundfile.write(audio, np.random.default_rng(0).normal(0, 0.1, 1600), 16_000)
    tokenize(Counting(), [Recording(audio, "sad", "A.", "s", "en")], tmp_path / "out")
    text = json.dumps([[str(audio), "sad", "A.", "s", "en"]])
    stored = read_json(tmp_path / "out" / "tokenize.json")["recordings"]
    assert stored == hashlib.sha256(text.encode()).hexdigest()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """One with a sample too few at 16 kHz, one cut off, one that the codec refuses."""
    good = tmp_path / "good.wav"
    soundfile.write(good, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    tiny, cut = tmp_path / "tiny.wav", tmp_path / "cut.wav"
    soundfile.write(tiny, [0.1], 48000)
    cut.write_bytes(good.read_bytes()[:3000])

    class Refusing:
        def encode(self, sound: np.ndarray) -> torch.Tensor:
            if sound.size < 16000:
                raise UserError("too short")
            return torch.zeros(25, dtype=torch.int64)

    short = tmp_path / "short.wav"
    soundfile.write(short, np.random.default_rng(1).normal(0, 0.1, 800), 16000)
    paths = [good, tiny, cut, short]
    made = tokenize(Refusing(), [Recording(path, "sad") for path in paths], tmp_path / "out", 3)
    assert (made.tokens, made.mixes) == (1, 3)
    lines = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    for path, reason in ((tiny, "shorter than a sample"), (cut, "cut off"), (short, "too short")):
        assert sum(str(path) in line and reason in line for line in lines) == 1


def test_silent_recordings_are_skipped_and_said(tmp_path: Path) -> None:
    """One of zeros and one of hum far below hearing; neither is a partner for mixing."""
    time = np.arange(8000) / 16_000
    sounds = {"loud": 0.1, "zeros": 0.0, "hum": 5e-4, "louder": 0.2}
    for name, level in sounds.items():
        tone = level * np.sin(2 * np.pi * 200 * time)
        soundfile.write(tmp_path / f"{name}.wav", tone, 16_000, subtype="FLOAT")
    rows = [Recording(tmp_path / f"{name}.wav", name) for name in sounds]
    made = tokenize(Counting(), rows, tmp_path / "out", mixes=20)
    assert (made.tokens, made.mixes) == (2, 40)
    lines = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{row.path} is silent" for row in rows[1:3]]
    mixes = read_shard(tmp_path / "out" / "mixes")
    # Nobody is mixed with himself.
    assert {(one.emotion, one.partner_emotion) for one in mixes} == {
        ("loud", "louder"),
        ("louder", "loud"),
    }
    with pytest.raises(UserError, match=r"none of 2 recordings can be used: .*zeros.wav is silent"):
        tokenize(Counting(), rows[1:3], tmp_path / "none")


def test_a_rate_without_speech_in_it_is_refused_and_a_narrow_one_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    for rate in (100, 7999, 8000, 16_000, 44_100):
        soundfile.write(tmp_path / f"{rate}.wav", noise, rate)
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    for rate in (100, 7999):
        expected = rf"{rate}\.wav has a sample rate of {rate} Hz: speech needs 8000 Hz at least"
        with pytest.raises(UserError, match=expected):
            sound_file.read(tmp_path / f"{rate}.wav")
    assert sound_file.read(tmp_path / "8000.wav").size == pytest.approx(32_000, abs=2)
    write_manifest(tmp_path / "data", [Recording(path, "sad") for path in tmp_path.glob("*.wav")])
    commands.tokenize(tmp_path / "data", tmp_path / "out")
    said = capsys.readouterr().out
    assert said.count("1 of 6 recordings have a sample rate under 16000 Hz: their band") == 1
    assert "3 files could not be used" in said
    write_manifest(tmp_path / "wide", [Recording(tmp_path / "44100.wav", "sad")])
    commands.data_import("csv", tmp_path / "wide", tmp_path / "again")
    assert "narrower" not in capsys.readouterr().out
    commands.data_import("csv", tmp_path / "data", tmp_path / "imported")
    said = capsys.readouterr().out
    assert "1 of 6 recordings have a sample rate under" in said
    assert "cannot be used, and `rrpo tokenize` will leave them out: 3 of 6 recordings" in said
    assert "6 utterances in" in said and "3 of them with sounds that cannot be used" in said
    assert "7999.wav has a sample rate" in (tmp_path / "imported" / "sounds.csv").read_text()


def test_a_changed_sound_is_tokenized_again_and_heard_in_its_mixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EveryVoiceTTS/EveryVoice#44: what was made of a file before it was mended stayed."""
    monkeypatch.setattr("rrpo.data.tokenize.SHARD", 2)  # one recording with its mix in each
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 3200), 16_000)
    rows = [Recording(path, "sad") for path in paths]
    codec = Counting()
    first = tokenize(codec, rows, tmp_path / "out", mixes=1)
    calls = codec.calls
    assert (first.tokens, calls) == (5, 10)
    tokenize(codec, rows, tmp_path / "out", mixes=1)
    assert codec.calls == calls  # nothing has changed
    soundfile.write(paths[1], np.random.default_rng(9).normal(0, 0.1, 8000), 16_000)
    heard = [
        read_json(path)["heard"] for path in sorted((tmp_path / "out" / "shards").glob("*.json"))
    ]
    hearing = sum("1" in one for one in heard)
    assert 1 < hearing < 5
    tokenize(codec, rows, tmp_path / "out", mixes=1)
    assert codec.calls == calls + 2 * hearing
    tokenize(Counting(), rows, tmp_path / "anew", mixes=1)
    for kind in ("tokens", "mixes"):
        again, anew = (read_shard(tmp_path / folder / kind) for folder in ("out", "anew"))
        assert [vars(one) | {"tokens": one.tokens.tolist()} for one in again] == [
            vars(one) | {"tokens": one.tokens.tolist()} for one in anew
        ]
    assert read_shard(tmp_path / "anew" / "tokens")[1].tokens.tolist() == [5] * 12
    # One that cannot be used any more leaves nothing behind.
    paths[1].write_bytes(paths[1].read_bytes()[:900])
    last = tokenize(codec, rows, tmp_path / "out", mixes=1)
    assert (last.tokens, len(last.skipped)) == (4, 1)
    left = read_shard(tmp_path / "out" / "tokens")
    assert [one.id for one in left] == ["000000", "000002", "000003", "000004"]


def test_every_sound_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, noise, turned = np.random.default_rng(0).normal(0, 0.1, (3, 3200))
    soundfile.write(tmp_path / "good.wav", good, 16_000)
    soundfile.write(tmp_path / "offset.wav", noise + 0.3, 16_000)
    soundfile.write(tmp_path / "turned.wav", np.stack([turned, -turned], 1), 16_000)
    (tmp_path / "page.wav").write_text("<html>")
    names = ["good", "offset", "turned", "page"]
    rows = [Recording(tmp_path / f"{name}.wav", "sad") for name in names]
    write_manifest(tmp_path / "data", rows)
    commands.tokenize(tmp_path / "data", tmp_path / "out")
    said = capsys.readouterr().out
    assert "left out: 1 of 4 recordings" in said
    assert "suspicious: 2 of 4 recordings" in said
    assert "sounds: 3 taken, 2 of them suspicious, 1 left out" in said
    with (tmp_path / "out" / "sounds.csv").open(newline="") as stream:
        report = list(csv.DictReader(stream))
    assert [Path(row["path"]).stem for row in report] == names
    assert [row["verdict"] for row in report] == ["taken", "suspicious", "suspicious", "left out"]
    whys = ["", "an offset of", "turned over", "holds text"]
    assert all(why in row["why"] for why, row in zip(whys, report, strict=True))
    # Where most is left out, what goes on by itself stops; the tokens stay.
    copies = [tmp_path / "data" / f"copy{number}.wav" for number in range(2)]
    for copy in copies:
        copy.write_bytes(rows[3].path.read_bytes())
    write_manifest(tmp_path / "few", [rows[0], *(replace(rows[3], path=one) for one in copies)])
    with pytest.raises(UserError, match=r"2 of 3 recordings were left out.*copy0\.wav holds text"):
        commands.tokenize(tmp_path / "few", tmp_path / "less")
    assert len(read_shard(tmp_path / "less" / "tokens")) == 1
    # Where nothing is left, nothing is begun; a mended manifest may take the same folder.
    write_manifest(tmp_path / "none", [rows[3]])
    with pytest.raises(UserError, match=r"none of 1 recordings can be used: .*page\.wav"):
        commands.tokenize(tmp_path / "none", tmp_path / "empty")
    commands.tokenize(tmp_path / "data", tmp_path / "empty")


def test_emodb_as_it_was_recorded_is_the_voices_channel(tmp_path: Path) -> None:
    """audeering's EmoDB 2.0: the laryngograph stands in the second channel."""
    noise = np.random.default_rng(0).normal(0, 0.1, (3200, 2))
    path = tmp_path / "03a01Faxx.wav"
    soundfile.write(path, noise, 16_000, subtype="FLOAT")
    sound = read_recording(Recording(path, "happy", corpus="emodb"))
    np.testing.assert_allclose(sound.samples, noise[:, 0], atol=1e-6)
    with pytest.raises(UserError, match="hold different sounds"):
        read_recording(Recording(path, "happy"))


def test_tests_are_mixed_with_tests_alone(tmp_path: Path) -> None:
    rows = []
    for number, partition in enumerate(("train", "test", "validation", "test")):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 3200), 16_000)
        rows.append(Recording(path, partition, partition=partition))
    tokenize(Counting(), rows, tmp_path / "out", mixes=8)
    mixes = read_shard(tmp_path / "out" / "mixes")
    found = {(one.partition, one.partner_emotion) for one in mixes}
    assert found == {("train", "validation"), ("validation", "train"), ("test", "test")}
    with pytest.raises(UserError, match="no recording could be mixed"):
        tokenize(Counting(), rows[:2], tmp_path / "alone", mixes=1)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("tokens", [None], "tokens holds null"),
        ("tokens", [[1, None]], "a value is missing in the column tokens"),
        ("tokens", [["a"]], r"tokens holds list<.*string> and not list<.*int16>"),
        ("tokens", [[1.5]], r"tokens holds list<.*double>"),
        ("emotion", [3], "emotion holds int64 and not string"),
        ("emotion", [None], "emotion holds null"),
        ("intensity", ["much"], "intensity holds string and not float"),
    ],
)
def test_a_damaged_shard_is_the_users_mistake(
    tmp_path: Path, column: str, values: list[object], message: str
) -> None:
    file = tmp_path / "a.parquet"
    write_shard(file, [Utterance("a", "Hi.", "happy", np.array([1, 2]))])
    table = parquet.read_table(file)
    place = table.column_names.index(column)
    parquet.write_table(table.set_column(place, column, [values]), file)
    with pytest.raises(UserError, match=message):
        read_shard(file)
    # Wider numbers are ours, too.
    wide = arrow.array([[1, 2]], arrow.large_list(arrow.int64()))
    whole = table.set_column(table.column_names.index("tokens"), "tokens", wide)
    parquet.write_table(whole, file)
    assert read_shard(file)[0].tokens.tolist() == [1, 2]


def test_sounds_are_put_into_each_recording_once_more(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        noise = np.random.default_rng(seed).normal(0, 0.1, 16_000)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    told = [Recording(tmp_path / "a.wav", "sad", "A."), Recording(tmp_path / "b.wav", "happy")]
    made = {
        insert: tokenize(Counting(), told, tmp_path / str(insert), mixes=1, insert=insert)
        for insert in (None, "silence")
    }
    assert (made[None].inserted, made["silence"].inserted) == (0, 2)
    assert not (tmp_path / "None" / "inserted").exists()
    plain, mixed, longer = (
        read_shard(tmp_path / "silence" / kind) for kind in ("tokens", "mixes", "inserted")
    )
    assert [row.id for row in longer] == ["000000", "000001"]
    assert shard_insert(tmp_path / "silence" / "inserted") == "silence"
    assert shard_insert(tmp_path / "silence" / "tokens") == ""
    # What was lost or damaged since then is made again.
    lost, whole = (tmp_path / "silence" / kind / "00000.parquet" for kind in ("inserted", "tokens"))
    lost.unlink()
    whole.write_bytes(whole.read_bytes()[:100])
    tokenize(Counting(), told, tmp_path / "silence", mixes=1, insert="silence")
    assert [row.id for row in read_shard(lost)] == [row.id for row in read_shard(whole)]
    assert [(row.emotion, row.text) for row in longer] == [(row.emotion, row.text) for row in plain]
    for row, other in zip(longer, plain, strict=True):
        assert 0.2 <= (row.tokens.size - other.tokens.size) / 25 <= 0.84
    # What is inserted changes nothing else.
    for kind, rows in (("tokens", plain), ("mixes", mixed)):
        for row, other in zip(rows, read_shard(tmp_path / "None" / kind), strict=True):
            assert (row.id, row.partner_weight) == (other.id, other.partner_weight)
            assert np.array_equal(row.tokens, other.tokens)


def test_an_unknown_sound_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--insert: unknown sound 'bark': choose from clicks, pop"):
        tokenize(Counting(), [Recording(tmp_path / "no.wav", "sad")], tmp_path, insert="bark")


def test_a_recording_that_is_too_long_with_the_sound_is_kept_without(tmp_path: Path) -> None:
    class Short(Counting):
        def encode(self, audio: Audio) -> Tensor:
            if audio.size > 16_000:
                raise UserError("a second at once: cut the audio")
            return super().encode(audio)

    for name, seconds in (("a", 1.0), ("b", 0.1)):
        noise = np.random.default_rng(1).normal(0, 0.1, int(16_000 * seconds))
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    told = [Recording(tmp_path / "a.wav", "sad"), Recording(tmp_path / "b.wav", "happy")]
    for out, calls in (("at once", ("silence",)), ("later", (None, "silence"))):
        for insert in calls:
            made = tokenize(Short(), told, tmp_path / out, insert=insert)
        assert (made.tokens, made.inserted, made.skipped) == (2, 1, [])


def test_a_sound_is_added_to_what_was_tokenized_without(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        noise = np.random.default_rng(seed).normal(0, 0.1, 16_000)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    told = [Recording(tmp_path / "a.wav", "sad"), Recording(tmp_path / "b.wav", "happy")]
    later, once = tmp_path / "later", tmp_path / "once"
    tokenize(Counting(), told, later)
    before = (later / "tokens" / "00000.parquet").stat().st_mtime_ns
    codec = Counting()
    made = tokenize(codec, told, later, insert="silence")
    assert (made.tokens, made.inserted, codec.calls) == (2, 2, 2)
    assert (later / "tokens" / "00000.parquet").stat().st_mtime_ns == before
    tokenize(Counting(), told, once, insert="silence")
    pairs = zip(*(read_shard(out / "inserted") for out in (later, once)), strict=True)
    assert all(np.array_equal(row.tokens, other.tokens) for row, other in pairs)
    with pytest.raises(UserError, match="holds tokens with silence inserted"):
        tokenize(Counting(), told, later, insert="hum")
    assert tokenize(Counting(), told, later).inserted == 2  # it stays


def test_mixes_are_the_same_with_and_without_sounds(tmp_path: Path) -> None:
    for number in range(12):
        noise = np.random.default_rng(number).normal(0, 0.1, 4000 + 400 * number)
        soundfile.write(tmp_path / f"{number}.wav", noise, 16_000)
    told = [Recording(tmp_path / f"{number}.wav", "sad") for number in range(12)]
    for insert in (None, "clicks"):  # 9 recordings a shard, so two shards
        tokenize(Counting(), told, tmp_path / str(insert), mixes=20, insert=insert)
    one, other = (read_shard(tmp_path / str(insert) / "mixes") for insert in (None, "clicks"))
    assert len(one) == 240
    assert [row.partner_weight for row in one] == [row.partner_weight for row in other]

"""One recording or one person under two names, and other slips that nobody sees in a table."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from corpus_trees import wav, write
from rrpo import reward_eval
from rrpo.cli import data as command
from rrpo.data.copies import find_copies
from rrpo.data.corpora import import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.manifest import Recording
from rrpo.data.partitions import with_partitions
from rrpo.data.shards import Utterance, for_tests, for_training, read_shard, write_shard
from rrpo.data.speakers import spreadsheet_notes
from rrpo.errors import UserError
from rrpo.loading import load_data
from rrpo.mini.world import World
from sounds import RATE, encoded, voice


def as_flac(first: Path, second: Path) -> None:
    second.with_suffix(".flac").write_bytes(encoded("flac", soundfile.read(first)[0]))


def with_a_tag(first: Path, second: Path) -> None:
    """The same samples in another file: its header says more."""
    samples, rate = soundfile.read(first, dtype="int16")
    with soundfile.SoundFile(second, "w", rate, 1, "PCM_16") as file:
        file.title = "again"
        file.write(samples)


def doubled(first: Path, second: Path) -> None:
    samples, rate = soundfile.read(first, dtype="int16")
    soundfile.write(second, np.stack([samples, samples], 1), rate, subtype="PCM_16")


WAYS: dict[str, Callable[[Path, Path], Any]] = {
    "copy": shutil.copy,
    "hard link": lambda first, second: os.link(first, second),
    "flac": as_flac,
    "tag": with_a_tag,
    "two channels": doubled,
}


def recordings(folder: Path, way: str, *rows: str) -> Path:
    """Write a.wav, b the same again, c another sound, and a manifest of them."""
    folder.mkdir()
    soundfile.write(folder / "a.wav", voice(1.2), RATE, subtype="PCM_16")
    WAYS[way](folder / "a.wav", folder / "b.wav")
    soundfile.write(folder / "c.wav", voice(1.2, 1), RATE, subtype="PCM_16")
    second = next(folder.glob("b.*")).name
    lines = [row.replace("b.wav", second) for row in rows]
    write(folder / "manifest.csv", "\n".join(["path,emotion,text,partition", *lines, ""]))
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_a_recording_under_two_names_counts_once(
    tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = recordings(tmp_path / way, way, "a.wav,sad,Hi.,", "b.wav,sad,hi,", "c.wav,happy,Hi.,")
    command.tokenize(data, tmp_path / "out", mix=3)
    assert [row.id for row in read_shard(tmp_path / "out" / "tokens")] == ["000000", "000002"]
    for row in read_shard(tmp_path / "out" / "mixes"):
        assert {row.emotion, row.partner_emotion} == {"sad", "happy"}
    said = capsys.readouterr().out
    assert "left out: 1 of 3 recordings" in said
    assert f"is the same recording as {data / 'a.wav'}" in said


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("sad,Hi.,", "happy,Hi.,", "labelled sad and happy"),
        ("sad,Hi.,train", "sad,Hi.,test", "one held out for tests and one not"),
        ("sad,Hi.,", "sad,It is noon.,", "with the texts 'Hi.' and 'It is noon.'"),
    ],
)
def test_a_recording_with_two_labels_is_refused(
    tmp_path: Path, way: str, one: str, other: str, said: str
) -> None:
    data = recordings(tmp_path / "d", way, f"a.wav,{one}", "c.wav,sad,Ho.,", f"b.wav,{other}")
    with pytest.raises(UserError, match=said) as caught:
        command.tokenize(data, tmp_path / "out")
    second = next(data.glob("b.*")).name
    assert f"manifest.csv, line 2: a.wav and {data}/manifest.csv, line 4: {second} are" in str(
        caught.value
    )
    assert not list((tmp_path / "out").iterdir())


def test_a_copy_is_tokenized_when_it_is_a_copy_no_more(tmp_path: Path) -> None:
    data = recordings(tmp_path / "d", "copy", "a.wav,sad,Hi.,", "b.wav,sad,Hi.,")
    command.tokenize(data, tmp_path / "out")
    assert len(read_shard(tmp_path / "out" / "tokens")) == 1
    soundfile.write(data / "a.wav", voice(1.2, 5), RATE)  # b is as it was
    command.tokenize(data, tmp_path / "out")
    assert len(read_shard(tmp_path / "out" / "tokens")) == 2


def test_a_row_without_a_text_or_a_partition_contradicts_nothing() -> None:
    rows = [
        Recording(Path("a"), "sad", "Hi!"),
        Recording(Path("b"), "sad"),
        Recording(Path("c"), "sad", "HI", partition="train"),
    ]
    assert find_copies(rows, ["x"] * 3, list("abc"), "the same") == {1: 0, 2: 0}
    assert find_copies(rows, [None] * 3, list("abc"), "the same") == {}


def shard(path: Path, *labels: tuple[str, str, str]) -> Path:
    """Write utterances of the same 30 tokens with emotion, text and partition, and two others."""
    tokens = np.arange(30)
    rows = [
        Utterance(f"u{number}", text, emotion, tokens, partition=partition)
        for number, (emotion, text, partition) in enumerate(labels)
    ]
    rows += [Utterance(one, "Ho.", one, tokens + 1 + at) for at, one in enumerate(("sad", "happy"))]
    write_shard(path, rows, World().codec_identity)
    return path


DOORS: dict[str, Callable[[Path], Any]] = {
    "reward train": lambda path: load_data(path),
    "policy": lambda path: load_data(path, World().policy()),
    "evaluate": lambda path: load_data(path, World().policy(), tested=True),
    "reward eval": lambda path: reward_eval.evaluate(["mini"], [path]),
}


@pytest.mark.parametrize("door", DOORS)
def test_the_same_tokens_with_two_labels_are_refused(tmp_path: Path, door: str) -> None:
    for one, other, said in (
        (("sad", "Hi.", ""), ("happy", "Hi.", ""), "labelled sad and happy"),
        (("sad", "Hi.", "train"), ("sad", "Hi.", "test"), "one held out for tests and one not"),
        (("sad", "Hi.", ""), ("sad", "It is noon.", ""), "with the texts 'Hi.' and 'It is noon"),
    ):
        with pytest.raises(UserError, match=rf"'u0' and 'u1' are of the same tokens, {said}"):
            DOORS[door](shard(tmp_path / "a.parquet", one, other))


def test_the_same_tokens_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shard(tmp_path / "a.parquet", ("sad", "Hi.", ""), ("sad", "hi", ""))
    for read in (for_training, for_tests):
        assert [row.id for row in read(path)] == ["u0", "sad", "happy"]
        said = capsys.readouterr().out
        assert "left out: 1 of 4 utterances with the tokens of another, such as 'u1'" in said
    # Under a second two sounds may be the same by chance.
    short = [Utterance(name, name, name, np.arange(24)) for name in ("sad", "happy")]
    write_shard(tmp_path / "b.parquet", short)
    assert len(for_training(tmp_path / "b.parquet")) == 2


def test_who_is_in_two_partitions_is_named_with_both_rows(tmp_path: Path) -> None:
    """At tokenization, too: a manifest need not come from an import."""
    for name in "ab":
        wav(tmp_path / f"{name}.wav")
    rows = "path,emotion,speaker,partition\na.wav,sad,Anna,train\nb.wav,sad,anna,test\n"
    write(tmp_path / "t.csv", rows)
    for door in (
        lambda: import_corpus("csv", tmp_path / "t.csv", tmp_path / "out"),
        lambda: command.tokenize(tmp_path / "t.csv", tmp_path / "out"),
    ):
        with pytest.raises(UserError, match="speaker Anna is in train and in test") as caught:
            door()
        for place in ("t.csv, line 2: a.wav", "t.csv, line 3: b.wav"):
            assert place in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0E+05", "100000"),
        ("1E+05", "100000"),
        ("1,23E+05", "123456"),
        ("1.2e+3", "1234"),
        ("1-Mar", "3-1"),
        ("Mar-01", "3-1"),
        ("01. Mrz", "3/1"),
        ("2026-03-01 00:00:00", "1.3"),
    ],
)
def test_a_name_that_a_spreadsheet_changed_is_refused_beside_its_old_form(
    tmp_path: Path, one: str, other: str
) -> None:
    with pytest.raises(UserError, match="may be one: a spreadsheet writes the first"):
        spreadsheet_notes([other, "anna", one])
    for name in "ab":
        wav(tmp_path / f"{name}.wav")
    table = f'path,emotion,speaker\na.wav,sad,"{one}"\nb.wav,sad,{other}\n'
    write(tmp_path / "t.csv", table)
    write(tmp_path / "wav.scp", "a a.wav\nb b.wav\n")
    write(tmp_path / "utt2emo", "a sad\nb sad\n")
    write(tmp_path / "text", "a x\nb y\n")
    word = one.removesuffix(" 00:00:00").replace(" ", "")
    write(tmp_path / "utt2spk", f"a {word}\nb {other}\n")
    for door in (
        lambda: import_corpus("csv", tmp_path / "t.csv", tmp_path / "out"),
        lambda: command.tokenize(tmp_path / "t.csv", tmp_path / "out"),
        lambda: import_cosyvoice(tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(UserError, match="may be one: a spreadsheet writes the first"):
            door()


def test_a_name_that_looks_like_a_spreadsheets_is_told() -> None:
    for names in (["1.0E+05", "anna"], ["anna", "3-Jan", "3-Feb"], ["1.23E+10", "100000"]):
        (said,) = spreadsheet_notes(names)
        assert "looks like what a spreadsheet makes of another name" in said
    for names in (["0011", "12"], ["F-16"], ["may", "June"], ["12e4", "120000"], ["1-Mac", "3-1"]):
        assert not spreadsheet_notes(names)


def test_lost_zeros_and_groups_of_digits_are_the_same_person() -> None:
    names = ["007", "7", "7.0", "1,000", "1000", "b", "c", "d"]
    rows = [Recording(Path(name), "sad", speaker=name) for name in names]
    found = {one.speaker: one.partition for one in with_partitions(rows)}
    assert found["007"] == found["7"] == found["7.0"]
    assert found["1,000"] == found["1000"]


def test_who_speaks_two_languages_has_one_partition() -> None:
    """By turns m is held out in English, the fifth of five, and trained on in Korean."""
    rows = [Recording(Path(f"ko {name}"), "sad", "", name, "ko") for name in "kmxyz"]
    rows += [Recording(Path(f"en {name}"), "sad", "", name, "en") for name in "abcdm"]
    found = {one.path.name: one.partition for one in with_partitions(rows)}
    assert found["en m"] == found["ko m"] == "test"
    assert [found[f"ko {name}"] for name in "kxyz"] == ["train", "train", "validation", "test"]


@pytest.mark.parametrize(
    ("columns", "cells", "part"),
    [
        ("start,end", "0,0.5", True),
        ("start,end", "0.5,1.0", True),
        ("Start,End", "0.5,", True),
        ("offset,duration", "0.25,0.5", True),
        ("start,end", "0 days 00:00:00.200000,NaT", True),
        ("start,end", "0 days 00:00:00,0 days 00:00:00.5", True),
        ("start,end", "0 days,NaT", False),
        ("start,end", "0,1.0", False),
        ("start,end", "0,16000", False),
        ("start,end", ",", False),
        ("offset,duration", "0,0.98", False),
        ("duration,length", "0.5,8000", False),
        ("xmin,xmax", "0.25,0.5", True),
        ("start_sec,end_sec", "0,0.5", True),
        ("Begin Time (s),End Time (s)", "0.2,0.6", True),
        ("start_ms,end_ms", "200,600", True),
        ("from,to", "0.2,0.6", True),
        ("from,to", "a radio play of 1999,listeners", False),
        ("t0,t1", "0,1.0", False),
    ],
)
def test_a_row_that_names_a_part_of_a_recording_is_refused(
    tmp_path: Path, columns: str, cells: str, part: bool
) -> None:
    """Tables of audformat, NeMo and Lhotse cut several utterances out of one file."""
    soundfile.write(tmp_path / "a.wav", voice(1.0), RATE)
    write(tmp_path / "t.csv", f"path,emotion,{columns}\na.wav,sad,{cells}\n")
    for door in (
        lambda: import_corpus("csv", tmp_path / "t.csv", tmp_path / "imported"),
        lambda: command.tokenize(tmp_path / "t.csv", tmp_path / "out"),
    ):
        if not part:
            door()
            continue
        with pytest.raises(UserError, match=r"t\.csv, line 2: it names a part of a\.wav"):
            door()
    assert (tmp_path / "out").exists() != part


def test_segments_of_kaldi_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0), RATE)
    for file, value in (("wav.scp", "a.wav"), ("text", "x"), ("utt2spk", "s"), ("utt2emo", "sad")):
        write(tmp_path / file, f"a {value}\n")
    import_cosyvoice(tmp_path, tmp_path / "out")
    write(tmp_path / "segments", "u1 a 0.0 0.5\n")
    with pytest.raises(UserError, match="segments cuts the recordings of wav"):
        import_cosyvoice(tmp_path, tmp_path / "again")


@pytest.mark.parametrize("error", ["#NAME?", "#REF!", "#DIV/0!", "#VALUE!", "#NUM!", "########"])
def test_a_spreadsheets_error_is_no_text(tmp_path: Path, error: str) -> None:
    wav(tmp_path / "a.wav")
    write(tmp_path / "t.csv", f"path,emotion,text\na.wav,sad,{error}\n")
    with pytest.raises(UserError, match=rf"line 2: text is {error.replace('?', '.')}, what a"):
        import_corpus("csv", tmp_path / "t.csv", tmp_path / "out")


def test_a_label_with_letters_of_another_alphabet_is_refused(tmp_path: Path) -> None:
    """The last letter of the label is Cyrillic."""
    wav(tmp_path / "a.wav")
    label = "angr\u0443"
    write(tmp_path / "t.csv", f"path,emotion\na.wav,{label}\n")
    with pytest.raises(UserError, match=r"unknown label .*=angry"):
        import_corpus("csv", tmp_path / "t.csv", tmp_path / "out")
    with pytest.raises(UserError, match=r"letters of two alphabets.*angr\\u0443"):
        command.tokenize(tmp_path / "t.csv", tmp_path / "out")
    write_shard(tmp_path / "a.parquet", [Utterance("a", "Hi.", label, np.arange(9))])
    with pytest.raises(UserError, match=r"utterance 'a': the emotion .* letters of two alphabets"):
        read_shard(tmp_path / "a.parquet")


def test_a_slip_in_a_label_is_no_class_of_its_own(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    write(tmp_path / "t.csv", "path,emotion\na.wav,happpy\n")
    with pytest.raises(UserError, match=r"line 2: a\.wav: there is no emotion 'happpy': did you"):
        command.tokenize(tmp_path / "t.csv", tmp_path / "out")
    write_shard(tmp_path / "a.parquet", [Utterance("a", "Hi.", "happpy", np.arange(9))])
    with pytest.raises(UserError, match=r"utterance 'a': there is no emotion 'happpy': did you"):
        read_shard(tmp_path / "a.parquet")


def test_signs_that_nobody_sees_are_left_out_of_cells(tmp_path: Path) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", voice(0.6, ord(name)), RATE)
    rows = "\ufeffa.wav,\u200bsad,He\u00adllo\u2060 there.,An\u200bna\nb.wav,happy,Hi.,Bob\n"
    write(tmp_path / "t.csv", "path,emotion,text,speaker\n" + rows)
    done = import_corpus("csv", tmp_path / "t.csv", tmp_path / "out")
    (one, _) = done.recordings
    assert (one.emotion, one.text, one.speaker) == ("sad", "Hello there.", "Anna")
    assert "invisible signs are left out of 4 cells" in " ".join(done.findings.lines())
    write(tmp_path / "wav.scp", "a a.wav\n")
    write(tmp_path / "text", "a He\u200bllo\n")
    write(tmp_path / "utt2spk", "a s\n")
    write(tmp_path / "utt2emo", "a \u200bsad\n")
    import_cosyvoice(tmp_path, tmp_path / "again")
    said = (tmp_path / "again" / "manifest.csv").read_text(encoding="utf-8")
    assert "sad,Hello,s" in said


@pytest.mark.parametrize("name", ["Train", "TRAINING", "Dev", "valid", "val", "Testing", "test"])
def test_partitions_by_other_names(tmp_path: Path, name: str) -> None:
    wav(tmp_path / "a.wav")
    expected = {"t": "train", "d": "validation", "v": "validation"}[name[0].lower()]
    expected = "test" if name.lower().startswith("test") else expected
    write(tmp_path / "t.csv", f"path,emotion,partition\na.wav,sad,{name}\n")
    done = import_corpus("csv", tmp_path / "t.csv", tmp_path / "out")
    assert done.recordings[0].partition == expected
    row = Utterance("a", "Hi.", "sad", np.arange(9), partition=name)
    write_shard(tmp_path / "a.parquet", [row])
    assert read_shard(tmp_path / "a.parquet")[0].partition == expected


def test_a_text_that_is_too_long_for_its_sound_is_suspicious(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", voice(1.0, ord(name)), RATE)
    long, short = "word " * 600, "The train leaves at noon."
    write(tmp_path / "t.csv", f"path,emotion,text\na.wav,sad,{long}\nb.wav,happy,{short}\n")
    command.tokenize(tmp_path / "t.csv", tmp_path / "out")
    said = capsys.readouterr().out
    assert "suspicious: 1 of 2 recordings" in said
    assert "a.wav: its text has 2400 letters for 1 s: it may be of another recording" in said
    load_data(tmp_path / "out" / "tokens")
    said = capsys.readouterr().out
    assert "1 of 2 utterances have more text than time, such as '000000'" in said

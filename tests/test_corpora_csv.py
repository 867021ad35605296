"""A table of one's own as a corpus: its columns, its partitions, and what is wrong with it."""

from pathlib import Path

import pytest

from corpus_trees import wav, write
from rrpo.data.corpora import TableOptions, import_corpus
from rrpo.errors import UserError


def table(path: Path, text: str) -> Path:
    write(path, text)
    return path


def test_a_csv_with_columns_of_other_names(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        wav(tmp_path / "sounds" / f"{name}.wav")
    file = table(
        tmp_path / "tables" / "list.tsv",
        "file\tmood\twho\tlevel\n"
        "sounds/a.wav\tAnger\ts1\t0.5\n"
        "sounds/b.wav\tbored\ts2\t\n"
        "sounds/c.wav\tJoy\ts3\t1\n"
        f"{tmp_path / 'sounds' / 'd.wav'}\tother\ts3\t\n",
    )
    columns = {"path": "file", "emotion": "mood", "speaker": "who", "intensity": "level"}
    with pytest.raises(UserError, match=r"b\.wav has the unknown label 'bored'"):
        import_corpus("csv", file, tmp_path / "out", {}, TableOptions(columns))
    done = import_corpus("csv", file, tmp_path / "out", {"Bored": "sad"}, TableOptions(columns))
    assert [
        (one.emotion, one.speaker, one.intensity, one.partition) for one in done.recordings
    ] == [
        ("angry", "s1", 0.5, "train"),
        ("sad", "s2", None, "validation"),
        ("happy", "s3", 1.0, "test"),
    ]
    assert done.left_out == {"other (no class)": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path,emotion\ngone.wav,sad\n",
            r"line 2: no such audio file: gone\.wav is neither in .* \(1 of 1 are not there\)",
        ),
        ("path,emotion\na.wav,\n", "line 2: path or emotion is empty"),
        ("path,emotion\na.wav,sad\n./a.wav,sad\n", r"a\.wav is there twice"),
        ("path,label\na.wav,sad\n", "lacks the column emotion: it has path, label"),
        ("path,emotion\n", "holds no rows"),
        ("path,emotion\na.wav,melancholic\n", "unknown label 'melancholic'"),
        ("path,emotion,intensity\na.wav,sad,high\n", "line 2: intensity is 'high'"),
        ("path,emotion,intensity\na.wav,sad,inf\n", "line 2: intensity is 'inf'"),
        ("path,emotion,partition\na.wav,sad,dev\n", "the partition is 'dev'"),
        (
            "path,emotion,speaker,partition\na.wav,sad,s,train\nb.wav,sad,s,test\n",
            "speaker s is in train and in test",
        ),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(tmp_path: Path, content: str, message: str) -> None:
    for name in ("a", "b"):
        wav(tmp_path / f"{name}.wav")
    with pytest.raises(UserError, match=message):
        import_corpus("csv", table(tmp_path / "list.csv", content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_partitions_that_came_with_a_csv_are_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        wav(tmp_path / f"{name}.wav")
    text = "path,emotion,speaker,partition\na.wav,sad,s,test\nb.wav,sad,t,train\n"
    done = import_corpus("csv", table(tmp_path / "list.csv", text), tmp_path / "out")
    assert [one.partition for one in done.recordings] == ["test", "train"]


def test_a_blank_partition_does_not_undo_the_others(tmp_path: Path) -> None:
    """A speaker's is the same everywhere; the rest take turns among themselves."""
    for number in range(6):
        wav(tmp_path / f"{number}.wav")
    text = "path,emotion,speaker,partition\n0.wav,sad,a,test\n1.wav,sad,a,\n2.wav,sad,,train\n"
    text += "".join(
        f"{number}.wav,sad,{name},\n" for number, name in ((3, "b"), (4, "c"), (5, "d"))
    )
    done = import_corpus("csv", table(tmp_path / "t.csv", text), tmp_path / "out")
    found = [one.partition for one in done.recordings]
    assert found == ["test", "test", "train", "train", "validation", "test"]
    divided = text.replace("1.wav,sad,a,", "1.wav,sad,a,train")
    with pytest.raises(UserError, match="speaker a is in test and in train"):
        import_corpus("csv", table(tmp_path / "t.csv", divided), tmp_path / "again")


def test_without_speakers_there_are_no_partitions(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    file = table(tmp_path / "list.csv", "path,emotion\na.wav,sad\n")
    assert import_corpus("csv", file, tmp_path / "out").recordings[0].partition == ""

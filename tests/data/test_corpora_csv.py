"""A table of one's own as a corpus: its columns, its partitions, and what is wrong with it."""

from pathlib import Path

import pytest

from corpus_trees import wav, write
from rrpo.data.corpora import TableOptions, import_corpus
from rrpo.data.manifest import read_manifest
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
        (
            "path,emotion\nsub\\a.wav,sad\n",
            r"line 2: no such audio file: sub\\a\.wav .*with / and no backslash in them",
        ),
        ("path,emotion\na.wav,\n", "line 2: emotion is empty"),
        ("path,emotion\na.wav,sad\n./a.wav,sad\n", r"a\.wav is there twice"),
        ("path,label\na.wav,sad\n", "lacks the column emotion: it has path, label"),
        ("path,emotion\n", "holds no rows"),
        ("path,emotion\na.wav,melancholic\n", "unknown label 'melancholic'"),
        ("path,emotion,intensity\na.wav,sad,high\n", "line 2: intensity is 'high'"),
        ("path,emotion,intensity\na.wav,sad,inf\n", "line 2: intensity is 'inf'"),
        ("path,emotion,partition\na.wav,sad,eval\n", "line 2: the partition is 'eval'"),
        (
            "path,emotion,split\na.wav,sad,train\nb.wav,sad,Test\n",
            "its column split holds Test and train, which would not be kept apart",
        ),
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


@pytest.mark.parametrize("door", ["import", "manifest"])
def test_a_column_that_holds_partitions_is_asked_about(tmp_path: Path, door: str) -> None:
    """Tables from Hugging Face's datasets call it `split`; test rows were trained on."""
    for name in ("a", "b"):
        wav(tmp_path / f"{name}.wav")
    file = table(tmp_path / "list.csv", "path,emotion,set\na.wav,sad,test\nb.wav,happy,train\n")
    with pytest.raises(UserError, match="its column set holds test and train"):
        if door == "import":
            import_corpus("csv", file, tmp_path / "out")
        else:
            read_manifest(file)
    named = TableOptions({"partition": "set"})
    done = import_corpus("csv", file, tmp_path / "out", options=named)
    assert [one.partition for one in done.recordings] == ["test", "train"]
    other = table(tmp_path / "other.csv", "path,emotion,set\na.wav,sad,1\nb.wav,happy,test\n")
    assert [one.partition for one in read_manifest(other)] == ["", ""]  # it means something else


def test_a_label_is_found_as_a_console_without_its_signs_shows_it(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    for number, label in enumerate(("高兴", "fröhlich", "😀")):
        file = table(tmp_path / "list.csv", f"path,emotion\na.wav,{label}\n")
        shown = label.encode("ascii", "backslashreplace").decode()
        done = import_corpus("csv", file, tmp_path / f"{number}", {shown: "happy"})
        assert [one.emotion for one in done.recordings] == ["happy"]


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


def speakers(folder: Path, names: list[str], more: str = "") -> Path:
    """Write a table of a recording for each speaker; `more` names and gives a last column."""
    column, _, value = more.partition("=")
    for number in range(len(names)):
        wav(folder / f"{number}.wav")
    rows = [f"{number}.wav,sad,{name},{value}\n" for number, name in enumerate(names)]
    return table(folder / "t.csv", f"path,emotion,speaker,{column}\n" + "".join(rows))


def test_speakers_of_a_known_corpus_may_be_spelt_otherwise(tmp_path: Path) -> None:
    """fastai/fastai#1008: programs take 0011 for a number, and write 11 or 11.0."""
    names = ["5", "06", "11.0", "Actor_12", "actor01"]
    done = import_corpus("csv", speakers(tmp_path, names, "corpus=RAVDESS"), tmp_path / "out")
    assert [(one.speaker, one.partition, one.corpus) for one in done.recordings] == [
        ("5", "validation", "ravdess"),
        ("06", "validation", "ravdess"),
        ("11.0", "test", "ravdess"),
        ("Actor_12", "test", "ravdess"),
        ("actor01", "train", "ravdess"),
    ]
    assert "held out by the names of the corpus: 06 is actor06, 11.0 is" in done.findings.lines()[0]
    with pytest.raises(UserError, match=r"0\.wav: RAVDESS has no speaker 'x5': name its speakers"):
        import_corpus("csv", speakers(tmp_path, ["x5"], "corpus=ravdess"), tmp_path / "again")


def test_a_speaker_in_two_spellings_is_one(tmp_path: Path) -> None:
    names = ["Anna", "bob", "ＡＮＮＡ", "carl", "anna", "dora", "7", "07"]
    done = import_corpus("csv", speakers(tmp_path, names, "session=a"), tmp_path / "out")
    found = {one.speaker: one.partition for one in done.recordings}
    assert found["Anna"] == found["anna"] == found["ＡＮＮＡ"]
    assert found["7"] == found["07"]
    said = "speakers that differ in spelling alone share a partition: Anna and anna and ＡＮＮＡ"
    assert said in done.findings.lines()[0]
    text = "path,emotion,speaker,partition\n0.wav,sad,Anna,train\n1.wav,sad,anna,test\n"
    with pytest.raises(UserError, match=r"speaker Anna is in train and in test \(as anna\)"):
        import_corpus("csv", table(tmp_path / "t.csv", text), tmp_path / "again")


def test_it_is_said_that_nobody_is_held_out(tmp_path: Path) -> None:
    done = import_corpus("csv", speakers(tmp_path, ["a", "b"], "session="), tmp_path / "out")
    assert done.findings.lines()[-1].startswith("nobody is held out for tests (speakers that are")
    done = import_corpus("csv", speakers(tmp_path, ["a", "b", "c"], "session="), tmp_path / "more")
    assert not done.findings.lines()


def test_a_label_of_a_slip_is_no_class(tmp_path: Path) -> None:
    file = speakers(tmp_path, ["a"], "session=")
    with pytest.raises(UserError, match="there is no emotion 'hapy': did you mean happy"):
        import_corpus("csv", file, tmp_path / "out", {"sad": "hapy"})
    done = import_corpus("csv", file, tmp_path / "out", {"sad": "Joy"})
    assert done.recordings[0].emotion == "happy"

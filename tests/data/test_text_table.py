"""Text tables as people keep them: encodings, separators, quotes, line ends, words for nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from corpus_trees import wav, write
from rrpo.data.corpora import Imported, TableOptions, import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.encodings import read_text
from rrpo.data.manifest import read_manifest
from rrpo.data.shards import Utterance, read_shard, write_shard
from rrpo.data.text_table import read_pairs, read_table
from rrpo.errors import UserError

HEADER = ["path", "emotion", "text", "speaker"]
ROWS = [HEADER, *([f"{n}.wav", ("happy", "sad")[n % 2], f"Say {n}", f"s{n}"] for n in range(3))]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for number in range(3):
        wav(tmp_path / f"{number}.wav")
    return tmp_path


def joined(rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in rows)


def imported(folder: Path, data: bytes, options: TableOptions | None = None) -> Imported:
    (folder / "t.csv").write_bytes(data)
    return import_corpus("csv", folder / "t.csv", folder / "out", {}, options)


@pytest.mark.parametrize(
    "data",
    [
        joined(ROWS, end="\r\n").encode("utf-8-sig"),
        joined(ROWS, ";", "\r\n").encode("utf-8-sig"),
        joined(ROWS, "|").encode(),
        joined(ROWS, "\t").encode(),
        joined(ROWS, ",", "\r").encode(),
        joined(ROWS, "\t", "\r\n").encode("utf-16"),
        joined(ROWS, ";").encode("utf-16-le"),
        joined(ROWS, ";").encode("utf-16-be"),
        joined(ROWS, ";").encode("utf-32"),
        joined(ROWS, ", ").encode(),
        ("sep=;\n" + joined(ROWS, ";")).encode(),
        joined([[name.upper() for name in HEADER], *ROWS[1:]]).encode(),
        joined([["", *HEADER], *(["7", *row] for row in ROWS[1:])]).encode(),
        joined([HEADER, [""], ROWS[1], [" ", ""], *ROWS[2:], [","]]).encode(),
        joined([HEADER, *([*row, "", ""] for row in ROWS[1:])]).encode(),
    ],
)
def test_every_dialect_is_read_alike(sounds: Path, data: bytes) -> None:
    found = [(one.emotion, one.text, one.speaker) for one in imported(sounds, data).recordings]
    assert found == [("happy", "Say 0", "s0"), ("sad", "Say 1", "s1"), ("happy", "Say 2", "s2")]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "今天天气很好"),
        ("gb18030", "We’ll see who’s next"),
        ("cp1252", "Die Straße ist schön, das Café größer"),
        ("cp949", "오늘 날씨가 좋습니다"),
    ],
)
def test_an_encoding_is_found_and_said(sounds: Path, encoding: str, text: str) -> None:
    rows = [HEADER, [*ROWS[1][:2], f'"{text}"', "s"]]
    done = imported(sounds, joined(rows).encode(encoding))
    assert done.recordings[0].text == text
    assert f"is not UTF-8: read as {encoding.upper()}" in done.findings.lines()[0]
    named = TableOptions(encoding=encoding)
    again = import_corpus("csv", sounds / "t.csv", sounds / "named", {}, named)
    assert again.recordings == done.recordings
    assert not [line for line in again.findings.lines() if "UTF-8" in line]


@pytest.mark.parametrize(
    ("encoding", "text"), [("big5", "今天天氣很好，我們去公園"), ("cp932", "今日は天気")]
)
def test_an_encoding_that_cannot_be_told_is_asked_for(
    sounds: Path, encoding: str, text: str
) -> None:
    data = joined([HEADER, [*ROWS[1][:2], text, "s"]]).encode(encoding)
    with pytest.raises(
        UserError, match=r"its encoding cannot be told: save it as UTF-8, or .* --enc"
    ):
        imported(sounds, data)
    done = imported(sounds, data, TableOptions(encoding=encoding))
    assert done.recordings[0].text == text
    with pytest.raises(UserError, match="is not in the encoding nosuch"):
        read_text(sounds / "t.csv", "nosuch")


def test_a_separator_may_be_named(sounds: Path) -> None:
    data = joined(ROWS, "^").encode()
    with pytest.raises(UserError, match=r"lacks the column path: it has path\^emotion"):
        imported(sounds, data)
    with pytest.raises(UserError, match="--separator colons: name one sign, or one of comma, semi"):
        imported(sounds, data, TableOptions(separator="colons"))
    assert len(imported(sounds, data, TableOptions(separator="^")).recordings) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '0.wav,sad,"Well,a\n1.wav,sad,Fine,b\n',
            "line 2: unexpected end .* a quote is not closed",
        ),
        ('0.wav,sad,"Well,a\n1.wav,sad,"Fine,b\n', "line 2: .* a quote is not closed"),
        ('0.wav,sad,"Well,a\n1.wav,sad,Fine",b\n', "line 2: the row runs on over other rows: a qu"),
        ("0.wav,sad\n", "line 2: 2 cells where the header has 4"),
        (
            "\n0.wav,sad,Well, well,a\n",
            "line 3: 5 cells where .* that holds ',' or a line break in",
        ),
        ("0.wav,sad,Hi,a\n./0.wav,sad,Hi,a\n", r"line 3: 0\.wav is there twice, in line 2 too"),
        ("0.wav,None,Hi,a\n", r"line 2: emotion is empty \(None\)"),
    ],
)
def test_a_broken_row_is_named(sounds: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        imported(sounds, f"{','.join(HEADER)}\n{text}".encode())
    assert not (sounds / "out").exists()
    with pytest.raises(UserError, match=message):
        read_manifest(sounds / "t.csv")


def test_a_quoted_cell_may_hold_a_separator_and_line_breaks(sounds: Path) -> None:
    text = 'path,emotion,text\n0.wav,sad,"He said ""no"",\nthen\u2028went, and\r\nleft."\n'
    text += '1.wav,sad,5" wide\n'
    first, second = imported(sounds, text.encode()).recordings
    assert first.text == 'He said "no",\nthen\u2028went, and\r\nleft.'
    assert second.text == '5" wide'


def test_a_column_that_stands_twice_is_refused(sounds: Path) -> None:
    with pytest.raises(UserError, match="has 2 columns emotion: rename all but one"):
        imported(sounds, b"path,emotion,emotion\n0.wav,sad,happy\n")
    with pytest.raises(UserError, match="has 2 columns emotion: rename all but one"):
        imported(sounds, b"path,Emotion,EMOTION\n0.wav,sad,happy\n")


def test_words_for_nothing_are_nothing_and_said(sounds: Path) -> None:
    rows = [
        [*HEADER, "intensity"],
        ["0.wav", "sad", "nan", "NA", "NaN"],
        ["1.wav", "Nan", "Nancy", "None", "0.5"],
        ["2.wav", "sad", "null", "N/A", ""],
    ]
    (sounds / "t.csv").write_text(joined(rows))
    done = import_corpus("csv", sounds / "t.csv", sounds / "out", {"nan": "other"})
    assert [(one.text, one.speaker, one.intensity) for one in done.recordings] == [
        ("", "NA", None),
        ("", "", None),
    ]
    assert done.left_out == {"Nan (as you asked)": 1}
    assert "6 cells that say nan, none, null or n/a are read as empty" in done.findings.lines()[0]


def test_unmatched_quotes_of_a_tsv_are_part_of_the_text(sounds: Path) -> None:
    """common-voice/common-voice#5189: sentences of a TSV hold single quotation marks."""
    rows = [HEADER, *([row[0], row[1], '"' + row[2], row[3]] for row in ROWS[1:])]
    found = imported(sounds, joined(rows, "\t").encode()).recordings
    assert [one.text for one in found] == ['"Say 0', '"Say 1', '"Say 2']


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04rest", "an Excel workbook or a zip archive"),
        (b"PAR1rest", "a parquet file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid x\n",
            "a git-LFS pointer and not the file: run `git lfs pull`",
        ),
        (b"\x00\x01\x02\xff\xd8", "no text"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, start: bytes, what: str) -> None:
    """zhouhaoyi/Informer2020#653: an Excel workbook whose suffix was changed to .csv."""
    (tmp_path / "t.csv").write_bytes(start)
    readers: list[Callable[[], object]] = [
        lambda: read_manifest(tmp_path / "t.csv"),
        lambda: import_corpus("csv", tmp_path / "t.csv", tmp_path / "out"),
        lambda: read_pairs(tmp_path / "t.csv"),
    ]
    for read in readers:
        with pytest.raises(UserError, match=f"t.csv is {what}"):
            read()


def test_lines_of_pairs_end_where_they_end(tmp_path: Path) -> None:
    write(tmp_path / "text", "a\tOne\u2028two\x0bthree\x0c\x85four\r\nb  Two\rc \u3000nan\n")
    pairs, notes = read_pairs(tmp_path / "text", empty=True)
    assert pairs == {"a": "One\u2028two\x0bthree\x0c\x85four", "b": "Two", "c": ""}
    assert "1 cells that say nan" in notes[0]
    with pytest.raises(UserError, match=r"line 3: c has no value but .*nan'"):
        read_pairs(tmp_path / "text")
    write(tmp_path / "text", "a One\n\nb Two\na Three\n")
    with pytest.raises(UserError, match="line 4: a stands twice, in line 1 too"):
        read_pairs(tmp_path / "text")


def test_columns_that_nobody_asks_for_may_be_anything(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "name,x,x,discrete\na,1,2,sad\n")
    assert read_table(tmp_path / "t.csv", ("name", "discrete")).rows[0].cells == {
        "name": "a",
        "discrete": "sad",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "It\u00e2\u20ac\u2122s noon",
            "was read in a wrong encoding once, it should be 'It\u2019s noon'",
        ),
        ("\u00c3\u0153ber", "it should be '\u00dcber'"),
        ("caf\ufffd", r"has lost a sign \(U.FFFD\)"),
        ("It&#39;s R&amp;B", r"""was written for a web page, it should be "It's R&B\""""),
    ],
)
def test_a_text_that_was_damaged_before_is_refused_at_every_door(
    sounds: Path, text: str, said: str
) -> None:
    """Read as CP1252 once, as Excel does with UTF-8; or cut out of a web page."""
    (sounds / "t.csv").write_text(f"path,emotion,text\n0.wav,sad,{text}\n", encoding="utf-8")
    for file, value in (("wav.scp", "0.wav"), ("utt2spk", "s"), ("utt2emo", "sad"), ("text", text)):
        (sounds / file).write_text(f"a {value}\n", encoding="utf-8")
    table = {
        "utt": ["a"],
        "audio_data": [b"RIFF"],
        "text": [text],
        "spk": ["s"],
        "emotion": ["sad"],
    }
    parquet.write_table(arrow.table(table), sounds / "a.parquet")
    write_shard(sounds / "s.parquet", [Utterance("a", text, "sad", np.arange(9))])
    for door in (
        lambda: import_corpus("csv", sounds / "t.csv", sounds / "out"),
        lambda: read_manifest(sounds / "t.csv"),
        lambda: import_cosyvoice(sounds, sounds / "out"),
        lambda: import_cosyvoice(sounds / "a.parquet", sounds / "out"),
        lambda: read_shard(sounds / "s.parquet"),
    ):
        with pytest.raises(UserError, match=said):
            door()
    assert not (sounds / "out").exists()


def test_what_looks_odd_and_is_right_is_taken(sounds: Path) -> None:
    """Letters of the West, signs of web pages, a file whose name was damaged on the disk."""
    wav(sounds / "caf\u00c3\u00a9.wav")
    texts = (
        "\u00c7a co\u00fbte \u00bd \u00a3, \u00e0 No\u00ebl",
        "R&B & more; AT&T",
        "\u00c4\u00d6\u00dc",
    )
    rows = "".join(
        f"{name},sad,{text}\n"
        for name, text in zip(("caf\u00c3\u00a9.wav", "0.wav", "1.wav"), texts, strict=True)
    )
    (sounds / "t.csv").write_text(
        "path;emotion;text\n".replace(";", "|") + rows.replace(",sad,", "|sad|"), "utf-8"
    )
    assert [one.text for one in read_manifest(sounds / "t.csv")] == list(texts)


@pytest.mark.parametrize("file", ["utt2spk", "utt2emo"])
def test_two_values_where_kaldi_has_one_are_refused(sounds: Path, file: str) -> None:
    values = {"wav.scp": "0.wav", "text": "Two words", "utt2spk": "s", "utt2emo": "sad"}
    for name, value in {**values, file: "one two"}.items():
        (sounds / name).write_text(f"a {value}\n")
    with pytest.raises(UserError, match=rf"{file}, line 1: a has 2 values, 'one two': leave one"):
        import_cosyvoice(sounds, sounds / "out")


def test_a_path_without_its_suffix_is_told_which_is_meant(sounds: Path) -> None:
    (sounds / "t.csv").write_text("path,emotion\n0,sad\n")
    with pytest.raises(UserError, match=r"no such audio file: 0, but 0\.wav: write the suffix"):
        read_manifest(sounds / "t.csv")
    (sounds / "t.csv").write_text(f"path,emotion\nfile://{sounds}/0.wav,sad\n")
    with pytest.raises(UserError, match="is no file here: write its path alone"):
        read_manifest(sounds / "t.csv")

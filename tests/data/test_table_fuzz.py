"""Malformed tables and label files, several hundred for each door: a manifest or one line."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from corpus_trees import MAKE, wav
from malformed import MUTATIONS, taken
from rrpo.data.corpora import import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.findings import Findings
from rrpo.data.manifest import read_manifest

pytestmark = pytest.mark.thorough

ROWS = [
    ["path", "emotion", "text", "speaker", "language", "corpus", "intensity", "partition"],
    ["a.wav", "happy", "The train, it leaves at noon.", "anna", "en", "own", "0.5", "train"],
    ["b.wav", "Sad", 'He said "no".', "ben", "en", "own", "", "train"],
    ["c.wav", "anger", "天气很好。", "anna", "zh", "", "1", "train"],
    ["sub/d.wav", "neutral", "", "", "", "ravdess", "0", ""],
]
CELLS = (
    "", " ", "nan", "None", "<NA>", "a.wav", "./a.wav", "../a.wav", "/dev/zero", ".", "..", "sub",
    "~", "a.wav ", "A.WAV", "C:\\a.wav", "x" * 300, "x/" * 200, "\0", "a\nb", "a\r", '"', '""',
    "'", "=1+1", "-1", "2", "1e400", "nan%", "0,5", "TRAIN", "test", "dev", "happyy",
    "😀", "Ｈａｐ", "\ufeff", "\u2028", "\x85", "\x0c", "\x1a", "\x1b[31m", "\u200b", "%s", "{}",
    "a;b", "a\tb", "a|b", "1.0", "01",
)  # fmt: skip
"""What may stand in a cell by mistake."""
SIGNS = (
    '"',
    ",",
    ";",
    "\t",
    "|",
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\ufeff",
    "\u2028",
    "\x1a",
    "'",
    "\\",
    "é",
)
ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "gb18030",
    "cp949",
    "latin-1",
    "utf-7",
)


def quoted(cell: str, separator: str) -> str:
    odd = any(sign in cell for sign in (separator, '"', "\n", "\r"))
    return '"' + cell.replace('"', '""') + '"' if odd else cell


def odd_table(rng: random.Random) -> bytes:
    """Write a table with up to three mistakes of people and programs."""
    rows = [list(row) for row in ROWS]
    separator = rng.choice(",,,;\t|")
    for _ in range(rng.randrange(3)):
        row = rng.choice(rows)
        change = rng.randrange(6)
        if change < 3:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif change == 3:
            row.insert(rng.randrange(len(row) + 1), rng.choice(CELLS))
        elif change == 4 and len(row) > 1:
            row.pop(rng.randrange(len(row)))
        else:
            rows.insert(rng.randrange(len(rows) + 1), list(rng.choice(rows)))
    ending = rng.choice(["\n", "\n", "\r\n", "\r", "\n\n"])
    text = ending.join(separator.join(quoted(cell, separator) for cell in row) for row in rows)
    for _ in range(rng.randrange(3)):
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(SIGNS) + text[place + rng.randrange(2) :]
    return text.encode(rng.choice(ENCODINGS), "replace")


def check(imported: Callable[[Path], object], folder: Path, found: list[bool]) -> None:
    """Import into a new folder: all of a manifest, or nothing."""
    out = folder / "out"
    done = taken(lambda: imported(out))
    found.append(done is None)
    if done is None:
        assert not out.exists()
        return
    assert [path.name for path in out.iterdir()] == ["manifest.csv"]
    assert read_manifest(out)
    shutil.rmtree(out)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c.wav", "sub/d.wav"):
        wav(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["odd", *MUTATIONS])
def test_tables(kind: str, sounds: Path, tmp_path: Path) -> None:
    table = sounds / "t.csv"
    rng = random.Random(kind)
    good = "\n".join(",".join(quoted(cell, ",") for cell in row) for row in ROWS).encode()
    found: list[bool] = []
    for _ in range(400 if kind == "odd" else 60):
        table.write_bytes(odd_table(rng) if kind == "odd" else MUTATIONS[kind](rng, good))
        check(lambda out: import_corpus("csv", table, out), tmp_path, found)
        # `rrpo tokenize` and the studies read it as a manifest.
        taken(lambda: read_manifest(table, Findings()))
    assert sum(found) > len(found) // 3
    assert kind == "noise" or not all(found)


@pytest.mark.parametrize("name", ["esd", "iemocap", "mer2023", "nemo", "cremad", "emotiontts_ko"])
def test_label_files_of_corpora(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    MAKE[name](root)
    texts = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix in (".txt", ".csv", ".tsv") and path.stat().st_size > 10
    ]
    rng = random.Random(name)
    found: list[bool] = []
    for number in range(500):
        path = texts[number % len(texts)]
        data = path.read_bytes()
        path.write_bytes(MUTATIONS[list(MUTATIONS)[number // len(texts) % 4]](rng, data))
        check(lambda out: import_corpus(name, root, out), tmp_path, found)
        path.write_bytes(data)
    assert any(found) or name == "cremad"  # a speaker's gender is all that its table tells
    assert not all(found)
    check(lambda out: import_corpus(name, root, out), tmp_path, found)
    assert not found[-1]


def test_files_of_kaldi(sounds: Path, tmp_path: Path) -> None:
    values = {"wav.scp": "{}.wav", "text": "Hi, 你好 {}", "utt2spk": "anna", "utt2emo": "happy"}
    for file, value in values.items():
        text = "".join(f"{name} {value.format(name)}\n" for name in "abc")
        (sounds / file).write_text(text, encoding="utf-8")
    rng = random.Random(0)
    found: list[bool] = []
    for number in range(500):
        path = sounds / rng.choice(list(values))
        data = path.read_bytes()
        if number % 5 < 4:
            path.write_bytes(MUTATIONS[list(MUTATIONS)[number % 5]](rng, data))
        else:
            text, place = data.decode(), rng.randrange(len(data) // 2)
            odd = rng.choice([*CELLS, *SIGNS])
            text = text[:place] + odd + text[place + rng.randrange(3) :]
            path.write_bytes(text.encode(rng.choice(ENCODINGS), "replace"))
        check(lambda out: import_cosyvoice(sounds, out), tmp_path, found)
        path.write_bytes(data)
    assert 150 < sum(found) < 480

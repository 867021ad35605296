"""What cannot be used of a corpus is left out and said, the same at every door."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import mistake, rrpo
from corpus_trees import MAKE, wav, write
from rrpo.cli import data as command
from rrpo.data.corpora import Imported, import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.findings import Findings
from rrpo.data.manifest import read_manifest
from rrpo.errors import UserError
from rrpo.files import alone
from sounds import encoded, voice, written

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 72862\n"


def imported(name: str, root: Path) -> Imported:
    return import_corpus(name, root, root.parent / f"{root.name}-out")


@pytest.mark.parametrize(
    ("name", "sound", "said"),
    [
        ("iemocap", "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", "copy them"),
        ("mer2023", "audio/sample_4.wav", "take their sound out of the videos, as with ffmpeg"),
        ("nemo", "samples/IC0_fear_2.wav", "copy them again"),
    ],
)
def test_a_sound_that_a_table_names_may_be_missing(
    tmp_path: Path, name: str, sound: str, said: str
) -> None:
    MAKE[name](tmp_path / name)
    whole = import_corpus(name, tmp_path / name, tmp_path / "whole")
    (tmp_path / name / sound).unlink()
    done = imported(name, tmp_path / name)
    stem = Path(sound).stem
    assert len(done.recordings) == len(whole.recordings) - 1
    assert done.findings.lines()[0].startswith(f"left out: 1 not there ({stem}): {said}")
    for file in (tmp_path / name).rglob("*.wav"):
        file.unlink()
    with pytest.raises(UserError):
        import_corpus(name, tmp_path / name, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def doors(folder: Path) -> dict[str, Callable[[], Findings]]:
    """Name a good sound and three others in a table and in kaldi's files."""
    names = ("good", "gone", "empty", "pointer")
    write(folder / "t.csv", "path,emotion\n" + "".join(f"{name}.wav,sad\n" for name in names))
    for file, value in (
        ("wav.scp", "{}.wav"),
        ("text", "Hi"),
        ("utt2spk", "s"),
        ("utt2emo", "sad"),
    ):
        write(folder / file, "".join(f"{name} {value.format(name)}\n" for name in names))

    def tokenized() -> Findings:
        found = Findings()
        assert len(read_manifest(folder / "t.csv", found)) == 1
        return found

    return {
        "csv": lambda: import_corpus("csv", folder / "t.csv", folder / "csv").findings,
        "kaldi": lambda: import_cosyvoice(folder, folder / "kaldi").findings,
        "tokenize": tokenized,
    }


@pytest.mark.parametrize("door", ["csv", "kaldi", "tokenize"])
def test_every_door_leaves_out_what_cannot_be_used(tmp_path: Path, door: str) -> None:
    ask = doors(tmp_path)[door]
    write(tmp_path / "empty.wav", "")
    write(tmp_path / "pointer.wav", POINTER)
    with pytest.raises(UserError, match=r"no such audio file: g(ood|one)\.wav"):
        ask()
    wav(tmp_path / "good.wav")
    said = ask().lines()
    assert "left out: 1 not there (" in said[0]
    assert said[1] == "left out: 1 of 0 bytes (empty.wav): copy them again"
    assert "1 that are git-LFS pointers and no sounds (pointer.wav): run `git lfs pull`" in said[2]


def test_a_corpus_of_pointers_is_refused_at_import(tmp_path: Path) -> None:
    MAKE["cremad"](tmp_path / "cremad")
    write(tmp_path / "cremad/AudioWAV/1001_DFA_ANG_XX.wav", POINTER)
    assert (
        "1 that are git-LFS pointers" in imported("cremad", tmp_path / "cremad").findings.lines()[0]
    )
    for file in (tmp_path / "cremad/AudioWAV").iterdir():
        file.write_text(POINTER)
    with pytest.raises(UserError, match=r"4 that are git-LFS pointers .*: run `git lfs pull`"):
        import_corpus("cremad", tmp_path / "cremad", tmp_path / "again")


@pytest.mark.parametrize("name", sorted(MAKE))
@pytest.mark.parametrize("suffix", [".WAV", ".flac"])
def test_suffixes_in_capitals_and_packed_sounds_are_found(
    tmp_path: Path, name: str, suffix: str
) -> None:
    MAKE[name](tmp_path / name)
    whole = import_corpus(name, tmp_path / name, tmp_path / "whole")
    for file in list((tmp_path / name).rglob("*.wav")):
        file.rename(file.with_suffix(suffix))
    assert len(imported(name, tmp_path / name).recordings) == len(whole.recordings)


@pytest.mark.parametrize("name", sorted(MAKE))
def test_linked_folders_are_followed_and_loops_end(tmp_path: Path, name: str) -> None:
    MAKE[name](tmp_path / "disk")
    whole = import_corpus(name, tmp_path / "disk", tmp_path / "whole")

    def linked(real: Path, place: Path) -> None:
        """Make the same tree of which every folder that holds no folder is a link."""
        place.mkdir(parents=True)
        for entry in real.iterdir():
            deeper = entry.is_dir() and any(inner.is_dir() for inner in entry.iterdir())
            if deeper:
                linked(entry, place / entry.name)
            else:
                (place / entry.name).symlink_to(entry)

    linked(tmp_path / "disk", tmp_path / name)
    (tmp_path / name / "loop").symlink_to("..")
    assert len(imported(name, tmp_path / name).recordings) == len(whole.recordings)


def test_the_sound_of_a_film_counts_once(tmp_path: Path) -> None:
    root = tmp_path / "ravdess"
    for kind in ("01", "03"):
        wav(root / "Actor_01" / f"{kind}-01-05-01-01-01-01.wav")
    wav(root / "Actor_01" / "02-01-05-01-01-01-01.wav")
    wav(root / "Actor_02" / "01-01-05-01-01-01-02.wav")
    done = imported("ravdess", root)
    names = [one.path.name for one in done.recordings]
    assert names == ["03-01-05-01-01-01-01.wav", "01-01-05-01-01-01-02.wav"]
    lines = done.findings.lines()
    assert lines[0].startswith("left out: 1 sounds of films (modality 01)")
    assert lines[1].startswith("left out: 1 of films without sound (modality 02)")


def test_label_files_of_esd_in_any_encoding_and_form(tmp_path: Path) -> None:
    for name in ("0008/Surprise/0008_001401", "0008/Happy/0008_000701", "0016/Angry/0016_000351"):
        wav(tmp_path / "esd" / f"{name}.wav")
    chinese = "0008_001401\t真的吗？惊喜\n0008_000701\t祝你生日快乐\t快乐\nwhat\n"
    write(tmp_path / "esd/0008/0008.txt", chinese, "utf-16-be")
    write(tmp_path / "esd/0016/0016.txt", "0016_000351\tWe’ll see\tAngry\r\n", "gbk")
    done = imported("esd", tmp_path / "esd")
    assert {one.path.stem: one.text for one in done.recordings} == {
        "0008_001401": "真的吗？",
        "0008_000701": "祝你生日快乐",
        "0016_000351": "We’ll see",
    }
    lines = done.findings.lines()
    assert "0008.txt: 1 lines are not of the form NAME TEXT LABEL" in lines[0]
    assert "0016.txt is not UTF-8: read as GB18030" in lines[1]


def test_a_name_that_is_no_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    """quodlibet/mutagen#648: a file named in another encoding ends in surrogates."""
    MAKE["casia"](tmp_path / "casia")
    sound = wav(tmp_path / "casia/wangzhe/angry/202.wav")
    odd = os.fsencode(sound.parent) + b"/\xe4.wav"
    try:
        os.rename(os.fsencode(sound), odd)  # noqa: PTH104
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(UserError, match=r"\\xe4\.wav is not UTF-8: rename it, as with convmv"):
        import_corpus("casia", tmp_path / "casia", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_utf8_is_refused_by_every_command(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "path,emotion\na.wav,sad\n")
    wav(tmp_path / "a.wav")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/r\xe4t")
    for words in (
        ("tokenize", tmp_path / "t.csv", "--out", odd),
        ("policy", "sft", "--out", tmp_path / "run", "--data", odd),
        ("reward", "train", "--out", odd, "--set", "train.steps=1"),
        ("report", odd),
        ("speak", "--policy", "mini", "--text", "caf\udce9", "--out", tmp_path / "x.wav"),
    ):
        assert r"\xe" in (said := mistake(*words)) and "is not UTF-8: write it so" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "t.csv"]


@pytest.mark.slow
def test_a_console_that_is_not_utf8_shows_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav(tmp_path / "a.wav")
    write(tmp_path / "t.csv", "path,emotion,speaker\na.wav,sad,说话人\n")
    monkeypatch.setenv("RRPO_TEST_ENCODING", "latin-1")
    printed = rrpo("data", "import", "csv", tmp_path / "t.csv", "--out", tmp_path / "out")
    assert r"\u8bf4\u8bdd\u4eba 1" in printed
    write(tmp_path / "t.csv", "path,emotion\na.wav,高兴\n")
    assert r"\u9ad8\u5174" in mistake(
        "data", "import", "csv", tmp_path / "t.csv", "--out", tmp_path / "no"
    )


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    wav(tmp_path / "a.wav")
    write(tmp_path / "t.csv", "path,emotion\na.wav,sad\n")
    for words in (
        ("data", "import", "csv", tmp_path / "t.csv", "--out", long),
        ("export", "mini", "--to", "cosyvoice2", "--out", long),
        ("speak", "--policy", "mini", "--text", "Hi.", "--out", f"{long}.wav"),
    ):
        assert "--out: the name nnnn" in mistake(*words)
    assert "is too long: choose a shorter one" in mistake("report", long)


def test_tokenize_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "t.csv", "path,emotion\na.wav,Happy\ngone.wav,sad\n")
    wav(tmp_path / "a.wav")
    with pytest.raises(UserError, match=r"a\.wav is silent"):
        command.tokenize(tmp_path / "t.csv", tmp_path / "out")
    assert "left out: 1 not there (line 3: gone.wav)" in capsys.readouterr().out
    written(tmp_path / "a.wav", encoded("wav", voice()))
    command.tokenize(tmp_path / "t.csv", tmp_path / "out")
    assert "sounds: 1 taken, 0 of them suspicious, 1 left out" in capsys.readouterr().out
    assert report(tmp_path / "out") == {
        "a.wav": ("taken", ""),
        "gone.wav": ("left out", "not there"),
    }
    assert "gone.wav is left out" in (tmp_path / "out" / "skipped.txt").read_text()


def report(folder: Path) -> dict[str, tuple[str, str]]:
    """Return what `sounds.csv` says of each file: its verdict, and some words of why."""
    words = ("not there", "0 bytes", "git-LFS", "labelled", "film", "cut off", "may be cut off")
    with (folder / "sounds.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {
        Path(row["path"]).name: (
            row["verdict"],
            next((one for one in reversed(words) if one in row["why"]), row["why"]),
        )
        for row in rows
    }


def test_an_import_reports_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = encoded("wav", voice())
    stream = good[:4] + bytes(4) + good[8:40] + bytes(4) + good[44:]  # as it was begun
    files = {"good": good, "half": good[:9000], "stream": stream, "empty": b"", "other": good}
    for name, data in files.items():
        written(tmp_path / f"{name}.wav", data)
    written(tmp_path / "pointer.wav", POINTER.encode())
    names = [*files, "gone", "pointer"]
    rows = "".join(f"{name}.wav,{'hm' if name == 'other' else 'sad'}\n" for name in names)
    write(tmp_path / "t.csv", f"path,emotion\n{rows}")
    command.data_import("csv", tmp_path / "t.csv", tmp_path / "out", label=["hm=other"])
    said = capsys.readouterr().out
    assert "cannot be used, and `rrpo tokenize` will leave them out: 1 of 3 recordings" in said
    assert "3 utterances in" in said and "1 of them with sounds that cannot be used" in said
    assert "sounds: 2 taken, 1 of them suspicious, 5 left out; " in said
    expected = {
        "good.wav": ("taken", ""),
        "half.wav": ("left out", "cut off"),
        "stream.wav": ("suspicious", "may be cut off"),
        "gone.wav": ("left out", "not there"),
        "empty.wav": ("left out", "0 bytes"),
        "pointer.wav": ("left out", "git-LFS"),
        "other.wav": ("left out", "labelled"),
    }
    assert report(tmp_path / "out") == expected
    # Kaldi's files name the same sounds.
    for file, value in (("wav.scp", "{}.wav"), ("text", "Hi"), ("utt2spk", "s")):
        lines = "".join(f"{name} {value.format(name)}\n" for name in names)
        write(tmp_path / file, lines)
    write(tmp_path / "utt2emo", "".join(f"{name} sad\n" for name in names))
    command.data_import("cosyvoice", tmp_path, tmp_path / "kaldi")
    assert report(tmp_path / "kaldi") == {**expected, "other.wav": ("taken", "")}


def test_films_are_reported_one_by_one(tmp_path: Path) -> None:
    for kind in ("01", "02", "03"):
        path = tmp_path / "ravdess" / "Actor_01" / f"{kind}-01-05-01-01-01-01.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        written(path, encoded("wav", voice()))
    command.data_import("ravdess", tmp_path / "ravdess", tmp_path / "out")
    assert report(tmp_path / "out") == {
        "03-01-05-01-01-01-01.wav": ("taken", ""),
        "01-01-05-01-01-01-01.wav": ("left out", "film"),
        "02-01-05-01-01-01-01.wav": ("left out", "film"),
    }


def test_a_folder_that_cannot_be_written_is_told_before_a_sound_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.wav", encoded("wav", voice()))
    write(tmp_path / "t.csv", "path,emotion\na.wav,sad\n")

    def read(*_: object) -> None:
        raise AssertionError("a sound was read")

    monkeypatch.setattr("rrpo.data.tokenize.survey", read)
    told = {"": f"{tmp_path / 't.csv'} is a file: name a folder", "inside": "cannot write .*inside"}
    for inside, message in told.items():
        with pytest.raises(UserError, match=message):
            command.tokenize(tmp_path / "t.csv", tmp_path / "t.csv" / inside)
    with alone(tmp_path / "out"), pytest.raises(UserError, match="another process is writing"):
        command.tokenize(tmp_path / "t.csv", tmp_path / "out")

"""The folder of an import: of one process at a time, and never half of one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from rrpo.data.corpora import import_corpus
from rrpo.data.cosyvoice import import_cosyvoice
from rrpo.data.new_folder import PART, new_folder
from rrpo.errors import UserError
from rrpo.files import alone


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    soundfile.write(folder / "a.wav", [0.1] * 1600, 16_000)
    for name, value in (("wav.scp", "a.wav"), ("text", "Hi"), ("utt2spk", "s"), ("utt2emo", "sad")):
        (folder / name).write_text(f"a {value}\n")
    (folder / "t.csv").write_text("path,emotion\na.wav,sad\n")
    return folder


DOORS: dict[str, Callable[[Path, Path], object]] = {
    "cosyvoice": import_cosyvoice,
    "csv": lambda folder, out: import_corpus("csv", folder / "t.csv", out),
}


@pytest.mark.parametrize("door", DOORS)
def test_two_imports_do_not_write_one_folder(kaldi: Path, tmp_path: Path, door: str) -> None:
    out = tmp_path / "out"
    with alone(out), pytest.raises(UserError, match=r"another process is writing .*out: wait"):
        DOORS[door](kaldi, out)
    assert not [*out.iterdir()]
    DOORS[door](kaldi, out)
    assert [path.name for path in out.iterdir()] == ["manifest.csv"]
    with pytest.raises(UserError, match="out is not empty"):
        DOORS[door](kaldi, out)
    assert (out / "manifest.csv").is_file()


def test_what_a_killed_import_left_is_removed(kaldi: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in (f"{PART}/0.parquet", "audio/0.wav", ".manifest.csv.x1", "manifest.csv"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("half")
    import_cosyvoice(kaldi, out)
    assert [path.name for path in out.iterdir()] == ["manifest.csv"]


def test_tokens_have_their_name_at_the_end_alone(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as part:
        (part / "0.parquet").write_text("whole")
        assert not (tmp_path / "out" / "tokens").exists()
    assert (tmp_path / "out" / "tokens" / "0.parquet").read_text() == "whole"


def test_an_empty_folder_that_was_there_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path) as part:
        (part / "0.parquet").write_text("half")
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]

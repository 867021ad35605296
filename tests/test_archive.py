"""Archives at every door: named, with the way out; what is a zip for its format is no archive."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command_line import mistake
from rrpo.archive import refuse_archive
from rrpo.errors import UserError
from rrpo.loading import load_policy


def packed(path: Path, name: str = "config.yaml") -> Path:
    """Write an archive in the form of its suffix."""
    inner = path.with_name(name)
    inner.write_bytes(b"path,emotion\n" * 9)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(inner, name)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            archive.add(inner, name)
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[path.suffix]
        path.write_bytes(pack(inner.read_bytes()))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "bz2", "xz"])
def test_every_archive_is_known_by_its_bytes(tmp_path: Path, kind: str) -> None:
    path = packed(tmp_path / f"a.{kind}").rename(tmp_path / "llm.pt")
    with pytest.raises(UserError, match=r"llm\.pt is (a|packed) .*: unpack it, and name what"):
        refuse_archive(path)
    with pytest.raises(UserError, match="unpack it, and name what comes out"):
        load_policy(path)  # as it lies in a model's folder


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"a": torch.zeros(2)}, path),
        lambda path: packed(path.with_name("x.zip"), "[Content_Types].xml").rename(path),
        lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
        lambda path: path.write_text("path,emotion\n"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.with_name("gone")),
    ],
)
def test_what_is_no_archive_is_left_to_its_reader(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    write(tmp_path / "a")
    refuse_archive(tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("report", "{}"),
        ("evaluate", "{}"),
        ("play", "{}"),
        ("export", "{}", "--to", "hf", "--out", "o"),
        ("speak", "--policy={}", "--text", "Hi.", "--out", "o.wav"),
        ("reward", "eval", "{}"),
        ("reward", "train", "--data", "{}", "--out", "o"),
        ("reward", "train", "--mixes", "{}", "--out", "o"),
        ("policy", "sft", "--from", "{}", "--out", "o"),
        ("policy", "sft", "--config", "{}", "--out", "o"),
        ("policy", "sft", "--data", "{}", "--codec-of", "mini", "--out", "o"),
        ("policy", "diffro", "--reward", "{}", "--out", "o"),
        ("policy", "dpo", "--pairs", "{}", "--out", "o"),
        ("tokenize", "{}", "--out", "o"),
        ("tokenize", ".", "--codec", "s3:{}", "--out", "o"),
        ("data", "import", "ravdess", "{}", "--out", "o"),
        ("data", "import", "csv", "{}", "--out", "o"),
        ("data", "import", "cosyvoice", "{}", "--out", "o"),
    ],
)
def test_every_door_says_that_an_archive_is_to_be_unpacked(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    for kind in ("zip", "tar"):
        path = packed(tmp_path / f"run.{kind}")
        said = mistake(*(word.format(path) for word in words), cwd=tmp_path)
        assert f"{path} is a {kind} archive: unpack it, and name what comes out" in said
    assert not list(tmp_path.glob("o*"))

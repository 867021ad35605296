"""`rrpo play` without its packages, and without all of a model folder."""

import sys
from pathlib import Path

import numpy as np
import pytest

import rrpo
from model_folder import write_llm, write_tokenizer
from rrpo.audio import write
from rrpo.cli import main


def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path | int
) -> str:
    """Return the one line of a mistake."""
    monkeypatch.setattr(sys, "argv", ["rrpo", "play", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    return complaint


def test_what_a_cosyvoice_folder_lacks_to_be_heard_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for package in ("transformers", "starlette", "uvicorn"):
        pytest.importorskip(package)
    folder, voice = tmp_path / "CosyVoice2-0.5B", tmp_path / "voice.wav"
    write_tokenizer(folder)
    write_llm(folder)
    write(voice, np.sin(np.arange(32_000) / 10).astype(np.float32) / 4, 16_000)
    assert "name a recording of a --voice" in told(monkeypatch, capsys, folder)
    assert "its own package" in told(monkeypatch, capsys, folder, "--voice", voice, "--port", 0)
    for name in ("flow.pt", "hift.pt"):
        (folder / name).unlink()
    complaint = told(monkeypatch, capsys, folder, "--voice", voice, "--port", 0)
    assert "cannot speak without flow.pt (the flow), hift.pt (the vocoder): copy" in complaint


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_package_is_told_with_its_command(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if missing == "starlette":
        pytest.importorskip("uvicorn", reason="which is looked for first")
    for loaded in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, loaded)
    for ours in ("rrpo.server", "rrpo.play", "rrpo.play.page"):
        monkeypatch.delitem(sys.modules, ours, raising=False)
    monkeypatch.delattr(rrpo, "server", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    complaint = told(monkeypatch, capsys, "mini")
    assert complaint == f"error: {missing} is not installed: pip install 'rrpo[play]'\n"

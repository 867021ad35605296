"""`rrpo listen build` and `analyze` on the command line."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("pyloudnorm", reason="needs pyloudnorm: pip install 'rrpo[listen]'")
from recorded_systems import recordings
from rrpo.cli import main
from rrpo.listen.design import read_design


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["rrpo", "listen", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_test_is_built_and_its_power_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, out = recordings(tmp_path / "alpha"), tmp_path / "test"
    instructions = tmp_path / "told.txt"
    instructions.write_text("Listen.\n\nAnswer.\n", encoding="utf-8")
    words = (
        "build",
        folder,
        f"other={folder}",
        "--out",
        out,
        "--texts",
        "3",
        "--listeners",
        "5",
        "--emotions",
        "sad",
        "--exclude",
        "attention_failed=1",
        "--panel",
        "PROLIFIC_PID",
        "--instructions",
        instructions,
    )
    assert run(monkeypatch, *words) == 0
    told = capsys.readouterr().out
    assert "2 systems: alpha, other" in told and "power: 5 listeners × 3 items" in told
    assert f"rrpo listen serve {out}" in told
    design = read_design(out)
    assert design.instructions == ["Listen.", "Answer."]
    assert design.exclusion.attention_failed == 1 and design.panel == "PROLIFIC_PID"
    assert design.planned["listeners"] == 5 and len(design.orders) == 6
    assert {one.emotion for one in design.sounds if one.system in design.systems} == {"sad"}
    assert run(monkeypatch, *words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "nowhere", "--out", "x"), "no run or folder at nowhere"),
        (("build", "mini", "--out", "x", "--hear", "some"), "hear"),
        (("build", "mini", "--out", "x", "--exclude", "mood=1"), "mood"),
        (("build", "mini", "--out", "x", "--exclude", "mood"), "attention_failed=1"),
        (("build", "mini", "--out", "x", "--exclude", "attention_failed=-3"), "attention_failed"),
        (("build", "mini", "--out", "x", "--exclude", "share_missing=7"), "share_missing"),
        (("build", "mini", "--out", "x", "--panel", "a&b=c"), "no parameter of an address"),
        (("build", "mini", "--out", "x", "--completion-url", "javascript:alert(1)"), "https://"),
        (("build", "mini", "--out", "x", "--emotions", ","), "empty name"),
        (("build", "mini", "--out", "x", "--listeners", "1001"), "1000"),
        (("build", "mini", "--out", "x", "--instructions", "no.txt"), "no such file"),
        (("analyze", "nowhere"), "is no listening test"),
    ],
)
def test_mistakes_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) == 2
    complaint = capsys.readouterr().err
    assert said in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_missing_package_is_told_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = recordings(tmp_path / "alpha")
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    assert run(monkeypatch, "build", folder, "--out", tmp_path / "test", "--texts", "2") == 2
    complaint = capsys.readouterr().err
    assert complaint == "error: pyloudnorm is not installed: pip install 'rrpo[listen]'\n"

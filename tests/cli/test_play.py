"""`rrpo play` without its packages."""

import sys

import pytest

import rrpo
from rrpo.cli import main


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
    monkeypatch.setattr(sys, "argv", ["rrpo", "play", "mini"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint == f"error: {missing} is not installed: pip install 'rrpo[play]'\n"

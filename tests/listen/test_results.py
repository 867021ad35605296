"""Results files of a static page: read whole, or refused with what is wrong and where."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import rrpo.listen
from rrpo.checkpoint import sha256
from rrpo.cli import main
from rrpo.errors import UserError
from rrpo.listen.design import DESIGN, RESULTS, Design
from rrpo.listen.ratings import read_ratings
from rrpo.listen.static import write_static
from rrpo.listen.store import Store, listener_id
from small_listening_test import answered, write_test

LISTENER = "0123456789abcdef0123"


@pytest.fixture
def test(tmp_path: Path) -> Path:
    write_test(tmp_path / "test")
    return tmp_path / "test"


def hand_in(test: Path, name: str = "one.json", **changed: Any) -> Path:
    """Write a results file."""
    design = Design.model_validate_json((test / DESIGN).read_bytes())
    content = {
        "format": 1,
        "design": sha256(test / DESIGN),
        "listener": LISTENER,
        "order": 1,
        "panel_id": None,
        "pages": [answered(design, page).model_dump() for page in ("t1", "p3")],
        **changed,
    }
    path = test / RESULTS / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_file_is_read_beside_what_the_server_kept(test: Path) -> None:
    design = Design.model_validate_json((test / DESIGN).read_bytes())
    store = Store(test, design)
    store.keep(store.join("0" * 32), answered(design, "p1"))
    pages = [answered(design, page).model_dump() for page in design.orders[1]]
    hand_in(test)
    hand_in(test, "two.json", listener="f" * 20, pages=pages, panel_id="abc")
    found = read_ratings(test)
    assert [(one.id, one.order, one.finished, one.panel_id) for one in found.listeners] == [
        (listener_id("0" * 32), 0, False, None),
        (LISTENER, 1, False, None),
        ("f" * 20, 1, True, "abc"),
    ]
    assert len(found.answers) == 1 + 3 + 8
    assert {one.value for one in found.answers if one.question == "clicks"} == {(0.1, 0.25)}


def test_a_test_that_nobody_took_has_no_ratings(test: Path) -> None:
    assert read_ratings(test).listeners == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"design": "0" * 64}, "of another test"),
        ({"format": 2}, "format"),
        ({"order": 4}, "no order 4"),
        ({"order": -1}, "order"),
        ({"order": 1.5}, "order"),
        ({"listener": "../../x"}, "listener"),
        ({"panel_id": "=cmd()"}, "panel_id"),
        ({"more": 1}, "more"),
        ({"pages": 7}, "pages"),
        (
            {"pages": [{"page": "zz", "values": {}, "seconds": 1, "plays": 1}]},
            "no page 'zz'",
        ),
        (
            {"pages": [{"page": "p1", "values": {"e_mos": 9}, "seconds": 1, "plays": 1}]},
            "from 1 to 5",
        ),
        ({"pages": [{"page": "p1", "values": {}, "seconds": 1, "plays": 1}]}, "asks e_mos"),
        (
            {"pages": [{"page": "p1", "values": {"e_mos": 4}, "seconds": 1, "plays": 1}] * 2},
            "page p1 twice",
        ),
    ],
)
def test_an_edited_file_is_refused_and_named(
    test: Path, changed: dict[str, Any], said: str
) -> None:
    path = hand_in(test, **changed)
    with pytest.raises(UserError, match=said) as refused:
        read_ratings(test)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_a_damaged_file_is_refused_and_named(test: Path, content: bytes) -> None:
    path = hand_in(test)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"one\.json"):
        read_ratings(test)


def test_two_files_of_one_listener_are_both_named(test: Path) -> None:
    shutil.copyfile(hand_in(test), test / RESULTS / "copy.json")
    with pytest.raises(UserError, match=r"one\.json is of listener .*copy\.json: remove one"):
        read_ratings(test)


def test_a_folder_for_a_web_host_tells_no_more_than_the_server(test: Path, tmp_path: Path) -> None:
    out = tmp_path / "web"
    write_static(test, out)
    write_static(test, out)  # again, over itself
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    scripts = {
        f"{name}.js" for name in ("static", "sound", "marks", "questions", "lasting", "listen")
    }
    sounds = {name for name in names if name.startswith("sounds/")}
    assert names == {"index.html", "style.css", "test.json", *scripts, *sounds}
    told = (out / "test.json").read_text(encoding="utf-8")
    assert json.loads(told)["design"] == sha256(test / DESIGN)
    assert len(json.loads(told)["orders"]) == 4
    for word in ("ours", "theirs", "item-", "runs/", "attention", "repeat", '"answer"', "secret"):
        assert word not in told, word
    html = (out / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html and "server.js" not in html


def test_a_folder_of_something_else_is_not_written_into(test: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine", encoding="utf-8")
    for wrong in (tmp_path / "mine", test, test / DESIGN):
        with pytest.raises(UserError):
            write_static(test, wrong)
    assert (tmp_path / "mine" / "index.html").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent"], "absent is no listening test"),
        (["{}", "--host", "0.0.0.0"], "--host"),
        (["{}", "--address", "listen.example.org"], "--address"),
        (["{}", "--static", "x", "--listeners", "3"], "--static"),
    ],
)
def test_mistakes_of_the_command(
    words: list[str],
    said: str,
    test: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "--static" not in words:  # a static page needs no server
        pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[listen]'")
    given = [str(test) if word == "{}" else word for word in words]
    monkeypatch.setattr("sys.argv", ["rrpo", "listen", "serve", "--port", "0", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and said in complaint


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_package_is_told_with_its_command(
    missing: str,
    test: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if missing == "starlette":
        pytest.importorskip("uvicorn", reason="which is looked for first")
    for loaded in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, loaded)
    for ours in ("server", "listen.collect"):
        monkeypatch.delitem(sys.modules, f"rrpo.{ours}", raising=False)
    monkeypatch.delattr(rrpo, "server", raising=False)
    monkeypatch.delattr(rrpo.listen, "collect", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("sys.argv", ["rrpo", "listen", "serve", str(test), "--port", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint == f"error: {missing} is not installed: pip install 'rrpo[listen]'\n"

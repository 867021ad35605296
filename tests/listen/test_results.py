"""Results files of a static page: read whole, or refused with what is wrong and where."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import rrpo.listen
from rrpo.cli import main
from rrpo.errors import UserError
from rrpo.files import sha256
from rrpo.listen.design import DESIGN, RESULTS, SOUNDS, Design, read_design, sound_file
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
        ({"pages": []}, "holds no answers"),
        (
            {"pages": [{"page": "p1", "values": {"e_mos": 4}, "seconds": 1, "plays": 0}]},
            "before its sounds were played",
        ),
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


def test_nothing_in_the_folder_of_results_is_passed_over(test: Path) -> None:
    path = hand_in(test, "L2.JSON")
    (path.parent / ".hidden").touch()
    assert [one.id for one in read_ratings(test).listeners] == [LISTENER]
    path.rename(path.with_name("L2.json.txt"))
    with pytest.raises(UserError, match=r"L2\.json\.txt is no results file"):
        read_ratings(test)
    (path.parent / "L2.json.txt").unlink()
    (path.parent / "more.json").mkdir()
    with pytest.raises(UserError, match=r"more\.json is no results file"):
        read_ratings(test)


def test_a_participant_of_a_panel_counts_once(test: Path) -> None:
    hand_in(test, panel_id="abc")
    other = hand_in(test, "two.json", listener="f" * 20, panel_id="another")
    assert len(read_ratings(test).listeners) == 2
    hand_in(test, "two.json", listener="f" * 20, panel_id="abc")
    with pytest.raises(UserError, match=r"two\.json is of abc.*one\.json.*remove one"):
        read_ratings(test)
    other.unlink()
    store = Store(test, Design.model_validate_json((test / DESIGN).read_bytes()))
    store.join("0" * 32, "abc")
    store.close()
    with pytest.raises(UserError, match=r"one\.json is of abc.*ratings\.sqlite"):
        read_ratings(test)


def test_a_sound_that_was_changed_is_named(test: Path, tmp_path: Path) -> None:
    design = Design.model_validate_json((test / DESIGN).read_bytes())
    first, second = (sound_file(test, one.id) for one in design.sounds[:2])
    shutil.copyfile(first, second)
    for work in (read_design, read_ratings, lambda one: write_static(one, tmp_path / "web")):
        with pytest.raises(UserError, match=f"{second.name} is not the sound"):
            work(test)
    assert not (tmp_path / "web").exists()


def test_a_folder_for_a_web_host_tells_no_more_than_the_server(test: Path, tmp_path: Path) -> None:
    out = tmp_path / "web"
    write_static(test, out)
    write_static(test, out)  # again, over itself
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    scripts = {
        f"{name}.js"
        for name in ("static", "sound", "marks", "questions", "lasting", "parts", "listen")
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
    (tmp_path / "mixed").mkdir()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / SOUNDS).symlink_to(tmp_path / "mine")
    for content in ("mine", "[]", "{}", '{"design": 1, "format": 1, "files": []}', "\0"):
        (tmp_path / "mixed" / "test.json").write_text(content, encoding="utf-8")
        refuses(test, tmp_path / "mixed", "mixed holds test.json")
    refuses(test, tmp_path / "mine", "mine holds index.html")
    refuses(test, tmp_path / "link", "link holds sounds")
    refuses(test, test / DESIGN, "own folder")


@pytest.mark.parametrize("name", ["", "results", "sounds/web", "sub/../new"])
def test_no_page_is_written_into_a_test(test: Path, name: str) -> None:
    refuses(test, test / name, "own folder")


def test_a_page_of_another_test_or_with_foreign_files_is_not_written_over(
    test: Path, tmp_path: Path
) -> None:
    write_test(tmp_path / "other", title="Another one")
    write_static(tmp_path / "other", tmp_path / "web")
    refuses(test, tmp_path / "web", "another test or design, 'Another one'")
    write_static(test, tmp_path / "own")
    (tmp_path / "own" / SOUNDS / "mine.wav").touch()
    refuses(test, tmp_path / "own", "holds sounds/mine.wav")


def test_what_the_page_no_longer_has_is_removed(test: Path, tmp_path: Path) -> None:
    out = tmp_path / "web"
    write_static(test, out)
    before = contents(out)
    told = json.loads((out / "test.json").read_text(encoding="utf-8"))
    told["files"] += ["old.js", "../design.json"]
    (out / "test.json").write_text(json.dumps(told), encoding="utf-8")
    (out / "old.js").touch()
    (out / "style.css").unlink()  # as if writing had been interrupted
    write_static(test, out)
    assert contents(out) == before


def refuses(test: Path, out: Path, said: str) -> None:
    """Require that no page is written there, and that nothing there is touched."""
    before = contents(out.parent)
    with pytest.raises(UserError, match=re.escape(said)):
        write_static(test, out)
    assert contents(out.parent) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files within a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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

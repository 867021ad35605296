"""What the server of a listening test answers to listeners and to the administrator."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[listen]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[listen]'")
pytest.importorskip("httpx2", reason="the test client's")

from starlette.testclient import TestClient

from listen_server import ADDRESS, TOKENS, Opened, open_test, refused, running
from rrpo import server
from rrpo.errors import UserError
from rrpo.listen import collect
from rrpo.listen.links import completion_code, read_secret, tokens
from rrpo.listen.ratings import read_ratings
from rrpo.listen.store import DiskFull
from small_listening_test import answered


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    one = open_test(tmp_path / "test", panel="PROLIFIC_PID")
    yield one
    one.store.close()


def test_a_listener_takes_a_test(opened: Opened) -> None:
    told = opened.join(TOKENS[0], panel_id="abc123").json()
    assert told["answered"] == [] and "code" not in told
    for page in told["test"]["pages"]:
        for sound in page["sounds"]:
            heard = opened.get(f"/sounds/{sound['id']}.wav", TOKENS[0])
            assert heard.status_code == 200 and heard.content[:4] == b"RIFF"
        assert "code" not in opened.get("/progress", TOKENS[0]).json()
        kept = opened.answer(TOKENS[0], page["id"])
        assert kept.json()["kept"] == page["id"]
    assert kept.json()["code"] == completion_code(opened.secret)
    assert opened.get("/progress", TOKENS[0]).json()["code"] == kept.json()["code"]
    (listener,) = read_ratings(opened.test).listeners
    assert listener.finished and listener.panel_id == "abc123"
    assert len(read_ratings(opened.test).answers) == 8


def test_what_a_listener_is_told_names_no_system_and_no_role(opened: Opened) -> None:
    told = opened.join(TOKENS[0]).text + opened.browser.get("/about").text
    for word in ("ours", "theirs", "item-", "runs/", "attention", "repeat", "gain", '"answer"'):
        assert word not in told, word
    assert opened.secret not in told


def test_a_panel_id_is_kept_only_if_the_design_asks_for_it(tmp_path: Path) -> None:
    one = open_test(tmp_path / "test")
    assert one.join(TOKENS[0], panel_id="abc123").status_code == 200
    assert one.store.ratings().listeners[0].panel_id is None


def test_a_personal_link_needs_no_panel_id(tmp_path: Path) -> None:
    one = open_test(tmp_path / "test", TOKENS[:2], panel="PROLIFIC_PID")
    assert one.join(TOKENS[0], panel_id=None).status_code == 200
    assert one.join(TOKENS[1], panel_id="abc").json()["panel_id"] == "abc"


def test_one_link_is_not_for_two_participants(opened: Opened) -> None:
    opened.join(TOKENS[0], panel_id="KB2")
    assert "another participant" in refused(opened.join(TOKENS[0], panel_id="OTHER"), 403)
    for own in ("KB2", None):  # who is there already is greeted
        assert opened.join(TOKENS[0], panel_id=own).json()["panel_id"] == "KB2"
    refused(opened.join(TOKENS[1], panel_id="KB2"), 400)
    assert opened.store.size() == 1


@pytest.mark.parametrize(("page", "plays"), [("p1", 0), ("p2", 0), ("p2", 1)])
def test_sounds_that_were_not_played_cannot_be_answered(
    opened: Opened, page: str, plays: int
) -> None:
    opened.join(TOKENS[0])
    body = answered(opened.design, page).model_dump() | {"plays": plays}
    assert "played" in refused(opened.post("/answer", TOKENS[0], body), 400)
    assert opened.store.ratings().answers == []


def test_the_code_is_put_into_the_panels_address(tmp_path: Path) -> None:
    one = open_test(tmp_path / "test", completion_url="https://panel.example/end?cc={code}")
    one.join(TOKENS[0])
    ends = [one.answer(TOKENS[0], page).json() for page in one.design.orders[0]]
    assert ends[-1]["url"] == f"https://panel.example/end?cc={completion_code(one.secret)}"
    with pytest.raises(UserError, match="begins with https"):
        open_test(tmp_path / "other", completion_url="javascript:alert(1)")


def test_only_those_who_were_invited_join(tmp_path: Path) -> None:
    invited = tokens("ab" * 16, 3)
    assert invited == tokens("ab" * 16, 5)[:3] and len(set(invited)) == 3
    one = open_test(tmp_path / "test", invited)
    assert one.browser.get("/about").json()["invited"]
    assert [one.join(token).status_code for token in invited] == [200] * 3
    assert "not known here" in refused(one.join(TOKENS[0]), 403)


@pytest.mark.parametrize("token", ["", "x", "../../etc", "0" * 31, "G" * 32, "0" * 32 + "'"])
def test_a_bad_token_gets_nothing(opened: Opened, token: str) -> None:
    sound = opened.design.sounds[0].id
    for answer in (
        opened.get("/progress", token),
        opened.get(f"/sounds/{sound}.wav", token),
        opened.answer(token, "p1"),
    ):
        refused(answer, 403)
    assert opened.join(token).status_code in (400, 403)
    assert opened.store.size() == 0


def test_a_listener_reads_and_writes_only_what_is_own(tmp_path: Path) -> None:
    orders = [["t1", "p1"], ["t1", "p3"]]
    one = open_test(tmp_path / "test")
    one.store.close()
    design = one.design.model_copy(update={"orders": orders})
    (tmp_path / "test" / "design.json").write_text(design.model_dump_json(), encoding="utf-8")
    (tmp_path / "test" / "ratings.sqlite").unlink()
    with running(tmp_path / "test") as served:
        browser = TestClient(
            collect.make(tmp_path / "test", served.store, served.secret, ["127.0.0.1"]),
            base_url=ADDRESS,
        )
        opened = Opened(tmp_path / "test", design, served.store, served.secret, browser)
        first, second = (opened.join(token).json() for token in TOKENS[:2])
        own, others = (
            {sound["id"] for page in told["test"]["pages"] for sound in page["sounds"]}
            for told in (first, second)
        )
        (foreign,) = others - own
        assert opened.get(f"/sounds/{foreign}.wav", TOKENS[1]).status_code == 200
        refused(opened.get(f"/sounds/{foreign}.wav", TOKENS[0]), 404)
        refused(opened.answer(TOKENS[0], "p3"), 400)
        opened.answer(TOKENS[0], "p1")
        assert opened.get("/progress", TOKENS[1]).json()["answered"] == []


def test_the_administrator_counts_exports_and_deletes(opened: Opened) -> None:
    for token in TOKENS[:2]:
        opened.join(token)
        opened.answer(token, "p3")
    opened.answer(TOKENS[0], "p1")
    state = opened.get("/administrator/state", opened.secret).json()
    assert (state["started"], state["finished"], state["answered"]) == (2, 0, 3)
    assert {page["id"]: page["answered"] for page in state["pages"]}["p3"] == 2
    table = opened.get("/administrator/ratings.csv", opened.secret).text
    rows = list(csv.DictReader(table.splitlines()))
    assert {(row["page"], row["question"], row["value"]) for row in rows} == {
        ("p3", "emotion", "sad"),
        ("p3", "clicks", "0.1 0.25"),
        ("p1", "e_mos", "4.5"),
    }
    refused(opened.get("/administrator/ratings.xml", opened.secret), 404)
    exported = json.loads(opened.get("/administrator/ratings.json", opened.secret).text)
    assert len(exported["answers"]) == 5
    name = state["listeners"][0]["id"]
    path = "/administrator/delete"
    refused(opened.post(path, opened.secret, {"listener": name, "confirm": ""}), 400)
    assert opened.post(path, opened.secret, {"listener": name, "confirm": name}).json()
    refused(opened.post(path, opened.secret, {"listener": name, "confirm": name}), 404)
    assert [one.id for one in opened.store.ratings().listeners] != [name]
    refused(opened.get("/progress", TOKENS[0]), 403)


@pytest.mark.parametrize("secret", ["", "wrong", TOKENS[0], "é"])
def test_without_the_secret_nobody_is_administrator(opened: Opened, secret: str) -> None:
    opened.join(TOKENS[0])
    headers = {"Authorization": f"Bearer {secret}".encode()}
    name = opened.store.ratings().listeners[0].id
    for path in ("state", "ratings.csv", "ratings.json"):
        refused(opened.browser.get(f"/administrator/{path}", headers=headers), 403)
    body = {"listener": name, "confirm": name}
    refused(opened.browser.post("/administrator/delete", headers=headers, json=body), 403)
    # In the address it is not taken: proxies write addresses down.
    refused(opened.browser.get(f"/administrator/state?secret={opened.secret}"), 403)
    # A link of another page cannot delete.
    assert opened.browser.get("/administrator/delete").status_code == 405
    assert opened.store.size() == 1


def test_the_secret_is_its_owners_and_stays(opened: Opened) -> None:
    path = opened.test / "secret"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert read_secret(opened.test) == opened.secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("guess", encoding="utf-8")
    with pytest.raises(UserError, match="holds no secret"):
        read_secret(opened.test)


def test_fifty_behind_one_address_are_not_limited(tmp_path: Path) -> None:
    one = open_test(tmp_path / "test")
    joined = [one.join(f"{number:032x}") for number in range(50)]
    assert {answer.status_code for answer in joined} == {200}
    for number in range(50):
        assert one.answer(f"{number:032x}", "p1").status_code == 200
    places = [listener.order for listener in one.store.ratings().listeners]
    assert sorted(places.count(order) for order in range(4)) == [12, 12, 13, 13]


def test_a_port_that_is_taken_is_told_once() -> None:
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as refusal:
            server.listen("127.0.0.1", port)
    assert str(refusal.value) == (
        f"cannot listen at 127.0.0.1:{port} (Address already in use): choose another --port, 0 for "
        "any free one"
    )


def test_a_full_disk_is_told_in_one_sentence_and_then_it_goes_on(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.join(TOKENS[0])
    with monkeypatch.context() as patched:

        def full(*_: object) -> bool:
            raise DiskFull

        patched.setattr(opened.store, "keep", full)
        assert "not your fault" in refused(opened.answer(TOKENS[0], "p1"), 507)
    assert opened.answer(TOKENS[0], "p1").status_code == 200
    assert opened.get("/progress", TOKENS[0]).json()["answered"] == ["p1"]


def test_another_answer_to_a_page_is_refused_and_the_same_is_not(opened: Opened) -> None:
    opened.join(TOKENS[0])
    for page in opened.design.orders[0]:
        first = opened.answer(TOKENS[0], page)
        assert opened.answer(TOKENS[0], page).json() == first.json()
    said = refused(opened.answer(TOKENS[0], "p1", e_mos=1.0), 409)
    assert "the first answer stays" in said
    kept = {one.value for one in opened.store.ratings().answers if one.page == "p1"}
    assert kept == {4.5}
    assert opened.answer(TOKENS[0], "p1").json()["code"] == completion_code(opened.secret)

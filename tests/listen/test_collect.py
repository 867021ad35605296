"""What the server of a listening test answers, and what it refuses."""

import csv
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[listen]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[listen]'")
pytest.importorskip("httpx2", reason="the test client's")

from starlette.testclient import TestClient

from listen_server import running
from rrpo import server
from rrpo.errors import UserError
from rrpo.listen import collect
from rrpo.listen.design import Design
from rrpo.listen.links import completion_code, read_secret, tokens
from rrpo.listen.rate_limit import RateLimit
from rrpo.listen.ratings import read_ratings
from rrpo.listen.store import DiskFull, Store
from small_listening_test import answered, write_test

ADDRESS = "http://127.0.0.1:8026"
TOKENS = [f"{number:032x}" for number in range(1, 9)]
EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'


@dataclass
class Opened:
    """A test, its server and a browser."""

    test: Path
    design: Design
    store: Store
    secret: str
    browser: TestClient

    def join(self, token: str, **more: Any) -> Any:
        return self.browser.post("/join", json={"token": token, **more})

    def get(self, path: str, secret: str) -> Any:
        return self.browser.get(path, headers={"Authorization": f"Bearer {secret}"})

    def post(self, path: str, secret: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {secret}"}
        return self.browser.post(path, headers=headers, json=body)

    def answer(self, token: str, page: str, **changed: Any) -> Any:
        body = answered(self.design, page, **changed).model_dump()
        return self.post("/answer", token, body)


def open_test(
    folder: Path, invited: Any = (), limits: collect.Limits | None = None, **changed: Any
) -> Opened:
    """Write a test and open it."""
    design = write_test(folder, **changed)
    store, secret = Store(folder, design), read_secret(folder)
    app = collect.make(folder, store, secret, ["127.0.0.1"], invited, limits)
    return Opened(folder, design, store, secret, TestClient(app, base_url=ADDRESS))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    one = open_test(tmp_path / "test", panel="PROLIFIC_PID")
    yield one
    one.store.close()


def refused(answer: Any, status: int) -> str:
    """Return the one line of an answer that must be a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert "\n" not in answer.text and answer.text
    return str(answer.text)


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


def test_every_answer_forbids_what_is_not_its_own(opened: Opened) -> None:
    opened.join(TOKENS[0])
    answers = [
        opened.browser.get(path) for path in ("/", "/administrator", "/listen.js", "/no", "/about")
    ]
    answers += [opened.get(f"/sounds/{opened.design.sounds[0].id}.wav", TOKENS[0])]
    answers += [opened.browser.get("/", headers={"host": "evil.example"})]
    answers += [opened.browser.post("/join", content=b"x" * (server.BODY + 1))]
    assert [one.status_code for one in answers] == [200, 200, 200, 404, 200, 200, 400, 413]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_texts_of_a_test_stand_in_no_page_and_no_page_asks_elsewhere(tmp_path: Path) -> None:
    one = open_test(tmp_path / "test", title=EVIL, instructions=[EVIL])
    for path in ("/", "/administrator"):
        html = one.browser.get(path).text
        assert "alert(1" not in html
        assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL).count("") >= 1
        assert not re.search(r"<script[^>]*>[^<]|\son\w+=|\sstyle=|https?:", html)
        for name in re.findall(r'(?:src|href)="([^"]*)"', html):
            content = one.browser.get(f"/{name}")
            assert content.status_code == 200
            assert "innerHTML" not in content.text and "eval(" not in content.text
    assert one.browser.get("/about").headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_another_page_is_not_read(opened: Opened, kind: str) -> None:
    body = json.dumps({"token": TOKENS[0]})
    refused(opened.browser.post("/join", content=body, headers={"content-type": kind}), 415)
    assert opened.store.size() == 0


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[1]", b"[" * 9000, b"\xff", b'{"page": "p1"}'),
        b'{"page": "p1", "values": {"e_mos": NaN}, "seconds": 1, "plays": 1}',
        b'{"page": "p1", "values": {"e_mos": 1e999}, "seconds": 1, "plays": 1}',
        b'{"page": "p1", "values": {"e_mos": [[[]]]}, "seconds": 1, "plays": 1}',
        b'{"page": "p1", "values": {"e_mos": 4}, "seconds": -1, "plays": 1}',
        b'{"page": "p1", "values": {"e_mos": 4}, "seconds": 1, "plays": 1e30}',
        b'{"page": "p1", "values": {"e_mos": 4}, "seconds": 1, "plays": 1, "listener": "x"}',
        b'{"page": "\\ud800", "values": {}, "seconds": 1, "plays": 1}',
    ],
)
def test_what_is_no_answer_gets_one_line(opened: Opened, body: bytes) -> None:
    opened.join(TOKENS[0])
    headers = {"content-type": "application/json", "Authorization": f"Bearer {TOKENS[0]}"}
    assert len(refused(opened.browser.post("/answer", content=body, headers=headers), 400)) < 400
    assert opened.store.ratings().answers == []


@pytest.mark.parametrize("panel_id", ["=cmd()", "a b", "x" * 101, "", "<b>", 7])
def test_a_panel_id_is_a_plain_word(opened: Opened, panel_id: object) -> None:
    refused(opened.join(TOKENS[0], panel_id=panel_id), 400)


@pytest.mark.parametrize(
    "path",
    [
        *("/sounds/..%2fdesign.json", "/sounds/../design.json", "/sounds/%2e%2e%2fsecret"),
        *("/sounds/..%2f..%2f..%2fetc%2fpasswd", "/design.json", "/secret", "/ratings.sqlite"),
        *("/sounds/", "/collect.py", "/administrator/ratings.sqlite"),
    ],
)
def test_no_other_file_is_served(opened: Opened, path: str) -> None:
    opened.join(TOKENS[0])
    answer = opened.get(path, TOKENS[0])
    assert answer.status_code in (403, 404)
    assert opened.secret not in answer.text and "SQLite" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_another_host_is_refused(opened: Opened, host: str) -> None:
    refused(opened.browser.get("/", headers={"host": host}), 400)
    refused(opened.browser.post("/join", json={}, headers={"host": host}), 400)


def test_an_address_that_asks_too_much_waits(tmp_path: Path) -> None:
    now = 0.0
    limits = collect.Limits(RateLimit(30, 1.0, lambda: now), RateLimit(2, 0.1, lambda: now))
    one = open_test(tmp_path / "test", limits=limits)
    assert [one.join(token).status_code for token in TOKENS[:3]] == [200, 200, 429]
    assert one.join(TOKENS[0]).status_code == 200  # who is there already is no newcomer
    now = 10.0
    assert one.join(TOKENS[2]).status_code == 200
    codes = [one.browser.get("/about").status_code for _ in range(40)]
    assert codes.count(429) >= 10 and codes[0] == 200
    assert "too many" in refused(one.browser.get("/about"), 429)
    now = 20.0
    assert one.browser.get("/about").status_code == 200


def test_fifty_behind_one_address_are_not_limited(tmp_path: Path) -> None:
    one = open_test(tmp_path / "test")
    joined = [one.join(f"{number:032x}") for number in range(50)]
    assert {answer.status_code for answer in joined} == {200}
    for number in range(50):
        assert one.answer(f"{number:032x}", "p1").status_code == 200
    places = [listener.order for listener in one.store.ratings().listeners]
    assert sorted(places.count(order) for order in range(4)) == [12, 12, 13, 13]


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


def test_paths_are_sent_as_they_are_to_a_real_server(tmp_path: Path) -> None:
    write_test(tmp_path / "test")
    with running(tmp_path / "test") as served:
        place = served.address.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(place, timeout=30)
        for path, status in (("/", 200), ("/../design.json", 404), ("//secret", 404)):
            connection.request("GET", path)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == status
            assert (b"Listening test" in content) == (status == 200)
        connection.close()

"""What the server of a listening test refuses, and what it never tells."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[listen]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[listen]'")
pytest.importorskip("httpx2", reason="the test client's")

from listen_server import TOKENS, Opened, open_test, refused, running
from rrpo import server
from rrpo.listen import collect
from rrpo.listen.rate_limit import RateLimit
from small_listening_test import write_test

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    one = open_test(tmp_path / "test", panel="PROLIFIC_PID")
    yield one
    one.store.close()


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


@pytest.mark.parametrize(
    "panel_id", ["=cmd()", "a b", "x" * 101, "", "<b>", "{{%PROLIFIC_PID%}}", None]
)
def test_a_panel_id_is_a_plain_word(opened: Opened, panel_id: str | None) -> None:
    said = refused(opened.join(TOKENS[0], panel_id=panel_id), 400)
    assert "the panel’s own link" in said and "pattern" not in said
    assert opened.store.size() == 0


def test_a_panel_id_that_is_no_text_is_refused(opened: Opened) -> None:
    refused(opened.join(TOKENS[0], panel_id=7), 400)


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


@pytest.mark.slow
def test_a_large_body_is_refused_before_it_was_sent(tmp_path: Path) -> None:
    """The answer comes while most of the body is still on its way, and the connection ends."""
    write_test(tmp_path / "test")
    paths = ("/join", "/answer", "/administrator/delete", "/about")
    with running(tmp_path / "test") as served, ExitStack() as connections:
        host, _, port = served.address.removeprefix("http://").rstrip("/").partition(":")
        waiting = []
        for path in paths:  # all at once: the server keeps each for five seconds
            sent = socket.create_connection((host, int(port)), timeout=30)
            waiting.append(connections.enter_context(sent))
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            sent.sendall(f"{head}Content-Length: {6 * 2**20}\r\n\r\n".encode() + b"x" * 1000)
        for path, sent in zip(paths, waiting, strict=True):
            reply = b""
            while part := sent.recv(65536):
                reply += part
            assert reply.startswith(b"HTTP/1.1 413 "), path
            assert b"\r\n\r\nContent Too Large" in reply, path
        assert served.store.size() == 0

"""Servers of a listening test within this process, and a client of one."""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from rrpo import server
from rrpo.listen import collect
from rrpo.listen.design import Design, read_design
from rrpo.listen.links import read_secret
from rrpo.listen.store import Store
from small_listening_test import answered, write_test

ADDRESS = "http://127.0.0.1:8026"
TOKENS = [f"{number:032x}" for number in range(1, 9)]


@dataclass(frozen=True)
class Running:
    """Where it is, and what it keeps."""

    address: str
    store: Store
    secret: str


@contextmanager
def running(test: Path, port: int = 0, **options: Any) -> Iterator[Running]:
    """Serve a test until the block ends."""
    listening = server.listen("127.0.0.1", port)
    store, secret = Store(test, read_design(test)), read_secret(test)
    app = collect.make(test, store, secret, ["127.0.0.1"], **options)
    one = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=one.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not one.started:
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}/", store, secret)
    finally:
        one.should_exit = True
        thread.join(20)
        listening.close()
        store.close()


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """Serve a folder of files as any web host does."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{host.server_port}/"
        host.shutdown()
        thread.join()


@dataclass
class Opened:
    """A test, its server and a browser."""

    test: Path
    design: Design
    store: Store
    secret: str
    browser: TestClient

    def join(self, token: str, **more: Any) -> Any:
        panel = {"panel_id": f"of{token}"} if self.design.panel else {}
        return self.browser.post("/join", json={"token": token, **panel, **more})

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


def refused(answer: Any, status: int) -> str:
    """Return the one line of an answer that must be a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert "\n" not in answer.text and answer.text
    return str(answer.text)

"""A server of a listening test within this process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from rrpo import server
from rrpo.listen import collect
from rrpo.listen.design import read_design
from rrpo.listen.links import read_secret
from rrpo.listen.store import Store


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

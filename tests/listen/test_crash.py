"""Fifty listeners answer while the server is killed again and again: nothing lost, nothing twice.

The server is the command itself, in a process that is killed without warning.
"""

import http.client
import json
import multiprocessing
import os
import random
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[listen]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[listen]'")

from rrpo.cli import main
from rrpo.listen.design import Design
from rrpo.listen.ratings import read_ratings
from rrpo.listen.store import listener_id
from small_listening_test import answered, write_test

LISTENERS = 50
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="starts processes by fork"
    ),
]


def serve(test: Path, port: int) -> None:
    """Be the server."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (until it is killed)
    sys.argv = ["rrpo", "listen", "serve", str(test), "--port", str(port)]
    main()


def insist(port: int, path: str, token: str, body: str) -> None:
    """Send a request until it is acknowledged, as the page does."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    for _ in range(3000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200 and json.loads(content):
                return
            assert answer.status in (429, 503, 507), content
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        finally:
            connection.close()
    raise AssertionError("never acknowledged")


def listen(design: Design, port: int, number: int, pause: float, rounds: int) -> list[list[object]]:
    """Be one listener; return what was acknowledged: token, page, value of a rating."""
    rng, token, acknowledged = random.Random(number), f"{number:032x}", []
    insist(port, "/join", token, json.dumps({"token": token}))
    for page in rng.sample(design.orders[0], len(design.orders[0])):
        rating = rng.choice([1.0, 2.5, 4.0])
        asks = {one.id: one.questions for one in design.pages}[page]
        changed = {"e_mos": rating} if "e_mos" in asks else {}
        body = answered(design, page, **changed).model_dump_json()
        insist(port, "/answer", token, body)
        acknowledged.append([token, page, rating if changed else None])
        for _ in range(rng.randrange(rounds)):
            insist(port, "/answer", token, body)  # as if the acknowledgement had been lost
        time.sleep(rng.uniform(0, pause))
    return acknowledged


def all_listen(design: Design, port: int, pause: float, rounds: int, out: Path) -> None:
    """Be all listeners at once."""
    with ThreadPoolExecutor(LISTENERS) as pool:
        asked = [
            pool.submit(listen, design, port, number, pause, rounds) for number in range(LISTENERS)
        ]
        out.write_text(json.dumps([line for one in asked for line in one.result()]))


@pytest.mark.parametrize(("pause", "rounds"), [(0.3, 2), (1.0, 4)])
def test_no_acknowledged_answer_is_lost_and_none_doubled(
    tmp_path: Path, pause: float, rounds: int
) -> None:
    design = write_test(tmp_path / "test")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = multiprocessing.get_context("fork").Process
    out, rng, kills = tmp_path / "acknowledged.json", random.Random(1), 0
    listeners = start(target=all_listen, args=(design, port, pause, rounds, out))
    listeners.start()
    server = start(target=serve, args=(tmp_path / "test", port))
    server.start()
    try:
        while listeners.is_alive():
            listeners.join(rng.uniform(0.1, 0.8))
            if listeners.is_alive() and kills < 200:
                server.kill()
                server.join()
                kills += 1
                server = start(target=serve, args=(tmp_path / "test", port))
                server.start()
    finally:
        for process in (server, listeners):
            process.kill()
            process.join()
    acknowledged = json.loads(out.read_text())
    assert kills >= 3
    assert len(acknowledged) == LISTENERS * len(design.pages)
    ratings = read_ratings(tmp_path / "test")
    kept = [(one.listener, one.page, one.question) for one in ratings.answers]
    assert len(kept) == len(set(kept)) == LISTENERS * 8
    values = {(one.listener, one.page): one.value for one in ratings.answers}
    for token, page, rating in acknowledged:
        assert rating is None or values[listener_id(token), page] == rating
    assert len(ratings.listeners) == LISTENERS
    assert all(one.finished for one in ratings.listeners)

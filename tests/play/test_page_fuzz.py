"""Malformed requests to the page of `rrpo play`: speech, or one line; never an error of its own."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from malformed import MUTATIONS
from rrpo.errors import UserError

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[play]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[play]'")
pytest.importorskip("httpx2", reason="the test client's")

from starlette.testclient import TestClient

from rrpo.play import page

GOOD = {"policy": 0, "text": "The train leaves at noon.", "emotion": "happy", "seed": 3}
ODD: list[Any] = [
    *(None, True, "", " ", "x" * 501, "\0", "\u200b", "😀", "<script>", "../..", "nan", "happyy"),
    *(-1, 0, 1, 2**53, 2**70, 1e400, 1.5, float("nan"), [], [[]], {}, {"a": 1}, ["happy"]),
]


def say(text: str, emotion: str, seed: int) -> SimpleNamespace:
    """Stand for a policy: it refuses what the real ones refuse of a text and an emotion."""
    if not text.strip() or emotion not in ("happy", "sad"):
        raise UserError(f"cannot say {text[:20]!r} as {emotion!r}")
    return SimpleNamespace(audio=np.full(160, seed % 2 / 4, np.float32), rate=16_000, notes=[])


def odd(rng: random.Random) -> bytes:
    """Write a request with up to three values of another kind, or a key too many or too few."""
    given: dict[str, Any] = dict(GOOD)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([*GOOD, "more"])
        if rng.random() < 0.2:
            given.pop(name, None)
        else:
            given[name] = rng.choice(ODD)
    return json.dumps(given).encode()


@pytest.mark.slow
def test_malformed_requests() -> None:
    speaker = SimpleNamespace(emotions=["happy", "sad"])
    speakers: Any = [SimpleNamespace(location=Path("run"), speaker=speaker, say=say)]
    browser = TestClient(
        page.make(speakers, "127.0.0.1"),
        base_url="http://127.0.0.1:8025",
        raise_server_exceptions=False,
    )
    rng = random.Random(0)
    good = json.dumps(GOOD).encode()
    refused = 0
    for number in range(600):
        kind = [*MUTATIONS, "odd", "odd"][number % 6]
        body = odd(rng) if kind == "odd" else MUTATIONS[kind](rng, good)
        answer = browser.post("/speech", content=body, headers={"Content-Type": "application/json"})
        if answer.status_code == 200:
            assert answer.content[:4] == b"RIFF", body
            continue
        refused += 1
        assert 400 <= answer.status_code < 500, (answer.status_code, body)
        said = answer.text
        assert said.strip() and len(said) < 400 and "Traceback" not in said, body
    assert 400 < refused < 600

"""The page of `rrpo play`: its sound is that of `rrpo.speak`, and what it refuses, in one line."""

import http.client
import io
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import torch

import rrpo
from command_line import mistake
from rrpo.audio import Audio
from rrpo.data.shards import Utterance
from rrpo.emotions import EMOTIONS
from rrpo.evaluate.panel import Sample
from rrpo.speaking.by_name import NamedSpeaker
from rrpo.speaking.speaker import Said

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[play]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[play]'")
pytest.importorskip("httpx2", reason="the test client's")

from starlette.testclient import TestClient

from rrpo import server
from rrpo.play import page

ADDRESS = "http://127.0.0.1:8025"
TEXT = "The train leaves at noon."


def client(speakers: Sequence[NamedSpeaker]) -> TestClient:
    """Return a client of the page, as a browser that opened its address."""
    return TestClient(page.make(speakers, "127.0.0.1"), base_url=ADDRESS)


@pytest.fixture(scope="module")
def opened() -> Iterator[TestClient]:
    with client(page.load_speakers(["mini"])) as one:
        yield one


def ask(opened: TestClient, **changed: object) -> Any:
    """Ask for speech."""
    given = {"policy": 0, "text": TEXT, "emotion": "happy", "seed": 3, **changed}
    return opened.post("/speech", json=given)


def refused(answer: Any, status: int) -> str:
    """Return the one line of an answer that must be a mistake."""
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/plain")
    assert "\n" not in answer.text
    return str(answer.text)


@pytest.mark.slow
def test_the_sound_is_that_of_speak(opened: TestClient) -> None:
    answer = ask(opened)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert soundfile.info(io.BytesIO(answer.content)).subtype == "PCM_16"
    heard, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    expected, expected_rate = rrpo.speak("mini", TEXT, "happy", seed=3)
    assert rate == expected_rate
    assert heard.shape == expected.shape
    assert np.abs(heard - np.clip(expected, -1.0, 1.0)).max() <= 1.0 / 32768
    assert ask(opened, seed=4).content != answer.content
    assert ask(opened).content == answer.content


def test_the_base_comes_first_and_once() -> None:
    assert [one.location for one in page.load_speakers(["mini", "mini"])] == ["mini"]


def test_every_answer_forbids_what_is_not_its_own(opened: TestClient) -> None:
    answers = [opened.get(path) for path in ("/", "/style.css", "/play.js", "/absent")]
    answers += [ask(opened, emotion="bored"), opened.get("/", headers={"host": "evil.example"})]
    answers += [opened.post("/speech", content=b"x" * (server.BODY + 1))]
    assert [one.status_code for one in answers] == [200, 200, 200, 404, 400, 400, 413]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_the_page_runs_only_its_own_script(opened: TestClient) -> None:
    html = opened.get("/").text
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    assert not re.search(r"\son\w+=|\sstyle=", html)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) == {"play.js", "style.css"}
    assert all("<option" in html and name in html for name in EMOTIONS)
    fields = re.findall(r'<(?:textarea|select|input) id="(\w+)"', html)
    assert fields == ["text", "emotion", "seed"]
    assert all(f'<label for="{name}">' in html for name in fields)


def test_a_name_is_text_on_the_page() -> None:
    speaker = NamedSpeaker("<script>alert(1)</script>", Slow())
    html = client([speaker]).get("/").text
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"emotion": "bored"}, "choose one of neutral, angry"),
        ({"emotion": "x" * 41}, "emotion"),
        ({"text": ""}, "nothing to say"),
        ({"text": " ?!"}, "nothing to say"),
        ({"text": "It costs 3.5 euros."}, "cannot read '3.5' aloud"),
        ({"text": "a\x00b"}, "cannot read '\\x00' aloud"),
        ({"text": "a" * 10_000}, "at most 500"),
        ({"text": "word " * 99}, "split it into sentences"),
        ({"text": 7}, "text"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"policy": 1}, "no policy 1"),
        ({"policy": -1}, "policy"),
        ({"policy": "../../etc/passwd"}, "policy"),
        ({"model": "/etc/passwd"}, "model"),
    ],
)
def test_a_wrong_request_gets_one_line(
    opened: TestClient, changed: dict[str, object], said: str
) -> None:
    assert said in refused(ask(opened, **changed), 400)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 9000, b"[1]", b'{"text": "\\ud800"}', b"\xff"])
def test_what_is_not_a_request_gets_one_line(opened: TestClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(opened.post("/speech", content=body, headers=headers), 400)


def test_a_form_of_another_page_is_not_read(opened: TestClient) -> None:
    body = '{"policy": 0, "text": "Hello.", "emotion": "sad", "seed": 0}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"content-type": kind}
        refused(opened.post("/speech", content=body, headers=headers), 415)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_has_a_limit(opened: TestClient, declared: bool) -> None:
    body = b"x" * (server.BODY + 1)
    content = body if declared else iter([body[:100], body[100:]])
    headers = {"content-type": "application/json"}
    refused(opened.post("/speech", content=content, headers=headers), 413)


@pytest.mark.parametrize("path", ["/..%2f..%2fetc/passwd", "/play.html", "/style.css/../page.py"])
def test_no_other_file_is_served(opened: TestClient, path: str) -> None:
    refused(opened.get(path), 404)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8025", "0.0.0.0", ""])
def test_another_host_is_refused(opened: TestClient, host: str) -> None:
    refused(opened.get("/", headers={"host": host}), 400)
    refused(opened.post("/speech", json={}, headers={"host": host}), 400)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST"])
def test_its_own_hosts_are_served(opened: TestClient, host: str) -> None:
    assert opened.get("/", headers={"host": host}).status_code == 200


class Slow:
    """A speaker that waits to be released, and counts how many speak at once."""

    rate = 16_000
    emotions = EMOTIONS

    def __init__(self) -> None:
        self.released = threading.Event()
        self.speaking = self.most = self.calls = 0
        self.begun = threading.Event()

    def say(self, utterances: Sequence[Utterance], seed: int) -> list[Said]:
        self.calls += 1
        self.speaking += 1
        self.most = max(self.most, self.speaking)
        self.begun.set()
        self.released.wait(30)
        self.speaking -= 1
        return [Said(torch.arange(seed + 5), False) for _ in utterances]

    def sound(self, tokens: torch.Tensor) -> Audio:
        return np.zeros(tokens.numel(), dtype=np.float32)

    def samples(self, utterances: Sequence[Utterance], seed: int) -> list[Sample]:
        raise NotImplementedError


def test_one_sentence_is_spoken_at_a_time() -> None:
    slow = Slow()
    with client([NamedSpeaker("slow", slow)]) as opened, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, opened, seed=seed) for seed in range(4)]
        assert slow.begun.wait(30)
        # The page is served while somebody is spoken to.
        assert opened.get("/").status_code == 200
        slow.released.set()
        answers = [one.result(30) for one in asked]
    assert [one.status_code for one in answers] == [200] * 4
    assert (slow.calls, slow.most) == (4, 1)
    lengths = [soundfile.info(io.BytesIO(one.content)).frames for one in answers]
    assert lengths == [5, 6, 7, 8]
    assert "slow%20did%20not%20end" in answers[0].headers["x-notes"]


def test_the_queue_has_an_end() -> None:
    slow = Slow()
    count = page.QUEUE + 4
    with client([NamedSpeaker("slow", slow)]) as opened, ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(ask, opened, seed=seed) for seed in range(count)]
        # One speaks, QUEUE wait, and the three others are answered before anybody has spoken.
        answered = as_completed(asked, timeout=30)
        for one in (next(answered) for _ in range(3)):
            assert "too many sentences" in refused(one.result(), 503)
        assert slow.calls == 1
        slow.released.set()
        assert sorted(one.result(30).status_code for one in asked) == [200] * 9 + [503] * 3


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted() -> None:
    command = [Path(sys.executable).parent / "rrpo", "play", "mini", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/) in a browser; .*\n", line)
        assert address, line
        # This client sends a path as it is, and TestClient does not.
        connection = http.client.HTTPConnection(urlsplit(address[1]).netloc, timeout=30)
        for path, status in (("/", 200), ("/../../etc/passwd", 404), ("//etc/passwd", 404)):
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == status
            assert (b"One sentence" in text) == (status == 200)
            assert answer.headers["server"] is None
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.slow
def test_mistakes_of_the_command(tmp_path: Path) -> None:
    assert "no policy in" in mistake("play", tmp_path / "absent", "--port", 0)
    assert "--host" in mistake("play", "mini", "--host", "0.0.0.0")
    assert "--voice" in mistake("play", "mini", "--port", 0, "--voice", tmp_path / "a.wav")
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert "choose another --port" in mistake("play", "mini", "--port", port)

"""The page of `rrpo play` in a browser, by keyboard."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[play]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[play]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

SPOKEN = "!document.forms[0].ariaBusy && [...document.querySelectorAll('audio')]"
"""Followed by what must hold for the sounds when nobody is speaking any more."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the page; yield where."""
    command = [Path(sys.executable).parent / "rrpo", "play", "mini", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield re.findall(r"http\S+", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_a_sentence_is_asked_for_and_heard(address: str, width: int, scheme: str) -> None:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.focus("#text")
        for key in ("Tab", "Tab", "Tab", "Enter"):  # emotion, seed, the button
            page.keyboard.press(key)
        until(page, f"{SPOKEN}.every(one => one.duration > 0.5)")
        assert page.get_by_role("status").all_inner_texts() == ["seed 0"]
        assert page.evaluate("document.activeElement.textContent") == "Speak"
        first = page.evaluate("document.querySelector('audio').src")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        until(page, f"{SPOKEN}.every(one => one.duration > 0.5 && one.src !== '{first}')")
        assert page.input_value("#seed") == "1"
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert problems == []
        page.fill("#text", "It costs 3.5 euros.")
        page.get_by_role("button", name="Speak").click()
        until(page, "document.querySelector('.wrong') !== null")
        said = "cannot read '3.5' aloud: write it in words"
        assert page.get_by_role("status").all_inner_texts() == [said]
        browser.close()


def until(page: Any, expression: str) -> None:
    """Wait for a condition; playwright's own way evaluates text, which the page forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        time.sleep(0.2)
    raise AssertionError(f"never {expression}")

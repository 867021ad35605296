"""The page of a demo in headless Chromium: by keyboard, on a phone, and without a request."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo_folder import make_demo
from rrpo.report import write_page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
WIDTHS = (375, 1280)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two sentences in every emotion."""
    folder = make_demo(tmp_path_factory.mktemp("browser") / "run", texts=2)
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for row in rows:
        row["text"] = f"Sentence {row['id'][-1]}."
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_page(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=CHROMIUM, args=["--autoplay-policy=no-user-gesture-required"]
        )
        yield found
        found.close()


class Opened:
    """A page in a window of its own, and what it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page.set_default_timeout(5000)
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url[:60]))
        self.page.goto(path.as_uri())

    def shown(self) -> list[str]:
        """Names of the play buttons that can be seen."""
        buttons = self.page.locator(".player button:visible")
        return [str(one.get_attribute("aria-label")) for one in buttons.all()]

    def focused(self) -> str:
        """Where the keyboard is: tag, id and text or label of the element."""
        return str(
            self.page.evaluate(
                "(e => [e.tagName, e.id, e.getAttribute('aria-label') || e.textContent]"
                ".join('|').slice(0, 80))(document.activeElement)"
            )
        )


def until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Wait until an expression is true, asked from outside: the page's policy forbids `eval`."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        time.sleep(0.02)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_message_no_request_and_no_sideways_scrolling(
    browser: Any, page_path: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, page_path, width, scheme)
    opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.page.locator("#others").check()
    opened.page.locator(".player button:visible").first.click()
    until(opened.page, "document.querySelectorAll('.playing').length === 1")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    assert opened.messages == []
    opened.page.close()


def test_the_page_needs_no_script(browser: Any, page_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(5000)
    page.goto(page_path.as_uri())
    assert page.locator("audio:visible").count() == 4
    page.locator("#emotion-3").check()
    assert page.locator("audio:visible").first.get_attribute("aria-label").startswith("Base, sad")
    context.close()


def test_emotion_and_sentence_are_switched_by_keyboard(browser: Any, page_path: Path) -> None:
    opened = Opened(browser, page_path)
    height = opened.page.evaluate("document.documentElement.scrollHeight")
    first = opened.shown()
    assert [name.split(",")[0] for name in first] == [
        "Play Base",
        "Play SFT",
        "Play DiffRO",
        "Play RRPO",
    ]
    assert all(", happy: " in name for name in first)
    opened.page.locator("#emotion-2").focus()
    opened.page.keyboard.press("ArrowRight")
    assert all(", sad: " in name for name in opened.shown())
    texts = {name.split(": ", 1)[1] for name in opened.shown()}
    opened.page.keyboard.press("Tab")
    assert "sentence-" in opened.focused()
    opened.page.keyboard.press("ArrowRight")
    assert texts != {name.split(": ", 1)[1] for name in opened.shown()}
    opened.page.keyboard.press("Tab")
    opened.page.keyboard.press("Space")
    assert [name.split(",")[0] for name in opened.shown()][-1] == "Play Reference"
    opened.page.keyboard.press("Space")
    assert opened.page.evaluate("document.documentElement.scrollHeight") == height
    opened.page.close()


def test_everything_is_reached_by_tab_in_order_with_a_visible_focus(
    browser: Any, page_path: Path
) -> None:
    opened = Opened(browser, page_path)
    stops: list[str] = []
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        at = opened.focused()
        if stops and (at.startswith("BODY") or at == stops[0]):
            break
        stops.append(at)
        drawn = opened.page.evaluate(
            "(e => [e, e.parentElement, e.nextElementSibling].some("
            "x => x && getComputedStyle(x).outlineStyle !== 'none'))(document.activeElement)"
        )
        assert drawn, at
    buttons = [at for at in stops if at.startswith("BUTTON")]
    ranges = [at for at in stops if "Position in" in at]
    summaries = [at for at in stops if at.startswith("SUMMARY")]
    assert len(buttons) == len(ranges) == 4
    assert len(summaries) == opened.page.locator("#details > details").count() >= 4
    assert stops[0].startswith("A|")  # to the content
    assert "emotion-" in stops[1] and "sentence-" in stops[2] and "others" in stops[3]
    opened.page.close()


def test_playing_one_stops_the_other_and_switching_stops_it(browser: Any, page_path: Path) -> None:
    opened = Opened(browser, page_path)
    buttons = opened.page.locator(".player button:visible")
    names = (
        "[...document.querySelectorAll('.playing audio')].map(a => a.getAttribute('aria-label'))"
    )
    # Seeking keeps a short sound from ending before it is looked at.
    opened.page.evaluate("document.querySelectorAll('audio').forEach(a => { a.loop = true; })")
    for place, system in ((0, "Base"), (2, "DiffRO")):
        buttons.nth(place).click()
        until(opened.page, f"{names}[0]?.startsWith('{system}, happy')")
        assert len(opened.page.evaluate(names)) == 1
    until(opened.page, "Number(document.querySelector('.playing input').value) > 0")
    opened.page.locator("#emotion-0").check()
    until(opened.page, f"{names}.length === 0")
    opened.page.close()


def test_a_growing_page_loads_itself_again_unless_it_is_used(browser: Any, tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "run")
    stages = [{"name": "sft", "title": "SFT", "state": "running", "seconds": 3, "left": 20.0}]
    (folder / "stages.json").write_text(json.dumps(stages))
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.set_default_timeout(20_000)
    page.clock.install()
    page.goto(write_page(folder).as_uri())
    assert page.locator("#progress").inner_text().splitlines()[0] == "Still running"
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    stages[0] |= {"title": "RRPO"}
    (folder / "stages.json").write_text(json.dumps(stages))
    write_page(folder)
    page.clock.fast_forward(8_000)
    page.keyboard.press("Tab")  # used a moment ago when it looks, every 15 seconds
    page.clock.fast_forward(8_000)
    assert page.locator("#progress .running b").first.inner_text() == "SFT"
    with page.expect_navigation():
        page.clock.fast_forward(15_500)
    assert page.locator("#progress .running b").first.inner_text() == "RRPO"
    page.close()

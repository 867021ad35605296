"""A whole listening test in a browser, as listeners take it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install 'rrpo[listen]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'rrpo[listen]'")

from listen_server import hosted, running
from rrpo.files import read_json, write_json
from rrpo.listen.design import DESIGN, RESULTS, Question
from rrpo.listen.links import completion_code
from rrpo.listen.ratings import Ratings, read_ratings
from rrpo.listen.static import write_static
from rrpo.listen.store import DiskFull
from small_listening_test import SECONDS, write_test
from small_listening_test import page as page_of

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
EVIL = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
KEYS = {"e_mos": "4+", "cmos": "-2", "prefer": "0", "emotion": "2"}
"""What is pressed to answer 4.5, −2, no difference, and sad."""
SCALES = [
    Question(name=name, kind="scale", prompt=f"How is the {name}?") for name in ("voice", "mood")
]
BRIEF = 0.2
"""Seconds of a sound where only the answers count: it is played in its own time."""
ANSWERS = {"e_mos": 4.5, "cmos": -2.0, "prefer": "same", "emotion": "sad", "number": 7.0}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@contextmanager
def opened(browser: Any, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Yield a page of a browser of its own; the console must stay silent."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, accept_downloads=True
    )
    context.set_default_timeout(10_000)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    # A request that fails on purpose is told by the browser itself.
    assert [one for one in problems if "Failed to load resource" not in one] == []
    context.close()


def begin(page: Any, address: str, width: int = 1280) -> None:
    """Go from the welcome to the first page."""
    page.goto(address)
    page.get_by_role("button", name="I agree: begin").click()
    hear(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_role("button", name="Begin").click()


def hear(page: Any) -> None:
    """Play every sound to its end."""
    page.locator(".sound").first.wait_for()
    for player in page.locator(".sound").all():
        player.locator(".play:enabled").click()
        player.locator(".heard", has_text=re.compile("^heard$")).wait_for()


def answer(page: Any) -> None:
    """Answer a page by pointer."""
    hear(page)
    for text in ("4.5", "−2", "No difference", "sad"):
        for radio in page.get_by_role("radio", name=text, exact=True).all():
            radio.check()
    for wave in page.locator(".waveform").all():
        wide = wave.bounding_box()["width"]
        for share in (0.2, 0.5):
            wave.click(position={"x": wide * share, "y": 20})
    for field in page.locator("input[type=text]").all():
        field.fill("7")
    follow(page, lambda: page.get_by_role("button", name="Next").click())


def follow(page: Any, act: Any) -> None:
    """Send an answer, and wait until another page is there."""
    heading = page.locator("h1").element_handle()
    act()
    until(page, lambda: not heading.evaluate("one => one.isConnected"))


def until(page: Any, holds: Any) -> None:
    """Wait for a condition."""
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never held")


def number(page: Any) -> str:
    """Return what the progress says."""
    return str(page.locator(".count").inner_text())


def require_all_answered(
    ratings: Ratings, marks: list[float], listeners: int = 1, seconds: float = SECONDS
) -> None:
    """Compare what was kept with what was answered, on sounds of so many seconds."""
    assert [one.finished for one in ratings.listeners] == [True] * listeners
    assert len(ratings.answers) == 8 * listeners
    for one in ratings.answers:
        if one.question == "clicks":
            assert one.value == pytest.approx(marks, abs=0.02)
        else:
            assert one.value == ANSWERS[one.question], one
        assert one.plays >= (2 if one.page == "p2" else 1) and one.seconds > 0.8 * seconds


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_a_listener_takes_a_test(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    write_test(tmp_path / "test", title=EVIL, completion_url="https://panel.example/?cc={code}")
    with running(tmp_path / "test") as served, opened(browser, width, scheme) as page:
        begin(page, served.address, width)
        assert re.search("#[0-9a-f]{32}$", page.url)
        for count in range(1, 7):
            assert number(page).endswith(f"{count} of 6")
            assert page.locator("fieldset:enabled").count() == 0  # nothing was heard yet
            answer(page)
            assert page.evaluate("document.documentElement.scrollWidth") == width
        code = completion_code(served.secret)
        assert page.locator("#code").inner_text() == code
        link = page.get_by_role("link", name="Go back to the panel").get_attribute("href")
        assert link == f"https://panel.example/?cc={code}"
        assert page.title() == EVIL and page.locator("img").count() == 0
        require_all_answered(served.store.ratings(), [0.1, 0.25])
        page.reload()
        assert page.locator("#code").inner_text() == code


def test_by_keys_alone(browser: Any, tmp_path: Path) -> None:
    design = write_test(tmp_path / "test", orders=1)
    with running(tmp_path / "test") as served, opened(browser) as page:
        page.goto(served.address)
        page.get_by_role("button", name="I agree").wait_for()
        tab_to(page, "I agree: begin")
        page.keyboard.press("Enter")
        page.locator(".play:enabled").wait_for()
        page.keyboard.press("p")
        page.locator(".done").wait_for()
        tab_to(page, "Begin")
        page.keyboard.press("Enter")
        asked = {one.id: one.questions for one in design.pages}
        for name in design.orders[0]:
            until(page, lambda: page.locator(".play:disabled").count() == 0)
            for place in range(page.locator(".sound").count()):
                page.keyboard.press("p")
                until(page, lambda count=place + 1: page.locator(".sound.done").count() == count)
            for question in asked[name]:
                if question == "number":
                    tab_to(page, "Which number is said?")
                    page.keyboard.type("7")
                elif question == "clicks":
                    tab_to(page, "Place in the sound")
                    for key in ("Home", *["Shift+ArrowRight"] * 4, "Enter"):
                        page.keyboard.press(key)
                    for key in (*["Shift+ArrowRight"] * 2, "Enter", "Delete"):
                        page.keyboard.press(key)
                    for key in (*["Shift+ArrowRight"] * 4, "ArrowRight", "ArrowLeft", "Enter"):
                        page.keyboard.press(key)
                    said = page.get_by_role("slider").get_attribute("aria-valuetext")
                    assert said == "0.25 of 0.50 seconds, 2 marks"
                else:
                    for key in KEYS[question]:
                        page.keyboard.press(key)
            tab_to(page, "Next")
            follow(page, lambda: page.keyboard.press("Enter"))
        require_all_answered(served.store.ratings(), [0.1, 0.25])


def write_scales(test: Path, **changed: Any) -> None:
    """Write a test of one page with two scales."""
    sound = write_test(test, seconds=BRIEF).sounds[0].id
    shutil.rmtree(test)
    pages = [page_of("p1", "test", [sound], ["voice", "mood"])]
    write_test(test, questions=SCALES, pages=pages, orders=1, seconds=BRIEF, **changed)
    design = read_json(test / DESIGN)
    write_json(test / DESIGN, {**design, "orders": [["p1"]]})


TURNS = {
    "4 4": ["4", "4"],
    "4 + 3 +": ["4.5", "3.5"],
    "4 + + 5 +": ["4.5", "5"],
    "4 3 2": ["4", "2"],  # all are answered: the focused one is changed
    "6 +": [],
    "Tab 3 2": ["3", "2"],  # to the first question, which has no answer
    "4 Tab 3 Shift+Tab 2": ["2", "3"],
    "4 3 Shift+Tab 2 1": ["1", "3"],
    "Tab ArrowRight 4": ["1.5", "4"],
}
"""What is pressed on a page of two scales, and which values are chosen then."""


def test_digits_answer_one_question_after_the_other(browser: Any, tmp_path: Path) -> None:
    write_scales(tmp_path / "test")
    chosen = "[...document.querySelectorAll('label:has([type=radio]:checked)')]"
    with running(tmp_path / "test") as served, opened(browser) as page:
        begin(page, served.address)
        hear(page)
        for pressed, values in TURNS.items():
            for key in pressed.split():
                page.keyboard.press(key)
            found = page.evaluate(f"{chosen}.map(one => one.innerText)")
            assert (pressed, found) == (pressed, values)
            page.reload()
            hear(page)
            page.get_by_role("button", name="Begin").click()
            hear(page)


def test_a_click_is_an_answer_and_a_held_key_answers_once(browser: Any, tmp_path: Path) -> None:
    write_scales(tmp_path / "test")
    with running(tmp_path / "test") as served, opened(browser) as page:
        begin(page, served.address)
        hear(page)
        page.keyboard.down("4")
        page.keyboard.down("4")
        page.keyboard.up("4")
        assert page.locator(":checked[type=radio]").count() == 1
        page.reload()
        hear(page)
        page.get_by_role("button", name="Begin").click()
        hear(page)
        page.get_by_role("radio", name="3", exact=True).first.check()
        page.keyboard.press("4")
        follow(page, lambda: page.get_by_role("button", name="Next").click())
        answers = {one.question: one.value for one in served.store.ratings().answers}
        assert answers == {"voice": 3.0, "mood": 4.0}


def take(page: Any) -> None:
    """Take a test of one page with two scales from its welcome."""
    page.get_by_role("button", name="I agree: begin").click()
    hear(page)
    page.get_by_role("button", name="Begin").click()
    hear(page)
    for key in "43":
        page.keyboard.press(key)
    page.get_by_role("button", name="Next").click()
    page.get_by_role("heading", name="Thank you").wait_for()


@pytest.mark.parametrize("static", [False, True])
def test_another_participant_in_the_same_browser_is_another_listener(
    browser: Any, tmp_path: Path, static: bool
) -> None:
    test = tmp_path / "test"
    write_scales(test, panel="PROLIFIC_PID")
    with ExitStack() as stack:
        page = stack.enter_context(opened(browser))
        if static:
            write_static(test, tmp_path / "web")
            address = stack.enter_context(hosted(tmp_path / "web"))
        else:
            served = stack.enter_context(running(test))
            address = served.address
        for wrong in ("", "?PROLIFIC_PID={{%PROLIFIC_PID%}}", "?PROLIFIC_PID="):
            page.goto(f"{address}{wrong}")
            page.get_by_text("the panel’s own link again").wait_for()
            assert page.get_by_role("button", name="I agree").count() == 0
        found = []
        for name in ("KB2", "OTHER"):
            page.goto(f"{address}?PROLIFIC_PID={name}")
            take(page)
            found.append(page.locator("p code").inner_text())
        assert found[0] != found[1]
        page.goto(f"{address}?PROLIFIC_PID=KB2")
        page.get_by_role("heading", name="Thank you").wait_for()
        assert page.locator("p code").inner_text() == found[0]
        if static:
            return
        assert [one.panel_id for one in served.store.ratings().listeners] == ["KB2", "OTHER"]
        own = page.url.partition("#")[2]
        page.goto(f"{address}?PROLIFIC_PID=OTHER#{own}")
        page.get_by_text("This link is another participant’s").wait_for()
        assert page.locator("#code").count() == 0


@pytest.mark.parametrize("width", [375, 1280])
def test_the_administrators_rows_are_seen_whole(browser: Any, tmp_path: Path, width: int) -> None:
    write_test(tmp_path / "test", panel="PROLIFIC_PID")
    with running(tmp_path / "test") as served, opened(browser, width, "dark") as page:
        served.store.join("0" * 32, "x" * 24)
        page.goto(f"{served.address}administrator#{served.secret}")
        page.get_by_role("button", name="Delete listener").click()
        for shown in ("Delete for good", "0 of 6", "Keep"):
            box = page.locator("#listeners").get_by_text(shown).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
        for table in page.locator(".scroll").all():
            assert table.evaluate("one => one.scrollWidth <= one.clientWidth")


def tab_to(page: Any, name: str) -> None:
    """Press Tab until something of this name has the focus, visibly."""
    get = "(one => one.ariaLabel || one.textContent)(document.activeElement)"
    for _ in range(40):
        if page.evaluate(get) == name:
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reaches {name}")


def test_number_keys_can_be_turned_off(browser: Any, tmp_path: Path) -> None:
    write_test(tmp_path / "test", orders=1)
    with running(tmp_path / "test") as served, opened(browser) as page:
        begin(page, served.address)
        hear(page)
        page.get_by_label("Number keys answer").uncheck()
        page.keyboard.press("4")
        assert page.locator("input[type=radio]:checked").count() == 0
        page.get_by_label("Number keys answer").check()
        page.keyboard.press("4")
        assert page.locator("input[type=radio]:checked").count() == 1
        page.keyboard.press("ArrowRight")
        page.get_by_role("button", name="Next").click()
        until(page, lambda: served.store.ratings().answers)
        assert [one.value for one in served.store.ratings().answers] == [4.5]


def test_an_unanswered_question_is_asked_for(browser: Any, tmp_path: Path) -> None:
    write_test(tmp_path / "test", orders=1)
    with running(tmp_path / "test") as served, opened(browser) as page:
        begin(page, served.address)
        page.locator(".play:enabled").wait_for()
        page.get_by_role("button", name="Next").click()
        assert "not every sound" in page.locator(".told").inner_text().lower()
        hear(page)
        page.get_by_role("button", name="Next").click()
        assert "How well does it express" in page.locator(".told").inner_text()
        assert page.evaluate("document.activeElement.type") == "radio"
        assert served.store.ratings().answers == []


def test_a_reload_goes_on_where_it_was_and_two_listeners_do_not_meet(
    browser: Any, tmp_path: Path
) -> None:
    write_test(tmp_path / "test", orders=2, seconds=BRIEF)
    with (
        running(tmp_path / "test") as served,
        opened(browser) as page,
        opened(browser, 375) as other,
    ):
        begin(page, served.address)
        begin(other, served.address, 375)
        for _ in range(2):
            answer(page)
            answer(other)
        page.reload()
        page.get_by_text("You have answered 2 of 6 pages.").wait_for()
        hear(page)
        page.get_by_role("button", name="Go on").click()
        assert number(page) == "3 of 6"
        # The address alone, without what the browser remembers, is enough as well.
        link, third = other.url, browser.new_context().new_page()
        third.goto(link)
        third.get_by_text("You have answered 2 of 6 pages.").wait_for()
        third.context.close()
        for _ in range(4):
            answer(page)
            answer(other)
        require_all_answered(served.store.ratings(), [0.04, 0.1], 2, BRIEF)
        assert [one.order for one in served.store.ratings().listeners] == [0, 1]


def test_a_lost_connection_and_a_full_disk_are_told_and_nothing_is_lost(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_test(tmp_path / "test", orders=1)
    with running(tmp_path / "test") as served, opened(browser) as page:
        begin(page, served.address)
        hear(page)
        page.get_by_role("radio", name="4.5", exact=True).check()
        page.route("**/answer", lambda route: route.abort())
        page.get_by_role("button", name="Next").click()
        told = page.get_by_role("alert")
        until(page, lambda: "no connection" in told.inner_text())
        assert "kept in this browser" in told.inner_text()
        page.unroute("**/answer")
        # The page is left; what was not acknowledged is sent when it is opened again.
        with monkeypatch.context() as patched:

            def full(*_: object) -> bool:
                raise DiskFull

            patched.setattr(served.store, "keep", full)
            page.reload()
            until(page, lambda: "not your fault" in told.inner_text())
            assert served.store.ratings().answers == []
        page.get_by_role("button", name="Try now").click()
        page.get_by_text("You have answered 1 of 6 pages.").wait_for()
        assert told.inner_text() == ""
        assert [one.value for one in served.store.ratings().answers] == [4.5]


def test_the_administrator_deletes_only_when_it_is_confirmed(browser: Any, tmp_path: Path) -> None:
    write_test(tmp_path / "test")
    with running(tmp_path / "test") as served, opened(browser) as page:
        served.store.join("0" * 32)
        page.goto(f"{served.address}administrator#wrong")
        until(page, lambda: "not the administrator" in page.locator("#told").inner_text())
        page.goto(f"{served.address}administrator#{served.secret}")
        page.reload()
        page.get_by_role("button", name="Delete listener").click()
        page.get_by_role("button", name="Keep").click()
        with page.expect_download() as coming:
            page.get_by_role("button", name="Export as CSV").click()
        assert coming.value.suggested_filename == "ratings.csv"
        assert served.store.size() == 1
        page.get_by_role("button", name="Delete listener").click()
        page.get_by_role("button", name="Delete for good").click()
        until(page, lambda: served.store.size() == 0)
        until(page, lambda: "was deleted" in page.locator("#told").inner_text())


def test_a_static_page_hands_out_a_file_that_is_read(browser: Any, tmp_path: Path) -> None:
    test = tmp_path / "test"
    write_test(test)
    write_static(test, tmp_path / "web")
    with hosted(tmp_path / "web") as address, opened(browser, 375) as page:
        begin(page, f"{address}?order=3", 375)
        for _ in range(3):
            answer(page)
        with page.expect_download() as coming:
            page.get_by_role("button", name="Take what you have answered so far").click()
        coming.value.save_as(test / RESULTS / "part.json")
        assert len({one.page for one in read_ratings(test).answers}) == 3
        (test / RESULTS / "part.json").unlink()
        page.reload()
        hear(page)
        page.get_by_role("button", name="Go on").click()
        for _ in range(3):
            answer(page)
        with page.expect_download() as coming:
            page.get_by_role("button", name="Take the results file").click()
        coming.value.save_as(test / RESULTS / coming.value.suggested_filename)
    require_all_answered(read_ratings(test), [0.1, 0.25])
    assert read_ratings(test).listeners[0].order == 2


def test_an_old_tab_of_a_static_page_loses_nothing(browser: Any, tmp_path: Path) -> None:
    """Each tab keeps its own pages; what another one has answered since is joined to them."""
    test = tmp_path / "test"
    write_test(test, seconds=BRIEF)
    write_static(test, tmp_path / "web")
    with hosted(tmp_path / "web") as address, opened(browser) as old:
        begin(old, f"{address}?order=3", 1280)
        answer(old)
        new = old.context.new_page()
        new.goto(f"{address}?order=3")
        hear(new)
        new.get_by_role("button", name="Go on").click()
        for _ in range(3):
            answer(new)
        answer(old)
        with old.expect_download() as coming:
            old.get_by_role("button", name="Take what you have answered so far").click()
        (test / RESULTS).mkdir(exist_ok=True)
        coming.value.save_as(test / RESULTS / "part.json")
    assert len({one.page for one in read_ratings(test).answers}) == 4


def test_the_administrators_focus_stays_when_counts_are_made_again(
    browser: Any, tmp_path: Path
) -> None:
    write_test(tmp_path / "test")
    with running(tmp_path / "test") as served, opened(browser) as page:
        for number in range(3):
            served.store.join(f"{number:032x}")
        page.clock.install()
        page.goto(f"{served.address}administrator#{served.secret}")
        last = page.get_by_role("button", name="Delete listener").nth(2)
        last.focus()
        name = last.get_attribute("aria-label")
        served.store.join("f" * 32)
        page.clock.run_for(6000)
        until(page, lambda: page.get_by_role("button", name="Delete listener").count() == 4)
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name

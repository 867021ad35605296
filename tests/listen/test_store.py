"""Where answers are kept: nothing twice, nothing half, nothing of another test."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rrpo.errors import UserError
from rrpo.listen.design import DESIGN, RATINGS, Design
from rrpo.listen.ratings import read_ratings
from rrpo.listen.store import AnsweredOtherwise, Store, listener_id
from small_listening_test import VALUES, answered, write_test

TOKENS = [f"{number:032x}" for number in range(60)]


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return tmp_path / "test"


@pytest.fixture
def design(test: Path) -> Design:
    return write_test(test)


def test_what_was_kept_is_read(test: Path, design: Design) -> None:
    store = Store(test, design)
    one = store.join(TOKENS[0], "panel-1")
    for number, name in enumerate(design.orders[one.order], 1):
        assert store.keep(one, answered(design, name)) == (number == 6)
    found = read_ratings(test)  # while the server has it open
    assert found == store.ratings()
    assert [(one.id, one.finished, one.panel_id) for one in found.listeners] == [
        (listener_id(TOKENS[0]), True, "panel-1")
    ]
    expected = {
        (page.id, name): tuple(VALUES[name]) if name == "clicks" else VALUES[name]
        for page in design.pages
        for name in page.questions
    }
    assert {(one.page, one.question): one.value for one in found.answers} == expected
    assert {(one.seconds, one.plays) for one in found.answers} == {(2.5, 1), (2.5, 2)}
    store.close()
    assert read_ratings(test) == found


def test_a_request_sent_again_doubles_nothing_and_the_first_counts(
    test: Path, design: Design
) -> None:
    store = Store(test, design)
    one = store.join(TOKENS[0])
    assert store.join(TOKENS[0]) == one
    store.keep(one, answered(design, "p1"))
    later = answered(design, "p1").model_copy(update={"seconds": 9.0})
    assert store.keep(one, later) is False
    with pytest.raises(AnsweredOtherwise):
        store.keep(one, answered(design, "p1", e_mos=1.0))
    for _ in range(2):  # marks are several numbers
        store.keep(one, answered(design, "p3"))
    assert store.answered(one) == ["p1", "p3"]
    kept = [(one.page, one.value) for one in store.ratings().answers]
    assert kept == [("p1", 4.5), ("p3", "sad"), ("p3", (0.1, 0.25))]


def test_a_newcomer_gets_the_order_that_the_fewest_have(test: Path, design: Design) -> None:
    store = Store(test, design)
    with ThreadPoolExecutor(8) as pool:
        joined = list(pool.map(store.join, TOKENS[:10]))
    orders = [one.order for one in joined]
    assert sorted(orders) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    gone = next(one for one in joined if one.order == 2)
    assert store.delete(gone.id)
    assert store.join(TOKENS[20]).order == 2


def test_a_panel_id_is_taken_once(test: Path, design: Design) -> None:
    store = Store(test, design)
    store.join(TOKENS[0], "panel-1")
    with pytest.raises(UserError, match="begun already"):
        store.join(TOKENS[1], "panel-1")
    assert [store.join(one).panel_id for one in TOKENS[2:4]] == [None, None]


def test_a_deleted_listener_leaves_no_trace_in_any_file(test: Path, design: Design) -> None:
    store = Store(test, design)
    one, other = store.join(TOKENS[0], "panel-first"), store.join(TOKENS[1], "panel-second")
    for listener in (one, other):
        store.keep(listener, answered(design, "p1"))
    assert store.delete(one.id)
    assert not store.delete(one.id)
    with pytest.raises(UserError, match="deleted"):
        store.keep(one, answered(design, "p2"))
    assert [listener.id for listener in store.ratings().listeners] == [other.id]
    kept = b"".join(path.read_bytes() for path in test.glob(f"{RATINGS}*"))
    assert b"panel-second" in kept
    assert b"panel-first" not in kept and one.id.encode() not in kept


def test_a_reader_that_keeps_the_log_is_told_and_it_goes_later(test: Path, design: Design) -> None:
    """The log cannot be emptied while another program reads, such as one that looks into it."""
    store = Store(test, design)
    one = store.join(TOKENS[0], "panel-first")
    store.keep(one, answered(design, "p1"))
    reader = sqlite3.connect(test / RATINGS)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM listeners").fetchall()
    with pytest.raises(UserError, match=r"is deleted, but another program that reads .* its log"):
        store.delete(one.id)
    assert store.ratings().listeners == []
    reader.close()
    store.join(TOKENS[1])
    assert b"panel-first" not in b"".join(path.read_bytes() for path in test.glob(f"{RATINGS}*"))


def test_no_token_is_written(test: Path, design: Design) -> None:
    store = Store(test, design)
    store.join("0123456789abcdef" * 2)
    store.close()
    assert b"0123456789abcdef" not in (test / RATINGS).read_bytes()


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("p1", {"e_mos": 4.25}, "steps of 0.5"),
        ("p1", {"e_mos": 5.5}, "from 1 to 5"),
        ("p1", {"e_mos": True}, "from 1 to 5"),
        ("p1", {"e_mos": "4"}, "from 1 to 5"),
        ("p1", {"e_mos": float("nan")}, "from 1 to 5"),
        ("p1", {"e_mos": 10**400}, "from 1 to 5"),
        ("p1", {"more": 1.0}, "asks e_mos"),
        ("p2", {"cmos": 0.5}, "steps of 1"),
        ("p2", {"prefer": "both"}, "one of first, second, same"),
        ("p3", {"emotion": "<script>"}, "one of happy"),
        ("p3", {"clicks": [0.2, 0.1]}, "rising"),
        ("p3", {"clicks": [0.7]}, "from 0 to 0.5 s"),
        ("p3", {"clicks": "0.1"}, "rising"),
        ("p3", {"clicks": [n / 1000 for n in range(201)]}, "at most 200"),
        ("a1", {"number": 7.5}, "whole number"),
        ("a1", {"number": -1}, "whole number"),
        ("a1", {"number": 1e300}, "whole number"),
    ],
)
def test_a_value_that_a_question_does_not_take_is_named(
    name: str, changed: dict[str, Any], said: str, test: Path, design: Design
) -> None:
    store = Store(test, design)
    one = store.join(TOKENS[0])
    with pytest.raises(UserError, match=said) as refused:
        store.keep(one, answered(design, name, **changed))
    assert len(str(refused.value)) < 300
    assert store.answered(one) == []


def test_an_unknown_page_is_refused(test: Path, design: Design) -> None:
    store = Store(test, design)
    wrong = answered(design, "p1").model_copy(update={"page": "../p1"})
    with pytest.raises(UserError, match=r"no page '\.\./p1'"):
        store.keep(store.join(TOKENS[0]), wrong)


def test_ratings_of_another_design_are_refused(test: Path, design: Design) -> None:
    Store(test, design).close()
    path = test / DESIGN
    path.write_text(path.read_text(encoding="utf-8").replace("noon", "one"), encoding="utf-8")
    for read in (lambda: Store(test, design), lambda: read_ratings(test)):
        with pytest.raises(UserError, match=r"another design\.json"):
            read()


def test_a_damaged_database_is_told(test: Path, design: Design) -> None:
    (test / RATINGS).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    for read in (lambda: Store(test, design), lambda: read_ratings(test)):
        with pytest.raises(UserError, match=RATINGS):
            read()


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from rrpo.listen.design import read_design
from rrpo.listen.store import DiskFull, Store
from small_listening_test import answered
test = Path({test!r})
design = read_design(test)
store = Store(test, design)
listeners = [store.join(f"{{number:032x}}") for number in range(50)]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = (test / "ratings.sqlite-wal").stat().st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, hard))
kept, refused = [], []
for listener in listeners:
    for page in design.orders[listener.order]:
        try:
            store.keep(listener, answered(design, page))
            kept.append((listener.id, page))
        except DiskFull:
            refused.append((listener, page))
assert kept and refused, (len(kept), len(refused))
assert {{(a.listener, a.page) for a in store.ratings().answers}} == set(kept)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
for listener, page in refused:
    store.keep(listener, answered(design, page))
    kept.append((listener.id, page))
found = [(a.listener, a.page, a.question) for a in store.ratings().answers]
assert len(found) == len(set(found)) == 50 * 8
print("recovered", len(refused))
"""


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_it_goes_on_later(test: Path, design: Design) -> None:
    pytest.importorskip("resource", reason="limits the size of files")
    program = FULL.format(test=str(test), paths=[str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "recovered" in done.stdout
    # Nobody took part twice, whatever was tried again.
    with sqlite3.connect(test / RATINGS) as database:
        assert database.execute("SELECT COUNT(*) FROM listeners").fetchone() == (50,)
    assert design.pages

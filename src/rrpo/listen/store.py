"""Where the server keeps answers: SQLite, in which what was acknowledged is on the disk.

A token is a listener's secret; only its hash, the listener's id, is kept.
"""

import hashlib
import json
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rrpo.errors import UserError
from rrpo.files import sha256
from rrpo.listen.design import DESIGN, RATINGS, Design
from rrpo.listen.ratings import (
    Listener,
    PageAnswers,
    Ratings,
    answers_of,
    read_database,
    require_design,
)

TABLES = """
CREATE TABLE IF NOT EXISTS test (design TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS listeners (
  id TEXT PRIMARY KEY, place INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0,
  panel_id TEXT UNIQUE
);
CREATE TABLE IF NOT EXISTS pages (
  listener TEXT NOT NULL REFERENCES listeners ON DELETE CASCADE, page TEXT NOT NULL,
  seconds REAL NOT NULL, plays INTEGER NOT NULL, PRIMARY KEY (listener, page)
);
CREATE TABLE IF NOT EXISTS answers (
  listener TEXT NOT NULL, page TEXT NOT NULL, question TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (listener, page, question),
  FOREIGN KEY (listener, page) REFERENCES pages ON DELETE CASCADE
);
"""
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""What SQLite says of a disk that takes nothing more."""
WAITING, WIPING = 5000, 200
"""Milliseconds to wait for other programs that use the database: to write, and to empty its log."""


class DiskFull(Exception):
    """Nothing can be written; what was acknowledged is kept."""


class AnsweredOtherwise(Exception):
    """A page was answered before, with other values."""


def listener_id(token: str) -> str:
    """Return the id of the listener with this token, from which the token cannot be found."""
    return hashlib.sha256(f"listener {token}".encode()).hexdigest()[:20]


def is_token(token: str) -> bool:
    """Say whether a token has the form of one: 128 bits in hexadecimal."""
    return re.fullmatch("[0-9a-f]{32}", token) is not None


class Store:
    """The ratings of one test, open for writing; every method may be called from any thread."""

    def __init__(self, test: Path, design: Design) -> None:
        """Open what is kept, or begin it.

        Raises:
            UserError: it is damaged, of another design, or cannot be written.
        """
        self.design, self.path = design, test / RATINGS
        self.identity = sha256(test / DESIGN)
        self._lock = threading.Lock()
        self._unwiped = False
        try:
            # Statements begin and end their transactions themselves.
            self._database = sqlite3.connect(
                self.path, WAITING / 1000, isolation_level=None, check_same_thread=False
            )
            # With FULL, a commit returns when the log is on the disk.
            for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._database.execute(f"PRAGMA {setting}")
            # What is deleted is overwritten.
            self._database.execute("PRAGMA secure_delete=ON")
            self._database.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
            self._database.execute(
                "INSERT INTO test SELECT ? WHERE NOT EXISTS (SELECT * FROM test)", [self.identity]
            )
            require_design(self._database, self.path, self.identity)
        except sqlite3.Error as error:
            raise UserError(
                f"cannot open {self.path} ({error}): free space, or copy it again with its -wal"
            ) from None

    def close(self) -> None:
        """Close it; what was acknowledged is on the disk already."""
        self._wipe()
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write all of a block or nothing.

        Raises:
            DiskFull: the disk is full, or refuses.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF in FULL:
                    raise DiskFull from error
                raise
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            self._wipe()

    def join(self, token: str, panel_id: str | None = None) -> Listener:
        """Return the listener with this token: the one who is there, or a newcomer.

        A newcomer gets the order that the fewest have, of these the first.

        Raises:
            UserError: another listener has this panel id.
            DiskFull: as it says.
        """
        name = listener_id(token)
        found = self.find(token)
        if found is not None:
            return found
        with self._writing() as database:
            used = Counter(place for (place,) in database.execute("SELECT place FROM listeners"))
            place = min(range(len(self.design.orders)), key=lambda one: (used[one], one))
            try:
                database.execute(
                    "INSERT INTO listeners (id, place, panel_id) VALUES (?, ?, ?) "
                    "ON CONFLICT (id) DO NOTHING",
                    [name, place, panel_id],
                )
            except sqlite3.IntegrityError:
                raise UserError(
                    "this participant has begun already: go on in the browser where you began, or "
                    "write to the organiser"
                ) from None
        found = self.find(token)
        assert found is not None
        return found

    def find(self, token: str) -> Listener | None:
        """Return the listener with this token; None: there is none."""
        with self._lock:
            row = self._database.execute(
                "SELECT id, place, finished, panel_id FROM listeners WHERE id = ?",
                [listener_id(token)],
            ).fetchone()
        return None if row is None else Listener(row[0], row[1], bool(row[2]), row[3])

    def size(self) -> int:
        """Return how many listeners there are."""
        with self._lock:
            return int(self._database.execute("SELECT COUNT(*) FROM listeners").fetchone()[0])

    def answered(self, listener: Listener) -> list[str]:
        """Return the ids of the pages that a listener has answered."""
        with self._lock:
            rows = self._database.execute(
                "SELECT page FROM pages WHERE listener = ? ORDER BY rowid", [listener.id]
            ).fetchall()
        return [page for (page,) in rows]

    def keep(self, listener: Listener, answered: PageAnswers) -> bool:
        """Keep a page's answers; when this returns they are on the disk.

        A page that is kept already stays as it is: the same answer sent again doubles nothing, and
        another one is refused.

        Returns:
            Whether the listener has answered every page.

        Raises:
            UserError: the answers are none that the page takes, or the listener was deleted.
            AnsweredOtherwise: the page was answered before, with other values.
            DiskFull: as it says.
        """
        answers = answers_of(self.design, listener.order, answered, listener.id)
        with self._writing() as database:
            try:
                new = database.execute(
                    "INSERT INTO pages VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    [listener.id, answered.page, answered.seconds, answered.plays],
                ).rowcount
            except sqlite3.IntegrityError:
                raise UserError("your answers were deleted: write to the organiser") from None
            if new:
                database.executemany(
                    "INSERT INTO answers VALUES (?, ?, ?, ?)",
                    [
                        (one.listener, one.page, one.question, json.dumps(one.value))
                        for one in answers
                    ],
                )
            elif _values(database, listener.id, answered.page) != {
                one.question: json.dumps(one.value) for one in answers
            }:
                raise AnsweredOtherwise
            (count,) = database.execute(
                "SELECT COUNT(*) FROM pages WHERE listener = ?", [listener.id]
            ).fetchone()
            finished = bool(count == len(set(self.design.orders[listener.order])))
            if finished and new:
                database.execute("UPDATE listeners SET finished = 1 WHERE id = ?", [listener.id])
        return finished

    def delete(self, name: str) -> bool:
        """Delete a listener with all answers, so that no trace stays in the file.

        Args:
            name: the listener's id.

        Returns:
            Whether there was one.

        Raises:
            UserError: it is deleted, and another program keeps a trace.
            DiskFull: as it says.
        """
        with self._writing() as database:
            deleted = database.execute("DELETE FROM listeners WHERE id = ?", [name]).rowcount
        with self._lock:  # the log holds what was written before
            self._unwiped = True
            self._wipe()
            if self._unwiped:
                raise UserError(
                    f"listener {name} is deleted, but another program that reads {self.path.name} "
                    "keeps the answers in its log: close that, and they go at the next answer"
                )
        return deleted > 0

    def _wipe(self) -> None:
        """Empty the log of the database, where something was deleted whose text it still holds."""
        if not self._unwiped:
            return
        with suppress(sqlite3.OperationalError):  # a full disk: later
            # Others wait meanwhile, so not for the usual five seconds.
            self._database.execute(f"PRAGMA busy_timeout={WIPING}")
            (busy, _, _) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._unwiped = bool(busy)
        self._database.execute(f"PRAGMA busy_timeout={WAITING}")

    def counts(self) -> tuple[list[tuple[Listener, int]], dict[str, int]]:
        """Return each listener with the number of pages answered, and for each page by how many."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, place, finished, panel_id, COUNT(page) FROM listeners "
                "LEFT JOIN pages ON listener = id GROUP BY id ORDER BY listeners.rowid"
            ).fetchall()
            pages = dict(self._database.execute("SELECT page, COUNT(*) FROM pages GROUP BY page"))
        listeners = [(Listener(row[0], row[1], bool(row[2]), row[3]), row[4]) for row in rows]
        return listeners, pages

    def ratings(self) -> Ratings:
        """Return all that is kept."""
        with self._lock:
            return read_database(self._database, self.path, self.identity)


def _values(database: sqlite3.Connection, listener: str, page: str) -> dict[str, str]:
    """Return question → value, as JSON, of a page that a listener has answered."""
    return dict(
        database.execute(
            "SELECT question, value FROM answers WHERE listener = ? AND page = ?", [listener, page]
        ).fetchall()
    )

"""Which process prints what all of them could."""

import pytest

from rrpo.notes import note, rank
from rrpo.progress import Progress


@pytest.mark.parametrize(
    ("number", "world", "expected"),
    [("1", "2", 1), ("0", "2", 0), ("3", "1", 0), ("3", "", 0), ("", "2", 0), ("x", "2", 0)],
)
def test_the_first_process_alone_tells(
    number: str,
    world: str,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What another program has left in the environment silences nobody."""
    monkeypatch.setenv("RANK", number)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert rank() == expected
    note("three rows")
    assert capsys.readouterr().out == ("" if expected else "three rows\n")


@pytest.mark.parametrize(("number", "expected"), [("0", "read shards: 2/2"), ("1", "")])
def test_the_first_process_alone_shows_how_far_it_is(
    number: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", number)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Progress("read shards", 2) as progress:
        progress.update(2)
    assert capsys.readouterr().err.partition(",")[0] == expected

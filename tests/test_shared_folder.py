"""Alone there is no one to share a folder with; with others: `processes/test_processes.py`."""

from pathlib import Path

import pytest

from rrpo import shared_folder
from rrpo.errors import UserError
from rrpo.shared_folder import appears, require_one_folder, require_states, states_of


def test_alone_nothing_is_written(tmp_path: Path) -> None:
    require_one_folder(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_states_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_folder, "SEEN_WITHIN", 0.0)
    (tmp_path / states_of(0)).touch()
    require_states(tmp_path, 1)
    with pytest.raises(UserError, match="lacks the random states of process 1"):
        require_states(tmp_path, 2)
    assert not appears(tmp_path / "elsewhere" / "file")

"""An option that takes one value and is given twice is refused before anything is done."""

from pathlib import Path

import pytest
from typer.main import get_command

from command_line import mistake
from rrpo.cli import app
from rrpo.cli.repeated import refuse_repeated
from rrpo.errors import UserError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("policy sft --data a --data=b --out c", "--data is given 2 times"),
        ("policy sft --data a --out b --out c --out d", "--out is given 3 times"),
        ("reward train --data a --out b --data c", "into one folder"),
    ],
)
def test_it_is_named(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        refuse_repeated(get_command(app), words.split())


@pytest.mark.parametrize(
    "words",
    [
        "reward eval rm --data a --data b",
        "policy diffro --set train.steps=1 --set train.seed=2 --reward a --reward b --out c",
        "policy sft --out policy --data sft",
        "policy sft --no-such --data a --data b",
        "policy",
        "no-such --data a --data b",
        "",
    ],
)
def test_the_rest_is_left_to_the_command(words: str) -> None:
    refuse_repeated(get_command(app), words.split())


@pytest.mark.slow
def test_the_command_line_refuses_it(tmp_path: Path) -> None:
    told = mistake("policy", "sft", "--data", "a", "--data", "b", "--out", str(tmp_path / "x"))
    assert "--data is given 2 times and takes one value" in told
    assert not (tmp_path / "x").exists()

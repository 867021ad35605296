"""Each command's help ends with an example that the command itself understands."""

import shlex
from typing import Any

import pytest
from typer.main import get_command

from rrpo.cli import app


def commands(command: Any, name: str) -> dict[str, Any]:
    """Return every command and group, by the words that call it."""
    found = {name: command}
    for word, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, f"{name} {word}")
    return found


COMMANDS = commands(get_command(app), "rrpo")


def test_all_commands_are_seen() -> None:
    assert len(COMMANDS) > 25
    assert {"rrpo", "rrpo doctor", "rrpo data import", "rrpo study seeds"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_can_be_parsed(name: str) -> None:
    epilog = COMMANDS[name].epilog
    assert epilog, f"{name} --help shows no example"
    assert epilog.startswith(f"Example: {name} ")
    assert len(epilog) <= 78, "it would be broken in a console of 80 columns"
    words = shlex.split(epilog.removeprefix("Example: "))
    called = words.pop(0)
    while words and f"{called} {words[0]}" in COMMANDS:
        called += f" {words.pop(0)}"
    command = COMMANDS[called]
    assert not hasattr(command, "commands"), f"{called} is no command by itself"
    context = command.make_context(called, words)
    # Nothing that was given went elsewhere than to an option or an argument of the command.
    assert not context.args
    assert any(context.get_parameter_source(one).name == "COMMANDLINE" for one in context.params)

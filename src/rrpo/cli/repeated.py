"""Options that take one value and were given twice: without this the last would win silently."""

from collections.abc import Sequence
from typing import Any

from rrpo.errors import UserError


def refuse_repeated(command: Any, words: Sequence[str]) -> None:
    """Refuse a command line in which an option that takes one value is given more than once.

    Args:
        command: click's or typer's command, or group of commands.
        words: what follows its name. Wrong ones are left to the command itself, which says so.

    Raises:
        UserError: an option is repeated.
    """
    words = list(words)
    while hasattr(command, "commands"):
        places = [place for place, word in enumerate(words) if word in command.commands]
        if not places:
            return
        command, words = command.commands[words[places[0]]], words[places[0] + 1 :]
    try:
        _, _, order = command.make_parser(command.context_class(command)).parse_args(words)
    except Exception:  # click's own, of the many kinds of wrong words
        return
    for option in dict.fromkeys(order):
        taken = option.param_type_name == "option" and not (option.multiple or option.is_flag)
        if taken and order.count(option) > 1:
            raise UserError(
                f"{option.opts[0]} is given {order.count(option)} times and takes one value: "
                + (JOIN if option.opts[0] == "--data" else "leave the others out")
            )


JOIN = "put the shards of several corpora into one folder, each under a name of its own"

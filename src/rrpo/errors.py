"""The exception that means: the user can fix this; and what is one of its kind."""

import re


class UserError(Exception):
    """A mistake in what the user gave: files, options, configuration.

    The message is one line that says what is wrong, where, and how to fix it. The command line
    prints it and exits with code 2; nothing else in the package is caught that way. What a file
    says may stand in it: control characters, which a console obeys, are shown by their numbers, and
    of a word without end the two ends.

    Attributes:
        told_elsewhere: another of several processes prints it, so this one ends without a word.
    """

    told_elsewhere = False

    def __str__(self) -> str:
        """Return the message as it is printed."""
        message = re.sub(
            r"\S{400,}", lambda word: f"{word[0][:200]}…{word[0][-50:]}", super().__str__()
        )
        return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", _shown, message)


def _shown(sign: re.Match[str]) -> str:
    return f"\\x{ord(sign[0]):02x}"


class NotFinite(UserError):
    """Scores or losses that are NaN or infinite; while training the loop adds step and way out."""


class TrainingInterrupted(UserError):
    """Ctrl-C was pressed; a checkpoint was written."""


def shortened(text: str, most: int = 160) -> str:
    """Return the first line of a message of other software, as many whole words as there is room.

    Examples:
        >>> shortened("No such thing here.\\nAt line 3"), shortened("one two three", 9)
        ('No such thing here', 'one two …')
    """
    line = next(iter(text.strip().splitlines()), "").strip().rstrip(".")
    return line if len(line) <= most else f"{line[: most - 1].rpartition(' ')[0] or line[:most]} …"

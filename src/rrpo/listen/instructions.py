"""The user's own instructions to listeners, in place of a template's."""

import re
from pathlib import Path

from rrpo.errors import UserError

MOST = 10_000
"""Bytes of the file: more is not read by listeners either."""


def read_instructions(path: Path) -> list[str]:
    """Return the paragraphs of a text file in UTF-8, which blank lines divide.

    Raises:
        UserError: there is no such file, it is empty, too long or no plain text in UTF-8.
    """
    if not path.is_file():
        raise UserError(f"--instructions {path}: there is no such file: correct the name")
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"--instructions {path} cannot be read ({error.strerror}): give another"
        ) from None
    except UnicodeDecodeError:
        if len(content) > MOST:  # it may be cut within a letter
            raise UserError(_too_long(path)) from None
        raise UserError(f"--instructions {path} is no text in UTF-8: save it as such") from None
    if len(content) > MOST:
        raise UserError(_too_long(path))
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text):
        raise UserError(f"--instructions {path} is no plain text: save it as such")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    found = [one for one in paragraphs if one]
    if not found:
        raise UserError(f"--instructions {path} is empty: write what listeners are to do")
    return found


def _too_long(path: Path) -> str:
    return f"--instructions {path} has over {MOST // 1000} kB: shorten it"

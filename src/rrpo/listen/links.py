"""The secret of a test and what follows from it: links that nobody can guess, a completion code."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rrpo.errors import UserError
from rrpo.files import writing
from rrpo.listen.design import Design

SECRET = "secret"
"""The file of a test's folder that holds it; whoever reads it is the administrator."""


def read_secret(test: Path) -> str:
    """Return the secret of a test, made at the first call and then kept, for its owner alone.

    Raises:
        UserError: it cannot be written or read, or is no secret.
    """
    path = test / SECRET
    with writing(path):
        try:
            # Made with its mode, so that nobody can read it for a moment.
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(16) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        path.chmod(0o600)
        secret = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(secret) != 32 or not set(secret) <= set("0123456789abcdef"):
        raise UserError(f"{path} holds no secret: remove it, and a new one is made")
    return secret


def tokens(secret: str, count: int) -> list[str]:
    """Return the tokens of so many listeners who get a link each."""
    return [_derived(secret, f"listener {number}").hex()[:32] for number in range(count)]


def completion_code(secret: str) -> str:
    """Return the code that says that somebody has taken the whole test."""
    return base64.b32encode(_derived(secret, "completion"))[:8].decode()


def completion_url(design: Design, code: str) -> str | None:
    """Return where a listener is sent at the end, the code in the place of `{code}`.

    Raises:
        UserError: it is no address of a web site.
    """
    if design.completion_url is None:
        return None
    require_address(design.completion_url)
    return design.completion_url.replace("{code}", code)


def require_address(url: str) -> None:
    """Raise UserError unless a completion_url is an address that a browser opens."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # half of a bracket
        whole = False
    if not whole:
        raise UserError(f"completion_url is {url!r}: give an address that begins with https://")


def told(address: str, secret: str, invited: Sequence[str], panel: str | None) -> str:
    """Return what the organiser is told when the server begins.

    Args:
        address: what listeners open.
        secret: of the test.
        invited: tokens of listeners who get a link each; none: there is an open link.
        panel: the parameter that a panel fills in.
    """
    address = address if address.endswith("/") else f"{address}/"
    if invited:
        lines = [f"listener {number + 1}: {address}#{one}" for number, one in enumerate(invited)]
    else:
        more = f"?{panel}=…" if panel else ""
        lines = [f"listeners: {address}{more}"]
    return "\n".join(
        [
            *lines,
            f"administrator: {address}administrator#{secret}",
            f"completion code: {completion_code(secret)}",
            "Ctrl-C ends it; nothing is lost, and the links stay",
        ]
    )


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), purpose.encode(), hashlib.sha256)

"""`rrpo listen`: listening tests."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from rrpo.errors import UserError

listen_app = typer.Typer(
    no_args_is_help=True, help="Listening tests: build one, collect ratings, analyse them."
)

EXTRA = ("anyio", "starlette", "uvicorn")
"""What the extra `listen` brings for the server."""
CONNECTIONS = 1000

Test = Annotated[Path, typer.Argument(help="Folder of a listening test.")]


@listen_app.command(epilog="Example: rrpo listen serve test --port 8026")
def serve(
    test: Test,
    host: Annotated[
        str, typer.Option(help="Address to listen at; by default no other machine reaches it.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")
    ] = 8026,
    listeners: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Print so many links, and take nobody without one."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="What listeners open where a proxy stands before it: https://…"),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(help="Write a folder for any web host instead, and serve nothing."),
    ] = None,
) -> None:
    """Collect ratings: a page for listeners, one for you; or, with --static, a folder of files."""
    from rrpo.listen.design import read_design
    from rrpo.listen.links import read_secret, tokens, told

    if static is not None:
        if listeners or address:
            raise UserError(
                "--static has no links of a server: leave out --listeners and --address"
            )
        from rrpo.listen.static import write_static

        write_static(test, static)
        print(f"wrote {static}: put it on a web host; results files go into {test / 'results'}")
        return
    try:
        from rrpo import server
        from rrpo.listen import collect
        from rrpo.listen.store import Store
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        raise UserError(f"{package} is not installed: pip install 'rrpo[listen]'") from None
    name = _name(address)
    design = read_design(test)
    listening = server.listen(host, port)
    store, secret = Store(test, design), read_secret(test)
    invited = tokens(secret, listeners or 0)
    app = collect.make(test, store, secret, [host, *name], invited)
    server.serve(
        app,
        host,
        listening,
        lambda here: told(address or here, secret, invited, design.panel),
        CONNECTIONS,
    )
    store.close()


def _name(address: str | None) -> list[str]:
    """Return the name in an address, under which the proxy may ask.

    Raises:
        UserError: it is no address.
    """
    if address is None:
        return []
    try:
        parts = urlsplit(address)
        name = parts.hostname
    except ValueError:
        name = None
    if not name or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UserError(f"--address {address!r}: give one such as https://listen.example.org/")
    return [name]

"""`rrpo play`."""

from typing import Annotated

import typer

from rrpo.cli.options import Host, Port
from rrpo.cli.speech import ModelFolder, Voice


def play(
    runs: Annotated[list[str], typer.Argument(help="Folders of policies, or `mini`.")],
    voice: Voice = None,
    model: ModelFolder = None,
    host: Host = "127.0.0.1",
    port: Port = 8025,
) -> None:
    """Open a page to type a sentence into and hear runs beside the base they started from."""
    from rrpo.errors import UserError

    try:
        from rrpo import server
        from rrpo.play import page
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("anyio", "starlette", "uvicorn"):
            raise
        raise UserError(f"{package} is not installed: pip install 'rrpo[play]'") from None
    listening = server.listen(host, port)
    server.serve(page.make(page.load_speakers(runs, voice, model), host), host, listening)

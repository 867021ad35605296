"""A small local web server: what its answers forbid, which requests it takes, where it listens."""

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pydantic
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrpo.errors import UserError

Model = TypeVar("Model", bound=pydantic.BaseModel)
BODY = 16 * 1024
"""Most bytes of a request."""
CONNECTIONS = 64
"""Most at a time, where nothing else is said; a browser takes up to six."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer: no page may load or send anything elsewhere, none may be framed or kept."""


class Guarded:
    """An application whose every answer, errors too, has `HEADERS`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_guarded)


def application(
    routes: Sequence[BaseRoute],
    *hosts: str,
    middleware: Sequence[Middleware] = (),
    handlers: Mapping[Any, Any] | None = None,
) -> Guarded:
    """Return an application that answers a `UserError` with its line.

    Args:
        routes: what it answers.
        hosts: the names or addresses under which it is reached; a request that names another one
            comes from a page elsewhere whose name was pointed here (DNS rebinding), and is refused.
        middleware: what requests pass once their host is known to be right.
        handlers: of other exceptions.
    """
    allowed = [*hosts, "127.0.0.1", "localhost"]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=allowed, www_redirect=False)
    return Guarded(
        Starlette(
            routes=routes,
            middleware=[trusted, *middleware],
            exception_handlers={UserError: _mistake, **(handlers or {})},
            max_body_size=BODY,
        )
    )


async def _mistake(_: Request, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(str(error), 400)


def listen(host: str, port: int) -> socket.socket:
    """Listen before what is served is loaded, so that a wrong port is refused at once.

    Args:
        host: an address or name of this machine.
        port: of TCP; 0 takes any that is free.

    Raises:
        UserError: nothing can listen there.
    """
    wrong = UserError(
        f"--host {host!r}: name one IPv4 address of this machine, or its name: requests under "
        "another are refused"
    )
    if not host or ":" in host:
        raise wrong
    try:
        address = socket.gethostbyname(host)  # 0 and 0.0 are spellings of every address
    except OSError:
        raise wrong from None
    if address == "0.0.0.0":
        raise wrong
    try:
        return socket.create_server((host, port))
    except OSError as error:
        # Python adds "(while attempting to bind on address …)", which is said here already.
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise UserError(
            f"cannot listen at {host}:{port} ({reason}): choose another --port, 0 for any free one"
        ) from None


def serve(
    app: ASGIApp,
    host: str,
    listening: socket.socket,
    told: Callable[[str], str] = "open {} in a browser; Ctrl-C ends it".format,
    connections: int = CONNECTIONS,
) -> None:
    """Serve an application until Ctrl-C, and print where.

    Args:
        app: what answers.
        host: where it listens.
        listening: what `listen` returned.
        told: makes what is printed out of the address.
        connections: most at a time; others are told to come later.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=1,
    )
    with listening, contextlib.suppress(KeyboardInterrupt):
        address = f"http://{host}:{listening.getsockname()[1]}/"
        print(told(address), flush=True)
        uvicorn.Server(config).run(sockets=[listening])


async def read_json(request: Request, kind: type[Model]) -> Model:
    """Read a request's JSON.

    Raises:
        HTTPException: it is not JSON by its type, as a form of another site's page can never be.
        UserError: it says something else than is asked for.
    """
    named = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if named != "application/json":
        raise HTTPException(415, "only application/json is read")
    try:
        return kind.model_validate_json(await request.body())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the request"
        raise UserError(f"{name}: {first['msg']}") from None

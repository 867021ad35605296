"""The server of a listening test: what listeners and the administrator are answered.

A listener's token and the administrator's secret come in the `Authorization` header: they stand in
no address that a proxy or a browser records, and no other site's page can make a browser send them.
"""

import hmac
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import pydantic
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rrpo.config import Strict
from rrpo.errors import UserError
from rrpo.listen import page
from rrpo.listen.design import pages_of, sound_file
from rrpo.listen.export import as_csv, as_json, state
from rrpo.listen.links import completion_code, completion_url
from rrpo.listen.rate_limit import RateLimit
from rrpo.listen.ratings import Listener, PageAnswers, is_panel_id
from rrpo.listen.store import AnsweredOtherwise, DiskFull, Store, is_token
from rrpo.server import Guarded, application, read_json

LISTENERS = 10_000
"""Most that an open link takes in."""
FULL = (
    "The disk of the test’s server is full. This is not your fault, and nothing that you answered "
    "is lost: go on later at this address; please tell the organiser."
)
UNKNOWN = "this link is not known here: check that it is whole, or ask the organiser for another"
NO_PANEL_ID = (
    "this address lacks the participant id that your panel gives you: open the test by the panel’s "
    "own link again, or write to the organiser"
)
OTHER = (
    "this link is another participant’s: open the test by the panel’s own link again, or write to "
    "the organiser"
)
ANSWERED = "this page was answered before, with other values: the first answer stays"
BUSY = "too many requests come from your network: it goes on in a moment"

Result = TypeVar("Result")


class Joining(Strict):
    """What a newcomer's browser sends: the token that it drew, or that of the link."""

    token: str = pydantic.Field(max_length=32)
    panel_id: str | None = None


class Deletion(Strict):
    """What the administrator's page sends; `confirm` is the id again."""

    listener: str = pydantic.Field(max_length=20)
    confirm: str = pydantic.Field(max_length=20)


@dataclass(frozen=True)
class Limits:
    """Of one address: generous, for a whole class may sit behind it."""

    requests: RateLimit
    newcomers: RateLimit


class Limited:
    """An application that refuses requests of an address that makes too many."""

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        client = scope.get("client")
        if scope["type"] == "http" and not self._limit.allows(client[0] if client else ""):
            await PlainTextResponse(BUSY, 429, {"Retry-After": "5"})(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Collection:
    """A test that is being taken."""

    def __init__(
        self, test: Path, store: Store, secret: str, invited: Sequence[str], limits: Limits
    ) -> None:
        self.store, self.design, self._test = store, store.design, test
        self._secret, self._invited, self._limits = secret, set(invited), limits
        self._code = completion_code(secret)
        self._url = completion_url(store.design, self._code)

    async def about(self, _: Request) -> Response:
        """Tell a newcomer what the test is."""
        return JSONResponse(page.about(self.design, self.store.identity, bool(self._invited)))

    async def join(self, request: Request) -> Response:
        """Take in a newcomer; whoever is there already is only greeted again."""
        asked = await read_json(request, Joining)
        if not is_token(asked.token) or (self._invited and asked.token not in self._invited):
            raise HTTPException(403, UNKNOWN)
        panel_id = self._panel_id(asked)
        found = await _thread(self.store.find, asked.token)
        if found is not None and panel_id and found.panel_id not in (None, panel_id):
            raise HTTPException(403, OTHER)
        if found is None:
            if self.design.panel and not panel_id and not self._invited:
                raise UserError(NO_PANEL_ID)
            if not self._limits.newcomers.allows(_address(request)):
                raise HTTPException(429, BUSY)
            if not self._invited and await _thread(self.store.size) >= LISTENERS:
                raise HTTPException(403, "the test has all the listeners that it can take")
        listener = await _thread(self.store.join, asked.token, panel_id)
        return JSONResponse(await self._progress(listener))

    def _panel_id(self, asked: Joining) -> str | None:
        """Return what the panel calls a newcomer, if the design asks for it.

        Raises:
            UserError: it is none that a panel gives.
        """
        if not self.design.panel or not asked.panel_id:
            return None
        if not is_panel_id(asked.panel_id):
            raise UserError(NO_PANEL_ID)
        return asked.panel_id

    async def progress(self, request: Request) -> Response:
        """Tell listeners their own pages, and which of them they have answered."""
        return JSONResponse(await self._progress(await self._listener(request)))

    async def sound(self, request: Request) -> Response:
        """Send a sound of one of the listener's own pages."""
        listener = await self._listener(request)
        pages = pages_of(self.design, listener.order)["pages"]
        own = {sound["id"] for one in pages for sound in one["sounds"]}
        asked = request.path_params["name"].removesuffix(".wav")
        if asked not in own:
            raise HTTPException(404, "the test has no such sound for you: load the page again")
        # The name is one of the design's, and never the request's.
        content = await _thread(sound_file(self._test, asked).read_bytes)
        return Response(content, media_type="audio/wav")

    async def answer(self, request: Request) -> Response:
        """Keep a page's answers; the answer to this request says that they are on the disk."""
        listener = await self._listener(request)
        answered = await read_json(request, PageAnswers)
        try:
            finished = await _thread(self.store.keep, listener, answered)
        except AnsweredOtherwise:
            raise HTTPException(409, ANSWERED) from None
        return JSONResponse({"kept": answered.page, **self._end(finished)})

    async def state(self, request: Request) -> Response:
        """Tell the administrator how far the listeners are."""
        self._require_administrator(request)
        return JSONResponse(state(self.design, *await _thread(self.store.counts)))

    async def export(self, request: Request) -> Response:
        """Send the administrator all that is kept."""
        self._require_administrator(request)
        if request.path_params["kind"] not in ("csv", "json"):
            raise HTTPException(404, "ratings are exported as ratings.csv and ratings.json")
        ratings = await _thread(self.store.ratings)
        if request.path_params["kind"] == "json":
            return Response(as_json(ratings), media_type="application/json")
        return Response(as_csv(self.design, ratings), media_type="text/csv")

    async def delete(self, request: Request) -> Response:
        """Delete a listener."""
        self._require_administrator(request)
        asked = await read_json(request, Deletion)
        if asked.confirm != asked.listener:
            raise UserError("confirm is another id than listener: give the same twice")
        if not await _thread(self.store.delete, asked.listener):
            raise HTTPException(404, f"there is no listener {asked.listener}")
        return JSONResponse({"deleted": asked.listener})

    async def _progress(self, listener: Listener) -> dict[str, Any]:
        answered = await _thread(self.store.answered, listener)
        return {
            "test": pages_of(self.design, listener.order),
            "answered": answered,
            "listener": listener.id,
            "panel_id": listener.panel_id,
            **self._end(listener.finished),
        }

    def _end(self, finished: bool) -> dict[str, Any]:
        """Return what is told at the end, and only then."""
        return {"finished": True, "code": self._code, "url": self._url} if finished else {}

    async def _listener(self, request: Request) -> Listener:
        """Return who sends a request.

        Raises:
            HTTPException: nobody who is known.
        """
        token = _bearer(request)
        listener = await _thread(self.store.find, token) if is_token(token) else None
        if listener is None:
            raise HTTPException(403, UNKNOWN)
        return listener

    def _require_administrator(self, request: Request) -> None:
        if not hmac.compare_digest(_bearer(request).encode(), self._secret.encode()):
            raise HTTPException(403, "this is not the administrator’s link: copy it again, whole")


def make(
    test: Path,
    store: Store,
    secret: str,
    hosts: Sequence[str],
    invited: Sequence[str] = (),
    limits: Limits | None = None,
) -> Guarded:
    """Make the application of a test.

    Args:
        test: its folder.
        store: where its answers are kept.
        secret: of the administrator.
        hosts: as of `rrpo.server.application`.
        invited: the tokens that are taken; none: whoever has the open link is.
        limits: on the requests of an address.

    Raises:
        UserError: the design's `completion_url` is no address.
    """
    limits = limits or Limits(RateLimit(3000, 100), RateLimit(200, 1))
    one = Collection(test, store, secret, invited, limits)
    routes = [
        Route("/about", one.about),
        Route("/join", one.join, methods=["POST"]),
        Route("/progress", one.progress),
        Route("/answer", one.answer, methods=["POST"]),
        Route("/sounds/{name}", one.sound),
        Route("/administrator", _fixed(page.html("administrator.html"), "text/html")),
        Route("/administrator/state", one.state),
        Route("/administrator/ratings.{kind:str}", one.export),
        Route("/administrator/delete", one.delete, methods=["POST"]),
        Route("/", _fixed(page.html("listen.html", static=False), "text/html")),
        *(
            Route(f"/{name}", _fixed(content, page.kind_of(name)))
            for name, content in page.files([*page.SHARED, *page.OF_A_SERVER]).items()
        ),
    ]
    return application(
        routes,
        *hosts,
        middleware=[Middleware(Limited, limit=limits.requests)],
        handlers={DiskFull: _full},
    )


def _fixed(content: str, kind: str) -> Callable[[Request], Response]:
    return lambda _: Response(content, media_type=kind)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _bearer(request: Request) -> str:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


async def _thread(work: Callable[..., Result], *arguments: Any) -> Result:
    """Wait for what waits for the disk, while others are answered."""
    return await anyio.to_thread.run_sync(lambda: work(*arguments))


async def _full(_: Request, __: Exception) -> PlainTextResponse:
    print("the disk is full: listeners are told to come back; free space", file=sys.stderr)
    return PlainTextResponse(FULL, 507)

"""Gate: the thin ASGI layer in front of the framework.

Everything passes here before any route is looked at: HTTP/2 and ambiguous framing are refused, the
Host has to be ours, the body is read whole within a size and a deadline. On the way out every
answer gets a request id and the headers that keep secrets out of caches, and one line is logged:
the rule that matched, never the path, which may hold a token.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

import structlog
import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from sitpayd.api.errors import ApiError
from sitpayd.api.notes import Notes, open_notes
from sitpayd.log import get_logger
from sitpayd.metrics import Metrics

log = get_logger()

MAX_SEND_BODY_LEN: Final = 64 * 1024
MAX_BODY_LEN: Final = 16 * 1024
BODY_WITHIN_S: Final = 10.0
# After an early refusal the rest of the body is read for so long: a socket closed with unread bytes
# is reset, and the caller would lose the answer.
LINGER_S: Final = 2.0

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

ASGIApp = Callable[[Scope, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]


class Gate:
    """Lets requests through to the application.

    Args:
        base_url: the API's public address; its host is accepted.
        metrics: counts the requests.
    """

    def __init__(self, app: ASGIApp, base_url: str, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._host = urlsplit(base_url).hostname or ""

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Handle one request, WebSocket or lifespan, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        visit = _Visit(open_notes(), send)
        with structlog.contextvars.bound_contextvars(request_id=visit.notes.request_id):
            try:
                if scope["type"] == "http":
                    await self._http(scope, receive, visit)
                elif (problem := self._check(scope)) is not None:
                    await visit.refuse_websocket(problem)
                else:
                    await self._app(scope, receive, visit.send)
            finally:
                visit.log(scope)
                self._metrics.request(visit.notes.route, visit.status)

    async def _http(self, scope: HTTPScope, receive: ASGIReceiveCallable, visit: _Visit) -> None:
        try:
            if (problem := self._check(scope)) is not None:
                raise problem
            body = await _read_body(scope, receive)
        except ApiError as problem:
            await visit.refuse(problem, receive)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), visit.send)

    def _check(self, scope: HTTPScope | WebsocketScope) -> ApiError | None:
        if scope["http_version"] not in ("1.0", "1.1"):
            return ApiError("http_version_not_supported", "Only HTTP/1.1 is spoken here.")
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:
            # RFC 9112 section 6.1: two readers of it may see two different requests.
            return ApiError("ambiguous_framing", "The request has two lengths.")
        if not self._is_ours(_header(scope, b"host")):
            return ApiError(
                "unknown_host", "This host name is not the one in the setting base_url."
            )
        return None

    def _is_ours(self, authority: bytes | None) -> bool:
        """A name that anybody's DNS may point here is refused; an address cannot be pointed."""
        if authority is None:
            return True  # HTTP/1.0 need not say
        try:
            host = urlsplit(f"//{authority.decode('ascii')}").hostname or ""
        except ValueError:
            return False
        if host in (self._host, "localhost"):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


class _Visit:
    """One request's way out: what is added to its answer and noted of it.

    Attributes:
        status: of its answer; None before there is one.
    """

    def __init__(self, notes: Notes, send: ASGISendCallable) -> None:
        self.notes = notes
        self._send = send
        self.status: int | None = None
        self._began = trio.current_time()

    async def send(self, event: ASGISendEvent) -> None:
        """Pass an event on, with the headers every answer has unless it brings its own."""
        match event["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = event["status"]
                own = {name for name, _ in event["headers"]}
                added = (header for header in self._headers() if header[0] not in own)
                event["headers"] = [*event["headers"], *added]
            case "websocket.accept":
                self.status = 101
            case _:
                pass
        await self._send(event)

    async def refuse(self, problem: ApiError, receive: ASGIReceiveCallable) -> None:
        """Answer without the application and give the connection up."""
        body = problem.body()
        headers = [
            *_encoded(problem.headers()),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        with trio.move_on_after(LINGER_S):
            while (event := await receive())["type"] == "http.request" and event["more_body"]:
                pass
        async with trio.open_nursery() as nursery:
            # The server's queue of body parts may be full: it takes no ending until it is read.
            nursery.start_soon(_discard, receive)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel()

    async def refuse_websocket(self, problem: ApiError) -> None:
        """Answer instead of opening a WebSocket."""
        await self.send(
            {
                "type": "websocket.http.response.start",
                "status": problem.status,
                "headers": [*_encoded(problem.headers()), (b"connection", b"close")],
            }
        )
        await self._send(
            {"type": "websocket.http.response.body", "body": problem.body(), "more_body": False}
        )

    def log(self, scope: HTTPScope | WebsocketScope) -> None:
        """Write the one line."""
        log.info(
            "http.request",
            method=scope["method"] if scope["type"] == "http" else "WEBSOCKET",
            route=self.notes.route,
            # Without a status the caller left first.
            status=self.status,
            seconds=round(trio.current_time() - self._began, 4),
            session_id=self.notes.session_id,
            message_id=self.notes.message_id,
        )

    def _headers(self) -> Iterable[tuple[bytes, bytes]]:
        request_id = self.notes.request_id.encode("ascii")
        return (*_HEADERS, (b"x-request-id", request_id), (b"request-id", request_id))


async def _read_body(scope: HTTPScope, receive: ASGIReceiveCallable) -> bytes | None:
    """Read the whole body; None: the caller left."""
    limit = MAX_SEND_BODY_LEN if _is_send(scope["path"]) else MAX_BODY_LEN
    too_large = ApiError("body_too_large", f"The body is longer than {limit} bytes.", field="body")
    declared = _header(scope, b"content-length")
    # The server has checked that it is a number; int() of a very long one would raise.
    if declared is not None and (len(declared) > 9 or int(declared) > limit):
        raise too_large
    body = bytearray()
    with trio.move_on_after(BODY_WITHIN_S):
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return None
            body += event["body"]
            if len(body) > limit:
                raise too_large
            if not event["more_body"]:
                return bytes(body)
    raise ApiError("request_timeout", "The body took too long.", field="body")


def _replay(body: bytes, receive: ASGIReceiveCallable) -> ASGIReceiveCallable:
    """Give the application the body in one piece, then what comes after it."""
    read = False

    async def replay() -> ASGIReceiveEvent:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _discard(receive: ASGIReceiveCallable) -> None:
    while (await receive())["type"] == "http.request":
        pass


def _is_send(path: str) -> bool:
    return path.startswith("/wa/") and path.endswith("/send")


def _header(scope: HTTPScope | WebsocketScope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]

"""Direct: hands sends to their route without the framework in between.

Sends are nearly all there is to do, and the framework's request, context, routing and two tasks
would cost each of them as much as its way through the database. Everything else goes there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from sitpayd.api.errors import of_exception
from sitpayd.api.exchange import Answer, Asked, CallerLeftError, RawHeaders
from sitpayd.api.gate import ASGIApp
from sitpayd.api.notes import current_notes

SEND_RULE: Final = "/wa/<device_token>/send"

Send = Callable[[str, Asked], Awaitable[Answer]]


class Direct:
    """Stands behind the gate, which has read the body and hands it over in one piece.

    Args:
        send: the route; takes the token of the path.
    """

    def __init__(self, app: ASGIApp, send: Send) -> None:
        self._app = app
        self._send = send

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Handle one request, WebSocket or lifespan, as ASGI has it."""
        token = send_token(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if token is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        current_notes().route = SEND_RULE
        request = await receive()
        assert request["type"] == "http.request"
        asked = Asked(RawHeaders(scope["headers"]), request["body"], partial(_left, receive))
        try:
            answer = await self._send(token, asked)
        except CallerLeftError:
            return
        except Exception as error:
            problem = of_exception(error)
            answer = Answer(problem.status, problem.body(), problem.headers())
        headers = [
            (n.lower().encode("ascii"), v.encode("ascii")) for n, v in answer.headers.items()
        ]
        headers.append((b"content-length", str(len(answer.body)).encode("ascii")))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def send_token(method: str, path: str) -> str | None:
    """The token in the path of a send; None: it is something else."""
    if method != "POST":
        return None
    # The framework's rules do not look at how many slashes a path begins with, either.
    match path.lstrip("/").split("/"):
        case ["wa", token, "send"] if token:
            return token
        case _:
            return None


async def _left(receive: ASGIReceiveCallable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""HTTP: a client that costs little, so that it is not what is measured.

It knows what the daemon and the simulator answer, and no more of HTTP: a status line, headers with
a content-length, connections that are used again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import trio

# The server closes a connection that was idle for 10 s.
REUSE_WITHIN_S: Final = 5.0
RECEIVE_LEN: Final = 65536
MAX_HEAD_LEN: Final = 16384

Json = dict[str, object]


class HttpError(Exception):
    """The answer was not the one asked for."""


class TooManyRequests(HttpError):
    """The partner or the device has to wait before it may ask again."""


@dataclass(frozen=True, slots=True)
class _Idle:
    stream: trio.SocketStream
    since: float


@dataclass(slots=True)
class Http:
    """A client of one origin; use it from as many tasks as wanted."""

    base_url: str
    _idle: list[_Idle] = field(default_factory=list)

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Json:
        """Ask for a path or a URL of this origin.

        Raises:
            HttpError: If the answer is no success; TooManyRequests if that is why.
        """
        return _checked(target, *await self.request("GET", target, headers or {}, b""))

    async def post(self, target: str, body: Json, headers: Mapping[str, str] | None = None) -> Json:
        """Post JSON to a path or a URL of this origin.

        Raises:
            HttpError: If the answer is no success; TooManyRequests if that is why.
        """
        data = json.dumps(body).encode()
        return _checked(target, *await self.request("POST", target, headers or {}, data))

    async def delete(self, target: str) -> Json:
        """Delete a path of this origin.

        Raises:
            HttpError: If the answer is no success.
        """
        return _checked(target, *await self.request("DELETE", target, {}, b""))

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Send a request; gives status and body.

        Raises:
            HttpError: If the connection ends before the answer.
        """
        lines = [
            f"{method} {target.removeprefix(self.base_url)} HTTP/1.1",
            f"host: {urlsplit(self.base_url).netloc}",
            f"content-length: {len(body)}",
            "content-type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        stream = await self._connection()
        try:
            await stream.send_all(head + body)
            status, answer, reusable = await _receive(stream)
        except BaseException:
            stream.socket.close()
            raise
        if reusable:
            self._idle.append(_Idle(stream, trio.current_time()))
        else:
            await stream.aclose()
        return status, answer

    async def _connection(self) -> trio.SocketStream:
        while self._idle:
            idle = self._idle.pop()
            if trio.current_time() - idle.since < REUSE_WITHIN_S:
                return idle.stream
            await idle.stream.aclose()
        origin = urlsplit(self.base_url)
        assert origin.hostname is not None
        return await trio.open_tcp_stream(origin.hostname, origin.port or 80)

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await self._idle.pop().stream.aclose()


async def _receive(stream: trio.SocketStream) -> tuple[int, bytes, bool]:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = await stream.receive_some(RECEIVE_LEN)
        if not more or len(data) > MAX_HEAD_LEN:
            raise HttpError("the connection ended without an answer")
        data += more
    head = data[:end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise HttpError("an answer without content-length")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    body = data[end + 4 :]
    while len(body) < length:
        more = await stream.receive_some(RECEIVE_LEN)
        if not more:
            raise HttpError("the connection ended within an answer")
        body += more
    return int(head[9:12]), body, b"connection: close" not in head


def _checked(target: str, status: int, body: bytes) -> Json:
    if not 200 <= status < 300:
        kind = TooManyRequests if status == HTTPStatus.TOO_MANY_REQUESTS else HttpError
        # The target may hold a token; what it ends with says enough.
        raise kind(f"…/{target.rpartition('/')[2]} answered {status}: {body.decode()}")
    answer: Json = json.loads(body)
    return answer

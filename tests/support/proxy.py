"""A proxy of the tests' own: HTTP CONNECT and SOCKS5, which writes down what it was asked for."""

from __future__ import annotations

import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import h11
import trio

Target = tuple[str, int]

_NO_AUTH: Final = 0
_PASSWORD: Final = 2
_REFUSED: Final = 255


@dataclass
class RecordingProxy:
    """Both kinds on one port: the first byte tells them apart.

    Attributes:
        user, password: what it asks for; None: nothing.
        hosts: where a name leads, which nobody else resolves.
        refusal: what it answers instead of a tunnel: an HTTP status or a SOCKS5 code.
        tunnels: every target it has connected to; asked: also those it has not.
        mute: whether it takes connections and says nothing.
    """

    port: int = 0
    user: str | None = None
    password: str | None = None
    hosts: dict[str, Target] = field(default_factory=dict)
    refusal: int | None = None
    mute: bool = False
    asked: list[Target] = field(default_factory=list)
    tunnels: list[Target] = field(default_factory=list)
    open: set[trio.CancelScope] = field(default_factory=set)

    def url(self, scheme: str, credentials: str = "") -> str:
        """Its URL."""
        return f"{scheme}://{credentials}127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every tunnel."""
        for scope in self.open:
            scope.cancel()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        with trio.CancelScope() as scope:
            self.open.add(scope)
            try:
                async with stream:
                    await self._serve(stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self.open.discard(scope)

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self.mute:
            await trio.sleep_forever()
        first = await stream.receive_some()
        if not first:
            return
        serving = self._socks(stream, first) if first[0] == 5 else self._http(stream, first)
        target = await serving
        if target is None:
            return
        self.tunnels.append(target)
        await _join(stream, *self.hosts.get(target[0], target))

    async def _http(self, stream: trio.SocketStream, data: bytes) -> Target | None:
        http = h11.Connection(h11.SERVER)
        http.receive_data(data)
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await stream.receive_some())
        assert isinstance(event, h11.Request)
        assert event.method == b"CONNECT"
        host, _, port = event.target.decode("ascii").rpartition(":")
        self.asked.append((host, int(port)))
        status = self.refusal or 200
        if self.user is not None:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            if (b"proxy-authorization", f"Basic {pair}".encode()) not in event.headers:
                status = 407
        # In two pieces, as some do.
        await stream.send_all(f"HTTP/1.1 {status} So be it\r\n".encode())
        await trio.sleep(0.01)
        await stream.send_all(b"Via: a proxy of the tests\r\n\r\n")
        return (host, int(port)) if status == 200 else None

    async def _socks(self, stream: trio.SocketStream, data: bytes) -> Target | None:
        reader = _Reader(stream, data)
        _, count = await reader.take(2)
        offered = await reader.take(count)
        wanted = _NO_AUTH if self.user is None else _PASSWORD
        await stream.send_all(bytes([5, wanted if wanted in offered else _REFUSED]))
        if wanted not in offered:
            return None
        if wanted == _PASSWORD and not await self._knows(stream, reader):
            return None
        _, _, _, kind = await reader.take(4)
        if kind == 3:
            host = (await reader.take((await reader.take(1))[0])).decode("ascii")
        else:
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            host = socket.inet_ntop(family, await reader.take(4 if kind == 1 else 16))
        port = int.from_bytes(await reader.take(2), "big")
        self.asked.append((host, port))
        await stream.send_all(bytes([5, self.refusal or 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        return None if self.refusal else (host, port)

    async def _knows(self, stream: trio.SocketStream, reader: _Reader) -> bool:
        _, length = await reader.take(2)
        user = (await reader.take(length)).decode()
        password = (await reader.take((await reader.take(1))[0])).decode()
        known = (user, password) == (self.user, self.password)
        await stream.send_all(bytes([1, 0 if known else 1]))
        return known


class _Reader:
    """Takes so many bytes from a stream."""

    def __init__(self, stream: trio.SocketStream, data: bytes) -> None:
        self._stream, self._data = stream, data

    async def take(self, count: int) -> bytes:
        while len(self._data) < count:
            more = await self._stream.receive_some()
            if not more:
                raise trio.BrokenResourceError
            self._data += more
        taken, self._data = self._data[:count], self._data[count:]
        return taken


async def _join(near: trio.SocketStream, host: str, port: int) -> None:
    async with await trio.open_tcp_stream(host, port) as far, trio.open_nursery() as nursery:
        nursery.start_soon(_pipe, near, far, nursery.cancel_scope)
        nursery.start_soon(_pipe, far, near, nursery.cancel_scope)


async def _pipe(near: trio.SocketStream, far: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        async for data in near:
            await far.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


@dataclass
class Doorkeeper:
    """Passes on to a port, and counts who comes.

    Attributes:
        port: its own.
        visits: how many came.
    """

    behind: int
    port: int = 0
    visits: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        self.visits += 1
        async with stream:
            with suppress(OSError):
                await _join(stream, "127.0.0.1", self.behind)


@asynccontextmanager
async def listening(server: RecordingProxy | Doorkeeper) -> AsyncIterator[None]:
    """Run one of them on a free port of loopback."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield
        nursery.cancel_scope.cancel()

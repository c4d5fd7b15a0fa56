"""The front door on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import trio
from pydantic import SecretStr

from sitpayd.api.app import FEED_RULE
from sitpayd.api.server import open_listener, serve_on
from sitpayd.settings import Settings
from tests.support.front import ADMIN_KEY, Front, open_front


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        stop: ends it, as the daemon would.
        ended: set when it is gone.
    """

    front: Front
    port: int
    stop: trio.Event
    ended: trio.Event

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def feed_url(self) -> str:
        """Where the feed is."""
        return f"ws://127.0.0.1:{self.port}{FEED_RULE}"

    async def connect(self) -> trio.SocketStream:
        """Open a connection."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """Send raw bytes and read until the server closes."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_all(stream)


async def read_all(stream: trio.SocketStream) -> bytes:
    """Read until the server closes, cleanly or not."""
    data = bytearray()
    try:
        async for chunk in stream:
            data += chunk
    except trio.BrokenResourceError:
        pass
    return bytes(data)


def statuses(data: bytes) -> list[int]:
    """The status codes of the answers in a byte stream, informational ones too."""
    found = []
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response | h11.InformationalResponse):
                found.append(event.status_code)
            if isinstance(event, h11.EndOfMessage) or event in (h11.NEED_DATA, h11.PAUSED):
                break
        data = client.trailing_data[0]
    return found


@asynccontextmanager
async def open_server(admin_key: str | None = ADMIN_KEY) -> AsyncIterator[Served]:
    """Run the server on a free port."""
    listener = open_listener("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    settings = Settings(
        listen=f"127.0.0.1:{port}",
        base_url=f"http://127.0.0.1:{port}",
        admin_key=None if admin_key is None else SecretStr(admin_key),
    )
    async with open_front(settings) as front, trio.open_nursery() as nursery:
        served = Served(front, port, trio.Event(), trio.Event())

        async def run() -> None:
            await serve_on(listener, front.app, shutdown=served.stop)
            served.ended.set()

        nursery.start_soon(run)
        yield served
        served.stop.set()
        with trio.move_on_after(5):
            await served.ended.wait()
        nursery.cancel_scope.cancel()

"""The network of a simulated world: sockets that hold what the weather does to them.

A wire joins the daemon's end, which looks like the product's WebSocket, with the server's end,
which looks like one of the library that the simulator uses. Frames arrive late and in order; a wire
may be cut, swallow everything, or stop taking anything. Above it runs the product's own transport.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import trio
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from sitpayd.actors.websocket import ClosedError, UpgradeError
from tests.torture.weather import Dialling, Weather

_NORMAL: Final = Close(1000, "")
# Told when a frame arrives: at which end, and the frame.
Overheard = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class _Item:
    at: float
    data: bytes | None  # None: the peer closes


class End:
    """One end of a wire.

    Attributes:
        remote_address: as the library's connections have it.
        is_dead: the process at this end has died: nothing returns from here any more.
    """

    def __init__(self, wire: Wire, name: str) -> None:
        self.remote_address = (name, 1)
        self.is_dead = False
        self._wire = wire
        self._name = name
        self._peer: End
        self._coming: deque[_Item] = deque()
        self._last_at = 0.0
        self._closed = False
        self._peer_closed = False
        self._bell = trio.Event()

    @property
    def stream(self) -> End:
        """What the simulator cuts."""
        return self

    async def send(self, data: bytes) -> None:
        """Write a frame."""
        await trio.lowlevel.checkpoint()
        await self._alive()
        if self._wire.is_stuck:
            await self._until(lambda: self._wire.is_cut)
        if self._wire.is_cut or self._closed:
            raise ConnectionClosedError(None, None)
        if self._peer_closed:
            raise ConnectionClosedOK(_NORMAL, _NORMAL, True)
        self._peer._arrives(data)

    async def recv(self) -> bytes:
        """Read the next frame."""
        await trio.lowlevel.checkpoint()
        while True:
            await self._alive()
            if self._wire.is_cut or self._closed:
                raise ConnectionClosedError(None, None)
            if self._coming and self._coming[0].at <= trio.current_time():
                item = self._coming.popleft()
                if item.data is None:
                    self._peer_closed = True
                    raise ConnectionClosedOK(_NORMAL, _NORMAL, True)
                self._wire.overheard(self._name, item.data)
                return item.data
            if self._peer_closed:
                raise ConnectionClosedOK(_NORMAL, _NORMAL, True)
            with trio.move_on_at(self._coming[0].at if self._coming else math.inf):
                await self._bell.wait()

    async def wait_closed(self) -> None:
        """Wait until either side has closed."""
        try:
            while True:
                await self.recv()
        except ConnectionClosed:
            return

    async def close(self) -> None:
        """Close in order."""
        if not self._closed:
            self._closed = True
            self._peer._arrives(None)
            self._ring()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Cut without a word."""
        self._wire.cut()
        await trio.lowlevel.checkpoint()

    def die(self) -> None:
        """The process at this end is gone; what it had written is under way."""
        self.is_dead = True
        if not self._closed:
            self._closed = True
            self._peer._arrives(None)

    def _arrives(self, data: bytes | None) -> None:
        if self._wire.is_hole or self._wire.is_cut:
            return
        self._last_at = max(self._last_at, trio.current_time() + self._wire.weather.latency())
        self._coming.append(_Item(self._last_at, data))
        self._ring()

    async def _alive(self) -> None:
        if self.is_dead:
            await trio.sleep_forever()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._bell.wait()

    def _ring(self) -> None:
        self._bell.set()
        self._bell = trio.Event()


class Wire:
    """Two ends.

    Attributes:
        is_cut: both ends know, at once, that it is over; is_hole: it swallows what is written;
            is_stuck: it takes nothing.
        overheard: told of each frame that arrives.
    """

    def __init__(self, weather: Weather, overheard: Overheard, number: int) -> None:
        self.weather = weather
        self.overheard = overheard
        self.is_cut = self.is_hole = self.is_stuck = False
        self.client = End(self, f"c{number}")
        self.server = End(self, f"s{number}")
        self.client._peer, self.server._peer = self.server, self.client

    def cut(self) -> None:
        """End it for both."""
        self.is_cut = True
        self.client._ring()
        self.server._ring()


class Socket:
    """The daemon's end of a wire, in place of the product's WebSocket."""

    def __init__(self, end: End) -> None:
        self._end = end

    async def receive(self) -> bytes:
        """Read the next frame."""
        try:
            return await self._end.recv()
        except ConnectionClosed:
            raise ClosedError(None) from None

    async def send(self, data: bytes) -> None:
        """Write a frame."""
        try:
            await self._end.send(data)
        except ConnectionClosed:
            raise ClosedError(None) from None

    async def aclose(self) -> None:
        """Close in order; the dead do not."""
        if self._end.is_dead:
            await trio.sleep_forever()
        await self._end.close()


class Network:
    """All wires between a daemon and a server.

    Args:
        serve: runs the server's side of a new socket.

    Attributes:
        wires: those that are open, oldest first.
    """

    def __init__(
        self,
        weather: Weather,
        overheard: Overheard,
        nursery: trio.Nursery,
        serve: Callable[[End], Awaitable[None]],
    ) -> None:
        self.wires: list[Wire] = []
        self._weather = weather
        self._overheard = overheard
        self._nursery = nursery
        self._serve = serve
        self._count = 0

    async def open_stream(self, _: object) -> AbstractAsyncContextManager[Dialling]:
        """Stand in for `connector.open_stream`."""
        await trio.sleep(self._weather.latency())
        dialling = self._weather.dialling()
        if dialling is Dialling.NO_NAME:
            await trio.sleep(self._weather.latency())
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if dialling is Dialling.REFUSED:
            raise ConnectionRefusedError("connection refused")
        if dialling is Dialling.SILENT:
            await trio.sleep_forever()
        return nullcontext(dialling)

    async def open_websocket(self, stream: Dialling, url: str, **_: object) -> Socket:
        """Stand in for `websocket.open_websocket`."""
        await trio.lowlevel.checkpoint()
        if stream is Dialling.UNAVAILABLE:
            raise UpgradeError("HTTP 503", 503)
        self._count += 1
        wire = Wire(self._weather, self._overheard, self._count)
        self.wires.append(wire)
        self._nursery.start_soon(self._run_server, wire)
        return Socket(wire.client)

    async def _run_server(self, wire: Wire) -> None:
        try:
            await self._serve(wire.server)
            await wire.server.close()
        finally:
            self.wires.remove(wire)

    def die(self) -> None:
        """The daemon has died: its ends of all wires are gone."""
        for wire in self.wires:
            wire.client.die()

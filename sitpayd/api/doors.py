"""Doors: which connections are let in, and when none is.

At most so many in all and from one address. While the process is near its limit of file descriptors
nobody is let in: who comes waits in the kernel's queue, and what is left belongs to WhatsApp's
sockets and the database. An accept that fails for want of something is tried again later; it ends
nothing and never spins.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from sitpayd import files
from sitpayd.log import get_logger

log = get_logger()

MAX_CONNECTIONS: Final = 4096
MAX_OF_ADDRESS: Final = 100
# An IPv6 customer has a whole network; one of this length counts as one address.
IPV6_SITE_LEN: Final = 64
# While nobody is let in: how long until the next look.
PAUSE_S: Final = 0.1
# Between two lines about peers that were turned away.
TOLD_EVERY_S: Final = 60.0

Handler = Callable[[trio.SocketStream], Awaitable[None]]


class Doors:
    """Lets connections in and counts who is inside.

    Args:
        max_connections: in all; max_of_address: of one address. Loopback is not bounded by it: a
            proxy there brings everybody.
    """

    def __init__(
        self, max_connections: int = MAX_CONNECTIONS, max_of_address: int = MAX_OF_ADDRESS
    ) -> None:
        self._max = max_connections
        self._max_of_address = max_of_address
        self._inside = 0
        self._of_site: Counter[str] = Counter()
        self._is_closed = False
        self._told_at = -float("inf")

    async def serve(
        self, listener: trio.SocketListener, handler: Handler, nursery: trio.Nursery
    ) -> None:
        """Let peers in until cancelled; each is handled in the nursery."""
        async with listener:
            while True:
                await self._room()
                try:
                    stream = await listener.accept()
                except OSError as error:
                    # Of the whole machine, or gone since the look.
                    log.warning("api.accept_failed", error=error.strerror)
                    await trio.sleep(PAUSE_S)
                    continue
                site = _site_of(stream)
                if site is not None and self._of_site[site] >= self._max_of_address:
                    self._turn_away()
                    await trio.aclose_forcefully(stream)
                    continue
                self._inside += 1
                if site is not None:
                    self._of_site[site] += 1
                nursery.start_soon(self._host, site, stream, handler)

    async def _host(self, site: str | None, stream: trio.SocketStream, handler: Handler) -> None:
        try:
            await handler(stream)
        finally:
            self._inside -= 1
            if site is not None:
                self._of_site[site] -= 1
                if not self._of_site[site]:
                    del self._of_site[site]
            await trio.aclose_forcefully(stream)

    async def _room(self) -> None:
        while (full := self._inside >= self._max) or not files.room_for_http():
            if not self._is_closed:
                self._is_closed = True
                log.warning(
                    "api.doors_closed",
                    connections=self._inside,
                    why="connections" if full else "file descriptors",
                )
            await trio.sleep(PAUSE_S)
        if self._is_closed:
            self._is_closed = False
            log.info("api.doors_open", connections=self._inside)

    def _turn_away(self) -> None:
        now = trio.current_time()
        if now - self._told_at >= TOLD_EVERY_S:
            self._told_at = now
            log.warning("api.address_turned_away", connections=self._max_of_address)


def _site_of(stream: trio.SocketStream) -> str | None:
    try:
        return site_of_address(str(stream.socket.getpeername()[0]))
    except OSError:
        return None  # gone already


def site_of_address(text: str) -> str | None:
    """Whom a connection from there counts for; None: nobody's bound holds for it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), IPV6_SITE_LEN), strict=False))
    return str(address)

"""Doors on loopback sockets; an address that is not loopback is one that the test says it is."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sitpayd import files, log
from sitpayd.api import doors
from sitpayd.api.doors import Doors

PATIENCE_S = 10.0


@dataclass
class Hall:
    """What is behind the doors: whoever is let in stays."""

    port: int = 0
    inside: set[trio.SocketStream] = field(default_factory=set)
    guests: list[trio.SocketStream] = field(default_factory=list)
    came: int = 0

    async def host(self, stream: trio.SocketStream) -> None:
        self.came += 1
        self.inside.add(stream)
        async for _ in stream:
            pass
        self.inside.discard(stream)

    async def knock(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.guests.append(stream)
        return stream

    async def until(self, count: int) -> None:
        while len(self.inside) != count:
            await wait_all_tasks_blocked(0.01)


@asynccontextmanager
async def opened(guard: Doors) -> AsyncIterator[Hall]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    hall = Hall(listener.socket.getsockname()[1])
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard.serve, listener, hall.host, nursery)
            yield hall
            for guest in hall.guests:
                await guest.aclose()
            nursery.cancel_scope.cancel()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream, hook = io.StringIO(), sys.excepthook
    log.configure("info", "text", stream)
    yield stream
    log.configure("info", "text")
    sys.excepthook = hook


async def test_more_than_there_is_room_for_wait_outside() -> None:
    """T-34: they are not refused; they come in when others have gone."""
    async with opened(Doors(max_connections=3)) as hall:
        guests = [await hall.knock() for _ in range(5)]
        await hall.until(3)
        await wait_all_tasks_blocked(0.05)
        assert hall.came == 3
        await guests[0].aclose()
        await guests[1].aclose()
        while hall.came < 5:
            await wait_all_tasks_blocked(0.01)


async def test_one_address_cannot_take_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """T-34: beyond its bound it is turned away, and another address is let in."""
    site = "192.0.2.1"
    monkeypatch.setattr(doors, "_site_of", lambda _: site)
    async with opened(Doors(max_of_address=2)) as hall:
        greedy = [await hall.knock() for _ in range(3)]
        assert await greedy[2].receive_some() == b""
        await hall.until(2)
        site = "192.0.2.2"
        await hall.knock()
        await hall.until(3)
        site = "192.0.2.1"
        await greedy[0].aclose()
        await hall.until(2)
        await hall.knock()
        await hall.until(3)


async def test_proxy_on_this_machine_brings_everybody() -> None:
    async with opened(Doors(max_of_address=2)) as hall:
        for _ in range(5):
            await hall.knock()
        await hall.until(5)


async def test_doors_are_closed_while_the_process_is_near_its_limit(
    monkeypatch: pytest.MonkeyPatch, lines: io.StringIO
) -> None:
    """F-28: told once, and opened again by itself."""
    room = False
    monkeypatch.setattr(files, "room_for_http", lambda: room)
    async with opened(Doors()) as hall:
        for _ in range(3):
            await hall.knock()
        await wait_all_tasks_blocked(0.05)
        assert hall.came == 0
        room = True
        await hall.until(3)
    assert lines.getvalue().count("api.doors_closed") == 1
    assert lines.getvalue().count("api.doors_open") == 1


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED])
async def test_accept_that_fails_ends_nothing_and_does_not_spin(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """F-28: tried again ten times a second."""
    accept, tries = trio.SocketListener.accept, 0

    async def refuse(self: trio.SocketListener) -> trio.SocketStream:
        nonlocal tries
        tries += 1
        await trio.lowlevel.checkpoint()
        raise OSError(code, os.strerror(code))

    async with opened(Doors()) as hall:
        with monkeypatch.context() as patch:
            patch.setattr(trio.SocketListener, "accept", refuse)
            await (await hall.knock()).aclose()  # wakes the accept that waits already
            await trio.sleep(0.5)
            assert 1 <= tries <= 7
            assert accept is not trio.SocketListener.accept
        await hall.knock()
        await hall.until(1)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_connection_counts_for_an_address_or_a_network(address: str, site: str | None) -> None:
    assert doors.site_of_address(address) == site

"""WhatsApp cannot be reached for a while: what was asked for meanwhile goes on afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from tests.end_to_end.conftest import Simulated
from tests.support.daemon import Daemon, free_port
from tests.support.partner import Partner
from tests.support.people import People


class Line:
    """A TCP port that leads to the simulator, while it is up."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}{parts.path}"
        self._target = parts.port or 80

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_tcp, self._connect, self.port, host="127.0.0.1"))
            yield
            nursery.cancel_scope.cancel()

    async def _connect(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._target)
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, near, far, nursery.cancel_scope)
            nursery.start_soon(_pass_on, far, near, nursery.cancel_scope)


async def _pass_on(
    source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope
) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    both.cancel()


@pytest.fixture
def line(simulated: Simulated) -> Line:
    return Line(simulated.url)


@pytest.fixture
async def mortal(
    simulated: Simulated, line: Line, http: httpx.AsyncClient, tmp_path: Path
) -> AsyncIterator[Daemon]:
    """A daemon whose way to WhatsApp is the line."""
    daemon = Daemon(tmp_path, line.url, simulated.root_key)
    try:
        await daemon.start(http)
        yield daemon
        assert await daemon.stop() == 0
        assert daemon.errors() == []
    finally:
        daemon.end()


async def test_polling_for_a_code_in_an_outage_does_not_use_up_the_rounds(
    tenant: Partner, people: People, alice: str, line: Line
) -> None:
    device = await tenant.device()
    for _ in range(5):
        assert (await tenant.ask("GET", f"{device.path}/qr"))["type"] == "pending"
    async with line.up():
        await device.link(people, alice)


async def test_device_that_finds_no_way_at_the_start_connects_later(
    tenant: Partner, people: People, alice: str, line: Line, mortal: Daemon
) -> None:
    async with line.up():
        device = await tenant.linked(people, alice)
        assert await mortal.stop() == 0
    await mortal.start(tenant.http)
    await device.until("waiting")
    async with line.up():
        await device.until("connected")

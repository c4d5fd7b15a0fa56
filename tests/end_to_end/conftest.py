from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from sitpayd.simulator.main import Simulator
from sitpayd.simulator.options import Options
from tests.support.daemon import Daemon
from tests.support.partner import Partner
from tests.support.people import People

# Longer than any wait of a send.
HTTP_S = 30.0
ALICE, BOB = "919876543210", "919812345678"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=HTTP_S) as client:
        yield client


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator with two accounts. A test that provokes a violation clears the list itself."""
    async with Simulator.start(Options(grace_s=0.05), control_port=0) as running:
        running.make_account(ALICE, "Alice")
        running.make_account(BOB, "Bob")
        yield running
        assert running.server.violations.broken == []


@pytest.fixture
def people(sim: Simulator, http: httpx.AsyncClient) -> People:
    return People(sim, http)


@pytest.fixture
async def daemon(sim: Simulator, http: httpx.AsyncClient, tmp_path: Path) -> AsyncIterator[Daemon]:
    """A running daemon, which stops in order afterwards and has nothing to complain about."""
    running = Daemon(tmp_path, sim.url, sim.root_key)
    try:
        await running.start(http)
        yield running
        if running.is_running:
            assert await running.stop() == 0
        assert running.errors() == []
    finally:
        running.end()


@pytest.fixture
async def partner(daemon: Daemon, http: httpx.AsyncClient) -> Partner:
    return await Partner.register(http, daemon.base_url)


Restart = Callable[[], Awaitable[None]]


@pytest.fixture
def crash(daemon: Daemon, http: httpx.AsyncClient) -> Restart:
    """Kills the daemon and starts it again, as systemd would."""

    async def restart() -> None:
        await daemon.kill()
        await daemon.start(http)

    return restart

"""One simulator for all, one daemon for all who leave it alive, and one alone for the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.daemon import ROOT, Daemon, environment
from tests.support.partner import Partner
from tests.support.people import People

# Longer than any wait of a send.
HTTP_S = 30.0


@dataclass(frozen=True)
class Simulated:
    """A running simulator."""

    url: str
    root_key: bytes
    control: str


@contextmanager
def simulating() -> Iterator[Simulated]:
    """Run a simulator."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sitpayd", "simulate"],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Simulated(told["url"], bytes.fromhex(told["root_key"]), told["control"])
        process.terminate()


@pytest.fixture(scope="session")
def simulated() -> Iterator[Simulated]:
    with simulating() as simulated:
        yield simulated


@pytest.fixture(scope="session")
def shared_daemon(
    simulated: Simulated, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    # Every test registers a partner of its own, all of them from here.
    directory, plenty = tmp_path_factory.mktemp("shared"), "1000"
    daemon = Daemon(directory, simulated.url, simulated.root_key, registrations_per_address=plenty)

    async def start() -> None:
        async with httpx.AsyncClient() as http:
            await daemon.start(http)

    try:
        trio.run(start)
        yield daemon
        assert trio.run(daemon.stop) == 0
    finally:
        daemon.end()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=HTTP_S) as client:
        yield client


@pytest.fixture
async def people(simulated: Simulated, http: httpx.AsyncClient) -> AsyncIterator[People]:
    """Everybody at the simulator, which has nothing to complain about afterwards."""
    everybody = People(simulated.control, http)
    yield everybody
    await everybody.all_right()
    assert await everybody.violations() == []


@pytest.fixture
async def alice(people: People) -> str:
    return await people.make("Alice")


@pytest.fixture
async def bob(people: People) -> str:
    return await people.make("Bob")


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """The daemon of all who do not stop it; it has nothing to complain about afterwards."""
    before = len(shared_daemon.errors())
    yield shared_daemon
    assert shared_daemon.errors()[before:] == []


@pytest.fixture
async def partner(daemon: Daemon, http: httpx.AsyncClient) -> Partner:
    """A partner of the daemon of all."""
    return await Partner.register(http, daemon.base_url)


@pytest.fixture
async def mortal(
    simulated: Simulated, http: httpx.AsyncClient, tmp_path: Path
) -> AsyncIterator[Daemon]:
    """A daemon of this test alone, running."""
    daemon = Daemon(tmp_path, simulated.url, simulated.root_key)
    try:
        await daemon.start(http)
        yield daemon
        if daemon.is_running:
            assert await daemon.stop() == 0
        assert daemon.errors() == []
    finally:
        daemon.end()


@pytest.fixture
async def tenant(mortal: Daemon, http: httpx.AsyncClient) -> Partner:
    """A partner of this test's own daemon."""
    return await Partner.register(http, mortal.base_url)


Restart = Callable[[], Awaitable[None]]


@pytest.fixture
def crash(mortal: Daemon, http: httpx.AsyncClient) -> Restart:
    """Kills this test's daemon and starts it again, as systemd would."""

    async def restart() -> None:
        await mortal.kill()
        await mortal.start(http)

    return restart

"""A real daemon at the limits of its process: descriptors, and an event loop that hangs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from sitpayd import files
from tests.end_to_end.conftest import HTTP_S, Simulated
from tests.support.daemon import Daemon
from tests.support.partner import Partner
from tests.support.people import People
from tests.support.waiting import eventually

LIMIT = 256
FEW_FILES = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
runpy.run_module("sitpayd", run_name="__main__")
"""
STALL_S = 4.0
STALLING = f"""
import runpy, signal, time
from sitpayd import daemon
daemon.WATCHDOG_INTERVAL_S = 0.1
signal.signal(signal.SIGUSR1, lambda *_: time.sleep({STALL_S}))
runpy.run_module("sitpayd", run_name="__main__")
"""


@asynccontextmanager
async def running(
    program: str, simulated: Simulated, directory: Path, http: httpx.AsyncClient
) -> AsyncIterator[Daemon]:
    daemon = Daemon(directory, simulated.url, simulated.root_key, program=("-c", program))
    try:
        await daemon.start(http)
        yield daemon
        assert await daemon.stop() == 0
    finally:
        daemon.end()


def cpu_s(daemon: Daemon) -> float:
    """What its process has used."""
    assert daemon.pid is not None
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def logged(daemon: Daemon, event: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return any(f"event={event} " in line for line in daemon.lines())

    return look


async def test_daemon_without_descriptors_keeps_its_devices_and_comes_back(
    simulated: Simulated,
    http: httpx.AsyncClient,
    tmp_path: Path,
    people: People,
    alice: str,
    bob: str,
) -> None:
    """F-28: 400 peers come to a process that may have 256 descriptors."""
    async with running(FEW_FILES, simulated, tmp_path, http) as daemon:
        partner = await Partner.register(http, daemon.base_url)
        device = await partner.linked(people, alice)
        with ExitStack() as stack:
            for _ in range(400):
                peer = stack.enter_context(socket.socket())
                peer.connect(("127.0.0.1", daemon.port))
            await eventually(logged(daemon, "api.doors_closed"), "the doors are closed")
            # Through a connection from before: nothing new can be opened here.
            assert (await device.send(bob, "meanwhile")).status_code == 200
            await people.wrong("drop_after", device)
            assert (await device.send(bob, "over a new socket")).status_code == 200
            before = cpu_s(daemon)
            await trio.sleep(1)
            assert cpu_s(daemon) - before < 0.3
        async with httpx.AsyncClient(timeout=HTTP_S) as newcomer:
            assert (await newcomer.get(f"{daemon.base_url}/readyz")).status_code == 200
        assert await people.reads(bob, "over a new socket") == ["meanwhile", "over a new socket"]
    errors = [line for line in daemon.errors() if "daemon.too_few_files" not in line]
    assert errors == []


async def test_limit_that_is_too_low_is_told_at_the_start(
    simulated: Simulated, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """F-28: in one line, with the number that would do."""
    async with running(FEW_FILES, simulated, tmp_path, http) as daemon:
        (told,) = [line for line in daemon.lines() if "daemon.too_few_files" in line]
    assert f"limit={LIMIT}" in told
    assert "LimitNOFILE" in told


async def test_idle_peers_by_the_thousand_slow_nobody_down(
    daemon: Daemon, http: httpx.AsyncClient, partner: Partner
) -> None:
    """T-34: two thousand sockets that say nothing, and one partner who works."""
    files.raise_limit()
    with ExitStack() as stack:
        for _ in range(2000):
            peer = stack.enter_context(socket.socket())
            peer.connect(("127.0.0.1", daemon.port))
        times = []
        for _ in range(100):
            began = trio.current_time()
            await partner.ask("GET", "/partner/me")
            times.append(trio.current_time() - began)
    assert sorted(times)[98] < 1.0


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield ear


async def test_event_loop_that_hangs_feeds_no_watchdog(
    simulated: Simulated, http: httpx.AsyncClient, tmp_path: Path, notifications: socket.socket
) -> None:
    """F-29: systemd, which would end it after 30 s, hears nothing while it is stuck."""
    heard: list[tuple[float, bytes]] = []

    async def listen() -> None:
        ear = trio.socket.from_stdlib_socket(notifications)
        while True:
            state = await ear.recv(100)
            heard.append((trio.current_time(), state))

    def pings_since(at: float) -> list[float]:
        return [t for t, state in heard if state == b"WATCHDOG=1" and t > at]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        async with running(STALLING, simulated, tmp_path, http) as daemon:
            await eventually(_some(lambda: pings_since(0)), "the watchdog is fed")
            daemon.send(signal.SIGUSR1)
            began = trio.current_time()
            await eventually(logged(daemon, "loop.stalled"), "the stall is told")
            resumed = trio.current_time()
            await eventually(_some(lambda: pings_since(resumed)), "the watchdog is fed again")
        nursery.cancel_scope.cancel()
    assert resumed - began > STALL_S - 0.5
    assert not [t for t in pings_since(began + 0.5) if t < began + STALL_S - 0.5]
    assert len([line for line in daemon.lines() if "event=loop.stalled " in line]) == 1


def _some(look: Callable[[], list[float]]) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return bool(look())

    return found

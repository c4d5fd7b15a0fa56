"""The soak: real sockets, random faults, and every status that is told held against the truth.

The simulator lives in this process, so that its view is at hand; the daemon in one of its own, so
that its memory, its file descriptors and its tasks are its own.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import httpx
import trio

from bench.http import Http
from bench.processes import rss_kib
from bench.seed import SeededDevice, seed
from sitpayd.simulator.main import Simulator
from tests.soak.faults import draw
from tests.soak.truth import BEHIND_S, CONNECTED, Truth
from tests.support.daemon import ADMIN_KEY, Daemon, run_command

PAGE_LEN: Final = 500
LOOK_EACH_S: Final = 1.0
RESUME_AFTER_S: Final = 5.0
ADMIN: Final = {"x-admin-key": ADMIN_KEY}
# Descriptors and tasks beside those of the devices, which come and go: requests under way.
BESIDE: Final = 20
# The first part of a long run is for caches to fill and for the heap to find its size.
WARM_UP_SHARE: Final = 0.3
MIN_SAMPLES: Final = 300
MAX_SLOPE_KIB_PER_MINUTE: Final = 1024.0


@dataclass(frozen=True, slots=True)
class Size:
    """How long, how many, how rough; bound_s: seconds for each wait for all to be connected."""

    devices: int
    seconds: float
    blows_per_s: float
    bound_s: float


@dataclass(slots=True)
class Soaked:
    """What came of it.

    Attributes:
        findings: what must not be; empty if all is well.
        blows: how often each thing went wrong.
        rss_kib: of the daemon, once a second.
    """

    findings: list[str] = field(default_factory=list)
    blows: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    rss_kib: list[int] = field(default_factory=list)
    files: tuple[int, int] = (0, 0)
    tasks: tuple[int, int] = (0, 0)

    @property
    def slope_kib_per_minute(self) -> float:
        """How memory grew after the warm-up; not a number after a short run."""
        samples = self.rss_kib[int(len(self.rss_kib) * WARM_UP_SHARE) :]
        if len(samples) < MIN_SAMPLES:
            return math.nan
        seconds = [index * LOOK_EACH_S for index in range(len(samples))]
        return 60.0 * statistics.linear_regression(seconds, samples).slope


class _Soak:
    """One run."""

    def __init__(self, simulator: Simulator, daemon: Daemon, http: httpx.AsyncClient) -> None:
        self.server = simulator.server
        self.daemon = daemon
        self.http = http
        self.truth = Truth(simulator.server)
        self.devices: dict[str, SeededDevice] = {}
        self.result = Soaked()

    async def told(self) -> dict[str, str]:
        """Every device's status as the daemon tells it, by its number."""
        told: dict[str, str] = {}
        after = ""
        while True:
            answer = await self.get(f"/admin/devices?limit={PAGE_LEN}&after={after}")
            devices = answer["devices"]
            assert isinstance(devices, list)
            for device in devices:
                told[self.devices[device["session_id"]].phone] = device["status"]
            if answer["next"] is None:
                return told
            after = str(answer["next"])

    async def get(self, path: str) -> dict[str, object]:
        """Ask as the operator."""
        answer = await self.http.get(self.daemon.base_url + path, headers=ADMIN)
        answer.raise_for_status()
        told: dict[str, object] = answer.json()
        return told

    async def until_all_connected(self, within_s: float) -> None:
        """Wait until the daemon calls all connected, and the server agrees."""
        with trio.fail_after(within_s):
            while True:
                told = await self.told()
                self.truth.judge(told, trio.current_time())
                connected = all(status == CONNECTED for status in told.values())
                if connected and len(self.server.connected) == len(self.devices):
                    return
                await trio.sleep(LOOK_EACH_S)

    async def watch(self) -> None:
        """Judge every status, and look at the daemon's memory, each second."""
        assert self.daemon.pid is not None
        while True:
            told = await self.told()
            self.truth.judge(told, trio.current_time())
            self.result.rss_kib.append(rss_kib(self.daemon.pid))
            await trio.sleep(LOOK_EACH_S)

    async def strike(self, random: Random, per_s: float, nursery: trio.Nursery) -> None:
        """Let things go wrong, one after the other."""
        devices = sorted(self.devices.values(), key=lambda it: it.phone)
        while True:
            await trio.sleep(random.expovariate(per_s))
            chosen = random.choice(devices)
            device = next(self.server.phone(chosen.phone).account.companions)
            client = self.server.client(device)
            if client is None:
                continue
            name, blow = draw(random)
            self.result.blows[name] = self.result.blows.get(name, 0) + 1
            self.truth.struck(chosen.phone, trio.current_time(), blow.unnoticed_s)
            await blow.strike(self.server, device, client)
            if blow.needs_a_person:
                nursery.start_soon(self.resume, chosen)

    async def resume(self, device: SeededDevice) -> None:
        """What a person does who sees that another program has replaced the device."""
        await trio.sleep(RESUME_AFTER_S)
        path = f"/admin/devices/{device.session_id}/resume"
        await self.http.post(self.daemon.base_url + path, headers=ADMIN)

    async def held(self) -> tuple[int, int]:
        """The daemon's file descriptors and tasks."""
        files = len(list(Path(f"/proc/{self.daemon.pid}/fd").iterdir()))
        page = (await self.http.get(f"{self.daemon.base_url}/metrics", headers=ADMIN)).text
        found = re.search(r"(?m)^sitpayd_tasks (\d+)", page)
        assert found is not None
        return files, int(found[1])


async def soak(seed_of_faults: int, size: Size, directory: Path) -> Soaked:
    """Let a daemon with so many devices live through faults; tells what must not be."""
    async with _begun(size, directory) as run:
        await run.until_all_connected(size.bound_s)
        files, tasks = await run.held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.watch)
            nursery.start_soon(run.strike, Random(seed_of_faults), size.blows_per_s, nursery)
            await trio.sleep(size.seconds)
            nursery.cancel_scope.cancel()
        await _resume_all(run)
        await run.until_all_connected(size.bound_s)
        # Connections that were given up have their time to be closed.
        await trio.sleep(BEHIND_S / 4)
        files_after, tasks_after = await run.held()
        result = run.result
        result.files, result.tasks = (files, files_after), (tasks, tasks_after)
        result.looks = run.truth.looks
        result.findings += _findings(run, result)
    return result


async def _resume_all(run: _Soak) -> None:
    run.server.faults.clear()
    for device in run.devices.values():
        answer = await run.get(f"/admin/devices?ids={device.session_id}")
        devices = answer["devices"]
        assert isinstance(devices, list)
        if devices[0]["status"] == "replaced":
            path = f"/admin/devices/{device.session_id}/resume"
            await run.http.post(run.daemon.base_url + path, headers=ADMIN)


def _findings(run: _Soak, result: Soaked) -> list[str]:
    findings = [*run.truth.lies]
    for what, (before, after) in (("file descriptors", result.files), ("tasks", result.tasks)):
        if after > before + BESIDE:
            findings.append(f"{before} {what} at the start, {after} at the end")
    if result.slope_kib_per_minute > MAX_SLOPE_KIB_PER_MINUTE:
        findings.append(f"memory grew by {result.slope_kib_per_minute:.0f} KiB a minute")
    crashed = [line for line in run.daemon.lines() if "event=device.crashed" in line]
    findings += crashed
    findings += [str(violation) for violation in run.server.violations.broken]
    return findings


@asynccontextmanager
async def _begun(size: Size, directory: Path) -> AsyncIterator[_Soak]:
    """A simulator, and a daemon with seeded devices."""
    async with (
        Simulator.start(control_port=0) as simulator,
        httpx.AsyncClient(timeout=size.bound_s) as http,
    ):
        assert simulator.control_url is not None
        daemon = Daemon(directory, simulator.url, simulator.root_key)
        daemon.state_dir.mkdir(mode=0o700)
        migrated = await run_command("migrate", cwd=directory, **daemon.settings)
        assert migrated.status == 0, migrated.errors
        control = Http(simulator.control_url)
        seeded = await seed(daemon.state_dir, control, size.devices)
        await control.close()
        run = _Soak(simulator, daemon, http)
        run.devices = {device.session_id: device for device in seeded.devices}
        try:
            await daemon.start(http)
            yield run
            await daemon.stop()
        finally:
            daemon.end()

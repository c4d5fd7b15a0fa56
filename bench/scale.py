"""Scale: thousands of connected devices in one daemon: start, rest, storms.

Devices are seeded, so that none has to be linked; the simulator says who is connected and how fast
the daemon dials. While devices come back a partner asks for a device's status again and again: what
such a request takes is what the storm costs everybody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from bench.http import Http, HttpError, Json
from bench.processes import BenchError, rss_kib
from bench.seed import Seed, seed
from bench.spending import Processes, percentile_ms, spending, timed
from bench.stand import Stand

MIB: Final = 1024
SETTLE_S: Final = 3.0
PROBE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Coming:
    """All devices on their way to `connected`.

    Attributes:
        seconds: until all were connected; since the start of the daemon's process, or the server's
            return.
        peak_dials: the most within any second, as the server counted.
        api_p99_ms: of a status request meanwhile; count: of those; failed: of those.
    """

    seconds: float
    daemon_cpu_s: float
    simulator_cpu_s: float
    dials: int
    peak_dials: int
    count: int
    failed: int
    api_p50_ms: float
    api_p99_ms: float


@dataclass(frozen=True, slots=True)
class Storm:
    """The server was away for so long, and everybody came back."""

    away_s: float
    coming: Coming


@dataclass(slots=True)
class Scale:
    """One daemon with so many devices.

    Attributes:
        tls: whether the connections were encrypted as the real ones are.
        kib_per_device: memory of an idle device, KiB, against a daemon without devices.
        cpu_percent: of one core, while all rest and ping; pings_per_s: as they are due.
        ready_s: from the start of the process to HTTP.
    """

    devices: int
    tls: bool
    seed_s: float
    ready_s: float = 0.0
    cold: Coming | None = None
    kib_per_device: float = 0.0
    daemon_rss_mib: float = 0.0
    simulator_rss_mib: float = 0.0
    idle_s: float = 0.0
    cpu_percent: float = 0.0
    storms: list[Storm] = field(default_factory=list)
    restart_ready_s: float | None = None


@dataclass(slots=True)
class _Probe:
    """What one partner's requests took."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0


async def measure_scale(
    stand: Stand, scale: Scale, seeded: Seed, empty_kib: int, idle_s: float, away_s: Sequence[float]
) -> None:
    """Measure one daemon with seeded devices; what is measured is in `scale` at once."""
    began = trio.current_time()
    await stand.control.delete("/load")
    async with stand.daemon() as processes:
        scale.ready_s = trio.current_time() - began
        scale.cold = await _all_connected(stand, processes, seeded, since=began)
        await trio.sleep(SETTLE_S)
        rss = rss_kib(processes.daemon)
        scale.kib_per_device = (rss - empty_kib) / scale.devices
        scale.daemon_rss_mib = rss / MIB
        scale.simulator_rss_mib = rss_kib(processes.simulator) / MIB
        with spending(processes) as spent:
            await trio.sleep(idle_s)
        scale.idle_s = spent.seconds
        scale.cpu_percent = 100 * spent.daemon_s / spent.seconds
        for seconds in away_s:
            await stand.control.delete("/load")
            # From before the request: it is answered when the last socket is cut.
            back = trio.current_time() + seconds
            await stand.control.post("/outage", {"seconds": seconds})
            coming = await _all_connected(stand, processes, seeded, since=back)
            scale.storms.append(Storm(seconds, coming))
    began = trio.current_time()
    async with stand.daemon():
        scale.restart_ready_s = trio.current_time() - began


async def empty_daemon_kib(stand: Stand) -> int:
    """Memory of a daemon without devices."""
    async with stand.daemon() as processes:
        await trio.sleep(SETTLE_S)
        return rss_kib(processes.daemon)


async def seeded_scale(stand: Stand, devices: int, *, tls: bool) -> tuple[Scale, Seed]:
    """Seed so many devices; the daemon must not run."""
    began = trio.current_time()
    made = await seed(stand.directory, stand.control, devices)
    return Scale(devices, tls, trio.current_time() - began), made


async def _all_connected(
    stand: Stand, processes: Processes, seeded: Seed, *, since: float
) -> Coming:
    """Wait until all devices are connected; the stage's own time bounds it."""
    wanted = len(seeded.devices)
    with spending(processes) as spent:
        async with _probing(stand, seeded) as probe:
            load = await stand.until_connected(wanted)
        came = trio.current_time() - since
    if not probe.latencies_s:
        raise BenchError("the API answered nothing meanwhile")
    return Coming(
        seconds=came,
        daemon_cpu_s=spent.daemon_s,
        simulator_cpu_s=spent.simulator_s,
        dials=_number(load, "dials"),
        peak_dials=_number(load, "peak_dials"),
        count=len(probe.latencies_s),
        failed=probe.failed,
        api_p50_ms=percentile_ms(probe.latencies_s, 0.5),
        api_p99_ms=percentile_ms(probe.latencies_s, 0.99),
    )


@asynccontextmanager
async def _probing(stand: Stand, seeded: Seed) -> AsyncIterator[_Probe]:
    """Ask for the status of one device after the other within the block."""
    probe, http = _Probe(), Http(stand.environment["SITPAYD_BASE_URL"])

    async def ask() -> None:
        number = 0
        while True:
            device = seeded.devices[number % len(seeded.devices)]
            number += 1
            status = f"/partner/devices/{device.session_id}/status"
            try:
                await timed(probe.latencies_s, http.get(status, seeded.headers))
            except HttpError:
                probe.failed += 1
            await trio.sleep(PROBE_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        yield probe
        nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await http.close()


def _number(told: Json, name: str) -> int:
    value = told[name]
    assert isinstance(value, int)
    return value

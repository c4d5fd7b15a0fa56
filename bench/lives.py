"""Lives: what devices cost apart from their messages: linking, resting, coming back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from bench.fleet import Feed, Fleet, watch_feed
from bench.processes import BenchError, cpu_s, rss_kib
from bench.spending import Processes, percentile_ms, spending, timed
from bench.stand import Stand

# Receipts of the last messages still come in when the last ack is there.
SETTLE_S: Final = 2.0
PAIRERS: Final = 8
MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Pairing:
    """Devices linked, from their creation to `connected`; CPU is per device, milliseconds.

    Attributes:
        wanted: how many were to be linked in the time there was.
    """

    wanted: int
    count: int
    concurrent: int
    seconds: float
    per_second: float
    p50_ms: float
    daemon_cpu_ms: float
    simulator_cpu_ms: float
    bench_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Connected devices that do nothing; memory is KiB per device, CPU percent of one core."""

    devices: int
    kib_per_device: float
    daemon_rss_mib: float
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Reconnect:
    """All devices after a start of the daemon; times are from the start of its process."""

    devices: int
    ready_s: float
    connected_s: float
    cpu_ms: float
    kib_per_device: float
    daemon_rss_mib: float


async def pair(
    fleet: Fleet, feed: Feed, processes: Processes, upto: int, within_s: float
) -> Pairing:
    """Link devices until there are so many, or the time is over."""
    before = len(fleet.devices)
    numbers = iter(range(before, upto))
    with spending(processes) as spent:
        end = trio.current_time() + within_s

        async def work() -> None:
            while trio.current_time() < end:
                number = next(numbers, None)
                if number is None:
                    return
                await timed(spent.latencies_s, fleet.link(number, feed))

        async with trio.open_nursery() as nursery:
            for _ in range(PAIRERS):
                nursery.start_soon(work)
    count = len(fleet.devices) - before
    if not count:
        raise BenchError(f"no device was linked within {within_s:.0f} s")
    return Pairing(
        wanted=upto - before,
        count=count,
        concurrent=PAIRERS,
        seconds=spent.seconds,
        per_second=count / spent.seconds,
        p50_ms=percentile_ms(spent.latencies_s, 0.5),
        daemon_cpu_ms=1000 * spent.daemon_s / count,
        simulator_cpu_ms=1000 * spent.simulator_s / count,
        bench_cpu_ms=1000 * spent.bench_s / count,
    )


async def rest(processes: Processes, devices: int, before: tuple[int, int], seconds: float) -> Idle:
    """Watch devices that do nothing.

    Args:
        before: how many there were earlier, and the daemon's memory then, KiB.
    """
    await trio.sleep(SETTLE_S)
    with spending(processes) as spent:
        await trio.sleep(seconds)
    earlier, kib = before
    rss = rss_kib(processes.daemon)
    return Idle(
        devices=devices,
        kib_per_device=(rss - kib) / (devices - earlier),
        daemon_rss_mib=rss / MIB,
        cpu_percent=100 * spent.daemon_s / spent.seconds,
    )


async def come_back(stand: Stand, devices: int, empty: tuple[int, float]) -> Reconnect:
    """Start the daemon with devices it knows, until all are connected.

    Args:
        empty: memory, KiB, and processor time, s, of one that was started without devices.
    """
    began = trio.current_time()
    async with stand.daemon() as processes:
        ready = trio.current_time()
        async with watch_feed(stand.environment) as feed:
            await feed.until_count(devices)
        connected, pid = trio.current_time(), processes.daemon
        cpu, rss = cpu_s(pid), rss_kib(pid)
    return Reconnect(
        devices=devices,
        ready_s=ready - began,
        connected_s=connected - began,
        cpu_ms=1000 * (cpu - empty[1]) / devices,
        kib_per_device=(rss - empty[0]) / devices,
        daemon_rss_mib=rss / MIB,
    )

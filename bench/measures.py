"""Measures: what is done to the daemon, and what it cost.

Loops are closed: a bounded number of tasks, each with one request under way and one device of its
own, since a device sends one message after the other anyway. Only the paced measure offers its
load whether the daemon keeps up or not, and counts waiting as latency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import getpid
from pathlib import Path

import trio

from bench.fleet import Feed, Fleet
from bench.processes import commits, cpu_s, rss_kib

# Receipts of the last messages still come in when the last ack is there.
SETTLE_S = 2.0
PAIRERS = 8
MIB = 1024


@dataclass(frozen=True, slots=True)
class Processes:
    """Who is measured: process ids, and the daemon's database."""

    daemon: int
    simulator: int
    database: Path


@dataclass(slots=True)
class Spent:
    """What a stretch of time cost, in all: seconds, and transactions of the daemon."""

    seconds: float = 0.0
    daemon_s: float = 0.0
    simulator_s: float = 0.0
    bench_s: float = 0.0
    commits: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        """The latency that so large a share of the requests did not exceed, ms."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@contextmanager
def spending(processes: Processes) -> Iterator[Spent]:
    """Measure what the block costs everybody."""
    spent = Spent()
    pids = (processes.daemon, processes.simulator, getpid())
    began, counted = trio.current_time(), commits(processes.database)
    before = [cpu_s(pid) for pid in pids]
    yield spent
    spent.seconds = trio.current_time() - began
    spent.commits = (commits(processes.database) - counted) % 2**32
    spent.daemon_s, spent.simulator_s, spent.bench_s = (
        cpu_s(pid) - at_first for pid, at_first in zip(pids, before, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Sends:
    """Messages from HTTP to the server's ack; times are milliseconds, CPU is per message.

    Attributes:
        offered_per_second: None: as many as went.
        commits: transactions per message, each with one fsync of the write-ahead log.
    """

    devices: int
    concurrent: int
    offered_per_second: float | None
    count: int
    per_second: float
    p50_ms: float
    p99_ms: float
    daemon_cpu_ms: float
    simulator_cpu_ms: float
    bench_cpu_ms: float
    commits: float


@dataclass(frozen=True, slots=True)
class Pairing:
    """Devices linked, from their creation to `connected`; CPU is per device, milliseconds."""

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


async def send_closed(
    fleet: Fleet, processes: Processes, devices: int, concurrent: int, seconds: float
) -> Sends:
    """Send as fast as acks come, from this many devices, for so long."""
    free = deque(fleet.devices[:devices])
    with spending(processes) as spent:
        end = trio.current_time() + seconds

        async def work() -> None:
            while trio.current_time() < end:
                device = free.popleft()
                await _timed(spent, fleet.send(device))
                free.append(device)

        async with trio.open_nursery() as nursery:
            for _ in range(concurrent):
                nursery.start_soon(work)
    return _sends(spent, devices, concurrent, None)


async def send_once(
    fleet: Fleet, processes: Processes, first: int, concurrent: int, within_s: float
) -> Sends:
    """Let each device from this one on write to somebody it does not know yet."""
    new = deque(fleet.devices[first:])
    with spending(processes) as spent:
        end = trio.current_time() + within_s

        async def work() -> None:
            while new and trio.current_time() < end:
                device = new.popleft()
                await _timed(spent, fleet.send(device))

        async with trio.open_nursery() as nursery:
            for _ in range(concurrent):
                nursery.start_soon(work)
    return _sends(spent, len(spent.latencies_s), concurrent, None)


async def send_paced(
    fleet: Fleet, processes: Processes, per_second: float, seconds: float
) -> Sends:
    """Send at a steady pace from all devices in turn; latency counts from when it was due."""
    count = int(per_second * seconds)
    with spending(processes) as spent:
        began = trio.current_time()

        async def one(number: int) -> None:
            due = began + number / per_second
            await trio.sleep_until(due)
            await fleet.send(fleet.devices[number % len(fleet.devices)])
            spent.latencies_s.append(trio.current_time() - due)

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, number)
    return _sends(spent, len(fleet.devices), 0, per_second)


async def pair(
    fleet: Fleet, feed: Feed, processes: Processes, upto: int, within_s: float
) -> Pairing:
    """Link devices until there are so many, or the time is over."""
    numbers = iter(range(len(fleet.devices), upto))
    count = len(fleet.devices)
    with spending(processes) as spent:
        end = trio.current_time() + within_s

        async def work() -> None:
            for number in numbers:
                await _timed(spent, fleet.link(number, feed))
                if trio.current_time() >= end:
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(PAIRERS):
                nursery.start_soon(work)
    count = len(fleet.devices) - count
    return Pairing(
        count=count,
        concurrent=PAIRERS,
        seconds=spent.seconds,
        per_second=count / spent.seconds,
        p50_ms=spent.percentile_ms(0.5),
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


async def _timed(spent: Spent, what: Awaitable[None]) -> None:
    began = trio.current_time()
    await what
    spent.latencies_s.append(trio.current_time() - began)


def _sends(spent: Spent, devices: int, concurrent: int, offered: float | None) -> Sends:
    count = len(spent.latencies_s)
    return Sends(
        devices=devices,
        concurrent=concurrent,
        offered_per_second=offered,
        count=count,
        per_second=count / spent.seconds,
        p50_ms=spent.percentile_ms(0.5),
        p99_ms=spent.percentile_ms(0.99),
        daemon_cpu_ms=1000 * spent.daemon_s / count,
        simulator_cpu_ms=1000 * spent.simulator_s / count,
        bench_cpu_ms=1000 * spent.bench_s / count,
        commits=spent.commits / count,
    )

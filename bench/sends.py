"""Sends: messages posted in closed and in open loops, and what each cost.

In a closed loop a bounded number of tasks have one request under way each, with a device of its
own, since a device sends one message after the other anyway. An open loop offers its load whether
the daemon keeps up or not, and counts waiting as latency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from bench.fleet import Device
from bench.http import TooManyRequests
from bench.processes import BenchError
from bench.spending import Processes, Spent, percentile_ms, spending, timed

# Requests of an open loop that are under way; the others wait, and that counts.
MAX_UNDER_WAY: Final = 128
# An open loop that the daemon cannot follow is broken off after so many times its length.
PATIENCE: Final = 1.5

# Posts one message of a device: `Fleet.send` or `Fleet.queue`.
Post = Callable[[Device], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sends:
    """Messages from the request to its answer; times are milliseconds, CPU is per message.

    Attributes:
        devices: how many took part.
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


async def send_closed(
    post: Post, devices: Sequence[Device], processes: Processes, concurrent: int, seconds: float
) -> Sends:
    """Send as fast as answers come, for so long or until a partner asks more often than it may."""
    free = deque(devices)
    with spending(processes) as spent:
        end = trio.current_time() + seconds

        async def work() -> None:
            while trio.current_time() < end:
                device = free.popleft()
                try:
                    await timed(spent.latencies_s, post(device))
                except TooManyRequests:
                    return
                free.append(device)

        async with trio.open_nursery() as nursery:
            for _ in range(concurrent):
                nursery.start_soon(work)
    return _sends(spent, len(devices), concurrent, None)


async def send_once(
    post: Post, devices: Sequence[Device], processes: Processes, concurrent: int, within_s: float
) -> Sends:
    """Send one message from each of these devices, as far as the time reaches."""
    new = deque(devices)
    with spending(processes) as spent:
        end = trio.current_time() + within_s

        async def work() -> None:
            while new and trio.current_time() < end:
                await timed(spent.latencies_s, post(new.popleft()))

        async with trio.open_nursery() as nursery:
            for _ in range(concurrent):
                nursery.start_soon(work)
    return _sends(spent, len(spent.latencies_s), concurrent, None)


async def send_paced(
    post: Post, devices: Sequence[Device], processes: Processes, per_second: float, seconds: float
) -> Sends:
    """Send at a steady pace from these devices in turn."""
    with spending(processes) as spent:
        await offer(post, devices, per_second, seconds, spent.latencies_s)
    return _sends(spent, len(devices), 0, per_second)


async def offer(
    post: Post,
    devices: Sequence[Device],
    per_second: float,
    seconds: float,
    latencies_s: list[float],
) -> None:
    """Post at a steady pace from these devices in turn; latency counts from when it was due."""
    under_way = trio.CapacityLimiter(MAX_UNDER_WAY)
    began = trio.current_time()
    end = began + PATIENCE * seconds

    async def one(number: int) -> None:
        due = began + number / per_second
        await trio.sleep_until(due)
        async with under_way:
            if trio.current_time() < end:
                await post(devices[number % len(devices)])
                latencies_s.append(trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        for number in range(int(per_second * seconds)):
            nursery.start_soon(one, number)


def _sends(spent: Spent, devices: int, concurrent: int, offered: float | None) -> Sends:
    count = len(spent.latencies_s)
    if not count:
        raise BenchError("no message was answered in time")
    return Sends(
        devices=devices,
        concurrent=concurrent,
        offered_per_second=offered,
        count=count,
        per_second=count / spent.seconds,
        p50_ms=percentile_ms(spent.latencies_s, 0.5),
        p99_ms=percentile_ms(spent.latencies_s, 0.99),
        daemon_cpu_ms=1000 * spent.daemon_s / count,
        simulator_cpu_ms=1000 * spent.simulator_s / count,
        bench_cpu_ms=1000 * spent.bench_s / count,
        commits=spent.commits / count,
    )

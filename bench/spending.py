"""Spending: how long the requests of a stretch of time took, and what it cost everybody."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import getpid
from pathlib import Path

import trio

from bench.processes import commits, cpu_s


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


async def timed(latencies_s: list[float], what: Awaitable[object]) -> None:
    """Wait for something, and note how long it took."""
    began = trio.current_time()
    await what
    latencies_s.append(trio.current_time() - began)


def percentile_ms(latencies_s: Sequence[float], share: float) -> float:
    """The latency that so large a share of the requests did not exceed, ms."""
    ordered = sorted(latencies_s)
    return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]

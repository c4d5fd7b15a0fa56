"""The bench: what a message, a pairing and an idle device cost the daemon.

Run as `python -m bench`. Simulator, daemon and load generator are three processes of this machine;
everything goes over loopback. It stops by itself, ends only what it started, prints a table and
writes bench/result.json.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import trio

from bench.fleet import Feed, Fleet, watch_feed
from bench.http import Http, HttpError
from bench.measures import (
    MIB,
    Idle,
    Pairing,
    Processes,
    Reconnect,
    Sends,
    pair,
    rest,
    send_closed,
    send_once,
    send_paced,
)
from bench.processes import (
    BenchError,
    cpu_s,
    daemon,
    environment_of,
    migrate,
    rss_kib,
    simulator,
    tail,
)
from bench.table import Machine, machine, show

RESULT = Path(__file__).parent / "result.json"
# The whole run, whatever happens.
WITHIN_S = 230.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; seconds, and counts.

    Attributes:
        fleets: numbers of connected devices, growing.
        concurrent: requests under way in closed loops; fewer where there are fewer devices.
        first_s: for all first messages, as far as it reaches.
        pair_s: for all pairings; then it goes on with the devices that there are.
        pace: messages a second that are offered without waiting for answers.
    """

    fleets: tuple[int, ...]
    concurrent: int
    send_s: float
    first_s: float
    pace_s: float
    idle_s: float
    pair_s: float
    pace: float


FULL = Plan((1, 100, 1000), 16, 8.0, 12.0, 10.0, 15.0, 110.0, 100.0)
QUICK = Plan((1, 10, 40), 8, 2.0, 2.0, 3.0, 2.0, 12.0, 50.0)


@dataclass(slots=True)
class Result:
    """Everything that was measured, as it stands in the JSON; None: the time was over before."""

    machine: Machine
    quick: bool
    sends: list[Sends] = field(default_factory=list)
    first_sends: list[Sends] = field(default_factory=list)
    pairing: list[Pairing] = field(default_factory=list)
    paced_sends: Sends | None = None
    idle: Idle | None = None
    reconnect: Reconnect | None = None
    violations: int | None = None
    seconds: float = 0.0


async def _run(plan: Plan, result: Result, directory: Path) -> None:
    admin_key = secrets.token_urlsafe(32)
    log, database = directory / "daemon.log", directory / "sitpayd.db"
    async with simulator() as (simulator_pid, simulated):
        environment = environment_of(directory, admin_key, simulated)
        base_url = environment["SITPAYD_BASE_URL"]
        # By itself: what a migration loads stays in the memory of its process.
        await migrate(environment)
        fleet = Fleet(Http(base_url), Http(simulated["control"]))
        async with daemon(environment, log) as pid:
            processes = Processes(pid, simulator_pid, database)
            empty = (rss_kib(pid), cpu_s(pid))
            async with watch_feed(base_url, admin_key) as feed:
                await fleet.prepare()
                await _grow(plan, result, fleet, feed, processes)
            _say(f"sending {plan.pace:g} messages a second")
            result.paced_sends = await send_paced(fleet, processes, plan.pace, plan.pace_s)
            result.violations = len(await fleet.violations())
        _say("starting the daemon again")
        result.reconnect = await _reconnect(environment, log, admin_key, len(fleet.devices), empty)


async def _grow(plan: Plan, result: Result, fleet: Fleet, feed: Feed, processes: Processes) -> None:
    """Link more and more devices; send from them, and let the last lot rest before that."""
    left_s = plan.pair_s
    for size in plan.fleets:
        before = (len(fleet.devices), rss_kib(processes.daemon))
        _say(f"linking devices up to {size}")
        paired = await pair(fleet, feed, processes, size, left_s)
        result.pairing.append(paired)
        left_s -= paired.seconds
        linked = len(fleet.devices)
        if size == plan.fleets[-1]:
            _say(f"letting {linked} devices rest")
            result.idle = await rest(processes, linked, before, plan.idle_s)
        _say(f"sending from {linked} devices")
        concurrent = min(linked, plan.concurrent)
        first = await send_once(fleet, processes, before[0], concurrent, plan.first_s)
        result.first_sends.append(first)
        result.sends.append(await send_closed(fleet, processes, linked, concurrent, plan.send_s))


async def _reconnect(
    environment: dict[str, str], log: Path, admin_key: str, devices: int, empty: tuple[int, float]
) -> Reconnect:
    """Start the daemon with devices it knows, until all are connected.

    Args:
        empty: memory, KiB, and processor time, s, of one that was started without devices.
    """
    began = trio.current_time()
    async with daemon(environment, log) as pid:
        ready = trio.current_time()
        async with watch_feed(environment["SITPAYD_BASE_URL"], admin_key) as feed:
            await feed.until_count(devices)
        connected, cpu, rss = trio.current_time(), cpu_s(pid), rss_kib(pid)
    return Reconnect(
        devices=devices,
        ready_s=ready - began,
        connected_s=connected - began,
        cpu_ms=1000 * (cpu - empty[1]) / devices,
        kib_per_device=(rss - empty[0]) / devices,
        daemon_rss_mib=rss / MIB,
    )


async def _bounded(plan: Plan, result: Result) -> str | None:
    """Run within the time; returns why it ended before its end, if it did."""
    began = trio.current_time()
    failure = None
    with tempfile.TemporaryDirectory(prefix="sitpayd-bench-") as name:
        directory = Path(name)
        with trio.move_on_after(WITHIN_S) as scope:
            try:
                await _run(plan, result, directory)
            except* (BenchError, HttpError) as group:
                failure = f"{_innermost(group)}\n{tail(directory / 'daemon.log')}"
        if scope.cancelled_caught:
            failure = f"not done within {WITHIN_S:g} s: is the machine busy?"
    result.seconds = trio.current_time() - began
    return failure


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def _say(text: str) -> None:
    print(f"  • {text} …", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 s instead of 4 minutes")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the JSON goes")
    options = parser.parse_args(arguments)
    result = Result(machine(), options.quick)
    failure = trio.run(_bounded, QUICK if options.quick else FULL, result)
    options.output.write_text(json.dumps(asdict(result), indent=2) + "\n")
    show(result)
    print(f"\nwritten to {options.output}")
    if failure is not None:
        print(f"The bench ended early: {failure}", file=sys.stderr)
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main())

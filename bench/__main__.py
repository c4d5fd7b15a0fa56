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
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from bench.fleet import Fleet, watch_feed
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
WITHIN_S = 235.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; seconds, and counts.

    Attributes:
        fleets: numbers of connected devices, growing.
        concurrent: requests under way in closed loops; fewer where there are fewer devices.
        pair_within_s: then it goes on with the devices that there are.
        paces: messages a second that are offered without waiting for answers.
    """

    fleets: tuple[int, ...]
    concurrent: int
    send_s: float
    pace_s: float
    idle_s: float
    pair_within_s: float
    paces: tuple[float, ...]


FULL = Plan((1, 100, 1000), 16, 10.0, 10.0, 20.0, 120.0, (100.0, 200.0))
QUICK = Plan((1, 10, 40), 8, 3.0, 3.0, 3.0, 20.0, (50.0,))


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that was measured, as it stands in the JSON."""

    machine: Machine
    quick: bool
    seconds: float
    sends: list[Sends]
    first_sends: list[Sends]
    paced_sends: list[Sends]
    pairing: list[Pairing]
    idle: Idle
    reconnect: Reconnect
    violations: int


async def _run(plan: Plan, quick: bool, directory: Path) -> Result:
    began = trio.current_time()
    admin_key = secrets.token_urlsafe(32)
    log, database = directory / "daemon.log", directory / "sitpayd.db"
    sends: list[Sends] = []
    first_sends: list[Sends] = []
    paced: list[Sends] = []
    pairing: list[Pairing] = []
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
                await fleet.prepare(plan.fleets[-1])
                for size in plan.fleets:
                    before = (len(fleet.devices), rss_kib(pid))
                    _say(f"linking devices up to {size}")
                    pairing.append(await pair(fleet, feed, processes, size, plan.pair_within_s))
                    linked = len(fleet.devices)
                    if size == plan.fleets[-1]:
                        _say(f"letting {linked} devices rest")
                        idle = await rest(processes, linked, before, plan.idle_s)
                    _say(f"sending from {linked} devices")
                    concurrent = min(linked, plan.concurrent)
                    first_sends.append(
                        await send_once(fleet, processes, before[0], min(concurrent, linked))
                    )
                    sends.append(
                        await send_closed(fleet, processes, linked, concurrent, plan.send_s)
                    )
                for pace in plan.paces:
                    _say(f"sending {pace:g} messages a second")
                    paced.append(await send_paced(fleet, processes, pace, plan.pace_s))
        _say("starting the daemon again")
        reconnect = await _reconnect(environment, log, admin_key, len(fleet.devices), empty)
        violations = await fleet.violations()
    return Result(
        machine=machine(),
        quick=quick,
        seconds=trio.current_time() - began,
        sends=sends,
        first_sends=first_sends,
        paced_sends=paced,
        pairing=pairing,
        idle=idle,
        reconnect=reconnect,
        violations=len(violations),
    )


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


async def _bounded(plan: Plan, quick: bool) -> Result | None:
    with tempfile.TemporaryDirectory(prefix="sitpayd-bench-") as name:
        directory = Path(name)
        failed: list[str] = []
        try:
            with trio.fail_after(WITHIN_S):
                result = await _run(plan, quick, directory)
        except* (BenchError, HttpError) as group:
            failed.append(_innermost(group))
        except* trio.TooSlowError:
            failed.append(f"not done within {WITHIN_S:g} s")
        if failed:
            print(f"The bench failed: {'; '.join(failed)}", file=sys.stderr)
            print(f"--- the daemon's log ---\n{tail(directory / 'daemon.log')}", file=sys.stderr)
            return None
    return result


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
    plan = QUICK if options.quick else FULL
    result = trio.run(_bounded, plan, options.quick)
    if result is None:
        return 1
    options.output.write_text(json.dumps(asdict(result), indent=2) + "\n")
    show(result)
    print(f"\nwritten to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

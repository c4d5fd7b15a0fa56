"""The torture lanes: `python -m tests.torture [LANE ...]`, all of them if none is named.

Each lane prints its seed; the same seed draws the same plan again. The exit status is 1 if a
promise was broken anywhere.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from tests.torture import crash_points, full_disk, mutants, power_loss, simulation, storm
from tests.torture.lanes import Lane

LANES: Final[Mapping[str, Lane]] = {
    "storm": storm.LANE,
    "mutants": mutants.LANE,
    "crash_points": crash_points.LANE,
    "power_loss": power_loss.LANE,
    "full_disk": full_disk.LANE,
    "simulation": simulation.LANE,
}
MAX_SEED: Final = 2**31
# As a shell tells it of Ctrl-C.
INTERRUPTED: Final = 130


def main(arguments: Sequence[str]) -> int:
    """Run the lanes that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    commands = parser.add_subparsers(dest="lane", metavar="LANE")
    _configure(parser)
    for name, lane in LANES.items():
        command = commands.add_parser(name, help=lane.summary)
        _configure(command)
        lane.configure(command)
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbelow(MAX_SEED)
    if options.lane is not None:
        return 0 if _run(options.lane, options) else 1
    # Sizes that nobody gave are the lane's own.
    held = []
    for name, lane in LANES.items():
        if options.share and not lane.in_share:
            continue
        own = argparse.ArgumentParser()
        _configure(own)
        lane.configure(own)
        given = ["--seed", str(options.seed), *(["--share"] if options.share else [])]
        held.append(_run(name, own.parse_args(given)))
    return 0 if all(held) else 1


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--share", action="store_true", help="the small sizes of every CI run")
    parser.add_argument("--seed", type=int, help="draws the plan; any if absent")


def _run(name: str, options: argparse.Namespace) -> bool:
    print(f"\n=== {name}: {LANES[name].summary} (seed {options.seed})", flush=True)
    begun = time.monotonic()
    held = trio.run(_until_interrupted, LANES[name], options)
    took = time.monotonic() - begun
    print(f"=== {name}: {'held' if held else 'BROKEN'} in {took:.0f} s", flush=True)
    return held


async def _until_interrupted(lane: Lane, options: argparse.Namespace) -> bool:
    """Run a lane; a signal ends it together with the processes it started."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def interrupt() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(interrupt)
            held = await lane.run(options)
            nursery.cancel_scope.cancel()
            return held
    sys.exit(INTERRUPTED)


sys.exit(main(sys.argv[1:]))

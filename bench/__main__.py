"""The bench: what a message, a pairing and an idle device cost the daemon.

Run as `python -m bench`; `python -m bench accept` measures one stage alone. Simulator, daemon and
load generator are three processes of this machine; everything goes over loopback. It stops by
itself, ends only what it started, prints a table and writes bench/result.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import trio

from bench.http import HttpError
from bench.machine import machine
from bench.plan import FULL, QUICK, Plan, Result
from bench.processes import BenchError, tail
from bench.stages import BY_DEFAULT, STAGES
from bench.stand import LOG
from bench.table import show

RESULT: Final = Path(__file__).parent / "result.json"
# On a disk where /tmp is kept in memory: there fsync would cost nothing.
DIRECTORY: Final = Path("/var/tmp")
# All stages, whatever happens; then the last processes end.
WITHIN_S: Final = 520.0


async def _bounded(
    name: str, plan: Plan, result: Result, place: Path, deadline: float
) -> str | None:
    """Run a stage within its time; returns why it ended before its end, if it did."""
    stage = STAGES[name]
    within_s = max(0.0, min(stage.within_s, deadline - trio.current_time()))
    failure = None
    with tempfile.TemporaryDirectory(prefix="sitpayd-bench-", dir=place) as directory:
        log = Path(directory) / LOG
        with trio.move_on_after(within_s) as scope:
            try:
                await stage.run(plan, result, Path(directory))
            except* (BenchError, HttpError, OSError, trio.BrokenResourceError) as group:
                told = tail(log) if log.exists() else ""
                failure = f"{name}: {_innermost(group)}\n{told}"
        if scope.cancelled_caught:
            failure = f"{name}: not done within {within_s:.0f} s: is the machine busy?"
    return failure


async def _run(names: Sequence[str], plan: Plan, result: Result, place: Path) -> list[str]:
    """Run these stages; returns what went wrong."""
    began = trio.current_time()
    failures = [await _bounded(name, plan, result, place, began + WITHIN_S) for name in names]
    result.seconds = trio.current_time() - began
    return [failure for failure in failures if failure is not None]


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "stages",
        nargs="*",
        metavar="stage",
        help=f"by default {', '.join(BY_DEFAULT)}; and {', '.join(set(STAGES) - set(BY_DEFAULT))}",
    )
    parser.add_argument("--devices", type=int, help="how many the stage scale seeds")
    parser.add_argument("--quick", action="store_true", help="2 minutes instead of 9 at most")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the JSON goes")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where databases lie")
    options = parser.parse_args(arguments)
    unknown = set(options.stages) - set(STAGES)
    if unknown:
        parser.error(f"there is no stage {', '.join(sorted(unknown))}")
    result = Result(machine(options.directory), options.quick)
    plan = QUICK if options.quick else FULL
    if options.devices is not None:
        plan = replace(plan, scale_devices=options.devices)
    failures = trio.run(_run, options.stages or list(BY_DEFAULT), plan, result, options.directory)
    options.output.write_text(json.dumps(asdict(result), indent=2) + "\n")
    show(result)
    print(f"\nwritten to {options.output}")
    for failure in failures:
        print(f"Ended early: {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())

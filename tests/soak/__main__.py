"""The soak: `python -m tests.soak --devices 1000 --minutes 10`.

Prints its seed, which draws the same faults again. The exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from tests.soak.soak import Size, Soaked, soak

MAX_SEED: Final = 2**31
# For each of the devices; 1,000 of them are hit ten times a second.
BLOWS_PER_S_EACH: Final = 0.01
# Dials are let go at 100 a second, and a device may wait 300 s for its turn.
BOUND_S: Final = 600.0


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    number = secrets.randbelow(MAX_SEED) if options.seed is None else options.seed
    size = Size(
        options.devices, 60.0 * options.minutes, BLOWS_PER_S_EACH * options.devices, BOUND_S
    )
    print(f"soak: {size.devices} devices, {options.minutes:g} minutes, seed {number}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sitpayd-soak-", dir="/var/tmp") as directory:
        result = trio.run(soak, number, size, Path(directory))
    _show(result)
    return int(bool(result.findings))


def _show(result: Soaked) -> None:
    blows = ", ".join(f"{name} {count}" for name, count in sorted(result.blows.items()))
    print(f"went wrong: {blows}")
    print(f"{result.looks} statuses held against the server's view")
    print(f"file descriptors {result.files[0]} -> {result.files[1]}")
    print(f"tasks {result.tasks[0]} -> {result.tasks[1]}")
    if result.rss_kib:
        print(
            f"memory {result.rss_kib[0] / 1024:.0f} -> {result.rss_kib[-1] / 1024:.0f} MiB,"
            f" {result.slope_kib_per_minute:.0f} KiB a minute after the warm-up"
        )
    for finding in result.findings:
        print(f"FOUND {finding}")
    print("all is well" if not result.findings else f"{len(result.findings)} findings")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

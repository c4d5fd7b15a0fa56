"""The protocol soak: `python -m tests.soak_protocol --minutes 120 --seed 7`.

Prints its seed, which draws the same conversation and the same events again; the network and the
programs keep their own time. The exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.peers.baileys import ensure_baileys
from tests.soak_protocol.soak import BAILEYS, Size, Soaked, soak

MAX_SEED: Final = 2**31
SETTLE_S: Final = 180.0
MESSAGE_EACH_S: Final = 8.0
EVENT_EACH_S: Final = 1.2


def homes(wanted: int) -> int:
    """How many Baileys take part: none where there is no Node, unless it is demanded."""
    if wanted == 0:
        return 0
    try:
        ensure_baileys()
    except pytest.skip.Exception as reason:
        print(f"without Baileys: {reason}", flush=True)
        return 0
    except pytest.fail.Exception as reason:
        sys.exit(str(reason))
    return wanted


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak_protocol", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--baileys", type=int, default=BAILEYS, help="how many take part")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(MAX_SEED) if options.seed is None else options.seed
    size = Size(
        60.0 * options.minutes, SETTLE_S, MESSAGE_EACH_S, EVENT_EACH_S, homes(options.baileys)
    )
    print(f"protocol soak: {options.minutes:g} minutes, seed {seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="sitpayd-soak-", dir="/var/tmp"))
    kept = f"with seed {seed}; logs and data: {directory}"
    try:
        result = trio.run(soak, seed, size, directory)
    except BaseException:
        print(f"broken off {kept}", flush=True)
        raise
    show(result)
    if result.findings:
        print(f"{len(result.findings)} findings {kept}")
        return 1
    shutil.rmtree(directory)
    print("every message was decrypted once, and no rule was broken")
    return 0


def show(result: Soaked) -> None:
    """Print the figures, and what was found."""
    print(f"messages: {_told(result.fates)}")
    print(f"shown by: {_told(result.shown)}")
    print(f"events: {_told(result.events)}")
    print(f"answers to programs: {_told(result.answers)}")
    print(f"right by the rules: {_told(result.excused) or 'nothing to excuse'}")
    print(
        f"daemon: {result.lives} lives, at most {result.rss_kib / 1024:.0f} MiB;"
        f" file descriptors {result.files[0]} -> {result.files[1]},"
        f" tasks {result.tasks[0]} -> {result.tasks[1]}; {result.took_s:.0f} s in all"
    )
    for finding in result.findings:
        print(f"FOUND {finding}")


def _told(counts: Mapping[str, int] | Mapping[int | None, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(counts).most_common())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

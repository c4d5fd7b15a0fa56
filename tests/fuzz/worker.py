"""One process that fuzzes one target: `python -m tests.fuzz.worker`, started by the others.

What could take the process with it is bounded from outside: memory by the kernel, an input that
never ends by a watchdog that shows where it hangs. The input of the moment stands in a file that
outlives the process.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Final

from sitpayd import log
from tests.fuzz.coverage import LineCoverage
from tests.fuzz.engine import MAX_FINDINGS, Fuzzer, Tally
from tests.fuzz.findings import Finding
from tests.fuzz.mutants import MUTANTS, planted
from tests.fuzz.targets import TARGETS

# Wall seconds; a niced process on a busy machine may stand still for some of them.
HANG_S: Final = 60.0
_HEARTBEAT_S: Final = 1.0
# What all that is not the input's doing needs is counted before.
MEMORY: Final = 384 * 2**20
_BOX_LEN: Final = 2**20
_LENGTH_LEN: Final = 4


class BlackBox:
    """The input that is being tried, in a file; the file is there after a crash."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_BOX_LEN))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BOX_LEN)

    def note(self, data: bytes) -> None:
        """Write down what is tried next."""
        kept = data[: _BOX_LEN - _LENGTH_LEN]
        self._map[: _LENGTH_LEN + len(kept)] = len(kept).to_bytes(_LENGTH_LEN, "big") + kept

    @staticmethod
    def last(path: Path) -> bytes:
        """What was tried last."""
        box = path.read_bytes()
        return box[_LENGTH_LEN : _LENGTH_LEN + int.from_bytes(box[:_LENGTH_LEN], "big")]


class Watchdog:
    """Ends the process where it stands if no heart beats for long."""

    def __init__(self, hang_s: float) -> None:
        self._hang_s = hang_s
        self._last = 0.0

    def beat(self) -> None:
        """Show that it goes on."""
        now = time.monotonic()
        if now - self._last >= _HEARTBEAT_S:
            self._last = now
            faulthandler.dump_traceback_later(self._hang_s, exit=True)


def told(tally: Tally) -> str:
    """A tally in one line, for the process that waits for it."""
    values = asdict(tally)
    for finding in values["findings"]:
        finding["data"] = finding["data"].hex()
    return json.dumps(values)


def heard(line: str) -> Tally:
    """The other way."""
    values = json.loads(line)
    findings = [
        Finding(**{**finding, "data": bytes.fromhex(finding["data"])})
        for finding in values.pop("findings")
    ]
    return Tally(**values, findings=findings)


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(arguments: Sequence[str]) -> int:
    """Fuzz, and print the tally."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.worker", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--large", type=int)
    parser.add_argument("--no-coverage", action="store_true")
    parser.add_argument("--box", type=Path, required=True)
    parser.add_argument("--hang", type=float, default=HANG_S)
    parser.add_argument("--mutant", choices=MUTANTS)
    options = parser.parse_args(arguments)
    faulthandler.enable()
    # What a device has to say about hostile input is nobody's concern here.
    log.configure("error", "text", sys.stderr)
    with ExitStack() as stack:
        if options.mutant is not None:
            stack.enter_context(planted(MUTANTS[options.mutant]))
        print(told(_fuzz(options)))
    return 0


def _fuzz(options: argparse.Namespace) -> Tally:
    fuzzer = Fuzzer(
        TARGETS[options.target](),
        Random(options.seed),
        coverage=None if options.no_coverage else LineCoverage(),
        note=BlackBox(options.box).note,
        heartbeat=Watchdog(options.hang).beat,
    )
    _bound_memory()
    # A planted mistake is found once.
    findings = MAX_FINDINGS if options.mutant is None else 1
    tally = fuzzer.run(
        inputs=options.inputs,
        seconds=options.seconds,
        findings=findings,
        large=options.large,
    )
    faulthandler.cancel_dump_traceback_later()
    return tally


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

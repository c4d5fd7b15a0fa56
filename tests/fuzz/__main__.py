"""Fuzzing: `python -m tests.fuzz [TARGET ...]`, all targets if none is named.

Prints its seed, which draws the same inputs again. Each finding is written to a file and told with
the command that replays it. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.distil import distil
from tests.fuzz.engine import Tally
from tests.fuzz.findings import Finding, fault
from tests.fuzz.mutants import MUTANTS
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import HANG_S, BlackBox, heard

MAX_SEED: Final = 2**31
SECONDS: Final = 60.0
# A worker may need this long to begin and to make its findings small, besides its watchdog's time.
_GRACE_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one worker is to do."""

    target: str
    seed: str
    seconds: float | None
    inputs: int | None
    coverage: bool = True
    mutant: str | None = None
    hang_s: float = HANG_S
    large: int | None = None

    def command(self, box: Path) -> list[str]:
        """How it is started."""
        more = [] if self.coverage else ["--no-coverage"]
        if self.seconds is not None:
            more += ["--seconds", str(self.seconds)]
        if self.inputs is not None:
            more += ["--inputs", str(self.inputs)]
        if self.large is not None:
            more += ["--large", str(self.large)]
        if self.mutant is not None:
            more += ["--mutant", self.mutant]
        start = [sys.executable, "-m", "tests.fuzz.worker", self.target, "--seed", self.seed]
        return [*start, "--box", str(box), "--hang", str(self.hang_s), *more]


def work(run: Run, directory: Path) -> Tally:
    """Let a worker do it; if it dies, the input it died of is the finding."""
    box = directory / f"{run.target}-{run.seed.rpartition('-')[2]}"
    within = None if run.seconds is None else run.seconds + run.hang_s + _GRACE_S
    try:
        ended = subprocess.run(
            run.command(box), capture_output=True, text=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired as error:
        return _died(run, box, "does not end", str(error.stderr or ""))
    if ended.returncode == 0:
        return heard(ended.stdout.splitlines()[-1])
    hung = "Timeout (" in ended.stderr
    what = "an input takes for ever" if hung else f"the process ends with {ended.returncode}"
    return _died(run, box, what, ended.stderr)


def _died(run: Run, box: Path, what: str, stderr: str) -> Tally:
    data = BlackBox.last(box) if box.exists() else b""
    details = "\n".join(stderr.splitlines()[-40:])
    return Tally(run.target, findings=[Finding(run.target, what, what, data, details)])


def replay(target: str, path: Path) -> int:
    """Try the inputs of a file; returns the exit status."""
    tried = TARGETS[target]()
    failed = 0
    for data in corpus.read(path):
        error = fault(tried, data)
        if error is not None:
            failed += 1
            traceback.print_exception(error)
    print(f"{failed} of the inputs in {path} fail")
    return int(failed > 0)


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, help=f"for each target; {SECONDS:g} by default")
    parser.add_argument("--inputs", type=int, help="for each target, in the place of seconds")
    parser.add_argument("--seed", type=int, help="draws the inputs; any if absent")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--no-coverage", action="store_true", help="keep inputs by outcome alone")
    parser.add_argument("--mutant", choices=MUTANTS, help="plant a mistake: it must be found")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try the inputs of a file")
    parser.add_argument("--distil", action="store_true", help="write the corpora anew")
    options = parser.parse_args(arguments)
    targets = options.targets or list(TARGETS)
    if options.mutant is not None:
        targets = [MUTANTS[options.mutant].target]
    if unknown := set(targets) - TARGETS.keys():
        parser.error(f"no target {', '.join(sorted(unknown))}")
    if options.replay is not None:
        if len(options.targets) != 1:
            parser.error("--replay needs one target")
        return replay(targets[0], options.replay)
    seconds = options.seconds
    if seconds is None and options.inputs is None:
        seconds = SECONDS
    seed = secrets.randbelow(MAX_SEED) if options.seed is None else options.seed
    if options.distil:
        return distil(targets, seed, seconds or SECONDS)
    # Spare processes go to the targets there are.
    parts = max(1, options.jobs // len(targets))
    runs = [
        Run(
            name, f"{seed}-{part}", seconds, options.inputs, not options.no_coverage, options.mutant
        )
        for name in targets
        for part in range(parts)
    ]
    print(f"fuzz: {', '.join(targets)}; seed {seed}, {options.jobs} at a time", flush=True)
    return _all(runs, options.jobs)


def _all(runs: Sequence[Run], jobs: int) -> int:
    findings: list[Finding] = []
    print(_row("target", "inputs", "per s", "per CPU s", "median", "slowest", "kept", "lines"))
    with (
        tempfile.TemporaryDirectory(prefix="sitpayd-fuzz-") as directory,
        ThreadPoolExecutor(jobs) as pool,
    ):
        total = 0
        for tally in pool.map(partial(work, directory=Path(directory)), runs):
            total += tally.inputs
            known = {(finding.target, finding.place) for finding in findings}
            findings += [f for f in tally.findings if (f.target, f.place) not in known]
            _show(tally)
    print(f"{total:,} inputs")
    for finding in findings:
        finding.save()
        print(f"FOUND {finding.target}: {finding.what}\n  {finding.command}")
    print(f"{len(findings)} findings" if findings else "all is well")
    return int(bool(findings))


def _row(*cells: str) -> str:
    first, *others = cells
    return f"{first:<10}" + "".join(f"{cell:>12}" for cell in others)


def _show(tally: Tally) -> None:
    cells = (
        f"{tally.inputs:,}",
        f"{tally.inputs / tally.seconds:,.0f}" if tally.seconds else "",
        f"{tally.inputs / tally.cpu_s:,.0f}" if tally.cpu_s else "",
        f"{tally.median_s * 1e6:.0f} us",
        f"{tally.slowest_s * 1e3:.0f} ms",
        str(tally.kept),
        str(tally.lines),
    )
    print(_row(tally.target, *cells), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

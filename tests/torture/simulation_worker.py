"""Worlds in a process of their own: `python -m tests.torture.simulation_worker`, a line for each.

It has to run with PYTHONHASHSEED=0, or no seed would mean the same world twice.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from tests.torture import mutant_daemon
from tests.torture.disk import prepare
from tests.torture.world import run_world


def main(arguments: Sequence[str]) -> int:
    """Run worlds, one after the other, and print what became of each.

    Returns:
        With `--trace`, 1 if one broke a promise; else whoever reads the lines judges.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--mutant", choices=sorted(mutant_daemon.MUTANTS))
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    options = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        parser.error("set PYTHONHASHSEED=0")
    if options.mutant is not None:
        mutant_daemon.MUTANTS[options.mutant]()
    prepare()
    # Modules stay; what a world leaves behind is then found in no time.
    gc.collect()
    gc.freeze()
    broken = 0
    for seed in options.seeds:
        outcome = run_world(seed, is_verbose=options.trace)
        told = {
            "seed": seed,
            "trace": outcome.trace,
            "lived_s": outcome.lived_s,
            "counts": outcome.counts,
            "findings": [(item.breach, item.at, item.text) for item in outcome.findings],
        }
        print(json.dumps(told), flush=True)
        broken += bool(outcome.findings)
    return int(options.trace and broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

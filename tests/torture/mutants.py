"""The mutants: daemons that take a shortcut. The storm must catch each, or it proves nothing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Final

from tests.torture.lanes import Lane
from tests.torture.storm import Size, run_storm, table, told
from tests.torture.verdict import Broken

FULL: Final = Size(sends=4000, kills=40, bound_s=400.0)
SHARE: Final = Size(sends=1200, kills=15, devices=12, strangers=12, bound_s=120.0)

# What each must be caught by: any other verdict may be an accident.
CAUGHT_BY: Final[Mapping[str, frozenset[Broken]]] = {
    "late_commit": frozenset({Broken.REUSED}),
    "encrypt_again": frozenset({Broken.REENCRYPTED}),
    "new_id": frozenset({Broken.TWICE}),
    "early_sent": frozenset({Broken.LOST}),
}


def configure(parser: ArgumentParser) -> None:
    """Add the options of this lane."""
    parser.add_argument("--only", choices=sorted(CAUGHT_BY), help="one mutant alone")


async def run(options: Namespace) -> bool:
    """Run a storm for each mutant until it is caught; it holds if all were."""
    size, survivors = SHARE if options.share else FULL, []
    for name, caught_by in CAUGHT_BY.items():
        if options.only not in (None, name):
            continue
        print(f"  --- {name}", flush=True)
        program = ("-m", "tests.torture.mutant_daemon", name)
        result = await run_storm(options.seed, size, program, caught_by)
        caught = [finding for finding in result.findings if finding.broken in caught_by]
        if caught:
            after = f"{result.kills} kills, {result.took_s:.0f} s"
            print(f"  {name} is caught after {after}: {caught[0].broken}", flush=True)
        else:
            survivors.append(name)
            print(f"  {name} SURVIVES\n{table(result)}", flush=True)
        print(told(result.findings))
    return not survivors


# The simulation's share catches the same mutants sooner.
LANE: Final = Lane("each plausible shortcut is caught by the storm", configure, run, in_share=False)

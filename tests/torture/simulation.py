"""The simulation lane: many small worlds, each drawn from a seed, each judged by eight invariants.

A failing seed is printed with the command that plays it again, event by event. Seeds that failed
once stand in regressions.txt and are always run. Some worlds are lived twice, in two processes: the
same seed must leave the same trace, or none of this could be replayed. And each mutant must fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from tests.torture.lanes import Lane
from tests.torture.witness import Breach

# Ten times as many take five minutes more: --count 5000.
FULL: Final = 500
SHARE: Final = 500
# Worlds that are lived twice.
TWINS: Final = 20
# A mutant that so many worlds do not catch survives.
MUTANT_SEEDS: Final = 100
REGRESSIONS: Final = Path(__file__).with_name("regressions.txt")
CAUGHT_BY: Final[Mapping[str, Breach]] = {
    "late_commit": Breach.REUSED,
    "encrypt_again": Breach.REENCRYPTED,
    "new_id": Breach.TWICE,
    "early_sent": Breach.LOST,
}
_PROGRAM: Final = (sys.executable, "-m", "tests.torture.simulation_worker")
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker tells of a world."""

    seed: int
    trace: str
    lived_s: float
    counts: Mapping[str, int]
    findings: Sequence[tuple[str, float, str]]


def configure(parser: ArgumentParser) -> None:
    """Add the options of this lane."""
    parser.add_argument("--count", type=int, help="how many seeds, counted up from --seed")
    parser.add_argument("--only", choices=["worlds", "twins", "mutants"], help="a part of it")
    parser.add_argument("--trace", action="store_true", help="print all that happens; one seed")


async def run(options: Namespace) -> bool:
    """Run it; whether every world held, every twin was the same and every mutant failed."""
    if options.trace:
        command = [*_PROGRAM, "--trace", str(options.seed)]
        done = await trio.run_process(command, env=_environment(), cwd=_ROOT, check=False)
        return done.returncode == 0
    only, held = options.only, True
    if only in (None, "worlds"):
        held &= await _worlds(options.seed, options.count or (SHARE if options.share else FULL))
    if only in (None, "twins"):
        held &= await _twins(options.seed)
    if only in (None, "mutants"):
        held &= await _mutants(options.seed)
    return held


async def _worlds(first: int, count: int) -> bool:
    seeds = [*regressions(), *range(first, first + count)]
    begun = trio.current_time()
    worlds = await live(seeds)
    broken = [world for world in worlds if world.findings]
    for world in broken[:10]:
        _complain(world)
    took_s = trio.current_time() - begun
    lived_s = sum(world.lived_s for world in worlds)
    counts = sum((Counter(world.counts) for world in worlds), Counter[str]())
    print(
        f"  {len(worlds)} worlds, {lived_s / 3600:.0f} hours in {took_s:.0f} s,"
        f" {len(broken)} broken; {counts['messages']} messages, {counts['deaths']} deaths,"
        f" {counts['commits']} commits",
        flush=True,
    )
    return not broken and len(worlds) == len(seeds)


async def _twins(first: int) -> bool:
    seeds = range(first, first + TWINS)
    # In another order: what was before it in its process changes no world either.
    once, again = await live(seeds), await live(seeds[::-1])
    traces = {world.seed: world.trace for world in once}
    others = {world.seed: world.trace for world in again}
    differing = [seed for seed in seeds if traces.get(seed) != others.get(seed)]
    distinct = len(set(traces.values()))
    print(f"  {TWINS} seeds twice: {len(differing)} differ, {distinct} traces", flush=True)
    for seed in differing:
        print(f"  the trace of seed {seed} differs from run to run: {_command(seed)}")
    return not differing and distinct == TWINS


async def _mutants(first: int) -> bool:
    caught: dict[str, int] = {}
    limiter = trio.CapacityLimiter(_processes())

    async def look(name: str) -> None:
        async with limiter:
            seed = await hunt(name, range(first, first + MUTANT_SEEDS))
            if seed is not None:
                caught[name] = seed

    async with trio.open_nursery() as nursery:
        for name in CAUGHT_BY:
            nursery.start_soon(look, name)
    for name, breach in CAUGHT_BY.items():
        how = f"caught by seed {caught[name]}: {breach}" if name in caught else "SURVIVES"
        print(f"  {name} {how}", flush=True)
    return len(caught) == len(CAUGHT_BY)


async def hunt(mutant: str, seeds: Sequence[int]) -> int | None:
    """Find the first seed whose world catches a mutant; None: it survives them all."""
    async with aclosing(_worker(seeds, "--mutant", mutant)) as worlds:
        async for world in worlds:
            if any(breach == CAUGHT_BY[mutant] for breach, _, _ in world.findings):
                return world.seed
    return None


async def live(seeds: Sequence[int]) -> list[Told]:
    """Live worlds in as many processes as there are processors."""
    worlds: list[Told] = []

    async def share(own: Sequence[int]) -> None:
        async with aclosing(_worker(own)) as told:
            async for world in told:
                worlds.append(world)

    step = min(_processes(), len(seeds))
    async with trio.open_nursery() as nursery:
        for index in range(step):
            nursery.start_soon(share, seeds[index::step])
    return worlds


async def _worker(seeds: Sequence[int], *options: str) -> AsyncGenerator[Told, None]:
    command = [*_PROGRAM, *options, *map(str, seeds)]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, env=_environment(), cwd=_ROOT
    )
    assert process.stdout is not None
    try:
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield Told(**json.loads(line))
        if await process.wait():
            print(f"  a worker ended with status {process.returncode}", flush=True)
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10.0):
                await process.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


def _processes() -> int:
    return os.cpu_count() or 1


def regressions() -> list[int]:
    """The seeds of worlds that broke a promise once."""
    lines = REGRESSIONS.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def _command(seed: int) -> str:
    return f"python -m tests.torture simulation --seed {seed} --trace"


def _complain(world: Told) -> None:
    print(f"  seed {world.seed} broke a promise; {_command(world.seed)}", flush=True)
    for breach, at, text in world.findings[:5]:
        print(f"    at {at:.6f}: {breach}: {text}", flush=True)


LANE: Final = Lane("every promise in many small worlds, drawn from seeds", configure, run)

"""Protocol: our functions beside those of an unmodified Baileys, on the same inputs, in turns.

Both sides do a block of a row in turns, so that whatever else the machine does falls on both alike.
What counts is processor time of the whole process: it knows nothing of waiting, and holds what the
garbage collectors and Node's compiler take. Before anything is timed, each side has to understand
what the other one made (agreement.py).
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.agreement import check_agreement
from bench.baileys import Baileys, baileys
from bench.functions import Row, make_rows
from bench.inputs import make_inputs
from sitpayd.daemon import GC_THRESHOLDS

# Blocks that do not count: Node compiles a function again and again until it knows its types.
WARM_UP_BLOCKS: Final = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row; microseconds of processor time for each, the median block.

    Attributes:
        ours_spread: from the first to the third quartile, microseconds.
        ratio: Baileys' time to ours, the median of blocks that followed each other: above 1 we are
            faster. ratio_spread: its quartiles.
    """

    group: str
    name: str
    ours_us: float
    theirs_us: float
    ours_spread: tuple[float, float]
    theirs_spread: tuple[float, float]
    ours_per_second: float
    theirs_per_second: float
    ratio: float
    ratio_spread: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Protocol:
    """All rows of one run.

    Attributes:
        ratio: geometric mean of all ratios.
    """

    baileys: str
    node: str
    blocks: int
    rows: list[Comparison]
    ratio: float


async def measure_protocol(directory: Path, blocks: int, block_s: float) -> Protocol:
    """Compare all rows.

    Args:
        blocks: of each row and side that count.
        block_s: what a block of ours takes, about; seconds.

    Raises:
        NoNode: If there is nothing to compare with.
    """
    inputs = make_inputs()
    rows = make_rows(inputs)
    with _on_one_core():
        async with baileys(inputs, directory) as other:
            await check_agreement(inputs, rows, other)
            with _as_the_daemon_collects():
                compared = [await _compare(row, other, blocks, block_s) for row in rows]
            return Protocol(
                baileys=other.version,
                node=other.node,
                blocks=blocks,
                rows=compared,
                ratio=statistics.geometric_mean(row.ratio for row in compared),
            )


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keep this process and its children on one core: another may have a busier neighbour."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _as_the_daemon_collects() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _compare(row: Row, other: Baileys, blocks: int, block_s: float) -> Comparison:
    async def own_seconds(count: int) -> float:
        return _seconds(row, count)

    async def their_seconds(count: int) -> float:
        return await other.seconds(row.name, count)

    # Each side repeats as often as fits into a block: some rows take one of them much longer.
    own_count = await _count_for(own_seconds, row.limit, block_s)
    their_count = await _count_for(their_seconds, row.limit, block_s)
    ours, theirs = [], []
    for _ in range(blocks):
        ours.append(1e6 * await own_seconds(own_count) / own_count)
        theirs.append(1e6 * await their_seconds(their_count) / their_count)
    ratios = [each / own for own, each in zip(ours, theirs, strict=True)]
    return Comparison(
        group=row.group,
        name=row.name,
        ours_us=statistics.median(ours),
        theirs_us=statistics.median(theirs),
        ours_spread=_spread(ours),
        theirs_spread=_spread(theirs),
        ours_per_second=1e6 / statistics.median(ours),
        theirs_per_second=1e6 / statistics.median(theirs),
        ratio=statistics.median(ratios),
        ratio_spread=_spread(ratios),
    )


async def _count_for(seconds: Callable[[int], Awaitable[float]], limit: int, block_s: float) -> int:
    """Repetitions that take about so long, as far as the inputs reach; what it tries warms up."""
    count, each_s = 1, await seconds(1)
    for _ in range(WARM_UP_BLOCKS):
        # Short runs tell little of long ones, so it grows by some ten times at most.
        count = max(1, min(limit, 16 * count, int(block_s / max(each_s, 1e-7))))
        each_s = await seconds(count) / count
    return count


def _seconds(row: Row, count: int) -> float:
    once = row.make(count)
    began = time.process_time()
    for index in range(count):
        once(index)
    return time.process_time() - began


def _spread(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high

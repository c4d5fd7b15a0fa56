"""Ratios: the table of the protocol's functions beside Baileys' own."""

from __future__ import annotations

from itertools import groupby

from bench.protocol import Protocol


def show_ratios(it: Protocol) -> None:
    """Print it: what both sides do in a second and need for each, in the median block."""
    print(
        f"The protocol beside Baileys {it.baileys}, Node {it.node}: processor time, the median of"
        f" {it.blocks} blocks\n(first to third quartile); a ratio above 1: ours is faster\n"
    )
    width = max(len(row.name) for row in it.rows)
    print(f"{'':{width}}    ours /s  theirs /s    ours us  theirs us   ratio")
    for group, rows in groupby(it.rows, key=lambda row: row.group):
        print(group)
        for row in rows:
            low, high = row.ratio_spread
            print(
                f"  {row.name:{width}}{row.ours_per_second:9.0f}  {row.theirs_per_second:9.0f}"
                f"  {row.ours_us:9.1f}  {row.theirs_us:9.1f}  {row.ratio:6.2f}"
                f"  ({low:.2f} - {high:.2f})"
            )
    print(f"\nall rows, geometric mean of the ratios: {it.ratio:.2f} (aim: > 1 in each row)\n")

"""Table: devices as aligned lines, within the columns there are.

What must be whole to be of use (the session id, the status) is never cut; names and the reason
share what is left, and where that is too little the partner goes first, then the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sitpayd.terminal.screen import NOTHING, Colour, Paint, age, cells, clean, fit, pad
from sitpayd.terminal.views import ORDER, DeviceView

GAP: Final = "  "

# Colours repeat what the words say.
_GOOD: Final = frozenset({"connected"})
_BUSY: Final = frozenset({"waiting", "connecting", "paired", "pairing"})
_QUIET: Final = frozenset({"unpaired", "paused"})


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its least width says how far it may be cut; None: not at all."""

    title: str
    texts: Sequence[str]
    least: int | None = None

    @property
    def full(self) -> int:
        return max(map(cells, (self.title, *self.texts)))


def device_lines(
    devices: Iterable[DeviceView], now: datetime, width: int | None, paint: Paint
) -> list[str]:
    """Draw a table, a heading and a line for each device, in the order given.

    Args:
        width: columns; None: as many as it takes.
    """
    rows = list(devices)
    columns = _chosen(
        [
            _Column("SESSION ID", [clean(d.session_id) for d in rows]),
            _Column("PARTNER", [_or_nothing(d.partner_name) for d in rows], 14),
            _Column("NAME", [_or_nothing(d.device_name) for d in rows], 8),
            _Column("STATUS", [clean(d.status) for d in rows]),
            _Column("REASON", [_or_nothing(d.reason) for d in rows], 12),
            _Column("SINCE", [age(d.since, now) for d in rows]),
            _Column("PROOF", [age(d.verified_at, now) for d in rows]),
        ],
        width,
    )
    titles = GAP.join(pad(column.title, size) for column, size in columns).rstrip()
    return [paint(Colour.STRONG, titles)] + [
        _line(columns, number, device, paint) for number, device in enumerate(rows)
    ]


def summary(counts: Mapping[str, int]) -> str:
    """Say how many devices there are, trouble first: `12 devices: 2 waiting, 10 connected`."""
    total = sum(counts.values())
    told = sorted(
        (status for status, count in counts.items() if count),
        key=lambda status: ORDER.index(status) if status in ORDER else -1,
    )
    parts = ", ".join(f"{counts[status]} {clean(status)}" for status in told)
    devices = f"{total} device{'' if total == 1 else 's'}"
    return f"{devices}: {parts}" if parts else "no devices"


def colour_of(status: str) -> Colour:
    """The colour that goes with a status."""
    if status in _GOOD:
        return Colour.GOOD
    if status in _BUSY:
        return Colour.BUSY
    return Colour.QUIET if status in _QUIET else Colour.BAD


def _or_nothing(text: str | None) -> str:
    return clean(text) if text else NOTHING


def _chosen(columns: list[_Column], width: int | None) -> list[tuple[_Column, int]]:
    """Choose columns and their widths."""
    sizes = [column.full for column in columns]
    if width is None:
        return list(zip(columns, sizes, strict=True))
    for dropped in ("PARTNER", "NAME"):
        least = sum(min(c.full, c.least or c.full) for c in columns)
        if least + len(GAP) * (len(columns) - 1) <= width:
            break
        columns = [column for column in columns if column.title != dropped]
    sizes = [column.full for column in columns]
    over = sum(sizes) + len(GAP) * (len(columns) - 1) - width
    while over > 0:
        # A column at a time from whichever has most to give.
        spare = [
            size - min(column.full, column.least) if column.least else 0
            for column, size in zip(columns, sizes, strict=True)
        ]
        widest = max(range(len(columns)), key=lambda number: spare[number])
        if spare[widest] <= 0:
            break  # a terminal this narrow wraps, which loses nothing
        sizes[widest] -= 1
        over -= 1
    return list(zip(columns, sizes, strict=True))


def _line(columns: list[tuple[_Column, int]], number: int, device: DeviceView, paint: Paint) -> str:
    shown = []
    for column, size in columns:
        text = fit(column.texts[number], size)
        fill = " " * (size - cells(text))
        colour = colour_of(device.status) if column.title == "STATUS" else None
        shown.append(paint(colour, text) + fill)
    return GAP.join(shown).rstrip()

"""Deadlines: what is stored waits as long as it was meant to, whatever the wall clock does."""

from __future__ import annotations

from typing import Final

from sitpayd.storage.database import Unit

_NAME: Final = "clock"
# Less than this is no jump: a clock that is read twice never says the same.
MIN_JUMP_S: Final = 2.0


def note_clock(unit: Unit, boot: str, offset_s: float) -> None:
    """Note how UTC of what is stored lies to the monotonic clock of this run of the machine."""
    unit.run(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_NAME, f"{boot} {offset_s!r}".encode("ascii")),
    )


def noted_offset(unit: Unit, boot: str) -> float | None:
    """What was noted in this run of the machine, seconds; None: nothing."""
    noted = unit.value(bytes, "SELECT value FROM setting WHERE name = ?", (_NAME,))
    then, _, offset_s = (noted or b"").decode("ascii").rpartition(" ")
    return float(offset_s) if then == boot else None


def shift(unit: Unit, by_s: float, boot: str | None, offset_s: float) -> None:
    """Move every deadline by the jump of the wall clock, and note where that clock is."""
    shift_messages(unit, by_s)
    unit.run(
        "UPDATE device SET rest_until = rest_until + ?1, new_chats_until = new_chats_until + ?1"
        " WHERE rest_until IS NOT NULL OR new_chats_until IS NOT NULL",
        (_micros(by_s),),
    )
    unit.run("UPDATE phone_notice SET due_at = due_at + ?", (_micros(by_s),))
    if boot is not None:
        note_clock(unit, boot, offset_s)


def shift_messages(unit: Unit, by_s: float) -> None:
    """Move the deadlines of messages that wait."""
    # One after the other: each finds its few rows by an index, which the two together would not.
    for waiting in ("state IN ('accepted', 'armed') AND expires_at >= 0", "missed_devices"):
        unit.run(
            "UPDATE outbox SET expires_at = expires_at + ?1, held_until = held_until + ?1"
            f" WHERE {waiting}",
            (_micros(by_s),),
        )


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)

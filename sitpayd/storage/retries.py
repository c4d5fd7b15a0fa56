"""Queries about messages that could not be read: how often each was asked for again.

A message stands here under a name of the caller's making, as a keyed digest; it goes as soon as it
could be read, and after a while in any case.
"""

from __future__ import annotations

from datetime import datetime

from sitpayd.storage.database import Unit
from sitpayd.storage.records import to_micros


def requests_of(unit: Unit, device_id: int, name: str) -> int:
    """How often a message was asked for again; 0: never."""
    count = unit.value(
        int,
        "SELECT count FROM retry_request WHERE device_id = ? AND message_digest = ?",
        (device_id, _digest(unit, device_id, name)),
    )
    return count or 0


def note_request(unit: Unit, device_id: int, name: str, count: int) -> None:
    """Remember that a message is asked for, which is the `count`th time."""
    unit.run(
        "INSERT INTO retry_request (device_id, message_digest, count, asked_at)"
        " VALUES (?, ?, ?, ?) ON CONFLICT (device_id, message_digest)"
        " DO UPDATE SET count = excluded.count, asked_at = excluded.asked_at",
        (device_id, _digest(unit, device_id, name), count, to_micros(unit.now)),
    )


def forget_request(unit: Unit, device_id: int, name: str) -> None:
    """Forget a message: it could be read."""
    unit.run(
        "DELETE FROM retry_request WHERE device_id = ? AND message_digest = ?",
        (device_id, _digest(unit, device_id, name)),
    )


def forget_requests(unit: Unit, before: datetime, limit: int = 1000) -> int:
    """Forget messages asked for before that time; returns how many, at most `limit`."""
    return unit.run(
        "DELETE FROM retry_request WHERE rowid IN"
        " (SELECT rowid FROM retry_request WHERE asked_at < ? LIMIT ?)",
        (to_micros(before), limit),
    )


def _digest(unit: Unit, device_id: int, name: str) -> bytes:
    return unit.vault.digest(f"unread|{device_id}|{name}")

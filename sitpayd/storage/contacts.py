"""Queries about people: with whom a device has a chat, and to whom it writes first.

A first contact is what WhatsApp restricts, so the first message to somebody is a thing of its own.
Which numbers belong to which LIDs is sessions.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sitpayd.storage.database import SqlValue, Unit
from sitpayd.storage.records import from_micros, to_micros

# `outbox.first_contact`: 0 is an established chat.
STRANGER: Final = 1  # waits to be the first message
APPROACHED: Final = 2  # left as the first message

# Somebody is no stranger who wrote to us, or to whom a message went that was not refused.
_ESTABLISHED: Final = """
SELECT 1 FROM outbox WHERE device_id = :device_id AND recipient_digest = :digest
    AND state IN ('sent', 'delivered', 'read')
UNION ALL SELECT 1 FROM inbox WHERE device_id = :device_id AND chat_digest = :digest
LIMIT 1
"""


def person_digest(unit: Unit, device_id: int, name: str) -> bytes:
    """By which a person is found again in outbox and inbox; another for each device of ours."""
    return unit.vault.digest(f"person|{device_id}|{name}")


def is_first_contact(unit: Unit, device_id: int, recipient: str) -> bool:
    """Whether nothing was exchanged with this person yet that WhatsApp took."""
    values: dict[str, SqlValue] = {
        "device_id": device_id,
        "digest": person_digest(unit, device_id, recipient),
    }
    return unit.row(_ESTABLISHED, values) is None


def first_contacts_since(unit: Unit, device_id: int, since: datetime) -> list[datetime]:
    """When first messages to people left since that time, oldest first."""
    rows = unit.rows(
        f"SELECT armed_at FROM outbox WHERE device_id = ? AND first_contact = {APPROACHED}"
        " AND armed_at > ? ORDER BY armed_at",
        (device_id, to_micros(since)),
    )
    return [from_micros(row["armed_at"]) for row in rows]


def welcome(unit: Unit, device_id: int, digest: bytes) -> None:
    """Note that somebody is no stranger any more: what waits for them may go."""
    unit.run(
        "UPDATE outbox SET first_contact = 0, held_until = NULL, held_reason = NULL"
        " WHERE device_id = ? AND recipient_digest = ? AND state = 'accepted'"
        " AND first_contact > 0",
        (device_id, digest),
    )
    # Whoever writes has an account, whatever WhatsApp said of the number before.
    unit.run(
        "UPDATE number_check SET registered = 1 WHERE device_id = ? AND number_digest = ?"
        " AND registered IS NOT 1",
        (device_id, digest),
    )

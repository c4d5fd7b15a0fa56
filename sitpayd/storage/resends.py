"""Queries about resends: how often which device was sent a message of ours anew.

The counts stand in the message's row, by device. One that has said that it has the message is
never to get another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sitpayd.storage.contacts import person_digest
from sitpayd.storage.database import Unit
from sitpayd.storage.records import Address
from sitpayd.storage.sessions import save_identities, save_sessions

# More than any limit of resends.
_NEVER_AGAIN: Final = 1_000_000


def served(unit: Unit, device_id: int, row_id: int, device: str) -> int:
    """How often a device was sent a message anew; more than any limit if it is to get no other."""
    count = unit.value(
        int,
        "SELECT resends ->> ? FROM outbox WHERE id = ? AND device_id = ?",
        (_path(unit, device_id, device), row_id, device_id),
    )
    return count or 0


def note_served(unit: Unit, device_id: int, wa_message_ids: Iterable[str], device: str) -> None:
    """Note that another device of our own account has these messages: it gets no resend."""
    for wa_message_id in wa_message_ids:
        row_id = unit.value(
            int,
            "SELECT id FROM outbox WHERE device_id = ? AND wa_message_id = ?",
            (device_id, wa_message_id),
        )
        if row_id is not None:
            never_again(unit, device_id, row_id, device)


def count_resend(
    unit: Unit,
    device_id: int,
    row_id: int,
    device: str,
    limit: int,
    sessions: Mapping[Address, bytes],
    identities: Mapping[Address, bytes],
) -> bool:
    """Store a resend to one device, with the keys it was encrypted with.

    Returns:
        False if that device was served this often already, or has said that it has the message:
        then nothing is stored.
    """
    count = served(unit, device_id, row_id, device)
    if count >= limit:
        return False
    _set(unit, device_id, row_id, device, count + 1)
    save_sessions(unit, device_id, sessions)
    save_identities(unit, device_id, identities)
    return True


def never_again(unit: Unit, device_id: int, row_id: int, device: str) -> None:
    """Note that a device is to get a message no more: it has it."""
    _set(unit, device_id, row_id, device, _NEVER_AGAIN)


def _set(unit: Unit, device_id: int, row_id: int, device: str, count: int) -> None:
    unit.run(
        "UPDATE outbox SET resends = json_set(resends, ?, ?) WHERE id = ? AND device_id = ?",
        (_path(unit, device_id, device), count, row_id, device_id),
    )


def _path(unit: Unit, device_id: int, device: str) -> str:
    return f"$.{person_digest(unit, device_id, device)[:8].hex()}"

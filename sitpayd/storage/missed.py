"""Queries about sent messages that some devices have missed: a stale list left them out.

Such a row keeps its state, and whoever waits for it has been told. It is marked with the
acknowledgement that says so, armed once more for those devices alone, and unmarked when that is
acknowledged or given up. The mark goes with the text, with the login, and with the message's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sitpayd.storage.database import Unit
from sitpayd.storage.records import Address, to_micros
from sitpayd.storage.sessions import save_identities, save_sessions

_FORGET: Final = "UPDATE outbox SET missed_devices = 0, stanza_sealed = NULL WHERE missed_devices"


def note_missed(unit: Unit, device_id: int, wa_message_id: str) -> None:
    """Mark a row that has left; its writings are counted anew from here."""
    unit.run(
        "UPDATE outbox SET missed_devices = 1, attempts = 0"
        " WHERE device_id = ? AND wa_message_id = ? AND state IN ('sent', 'delivered', 'read')"
        " AND text_sealed IS NOT NULL",
        (device_id, wa_message_id),
    )


def arm_missed(
    unit: Unit,
    device_id: int,
    row_id: int,
    stanza: bytes,
    *,
    sessions: Mapping[Address, bytes],
    identities: Mapping[Address, bytes],
    participants: bytes,
    phash: str,
) -> bool:
    """Store the stanza for the missed devices together with every key that made it.

    Args:
        participants: everybody the message was ever encrypted for.
        phash: of the lists of devices as they are known to be.

    Returns:
        False if nothing is missed any more, or it is armed already: then nothing is stored.
    """
    message_id = unit.value(
        str,
        "SELECT message_id FROM outbox WHERE id = ? AND device_id = ? AND missed_devices"
        " AND stanza_sealed IS NULL",
        (row_id, device_id),
    )
    if message_id is None:
        return False
    seal = unit.vault.seal
    unit.run(
        "UPDATE outbox SET stanza_sealed = ?, participants_sealed = ?, phash = ? WHERE id = ?",
        (
            seal("outbox", device_id, "stanza", message_id, stanza),
            seal("outbox", device_id, "participants", message_id, participants),
            phash,
            row_id,
        ),
    )
    save_sessions(unit, device_id, sessions)
    save_identities(unit, device_id, identities)
    return True


def forget_missed(unit: Unit, device_id: int, row_id: int) -> None:
    """Unmark a row: its devices have it, or will not get it."""
    unit.run(f"{_FORGET} AND device_id = ? AND id = ?", (device_id, row_id))


def forget_all(unit: Unit, device_id: int) -> None:
    """Unmark every row of a device: it can encrypt nothing any more."""
    unit.run(f"{_FORGET} AND device_id = ?", (device_id,))


def forget_overdue(unit: Unit, now: datetime) -> None:
    """Unmark the rows whose time is over: a device that gets them now gets them too late."""
    unit.run(f"{_FORGET} AND expires_at <= ?", (to_micros(now),))

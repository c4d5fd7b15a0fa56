"""Queries about people: with whom a device has a chat, and to whom it writes first.

A first contact is what WhatsApp restricts, so the first message to somebody is a thing of its own.
Somebody is close who wrote to the account, whose valid privacy token it holds, or with whom there
was a chat before the device was linked: to such people it may write even while it is restricted.
Where only we wrote, and nothing came back, we are no strangers any more, and yet not close.

Names and tokens of people are people.py; which numbers belong to which LIDs is sessions.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sitpayd.storage.database import SqlValue, Unit
from sitpayd.storage.records import Closeness, from_micros, to_micros

PN_SUFFIX: Final = "@s.whatsapp.net"
LID_SUFFIX: Final = "@lid"

# As `outbox.first_contact` has them.
_CLOSE, _STRANGER = int(Closeness.CLOSE), int(Closeness.STRANGER)
_APPROACHED, _UNANSWERED = int(Closeness.APPROACHED), int(Closeness.UNANSWERED)

_WROTE: Final = "SELECT 1 FROM inbox WHERE device_id = ? AND chat_digest = ? LIMIT 1"
# A message went to them that was not refused.
_WRITTEN_TO: Final = """
SELECT 1 FROM outbox WHERE device_id = ? AND recipient_digest = ?
    AND state IN ('sent', 'delivered', 'read') LIMIT 1
"""


def person_digest(unit: Unit, device_id: int, name: str) -> bytes:
    """By which a person is found again in outbox and inbox; another for each device of ours."""
    return unit.vault.digest(f"person|{device_id}|{name}")


def user_digest(unit: Unit, device_id: int, user_key: str) -> bytes:
    """By which a person's keys, and what is known of it, are found again."""
    return unit.vault.digest(f"user|{device_id}|{user_key}")


def closeness(unit: Unit, device_id: int, recipient: str) -> Closeness:
    """How close the person of this number is; APPROACHED is for messages alone."""
    digest = person_digest(unit, device_id, recipient)
    if unit.row(_WROTE, (device_id, digest)) is not None:
        return Closeness.CLOSE
    pn_digest = user_digest(unit, device_id, recipient + PN_SUFFIX)
    mapped = unit.row(
        "SELECT lid_digest, lid_sealed FROM lid_mapping WHERE device_id = ? AND pn_digest = ?",
        (device_id, pn_digest),
    )
    if is_close(unit, device_id, pn_digest if mapped is None else mapped["lid_digest"]):
        return Closeness.CLOSE
    if mapped is not None:
        # Who wrote before its number was known stands in the inbox by LID.
        lid = unit.vault.open("lid_mapping", device_id, "lid", pn_digest.hex(), mapped[1]).decode()
        by_lid = person_digest(unit, device_id, lid + LID_SUFFIX)
        if unit.row(_WROTE, (device_id, by_lid)) is not None:
            return Closeness.CLOSE
    written_to = unit.row(_WRITTEN_TO, (device_id, digest)) is not None
    return Closeness.UNANSWERED if written_to else Closeness.STRANGER


def is_close(unit: Unit, device_id: int, digest: bytes) -> bool:
    """Whether a person's token is valid, or there was a chat before; by `user_digest`."""
    values: tuple[SqlValue, ...] = (device_id, digest, int(unit.now.timestamp()))
    found = unit.row(
        "SELECT 1 FROM contact WHERE device_id = ? AND user_digest = ?"
        " AND (has_chat OR token_until > ?)",
        values,
    )
    return found is not None


def first_contacts_since(unit: Unit, device_id: int, since: datetime) -> list[datetime]:
    """When first messages to people left since that time, oldest first."""
    rows = unit.rows(
        f"SELECT armed_at FROM outbox WHERE device_id = ? AND first_contact = {_APPROACHED}"
        " AND armed_at > ? ORDER BY armed_at",
        (device_id, to_micros(since)),
    )
    return [from_micros(row["armed_at"]) for row in rows]


def welcome(unit: Unit, device_id: int, digest: bytes) -> None:
    """Note that somebody is close: what waits for them may go."""
    unit.run(
        f"UPDATE outbox SET first_contact = {_CLOSE}, held_until = NULL, held_reason = NULL"
        " WHERE device_id = ? AND recipient_digest = ? AND state = 'accepted'"
        f" AND first_contact <> {_CLOSE}",
        (device_id, digest),
    )


def approached(unit: Unit, device_id: int, digest: bytes) -> None:
    """Note that a first message was taken: what waits for them is none any more."""
    unit.run(
        f"UPDATE outbox SET first_contact = {_UNANSWERED}, held_until = NULL, held_reason = NULL"
        " WHERE device_id = ? AND recipient_digest = ? AND state = 'accepted'"
        f" AND first_contact = {_STRANGER}",
        (device_id, digest),
    )

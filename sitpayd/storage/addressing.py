"""Queries about how people are addressed: by LID, unless one understands only its number.

Which number is which LID is sessions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from sitpayd.storage.contacts import LID_SUFFIX, PN_SUFFIX, user_digest
from sitpayd.storage.database import Unit
from sitpayd.storage.sessions import lid_of


@dataclass(frozen=True, slots=True)
class Addressing:
    """How a person is addressed.

    Attributes:
        lid: user part of its LID; None: unknown.
        by_number: it is addressed by number although the LID is known.
    """

    lid: str | None
    by_number: bool


def addressing_of(unit: Unit, device_id: int, pn: str) -> Addressing:
    """How this number (user part) is addressed."""
    lid = lid_of(unit, device_id, pn)
    by_number = unit.value(
        int,
        "SELECT by_number FROM contact WHERE device_id = ? AND user_digest = ?",
        (device_id, _place(unit, device_id, pn, lid)),
    )
    return Addressing(lid, bool(by_number))


def address_by_number(unit: Unit, device_id: int, pn: str, wanted: bool) -> None:
    """Remember whether this number (user part) is addressed by number."""
    unit.run(
        "INSERT INTO contact (device_id, user_digest, by_number) VALUES (?, ?, ?)"
        " ON CONFLICT (device_id, user_digest) DO UPDATE SET by_number = excluded.by_number",
        (device_id, _place(unit, device_id, pn, lid_of(unit, device_id, pn)), wanted),
    )


def _place(unit: Unit, device_id: int, pn: str, lid: str | None) -> bytes:
    return user_digest(unit, device_id, pn + PN_SUFFIX if lid is None else lid + LID_SUFFIX)

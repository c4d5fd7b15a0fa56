"""Rows that bring their device down again and again: set aside, so that the others go on."""

from __future__ import annotations

from typing import Final

from sitpayd.storage.database import Unit
from sitpayd.storage.missed import forget_missed
from sitpayd.storage.outbox import mark_failed, mark_unknown
from sitpayd.storage.records import RowState, Settled

REASON: Final = "poison"


def set_aside(unit: Unit, device_id: int, row_id: int) -> Settled | None:
    """Settle a row for good: what may have left is unknown, what has not has failed.

    None: it was settled before; then it is only kept from devices that it missed.
    """
    forget_missed(unit, device_id, row_id)
    if mark_unknown(unit, device_id, row_id, REASON):
        state = RowState.UNKNOWN
    elif mark_failed(unit, device_id, row_id, REASON):
        state = RowState.FAILED
    else:
        return None
    row = unit.one("SELECT message_id FROM outbox WHERE id = ?", (row_id,))
    return Settled(device_id, row["message_id"], state, REASON)

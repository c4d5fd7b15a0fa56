"""Queries about what the phone tells a companion: keys of its app state, its name, and notices.

A notice is a history or a list of people that takes time to fetch and to read. It is stored in the
transaction that decrypted it, so that it may be answered at once, and deleted in the one that
stored the last of what stood in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sitpayd.storage.account import fact, set_fact
from sitpayd.storage.database import Unit
from sitpayd.storage.people import MAX_NAME_LEN
from sitpayd.storage.records import PUSH_NAME_FACT, SharedKey, Told, from_micros, to_micros

# Notices that may wait for one device; a phone sends some dozens after linking.
MAX_NOTICES: Final = 256
MAX_KEY_LEN: Final = 256
_MAX_T: Final = 2**40


@dataclass(frozen=True, slots=True)
class Waiting:
    """A notice that waits; attempts: how often it was tried; due_at: not to be tried before."""

    id: int
    notice: bytes
    attempts: int
    due_at: datetime

    def __repr__(self) -> str:
        return f"Waiting(id={self.id})"


def keep_told(unit: Unit, device_id: int, wa_message_id: str, told: Told) -> None:
    """Store what a message of the phone tells."""
    keep_keys(unit, device_id, told.keys)
    if told.notice is not None:
        _keep_notice(unit, device_id, wa_message_id, told.notice)
    if told.own_name is not None:
        keep_own_name(unit, device_id, told.own_name)


def keep_own_name(unit: Unit, device_id: int, name: str) -> None:
    """Store how the account calls itself; most often that is known."""
    value = name[:MAX_NAME_LEN].encode()
    if value and fact(unit, device_id, PUSH_NAME_FACT) != value:
        set_fact(unit, device_id, PUSH_NAME_FACT, value)


def keep_keys(unit: Unit, device_id: int, keys: Iterable[SharedKey]) -> None:
    """Store keys of the app state, each in the place of one that is not newer."""
    for key in keys:
        fits = 0 < len(key.key_id) <= MAX_KEY_LEN and 0 < len(key.key_data) <= MAX_KEY_LEN
        if not fits or not 0 <= key.timestamp <= _MAX_T:
            continue
        place = key.key_id.hex()
        sealed = unit.vault.seal("app_state_key", device_id, "key_data", place, key.key_data)
        unit.run(
            "INSERT INTO app_state_key (device_id, key_id, key_data_sealed, timestamp)"
            " VALUES (?, ?, ?, ?) ON CONFLICT (device_id, key_id) DO UPDATE SET"
            " key_data_sealed = excluded.key_data_sealed, timestamp = excluded.timestamp"
            " WHERE excluded.timestamp > app_state_key.timestamp",
            (device_id, key.key_id, sealed, key.timestamp),
        )


def shared_keys(unit: Unit, device_id: int) -> list[SharedKey]:
    """List the keys of the app state, oldest first."""
    rows = unit.rows(
        "SELECT key_id, key_data_sealed, timestamp FROM app_state_key WHERE device_id = ?"
        " ORDER BY timestamp, key_id",
        (device_id,),
    )
    return [
        SharedKey(
            key_id,
            unit.vault.open("app_state_key", device_id, "key_data", key_id.hex(), sealed),
            timestamp,
        )
        for key_id, sealed, timestamp in rows
    ]


def _keep_notice(unit: Unit, device_id: int, wa_message_id: str, notice: bytes) -> None:
    sealed = unit.vault.seal("phone_notice", device_id, "notice", wa_message_id, notice)
    unit.run(
        "INSERT INTO phone_notice (device_id, wa_message_id, notice_sealed, attempts, due_at)"
        " SELECT ?1, ?2, ?3, 0, ?4 WHERE"
        " (SELECT count(*) FROM phone_notice WHERE device_id = ?1) < ?5"
        " ON CONFLICT (device_id, wa_message_id) DO NOTHING",
        (device_id, wa_message_id, sealed, to_micros(unit.now), MAX_NOTICES),
    )


def is_waiting(unit: Unit, device_id: int, notice_id: int) -> bool:
    """Whether this notice still waits: a device that is linked anew knows nothing of it."""
    found = unit.row(
        "SELECT 1 FROM phone_notice WHERE device_id = ? AND id = ?", (device_id, notice_id)
    )
    return found is not None


def has_notices(unit: Unit, device_id: int) -> bool:
    """Whether a notice waits."""
    found = unit.row("SELECT 1 FROM phone_notice WHERE device_id = ? LIMIT 1", (device_id,))
    return found is not None


def next_notice(unit: Unit, device_id: int) -> Waiting | None:
    """The notice that is due first; None: none waits."""
    row = unit.row(
        "SELECT id, wa_message_id, notice_sealed, attempts, due_at FROM phone_notice"
        " WHERE device_id = ? ORDER BY due_at, id LIMIT 1",
        (device_id,),
    )
    if row is None:
        return None
    place = row["wa_message_id"]
    notice = unit.vault.open("phone_notice", device_id, "notice", place, row["notice_sealed"])
    return Waiting(row["id"], notice, row["attempts"], from_micros(row["due_at"]))


def put_off(unit: Unit, device_id: int, notice_id: int, delay: timedelta) -> None:
    """Note that an attempt at a notice failed, and when the next one is due."""
    unit.run(
        "UPDATE phone_notice SET attempts = attempts + 1, due_at = ?"
        " WHERE id = ? AND device_id = ?",
        (to_micros(unit.now + delay), notice_id, device_id),
    )


def forget_notice(unit: Unit, device_id: int, notice_id: int) -> None:
    """Delete a notice: all of it is stored, or it is given up."""
    unit.run("DELETE FROM phone_notice WHERE id = ? AND device_id = ?", (notice_id, device_id))

"""Queries about devices: who owns them, what is wanted of them, what was observed at the last."""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal

from sitpayd.storage import account, people, sessions
from sitpayd.storage.database import SqlValue, Unit
from sitpayd.storage.outbox import settle_logged_out
from sitpayd.storage.records import DeviceRecord, NewChatHold, Rest, from_micros, to_micros
from sitpayd.storage.vault import is_token, new_session_id, new_token

_COLUMNS: Final = (
    "id, session_id, partner_id, user_id, name, token_digest, token_sealed, desired, rest_phase,"
    " rest_reason, rest_since, rest_until, phone_sealed, removed_at, created_at,"
    " queue_when_offline, new_chats_until, new_chats_reason, logout_wanted,"
    " proxy_sealed"
)


def create_device(
    unit: Unit,
    partner_id: int,
    user_id: int,
    name: str,
    *,
    queue_when_offline: bool = False,
    proxy: str | None = None,
) -> DeviceRecord:
    """Make a device of one of the partner's users, with its session id and token (`dt_`)."""
    session_id, token = new_session_id(), new_token("dt")
    row = unit.one(
        "INSERT INTO device (session_id, partner_id, user_id, name, token_digest, token_sealed,"
        " desired, last_seq, last_prekey_id, sent_count, created_at, queue_when_offline)"
        " VALUES (?, ?, ?, ?, ?, ?, 'running', 0, 0, 0, ?, ?) RETURNING id",
        (
            session_id,
            partner_id,
            user_id,
            name,
            unit.vault.digest(token),
            # Its id does not exist yet; the session id is as unique.
            unit.vault.seal("device", 0, "token", session_id, token.encode()),
            to_micros(unit.now),
            queue_when_offline,
        ),
    )
    if proxy is not None:
        set_proxy(unit, row["id"], proxy)
    return DeviceRecord(
        id=row["id"],
        session_id=session_id,
        partner_id=partner_id,
        user_id=user_id,
        name=name,
        token=token,
        desired="running",
        rest=None,
        phone=None,
        removed_at=None,
        created_at=unit.now,
        queue_when_offline=queue_when_offline,
        proxy=proxy,
    )


def device_by_session_id(unit: Unit, partner_id: int, session_id: str) -> DeviceRecord | None:
    """Find a partner's device; another partner's or a removed one is None."""
    row = unit.row(
        f"SELECT {_COLUMNS} FROM device"
        " WHERE session_id = ? AND partner_id = ? AND removed_at IS NULL",
        (session_id, partner_id),
    )
    return _device(unit, row) if row else None


def device_of_any_partner(unit: Unit, session_id: str) -> DeviceRecord | None:
    """Find a device by its public name alone, for an operator; a removed one is None."""
    row = unit.row(
        f"SELECT {_COLUMNS} FROM device WHERE session_id = ? AND removed_at IS NULL", (session_id,)
    )
    return _device(unit, row) if row else None


def device_by_token(unit: Unit, token: str) -> DeviceRecord | None:
    """Find the device whose send token this is; a malformed one costs no query."""
    if not is_token("dt", token):
        return None
    digest = unit.vault.digest(token)
    row = unit.row(
        f"SELECT {_COLUMNS} FROM device WHERE token_digest = ? AND removed_at IS NULL", (digest,)
    )
    if row is None or not hmac.compare_digest(row["token_digest"], digest):
        return None
    return _device(unit, row)


def device_by_id(unit: Unit, device_id: int) -> DeviceRecord | None:
    """Find a device, also a removed one."""
    row = unit.row(f"SELECT {_COLUMNS} FROM device WHERE id = ?", (device_id,))
    return _device(unit, row) if row else None


def devices_of_user(
    unit: Unit, partner_id: int, user_id: int, after: int | None = None, limit: int = 1000
) -> list[DeviceRecord]:
    """List a user's devices in the order they were made, without removed ones."""
    return _devices(
        unit,
        unit.rows(
            f"SELECT {_COLUMNS} FROM device WHERE partner_id = ? AND user_id = ?"
            " AND removed_at IS NULL AND id > ? ORDER BY id LIMIT ?",
            (partner_id, user_id, after or 0, limit),
        ),
    )


def devices_to_run(unit: Unit) -> list[DeviceRecord]:
    """List every device that needs an actor after a start.

    Paused and resting ones do, too: their mailbox is answered. A removed one does as long as it has
    credentials: it is still to be logged out.
    """
    return _devices(
        unit,
        unit.rows(
            f"SELECT {_COLUMNS} FROM device WHERE desired <> 'removed'"
            " OR EXISTS (SELECT 1 FROM credentials WHERE device_id = device.id) ORDER BY id"
        ),
    )


def set_desired(unit: Unit, device_id: int, desired: Literal["running", "paused"]) -> bool:
    """Store what the owner wants. False: the device is removed, and that is final."""
    return _changed(
        unit,
        "UPDATE device SET desired = ? WHERE id = ? AND removed_at IS NULL",
        (desired, device_id),
    )


def want_logout(unit: Unit, device_id: int) -> bool:
    """Store that the device is to be logged out at WhatsApp. False: it is removed."""
    return _changed(
        unit,
        "UPDATE device SET logout_wanted = 1 WHERE id = ? AND removed_at IS NULL",
        (device_id,),
    )


def set_rest(unit: Unit, device_id: int, rest: Rest | None) -> None:
    """Store why a device rests; None: it does not. Logged out, a wished logout has come true."""
    values: tuple[SqlValue, ...] = (None, None, None, None)
    if rest:
        until = to_micros(rest.until) if rest.until else None
        values = (rest.phase, rest.reason, to_micros(rest.since), until)
    unit.run(
        "UPDATE device SET rest_phase = ?, rest_reason = ?, rest_since = ?, rest_until = ?,"
        " logout_wanted = CASE WHEN ? THEN 0 ELSE logout_wanted END WHERE id = ?",
        (*values, rest is not None and rest.phase == "logged_out", device_id),
    )


def start_anew(unit: Unit, device_id: int, credentials: bytes) -> None:
    """Store fresh credentials to be linked with; what belonged to the old ones is gone with them.

    So are the rest, the pause and the wished logout: to be linked is the latest wish.
    """
    sessions.start_anew(unit, device_id, credentials)
    account.forget_login_facts(unit, device_id)
    set_rest(unit, device_id, None)
    unit.run(
        "UPDATE device SET logout_wanted = 0, forgotten_at = NULL, desired = 'running'"
        " WHERE id = ? AND removed_at IS NULL",
        (device_id,),
    )


def hold_new_chats(unit: Unit, device_id: int, hold: NewChatHold | None) -> None:
    """Store that WhatsApp lets the account begin no chats, or that it does again."""
    until = None if hold is None else to_micros(hold.until)
    unit.run(
        "UPDATE device SET new_chats_until = ?, new_chats_reason = ? WHERE id = ?",
        (until, None if hold is None else hold.reason, device_id),
    )


def linked_to(unit: Unit, device_id: int, phone: str) -> None:
    """Store the number a device is linked to, digits; after another one it knows nobody."""
    before = device_by_id(unit, device_id)
    if before is not None and before.phone != phone:
        people.forget_people(unit, device_id)
        hold_new_chats(unit, device_id, None)
    set_phone(unit, device_id, phone)


def set_phone(unit: Unit, device_id: int, phone: str | None) -> None:
    """Store the number a device is linked to, digits."""
    sealed = phone and unit.vault.seal("device", device_id, "phone", "", phone.encode())
    unit.run("UPDATE device SET phone_sealed = ? WHERE id = ?", (sealed, device_id))


def set_proxy(unit: Unit, device_id: int, proxy: str | None) -> bool:
    """Store the URL of the proxy a device goes through; False: the device is removed."""
    sealed = proxy and unit.vault.seal("device", device_id, "proxy", "", proxy.encode())
    return _changed(
        unit,
        "UPDATE device SET proxy_sealed = ? WHERE id = ? AND removed_at IS NULL",
        (sealed, device_id),
    )


def remove_device(unit: Unit, device_id: int) -> bool:
    """Remove a device: its token is dead with this commit. False: it was removed before.

    Keys stay for the logout; `forget_keys` ends them.
    """
    return _changed(
        unit,
        "UPDATE device SET desired = 'removed', token_digest = NULL, token_sealed = NULL,"
        " removed_at = ? WHERE id = ? AND removed_at IS NULL",
        (to_micros(unit.now), device_id),
    )


def devices_to_forget(unit: Unit, removed_before: datetime) -> list[DeviceRecord]:
    """List devices whose keys are due: removed, or logged out by WhatsApp, before that time."""
    before = to_micros(removed_before)
    return _devices(
        unit,
        unit.rows(
            f"SELECT {_COLUMNS} FROM device WHERE forgotten_at IS NULL AND (removed_at < ?"
            " OR (rest_phase = 'logged_out' AND rest_since < ?)) ORDER BY id",
            (before, before),
        ),
    )


def forget_keys(unit: Unit, device_id: int) -> None:
    """Delete keys, names and texts of a device; what it did stays without them.

    If it is removed, all that is known of people goes, too. Otherwise it may be linked to the same
    number again, and whom their tokens make a friend is still one.

    The caller empties the write-ahead log afterwards (`Database.truncate_log`).
    """
    # Without keys nothing waiting can be sent any more.
    settle_logged_out(unit, device_id)
    sessions.delete_keys(unit, device_id)
    account.forget_facts(unit, device_id)
    removed = unit.row("SELECT 1 FROM device WHERE id = ? AND removed_at IS NOT NULL", (device_id,))
    if removed is None:
        people.forget_names(unit, device_id)
    else:
        people.forget_people(unit, device_id)
    unit.run(
        "UPDATE outbox SET text_sealed = NULL, stanza_sealed = NULL, participants_sealed = NULL"
        " WHERE device_id = ?",
        (device_id,),
    )
    unit.run(
        "UPDATE inbox SET text_sealed = NULL, push_name_sealed = NULL WHERE device_id = ?",
        (device_id,),
    )
    unit.run(
        "UPDATE device SET forgotten_at = ?,"
        " phone_sealed = CASE WHEN removed_at IS NULL THEN phone_sealed END,"
        " proxy_sealed = CASE WHEN removed_at IS NULL THEN proxy_sealed END WHERE id = ?",
        (to_micros(unit.now), device_id),
    )


def _changed(unit: Unit, statement: str, values: tuple[SqlValue, ...]) -> bool:
    return unit.run(statement, values) > 0


def _devices(unit: Unit, rows: Iterable[sqlite3.Row]) -> list[DeviceRecord]:
    return [_device(unit, row) for row in rows]


def _device(unit: Unit, row: sqlite3.Row) -> DeviceRecord:
    token = phone = proxy = None
    if row["token_sealed"] is not None:
        token = unit.vault.open(
            "device", 0, "token", row["session_id"], row["token_sealed"]
        ).decode()
    if row["phone_sealed"] is not None:
        phone = unit.vault.open("device", row["id"], "phone", "", row["phone_sealed"]).decode()
    if row["proxy_sealed"] is not None:
        proxy = unit.vault.open("device", row["id"], "proxy", "", row["proxy_sealed"]).decode()
    rest = None
    if row["rest_phase"] is not None:
        until = None if row["rest_until"] is None else from_micros(row["rest_until"])
        rest = Rest(row["rest_phase"], row["rest_reason"], from_micros(row["rest_since"]), until)
    return DeviceRecord(
        id=row["id"],
        session_id=row["session_id"],
        partner_id=row["partner_id"],
        user_id=row["user_id"],
        name=row["name"],
        token=token or "",
        desired=row["desired"],
        rest=rest,
        phone=phone,
        removed_at=None if row["removed_at"] is None else from_micros(row["removed_at"]),
        created_at=from_micros(row["created_at"]),
        queue_when_offline=bool(row["queue_when_offline"]),
        new_chats=_new_chat_hold(row),
        logout_wanted=bool(row["logout_wanted"]),
        proxy=proxy,
    )


def _new_chat_hold(row: sqlite3.Row) -> NewChatHold | None:
    if row["new_chats_until"] is None:
        return None
    return NewChatHold(row["new_chats_reason"], from_micros(row["new_chats_until"]))

"""Queries about incoming messages: stored in one transaction with the ratchet that decrypted them.

A message is known by chat, sender and id; a ciphertext by its hash, since no ratchet decrypts it
twice. What the server sends again is recognised by either and only acknowledged.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from sitpayd.storage.contacts import PN_SUFFIX, note_account, person_digest, welcome
from sitpayd.storage.database import Unit
from sitpayd.storage.people import keep_name
from sitpayd.storage.phone import keep_told
from sitpayd.storage.records import (
    Address,
    Incoming,
    MarkedRead,
    MessageView,
    ReadMark,
    RowState,
    StateChange,
    Told,
    from_micros,
    to_micros,
)
from sitpayd.storage.sessions import (
    delete_prekey,
    names_of,
    save_identities,
    save_sessions,
)
from sitpayd.storage.vault import new_message_id

RECEIVED: Final = "received"
READ: Final = "read"
# So many are marked as read at a time; in a chat with more the oldest stay as they are.
MAX_MARKED: Final = 1000

_COLUMNS: Final = (
    "device_id, seq, message_id, wa_message_id, chat_sealed, text_sealed, push_name_sealed,"
    " from_me, timestamp, received_at, read_at"
)
# What WhatsApp is not told yet; the words of the index that holds no others.
_UNTOLD: Final = "read_at IS NOT NULL AND NOT read_told"

_INSERT: Final = """
INSERT INTO inbox (device_id, seq, message_id, wa_message_id, dedupe_digest, chat_sealed,
    sender_sealed, push_name_sealed, text_sealed, from_me, timestamp, received_at,
    chat_digest)
SELECT id, last_seq + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM device WHERE id = ?
RETURNING seq
"""


def receive(
    unit: Unit,
    device_id: int,
    incoming: Incoming | None,
    *,
    ciphertext_digests: Iterable[bytes] = (),
    sessions: Mapping[Address, bytes],
    identities: Mapping[Address, bytes],
    used_prekey_id: int | None = None,
    told: tuple[str, Told] | None = None,
) -> bool:
    """Store what decrypting a stanza brought, all of it or nothing; then it may be acknowledged.

    Keys are saved also where the message is known already: the ratchet has moved all the same.

    Args:
        incoming: the message; None if the stanza held none for a reader.
        ciphertext_digests: digest of each ciphertext that was decrypted.
        told: what a message of our own account tells this device, and the message's id.

    Returns:
        Whether there is a new message.
    """
    save_sessions(unit, device_id, sessions)
    save_identities(unit, device_id, identities)
    if used_prekey_id is not None:
        delete_prekey(unit, device_id, used_prekey_id)
    for digest in ciphertext_digests:
        unit.run(
            "INSERT INTO seen_ciphertext (device_id, digest, seen_at) VALUES (?, ?, ?)"
            " ON CONFLICT (device_id, digest) DO NOTHING",
            (device_id, digest, to_micros(unit.now)),
        )
    if told is not None:
        keep_told(unit, device_id, *told)
    if incoming is None:
        return False
    if incoming.push_name is not None and not incoming.from_me:
        keep_name(unit, device_id, incoming.sender, incoming.push_name)
    return _insert(unit, device_id, incoming)


def seen_ciphertext(unit: Unit, device_id: int, digest: bytes) -> bool:
    """Whether a ciphertext with this digest was decrypted and committed before."""
    found = unit.row(
        "SELECT 1 FROM seen_ciphertext WHERE device_id = ? AND digest = ?", (device_id, digest)
    )
    return found is not None


def message(unit: Unit, device_id: int, message_id: str) -> MessageView | None:
    """Find an incoming message of the device."""
    row = unit.row(
        f"SELECT {_COLUMNS} FROM inbox WHERE message_id = ? AND device_id = ?",
        (message_id, device_id),
    )
    return _view(unit, row) if row else None


def messages_after(
    unit: Unit, device_id: int, seq: int, limit: int
) -> list[tuple[int, MessageView]]:
    """List incoming messages from behind a place in the device's order, with their places."""
    rows = unit.rows(
        f"SELECT {_COLUMNS} FROM inbox WHERE device_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        (device_id, seq, limit),
    )
    return [(row["seq"], _view(unit, row)) for row in rows]


def mark_read(unit: Unit, device_id: int, message_id: str, *, only: bool) -> MarkedRead | None:
    """Mark an incoming message as read, and with it the unread ones before it in its chat.

    Args:
        only: leave those before it alone.

    Returns:
        None if the inbox has no such message.
    """
    row = unit.row(
        "SELECT id, seq, from_me, chat_digest, read_at FROM inbox"
        " WHERE message_id = ? AND device_id = ?",
        (message_id, device_id),
    )
    if row is None:
        return None
    if row["from_me"]:
        return MarkedRead(None)
    marked = unit.run(
        "UPDATE inbox SET read_at = ? WHERE id IN"
        " (SELECT id FROM inbox WHERE device_id = ? AND chat_digest = ? AND seq >= ? AND seq <= ?"
        " AND read_at IS NULL AND NOT from_me ORDER BY seq DESC LIMIT ?)",
        (
            to_micros(unit.now),
            device_id,
            row["chat_digest"],
            row["seq"] if only else 0,
            row["seq"],
            MAX_MARKED,
        ),
    )
    return MarkedRead(unit.now if row["read_at"] is None else from_micros(row["read_at"]), marked)


def untold_reads(
    unit: Unit, device_id: int, limit: int, without: Iterable[int] = ()
) -> list[ReadMark]:
    """List read messages that WhatsApp does not know of, oldest first.

    Args:
        without: ids of rows that are being told.
    """
    rows = unit.rows(
        "SELECT id, message_id, wa_message_id, sender_sealed, read_at FROM inbox"
        f" WHERE device_id = ? AND {_UNTOLD} AND id NOT IN (SELECT value FROM json_each(?))"
        " ORDER BY seq LIMIT ?",
        (device_id, json.dumps(list(without)), limit),
    )
    return [
        ReadMark(
            row["id"],
            row["wa_message_id"],
            unit.vault.open(
                "inbox", device_id, "sender", row["message_id"], row["sender_sealed"]
            ).decode(),
            from_micros(row["read_at"]),
        )
        for row in rows
    ]


def owes_reads(unit: Unit, device_id: int) -> bool:
    """Whether there are read messages that WhatsApp does not know of."""
    found = unit.row(f"SELECT 1 FROM inbox WHERE device_id = ? AND {_UNTOLD} LIMIT 1", (device_id,))
    return found is not None


def devices_that_owe_reads(unit: Unit) -> list[str]:
    """List the session ids of devices that have read messages to tell WhatsApp of."""
    rows = unit.rows(
        f"SELECT session_id FROM device WHERE id IN (SELECT device_id FROM inbox WHERE {_UNTOLD})"
    )
    return [row["session_id"] for row in rows]


def mark_reads_told(unit: Unit, device_id: int, row_ids: Iterable[int]) -> None:
    """Note that WhatsApp knows that these messages were read."""
    unit.run(
        "UPDATE inbox SET read_told = 1 WHERE device_id = ?"
        " AND id IN (SELECT value FROM json_each(?))",
        (device_id, json.dumps(list(row_ids))),
    )


def let_read_marks_go(unit: Unit, device_id: int) -> None:
    """Give up telling what was read: the account that read it is gone from the device."""
    unit.run(f"UPDATE inbox SET read_told = 1 WHERE device_id = ? AND {_UNTOLD}", (device_id,))


def forget_texts(unit: Unit, before: datetime, limit: int = 1000) -> int:
    """Delete texts received before that time; returns how many, at most `limit`."""
    return unit.run(
        "UPDATE inbox SET text_sealed = NULL, push_name_sealed = NULL WHERE id IN"
        " (SELECT id FROM inbox WHERE text_sealed IS NOT NULL AND received_at < ? LIMIT ?)",
        (to_micros(before), limit),
    )


def forget_ciphertexts(unit: Unit, before: datetime, limit: int = 1000) -> int:
    """Delete hashes seen before that time; returns how many, at most `limit`."""
    return unit.run(
        "DELETE FROM seen_ciphertext WHERE rowid IN"
        " (SELECT rowid FROM seen_ciphertext WHERE seen_at < ? LIMIT ?)",
        (to_micros(before), limit),
    )


def _insert(unit: Unit, device_id: int, incoming: Incoming) -> bool:
    if _is_known(unit, device_id, incoming):
        return False
    message_id = new_message_id()

    def seal(column: str, value: str) -> bytes:
        return unit.vault.seal("inbox", device_id, column, message_id, value.encode())

    chat_digest = person_digest(unit, device_id, incoming.chat)
    seq = unit.value(
        int,
        _INSERT,
        (
            message_id,
            incoming.wa_message_id,
            _known_by(unit, device_id, incoming.chat, incoming.sender, incoming.wa_message_id),
            seal("chat", incoming.chat),
            seal("sender", incoming.sender),
            None if incoming.push_name is None else seal("push_name", incoming.push_name),
            seal("text", incoming.text),
            incoming.from_me,
            to_micros(incoming.timestamp),
            to_micros(unit.now),
            chat_digest,
            device_id,
        ),
    )
    assert seq is not None
    welcome(unit, device_id, chat_digest)
    note_account(unit, device_id, chat_digest)
    unit.run("UPDATE device SET last_seq = ? WHERE id = ?", (seq, device_id))
    return True


def _is_known(unit: Unit, device_id: int, incoming: Incoming) -> bool:
    """Whether this message stands here, under whichever names of chat and sender."""
    # A chat is named by the digits of its number, as soon as that is known.
    chat = incoming.chat if "@" in incoming.chat else incoming.chat + PN_SUFFIX
    senders = names_of(unit, device_id, incoming.sender)
    chats = senders if chat in senders else names_of(unit, device_id, chat)
    digests = [
        _known_by(unit, device_id, name.removesuffix(PN_SUFFIX), sender, incoming.wa_message_id)
        for name in chats
        for sender in senders
    ]
    marks = ", ".join("?" * len(digests))
    found = unit.row(
        f"SELECT 1 FROM inbox WHERE device_id = ? AND dedupe_digest IN ({marks}) LIMIT 1",
        (device_id, *digests),
    )
    return found is not None


def _known_by(unit: Unit, device_id: int, chat: str, sender: str, wa_message_id: str) -> bytes:
    return unit.vault.digest(f"incoming|{device_id}|{chat}|{sender}|{wa_message_id}")


def _view(unit: Unit, row: sqlite3.Row) -> MessageView:
    def opened(column: str, sealed: bytes) -> str:
        value = unit.vault.open("inbox", row["device_id"], column, row["message_id"], sealed)
        return value.decode()

    received_at = from_micros(row["received_at"])
    name = row["push_name_sealed"]
    # What the account wrote on another device of its own is outgoing to whoever reads this.
    history = [StateChange(RowState.SENT if row["from_me"] else RECEIVED, received_at)]
    if row["read_at"] is not None:
        history.append(StateChange(READ, from_micros(row["read_at"])))
    return MessageView(
        message_id=row["message_id"],
        wa_message_id=row["wa_message_id"],
        direction="out" if row["from_me"] else "in",
        peer=opened("chat", row["chat_sealed"]),
        text=None if row["text_sealed"] is None else opened("text", row["text_sealed"]),
        state=history[-1].state,
        reason=None,
        timestamp=from_micros(row["timestamp"]),
        history=tuple(history),
        name=None if name is None or row["from_me"] else opened("push_name", name),
    )

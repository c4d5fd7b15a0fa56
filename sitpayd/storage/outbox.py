"""Queries about outgoing messages: the row is the truth of what was promised and what was sent.

States move forward only, and the `WHERE` clause of each change says from where. Three transactions
carry a message: `accept` before any answer, `arm` before the first byte, `mark_sent` after the
server's acknowledgement.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Final, Literal

from sitpayd.storage import checks, inbox
from sitpayd.storage.contacts import approached, closeness, person_digest
from sitpayd.storage.database import SqlValue, Unit
from sitpayd.storage.missed import forget_all, forget_overdue, note_missed
from sitpayd.storage.records import (
    CAME_FROM,
    Acceptance,
    Accepted,
    Address,
    Closeness,
    DeviceGone,
    MessagePage,
    MessageView,
    NewMessage,
    OutboxRow,
    QueueFull,
    Repeated,
    RowState,
    Settled,
    StateChange,
    from_micros,
    to_micros,
)
from sitpayd.storage.resends import never_again
from sitpayd.storage.sessions import save_identities, save_sessions

REASON_EXPIRED: Final = "expired"
REASON_LOGGED_OUT: Final = "device_logged_out"
REASON_UNANSWERED: Final = "unanswered"

Receipt = Literal["delivered", "read"]

_STRANGER, _APPROACHED = int(Closeness.STRANGER), int(Closeness.APPROACHED)
_UNANSWERED: Final = int(Closeness.UNANSWERED)

_COLUMNS: Final = (
    "id, device_id, seq, message_id, wa_message_id, recipient_sealed, text_sealed, body_digest,"
    " state, reason, stanza_sealed, participants_sealed, phash, attempts, server_time, created_at,"
    " expires_at, history, held_until, held_reason, first_contact, missed_devices"
)

# SQLite takes a partial index only where the query repeats the index's own condition.
_OPEN: Final = "state IN ('accepted', 'armed')"

# One statement, so that the place in the queue, its bound and the conflict are judged together.
_ACCEPT: Final = f"""
INSERT INTO outbox (device_id, seq, message_id, wa_message_id, recipient_digest, recipient_sealed,
    text_sealed, idempotency_digest, body_digest, state, attempts, created_at, expires_at, history,
    first_contact, resends)
SELECT id, last_seq + 1, ?, ?, ?, ?, ?, ?, ?, 'accepted', 0, ?, ?, ?, ?, '{{}}' FROM device
WHERE id = ? AND removed_at IS NULL
    AND (SELECT count(*) FROM outbox WHERE device_id = device.id AND {_OPEN}
        AND state = 'accepted') < ?
ON CONFLICT (device_id, idempotency_digest) DO NOTHING
RETURNING id, seq
"""

_COUNT_OPEN: Final = f"""
SELECT state, count(*) FROM (SELECT state FROM outbox WHERE {_OPEN} LIMIT ?) GROUP BY state
"""

_ARM: Final = f"""
UPDATE outbox SET state = 'armed', stanza_sealed = :stanza, participants_sealed = :participants,
    phash = :phash, armed_at = :now, held_until = NULL, held_reason = NULL,
    first_contact = iif(first_contact = {_STRANGER}, {_APPROACHED}, first_contact),
    history = json_insert(history, '$[#]', json_array('armed', :now))
WHERE id = :id AND device_id = :device_id AND state = :before
"""

# A settled row is never written to the wire again, so the stanza goes, but for one on its way to
# devices that were missed; the text stays for those that could not decrypt it.
_SETTLE: Final = """
UPDATE outbox SET state = :state, reason = :reason,
    stanza_sealed = iif(missed_devices, stanza_sealed, NULL),
    server_time = coalesce(:server_time, server_time), settled_at = coalesce(settled_at, :now),
    history = json_insert(history, '$[#]', json_array(:state, :at))
"""


def _came_from(state: RowState) -> str:
    return ", ".join(f"'{before}'" for before in CAME_FROM[state])


_MARK_SENT: Final = (
    f"{_SETTLE} WHERE device_id = :device_id AND wa_message_id = :wa_message_id"
    f" AND state IN ({_came_from(RowState.SENT)})"
    " RETURNING message_id, first_contact, recipient_digest"
)
_SETTLE_BY_ID: Final = {
    state: f"{_SETTLE} WHERE id = :id AND device_id = :device_id AND state IN ({_came_from(state)})"
    for state in (RowState.FAILED, RowState.UNKNOWN, RowState.DELIVERED, RowState.READ)
}
_CANCEL: Final = (
    f"{_SETTLE} WHERE device_id = :device_id AND message_id = :message_id"
    f" AND state IN ({_came_from(RowState.CANCELED)})"
)


def accept(unit: Unit, message: NewMessage, ttl: timedelta | None = None) -> Acceptance:
    """Store a message to be sent, or say why not.

    A repeated idempotency key finds its first row, however full the queue is.

    Args:
        ttl: how long from this transaction on, in the place of the message's own time: the clock
            may be set between a request and its commit.
    """
    vault, device_id = unit.vault, message.device_id
    key_digest = None
    if message.idempotency_key is not None:
        key_digest = vault.digest(f"idempotency|{device_id}|{message.idempotency_key}")
    body_digest = vault.digest(b"body|" + message.body_hash)
    now = to_micros(unit.now)
    expires_at = to_micros(message.expires_at if ttl is None else unit.now + ttl)
    standing = closeness(unit, device_id, message.recipient)
    inserted = unit.row(
        _ACCEPT,
        (
            message.message_id,
            message.wa_message_id,
            person_digest(unit, device_id, message.recipient),
            _seal(unit, device_id, "recipient", message.message_id, message.recipient.encode()),
            _seal(unit, device_id, "text", message.message_id, message.text.encode()),
            key_digest,
            body_digest,
            now,
            expires_at,
            json.dumps([[RowState.ACCEPTED, now]]),
            standing,
            device_id,
            message.max_queued,
        ),
    )
    if inserted is None:
        return _not_accepted(unit, device_id, key_digest, body_digest)
    unit.run("UPDATE device SET last_seq = ? WHERE id = ?", (inserted["seq"], device_id))
    return Accepted(
        OutboxRow(
            id=inserted["id"],
            device_id=device_id,
            seq=inserted["seq"],
            message_id=message.message_id,
            wa_message_id=message.wa_message_id,
            recipient=message.recipient,
            text=message.text,
            state=RowState.ACCEPTED,
            reason=None,
            stanza=None,
            participants=None,
            phash=None,
            attempts=0,
            server_time=None,
            created_at=from_micros(now),
            expires_at=from_micros(expires_at),
            first_contact=standing is Closeness.STRANGER,
        )
    )


def waiting_count(unit: Unit, device_id: int) -> int:
    """How many rows stand `accepted`."""
    return (
        unit.value(
            int,
            f"SELECT count(*) FROM outbox WHERE device_id = ? AND {_OPEN} AND state = 'accepted'",
            (device_id,),
        )
        or 0
    )


def devices_that_wait(unit: Unit) -> list[str]:
    """List the session ids of devices that have something to send."""
    rows = unit.rows(
        "SELECT session_id FROM device WHERE id IN"
        f" (SELECT device_id FROM outbox WHERE {_OPEN}"
        " UNION SELECT device_id FROM outbox WHERE missed_devices)"
    )
    return [row["session_id"] for row in rows]


def _not_accepted(
    unit: Unit, device_id: int, key_digest: bytes | None, body_digest: bytes
) -> Repeated | QueueFull | DeviceGone:
    if key_digest is not None:
        row = unit.row(
            f"SELECT {_COLUMNS} FROM outbox WHERE device_id = ? AND idempotency_digest = ?",
            (device_id, key_digest),
        )
        if row is not None:
            same_body = hmac.compare_digest(row["body_digest"], body_digest)
            return Repeated(_row(unit, row), same_body)
    here = unit.row("SELECT 1 FROM device WHERE id = ? AND removed_at IS NULL", (device_id,))
    return QueueFull() if here else DeviceGone()


def repeated(unit: Unit, device_id: int, idempotency_key: str, body_hash: bytes) -> Repeated | None:
    """Find the row an idempotency key was used for; None: it is new."""
    found = _not_accepted(
        unit,
        device_id,
        unit.vault.digest(f"idempotency|{device_id}|{idempotency_key}"),
        unit.vault.digest(b"body|" + body_hash),
    )
    return found if isinstance(found, Repeated) else None


def next_row(
    unit: Unit, device_id: int, *, first_contacts: bool = True, unanswered: bool = True
) -> OutboxRow | None:
    """The row to be sent now: an armed one, one that missed devices, the oldest accepted one.

    Args:
        first_contacts: False passes over first messages to people; they wait. Not so those to
            numbers without an account: they never leave, and need not wait for their refusal.
        unanswered: False passes over messages to people who never answered, likewise.
    """
    barred = [] if first_contacts else [_STRANGER]
    barred += [] if unanswered else [_UNANSWERED]
    allowed = ""
    since: tuple[int, ...] = ()
    if barred:
        waiting = ", ".join(map(str, barred))
        allowed = f" AND (first_contact NOT IN ({waiting}) OR {checks.RECIPIENT_IS_ABSENT})"
        since = checks.absent_since(unit)
    for condition, values in (
        (f"{_OPEN} AND state = 'armed'", ()),
        ("missed_devices", ()),
        (f"{_OPEN} AND state = 'accepted'{allowed}", since),
    ):
        row = unit.row(
            f"SELECT {_COLUMNS} FROM outbox WHERE device_id = ? AND {condition}"
            " ORDER BY seq LIMIT 1",
            (device_id, *values),
        )
        if row is not None:
            return _row(unit, row)
    return None


def hold(unit: Unit, device_id: int, row_id: int, until: datetime, reason: str) -> None:
    """Note why a row waits, and until when."""
    unit.run(
        "UPDATE outbox SET held_until = ?, held_reason = ?"
        " WHERE id = ? AND device_id = ? AND state = 'accepted'",
        (to_micros(until), reason, row_id, device_id),
    )


def hold_first_contacts(
    unit: Unit, device_id: int, until: datetime, reason: str, *, unanswered: bool = False
) -> list[str]:
    """Note why the first messages to people wait; returns those that did not know it yet.

    Args:
        unanswered: messages to people who never answered wait, too.
    """
    others = _UNANSWERED if unanswered else _STRANGER
    rows = unit.rows(
        "UPDATE outbox SET held_until = ?1, held_reason = ?2 WHERE device_id = ?3"
        f" AND state = 'accepted' AND {_OPEN} AND first_contact IN ({_STRANGER}, ?4)"
        " AND (held_until IS NOT ?1 OR held_reason IS NOT ?2) RETURNING message_id",
        (to_micros(until), reason, device_id, others),
    )
    return [row["message_id"] for row in rows]


def row_by_wa_message_id(unit: Unit, device_id: int, wa_message_id: str) -> OutboxRow | None:
    """Find a row by WhatsApp's id, for acknowledgements and retry receipts."""
    row = unit.row(
        f"SELECT {_COLUMNS} FROM outbox WHERE device_id = ? AND wa_message_id = ?",
        (device_id, wa_message_id),
    )
    return _row(unit, row) if row else None


def arm(
    unit: Unit,
    device_id: int,
    row_id: int,
    stanza: bytes,
    *,
    sessions: Mapping[Address, bytes],
    identities: Mapping[Address, bytes],
    participants: bytes,
    phash: str | None,
    again: bool = False,
) -> bool:
    """Store the finished stanza together with every key that made it.

    Args:
        stanza: what will be written to the wire, now and after any restart.
        participants: whom it was encrypted for; opaque here.
        again: WhatsApp refused the armed bytes: these take their place under the same id.

    Returns:
        False if the row is not `accepted`, or with `again` not `armed`, any more: then nothing is
        stored, and the caller throws its copies of the sessions away.
    """
    before = RowState.ARMED if again else RowState.ACCEPTED
    message_id = unit.value(
        str,
        "SELECT message_id FROM outbox WHERE id = ? AND device_id = ? AND state = ?",
        (row_id, device_id, before),
    )
    if message_id is None:
        return False
    unit.run(
        _ARM,
        {
            "stanza": _seal(unit, device_id, "stanza", message_id, stanza),
            "participants": _seal(unit, device_id, "participants", message_id, participants),
            "phash": phash,
            "now": to_micros(unit.now),
            "id": row_id,
            "device_id": device_id,
            "before": before,
        },
    )
    save_sessions(unit, device_id, sessions)
    save_identities(unit, device_id, identities)
    return True


def count_attempt(unit: Unit, device_id: int, row_id: int) -> int:
    """Count one more writing of the stanza; returns how many there were."""
    row = unit.one(
        "UPDATE outbox SET attempts = attempts + 1 WHERE id = ? AND device_id = ?"
        " RETURNING attempts",
        (row_id, device_id),
    )
    return int(row["attempts"])


def mark_sent(
    unit: Unit,
    device_id: int,
    wa_message_id: str,
    server_time: datetime | None,
    *,
    missed: bool = False,
) -> str | None:
    """Note the server's acknowledgement.

    Args:
        missed: the server knows of devices that it was not encrypted for.

    Returns:
        The message id; None if no such row waits for it.
    """
    sent = unit.row(
        _MARK_SENT,
        _settling(unit, RowState.SENT, server_time=server_time)
        | {"device_id": device_id, "wa_message_id": wa_message_id},
    )
    if missed:
        # Also where a receipt came before the acknowledgement.
        note_missed(unit, device_id, wa_message_id)
    if sent is None:
        return None
    _count_sent(unit, device_id)
    if sent["first_contact"] == _APPROACHED:
        approached(unit, device_id, sent["recipient_digest"])
    return str(sent["message_id"])


def mark_failed(unit: Unit, device_id: int, row_id: int, reason: str) -> bool:
    """Settle a row that certainly was not and will not be sent. False: it has gone further."""
    return _settle(unit, device_id, row_id, RowState.FAILED, reason)


def mark_unknown(unit: Unit, device_id: int, row_id: int, reason: str) -> bool:
    """Settle an armed row of which nobody knows whether it arrived. False: it has gone further."""
    return _settle(unit, device_id, row_id, RowState.UNKNOWN, reason)


def open_rows(unit: Unit, limit: int) -> dict[str, int]:
    """Count the messages that are not settled, by state, up to `limit` of them.

    They are counted in an index that holds no others.
    """
    counted = {str(RowState.ACCEPTED): 0, str(RowState.ARMED): 0}
    for state, count in unit.rows(_COUNT_OPEN, (limit,)):
        counted[state] = count
    return counted


def cancel(unit: Unit, device_id: int, message_id: str) -> bool:
    """Take a row back that is still `accepted`. False: it is not, so it may arrive."""
    cancelled = unit.run(
        _CANCEL,
        _settling(unit, RowState.CANCELED) | {"device_id": device_id, "message_id": message_id},
    )
    return cancelled > 0


def mark_receipt(
    unit: Unit,
    device_id: int,
    wa_message_ids: Iterable[str],
    receipt: Receipt,
    at: datetime,
    peers: Collection[str],
    device: str | None = None,
) -> list[str]:
    """Note that the recipient's devices got, or showed, these messages.

    Args:
        at: the receipt's own time.
        device: which of them this is, if it is to get no resend any more.
        peers: names of the chat the receipt came from, in the form of `NewMessage.recipient`;
            a row for somebody else is left alone.

    Returns:
        The message ids of the rows that moved.
    """
    state = RowState(receipt)
    digests = {person_digest(unit, device_id, peer) for peer in peers}
    moved = []
    for wa_message_id in wa_message_ids:
        row = unit.row(
            "SELECT id, message_id, recipient_digest, state FROM outbox"
            " WHERE device_id = ? AND wa_message_id = ?",
            (device_id, wa_message_id),
        )
        if row is None or row["recipient_digest"] not in digests:
            continue
        if device is not None:
            never_again(unit, device_id, row["id"], device)
        if not _settle(unit, device_id, row["id"], state, None, at):
            continue
        if row["state"] in (RowState.ARMED, RowState.UNKNOWN):
            # The receipt came before the acknowledgement, which it proves.
            _count_sent(unit, device_id)
            approached(unit, device_id, row["recipient_digest"])
        moved.append(row["message_id"])
    return moved


def stray_receipts(
    unit: Unit, device_id: int, wa_message_ids: Collection[str], peers: Collection[str]
) -> int:
    """How many of these messages were never sent to the chat that has a receipt for them."""
    digests = [person_digest(unit, device_id, peer).hex() for peer in peers]
    sent = unit.value(
        int,
        "SELECT count(*) FROM outbox WHERE device_id = ?"
        " AND wa_message_id IN (SELECT value FROM json_each(?))"
        " AND hex(recipient_digest) IN (SELECT upper(value) FROM json_each(?))",
        (device_id, json.dumps(list(wa_message_ids)), json.dumps(digests)),
    )
    return len(wa_message_ids) - (sent or 0)


def expire(unit: Unit, now: datetime, limit: int = 1000) -> list[Settled]:
    """Settle rows whose time is over: accepted ones are `expired`, armed ones `unknown`.

    Args:
        limit: rows; if as many come back, there may be more.
    """
    forget_overdue(unit, now)
    rows = unit.rows(
        f"SELECT id, device_id, message_id, state FROM outbox WHERE {_OPEN} AND expires_at <= ?"
        " ORDER BY expires_at LIMIT ?",
        (to_micros(now), limit),
    )
    return _settle_open(unit, rows, RowState.EXPIRED, REASON_EXPIRED, REASON_UNANSWERED)


def settle_logged_out(unit: Unit, device_id: int) -> list[Settled]:
    """Settle all rows of a device that lost its login: accepted `failed`, armed `unknown`."""
    forget_all(unit, device_id)
    rows = unit.rows(
        f"SELECT id, device_id, message_id, state FROM outbox WHERE {_OPEN} AND device_id = ?"
        " ORDER BY seq",
        (device_id,),
    )
    return _settle_open(unit, rows, RowState.FAILED, REASON_LOGGED_OUT, REASON_LOGGED_OUT)


def forget_texts(unit: Unit, before: datetime, limit: int = 1000) -> int:
    """Delete texts of rows settled before that time, and whom they were encrypted for.

    The caller empties the write-ahead log afterwards (`Database.truncate_log`).

    Returns:
        How many; as many as `limit`: there may be more.
    """
    return unit.run(
        "UPDATE outbox SET text_sealed = NULL, participants_sealed = NULL, stanza_sealed = NULL,"
        " missed_devices = 0 WHERE id IN"
        " (SELECT id FROM outbox WHERE text_sealed IS NOT NULL AND settled_at IS NOT NULL"
        " AND settled_at < ? LIMIT ?)",
        (to_micros(before), limit),
    )


def message(unit: Unit, device_id: int, message_id: str) -> MessageView | None:
    """Find a message of the device, of either direction."""
    row = unit.row(
        f"SELECT {_COLUMNS} FROM outbox WHERE message_id = ? AND device_id = ?",
        (message_id, device_id),
    )
    return _view(unit, row) if row else inbox.message(unit, device_id, message_id)


def messages(
    unit: Unit, device_id: int, after: str | None = None, limit: int = 100
) -> MessagePage | None:
    """List a device's messages of both directions in their one order.

    Args:
        after: the message id the page starts behind.

    Returns:
        None if the device has no message `after`.
    """
    seq: int | None = 0
    if after is not None:
        seq = unit.value(
            int,
            "SELECT seq FROM outbox WHERE message_id = ?1 AND device_id = ?2 UNION ALL"
            " SELECT seq FROM inbox WHERE message_id = ?1 AND device_id = ?2",
            (after, device_id),
        )
    if seq is None:
        return None
    rows = unit.rows(
        f"SELECT {_COLUMNS} FROM outbox WHERE device_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        (device_id, seq, limit + 1),
    )
    outgoing = ((row["seq"], _view(unit, row)) for row in rows)
    incoming = inbox.messages_after(unit, device_id, seq, limit + 1)
    ordered = merge(outgoing, incoming, key=lambda numbered: numbered[0])
    views = tuple(view for _, view in islice(ordered, limit + 1))
    return MessagePage(views[:limit], len(views) > limit)


def _settling(
    unit: Unit,
    state: RowState,
    reason: str | None = None,
    *,
    server_time: datetime | None = None,
    at: datetime | None = None,
) -> dict[str, SqlValue]:
    return {
        "state": state,
        "reason": reason,
        "server_time": None if server_time is None else to_micros(server_time),
        "now": to_micros(unit.now),
        "at": to_micros(at or unit.now),
    }


def _settle(
    unit: Unit,
    device_id: int,
    row_id: int,
    state: RowState,
    reason: str | None,
    at: datetime | None = None,
) -> bool:
    settled = unit.run(
        _SETTLE_BY_ID[state],
        _settling(unit, state, reason, at=at) | {"id": row_id, "device_id": device_id},
    )
    return settled > 0


def _settle_open(
    unit: Unit,
    rows: Iterable[sqlite3.Row],
    accepted_end: RowState,
    accepted_reason: str,
    armed_reason: str,
) -> list[Settled]:
    settled = []
    for row in rows:
        state, reason = accepted_end, accepted_reason
        if row["state"] == RowState.ARMED:
            state, reason = RowState.UNKNOWN, armed_reason
        unit.run(f"{_SETTLE} WHERE id = :id", _settling(unit, state, reason) | {"id": row["id"]})
        settled.append(Settled(row["device_id"], row["message_id"], state, reason))
    return settled


def _count_sent(unit: Unit, device_id: int) -> None:
    unit.run("UPDATE device SET sent_count = sent_count + 1 WHERE id = ?", (device_id,))


def _seal(unit: Unit, device_id: int, column: str, message_id: str, value: bytes) -> bytes:
    return unit.vault.seal("outbox", device_id, column, message_id, value)


def _open(unit: Unit, row: sqlite3.Row, column: str, sealed: bytes | None) -> bytes | None:
    if sealed is None:
        return None
    return unit.vault.open("outbox", row["device_id"], column, row["message_id"], sealed)


def _row(unit: Unit, row: sqlite3.Row) -> OutboxRow:
    text = _open(unit, row, "text", row["text_sealed"])
    recipient = _open(unit, row, "recipient", row["recipient_sealed"])
    return OutboxRow(
        id=row["id"],
        device_id=row["device_id"],
        seq=row["seq"],
        message_id=row["message_id"],
        wa_message_id=row["wa_message_id"],
        recipient=(recipient or b"").decode(),
        text=(text or b"").decode(),
        state=RowState(row["state"]),
        reason=row["reason"],
        stanza=_open(unit, row, "stanza", row["stanza_sealed"]),
        participants=_open(unit, row, "participants", row["participants_sealed"]),
        phash=row["phash"],
        attempts=row["attempts"],
        server_time=None if row["server_time"] is None else from_micros(row["server_time"]),
        created_at=from_micros(row["created_at"]),
        expires_at=from_micros(row["expires_at"]),
        first_contact=row["first_contact"] in (_STRANGER, _APPROACHED),
        missed_devices=bool(row["missed_devices"]),
    )


def _view(unit: Unit, row: sqlite3.Row) -> MessageView:
    text = _open(unit, row, "text", row["text_sealed"])
    recipient = _open(unit, row, "recipient", row["recipient_sealed"])
    return MessageView(
        message_id=row["message_id"],
        wa_message_id=row["wa_message_id"],
        direction="out",
        peer=(recipient or b"").decode(),
        text=None if text is None else text.decode(),
        state=row["state"],
        reason=row["reason"],
        timestamp=from_micros(row["created_at"]),
        held_until=None if row["held_until"] is None else from_micros(row["held_until"]),
        held_reason=row["held_reason"],
        history=tuple(
            StateChange(state, from_micros(at)) for state, at in json.loads(row["history"])
        ),
    )

"""Queries about partners and their end users."""

from __future__ import annotations

import hmac
import sqlite3
from typing import Final

from sitpayd.storage.database import Unit
from sitpayd.storage.records import (
    PartnerRecord,
    PartnerStats,
    UserRecord,
    from_micros,
    to_micros,
)
from sitpayd.storage.vault import is_token, new_token

_LAST: Final = 4  # characters of a key that may be shown to tell it from others

_PARTNER_BY_DIGEST: Final = (
    "SELECT key_digest, id, name, email, domain, created_at FROM partner WHERE key_digest = ?"
)
_USER_COLUMNS: Final = "id, partner_id, label, email, token_digest, token_sealed, created_at"


def create_partner(unit: Unit, name: str, email: str, domain: str) -> tuple[PartnerRecord, str]:
    """Register a partner; the key (`pk_`) is returned here and never again."""
    key = new_token("pk")
    row = unit.one(
        "INSERT INTO partner (name, email, domain, key_digest, key_last4, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (name, email, domain, unit.vault.digest(key), key[-_LAST:], to_micros(unit.now)),
    )
    return PartnerRecord(row["id"], name, email, domain, unit.now), key


def partner_by_key(unit: Unit, key: str) -> PartnerRecord | None:
    """Find the partner whose key this is; a malformed key costs no query."""
    if not is_token("pk", key):
        return None
    digest = unit.vault.digest(key)
    row = unit.row(_PARTNER_BY_DIGEST, (digest,))
    if row is None or not hmac.compare_digest(row["key_digest"], digest):
        return None
    return PartnerRecord(
        row["id"], row["name"], row["email"], row["domain"], from_micros(row["created_at"])
    )


def partner_names(unit: Unit, after: int) -> dict[int, str]:
    """Name the partners by id, from behind this one on."""
    rows = unit.rows("SELECT id, name FROM partner WHERE id > ?", (after,))
    return {row["id"]: row["name"] for row in rows}


def partner_stats(unit: Unit, partner_id: int) -> PartnerStats:
    """Count a partner's users, devices and acknowledged messages."""
    row = unit.one(
        "SELECT (SELECT count(*) FROM end_user WHERE partner_id = ?1) AS users,"
        " (SELECT count(*) FROM device WHERE partner_id = ?1 AND removed_at IS NULL) AS devices,"
        # Removed devices have sent their messages, too.
        " (SELECT coalesce(sum(sent_count), 0) FROM device WHERE partner_id = ?1) AS sent",
        (partner_id,),
    )
    return PartnerStats(row["users"], row["devices"], row["sent"])


def create_user(unit: Unit, partner_id: int, label: str, email: str) -> UserRecord:
    """Make an end user with a token (`pu_`) of its own."""
    token = new_token("pu")
    digest = unit.vault.digest(token)
    sealed = unit.vault.seal("end_user", 0, "token", _place(partner_id, digest), token.encode())
    row = unit.one(
        "INSERT INTO end_user (partner_id, label, email, token_digest, token_sealed, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (partner_id, label, email, digest, sealed, to_micros(unit.now)),
    )
    return UserRecord(row["id"], partner_id, label, email, token, unit.now)


def users_of(
    unit: Unit, partner_id: int, after: int | None = None, limit: int = 1000
) -> list[UserRecord]:
    """List a partner's users in the order they were made, from behind the id `after`."""
    rows = unit.rows(
        f"SELECT {_USER_COLUMNS} FROM end_user WHERE partner_id = ? AND id > ? ORDER BY id LIMIT ?",
        (partner_id, after or 0, limit),
    )
    return [_user(unit, row) for row in rows]


def user_by_token(unit: Unit, partner_id: int, token: str) -> UserRecord | None:
    """Find a partner's user by token; another partner's is None. A malformed one costs no query."""
    if not is_token("pu", token):
        return None
    digest = unit.vault.digest(token)
    row = unit.row(
        f"SELECT {_USER_COLUMNS} FROM end_user WHERE token_digest = ? AND partner_id = ?",
        (digest, partner_id),
    )
    if row is None or not hmac.compare_digest(row["token_digest"], digest):
        return None
    return _user(unit, row)


def _user(unit: Unit, row: sqlite3.Row) -> UserRecord:
    place = _place(row["partner_id"], row["token_digest"])
    return UserRecord(
        id=row["id"],
        partner_id=row["partner_id"],
        label=row["label"],
        email=row["email"],
        token=unit.vault.open("end_user", 0, "token", place, row["token_sealed"]).decode(),
        created_at=from_micros(row["created_at"]),
    )


def _place(partner_id: int, digest: bytes) -> str:
    """Where a user's token is sealed for: its id does not exist yet when that happens."""
    return f"{partner_id}:{digest.hex()}"

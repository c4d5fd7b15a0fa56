"""Queries about a device's keys: credentials, prekeys, Signal sessions, identities, LID mappings.

Everything is bytes and opaque names here. Whom a row is about stands only as a keyed digest that
differs from device to device, so two devices with the same contact do not show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sitpayd.storage.contacts import LID_SUFFIX, PN_SUFFIX, user_digest
from sitpayd.storage.database import SqlValue, Unit
from sitpayd.storage.people import united
from sitpayd.storage.records import Address, to_micros

Merge: TypeAlias = Callable[[bytes, bytes], bytes]
"""Makes one session of two with the same device: that which was used last, then the other one."""

# Constant names: no value ever becomes part of a statement.
_KEY_TABLES: Final = (
    "credentials",
    "prekey",
    "signal_session",
    "identity",
    "seen_ciphertext",
    "retry_request",
    "app_state_key",
    "phone_notice",
)


@dataclass(frozen=True, slots=True)
class _Family:
    """One table that is keyed by address; all names are constants of this file.

    Attributes:
        column: holds the sealed value; at: when that was stored.
    """

    table: str
    column: str
    at: str
    upsert: str

    def place(self, digest: bytes, number: int) -> str:
        return f"{digest.hex()}:{number}"


_SESSION: Final = _Family(
    "signal_session",
    "record_sealed",
    "used_at",
    "INSERT INTO signal_session (device_id, user_digest, device_number, record_sealed, used_at)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (device_id, user_digest, device_number)"
    " DO UPDATE SET record_sealed = excluded.record_sealed, used_at = excluded.used_at",
)
_IDENTITY: Final = _Family(
    "identity",
    "public_key_sealed",
    "changed_at",
    "INSERT INTO identity (device_id, user_digest, device_number, public_key_sealed, changed_at)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (device_id, user_digest, device_number)"
    " DO UPDATE SET public_key_sealed = excluded.public_key_sealed,"
    " changed_at = excluded.changed_at",
)


def save_credentials(unit: Unit, device_id: int, credentials: bytes) -> None:
    """Store what the device logs in with."""
    now = to_micros(unit.now)
    unit.run(
        "INSERT INTO credentials (device_id, blob_sealed, saved_at) VALUES (?, ?, ?)"
        " ON CONFLICT (device_id) DO UPDATE SET blob_sealed = excluded.blob_sealed,"
        " saved_at = excluded.saved_at",
        (device_id, unit.vault.seal("credentials", device_id, "blob", "", credentials), now),
    )
    unit.run(
        "UPDATE device SET forgotten_at = NULL WHERE id = ? AND forgotten_at IS NOT NULL",
        (device_id,),
    )


def start_anew(unit: Unit, device_id: int, credentials: bytes) -> None:
    """Store fresh credentials; whatever belonged to the old ones is gone with them."""
    delete_keys(unit, device_id)
    save_credentials(unit, device_id, credentials)


def delete_keys(unit: Unit, device_id: int) -> None:
    """Delete the credentials and all that belongs to them: prekeys, sessions, what nobody read.

    With them goes who is addressed by number: that is learned anew from refusals.
    """
    for table in _KEY_TABLES:
        unit.run(f"DELETE FROM {table} WHERE device_id = ?", (device_id,))
    # What else is known of people belongs to the account (people.py).
    unit.run("UPDATE contact SET by_number = 0 WHERE device_id = ? AND by_number", (device_id,))


def load_credentials(unit: Unit, device_id: int) -> bytes | None:
    """Load what the device logs in with; None: it was never linked, or its keys are forgotten."""
    sealed = unit.value(
        bytes, "SELECT blob_sealed FROM credentials WHERE device_id = ?", (device_id,)
    )
    return sealed and unit.vault.open("credentials", device_id, "blob", "", sealed)


def add_prekeys(unit: Unit, device_id: int, prekeys: Sequence[tuple[int, bytes]]) -> None:
    """Store fresh one-time prekeys, id and private key, in the order they were numbered."""
    if not prekeys:
        return
    unit.run_many(
        "INSERT INTO prekey (device_id, key_id, private_key_sealed, uploaded) VALUES (?, ?, ?, 0)",
        [
            (
                device_id,
                key_id,
                unit.vault.seal("prekey", device_id, "private_key", str(key_id), private_key),
            )
            for key_id, private_key in prekeys
        ],
    )
    # Kept apart from the rows: a used prekey is deleted, and its id must not come back soon.
    unit.run("UPDATE device SET last_prekey_id = ? WHERE id = ?", (prekeys[-1][0], device_id))


def prekeys_not_uploaded(unit: Unit, device_id: int) -> list[tuple[int, bytes]]:
    """List prekeys that the server may not know yet: id and private key."""
    rows = unit.rows(
        "SELECT key_id, private_key_sealed FROM prekey WHERE device_id = ? AND NOT uploaded"
        " ORDER BY key_id",
        (device_id,),
    )
    return [(row["key_id"], _open_prekey(unit, device_id, *row)) for row in rows]


def mark_uploaded(unit: Unit, device_id: int, key_ids: Iterable[int]) -> None:
    """Note that the server confirmed these prekeys."""
    unit.run(
        "UPDATE prekey SET uploaded = 1 WHERE device_id = ?"
        " AND key_id IN (SELECT value FROM json_each(?))",
        (device_id, json.dumps(list(key_ids))),
    )


def prekey(unit: Unit, device_id: int, key_id: int) -> bytes | None:
    """Load the private key of one prekey; None: it was used, or never made."""
    sealed = unit.value(
        bytes,
        "SELECT private_key_sealed FROM prekey WHERE device_id = ? AND key_id = ?",
        (device_id, key_id),
    )
    return sealed and _open_prekey(unit, device_id, key_id, sealed)


def delete_prekey(unit: Unit, device_id: int, key_id: int) -> None:
    """Forget a prekey that was used."""
    unit.run("DELETE FROM prekey WHERE device_id = ? AND key_id = ?", (device_id, key_id))


def uploaded_prekeys(unit: Unit, device_id: int, at_most: int) -> int:
    """How many prekeys the server was given that nobody has used yet; counts no further."""
    rows = unit.rows(
        "SELECT 1 FROM prekey WHERE device_id = ? AND uploaded LIMIT ?", (device_id, at_most)
    )
    return sum(1 for _ in rows)


def highest_prekey_id(unit: Unit, device_id: int) -> int:
    """The id numbered last, whether that prekey still exists or not; 0: none was made."""
    row = unit.one("SELECT last_prekey_id FROM device WHERE id = ?", (device_id,))
    return int(row["last_prekey_id"])


def prekey_ids_in_use(unit: Unit, device_id: int) -> set[int]:
    """Ids of the prekeys that are stored: after 2^24 of them the numbers come round again."""
    rows = unit.rows("SELECT key_id FROM prekey WHERE device_id = ?", (device_id,))
    return {row["key_id"] for row in rows}


def load_sessions(unit: Unit, device_id: int, user_key: str) -> dict[int, bytes]:
    """Load the sessions with all devices of one user, by device number."""
    return _load(unit, _SESSION, device_id, user_key)


def load_sessions_of(
    unit: Unit, device_id: int, addresses: Iterable[Address]
) -> dict[Address, bytes]:
    """Load the sessions with these addresses; who has none is left out."""
    return _load_of(unit, _SESSION, device_id, addresses)


def has_session(unit: Unit, device_id: int, user_key: str) -> bool:
    """Whether there is a session with any device of this user."""
    found = unit.row(
        "SELECT 1 FROM signal_session WHERE device_id = ? AND user_digest = ? LIMIT 1",
        (device_id, user_digest(unit, device_id, user_key)),
    )
    return found is not None


def save_sessions(unit: Unit, device_id: int, sessions: Mapping[Address, bytes]) -> None:
    """Store sessions, each in place of the one before; they count as used now."""
    _save(unit, _SESSION, device_id, sessions)


def load_identities(unit: Unit, device_id: int, user_key: str) -> dict[int, bytes]:
    """Load the identity keys of all devices of one user, by device number."""
    return _load(unit, _IDENTITY, device_id, user_key)


def load_identities_of(
    unit: Unit, device_id: int, addresses: Iterable[Address]
) -> dict[Address, bytes]:
    """Load the identity keys under these addresses; who has none is left out."""
    return _load_of(unit, _IDENTITY, device_id, addresses)


def save_identities(unit: Unit, device_id: int, identities: Mapping[Address, bytes]) -> None:
    """Store new or changed identity keys."""
    _save(unit, _IDENTITY, device_id, identities)


def forget_person(
    unit: Unit, device_id: int, user_key: str, numbers: Collection[int] | None = None
) -> None:
    """Delete sessions with a person and its identity keys, under number and LID.

    Args:
        numbers: of the devices that are meant; None: all.
    """
    for name in names_of(unit, device_id, user_key):
        digest = user_digest(unit, device_id, name)
        for family in (_SESSION, _IDENTITY):
            unit.run(
                f"DELETE FROM {family.table} WHERE device_id = ?1 AND user_digest = ?2"
                " AND (?3 IS NULL OR device_number IN (SELECT value FROM json_each(?3)))",
                (device_id, digest, None if numbers is None else json.dumps(sorted(numbers))),
            )


def learn_mapping(unit: Unit, device_id: int, pn: str, lid: str, merge: Merge) -> bool:
    """Remember that a phone number and a LID are the same person.

    When that is news, what was kept under the number moves to the LID, as `adopt` does it, and the
    person is written to by LID again.

    Args:
        pn: user part of the phone number's address.
        lid: user part of the LID.

    Returns:
        Whether it was news.
    """
    pn_digest = user_digest(unit, device_id, pn + PN_SUFFIX)
    lid_digest = user_digest(unit, device_id, lid + LID_SUFFIX)
    known = unit.value(
        bytes,
        "SELECT lid_digest FROM lid_mapping WHERE device_id = ? AND pn_digest = ?",
        (device_id, pn_digest),
    )
    if known == lid_digest:
        return False
    unit.run(
        "DELETE FROM lid_mapping WHERE device_id = ? AND (pn_digest = ? OR lid_digest = ?)",
        (device_id, pn_digest, lid_digest),
    )
    unit.run(
        "INSERT INTO lid_mapping (device_id, pn_digest, lid_digest, pn_sealed, lid_sealed)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            device_id,
            pn_digest,
            lid_digest,
            unit.vault.seal("lid_mapping", device_id, "pn", pn_digest.hex(), pn.encode()),
            unit.vault.seal("lid_mapping", device_id, "lid", pn_digest.hex(), lid.encode()),
        ),
    )
    unit.run(
        "UPDATE contact SET by_number = 0 WHERE device_id = ? AND by_number"
        " AND user_digest IN (?, ?)",
        (device_id, pn_digest, lid_digest),
    )
    adopt(unit, device_id, pn, lid, merge)
    united(unit, device_id, pn, pn_digest, lid_digest)
    return True


def adopt(unit: Unit, device_id: int, pn: str, lid: str, merge: Merge) -> bool:
    """Move sessions and identity keys from a phone number to its LID, and lose none of them.

    Where one stands there already, that which was used last comes first, and its identity counts.

    Args:
        pn: user part of the phone number's address.
        lid: user part of the LID.

    Returns:
        Whether anything stood under the number.
    """
    number = user_digest(unit, device_id, pn + PN_SUFFIX)
    target = user_digest(unit, device_id, lid + LID_SUFFIX)
    moving = _load_dated(unit, _SESSION, device_id, number)
    named = _load_dated(unit, _IDENTITY, device_id, number)
    if not moving and not named:
        return False
    here = _load_dated(unit, _SESSION, device_id, target)
    known = _load_dated(unit, _IDENTITY, device_id, target)
    for place, (record, at) in moving.items():
        other = here.get(place)
        if other is not None and other[1] >= at:
            record, at = merge(other[0], record), other[1]
        elif other is not None:
            record = merge(record, other[0])
        _put(unit, _SESSION, device_id, target, place, record, at)
    for place, (key, at) in named.items():
        # Whose session comes first, its identity counts; where there is none, the later news.
        ranks = (moving, here) if place in moving or place in here else (named, known)
        theirs, ours = (rows[place][1] if place in rows else -1 for rows in ranks)
        if place not in known or theirs > ours:
            _put(unit, _IDENTITY, device_id, target, place, key, at)
    for family in (_SESSION, _IDENTITY):
        unit.run(
            f"DELETE FROM {family.table} WHERE device_id = ? AND user_digest = ?",
            (device_id, number),
        )
    return True


def lid_of(unit: Unit, device_id: int, pn: str) -> str | None:
    """The LID of a phone number, user parts both."""
    row = unit.row(
        "SELECT pn_digest, lid_sealed FROM lid_mapping WHERE device_id = ? AND pn_digest = ?",
        (device_id, user_digest(unit, device_id, pn + PN_SUFFIX)),
    )
    if row is None:
        return None
    digest, sealed = row
    return unit.vault.open("lid_mapping", device_id, "lid", digest.hex(), sealed).decode()


def pn_of(unit: Unit, device_id: int, lid: str) -> str | None:
    """The phone number of a LID, user parts both."""
    row = unit.row(
        "SELECT pn_digest, pn_sealed FROM lid_mapping WHERE device_id = ? AND lid_digest = ?",
        (device_id, user_digest(unit, device_id, lid + LID_SUFFIX)),
    )
    if row is None:
        return None
    digest, sealed = row
    return unit.vault.open("lid_mapping", device_id, "pn", digest.hex(), sealed).decode()


def names_of(unit: Unit, device_id: int, user_key: str) -> tuple[str, ...]:
    """Under which user keys a person stands: the one given, then the other one, if it is known."""
    user, _, _ = user_key.partition("@")
    if user_key.endswith(LID_SUFFIX):
        number = pn_of(unit, device_id, user)
        return (user_key,) if number is None else (user_key, number + PN_SUFFIX)
    lid = lid_of(unit, device_id, user)
    return (user_key,) if lid is None else (user_key, lid + LID_SUFFIX)


def _open_prekey(unit: Unit, device_id: int, key_id: int, sealed: bytes) -> bytes:
    return unit.vault.open("prekey", device_id, "private_key", str(key_id), sealed)


def _load(unit: Unit, family: _Family, device_id: int, user_key: str) -> dict[int, bytes]:
    rows = _load_dated(unit, family, device_id, user_digest(unit, device_id, user_key))
    return {number: value for number, (value, _) in rows.items()}


def _load_dated(
    unit: Unit, family: _Family, device_id: int, digest: bytes
) -> dict[int, tuple[bytes, int]]:
    """By device number: the value, and when it was stored."""
    rows = unit.rows(
        f"SELECT device_number, {family.column}, {family.at} FROM {family.table}"
        " WHERE device_id = ? AND user_digest = ?",
        (device_id, digest),
    )
    opened = unit.vault.open
    return {
        number: (
            opened(family.table, device_id, family.column, family.place(digest, number), sealed),
            at,
        )
        for number, sealed, at in rows
    }


def _load_of(
    unit: Unit, family: _Family, device_id: int, addresses: Iterable[Address]
) -> dict[Address, bytes]:
    numbers: dict[str, set[int]] = {}
    for user_key, number in addresses:
        numbers.setdefault(user_key, set()).add(number)
    return {
        (user_key, number): value
        for user_key, wanted in numbers.items()
        for number, value in _load(unit, family, device_id, user_key).items()
        if number in wanted
    }


def _save(unit: Unit, family: _Family, device_id: int, values: Mapping[Address, bytes]) -> None:
    if not values:
        return
    digests = {user_key: user_digest(unit, device_id, user_key) for user_key, _ in values}
    now = to_micros(unit.now)
    unit.run_many(
        family.upsert,
        [
            _sealed_row(unit, family, device_id, digests[user_key], number, value, now)
            for (user_key, number), value in values.items()
        ],
    )


def _put(
    unit: Unit, family: _Family, device_id: int, digest: bytes, number: int, value: bytes, at: int
) -> None:
    unit.run(family.upsert, _sealed_row(unit, family, device_id, digest, number, value, at))


def _sealed_row(
    unit: Unit, family: _Family, device_id: int, digest: bytes, number: int, value: bytes, at: int
) -> tuple[SqlValue, ...]:
    # The seal is bound to the place: a row that moves is sealed anew.
    place = family.place(digest, number)
    sealed = unit.vault.seal(family.table, device_id, family.column, place, value)
    return (device_id, digest, number, sealed, at)

"""Queries about what is known of people: their names, their privacy tokens, that there is a chat.

A person stands under its LID, or under its number as long as no LID is known; what was kept under
the number moves when the LID is learned. All of it belongs to the linked account and not to one
login of it: a token that is lost makes a friend a stranger, so it stays when the same number is
linked anew. When the number changes, or the device is removed, `forget_people` ends it.

Whether somebody may be written to is contacts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sitpayd.storage.account import forget_facts
from sitpayd.storage.contacts import (
    PN_SUFFIX,
    closeness,
    person_digest,
    user_digest,
    welcome,
)
from sitpayd.storage.database import Unit
from sitpayd.storage.records import Closeness

# Longer tokens and names than these are not kept, or cut: those of WhatsApp are short.
MAX_TOKEN_LEN: Final = 1024
MAX_NAME_LEN: Final = 128
# UTC seconds; no time behind it is believed, since nothing would ever come after it.
MAX_T: Final = 2**40

_TABLES: Final = ("contact", "lid_mapping")


@dataclass(frozen=True, slots=True)
class Token:
    """A privacy token: t and until are UTC seconds, the server's time of it and its end."""

    token: bytes
    t: int
    until: int

    def __repr__(self) -> str:
        return f"Token(t={self.t})"


@dataclass(frozen=True, slots=True)
class Standing:
    """How we stand with a person.

    Attributes:
        token: theirs, if there is a valid one.
        given_t: when they were given ours, UTC seconds; None: never.
    """

    token: Token | None
    given_t: int | None


def standing(unit: Unit, device_id: int, user_key: str) -> Standing:
    """How we stand with a person, by number or LID."""
    digest = _digest(unit, device_id, user_key)
    row = unit.row(
        "SELECT token_sealed, token_t, token_until, token_given_t FROM contact"
        " WHERE device_id = ? AND user_digest = ?",
        (device_id, digest),
    )
    if row is None:
        return Standing(None, None)
    token = None
    if row["token_sealed"] is not None and row["token_until"] > int(unit.now.timestamp()):
        opened = _open(unit, device_id, "token", digest, row["token_sealed"])
        token = Token(opened, row["token_t"], row["token_until"])
    return Standing(token, row["token_given_t"])


def keep_token(unit: Unit, device_id: int, user_key: str, token: Token) -> bool:
    """Store a person's token, unless a later one is known.

    Returns:
        Whether it is stored.
    """
    if not 0 < token.t <= MAX_T or not 0 < len(token.token) <= MAX_TOKEN_LEN:
        return False
    digest = _digest(unit, device_id, user_key)
    kept = unit.run(
        "INSERT INTO contact (device_id, user_digest, token_sealed, token_t, token_until)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (device_id, user_digest) DO UPDATE SET"
        " token_sealed = excluded.token_sealed, token_t = excluded.token_t,"
        " token_until = excluded.token_until"
        " WHERE contact.token_t IS NULL OR excluded.token_t >= contact.token_t",
        (
            device_id,
            digest,
            _seal(unit, device_id, "token", digest, token.token),
            token.t,
            token.until,
        ),
    )
    if kept and token.until > int(unit.now.timestamp()):
        _welcome(unit, device_id, digest, user_key)
    return kept > 0


def note_given(unit: Unit, device_id: int, user_key: str, t: int) -> None:
    """Note when a person was given our token, unless that was later."""
    if 0 < t <= MAX_T:
        unit.run(
            "INSERT INTO contact (device_id, user_digest, token_given_t) VALUES (?, ?, ?)"
            " ON CONFLICT (device_id, user_digest) DO UPDATE SET"
            " token_given_t = max(excluded.token_given_t, coalesce(contact.token_given_t, 0))",
            (device_id, _digest(unit, device_id, user_key), t),
        )


def note_chat(unit: Unit, device_id: int, user_key: str) -> None:
    """Note that there is a chat with a person, of before the device was linked."""
    digest = _digest(unit, device_id, user_key)
    noted = unit.run(
        "INSERT INTO contact (device_id, user_digest, has_chat) VALUES (?, ?, 1)"
        " ON CONFLICT (device_id, user_digest) DO UPDATE SET has_chat = 1 WHERE NOT has_chat",
        (device_id, digest),
    )
    if noted:
        _welcome(unit, device_id, digest, user_key)


def keep_name(unit: Unit, device_id: int, user_key: str, name: str) -> None:
    """Store how a person calls itself; most often that is known."""
    name = name[:MAX_NAME_LEN]
    digest = _digest(unit, device_id, user_key)
    if not name or _name(unit, device_id, digest) == name:
        return
    unit.run(
        "INSERT INTO contact (device_id, user_digest, name_sealed) VALUES (?, ?, ?)"
        " ON CONFLICT (device_id, user_digest) DO UPDATE SET name_sealed = excluded.name_sealed",
        (device_id, digest, _seal(unit, device_id, "name", digest, name.encode())),
    )


def name_of(unit: Unit, device_id: int, user_key: str) -> str | None:
    """How a person calls itself; None: that is not known."""
    return _name(unit, device_id, _digest(unit, device_id, user_key))


def united(unit: Unit, device_id: int, pn: str, pn_digest: bytes, lid_digest: bytes) -> None:
    """A number and a LID have turned out to be one person: bring together what is known of it.

    Args:
        pn: user part of the number; the mapping is stored already.
    """
    found = unit.row(
        "SELECT * FROM contact WHERE device_id = ? AND user_digest = ?", (device_id, pn_digest)
    )
    if found is not None:
        unit.run(
            "DELETE FROM contact WHERE device_id = ? AND user_digest = ?", (device_id, pn_digest)
        )
        unit.run(
            "INSERT INTO contact (device_id, user_digest, by_number, has_chat) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (device_id, user_digest) DO UPDATE SET"
            " by_number = max(contact.by_number, excluded.by_number),"
            " has_chat = max(contact.has_chat, excluded.has_chat)",
            (device_id, lid_digest, found["by_number"], found["has_chat"]),
        )
        if found["token_sealed"] is not None:
            token = _open(unit, device_id, "token", pn_digest, found["token_sealed"])
            # The LID is known by now, so that the number leads to it.
            moved = Token(token, found["token_t"], found["token_until"])
            keep_token(unit, device_id, pn + PN_SUFFIX, moved)
        if found["token_given_t"] is not None:
            note_given(unit, device_id, pn + PN_SUFFIX, found["token_given_t"])
        if found["name_sealed"] is not None and _name(unit, device_id, lid_digest) is None:
            name = _open(unit, device_id, "name", pn_digest, found["name_sealed"])
            keep_name(unit, device_id, pn + PN_SUFFIX, name.decode())
    if closeness(unit, device_id, pn) is Closeness.CLOSE:
        welcome(unit, device_id, person_digest(unit, device_id, pn))


def forget_people(unit: Unit, device_id: int) -> None:
    """Delete all that is known of people and of the account: it is another one from now on."""
    for table in _TABLES:
        unit.run(f"DELETE FROM {table} WHERE device_id = ?", (device_id,))
    forget_facts(unit, device_id)


def forget_names(unit: Unit, device_id: int) -> None:
    """Delete how people call themselves."""
    unit.run("UPDATE contact SET name_sealed = NULL WHERE device_id = ?", (device_id,))


def _digest(unit: Unit, device_id: int, user_key: str) -> bytes:
    """Under what a person stands: its LID's digest, where that is known."""
    digest = user_digest(unit, device_id, user_key)
    if not user_key.endswith(PN_SUFFIX):
        return digest
    by_lid = unit.value(
        bytes,
        "SELECT lid_digest FROM lid_mapping WHERE device_id = ? AND pn_digest = ?",
        (device_id, digest),
    )
    return by_lid or digest


def _welcome(unit: Unit, device_id: int, digest: bytes, user_key: str) -> None:
    """Let messages go that wait for a person to be no stranger; they stand under its number."""
    if user_key.endswith(PN_SUFFIX):
        number = user_key.removesuffix(PN_SUFFIX)
    else:
        row = unit.row(
            "SELECT pn_digest, pn_sealed FROM lid_mapping WHERE device_id = ? AND lid_digest = ?",
            (device_id, digest),
        )
        if row is None:
            return
        number = unit.vault.open("lid_mapping", device_id, "pn", row[0].hex(), row[1]).decode()
    welcome(unit, device_id, person_digest(unit, device_id, number))


def _name(unit: Unit, device_id: int, digest: bytes) -> str | None:
    sealed = unit.value(
        bytes,
        "SELECT name_sealed FROM contact WHERE device_id = ? AND user_digest = ?",
        (device_id, digest),
    )
    return None if sealed is None else _open(unit, device_id, "name", digest, sealed).decode()


def _seal(unit: Unit, device_id: int, column: str, digest: bytes, value: bytes) -> bytes:
    return unit.vault.seal("contact", device_id, column, digest.hex(), value)


def _open(unit: Unit, device_id: int, column: str, digest: bytes, sealed: bytes) -> bytes:
    return unit.vault.open("contact", device_id, column, digest.hex(), sealed)

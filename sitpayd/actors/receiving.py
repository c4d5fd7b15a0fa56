"""Receiving: sessions and a stanza in; new sessions and a message for the inbox out. Pure.

Everything is computed on values. The caller commits sessions, spent prekey and inbox row in one
transaction, and only then answers the stanza.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from sitpayd.whatsapp.errors import (
    BadMacError,
    DuplicateMessageError,
    FutureMessageError,
    NoSessionError,
    RemoteProtocolError,
    UnknownPreKeyError,
)
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.signal.session import (
    SessionRecord,
    decrypt,
    decrypt_prekey_message,
    knows_base_key,
    parse_prekey_message,
)
from sitpayd.whatsapp.stanzas.content import Content, parse_message, unpad
from sitpayd.whatsapp.stanzas.message import PADDED_VERSION, Enc

PAIRWISE: Final = ("pkmsg", "msg")
# What a retry receipt says about the reason; 4 is "invalid message". Source: whatsmeow retry.go.
_RETRY_CODES: Final[tuple[tuple[type[RemoteProtocolError], int], ...]] = (
    (NoSessionError, 1),
    (UnknownPreKeyError, 3),
    (FutureMessageError, 6),
    (BadMacError, 7),
)
_INVALID_MESSAGE: Final = 4


@dataclass(frozen=True, slots=True)
class Opening:
    """A ciphertext that is opened.

    Attributes:
        record: the session after it.
        spent_prekey_id: the one-time prekey it used up.
        content: None if what was inside is no message we can read.
    """

    record: SessionRecord
    spent_prekey_id: int | None
    content: Content | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A ciphertext that could not be opened.

    Attributes:
        code: for the retry receipt.
        needs_keys: whether the sender needs fresh keys of ours to do better.
    """

    code: int
    needs_keys: bool


@dataclass(frozen=True, slots=True)
class Repeated:
    """A ciphertext that was opened before: it is answered and otherwise ignored."""


def digest_of(enc: Enc) -> bytes:
    """By which a ciphertext that the server sends again is recognised: 32 bytes."""
    return hashlib.sha256(enc.body).digest()


def needed_prekey(enc: Enc, record: SessionRecord | None) -> int | None:
    """Id of the one-time prekey that opening this takes; None: none.

    Raises:
        RemoteProtocolError: If it is malformed.
    """
    if enc.kind != "pkmsg":
        return None
    message = parse_prekey_message(enc.body)
    if record is not None and knows_base_key(record, message.base_key):
        return None
    return message.prekey_id


def open_pairwise(
    enc: Enc, record: SessionRecord | None, keys: DeviceKeys, prekey: KeyPair | None
) -> Opening | Repeated | Unreadable:
    """Open a pkmsg or msg.

    Args:
        record: the session with the sender, if there is one.
        prekey: the one-time prekey that `needed_prekey` named, if we hold it.
    """
    try:
        spent = needed_prekey(enc, record)
        if enc.kind == "pkmsg":
            message = parse_prekey_message(enc.body)
            signed = keys.signed_prekey
            opened = decrypt_prekey_message(
                record,
                keys.identity,
                signed.key_pair if message.signed_prekey_id == signed.key_id else None,
                prekey,
                message,
            )
        elif record is None:
            raise NoSessionError("no session with this sender")
        else:
            opened = decrypt(record, keys.identity, enc.body)
    except DuplicateMessageError:
        return Repeated()
    except RemoteProtocolError as error:
        return _unreadable(error)
    return Opening(opened.record, spent, _content(enc, opened.plaintext))


def _content(enc: Enc, plaintext: bytes) -> Content | None:
    try:
        return parse_message(unpad(plaintext) if enc.version == PADDED_VERSION else plaintext)
    except RemoteProtocolError:
        return None


def _unreadable(error: RemoteProtocolError) -> Unreadable:
    code = next((c for kind, c in _RETRY_CODES if isinstance(error, kind)), _INVALID_MESSAGE)
    return Unreadable(code, needs_keys=isinstance(error, NoSessionError | UnknownPreKeyError))

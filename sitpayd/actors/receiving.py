"""Receiving: sessions and a stanza in; new sessions and a message for the inbox out. Pure.

Everything is computed on values. The caller commits sessions, spent prekey and inbox row in one
transaction, and only then answers the stanza. What cannot be read is asked for again, a few times;
what nobody may ask for is refused.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from sitpayd.whatsapp.errors import (
    BadMacError,
    DuplicateMessageError,
    FutureMessageError,
    InvalidKeyError,
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
from sitpayd.whatsapp.stanzas.content import Content, MessageName, parse_message, unpad
from sitpayd.whatsapp.stanzas.message import PADDED_VERSION, Enc, IncomingMessage

# Number of the phone among the devices of an account.
PHONE: Final = 0
PAIRWISE: Final = ("pkmsg", "msg")
GROUP: Final = "skmsg"
BOT: Final = "msmsg"
# Beyond this many requests a message that cannot be read is let go. Source: whatsmeow retry.go.
MAX_RETRY_COUNT: Final = 4
# Requests for messages of one device within a minute. A whole backlog that cannot be read would
# bring a storm of them, and as many resends.
MAX_RETRIES_A_MINUTE: Final = 30
# Why the server is told that a message is refused: it drops it. Source: Baileys
# lib/Utils/stanza-ack.js, lib/Types; whatsmeow retry.go for 500.
UNPARSABLE: Final = 487
UNKNOWN_TYPE: Final = 490
INVALID_PROTOBUF: Final = 491
NO_SECRET: Final = 495
UNHANDLED: Final = 500
# Placeholders of which the phone has nothing either. Source: Baileys lib/Socket/messages-recv.js.
_NEVER_TOLD: Final = frozenset({"bot", "hosted", "view_once_unavailable_fanout"})
# What only our own phone may say.
_OF_THE_PHONE: Final = frozenset({"history_sync", "lid_migration", "phone_answer"})
# What only our own account may say.
_OF_OURSELVES: Final = frozenset({"app_state_keys", "phone_request"})
# What a retry receipt says about the reason; 4 is "invalid message". Source: whatsmeow retry.go.
_RETRY_CODES: Final[tuple[tuple[type[RemoteProtocolError], int], ...]] = (
    (NoSessionError, 1),
    (InvalidKeyError, 2),
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


def admitted(content: Content, message: IncomingMessage) -> Content | None:
    """What a content may say, coming from whom it comes; None: nothing.

    A copy for own devices, keys of the account and the like would let a stranger speak for us.
    """
    if message.from_me:
        if content.kind in _OF_THE_PHONE and message.sender.device != PHONE:
            return None
        return content
    if content.kind in _OF_THE_PHONE | _OF_OURSELVES or content.destination is not None:
        return None
    return content


def refusal_of(message: IncomingMessage) -> int | None:
    """Why a stanza without a ciphertext for us is refused; None: it is only acknowledged."""
    kinds = {enc.kind for enc in message.encs}
    if not kinds or GROUP in kinds:
        return None  # a placeholder, or a group's text, of which we have no keys
    return NO_SECRET if BOT in kinds else UNKNOWN_TYPE


def phone_may_know(message: IncomingMessage) -> bool:
    """Whether our phone may tell us a message that we cannot read."""
    if message.unavailable is not None and message.unavailable in _NEVER_TOLD:
        return False
    # Of peer messages the phone is the author; of groups nothing is stored here.
    return message.category != "peer" and message.chat.is_user


def name_of(message: IncomingMessage) -> MessageName:
    """By which our phone knows a message."""
    return MessageName(message.chat.bare, message.id, message.from_me)


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """How a message is asked for again.

    Attributes:
        count: which request it is.
        with_keys: fresh keys of ours go along, so that the sender begins a new session.
    """

    count: int
    with_keys: bool


class RetryBudget:
    """How often this device asks for messages again, all together."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Ask once more; False if it asked too often within the last minute."""
        while self._asked and self._asked[0] <= now - 60.0:
            self._asked.popleft()
        if len(self._asked) >= MAX_RETRIES_A_MINUTE:
            return False
        self._asked.append(now)
        return True


def retry_plan(before: int, enc: Enc, unreadable: Unreadable) -> RetryPlan | None:
    """How to ask for a message again; None: it was asked for often enough.

    Args:
        before: how often it was asked for by now.
    """
    count = 1 + max(before, enc.count)
    if count > MAX_RETRY_COUNT:
        return None
    return RetryPlan(count, with_keys=count > 1 or unreadable.needs_keys)


def _content(enc: Enc, plaintext: bytes) -> Content | None:
    try:
        return parse_message(unpad(plaintext) if enc.version == PADDED_VERSION else plaintext)
    except RemoteProtocolError:
        return None


def _unreadable(error: RemoteProtocolError) -> Unreadable:
    code = next((c for kind, c in _RETRY_CODES if isinstance(error, kind)), _INVALID_MESSAGE)
    return Unreadable(code, needs_keys=isinstance(error, NoSessionError | UnknownPreKeyError))

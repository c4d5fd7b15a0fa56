"""Records: what storage hands to the other floors.

Frozen values, opened and parsed; tables and SQL stay behind. Every datetime is aware and UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final, Literal, TypeAlias

from sitpayd import clock

Address: TypeAlias = tuple[str, int]
"""Who a Signal session is with: user key and device number.

A user key is opaque here, such as "123456789012345@lid" or "919876543210@s.whatsapp.net".
"""

Desired: TypeAlias = Literal["running", "paused", "removed"]
Direction: TypeAlias = Literal["in", "out"]

# Rows of one device that may stand `accepted`.
MAX_QUEUED: Final = 1000

# Names of what an account's servers tell about a login; it ends with the login. The first is for
# the prologue of the next connection; behind the last stands the name of a collection of the app
# state that changed and was not fetched.
ROUTING_FACT: Final = "routing_info"
PROPS_FACT: Final = "props"
DIRTY_FACT: Final = "dirty:"

# Names of what the phone tells about the account; it stays for the same number to be linked anew.
PUSH_NAME_FACT: Final = "push_name"
NCT_SALT_FACT: Final = "nct_salt"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def utc_now() -> datetime:
    """UTC by the process's clock, aware."""
    return clock.utc_now()


def to_micros(at: datetime) -> int:
    """Microseconds since 1970 of an aware datetime; exact, unlike a float timestamp."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The datetime of so many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


class RowState(StrEnum):
    """State of an outbox row. States only move to a higher rank.

    `unknown` ranks below `sent`: a late ack or receipt is the one correction that is allowed.
    """

    ACCEPTED = "accepted"
    ARMED = "armed"
    UNKNOWN = "unknown"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    CANCELED = "canceled"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def rank(self) -> int:
        """Where the state stands; a change needs a higher one."""
        return _RANKS[self]

    @property
    def is_settled(self) -> bool:
        """Nothing will be sent for this row any more."""
        return self not in (RowState.ACCEPTED, RowState.ARMED)


_RANKS: Final[Mapping[RowState, int]] = {
    RowState.ACCEPTED: 0,
    RowState.ARMED: 1,
    RowState.UNKNOWN: 2,
    RowState.SENT: 3,
    RowState.DELIVERED: 4,
    RowState.READ: 5,
    # Ends: certain, nothing comes after them.
    RowState.CANCELED: 9,
    RowState.EXPIRED: 9,
    RowState.FAILED: 9,
}

# From which states a row may come into each: the rank says never back, this says which way.
CAME_FROM: Final[Mapping[RowState, tuple[RowState, ...]]] = {
    RowState.ACCEPTED: (),
    RowState.ARMED: (RowState.ACCEPTED,),
    RowState.UNKNOWN: (RowState.ARMED,),
    RowState.SENT: (RowState.ARMED, RowState.UNKNOWN),
    RowState.DELIVERED: (RowState.ARMED, RowState.UNKNOWN, RowState.SENT),
    RowState.READ: (RowState.ARMED, RowState.UNKNOWN, RowState.SENT, RowState.DELIVERED),
    RowState.CANCELED: (RowState.ACCEPTED,),
    RowState.EXPIRED: (RowState.ACCEPTED,),
    RowState.FAILED: (RowState.ACCEPTED, RowState.ARMED),
}


class Closeness(IntEnum):
    """How a message stands to the person it is for."""

    CLOSE = 0  # they wrote, their token is valid, or there was a chat before the device was linked
    STRANGER = 1  # it waits to be the first message
    APPROACHED = 2  # it left as the first message
    UNANSWERED = 3  # we wrote before, and nothing came back


@dataclass(frozen=True, slots=True)
class PartnerRecord:
    """A reseller."""

    id: int
    name: str
    email: str
    domain: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PartnerStats:
    """Counts of one partner: devices without removed ones, messages acknowledged ever."""

    users: int
    devices: int
    messages_sent: int


@dataclass(frozen=True, slots=True)
class UserRecord:
    """An end user of a partner. The token (`pu_`) is a secret."""

    id: int
    partner_id: int
    label: str
    email: str
    token: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Rest:
    """Why a device rests: what was observed and must survive a restart.

    Attributes:
        phase: the resting phase in lower case.
        reason: its stable word.
        since: when it was observed.
        until: when it ends, if WhatsApp said so.
    """

    phase: str
    reason: str
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewChatHold:
    """WhatsApp does not let an account write to people it has no chat with."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A linked device, or one to be linked.

    Attributes:
        session_id: its name for people (`wa_`).
        token: `dt_`, a secret; "" once the device is removed.
        desired: what its owner wants; what is observed stands in `rest`.
        phone: the number it is or was linked to, digits.
        queue_when_offline: its messages may wait without a word of the sender.
        new_chats: why nobody may be written to first, if so.
        logout_wanted: it is to be logged out at WhatsApp, which does not know yet.
        proxy: URL of the proxy it goes through, with credentials; None: straight.
    """

    id: int
    session_id: str
    partner_id: int
    user_id: int
    name: str
    token: str = field(repr=False)
    desired: Desired
    rest: Rest | None
    phone: str | None = field(repr=False)
    removed_at: datetime | None
    created_at: datetime
    queue_when_offline: bool = False
    new_chats: NewChatHold | None = None
    logout_wanted: bool = False
    proxy: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be accepted.

    Attributes:
        message_id: ours (`msg_`), from `vault.new_message_id`.
        wa_message_id: WhatsApp's, chosen once and never again.
        recipient: who it is for; opaque text, compared by `mark_receipt`.
        body_hash: digest of the request body; tells a repeat from another request with its key.
        expires_at: when it need not be sent any more.
        max_queued: rows that may stand `accepted` for the device, this one included.
    """

    device_id: int
    message_id: str
    wa_message_id: str
    recipient: str = field(repr=False)
    text: str = field(repr=False)
    idempotency_key: str | None
    body_hash: bytes
    expires_at: datetime
    max_queued: int = MAX_QUEUED


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An outgoing message.

    Attributes:
        seq: place in the device's one order of incoming and outgoing messages.
        text: "" once it was forgotten.
        stanza: the finished bytes, from `arm` on.
        participants: whom it was encrypted for, opaque bytes from `arm`.
        server_time: when WhatsApp's server says it took it.
        phash: hash of the devices it was armed for.
        attempts: how often the stanza was written again.
        first_contact: nothing was exchanged with the recipient before.
        missed_devices: sent, but not to every device; `stanza` is then the one for the others.
    """

    id: int
    device_id: int
    seq: int
    message_id: str
    wa_message_id: str
    recipient: str = field(repr=False)
    text: str = field(repr=False)
    state: RowState
    reason: str | None
    stanza: bytes | None = field(repr=False)
    participants: bytes | None = field(repr=False)
    phash: str | None
    attempts: int
    server_time: datetime | None
    created_at: datetime
    expires_at: datetime
    first_contact: bool = False
    missed_devices: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is stored."""

    row: OutboxRow


@dataclass(frozen=True, slots=True)
class Repeated:
    """The idempotency key was used before, for `row`.

    Attributes:
        same_body: False if the key came with another body.
    """

    row: OutboxRow
    same_body: bool


@dataclass(frozen=True, slots=True)
class QueueFull:
    """Nothing is stored: too many rows of this device wait already."""


@dataclass(frozen=True, slots=True)
class DeviceGone:
    """Nothing is stored: the device was removed since its token was checked."""


Acceptance: TypeAlias = Accepted | Repeated | QueueFull | DeviceGone


@dataclass(frozen=True, slots=True)
class Incoming:
    """A decrypted message.

    Attributes:
        chat: user key of the chat.
        sender: user key of its author, without device number.
        from_me: written by this account on another of its devices.
        timestamp: WhatsApp's time of it.
    """

    wa_message_id: str
    chat: str = field(repr=False)
    sender: str = field(repr=False)
    from_me: bool
    text: str = field(repr=False)
    timestamp: datetime
    push_name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A key of the app state; timestamp: UTC seconds, of when it was made."""

    key_id: bytes
    key_data: bytes
    timestamp: int

    def __repr__(self) -> str:
        return f"SharedKey(key_id={self.key_id.hex()})"


@dataclass(frozen=True, slots=True)
class Told:
    """What one message of our own account tells this device.

    Attributes:
        notice: opaque bytes, kept under the message's id.
        own_name: how the account calls itself.
    """

    keys: tuple[SharedKey, ...] = ()
    notice: bytes | None = None
    own_name: str | None = None

    def __repr__(self) -> str:
        return f"Told(keys={len(self.keys)})"


@dataclass(frozen=True, slots=True)
class StateChange:
    """When a message came into a state."""

    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message of either direction, as a reader sees it.

    Attributes:
        peer: the other side: recipient, or chat of an incoming one.
        text: None once it was forgotten.
        state: a `RowState`; "received" for an incoming one.
        timestamp: when it was accepted, or WhatsApp's time of an incoming one.
        held_until: when an accepted one may go, if something holds it; held_reason: what.
        name: what the author of an incoming one calls itself; None: nothing, or it was forgotten.
    """

    message_id: str
    wa_message_id: str
    direction: Direction
    peer: str = field(repr=False)
    text: str | None = field(repr=False)
    state: str
    reason: str | None
    timestamp: datetime
    history: tuple[StateChange, ...]
    held_until: datetime | None = None
    held_reason: str | None = None
    name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages of a device in their order; `more`: there are later ones."""

    messages: tuple[MessageView, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """A row that came to its end without its actor, for those who wait for it."""

    device_id: int
    message_id: str
    state: RowState
    reason: str | None

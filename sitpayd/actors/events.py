"""What can happen to a device: the inputs of its machine. Pure values.

Network events come from the device's reader and writer, the others are results of commands or the
clock. What people ask for is messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sitpayd.actors.strangers import Barred
from sitpayd.storage.records import OutboxRow, ReadMark, Rest
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.content import MessageName
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.pairing_code import Agreed, CodeOffer
from sitpayd.whatsapp.stanzas.props import Props
from sitpayd.whatsapp.stanzas.receipt import Receipt

# --- the network ---


class LossKind(StrEnum):
    """Why there is no connection (any more)."""

    NETWORK = "network"  # TCP, TLS, a reset, a write that took too long
    DNS = "dns"  # WhatsApp's name was not resolved
    FILES = "files"  # no file descriptor left for a socket
    PROXY_UNREACHABLE = "proxy_unreachable"  # the device's proxy does not answer
    PROXY_REFUSED = "proxy_refused"  # the device's proxy does not let it through
    CLOSED = "closed"  # the server closed
    SILENT = "silent"  # nothing was heard for too long
    HTTP = "http"  # the upgrade was refused with a 4xx
    CERTIFICATE = "certificate"  # the handshake did not verify
    PROTOCOL = "protocol"  # frames or Noise out of step
    RESUMPTION = "resumption"  # the server did not let the device resume


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is complete; the first stanza will tell how the login went."""


@dataclass(frozen=True, slots=True)
class Received:
    """A stanza came in."""

    node: Node


@dataclass(frozen=True, slots=True)
class Lost:
    """The dial failed or the socket is gone. Every connection ends with exactly one of these."""

    kind: LossKind
    detail: str


NetworkEvent = Opened | Received | Lost

# --- the start, the clock ---


@dataclass(frozen=True, slots=True)
class Started:
    """The actor runs, for the first time or again.

    Attributes:
        keys: None: none were made yet.
        paired: the identity of the linked account; None: not linked.
        rest: the resting phase it was in, which survives a restart.
        leaving: it was removed and is only to be logged out.
        paused: a person said not to run it.
        logout_wanted: a person wants it logged out, and WhatsApp does not know yet.
        unix_offset_s: UTC minus the clock, seconds.
        first_contacts: when first messages left in the last day, clock seconds.
        new_chats: why nobody may be written to first, if so.
        phone: digits of the number it was linked to, also before; None: never linked.
        uploaded_prekeys: how many are stored that the server was given, counted as far as that
            matters; None: nobody counted.
        routing_info: for the prologue of the next connection, if the server has told any.
        props: what the server last told to be switched on for the account.
        owes_reads: messages were read that WhatsApp was not told of.
    """

    keys: DeviceKeys | None
    paired: PairedIdentity | None
    rest: Rest | None
    leaving: bool
    paused: bool
    unix_offset_s: float
    logout_wanted: bool = False
    first_contacts: tuple[float, ...] = ()
    new_chats: Barred | None = None
    phone: str | None = None
    uploaded_prekeys: int | None = None
    routing_info: bytes | None = field(default=None, repr=False)
    props: Props = field(default_factory=Props)
    owes_reads: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """The machine's deadline has passed."""


# --- results of commands ---


@dataclass(frozen=True, slots=True)
class KeysMade:
    """Fresh keys are saved."""

    keys: DeviceKeys


@dataclass(frozen=True, slots=True)
class CodeMade:
    """A pairing code, with the name under which the phone is to show the device."""

    offer: CodeOffer
    display: str


@dataclass(frozen=True, slots=True)
class CodeAgreed:
    """What was agreed on with whoever typed the code; None: the phone's keys are unusable."""

    agreed: Agreed | None


@dataclass(frozen=True, slots=True)
class PreKeysMade:
    """One-time prekeys are saved and may be uploaded."""

    prekeys: tuple[PreKey, ...]


@dataclass(frozen=True, slots=True)
class RowLoaded:
    """The row to send next; None: none.

    Attributes:
        first_contacts_wait: there are first messages, which were passed over.
        checked: WhatsApp was asked not long ago whether the recipient has an account; absent: and
            said that it has none.
        lid: the recipient's LID, if it is stored.
        by_number: the recipient is addressed by number although its LID is known.
    """

    row: OutboxRow | None
    first_contacts_wait: bool = False
    checked: bool = False
    absent: bool = False
    lid: Jid | None = None
    by_number: bool = False


@dataclass(frozen=True, slots=True)
class SessionsLoaded:
    """Which of the devices asked for have no session yet."""

    missing: frozenset[Jid]


@dataclass(frozen=True, slots=True)
class Armed:
    """Ratchet steps, stanza and state are committed: this may be written. Nothing else may.

    Attributes:
        changed: devices that turned out to have other identity keys than before.
    """

    row: OutboxRow
    stanza: bytes
    changed: tuple[Jid, ...] = ()


@dataclass(frozen=True, slots=True)
class NotArmed:
    """Nothing could be encrypted, or the row is not `accepted` any more: nothing left."""

    row: OutboxRow
    reason: str | None


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """A command could not be committed: nothing of it is stored, and no later one was performed.

    Attributes:
        arming: it was an `Arm`: the row is as it was, and nothing left.
    """

    arming: bool


@dataclass(frozen=True, slots=True)
class Unread:
    """A message that could not be read.

    Attributes:
        known_as: by which it is recognised when it can be read after all; opaque.
        t: WhatsApp's time of it, UTC seconds.
    """

    name: MessageName
    known_as: str
    t: int | None


@dataclass(frozen=True, slots=True)
class TokenOwed:
    """A person is owed our privacy token; at least one of its names is known.

    Attributes:
        t: the time it is to have, UTC seconds; None: that of the giving.
    """

    pn: Jid | None
    lid: Jid | None
    t: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An incoming stanza's effect is durable: these answer it, in order.

    Attributes:
        unread: it was a message that cannot be read.
        read: messages that are read by now, as `Unread.known_as`.
        changed: devices that have other identity keys than before.
    """

    nodes: tuple[Node, ...]
    unread: Unread | None = None
    read: tuple[str, ...] = ()
    changed: tuple[Jid, ...] = ()


@dataclass(frozen=True, slots=True)
class ResendLookedUp:
    """What is known of a message that a device could not read, and of that device.

    Attributes:
        receipt: asks for it.
        row: None: no such message, or its text is forgotten.
        device: the one that asks; reached: those it was encrypted for. All by their canonical
            names.
        served: how often it was encrypted anew for that device; beyond any limit if the device has
            said that it has the message.
        base_key: of our current session with it, 32 bytes; None: there is none.
        registration_id: of the device, as that session knows it.
    """

    receipt: Receipt
    row: OutboxRow | None
    device: Jid
    reached: frozenset[Jid]
    served: int
    base_key: bytes | None
    registration_id: int | None


@dataclass(frozen=True, slots=True)
class Resent:
    """What was to be encrypted once more is committed, or is not to be sent.

    Attributes:
        nodes: to be sent, in order.
        lacks_session: nothing is: there is no session with the device.
        changed: as in `Armed`.
    """

    nodes: tuple[Node, ...]
    lacks_session: bool = False
    changed: tuple[Jid, ...] = ()


@dataclass(frozen=True, slots=True)
class ChecksTaken:
    """The numbers that WhatsApp is to be asked about; None: the look-ups could not be noted."""

    numbers: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class ReadsLoaded:
    """Read messages to tell WhatsApp of, oldest first; more: there may be others."""

    marks: tuple[ReadMark, ...]
    more: bool = False


Result = (
    KeysMade
    | CodeMade
    | CodeAgreed
    | PreKeysMade
    | RowLoaded
    | SessionsLoaded
    | Armed
    | NotArmed
    | StorageFailed
    | TokenOwed
    | Answer
    | ChecksTaken
    | ReadsLoaded
    | ResendLookedUp
    | Resent
)

Event = Opened | Received | Lost | Started | Tick | Result

"""What a device's machine wants done: its outputs. Pure values.

The shell performs them in order. Those with a result say which event it comes back as.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from sitpayd.actors.events import Armed, Unread
from sitpayd.actors.messages import HistoryPart, Reaction, Reply
from sitpayd.actors.phase import Phase
from sitpayd.actors.strangers import Barred
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas.aliases import LidMapping
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.pairing_code import CodeOffer, PrimaryHello
from sitpayd.whatsapp.stanzas.privacy import GivenToken
from sitpayd.whatsapp.stanzas.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection: to be linked (registration), or as the linked device.

    Attributes:
        routing_info: for its prologue, if the server has told any.
    """

    registration: bool
    routing_info: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the connection. No `Lost` follows: the machine knows."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write a stanza that may be lost."""

    node: Node


@dataclass(frozen=True, slots=True)
class Write:
    """Write a message stanza. Made only from an `Armed`: what it spends is committed."""

    armed: Armed


@dataclass(frozen=True, slots=True)
class CountAttempt:
    """Note that a row's bytes were written once more."""

    row: OutboxRow


@dataclass(frozen=True, slots=True)
class MakeKeys:
    """Save fresh keys in place of all old ones; back as `KeysMade`.

    With them ends whatever rest, pause or wished logout belonged to the old ones.
    """


@dataclass(frozen=True, slots=True)
class SaveIdentity:
    """Save what pairing brought, before it is confirmed to the server."""

    paired: PairedIdentity


@dataclass(frozen=True, slots=True)
class SaveLid:
    """Save that the account has another LID than pairing brought."""

    paired: PairedIdentity


@dataclass(frozen=True, slots=True)
class SaveFact:
    """Save what the server told about the account under this name; None: it holds no more."""

    name: str
    value: bytes | None = field(repr=False)


class Oddity(StrEnum):
    """What is remarkable about what the server says."""

    OTHER_LID = "other_lid"  # another LID of our account than before
    NO_MULTI_DEVICE = "no_multi_device"  # the phone's account can have no linked devices
    UNKNOWN_REQUEST = "unknown_request"  # an iq that nobody answers
    UNKNOWN_ANNOUNCEMENT = "unknown_announcement"  # an ib


@dataclass(frozen=True, slots=True)
class Remark:
    """Tell people about something odd.

    Attributes:
        detail: names of the protocol, where they are needed to know it by.
    """

    oddity: Oddity
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ForgetKeys:
    """Delete the device's key material."""


@dataclass(frozen=True, slots=True)
class ShowQr:
    """Put a QR code on show for so many seconds."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class HideQr:
    """Take the QR code and the pairing code away."""


@dataclass(frozen=True, slots=True)
class MakeCode:
    """Make a pairing code; comes back as `CodeMade`."""


@dataclass(frozen=True, slots=True)
class ShowCode:
    """Put a pairing code on show for so many seconds.

    Attributes:
        text: as people read it.
        phone: digits of the number that it is for.
    """

    text: str
    phone: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AgreeOnCode:
    """Work out the answer to a typed code; back as `CodeAgreed`, when the secret is replaced."""

    offer: CodeOffer
    hello: PrimaryHello


@dataclass(frozen=True, slots=True)
class SaveRest:
    """Save the resting phase, so that a restart resumes it.

    Attributes:
        until_s: seconds from now until it is said to end.
    """

    phase: Phase
    reason: str
    until_s: int | None = None


@dataclass(frozen=True, slots=True)
class AskRevision:
    """WhatsApp refuses the client's revision; back as `Revised` if a newer one is known already."""


@dataclass(frozen=True, slots=True)
class ClearRest:
    """The device does not rest any more."""


@dataclass(frozen=True, slots=True)
class MakePreKeys:
    """Bring one-time prekeys not yet uploaded up to this count; back as `PreKeysMade`."""

    count: int


@dataclass(frozen=True, slots=True)
class MarkUploaded:
    """The server has these one-time prekeys."""

    key_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NextRow:
    """Load the row to send next; back as `RowLoaded`.

    Attributes:
        first_contacts: False passes over first messages to people.
        unanswered: False passes over messages to people who never answered.
    """

    first_contacts: bool = True
    unanswered: bool = True


@dataclass(frozen=True, slots=True)
class Hold:
    """Note on the next row why it waits and until when (clock seconds)."""

    row: OutboxRow
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class HoldFirstContacts:
    """Note on every first message why it waits and until when (clock seconds).

    Attributes:
        unanswered: messages to people who never answered wait, too.
    """

    until: float
    reason: str
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class SaveNewChatHold:
    """Save that WhatsApp lets the account begin no chats until then; None: it does again."""

    hold: Barred | None


@dataclass(frozen=True, slots=True)
class Learn:
    """Save that this number has this LID; both without device."""

    pn: Jid
    lid: Jid


@dataclass(frozen=True, slots=True)
class LearnAll:
    """Save which numbers have which LIDs."""

    mappings: tuple[LidMapping, ...]


@dataclass(frozen=True, slots=True)
class AddressByNumber:
    """Save whether this person is addressed by number although its LID is known."""

    pn: Jid
    wanted: bool


@dataclass(frozen=True, slots=True)
class LoadSessions:
    """Load the sessions with these devices; back as `SessionsLoaded`."""

    devices: tuple[Jid, ...]


@dataclass(frozen=True, slots=True)
class DropSessions:
    """Delete sessions with a person, under number and LID, and its identity keys.

    Attributes:
        numbers: of the devices that are meant; None: all.
    """

    user: Jid
    numbers: frozenset[int] | None = None


# Where it showed that somebody has another identity key.
FoundIn = Literal["notification", "message", "resend", "bundle"]


@dataclass(frozen=True, slots=True)
class TellIdentityChanged:
    """Somebody has other identity keys than before. The sessions are looked after by now.

    Whatever else hangs on who somebody is hangs on this command.
    """

    user: Jid
    found_in: FoundIn


@dataclass(frozen=True, slots=True)
class KeepToken:
    """Save a person's privacy token: whatever waits for a stranger may go then; as `Answer`.

    Attributes:
        t: the server's time of it, UTC seconds.
    """

    user: Jid
    token: bytes
    t: int

    def __repr__(self) -> str:
        return f"KeepToken(t={self.t})"


@dataclass(frozen=True, slots=True)
class NoteGiven:
    """Save that a person was given our privacy token, and those of its own that came back.

    Attributes:
        t: the time that ours has, UTC seconds.
    """

    to: Jid
    t: int
    theirs: tuple[GivenToken, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepHistory:
    """Save a part of what the phone has told, and that its notice is done if it was the last.

    Comes back as `Answer`: whoever a message waits for may be no stranger any more.
    """

    part: HistoryPart


@dataclass(frozen=True, slots=True)
class Arm:
    """Encrypt for these devices and commit; back as `Armed` or `NotArmed`.

    Attributes:
        row: if it has missed devices, these are those.
        to: the chat, LID or PN, without device.
        pn: its number, if `to` is a LID.
        devices: the recipient's devices.
        own_devices: our other devices.
        phash: of all devices of both sides.
        bundles: for the devices that have no session.
        again: the row is armed, and WhatsApp refused those bytes.
    """

    row: OutboxRow
    to: Jid
    pn: Jid | None
    devices: tuple[Jid, ...]
    own_devices: tuple[Jid, ...]
    phash: str
    bundles: Mapping[Jid, PreKeyBundle]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Move a row on.

    Attributes:
        server_time: unix seconds, with SENT.
        missed: with SENT: the server knows of devices that it was not encrypted for.
    """

    row: OutboxRow
    state: RowState
    reason: str | None = None
    server_time: int | None = None
    missed: bool = False


@dataclass(frozen=True, slots=True)
class ForgetMissed:
    """The devices that a sent row missed have it now, or will not get it."""

    row: OutboxRow


@dataclass(frozen=True, slots=True)
class MarkLate:
    """An ack for a message that is not in flight (any more): it was sent after all."""

    wa_message_id: str
    server_time: int | None


@dataclass(frozen=True, slots=True)
class MarkReceipt:
    """Move the rows a receipt names on, then acknowledge it with `ack`."""

    receipt: Receipt
    ack: Node


@dataclass(frozen=True, slots=True)
class LookUpResend:
    """Look up what a device asks for that could not read it; back as `ResendLookedUp`."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Resend:
    """Encrypt a message anew for the one device that could not read it; back as `Resent`.

    Attributes:
        ack: of the receipt; it goes in any case.
        bundle: begins a new session with the device.
        anew: whatever session there is belongs to another installation and ends.
    """

    receipt: Receipt
    ack: Node
    bundle: PreKeyBundle | None = None
    anew: bool = False


@dataclass(frozen=True, slots=True)
class AskPhone:
    """Ask our phone for a message that cannot be read, in a message of its own; back as `Resent`.

    Attributes:
        bundle: of the phone, if there is no session with it.
    """

    message: Unread
    bundle: PreKeyBundle | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """Decrypt and store a message, then answer it; back as `Answer`."""

    node: Node


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer a question."""

    reply: Reply
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class Confirm:
    """Answer a question once all that was sent before is written."""

    reply: Reply
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class TakeChecks:
    """Choose which numbers WhatsApp is asked about, and note that; back as `ChecksTaken`."""

    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SaveChecks:
    """Save which numbers have an account; None: WhatsApp is being asked, or did not say."""

    answers: Mapping[str, bool | None]


@dataclass(frozen=True, slots=True)
class TellPresence:
    """Write that we are online, or are no more; the name that goes with it is looked up."""

    available: bool


@dataclass(frozen=True, slots=True)
class LoadReads:
    """Load read messages that WhatsApp does not know of; back as `ReadsLoaded`.

    Attributes:
        without: ids of rows that are being told.
    """

    without: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkReadsTold:
    """WhatsApp knows that the messages in these rows were read."""

    row_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SettleLoggedOut:
    """The device is logged out: nothing of its queue will go."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The removed device is logged out: end the actor for good."""


AboutPeople = TakeChecks | SaveChecks | LoadReads | MarkReadsTold

Command = (
    Dial
    | HangUp
    | Send
    | Write
    | CountAttempt
    | MakeKeys
    | SaveIdentity
    | SaveLid
    | SaveFact
    | Remark
    | ForgetKeys
    | ShowQr
    | HideQr
    | MakeCode
    | ShowCode
    | AgreeOnCode
    | SaveRest
    | AskRevision
    | ClearRest
    | MakePreKeys
    | MarkUploaded
    | NextRow
    | Hold
    | HoldFirstContacts
    | SaveNewChatHold
    | Learn
    | LearnAll
    | AddressByNumber
    | LoadSessions
    | DropSessions
    | TellIdentityChanged
    | KeepToken
    | NoteGiven
    | KeepHistory
    | Arm
    | Mark
    | ForgetMissed
    | MarkLate
    | MarkReceipt
    | LookUpResend
    | Resend
    | AskPhone
    | Receive
    | Respond
    | Confirm
    | AboutPeople
    | TellPresence
    | SettleLoggedOut
    | Finish
)

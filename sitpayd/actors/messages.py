"""What may be put into a device's mailbox.

Most messages have no answers: who wants to know looks where the result will stand (the row, the
handle, the status board), so a crash loses no reply. Three are questions: nothing of them is kept,
so they bring the way back to who asks. Events of the machine are events.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sitpayd.actors.events import NetworkEvent
from sitpayd.whatsapp.history import HistoryItem
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.presence import TypingState


@dataclass(frozen=True, slots=True)
class Deliver:
    """The doorbell: there may be a row to send."""


@dataclass(frozen=True, slots=True)
class PairingWish:
    """How somebody wants to link the device.

    Attributes:
        forced: asked for in so many words, not by polling: a bound of its own.
        relink: another number than the first one may be linked.
        phone: digits of the number on whose phone a pairing code will be typed; None: QR codes.
    """

    forced: bool = False
    relink: bool = False
    phone: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StartPairing:
    """Begin a round of linking, unless the device is linked, or join the one under way."""

    wish: PairingWish = PairingWish()


@dataclass(frozen=True, slots=True)
class CancelPairing:
    """End the round of codes under way, if there is one."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Connect no more until resumed. The wish is stored before."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Run again: from a pause, and from each rest that keeps its keys. Stored before."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Drop the connection and dial now; also where another program has replaced the device."""


@dataclass(frozen=True, slots=True)
class Reroute:
    """The device's proxy was changed, and that is stored: no connection stays on the old way."""


@dataclass(frozen=True, slots=True)
class Reachable:
    """Another device got through where both waited for the network: no reason to wait longer."""


@dataclass(frozen=True, slots=True)
class Revised:
    """All devices announce a newer revision of the client now: no reason to rest as outdated."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The machine may have slept: prove that the connection still stands."""


@dataclass(frozen=True, slots=True)
class Logout:
    """Log out at WhatsApp, now or at the next connect, and keep the device. Stored before."""


@dataclass(frozen=True, slots=True)
class Remove:
    """The device is removed: log out at WhatsApp, now or at the next connect; then be gone."""


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """A part of what the phone has told, read by the device's own task (downloads.py).

    Attributes:
        notice_id: of the notice it stands in; a device that is linked anew has it no more.
        is_last: with it the notice is done.
    """

    notice_id: int
    items: tuple[HistoryItem, ...]
    is_last: bool

    def __repr__(self) -> str:
        return f"HistoryPart(notice_id={self.notice_id}, items={len(self.items)})"


@dataclass(frozen=True, slots=True)
class Network:
    """Something the device's own reader or writer saw.

    Attributes:
        generation: number of the connection it belongs to; older ones are dropped.
    """

    generation: int
    event: NetworkEvent


@dataclass(frozen=True, slots=True)
class TellReads:
    """The doorbell for read marks: there may be messages that were read, to tell WhatsApp of."""


# --- questions ---


@dataclass(frozen=True, slots=True)
class Done:
    """It is done.

    Attributes:
        until: when it ends by itself, clock seconds; None: it does not.
    """

    until: float | None = None


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing was done: the device is not connected, or is no more."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was done, and nothing will be before that time, clock seconds."""

    until: float


@dataclass(frozen=True, slots=True)
class TooManyChats:
    """Nothing was done: it types in as many chats as may be."""


Reaction = Done | NotNow | Later | TooManyChats


class Reply(Protocol):
    """The way back to who asked. replies.py has the real one."""

    def put(self, reaction: Reaction, /) -> None:
        """Answer; nobody may be waiting any more."""

    def close(self) -> None:
        """There will be no answer, or there was one."""


@dataclass(frozen=True, slots=True)
class CheckNumbers:
    """Find out which of these numbers have an account. Done: what is known now is stored.

    Attributes:
        numbers: digits; of those that are known nothing is asked.
    """

    numbers: tuple[str, ...] = field(repr=False)
    reply: Reply


@dataclass(frozen=True, slots=True)
class SetPresence:
    """Appear online for so many seconds, or offline. Done: it was written."""

    available: bool
    seconds: float
    reply: Reply


@dataclass(frozen=True, slots=True)
class ShowTyping:
    """Show a chat that we type, record, or do so no more. Done: it was written."""

    chat: Jid = field(repr=False)
    state: TypingState
    reply: Reply


Question = CheckNumbers | SetPresence | ShowTyping

Message = (
    Question
    | TellReads
    | Deliver
    | StartPairing
    | CancelPairing
    | Pause
    | Resume
    | Reconnect
    | Reroute
    | Probe
    | Logout
    | Reachable
    | Revised
    | Remove
    | HistoryPart
    | Network
)

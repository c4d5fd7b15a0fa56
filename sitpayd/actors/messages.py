"""What may be put into a device's mailbox.

Messages have no answers: who wants to know looks where the result will stand (the row, the handle,
the status board), so a crash loses no reply. Events of the machine are events.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sitpayd.actors.events import NetworkEvent
from sitpayd.whatsapp.history import HistoryItem


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


Message = (
    Deliver
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

"""DeviceRegistry: how the rest of the daemon reaches a device.

A handle holds the mailbox, the doorbell and the QR code on show. It lives in the supervisor's slot
and outlives a crashed actor, so no message and no QR is lost with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import trio

from sitpayd.actors.acquaintance import Acquaintance
from sitpayd.actors.events import Tick
from sitpayd.actors.messages import Deliver, Message, PairingWish, StartPairing
from sitpayd.actors.pairing import PairingBar
from sitpayd.actors.recorder import FlightRecorder
from sitpayd.actors.status import Proof
from sitpayd.errors import SitpaydError
from sitpayd.storage.records import Closeness, DeviceRecord

MAILBOX_SIZE: Final = 64
# New devices wait here for the supervisor; a full queue makes the creating request wait.
MAX_ARRIVALS: Final = 256


class DeviceBusyError(SitpaydError):
    """The device's mailbox is full."""


# weakref_slot: the API keeps a code's picture for as long as the code is on show.
@dataclass(frozen=True, slots=True, weakref_slot=True)
class ShownQr:
    """A QR text on show; expires_at is UTC. Never logged, never on the status board."""

    text: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"ShownQr(expires_at={self.expires_at.isoformat()})"


@dataclass(frozen=True, slots=True)
class ShownCode:
    """A pairing code on show for a number's phone; expires_at is UTC. As secret as a QR text."""

    text: str = field(repr=False)
    phone: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Outlook:
    """Why a message would wait, and until when (UTC)."""

    reason: str
    until: datetime


def _no_outlook(recipient: str, standing: Closeness) -> Outlook | None:
    return None


def _no_bar(wish: PairingWish) -> PairingBar | None:
    return None


class DeviceHandle:
    """The outside of one device.

    Attributes:
        doorbell: set by `ring`, cleared by the actor; true means there may be a row to send.
        qr: the QR code on show, if any; code: the pairing code.
        pairs: whether a round of linking is under way, or asked for.
        pairing_bar: tells why a wish to link would come to nothing now. Set by the actor.
        mailbox: the actor's end.
        generation: number of the device's connection, counted on over the lives of its actor.
        outlook: tells why a message to a number would wait now, by how close the person is; None:
            it would not. Set by the actor.
        recorder: what happened last; outlives the actor.
        proof: when WhatsApp's server was heard last, and what it sent; outlives the actor.
        row_in_hand: id of the row the actor is at work on; a crash is blamed on it.
        poison: id of the row that the actor's next life has to set aside first.
        redialled: what a person last asked for that makes it log in anew, and when, clock seconds.
        record: as it was stored when the device came, with the number it was linked to since.
        acquaintance: whom it may resume its handshake with; outlives the actor.
    """

    __slots__ = (
        "_changed",
        "_life",
        "_mail",
        "acquaintance",
        "code",
        "doorbell",
        "generation",
        "mailbox",
        "outlook",
        "pairing_bar",
        "pairs",
        "poison",
        "proof",
        "qr",
        "record",
        "recorder",
        "redialled",
        "row_in_hand",
    )

    def __init__(self, record: DeviceRecord) -> None:
        self.record = record
        self._mail, self.mailbox = trio.open_memory_channel[Message | Tick](MAILBOX_SIZE)
        self.doorbell = False
        self.generation = 0
        self.outlook: Callable[[str, Closeness], Outlook | None] = _no_outlook
        self.qr: ShownQr | None = None
        self.code: ShownCode | None = None
        self.pairs = False
        self.pairing_bar: Callable[[PairingWish], PairingBar | None] = _no_bar
        self.proof: Proof | None = None
        self.row_in_hand: int | None = None
        self.poison: int | None = None
        self.redialled: tuple[str, float] | None = None
        self.recorder = FlightRecorder()
        self.acquaintance = Acquaintance()
        self._changed: trio.Event | None = None
        self._life: trio.CancelScope | None = None

    @property
    def session_id(self) -> str:
        """The device's public name."""
        return self.record.session_id

    def ring(self) -> None:
        """Say that there may be a row to send. Cannot fail: the actor looks at the flag."""
        self.doorbell = True
        # If the mailbox is full, the actor will look at the flag soon anyway.
        with suppress(trio.WouldBlock):
            self._mail.send_nowait(Deliver())

    @property
    def is_idle(self) -> bool:
        """Whether the actor waits for mail, and none is on its way to it."""
        return self.mailbox.statistics().tasks_waiting_receive > 0

    def wake(self) -> None:
        """Let the actor look at the clock; with a full mailbox it does so anyway."""
        with suppress(trio.WouldBlock):
            self._mail.send_nowait(Tick())

    def post(self, message: Message) -> None:
        """Put a message into the mailbox.

        Raises:
            DeviceBusyError: If it is full.
        """
        try:
            self._mail.send_nowait(message)
        except trio.WouldBlock:
            raise DeviceBusyError(f"mailbox of {self.session_id} is full") from None

    async def deliver(self, message: Message) -> None:
        """Put a message into the mailbox, waiting for room: for the device's own reader."""
        await self._mail.send(message)

    @contextmanager
    def life(self) -> Iterator[None]:
        """What runs in here is ended by `restart`: a life of the actor, a wait for the next."""
        with trio.CancelScope() as self._life:
            yield
        self._life = None

    def restart(self) -> None:
        """End this life of the actor and begin the next one at once; it is no crash."""
        if self._life is not None:
            self._life.cancel()

    def show_qr(self, qr: ShownQr | None) -> None:
        """Put a QR code on show, or take it away."""
        self.qr = qr
        self.notify()

    def show_code(self, code: ShownCode | None) -> None:
        """Put a pairing code on show, or take it away."""
        self.code = code
        self.notify()

    def ask_to_pair(self, wish: PairingWish) -> None:
        """Ask the actor to link the device as wished.

        Raises:
            DeviceBusyError: If the mailbox is full.
        """
        self.post(StartPairing(wish))
        self.pairs = True

    def notify(self) -> None:
        """Wake who waits in `changed`."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait until the QR code or the status changes; the caller brings the deadline."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()


class DeviceRegistry:
    """Every device the daemon runs, by session id."""

    def __init__(self) -> None:
        self._handles: dict[str, DeviceHandle] = {}
        self._arriving, self.arrivals = trio.open_memory_channel[DeviceHandle](MAX_ARRIVALS)

    def __iter__(self) -> Iterator[DeviceHandle]:
        return iter(tuple(self._handles.values()))

    def get(self, session_id: str) -> DeviceHandle | None:
        """The handle of a device; None if the daemon does not run it."""
        return self._handles.get(session_id)

    def pairing_count(self, partner_id: int) -> int:
        """How many devices of a partner are being linked."""
        handles = self._handles.values()
        return sum(handle.pairs and handle.record.partner_id == partner_id for handle in handles)

    async def adopt(self, record: DeviceRecord) -> DeviceHandle:
        """Take a device in; the supervisor starts its actor."""
        handle = self.expect(record)
        await self.start([handle])
        return handle

    def expect(self, record: DeviceRecord) -> DeviceHandle:
        """Take a device in whose actor is started later: it has its mailbox at once."""
        handle = self._handles[record.session_id] = DeviceHandle(record)
        return handle

    async def start(self, handles: Iterable[DeviceHandle]) -> None:
        """Let the supervisor start the actors; takes seconds for thousands."""
        for handle in handles:
            await self._arriving.send(handle)

    def release(self, session_id: str) -> None:
        """Forget a device whose actor has ended for good."""
        self._handles.pop(session_id, None)

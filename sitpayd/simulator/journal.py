"""Journal: what became of each message, by device. For tests and people, not for the protocol."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sitpayd.whatsapp.jid import Jid

from .accounts import Device

_MAX_KEPT: Final = 20_000


@dataclass(slots=True)
class Copy:
    """One device's copy.

    Attributes:
        deliveries: how often it was queued for the device.
        answer: how the device answered: "receipt", "ack", or the error code of its ack.
        receipts: types of its receipts in order; a plain delivery is "delivered".
    """

    deliveries: int = 0
    answer: str | None = None
    receipts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """One message.

    Attributes:
        t: UTC seconds of its first acceptance.
        error: code it was refused with; None if it was accepted.
        sendings: how often the client sent this id.
        proof: what it carried to show trust: "tctoken", "cstoken" or nothing.
        copies: by device address (by number).
    """

    id: str
    sender: str
    to: str
    t: float
    error: int | None = None
    sendings: int = 0
    proof: str | None = None
    copies: dict[str, Copy] = field(default_factory=dict)


class Journal:
    """The latest messages of one server.

    Attributes:
        messages: how many there were in all; sendings: how often they were sent.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.sendings = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def sent(self, sender: Device, id: str, to: Jid, error: int | None) -> Entry:
        """Note that a client sent a message."""
        entry = self._entries.get(id)
        if entry is None or entry.sender != str(sender):
            entry = Entry(id, str(sender), str(to), time.time())
            self._entries[id] = entry
            self.messages += 1
            if len(self._entries) > _MAX_KEPT:
                self._entries.popitem(last=False)
        entry.sendings += 1
        self.sendings += 1
        entry.error = error
        return entry

    def delivered(self, entry: Entry, target: Device) -> None:
        """Note that a copy was queued."""
        entry.copies.setdefault(str(target), Copy()).deliveries += 1

    def answered(self, device: Device, id: str, answer: str) -> None:
        """Note how a device answered its copy."""
        copy = self._copy(device, id)
        if copy is not None:
            copy.answer = answer

    def receipt(self, device: Device, id: str, kind: str | None) -> None:
        """Note a receipt of a device."""
        copy = self._copy(device, id)
        if copy is not None:
            copy.receipts.append(kind or "delivered")

    def find(self, id: str) -> Entry | None:
        """The message of this id."""
        return self._entries.get(id)

    def _copy(self, device: Device, id: str) -> Copy | None:
        entry = self._entries.get(id)
        return None if entry is None else entry.copies.get(str(device))

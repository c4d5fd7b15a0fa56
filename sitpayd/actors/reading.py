"""ReadingMachine: tells WhatsApp which messages were read. Pure.

That a message was read is stored first; here it is told, and told again on the next connection
until WhatsApp knows. A receipt names messages of one sender, and its ack says that it arrived. An
ack that does not come in the time in which a silent connection is found dead says nothing against
it: the stream is in order, and what was written after the receipt was answered.

Source: whatsmeow receipt.go, MarkRead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sitpayd.actors.commands import Command, LoadReads, MarkReadsTold, Send
from sitpayd.actors.events import ReadsLoaded
from sitpayd.storage.records import ReadMark
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import receipt

# Messages named by one receipt.
MAX_LISTED: Final = 50
# Messages that are being told; further ones wait.
MAX_UNDER_WAY: Final = 400
# Longer than a connection may be silent before it counts as dead (keepalive.py).
ACK_WITHIN_S: Final = 60.0
READ: Final = "read"


@dataclass(frozen=True, slots=True)
class _Told:
    row_ids: tuple[int, ...]
    deadline: float


class ReadingMachine:
    """The read marks of one device."""

    __slots__ = ("_is_loading", "_is_online", "_told", "_waits")

    def __init__(self) -> None:
        self._is_online = False
        self._is_loading = False
        # Whether there may be marks that nobody has loaded.
        self._waits = False
        # By the id that the ack will name.
        self._told: dict[str, _Told] = {}

    def owes(self) -> None:
        """There are marks from before."""
        self._waits = True

    def online(self) -> list[Command]:
        """The device is connected: tell what waits."""
        self._is_online = True
        return self._load()

    def offline(self) -> None:
        """The connection is gone; what was under way is told again."""
        self._waits = self._waits or self._is_loading or bool(self._told)
        self._is_online = self._is_loading = False
        self._told.clear()

    def ring(self) -> list[Command]:
        """Something was read."""
        self._waits = True
        return self._load()

    def loaded(self, event: ReadsLoaded, now: float) -> list[Command]:
        """Tell what was loaded."""
        if not self._is_loading:
            return []
        self._is_loading = False
        self._waits = self._waits or event.more
        commands: list[Command] = []
        for sender, marks in _grouped(event.marks):
            first, *others = dict.fromkeys(mark.wa_message_id for mark in marks)
            if first in self._told:
                # Its ack could not be told from the other's; when that has come it is loaded again.
                self._waits = True
                continue
            self._told[first] = _Told(tuple(mark.id for mark in marks), now + ACK_WITHIN_S)
            at = max(mark.read_at for mark in marks)
            told = receipt.read([first, *others], Jid.parse(sender), t=int(at.timestamp()))
            commands.append(Send(told))
        # Only behind progress: otherwise the same would be loaded again and again.
        return [*commands, *(self._load() if commands else [])]

    def acked(self, ack: Node) -> list[Command]:
        """Take the server's ack of a receipt of ours, whatever it says: it is not told again."""
        # The receipt of the same message's delivery is acknowledged under the same id.
        if ack.text("type") not in (None, READ):
            return []
        told = self._told.pop(ack.text("id") or "", None)
        return [] if told is None else [MarkReadsTold(told.row_ids), *self._load()]

    def tick(self, now: float) -> list[Command]:
        """Believe in receipts whose ack did not come."""
        late = [id for id, told in self._told.items() if now >= told.deadline]
        row_ids = tuple(row_id for id in late for row_id in self._told.pop(id).row_ids)
        return [MarkReadsTold(row_ids), *self._load()] if row_ids else []

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        return min((told.deadline for told in self._told.values()), default=None)

    def _load(self) -> list[Command]:
        if not (self._is_online and self._waits) or self._is_loading:
            return []
        under_way = tuple(row_id for told in self._told.values() for row_id in told.row_ids)
        if len(under_way) >= MAX_UNDER_WAY:
            return []
        self._waits, self._is_loading = False, True
        return [LoadReads(under_way)]


def _grouped(marks: Iterable[ReadMark]) -> Iterable[tuple[str, list[ReadMark]]]:
    """The marks by sender, as many together as a receipt may name."""
    by_sender: dict[str, list[ReadMark]] = {}
    for mark in marks:
        by_sender.setdefault(mark.sender, []).append(mark)
    for sender, same in by_sender.items():
        for start in range(0, len(same), MAX_LISTED):
            yield sender, same[start : start + MAX_LISTED]

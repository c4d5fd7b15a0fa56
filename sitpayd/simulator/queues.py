"""DeviceQueue: what waits for a device until the device has answered it.

Nothing is forgotten before its answer: what was sent and not answered goes out again on the next
connect, in the old order. Who pumps the queue into a socket is client.py; phones drain theirs
in-process.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node

# A device that never comes back must not eat the machine.
MAX_WAITING: Final = 20_000
# Answers that may come twice (Baileys answers a message with a receipt and an ack).
_MAX_ANSWERED: Final = 512


class Pending:
    """A stanza on its way to a device.

    Attributes:
        sent_at: monotonic seconds of the last sending on this connection; None before it.
        told: account and device numbers that the device knows once it has answered.
        is_overdue: whether its deadline was missed and noted.
    """

    __slots__ = ("is_overdue", "node", "sent_at", "told")

    def __init__(self, node: Node, told: tuple[str, frozenset[int]] | None = None) -> None:
        self.node = node
        self.sent_at: float | None = None
        self.told = told
        self.is_overdue = False

    @property
    def key(self) -> tuple[str, str]:
        """Class and id, which an answer repeats."""
        return self.node.tag, self.node.text("id") or ""

    @property
    def sender(self) -> Jid | None:
        """The address an answer must go to."""
        return self.node.jid("from")


class DeviceQueue:
    """The stanzas of one device, oldest first."""

    def __init__(self) -> None:
        self._unsent: deque[Pending] = deque()
        self._in_flight: dict[tuple[str, str], list[Pending]] = {}
        self._flight_order: OrderedDict[Pending, None] = OrderedDict()
        self._answered: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._unsent) + len(self._flight_order)

    def __iter__(self) -> Iterator[Pending]:
        yield from self._flight_order
        yield from self._unsent

    @property
    def in_flight(self) -> int:
        """How many were sent and are not answered."""
        return len(self._flight_order)

    @property
    def oldest(self) -> Pending | None:
        """The one that waits longest for its answer."""
        return next(iter(self._flight_order), None)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        return len(self) >= MAX_WAITING

    def put(self, pending: Pending) -> bool:
        """Append a stanza; False if the queue is full."""
        if self.is_full:
            return False
        self._unsent.append(pending)
        return True

    def next(self, now: float) -> Pending | None:
        """Take the next stanza to send; it is in flight from now on."""
        if not self._unsent:
            return None
        pending = self._unsent.popleft()
        pending.sent_at = now
        pending.is_overdue = False
        self._flight_order[pending] = None
        self._in_flight.setdefault(pending.key, []).append(pending)
        return pending

    def rewind(self) -> None:
        """Make everything unanswered unsent again: the connection is gone."""
        self._unsent.extendleft(reversed(self._flight_order))
        self._flight_order.clear()
        self._in_flight.clear()

    def mark_offline(self) -> None:
        """Give every waiting stanza the mark of the backlog."""
        for number, pending in enumerate(self._unsent):
            attrs = {**pending.node.attrs, "offline": str(number)}
            pending.node = replace(pending.node, attrs=attrs)

    def candidates(self, tag: str, id: str) -> list[Pending]:
        """The stanzas in flight that an answer with this class and id may mean."""
        return list(self._in_flight.get((tag, id), ()))

    def answer(self, pending: Pending) -> None:
        """Forget a stanza: it was answered."""
        del self._flight_order[pending]
        same = self._in_flight[pending.key]
        same.remove(pending)
        if not same:
            del self._in_flight[pending.key]
        self._answered[pending.key] = None
        self._answered.move_to_end(pending.key)
        if len(self._answered) > _MAX_ANSWERED:
            self._answered.popitem(last=False)

    def was_answered(self, tag: str, id: str) -> bool:
        """Whether a stanza of this class and id was answered lately."""
        return (tag, id) in self._answered

    def clear(self) -> None:
        """Drop everything: the device is gone."""
        self._unsent.clear()
        self._flight_order.clear()
        self._in_flight.clear()

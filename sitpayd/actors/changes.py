"""ChangeLog: the latest changes of the status board, in one ring that all watchers share.

Theory of operation. Nobody is given a queue: a watcher is a place in the ring, so publishing costs
the same for none, a hundred or a hundred stalled watchers, and waits for nobody. Who is at most
MAX_BEHIND changes behind is told each of them. Who is further behind is told only the newest change
of each device. Where even those are more than MAX_BEHIND, or the ring has gone round, the watcher
has overflowed: it needs a fresh snapshot, and is given up if it has not taken one in within
PATIENCE_S. A watcher that comes back may resume wherever the ring still reaches.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from sitpayd.actors.status import DeviceStatus

RING_LEN: Final = 4096
MAX_BEHIND: Final = 256
PATIENCE_S: Final = 10.0
# Handed out at a time: a watcher that stalls keeps no more than these alive.
BATCH_LEN: Final = 64
_EPOCH_LEN: Final = 6  # random bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a device.

    Attributes:
        seq: counts up by one with each change of the board.
        device: its status from now on; "removed" is one, too.
        before: its status word until now; None: it is new.
    """

    seq: int
    device: DeviceStatus
    before: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a watcher is to be told next.

    Attributes:
        coalesced: changes before these were left out, so their `before` says nothing.
    """

    changes: tuple[Change, ...]
    coalesced: bool


class ChangeLog:
    """The ring.

    Attributes:
        epoch: names this log; its numbers mean nothing to another one.
        seq: of the newest change.
    """

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(_EPOCH_LEN)
        self.seq = 0
        self._ring: list[Change | None] = [None] * RING_LEN
        # Session id -> number of its newest change, as long as that is in the ring.
        self._newest: dict[str, int] = {}
        self._waiting = trio.lowlevel.ParkingLot()

    def add(self, device: DeviceStatus, before: str | None) -> None:
        """Append a change and wake who waits for one."""
        self.seq += 1
        place = self.seq % RING_LEN
        old = self._ring[place]
        if old is not None and self._newest.get(old.device.session_id) == old.seq:
            del self._newest[old.device.session_id]
        self._ring[place] = Change(self.seq, device, before)
        self._newest[device.session_id] = self.seq
        self._waiting.unpark_all()

    def cursor(self, seq: int) -> str:
        """Name a place in this log."""
        return f"{self.epoch}-{seq}"

    def place(self, cursor: str) -> int | None:
        """The number a cursor names; None: not of this log, or no longer in the ring."""
        epoch, _, digits = cursor.partition("-")
        if epoch != self.epoch or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            return None
        seq = int(digits)
        return seq if self.reaches(seq) else None

    def reaches(self, seq: int) -> bool:
        """Whether every change after this number is in the ring."""
        return self.seq - RING_LEN <= seq <= self.seq

    def after(self, seq: int, count: int) -> tuple[Change, ...]:
        """So many changes from behind this number on."""
        return tuple(self._at(n) for n in range(seq + 1, min(seq + count, self.seq) + 1))

    def newest_after(self, seq: int) -> Iterator[Change]:
        """Of the changes behind this number each device's newest, in order."""
        for number in range(seq + 1, self.seq + 1):
            change = self._at(number)
            if self._newest[change.device.session_id] == number:
                yield change

    async def news(self) -> None:
        """Wait for the next change."""
        await self._waiting.park()

    def _at(self, seq: int) -> Change:
        change = self._ring[seq % RING_LEN]
        assert change is not None
        return change


class Subscription:
    """One watcher's place in the log.

    Attributes:
        seq: everything up to this number was handed out.
        resumed: it continues what it was told before.

    Args:
        concerns: whether a change is to be told, given whether others were left out before it.
        resumed: then it may catch up over the whole ring first.
    """

    __slots__ = (
        "_bound",
        "_coalesced_to",
        "_concerns",
        "_log",
        "_overflows_since",
        "resumed",
        "seq",
    )

    def __init__(
        self,
        log: ChangeLog,
        seq: int,
        concerns: Callable[[Change, bool], bool],
        *,
        resumed: bool = False,
    ) -> None:
        self.seq = seq
        self.resumed = resumed
        self._log = log
        self._concerns = concerns
        self._bound = RING_LEN if resumed else MAX_BEHIND
        self._coalesced_to = seq
        self._overflows_since: float | None = None

    @property
    def cursor(self) -> str:
        """Where to resume after what was handed out."""
        return self._log.cursor(self.seq)

    @property
    def is_behind(self) -> bool:
        """Whether there is anything to take."""
        return self.seq < self._log.seq

    def take(self) -> Batch | None:
        """Hand out what is to be told next; None: it has overflowed and needs a snapshot."""
        behind = self._log.seq - self.seq
        if behind <= MAX_BEHIND:
            self._bound = MAX_BEHIND
            # What follows a change that was left out is no later than this.
            coalesced = self.seq < self._coalesced_to
            count = min(BATCH_LEN, self._coalesced_to - self.seq) if coalesced else BATCH_LEN
            changes = self._log.after(self.seq, count)
            self.seq += len(changes)
            return Batch(tuple(c for c in changes if self._concerns(c, coalesced)), coalesced)
        pending = self._pending()
        if pending is None:
            return None
        self._coalesced_to = self._log.seq
        self.seq = self._log.seq if len(pending) <= BATCH_LEN else pending[BATCH_LEN - 1].seq
        return Batch(tuple(pending[:BATCH_LEN]), coalesced=True)

    def restart(self, seq: int) -> None:
        """Go on from behind this number, which a snapshot holds."""
        self.seq = self._coalesced_to = seq
        self._bound = MAX_BEHIND

    def caught_up(self) -> None:
        """The snapshot was taken in."""
        self._overflows_since = None

    def is_given_up(self, now: float) -> bool:
        """Whether it has overflowed for PATIENCE_S; call it now and then. now: clock seconds."""
        if self._log.seq - self.seq <= MAX_BEHIND or self._pending() is not None:
            self._overflows_since = None
            return False
        if self._overflows_since is None:
            self._overflows_since = now
        return now - self._overflows_since >= PATIENCE_S

    def _pending(self) -> list[Change] | None:
        """What a watcher far behind is still to be told; None: too much."""
        if not self._log.reaches(self.seq):
            return None
        pending = [c for c in self._log.newest_after(self.seq) if self._concerns(c, True)]
        return None if len(pending) > self._bound else pending

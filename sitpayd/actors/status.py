"""StatusBoard: the latest status of every device, fanned out to whoever watches.

Holds no QR text, token or message, so nothing secret can reach the feed through it. How a device
comes by its status is machine.py; the WebSocket is api/feed.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import trio

# A watcher this many changes behind is cut off: publishing never waits for a reader.
MAX_CHANGES_BEHIND: Final = 256


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What is known of a device now.

    Attributes:
        status: a Phase's value, or "removed".
        reason: a machine-readable word, for example "qr_expired"; None if there is nothing to say.
        since: UTC; when this status began.
        until: UTC; when it is expected to end, where that is known.
    """

    session_id: str
    partner_id: int
    status: str
    reason: str | None
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change: seq counts up by one for each."""

    seq: int
    device: DeviceStatus


class Subscription:
    """One watcher's view: the state at its start and every change after it.

    Attributes:
        seq: number of the last change the snapshot holds.
        snapshot: every device, in the order in which they came.
        changes: iterate it; it ends when the watcher fell too far behind.
    """

    __slots__ = ("_sender", "changes", "seq", "snapshot")

    def __init__(self, seq: int, snapshot: list[DeviceStatus]) -> None:
        self.seq = seq
        self.snapshot = snapshot
        self._sender, self.changes = trio.open_memory_channel[Change](MAX_CHANGES_BEHIND)

    def _offer(self, change: Change) -> None:
        try:
            self._sender.send_nowait(change)
        except trio.WouldBlock:
            self._sender.close()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # cut off already, or its reader is leaving

    def _close(self) -> None:
        self._sender.close()
        self.changes.close()


class StatusBoard:
    """The latest status of every device."""

    def __init__(self) -> None:
        self._devices: dict[str, DeviceStatus] = {}
        self._watchers: set[Subscription] = set()
        self._seq = 0

    def get(self, session_id: str) -> DeviceStatus | None:
        """The latest status of a device; None if it is not known."""
        return self._devices.get(session_id)

    def count(self, partner_id: int) -> Counter[str]:
        """How many devices of a partner are in each status."""
        return Counter(d.status for d in self._devices.values() if d.partner_id == partner_id)

    def publish(self, status: DeviceStatus) -> None:
        """Make a status the latest one; says nothing if nothing but the time differs."""
        known = self._devices.get(status.session_id)
        if known is not None and (known.status, known.reason, known.until) == (
            status.status,
            status.reason,
            status.until,
        ):
            return
        self._devices[status.session_id] = status
        self._announce(status)

    def remove(self, session_id: str, at: datetime) -> None:
        """Forget a device and tell the watchers."""
        known = self._devices.pop(session_id, None)
        if known is not None:
            self._announce(DeviceStatus(session_id, known.partner_id, "removed", None, at))

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Watch: a snapshot, and from then on every change without a gap."""
        subscription = Subscription(self._seq, list(self._devices.values()))
        self._watchers.add(subscription)
        try:
            yield subscription
        finally:
            self._watchers.discard(subscription)
            subscription._close()

    def _announce(self, status: DeviceStatus) -> None:
        self._seq += 1
        change = Change(self._seq, status)
        for watcher in self._watchers:
            watcher._offer(change)

"""StatusBoard: the latest status of every device, fanned out to whoever watches.

Holds no QR text, token or message, so nothing secret can reach the feed through it. How a device
comes by its status is machine.py; the WebSocket is api/feed.py.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import trio

from sitpayd.actors.phase import Phase
from sitpayd.storage.records import DeviceRecord

# A connection that is silent for 45 s is closed (keepalive.py); whoever has heard nothing for even
# longer does not know that it is connected, whatever it believes.
PROOF_HOLDS_S: Final = 70.0
NO_PROOF: Final = "no_proof_of_life"
# A watcher this many changes behind is cut off: publishing never waits for a reader.
MAX_CHANGES_BEHIND: Final = 256


class Evidence(StrEnum):
    """What WhatsApp's server sent last: by this a connection is known to be alive."""

    LOGIN = "login"  # it took the login
    STANZA = "stanza"  # anything else it sends by itself
    PONG = "pong"  # an answer to a question of ours, such as a ping
    ACK = "ack"  # it took a message


@dataclass(frozen=True, slots=True)
class Proof:
    """Proof of life of a connection; at: clock seconds."""

    at: float
    kind: Evidence


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What is known of a device now.

    Attributes:
        status: a Phase's value, or "removed".
        reason: a machine-readable word, for example "qr_expired"; None if there is nothing to say.
        since: UTC; when this status began.
        until: UTC; when it is expected to end, where that is known.
        verified_at: UTC; when WhatsApp's server was heard last, evidence: what it sent. Both are
            read when somebody asks (`judged`); None: not heard since the daemon started.
    """

    session_id: str
    partner_id: int
    status: str
    reason: str | None
    since: datetime
    until: datetime | None = None
    verified_at: datetime | None = None
    evidence: Evidence | None = None


def stored_status(record: DeviceRecord) -> DeviceStatus:
    """What is known of a device that has no actor yet: what was stored of it."""
    status, reason, since, until = Phase.CONNECTING, None, record.created_at, None
    if record.rest is not None:
        rest = record.rest
        status, reason, since, until = Phase(rest.phase), rest.reason, rest.since, rest.until
    elif record.desired == "paused":
        status = Phase.PAUSED
    elif record.phone is None:
        status = Phase.UNPAIRED
    return DeviceStatus(record.session_id, record.partner_id, status.value, reason, since, until)


def judged(known: DeviceStatus, proof: Proof | None, now: float, at: datetime) -> DeviceStatus:
    """Hold a status against the proof of life: without a fresh one nobody is `connected`.

    Args:
        now: clock seconds; at: the same moment, UTC.
    """
    if proof is None:
        verified_at = evidence = None
        doubted_since = known.since
    else:
        verified_at, evidence = at - timedelta(seconds=now - proof.at), proof.kind
        doubted_since = max(known.since, verified_at + timedelta(seconds=PROOF_HOLDS_S))
    if known.status == Phase.CONNECTED and not holds(proof, now):
        return DeviceStatus(
            known.session_id,
            known.partner_id,
            Phase.WAITING.value,
            NO_PROOF,
            doubted_since,
            None,
            verified_at,
            evidence,
        )
    return replace(known, verified_at=verified_at, evidence=evidence)


def holds(proof: Proof | None, now: float) -> bool:
    """Whether a proof is fresh enough for `connected`; now: clock seconds."""
    return proof is not None and now - proof.at <= PROOF_HOLDS_S


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
        # Session ids, sorted: pages of a list must not shift while devices come and go.
        self._order: list[str] = []
        self._counts: dict[int, Counter[str]] = {}
        self._watchers: set[Subscription] = set()
        self._seq = 0

    def get(self, session_id: str) -> DeviceStatus | None:
        """The latest status of a device; None if it is not known."""
        return self._devices.get(session_id)

    def count(self, partner_id: int) -> Counter[str]:
        """How many devices of a partner are in each status."""
        return Counter(self._counts.get(partner_id))

    def counts(self) -> Counter[str]:
        """How many devices are in each status."""
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        return total

    def page(self, after: str, limit: int) -> list[DeviceStatus]:
        """At most so many devices, sorted by session id, from behind this one on."""
        first = bisect_right(self._order, after)
        return [self._devices[name] for name in self._order[first : first + limit]]

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def publish(self, status: DeviceStatus) -> None:
        """Make a status the latest one; says nothing if nothing but the time differs."""
        known = self._devices.get(status.session_id)
        if known is not None and (known.status, known.reason, known.until) == (
            status.status,
            status.reason,
            status.until,
        ):
            return
        if known is None:
            insort(self._order, status.session_id)
        self._devices[status.session_id] = status
        self._recount(known, status)
        self._announce(status)

    def remove(self, session_id: str, at: datetime) -> None:
        """Forget a device and tell the watchers."""
        known = self._devices.pop(session_id, None)
        if known is not None:
            del self._order[bisect_right(self._order, session_id) - 1]
            self._recount(known, None)
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

    def _recount(self, before: DeviceStatus | None, after: DeviceStatus | None) -> None:
        for status, step in ((before, -1), (after, 1)):
            if status is not None:
                counts = self._counts.setdefault(status.partner_id, Counter())
                counts[status.status] += step
                if not counts[status.status]:
                    del counts[status.status]

    def _announce(self, status: DeviceStatus) -> None:
        self._seq += 1
        change = Change(self._seq, status)
        for watcher in self._watchers:
            watcher._offer(change)

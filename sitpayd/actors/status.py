"""StatusBoard: the latest status of every device, and who is believed to be connected.

Holds no QR text, token or message, so nothing secret can reach the feed through it. How a device
comes by its status is machine.py; how watchers are told of it changes.py.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sitpayd.actors.changes import Change, ChangeLog, Subscription
from sitpayd.actors.phase import Phase
from sitpayd.storage.records import DeviceRecord

# A connection that is silent for 45 s is closed (keepalive.py); whoever has heard nothing for even
# longer does not know that it is connected, whatever it believes.
PROOF_HOLDS_S: Final = 70.0
NO_PROOF: Final = "no_proof_of_life"
# How often every connected device is looked at; it is doubted so much before its proof is too old.
CHECK_EACH_S: Final = 5.0
# The status of a device that is no more.
REMOVED: Final = "removed"


class Evidence(StrEnum):
    """What WhatsApp's server sent last: by this a connection is known to be alive."""

    LOGIN = "login"  # it took the login
    STANZA = "stanza"  # anything else it sends by itself
    PONG = "pong"  # an answer to a question of ours, such as a ping
    ACK = "ack"  # it took a message or a receipt


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


class StatusBoard:
    """The latest status of every device.

    Attributes:
        changes: what changed lately.
        watchers: how many watch.
    """

    def __init__(self) -> None:
        self._devices: dict[str, DeviceStatus] = {}
        # Session ids, sorted: pages of a list must not shift while devices come and go.
        self._order: list[str] = []
        self._counts: dict[int, Counter[str]] = {}
        # Of all partners, who may be thousands: a page of metrics must not add them up.
        self._total: Counter[str] = Counter()
        # Statuses that actors told and that are doubted, by session id.
        self._doubted: dict[str, DeviceStatus] = {}
        self.changes = ChangeLog()
        self.watchers = 0

    def get(self, session_id: str) -> DeviceStatus | None:
        """The latest status of a device; None if it is not known."""
        return self._devices.get(session_id)

    def count(self, partner_id: int) -> Counter[str]:
        """How many devices of a partner are in each status."""
        return Counter(self._counts.get(partner_id))

    def counts(self) -> Counter[str]:
        """How many devices are in each status."""
        return Counter(self._total)

    def page(self, after: str, limit: int) -> list[DeviceStatus]:
        """At most so many devices, sorted by session id, from behind this one on."""
        first = bisect_right(self._order, after)
        return [self._devices[name] for name in self._order[first : first + limit]]

    def publish(self, status: DeviceStatus) -> None:
        """Make a status the latest one; says nothing if nothing but the time differs."""
        self._doubted.pop(status.session_id, None)
        self._put(status)

    def check(self, session_id: str, proof: Proof | None, now: float, at: datetime) -> None:
        """Look whether a device still proves that it is connected, and whether it does again.

        Args:
            now: clock seconds; at: the same moment, UTC.
        """
        known = self._devices.get(session_id)
        if known is None:
            return
        # The next look comes only after so long.
        then = now + CHECK_EACH_S
        told = self._doubted.get(session_id)
        if told is not None and holds(proof, then):
            self.publish(told)
        elif told is None and known.status == Phase.CONNECTED and not holds(proof, then):
            self._put(replace(judged(known, proof, then, at), verified_at=None, evidence=None))
            self._doubted[session_id] = known

    def _put(self, status: DeviceStatus) -> None:
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
        self.changes.add(status, None if known is None else known.status)

    def remove(self, session_id: str, at: datetime) -> None:
        """Forget a device and tell the watchers."""
        known = self._devices.pop(session_id, None)
        self._doubted.pop(session_id, None)
        if known is not None:
            del self._order[bisect_right(self._order, session_id) - 1]
            self._recount(known, None)
            removed = DeviceStatus(session_id, known.partner_id, REMOVED, None, at)
            self.changes.add(removed, known.status)

    @contextmanager
    def subscribe(
        self, concerns: Callable[[Change, bool], bool], after: str | None = None
    ) -> Iterator[Subscription]:
        """Watch the changes from now on, or from behind a cursor that still can be resumed.

        Args:
            concerns: see Subscription.
        """
        place = None if after is None else self.changes.place(after)
        now = self.changes.seq if place is None else place
        self.watchers += 1
        try:
            yield Subscription(self.changes, now, concerns, resumed=place is not None)
        finally:
            self.watchers -= 1

    def _recount(self, before: DeviceStatus | None, after: DeviceStatus | None) -> None:
        for status, step in ((before, -1), (after, 1)):
            if status is not None:
                own = self._counts.setdefault(status.partner_id, Counter())
                for counts in (own, self._total):
                    counts[status.status] += step
                    if not counts[status.status]:
                        del counts[status.status]

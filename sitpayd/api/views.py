"""Views: a device as its operator sees it, from what is in memory.

Names of partners are read once each; they do not change. Of a number only the last digits are
shown: enough to tell two devices apart, too little to write to somebody.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from sitpayd.actors.changes import RING_LEN, Change
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import DeviceStatus, Proof, holds, judged
from sitpayd.storage import partners
from sitpayd.storage.database import Database
from sitpayd.storage.records import DeviceRecord, utc_now

View = Mapping[str, object]

SHOWN_DIGITS: Final = 4
# All snapshots of so many seconds share what they are made of: readers who overflow do it at once.
SHARED_S: Final = 1.0
# Devices whose JSON is kept; then it is made anew, since removed ones are among them.
MAX_TEXTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Text:
    """A device as JSON, and all it was made from."""

    known: DeviceStatus
    proof: Proof | None
    record: DeviceRecord | None
    made_at: float
    text: str

    def tells(
        self, known: DeviceStatus, proof: Proof | None, record: DeviceRecord | None, now: float
    ) -> bool:
        """Whether it would be made from the same, and be the same."""
        is_same = self.known is known and self.proof is proof and self.record is record
        return is_same and (known.status != Phase.CONNECTED or holds(proof, now))


class DeviceViews:
    """Makes views of devices."""

    def __init__(self, registry: DeviceRegistry, database: Database) -> None:
        self._registry = registry
        self._database = database
        self._names: dict[int, str] = {}
        self._texts: dict[str, _Text] = {}
        self._moment = (0, -math.inf)
        # Number of a change and its message, as long as the board remembers the change.
        self._news: list[tuple[int, str]] = [(0, "")] * RING_LEN

    async def know_partners(self, devices: Iterable[DeviceStatus]) -> None:
        """Read the names of those partners of these devices that were not met before."""
        if any(device.partner_id not in self._names for device in devices):
            last = max(self._names, default=0)
            self._names.update(await self._database.read(partners.partner_names, last))

    def status(self, known: DeviceStatus) -> DeviceStatus:
        """What may be said of a device now: its status against its proof of life."""
        handle = self._registry.get(known.session_id)
        proof = None if handle is None else handle.proof
        return judged(known, proof, trio.current_time(), utc_now())

    def word(self, known: DeviceStatus) -> str:
        """The status word alone."""
        if known.status != Phase.CONNECTED:
            return known.status
        return self.status(known).status

    def record(self, session_id: str) -> DeviceRecord | None:
        """What is stored of a device; None if the daemon does not run it."""
        handle = self._registry.get(session_id)
        return None if handle is None else handle.record

    def partner_name(self, known: DeviceStatus) -> str | None:
        """Name of the device's partner, if it is known."""
        return self._names.get(known.partner_id)

    def view(self, known: DeviceStatus, record: DeviceRecord | None = None) -> View:
        """Show a device.

        Args:
            record: None: the one at hand, if any.
        """
        known = self.status(known)
        record = record or self.record(known.session_id)
        return {
            "session_id": known.session_id,
            "partner": known.partner_id,
            "partner_name": self.partner_name(known),
            "device_name": None if record is None else record.name,
            "phone": None if record is None else masked(record.phone),
            "status": known.status,
            "reason": known.reason,
            "since": known.since.isoformat(),
            "until": known.until and known.until.isoformat(),
            "verified_at": known.verified_at and known.verified_at.isoformat(),
            "evidence": known.evidence,
        }

    def moment(self, seq: int) -> tuple[int, float]:
        """Where a snapshot begins that shares its texts with all others of the same second.

        Args:
            seq: of the board's newest change.

        Returns:
            The number of a change, and the clock seconds from which on texts are newer than it.
        """
        now = trio.current_time()
        if now - self._moment[1] >= SHARED_S:
            self._moment = (seq, now)
        return self._moment

    def text(self, known: DeviceStatus, since: float = math.inf) -> str:
        """Show a device as JSON; encoded once for all who ask before anything of it changes.

        Args:
            since: clock seconds; a text that was made then or later will do.
        """
        name = known.session_id
        handle = self._registry.get(name)
        proof = None if handle is None else handle.proof
        record = None if handle is None else handle.record
        kept = self._texts.get(name)
        now = trio.current_time()
        if kept is not None and (kept.made_at >= since or kept.tells(known, proof, record, now)):
            return kept.text
        if len(self._texts) >= MAX_TEXTS:
            self._texts.clear()
        text = encode(self.view(known, record))
        self._texts[name] = _Text(known, proof, record, now, text)
        return text

    def news(self, change: Change, cursor: str) -> str:
        """Tell a device's new status as the feed does; encoded once for all who read it."""
        place = change.seq % RING_LEN
        seq, text = self._news[place]
        if seq != change.seq:
            head = encode({"type": "status", "cursor": cursor, "seq": change.seq})
            text = f'{head[:-1]},"device":{self.text(change.device)}}}'
            self._news[place] = (change.seq, text)
        return text


def encode(message: Mapping[str, object]) -> str:
    """Write JSON without blanks."""
    return json.dumps(message, separators=(",", ":"))


def masked(phone: str | None) -> str | None:
    """A number's last digits."""
    return None if phone is None else f"\N{HORIZONTAL ELLIPSIS}{phone[-SHOWN_DIGITS:]}"

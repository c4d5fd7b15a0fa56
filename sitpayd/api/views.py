"""Views: a device as its operator sees it, from what is in memory.

Names of partners are read once each; they do not change. Of a number only the last digits are
shown: enough to tell two devices apart, too little to write to somebody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

import trio

from sitpayd.actors.changes import RING_LEN, Change
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import DeviceStatus, judged
from sitpayd.storage import partners
from sitpayd.storage.database import Database
from sitpayd.storage.records import DeviceRecord, utc_now

View = Mapping[str, object]

SHOWN_DIGITS: Final = 4


class DeviceViews:
    """Makes views of devices."""

    def __init__(self, registry: DeviceRegistry, database: Database) -> None:
        self._registry = registry
        self._database = database
        self._names: dict[int, str] = {}
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

    def news(self, change: Change, cursor: str) -> str:
        """Tell a device's new status as the feed does; encoded once for all who read it."""
        place = change.seq % RING_LEN
        seq, text = self._news[place]
        if seq != change.seq:
            text = encode(
                {
                    "type": "status",
                    "cursor": cursor,
                    "seq": change.seq,
                    "device": self.view(change.device),
                }
            )
            self._news[place] = (change.seq, text)
        return text


def encode(message: Mapping[str, object]) -> str:
    """Write JSON without blanks."""
    return json.dumps(message, separators=(",", ":"))


def masked(phone: str | None) -> str | None:
    """A number's last digits."""
    return None if phone is None else f"\N{HORIZONTAL ELLIPSIS}{phone[-SHOWN_DIGITS:]}"

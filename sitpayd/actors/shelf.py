"""SessionShelf: the Signal sessions of one device that are in use.

A session on it is replaced only after the commit that holds its successor; an error throws the
actor away and the shelf with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sitpayd.storage import sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.records import Address
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.signal.session import SessionRecord, merge

# Sessions at hand per device; the least used go back to where they are stored.
MAX_SESSIONS: Final = 32


@dataclass(frozen=True, slots=True)
class IdentityNews:
    """Identity keys that are not stored yet.

    Attributes:
        keys: 32 bytes each, to be stored with the sessions.
        changed: whose key was another one before.
    """

    keys: Mapping[Address, bytes]
    changed: tuple[Address, ...]


class SessionShelf:
    """Sessions by Signal address."""

    def __init__(self, database: Database, device_id: int) -> None:
        self._database = database
        self._device_id = device_id
        self._sessions: OrderedDict[Address, SessionRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    async def take(self, addresses: Iterable[Address]) -> dict[Address, SessionRecord]:
        """Bring these sessions to hand; who has none is left out."""
        wanted = list(addresses)
        missing = [address for address in wanted if address not in self._sessions]
        if missing:
            stored = await self._database.read(sessions.load_sessions_of, self._device_id, missing)
            self.keep({a: SessionRecord.from_bytes(data) for a, data in stored.items()})
        found = {}
        for address in wanted:
            record = self._sessions.get(address)
            if record is not None:
                self._sessions.move_to_end(address)
                found[address] = record
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return found

    async def lids_of(self, devices: Iterable[Jid]) -> dict[str, str]:
        """The LIDs of the people who are named by number here, by number, as far as known.

        Sessions stand under the LID as soon as it is known, whatever form a stanza has.
        """
        numbers = {device.user for device in devices if not device.is_lid}
        if not numbers:
            return {}
        return await self._database.read(_lids_of, self._device_id, numbers)

    async def identities_news(self, stepped: Mapping[Address, SessionRecord]) -> IdentityNews:
        """The identity keys that differ from what is known of these devices.

        They are trusted, as official clients do by default; that one changed is told.
        """
        at_hand = {a: self._sessions[a].remote_identity for a in stepped if a in self._sessions}
        unknown = [address for address in stepped if address not in at_hand]
        if unknown:
            read = self._database.read
            at_hand |= await read(sessions.load_identities_of, self._device_id, unknown)
        keys = {
            address: record.remote_identity
            for address, record in stepped.items()
            if at_hand.get(address) != record.remote_identity
        }
        return IdentityNews(keys, tuple(address for address in keys if address in at_hand))

    def keep(self, records: Mapping[Address, SessionRecord]) -> None:
        """Take over what is committed."""
        self._sessions.update(records)

    def drop(self, user: Jid) -> None:
        """Let go of the sessions with all devices of a person: they are stored anew."""
        for address in [a for a in self._sessions if a[0] == str(user)]:
            del self._sessions[address]

    def clear(self) -> None:
        """Let go of everything: only what is stored is true."""
        self._sessions.clear()


def serialised(records: Mapping[Address, SessionRecord]) -> dict[Address, bytes]:
    """Sessions as they are stored."""
    return {address: record.to_bytes() for address, record in records.items()}


def merged(recent: bytes, other: bytes) -> bytes:
    """Make one session of two with the same device, as they are stored."""
    return merge(SessionRecord.from_bytes(recent), SessionRecord.from_bytes(other)).to_bytes()


def _lids_of(unit: Unit, device_id: int, numbers: Iterable[str]) -> dict[str, str]:
    known = ((number, sessions.lid_of(unit, device_id, number)) for number in numbers)
    return {number: lid for number, lid in known if lid is not None}

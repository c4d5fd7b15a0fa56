"""SessionShelf: the Signal sessions of one device that are in use.

A session on it is replaced only after the commit that holds its successor; an error throws the
actor away and the shelf with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from sitpayd.log import get_logger
from sitpayd.storage import sessions
from sitpayd.storage.database import Database
from sitpayd.storage.records import Address
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.signal.session import SessionRecord

# Sessions at hand per device; the least used go back to where they are stored.
MAX_SESSIONS: Final = 32

_log = get_logger()


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

    def identities_news(self, stepped: Mapping[Address, SessionRecord]) -> dict[Address, bytes]:
        """The identity keys that differ from what the sessions at hand were made with.

        They are trusted, as official clients do by default; that one changed is worth a line.
        """
        news = {}
        for address, record in stepped.items():
            before = self._sessions.get(address)
            if before is not None and before.remote_identity == record.remote_identity:
                continue
            news[address] = record.remote_identity
            if before is not None:
                _log.warning("identity.changed", device_id=self._device_id)
        return news

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

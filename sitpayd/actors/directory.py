"""Directory: which devices a person has, as the server last said. Pure.

An entry holds until something says otherwise: a notification, another phash in an ack, a refusal,
a day, or time spent offline, in which a notification may have been missed.

Source: whatsmeow user.go, which keeps its lists until they are invalidated.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.usync import UserDevices

MAX_AGE_S: Final = 24 * 3600.0
MAX_OFFLINE_S: Final = 300.0
# People whose devices are remembered per linked device; the oldest is forgotten first.
MAX_PEOPLE: Final = 256


class Directory:
    """Device lists by phone number (a Jid without device)."""

    __slots__ = ("_given_up", "_offline_since", "_people")

    def __init__(self) -> None:
        self._people: OrderedDict[Jid, tuple[UserDevices, float]] = OrderedDict()
        self._given_up: set[Jid] = set()
        self._offline_since: float | None = None

    def get(self, pn: Jid, now: float) -> UserDevices | None:
        """What is known of this number; None: ask."""
        known = self._people.get(pn)
        if known is None or now - known[1] > MAX_AGE_S:
            return None
        self._people.move_to_end(pn)
        return known[0]

    def put(self, pn: Jid, devices: UserDevices, now: float) -> None:
        """Remember an answer."""
        self._given_up.discard(pn)
        self._people[pn] = (devices, now)
        if len(self._people) > MAX_PEOPLE:
            self._drop(next(iter(self._people)))

    def give_up(self, pn: Jid) -> None:
        """Note that not all of the listed devices can be reached, as long as this list holds."""
        if pn in self._people:
            self._given_up.add(pn)

    def is_given_up(self, pn: Jid, now: float) -> bool:
        """Whether it is known that not all devices of this number can be reached."""
        return pn in self._given_up and self.get(pn, now) is not None

    def forget(self, user: Jid) -> None:
        """Forget a person, named by number or LID."""
        user = user.bare
        for pn, (devices, _) in list(self._people.items()):
            if pn == user or devices.lid == user:
                self._drop(pn)

    def offline(self, now: float) -> None:
        """The connection is gone."""
        if self._offline_since is None:
            self._offline_since = now

    def online(self, now: float) -> None:
        """The connection is back."""
        if self._offline_since is not None and now - self._offline_since > MAX_OFFLINE_S:
            self._people.clear()
            self._given_up.clear()
        self._offline_since = None

    def _drop(self, pn: Jid) -> None:
        del self._people[pn]
        self._given_up.discard(pn)

"""Directory: which devices a person has, as the server last said. Pure.

An entry holds until something says otherwise: another phash in an ack, a refusal, a day, or time
spent offline, in which a notification may have been missed. A notification changes it, if the hash
that it tells is that of the changed list; if not, something was missed before, and it is asked for
anew.

Source: whatsmeow user.go, which keeps its lists until they are invalidated, and notification.go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, assert_never

from sitpayd.whatsapp.jid import HOSTED_LID_SERVER, HOSTED_SERVER, Jid
from sitpayd.whatsapp.stanzas.message import phash
from sitpayd.whatsapp.stanzas.notification import DevicesChanged, ListedDevice, OwnDevices
from sitpayd.whatsapp.stanzas.usync import HOSTED_DEVICE, Device, UserDevices

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

    def change(self, notice: DevicesChanged, now: float) -> None:
        """Take a notification about somebody's devices."""
        names = {jid.bare for jid in (notice.user, notice.lid) if jid is not None}
        entry = next((pn for pn, (d, _) in self._people.items() if {pn, d.lid} & names), None)
        if entry is None:
            return
        known, _ = self._people[entry]
        devices = {device.id: device for device in known.devices}
        match notice.action:
            case "add":
                # As in an answer: without key index a companion is not in the signed list.
                added = (_device(one) for one in notice.devices if one.key_index is not None)
                devices |= {device.id: device for device in added}
            case "remove":
                for listed in notice.devices:
                    devices.pop(listed.jid.device, None)
            case "update":
                devices = {}  # it does not say what changed
            case _:
                assert_never(notice.action)
        lid = known.lid or next((name for name in names if name.is_lid), None)
        changed = replace(known, lid=lid, devices=tuple(devices.values()))
        if devices and _is_confirmed(changed, notice):
            self.put(entry, changed, now)
        else:
            self._drop(entry)

    def replace_own(self, own: UserDevices, notice: OwnDevices, now: float) -> frozenset[int]:
        """Take a notification about the devices of our own account.

        Args:
            own: our account; its devices do not count.

        Returns:
            The numbers of devices that were known and are gone.
        """
        listed = tuple(_device(ListedDevice(jid)) for jid in notice.devices)
        before = self.get(own.jid, now)
        if phash(_addressed(own.jid, listed)) != notice.dhash:
            self.forget(own.jid)
            return frozenset()
        self.put(own.jid, replace(own, devices=listed), now)
        gone = {device.id for device in before.devices} if before is not None else set()
        return frozenset(gone - {device.id for device in listed})

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


def _device(listed: ListedDevice) -> Device:
    jid = listed.jid
    hosted = jid.device == HOSTED_DEVICE or jid.server in (HOSTED_SERVER, HOSTED_LID_SERVER)
    return Device(jid.device, listed.key_index, hosted)


def _addressed(user: Jid, devices: Iterable[Device]) -> tuple[Jid, ...]:
    return UserDevices(user, None, tuple(devices)).addresses()


def _is_confirmed(changed: UserDevices, notice: DevicesChanged) -> bool:
    """Whether a list has the hashes that the server tells; it has to tell one that can be made."""
    told = [(changed.jid, notice.device_hash), (changed.lid, notice.device_lid_hash)]
    hashes = [(user, hash_) for user, hash_ in told if user is not None and hash_ is not None]
    return bool(hashes) and all(
        phash(_addressed(user, changed.devices)) == hash_ for user, hash_ in hashes
    )

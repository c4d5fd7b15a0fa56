"""Accounts and their devices, as the server knows them: addresses and public keys.

Private keys are the phone's (phone.py) and the clients'. Device 0 of every account is the phone;
companions are numbered upwards and a number is never given twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Final, Protocol

from sitpayd.whatsapp.jid import (
    HOSTED_LID_SERVER,
    HOSTED_SERVER,
    LID_SERVER,
    PN_SERVER,
    Jid,
    lid,
    pn,
)
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.noise import Pattern
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas.message import phash, unhosted
from sitpayd.whatsapp.stanzas.usync import HOSTED_DEVICE

from .queues import DeviceQueue

PHONE: Final = 0
_LID_LEN: Final = 15
# A German mobile prefix with room for eight digits: a number that a validity check lets pass.
_NUMBER_PREFIX: Final = "49151"


class Link(Protocol):
    """Whatever empties a device's queue: a client's socket, or the phone itself."""

    def wake(self) -> None:
        """There is something in the queue."""


class Device:
    """One device of an account.

    Attributes:
        identity: 32 bytes.
        signed_prekey_id: of the current signed prekey.
        signed_prekey: 32 bytes; `signature`: 64 bytes.
        noise: static key of its Noise handshake, 32 bytes; None for a phone.
        key_index: number in the account's signed list; None for a phone.
        signed_identity: the full ADVSignedDeviceIdentity of a companion.
        prekeys: one-time prekeys not handed out yet, oldest first.
        known_prekeys: ids of one-time prekeys that somebody may use.
        signed_prekey_ids: ids of all its signed prekeys.
        link: what empties the queue; None while it is away.
        told: device numbers this device was told, by LID of the account; told_before: the same when
            it sent its last message.
        refused: devices whose bundle it was refused at its last question.
        routing_info: the edge routing bytes it was given last.
        is_routed: whether its last login came with such bytes.
        handshake: how it shook hands at its last login.
        dirty: what it has to fetch anew, and since when (UTC seconds), until it says that it has.
        is_welcomed: whether its phone has sent it keys and history.
        is_available: whether it wants to appear online.
        checked: how many numbers it has looked up.
    """

    def __init__(
        self,
        account: Account,
        number: int,
        *,
        identity: bytes,
        registration_id: int,
        signed_prekey_id: int,
        signed_prekey: bytes,
        signature: bytes,
        noise: bytes | None = None,
        key_index: int | None = None,
        signed_identity: bytes | None = None,
        name: str = "",
    ) -> None:
        self.account = account
        self.number = number
        self.identity = identity
        self.registration_id = registration_id
        self.signed_prekey_id = signed_prekey_id
        self.signed_prekey = signed_prekey
        self.signature = signature
        self.noise = noise
        self.key_index = key_index
        self.signed_identity = signed_identity
        self.name = name
        self.prekeys: dict[int, bytes] = {}
        self.known_prekeys: dict[int, bytes] = {}
        self.signed_prekey_ids = {signed_prekey_id}
        self.queue = DeviceQueue()
        self.link: Link | None = None
        self.told: dict[str, frozenset[int]] = {}
        self.told_before: dict[str, frozenset[int]] = {}
        self.refused: set[Device] = set()
        self.routing_info: bytes | None = None
        self.is_routed = False
        self.handshake: Pattern | None = None
        self.dirty: dict[str, int] = {}
        self.is_welcomed = False
        self.is_available = False
        self.checked = 0

    def __str__(self) -> str:
        return str(self.pn)

    @property
    def is_hosted(self) -> bool:
        """Whether it is a business's device in the cloud."""
        return self.number == HOSTED_DEVICE

    @property
    def pn(self) -> Jid:
        """Its address by phone number."""
        if self.is_hosted:
            return Jid(self.account.number, HOSTED_SERVER, self.number)
        return pn(self.account.number, self.number)

    @property
    def lid(self) -> Jid:
        """Its address by LID."""
        if self.is_hosted:
            return Jid(self.account.lid_user, HOSTED_LID_SERVER, self.number)
        return lid(self.account.lid_user, self.number)

    def address(self, server: str) -> Jid:
        """Its address in the form of this server."""
        return self.lid if server in (LID_SERVER, HOSTED_LID_SERVER) else self.pn

    def renew(self, keys: DeviceKeys) -> None:
        """Take the keys of another installation. What was handed out of the old ones may come."""
        self.identity = keys.identity.public_key
        self.registration_id = keys.registration_id
        self.signed_prekey_id = keys.signed_prekey.key_id
        self.signed_prekey = keys.signed_prekey.key_pair.public_key
        self.signature = keys.signed_prekey.signature
        self.signed_prekey_ids.add(self.signed_prekey_id)
        self.prekeys.clear()

    def take_bundle(self) -> PreKeyBundle:
        """Hand out the keys for a new session; costs a one-time prekey, if there is one."""
        prekey_id = next(iter(self.prekeys), None)
        return PreKeyBundle(
            registration_id=self.registration_id,
            identity=self.identity,
            signed_prekey_id=self.signed_prekey_id,
            signed_prekey=self.signed_prekey,
            signature=self.signature,
            prekey_id=prekey_id,
            prekey=None if prekey_id is None else self.prekeys.pop(prekey_id),
        )


class Account:
    """One person with a phone.

    Attributes:
        number: digits, international form.
        lid_user: user part of the LID.
        raw_id: the account's number for its list of devices.
        key_index_list: serialised ADVSignedKeyIndexList and its time, made by the phone.
        business_name: what `<biz>` says in pair-success; None for an ordinary account.
        former: numbers of removed devices.
        lid_refusal: ack error for messages that clients address to its LID; None takes them.
        lid_is_hidden: nobody else is told which LID belongs to the number.
        watchers: accounts that asked for this one's devices and hear of changes.
        nct_salt: the secret that the phone gives its companions, 32 bytes.
        locked_until: until when it may begin no chats, UTC seconds; None: it was never locked.
        capped_until: when its quota of new chats, which is used up, begins anew.
    """

    def __init__(
        self, number: str, lid_user: str, name: str, *, platform: str, business_name: str | None
    ) -> None:
        self.number = number
        self.lid_user = lid_user
        self.name = name
        self.platform = platform
        self.business_name = business_name
        self.raw_id = secrets.randbits(31)
        self.devices: dict[int, Device] = {}
        self.key_index_list: tuple[bytes, int] | None = None
        self.former: set[int] = set()
        self.watchers: set[Account] = set()
        self.lid_refusal: int | None = None
        self.lid_is_hidden = False
        self.nct_salt = secrets.token_bytes(32)
        self.locked_until: float | None = None
        self.capped_until: float | None = None
        self._last_number = PHONE
        self._last_key_index = 0

    @property
    def pn(self) -> Jid:
        """The account by phone number."""
        return pn(self.number)

    @property
    def lid(self) -> Jid:
        """The account by LID."""
        return lid(self.lid_user)

    @property
    def phone(self) -> Device:
        """Device 0."""
        return self.devices[PHONE]

    @property
    def companions(self) -> Iterator[Device]:
        """Every device but the phone."""
        return (device for device in self.devices.values() if device.number != PHONE)

    @property
    def numbers(self) -> frozenset[int]:
        """The device numbers."""
        return frozenset(self.devices)

    @property
    def is_locked(self) -> bool:
        """Whether it may begin no chats."""
        return self.locked_until is not None and time.time() < self.locked_until

    @property
    def is_capped(self) -> bool:
        """Whether its quota of new chats is used up."""
        return self.capped_until is not None and time.time() < self.capped_until

    def address(self, server: str) -> Jid:
        """The account's address in the form of this server."""
        return self.lid if server == LID_SERVER else self.pn

    def alternate(self, server: str, told: Account) -> Jid | None:
        """What an account is told of this one's other address, beside that of this server."""
        if self.hides_lid_from(told):
            return None
        return self.pn if server == LID_SERVER else self.lid

    def hides_lid_from(self, told: Account) -> bool:
        """Whether an account is not told which LID belongs to the number."""
        return self.lid_is_hidden and told is not self

    def next_number(self) -> tuple[int, int]:
        """Number and key index for a new companion."""
        self._last_number += 1
        self._last_key_index += 1
        return self._last_number, self._last_key_index

    def hash(self, server: str) -> str:
        """The hash of the device list, phone included, in the form of this server."""
        return phash(device.address(server) for device in self.devices.values())


class Accounts:
    """Every account of the server, by number and by LID."""

    def __init__(self) -> None:
        self._by_number: dict[str, Account] = {}
        self._by_lid: dict[str, Account] = {}

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_number.values())

    def add(
        self,
        number: str | None,
        name: str,
        *,
        platform: str = "android",
        business_name: str | None = None,
    ) -> Account:
        """Make an account without devices; a number is chosen if none is given.

        Raises:
            ValueError: If the number has an account already.
        """
        if number is None:
            number = self._free(self._by_number, _NUMBER_PREFIX, 13)
        if number in self._by_number:
            raise ValueError("this number has an account already")
        lid_user = self._free(self._by_lid, "1", _LID_LEN)
        account = Account(number, lid_user, name, platform=platform, business_name=business_name)
        self._by_number[number] = account
        self._by_lid[lid_user] = account
        return account

    def of(self, jid: Jid) -> Account | None:
        """The account behind an address of either form."""
        jid = unhosted(jid)
        if jid.server == PN_SERVER:
            return self._by_number.get(jid.user)
        return self._by_lid.get(jid.user) if jid.server == LID_SERVER else None

    def device(self, jid: Jid) -> Device | None:
        """The device behind an address of either form."""
        account = self.of(jid)
        return None if account is None else account.devices.get(jid.device)

    def by_number(self, number: str) -> Account | None:
        """The account of a phone number, digits only."""
        return self._by_number.get(number)

    @staticmethod
    def _free(taken: dict[str, Account], prefix: str, length: int) -> str:
        while True:
            digits = "".join(secrets.choice("0123456789") for _ in range(length - len(prefix)))
            if prefix + digits not in taken:
                return prefix + digits

"""usync: which devices a person has, which LID a number has, whether a number has an account.

A query asks several protocols about several users; each answers or fails for itself. An `<error>`
means that nothing is known, never that the list is empty.

Source: whatsmeow user.go; Baileys lib/WAUSync.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ..errors import RemoteProtocolError
from ..jid import HOSTED_LID_SERVER, HOSTED_SERVER, LID_SERVER, PN_SERVER, Jid
from ..node import Node
from . import iq
from .wire import attributes, leaf, text_content

# The business device in Meta's cloud has this number. Source: whatsmeow types/jid.go.
HOSTED_DEVICE: Final = 99
# Error of a `UserDevices` or `Contact` of our own making: neither an answer nor an error came.
NO_ANSWER: Final = 0
# What is said of a checked number that has an account, or has none; anything else says nothing.
_HAS_ACCOUNT: Final = {"in": True, "out": False, "invalid": False}


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a person; id 0 is the phone and has no key index."""

    id: int
    key_index: int | None = None
    is_hosted: bool = False


@dataclass(frozen=True, slots=True)
class UserDevices:
    """The devices of one person.

    Attributes:
        jid: as it was asked, without device.
        lid: the person's LID, if it was asked and is known.
        devices: empty if there is an error.
        error: why nothing is known; None if `devices` is the list.
    """

    jid: Jid
    lid: Jid | None
    devices: tuple[Device, ...]
    error: int | None = None

    def addresses(self, user: Jid | None = None) -> tuple[Jid, ...]:
        """The devices as JIDs.

        Args:
            user: the address whose form they take, by default `jid`; a device has the same number
                under PN and LID.
        """
        return tuple(device_jid(user or self.jid, device) for device in self.devices)


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known about a number.

    Attributes:
        number: digits only, as it was asked.
        exists: whether it has an account; False if there is an error.
        jid: the account by number; lid: by LID.
        error: why nothing is known.
    """

    number: str
    exists: bool
    jid: Jid | None = None
    lid: Jid | None = None
    error: int | None = None


@dataclass(frozen=True, slots=True)
class QueriedUser:
    """A user in a client's query: an address, or a number (digits only) to be checked."""

    jid: Jid | None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class UsyncQuery:
    """A client's query, as the server reads it.

    Attributes:
        protocols: tags of what is asked: "devices", "lid", "contact", and others.
    """

    protocols: frozenset[str]
    users: tuple[QueriedUser, ...]


@dataclass(frozen=True, slots=True)
class UserAnswer:
    """What the server knows about one queried user; what was not asked is not told.

    Attributes:
        jid: as asked, or the account of a checked number.
        devices: None if unknown: an error 404 then.
        key_index_list: serialised ADVSignedKeyIndexList and its time in UTC seconds.
        contact: the checked text and whether it has an account; None: an error stands there.
    """

    jid: Jid | None
    pn: Jid | None = None
    lid: Jid | None = None
    devices: tuple[Device, ...] | None = None
    key_index_list: tuple[bytes, int] | None = None
    contact: tuple[str, bool | None] | None = None


def device_jid(user: Jid, device: Device) -> Jid:
    """The address of a person's device; a hosted one stands on a server of its own."""
    if not device.is_hosted:
        return user.with_device(device.id)
    server = HOSTED_LID_SERVER if user.is_lid else HOSTED_SERVER
    return replace(user, server=server, device=device.id)


def devices_query(id: str, users: Iterable[Jid], *, sid: str, context: str = "message") -> Node:
    """Ask for the devices and the LID of each user.

    Args:
        users: PN or LID, a device is ignored.
        sid: id of the query itself, another than the iq's.
    """
    query = (Node("devices", {"version": "2"}), Node("lid"))
    return _query(id, sid, context, query, (Node("user", {"jid": jid.bare}) for jid in users))


def contact_query(id: str, numbers: Iterable[str], *, sid: str) -> Node:
    """Ask whether these numbers have accounts. In volume this is a known reason for bans.

    Args:
        numbers: international form, digits only.
        sid: id of the query itself, another than the iq's.
    """
    users = (Node("user", {}, (leaf("contact", b"+" + number.encode()),)) for number in numbers)
    query = (Node("contact", {"addressing_mode": "lid"}), Node("lid"))
    return _query(id, sid, "interactive", query, users)


def _query(
    id: str, sid: str, context: str, protocols: tuple[Node, ...], users: Iterable[Node]
) -> Node:
    usync = Node(
        "usync",
        {"sid": sid, "mode": "query", "last": "true", "index": "0", "context": context},
        (Node("query", {}, protocols), Node("list", {}, tuple(users))),
    )
    return iq.get("usync", usync, id=id)


def parse_devices(node: Node) -> dict[Jid, UserDevices]:
    """The answer to `devices_query`, by the address asked for.

    Raises:
        RemoteProtocolError: If the list is absent or an entry is malformed.
    """
    answers = (_user_devices(user) for user in _answered_users(node))
    return {answer.jid: answer for answer in answers}


def _user_devices(user: Node) -> UserDevices:
    jid, lid = user.required_jid("jid").bare, _lid_of(user)
    devices = user.child("devices")
    if devices is None or devices.child("error") is not None:
        return UserDevices(jid, lid, (), _error_of(devices))
    listed = devices.child("device-list")
    if listed is None:
        return UserDevices(jid, lid, (), NO_ANSWER)
    parsed = (_device(child) for child in listed.named("device"))
    # A companion without key index is not (or no longer) in the account's signed list.
    usable = (device for device in parsed if device.id == 0 or device.key_index is not None)
    return UserDevices(jid, lid, tuple({device.id: device for device in usable}.values()))


def _device(node: Node) -> Device:
    device_id = node.number("id")
    if device_id is None or device_id > 0xFFFF:
        raise RemoteProtocolError("a device in a list has no usable id")
    hosted = device_id == HOSTED_DEVICE or node.text("is_hosted") == "true"
    return Device(device_id, node.number("key-index"), hosted)


def parse_contacts(node: Node) -> dict[str, Contact]:
    """The answer to `contact_query`, by number.

    Raises:
        RemoteProtocolError: If the list is absent or an entry is malformed.
    """
    answers = (_contact(user) for user in _answered_users(node))
    return {answer.number: answer for answer in answers if answer is not None}


def _contact(user: Node) -> Contact | None:
    contact = user.child("contact")
    if contact is None:
        return None
    jid, pn_jid = user.jid("jid"), user.jid("pn_jid")
    number = _digits(text_content(contact)) if not contact.children else ""
    if not number:
        # An error may stand in the place of the text; the address then tells which number it was.
        number = next((address.user for address in (pn_jid, jid) if address), "")
    if contact.child("error") is not None:
        return Contact(number, False, error=_error_of(contact))
    exists = _HAS_ACCOUNT.get(contact.text("type") or "")
    if exists is None:
        return Contact(number, False, error=NO_ANSWER)
    addresses = [address.bare for address in (jid, pn_jid, _lid_of(user)) if address]
    return Contact(
        number,
        exists,
        jid=next((address for address in addresses if address.server == PN_SERVER), None),
        lid=next((address for address in addresses if address.server == LID_SERVER), None),
    )


def _answered_users(node: Node) -> Iterable[Node]:
    return node.required("usync").required("list").named("user")


def _lid_of(user: Node) -> Jid | None:
    found = user.child("lid")
    lid = None if found is None else found.jid("val")
    return lid if lid is not None and lid.is_lid and lid.user else None


def _error_of(protocol: Node | None) -> int:
    error = None if protocol is None else protocol.child("error")
    return NO_ANSWER if error is None else error.number("code") or NO_ANSWER


def _digits(text: str) -> str:
    return text.removeprefix("+").partition("@")[0]


def parse_query(node: Node) -> UsyncQuery:
    """Read a client's query, as the server does.

    Raises:
        RemoteProtocolError: If query or list are absent, or a user is neither address nor number.
    """
    usync = node.required("usync")
    return UsyncQuery(
        protocols=frozenset(child.tag for child in usync.required("query").children),
        users=tuple(_queried(user) for user in usync.required("list").named("user")),
    )


def _queried(user: Node) -> QueriedUser:
    jid, contact = user.jid("jid"), user.child("contact")
    if contact is not None:
        return QueriedUser(jid, _digits(text_content(contact)))
    if jid is None:
        raise RemoteProtocolError("a queried user is neither address nor number")
    return QueriedUser(jid.bare)


def answer(query: Node, users: Iterable[UserAnswer]) -> Node:
    """Answer a query of any kind with what it asked for."""
    parsed = parse_query(query)
    nodes = tuple(_answer_node(user, parsed.protocols) for user in users)
    usync = query.required("usync")
    attrs = attributes({"sid": usync.text("sid"), "mode": "query", "last": "true", "index": "0"})
    return iq.result(query, Node("usync", attrs, (Node("list", {}, nodes),)))


def _answer_node(user: UserAnswer, protocols: frozenset[str]) -> Node:
    children = []
    if "devices" in protocols:
        children.append(_devices_node(user))
    if "lid" in protocols and user.lid is not None:
        children.append(Node("lid", {"val": user.lid}))
    if "contact" in protocols and user.contact is not None:
        children.append(_contact_node(*user.contact))
    return Node("user", attributes({"jid": user.jid, "pn_jid": user.pn}), tuple(children))


def _contact_node(text: str, exists: bool | None) -> Node:
    if exists is None:
        error = Node("error", {"code": "429", "text": "rate-overlimit"})
        return Node("contact", {}, (error,))
    return Node("contact", {"type": "in" if exists else "out"}, text.encode())


def _devices_node(user: UserAnswer) -> Node:
    if user.devices is None:
        return Node("devices", {}, (Node("error", {"code": "404", "text": "not-found"}),))
    listed = tuple(
        Node(
            "device",
            attributes(
                {
                    "id": device.id,
                    "key-index": device.key_index,
                    "is_hosted": "true" if device.is_hosted else None,
                }
            ),
        )
        for device in user.devices
    )
    children = [Node("device-list", {}, listed)]
    if user.key_index_list is not None:
        signed, t = user.key_index_list
        children.append(Node("key-index-list", attributes({"ts": t}), signed))
    return Node("devices", {}, tuple(children))

"""notification: what the server tells about keys, devices and people, as typed values.

Every notification is acknowledged (receipt.py), also one that cannot be read. What follows from it
is decided outside.

Source: whatsmeow notification.go; Baileys lib/Socket/messages-recv.js.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, assert_never, get_args

from ..errors import RemoteProtocolError
from ..jid import SERVER_JID, Jid
from ..node import Attr, Node
from .wire import attributes, leaf

DeviceAction = Literal["add", "remove", "update"]
_DEVICE_ACTIONS: Final = get_args(DeviceAction)
# The parts of an account's app state. Source: whatsmeow appstate/keys.go.
COLLECTIONS: Final = frozenset(
    {"critical_block", "critical_unblock_low", "regular_high", "regular_low", "regular"}
)


@dataclass(frozen=True, slots=True)
class PreKeyCount:
    """The server holds only this many of our one-time prekeys."""

    count: int


@dataclass(frozen=True, slots=True)
class IdentityChanged:
    """A person has a new phone or installed the app anew.

    Attributes:
        lid: the person's LID, if `user` is a number and it is told.
    """

    user: Jid
    lid: Jid | None = None


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device in a notification; an update may name none."""

    jid: Jid
    lid: Jid | None = None
    key_index: int | None = None


@dataclass(frozen=True, slots=True)
class DevicesChanged:
    """A person's list of devices changed.

    Attributes:
        user: the person by number or LID, without device.
        lid: the LID, if it is told.
        device_hash: hash of the whole list after the change, by number.
        device_lid_hash: the same by LID.
    """

    user: Jid
    lid: Jid | None
    action: DeviceAction
    devices: tuple[ListedDevice, ...]
    device_hash: str | None = None
    device_lid_hash: str | None = None


@dataclass(frozen=True, slots=True)
class OwnDevices:
    """The devices of our own account: the whole list, the phone included."""

    devices: tuple[Jid, ...]
    dhash: str | None = None


@dataclass(frozen=True, slots=True)
class PasskeyRequested:
    """The account asks for a passkey before it links: this device cannot link by itself."""


@dataclass(frozen=True, slots=True)
class PrivacyToken:
    """A contact gave us a token that proves we know each other.

    Attributes:
        user: the contact, without device.
        lid: the contact's LID, if it is told.
        t: UTC seconds.
    """

    user: Jid
    lid: Jid | None
    token: bytes
    t: int

    def __repr__(self) -> str:
        return f"PrivacyToken(t={self.t})"


@dataclass(frozen=True, slots=True)
class AppStateChanged:
    """The account's app state changed on another device.

    Attributes:
        collections: name and newest version of each; a name we do not know is left out.
    """

    collections: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class OtherNotification:
    """One that needs nothing but its ack."""

    type: str


Notification = (
    PreKeyCount
    | IdentityChanged
    | DevicesChanged
    | OwnDevices
    | PasskeyRequested
    | PrivacyToken
    | AppStateChanged
    | OtherNotification
)


def parse_notification(node: Node) -> Notification:
    """Read a notification.

    Raises:
        RemoteProtocolError: If one of a kind we know is malformed.
    """
    kind = node.text("type") or ""
    from_ = node.required_jid("from")
    parsed: Notification | None = None
    match kind:
        case "encrypt":
            parsed = _encrypt(node, from_)
        case "devices":
            parsed = _devices(node, from_)
        case "account_sync":
            parsed = _own_devices(node)
        case "privacy_token":
            parsed = _privacy_token(node, from_)
        case "server_sync":
            parsed = _app_state(node)
        case "passkey_prologue_request" if from_ == SERVER_JID:
            parsed = PasskeyRequested()
    return parsed or OtherNotification(kind)


def _encrypt(node: Node, from_: Jid) -> Notification | None:
    count = node.child("count")
    if count is not None and not from_.is_user:
        value = count.number("value")
        if value is None:
            raise RemoteProtocolError("<count> without a value")
        return PreKeyCount(value)
    if node.child("identity") is not None and from_.is_user:
        return IdentityChanged(from_.bare, _bare(node.jid("lid")))
    return None


def _devices(node: Node, from_: Jid) -> Notification | None:
    for action in _DEVICE_ACTIONS:
        child = node.child(action)
        if child is not None:
            devices = tuple(
                ListedDevice(
                    device.required_jid("jid"), device.jid("lid"), device.number("key-index")
                )
                for device in child.named("device")
            )
            return DevicesChanged(
                from_.bare,
                _bare(node.jid("lid")),
                action,
                devices,
                child.text("device_hash"),
                child.text("device_lid_hash"),
            )
    return None


def _own_devices(node: Node) -> Notification | None:
    child = node.child("devices")
    if child is None:
        return None
    devices = tuple(device.required_jid("jid") for device in child.named("device"))
    return OwnDevices(devices, child.text("dhash"))


def _privacy_token(node: Node, from_: Jid) -> Notification | None:
    # The address inside <token> is ours: the contact stands on the stanza alone.
    for token in node.required("tokens").named("token"):
        if token.text("type") == "trusted_contact":
            lid = _bare(node.jid("sender_lid"))
            return PrivacyToken(from_.bare, lid, token.data, token.number("t") or 0)
    return None


def _app_state(node: Node) -> Notification:
    changed: dict[str, int] = {}
    for child in node.named("collection"):
        name = child.required_text("name")
        if name in COLLECTIONS:
            changed[name] = child.number("version") or 0
    return AppStateChanged(tuple(changed.items()))


def _bare(jid: Jid | None) -> Jid | None:
    return None if jid is None else jid.bare


def notification(id: str, value: Notification, *, t: int, from_: Jid = SERVER_JID) -> Node:
    """Build a notification, as the server does.

    Args:
        t: server time, UTC seconds.
        from_: the own account for `OwnDevices` and `AppStateChanged`; where the value names a
            person, it is that one.
    """
    attrs: dict[str, Attr | int | None] = {"id": id, "t": t}
    children: Iterable[Node] = ()
    match value:
        case PreKeyCount(count):
            attrs |= {"type": "encrypt", "from": SERVER_JID}
            children = (Node("count", attributes({"value": count})),)
        case IdentityChanged(user, lid):
            attrs |= {"type": "encrypt", "from": user, "lid": lid}
            children = (Node("identity"),)
        case DevicesChanged(user, lid, action, devices, device_hash, device_lid_hash):
            attrs |= {"type": "devices", "from": user, "lid": lid}
            listed = tuple(_listed_node(device) for device in devices)
            hashes = {"device_hash": device_hash, "device_lid_hash": device_lid_hash}
            children = (Node(action, attributes(hashes), listed),)
        case OwnDevices(jids, dhash):
            attrs |= {"type": "account_sync", "from": from_}
            listed = tuple(Node("device", {"jid": jid}) for jid in jids)
            children = (Node("devices", attributes({"dhash": dhash}), listed),)
        case PasskeyRequested():
            attrs |= {"type": "passkey_prologue_request", "from": SERVER_JID}
            children = (leaf("passkey_request_options", b'{"rpId":"whatsapp.com"}'),)
        case PrivacyToken(user, lid, token, token_t):
            attrs |= {"type": "privacy_token", "from": user, "sender_lid": lid}
            token_attrs = attributes({"type": "trusted_contact", "t": token_t})
            children = (Node("tokens", {}, (Node("token", token_attrs, token),)),)
        case AppStateChanged(collections):
            attrs |= {"type": "server_sync", "from": from_}
            children = tuple(
                Node("collection", {"name": name, "version": str(version)})
                for name, version in collections
            )
        case OtherNotification(kind):
            attrs |= {"type": kind, "from": from_}
        case _:
            assert_never(value)
    return Node("notification", attributes(attrs), tuple(children) or None)


def _listed_node(device: ListedDevice) -> Node:
    attrs = {"jid": device.jid, "lid": device.lid, "key-index": device.key_index}
    return Node("device", attributes(attrs))

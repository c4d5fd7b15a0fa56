"""Prekeys at the server: how many are left, uploading more, fetching other devices' bundles.

Nothing is verified but lengths: a bundle's signature is checked where a Signal session is begun.

Source: whatsmeow prekeys.go; Baileys lib/Utils/signal.js, lib/Socket/socket.js.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..crypto import verify
from ..errors import RemoteProtocolError
from ..jid import Jid
from ..keys import KEY_TYPE, DeviceKeys, PreKey
from ..node import Node
from ..signal.session import PreKeyBundle
from . import iq
from .wire import (
    KEY_ID_LEN,
    attributes,
    key_node,
    leaf,
    numbered,
    parse_key,
    parse_public_key,
    parse_registration_id,
    parse_signed_key,
    registration_bytes,
)

_XMLNS: Final = "encrypt"
# Code of a `BundleRefused` of our own making: the server's entry could not be read.
MALFORMED: Final = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """A device's keys as the server stores them; all keys 32 bytes.

    Attributes:
        signature: 64 bytes, not verified by parsing.
        prekeys: id and public key of each one-time prekey.
    """

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signature: bytes
    prekeys: tuple[tuple[int, bytes], ...]

    def signature_is_valid(self) -> bool:
        """Whether the identity key signed the signed prekey."""
        return verify(self.identity, KEY_TYPE + self.signed_prekey, self.signature)


@dataclass(frozen=True, slots=True)
class BundleRefused:
    """No bundle for this device: the server's code (404, 406), or `MALFORMED`."""

    code: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """The server's view of our keys.

    Attributes:
        identity: 32 bytes.
        prekey_ids: the one-time prekeys it still holds.
    """

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    prekey_ids: tuple[int, ...]


def count_query(id: str) -> Node:
    """Ask how many one-time prekeys the server still holds."""
    return iq.get(_XMLNS, Node("count"), id=id)


def parse_count(node: Node) -> int:
    """The answer to `count_query`.

    Raises:
        RemoteProtocolError: If it holds no count.
    """
    value = node.required("count").number("value")
    if value is None:
        raise RemoteProtocolError("<count> without a value")
    return value


def count_answer(query: Node, count: int) -> Node:
    """Answer `count_query`."""
    return iq.result(query, Node("count", attributes({"value": count})))


def upload(id: str, keys: DeviceKeys, prekeys: Iterable[PreKey]) -> Node:
    """Give the server more one-time prekeys, which are stored by now."""
    signed_prekey = keys.signed_prekey
    return iq.set_(
        _XMLNS,
        leaf("registration", registration_bytes(keys.registration_id)),
        leaf("type", KEY_TYPE),
        leaf("identity", keys.identity.public_key),
        Node(
            "list",
            {},
            tuple(key_node("key", key.key_id, key.key_pair.public_key) for key in prekeys),
        ),
        key_node(
            "skey",
            signed_prekey.key_id,
            signed_prekey.key_pair.public_key,
            signed_prekey.signature,
        ),
        id=id,
    )


def parse_upload(node: Node) -> Upload:
    """Read an `upload`, as the server does.

    Raises:
        RemoteProtocolError: If a part is absent or has a wrong length, or the key type is unknown.
    """
    _check_key_type(node)
    signed_prekey_id, signed_prekey, signature = parse_signed_key(node.required("skey"))
    return Upload(
        registration_id=parse_registration_id(node),
        identity=parse_public_key(node, "identity"),
        signed_prekey_id=signed_prekey_id,
        signed_prekey=signed_prekey,
        signature=signature,
        prekeys=tuple(parse_key(key) for key in node.required("list").named("key")),
    )


def digest_query(id: str) -> Node:
    """Ask which of our keys the server holds."""
    return iq.get(_XMLNS, Node("digest"), id=id)


def digest_answer(query: Node, stored: Upload) -> Node:
    """Answer `digest_query`.

    The layout is unverified: Baileys only looks whether there is a `<digest>`. The hash that the
    web client finds in it is left out.
    """
    ids = tuple(leaf("id", numbered(key_id)) for key_id, _ in stored.prekeys)
    digest = Node(
        "digest",
        {},
        (
            *_identity_nodes(stored.registration_id, stored.identity),
            key_node("skey", stored.signed_prekey_id, stored.signed_prekey, stored.signature),
            Node("list", {}, ids),
        ),
    )
    return iq.result(query, digest)


def parse_digest(node: Node) -> Digest | None:
    """The answer to `digest_query`; None if the server holds no keys of ours.

    Raises:
        RemoteProtocolError: If a part is absent or has a wrong length.
    """
    digest = node.child("digest")
    if digest is None:
        return None
    ids = []
    for child in digest.required("list").named("id"):
        if len(child.data) != KEY_ID_LEN:
            raise RemoteProtocolError("a prekey id in <digest> is not 3 bytes")
        ids.append(int.from_bytes(child.data, "big"))
    return Digest(
        registration_id=parse_registration_id(digest),
        identity=parse_public_key(digest, "identity"),
        signed_prekey_id=parse_key(digest.required("skey"))[0],
        prekey_ids=tuple(ids),
    )


def bundles_query(id: str, devices: Iterable[Jid], reason: str | None = None) -> Node:
    """Ask for one bundle per device; each costs that device a one-time prekey.

    Args:
        reason: "identity" after an identity change.
    """
    users = tuple(Node("user", attributes({"jid": jid, "reason": reason})) for jid in devices)
    return iq.get(_XMLNS, Node("key", {}, users), id=id)


def parse_bundles_query(node: Node) -> tuple[Jid, ...]:
    """The devices a client asks for, as the server does.

    Raises:
        RemoteProtocolError: If it is no such query.
    """
    return tuple(user.required_jid("jid") for user in node.required("key").named("user"))


def bundles_answer(
    query: Node,
    bundles: Mapping[Jid, PreKeyBundle | BundleRefused],
    device_identities: Mapping[Jid, bytes] | None = None,
) -> Node:
    """Answer `bundles_query`, in the form and order it was asked.

    Args:
        bundles: one entry for every device asked for.
        device_identities: the full ADVSignedDeviceIdentity of companions, where known.
    """
    known = device_identities or {}
    users = tuple(
        _user_node(jid, bundles[jid], known.get(jid)) for jid in parse_bundles_query(query)
    )
    return iq.result(query, Node("list", {}, users))


def _user_node(jid: Jid, bundle: PreKeyBundle | BundleRefused, signed: bytes | None) -> Node:
    if isinstance(bundle, BundleRefused):
        error = Node("error", attributes({"code": bundle.code, "text": bundle.text}))
        return Node("user", {"jid": jid}, (error,))
    children = [
        *_identity_nodes(bundle.registration_id, bundle.identity),
        key_node("skey", bundle.signed_prekey_id, bundle.signed_prekey, bundle.signature),
    ]
    if bundle.prekey_id is not None and bundle.prekey is not None:
        children.append(key_node("key", bundle.prekey_id, bundle.prekey))
    if signed is not None:
        children.append(leaf("device-identity", signed))
    return Node("user", {"jid": jid}, tuple(children))


def parse_bundles(node: Node) -> dict[Jid, PreKeyBundle | BundleRefused]:
    """The answer to `bundles_query`, by device.

    A device that has no bundle, or one that cannot be read, does not fail the others.

    Raises:
        RemoteProtocolError: If the list is absent or an entry names no device.
    """
    return {
        user.required_jid("jid"): _parse_user(user) for user in node.required("list").named("user")
    }


def _parse_user(user: Node) -> PreKeyBundle | BundleRefused:
    try:
        error = user.child("error")
        if error is not None:
            return BundleRefused(error.number("code") or MALFORMED, error.text("text"))
        return parse_bundle(user)
    except RemoteProtocolError as malformed:
        return BundleRefused(MALFORMED, str(malformed))


def parse_bundle(node: Node) -> PreKeyBundle:
    """Read the keys below this element: an entry of a list of bundles.

    Raises:
        RemoteProtocolError: If a part is absent or has a wrong length, or the key type is unknown.
    """
    return parse_keys(node, parse_registration_id(node))


def parse_keys(node: Node, registration_id: int) -> PreKeyBundle:
    """Read the keys below an element that does not hold the registration id, as in a retry receipt.

    Raises:
        RemoteProtocolError: If a part is absent or has a wrong length, or the key type is unknown.
    """
    _check_key_type(node)
    signed_prekey_id, signed_prekey, signature = parse_signed_key(node.required("skey"))
    one_time = node.child("key")
    prekey_id, prekey = (None, None) if one_time is None else parse_key(one_time)
    return PreKeyBundle(
        registration_id=registration_id,
        identity=parse_public_key(node, "identity"),
        signed_prekey_id=signed_prekey_id,
        signed_prekey=signed_prekey,
        signature=signature,
        prekey_id=prekey_id,
        prekey=prekey,
    )


def _identity_nodes(registration_id: int, identity: bytes) -> Sequence[Node]:
    return (
        leaf("registration", registration_bytes(registration_id)),
        leaf("type", KEY_TYPE),
        leaf("identity", identity),
    )


def _check_key_type(node: Node) -> None:
    kind = node.child("type")
    if kind is not None and kind.data != KEY_TYPE:
        raise RemoteProtocolError("unknown type of identity key")

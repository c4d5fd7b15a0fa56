"""receipt and ack: how every stanza is answered, and what became of our messages.

Addresses are copied from the answered stanza as they stand, device and all. When an answer may go
(only after the effect is durable) is decided outside.

Source: whatsmeow receipt.go, retry.go; Baileys lib/Utils/stanza-ack.js,
lib/Socket/messages-recv.js.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import LocalProtocolError, RemoteProtocolError
from ..jid import Jid
from ..keys import KEY_TYPE, DeviceKeys, PreKey
from ..node import Node
from ..signal.session import PreKeyBundle
from .aliases import LidMapping, in_receipt
from .prekeys import parse_keys
from .wire import (
    Values,
    attributes,
    copied,
    key_node,
    leaf,
    parse_registration_id,
    registration_bytes,
    sent_to,
)

# Version of <retry>.
_RETRY_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Retry:
    """A device asks for a message again, since it could not decrypt it.

    Attributes:
        count: which request it is, from 1.
        t: time of the message, UTC seconds.
        error: why, as that device says: 1 no session, 3 unknown prekey, 7 bad MAC.
        bundle: fresh keys for a new session; signature not verified by parsing.
        device_identity: its full ADVSignedDeviceIdentity, if it came with the keys.
    """

    count: int
    t: int | None
    error: int | None
    registration_id: int | None
    bundle: PreKeyBundle | None
    device_identity: bytes | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt as it came in, or as a client sent it.

    Attributes:
        ids: of all messages it is about.
        from_: the device that answers, or the chat; None in a client's own stanza.
        to: None in what the server delivers.
        type: None for "delivered"; "inactive", "sender", "read", "retry", "peer_msg" and others.
        participant: the answering device, if `from_` is a group.
        t: UTC seconds.
        mappings: what its attributes tell about the people it names.
    """

    ids: tuple[str, ...]
    from_: Jid | None
    to: Jid | None
    type: str | None
    participant: Jid | None
    recipient: Jid | None
    t: int | None
    offline: bool
    retry: Retry | None
    mappings: tuple[LidMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    """A client's ack, as the server reads it.

    Attributes:
        stanza: tag of the answered stanza.
        to: whom that stanza came from.
        error: why it was refused; None for a plain ack.
    """

    id: str
    stanza: str
    to: Jid
    participant: Jid | None
    type: str | None
    error: int | None


def delivery(node: Node, *, active: bool, from_me: bool) -> Node:
    """Confirm a message that is stored.

    Args:
        node: the message's stanza.
        active: whether we said that we are online; otherwise the sender sees no delivered tick.
        from_me: whether our own account sent it.

    Raises:
        RemoteProtocolError: If the stanza lacks id or sender, or an address is malformed.
    """
    kind: str | None = None
    if node.text("category") == "peer":
        kind = "peer_msg"
    elif from_me:
        kind = "sender"
    elif not active:
        kind = "inactive"
    return Node(
        "receipt",
        attributes(
            {
                "id": node.required_text("id"),
                "to": node.required_jid("from"),
                "type": kind,
                **copied(node, "participant", "recipient"),
            }
        ),
    )


def history_sync(id: str, own_pn: Jid) -> Node:
    """Confirm a history sync notification, in addition to `delivery`."""
    return Node("receipt", attributes({"id": id, "to": own_pn.bare, "type": "hist_sync"}))


def read(ids: Sequence[str], chat: Jid, *, t: int, participant: Jid | None = None) -> Node:
    """Say that these messages of one sender were read.

    Args:
        t: UTC seconds.
        participant: the sender without device, in groups.

    Raises:
        LocalProtocolError: If there are no ids.
    """
    if not ids:
        raise LocalProtocolError("a read receipt for nothing")
    first, *others = ids
    items = tuple(Node("item", {"id": id}) for id in others)
    attrs: Values = {"id": first, "to": chat, "type": "read", "participant": participant, "t": t}
    return Node("receipt", attributes(attrs), (Node("list", {}, items),) if items else None)


def retry_receipt(
    node: Node,
    count: int,
    keys: DeviceKeys,
    *,
    prekey: PreKey | None = None,
    device_identity: bytes | None = None,
    error: int | None = None,
) -> Node:
    """Ask for a message again that could not be decrypted. An `ack` follows it.

    Args:
        node: the message's stanza.
        count: which request it is, from 1.
        prekey: a fresh one-time prekey, stored by now and never uploaded; brings all keys along, so
            that the sender can begin a new session.
        device_identity: our full ADVSignedDeviceIdentity, if keys are brought along.
        error: why: 1 no session, 2 invalid key, 3 unknown prekey, 4 invalid message, 7 bad MAC.

    Raises:
        RemoteProtocolError: If the stanza lacks id or sender, or an address is malformed.
    """
    message_id = node.required_text("id")
    retry = attributes(
        {"count": count, "id": message_id, "t": node.text("t"), "v": _RETRY_VERSION, "error": error}
    )
    children = [
        Node("retry", retry),
        leaf("registration", registration_bytes(keys.registration_id)),
    ]
    if prekey is not None:
        children.append(_keys_node(keys, prekey, device_identity))
    return Node(
        "receipt",
        attributes(
            {
                "id": message_id,
                "to": node.required_jid("from"),
                "type": "retry",
                **copied(node, "participant", "recipient"),
                "category": node.text("category"),
            }
        ),
        tuple(children),
    )


def _keys_node(keys: DeviceKeys, prekey: PreKey, device_identity: bytes | None) -> Node:
    signed_prekey = keys.signed_prekey
    children = [
        leaf("type", KEY_TYPE),
        leaf("identity", keys.identity.public_key),
        key_node("key", prekey.key_id, prekey.key_pair.public_key),
        key_node(
            "skey",
            signed_prekey.key_id,
            signed_prekey.key_pair.public_key,
            signed_prekey.signature,
        ),
    ]
    if device_identity is not None:
        children.append(leaf("device-identity", device_identity))
    return Node("keys", {}, tuple(children))


def parse_receipt(node: Node) -> Receipt:
    """Read a receipt of either side.

    Raises:
        RemoteProtocolError: If id, an address, a number or a key is missing or malformed.
    """
    listed = node.child("list")
    items = () if listed is None else tuple(listed.named("item"))
    ids = (node.required_text("id"), *(item.required_text("id") for item in items))
    return Receipt(
        ids=tuple(dict.fromkeys(ids)),
        from_=node.jid("from"),
        to=node.jid("to"),
        type=node.text("type"),
        participant=node.jid("participant"),
        recipient=node.jid("recipient"),
        t=node.number("t"),
        offline="offline" in node.attrs,
        retry=_parse_retry(node) if node.text("type") == "retry" else None,
        mappings=in_receipt(node),
    )


def _parse_retry(node: Node) -> Retry:
    retry = node.required("retry")
    registration_id = None if node.child("registration") is None else parse_registration_id(node)
    keys = node.child("keys")
    bundle = device_identity = None
    if keys is not None:
        if registration_id is None:
            raise RemoteProtocolError("a retry receipt with keys lacks the registration id")
        bundle = parse_keys(keys, registration_id)
        device_identity = keys.data_of("device-identity") if keys.child("device-identity") else None
    return Retry(
        count=retry.number("count") or 1,
        t=retry.number("t"),
        error=retry.number("error"),
        registration_id=registration_id,
        bundle=bundle,
        device_identity=device_identity,
    )


def ack(node: Node, own_device: Jid, error: int | None = None) -> Node:
    """Acknowledge a message, receipt, notification or call.

    Args:
        own_device: our device by number; told in acks of messages only, as the web client does.
        error: 487 unreadable, 488 to 491 unknown kinds, 500 other: the server drops the stanza.

    Raises:
        RemoteProtocolError: If the stanza lacks id or sender, or an address is malformed.
    """
    return Node(
        "ack",
        attributes(
            {
                "id": node.required_text("id"),
                "to": node.required_jid("from"),
                "class": node.tag,
                **copied(node, "participant", "recipient"),
                "type": node.text("type"),
                "from": own_device if node.tag == "message" else None,
                "error": error,
            }
        ),
    )


def parse_ack(node: Node) -> Ack:
    """Read a client's ack, as the server does.

    Raises:
        RemoteProtocolError: If id, class or address are missing or malformed.
    """
    return Ack(
        id=node.required_text("id"),
        stanza=node.required_text("class"),
        to=node.required_jid("to"),
        participant=node.jid("participant"),
        type=node.text("type"),
        error=node.number("error"),
    )


def message_ack(node: Node, t: int, *, error: int | None = None, phash: str | None = None) -> Node:
    """Answer a client's message, as the server does.

    Args:
        t: server time, UTC seconds.
        phash: the server's hash of the devices, if the client's list is not complete.

    Raises:
        RemoteProtocolError: If the message lacks id or its address is malformed.
    """
    attrs: Values = {
        "class": "message",
        "id": node.required_text("id"),
        "from": sent_to(node),
        "t": t,
        "phash": phash,
        "error": error,
    }
    return Node("ack", attributes(attrs))


def receipt_ack(node: Node) -> Node:
    """Answer a client's receipt, as the server does.

    Raises:
        RemoteProtocolError: If the receipt lacks id or its address is malformed.
    """
    return Node(
        "ack",
        attributes(
            {
                "class": "receipt",
                "id": node.required_text("id"),
                "from": sent_to(node),
                **copied(node, "participant"),
                "type": node.text("type"),
            }
        ),
    )


def forward(
    node: Node,
    *,
    from_: Jid,
    t: int,
    participant: Jid | None = None,
    recipient: Jid | None = None,
    offline: int | None = None,
) -> Node:
    """A client's receipt as the server hands it to the author of the message.

    Args:
        from_: the device that sent the receipt, or the group.
        t: server time, UTC seconds.
        participant: the device that sent the receipt, if `from_` is a group.
        recipient: the chat, between devices of one account.
        offline: position in the backlog.

    Raises:
        RemoteProtocolError: If the receipt lacks id.
    """
    attrs: Values = {
        "id": node.required_text("id"),
        "from": from_,
        "type": node.text("type"),
        "participant": participant,
        "recipient": recipient,
        "category": node.text("category"),
        "t": t,
        "offline": offline,
    }
    return Node("receipt", attributes(attrs), node.content)

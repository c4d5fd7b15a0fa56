"""Small pieces that several stanza families share: key elements, numbers as bytes, protobuf.

Nothing here knows a stanza. Keys in stanzas are raw (32 bytes); a reader takes a leading type byte
as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from ..crypto import KEY_LEN, SIGNATURE_LEN
from ..errors import RemoteProtocolError
from ..jid import SERVER_JID, Jid
from ..keys import KEY_TYPE
from ..node import Attr, Node

# Key ids count up in 24 bits.
KEY_ID_LEN: Final = 3
REGISTRATION_ID_LEN: Final = 4

# Attributes before they are written: numbers still numbers, None for what is left out.
Values = Mapping[str, Attr | int | None]
_MessageT = TypeVar("_MessageT", bound=Message)


def parse_proto(kind: type[_MessageT], data: bytes) -> _MessageT:
    """Parse a protobuf message.

    Raises:
        RemoteProtocolError: If the bytes are no such message.
    """
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"not a {kind.__name__}") from error
    return message


def checked_text(value: object) -> str:
    """Take a protobuf text field.

    Raises:
        RemoteProtocolError: If it is not UTF-8; the runtime hands such a proto2 field out as bytes.
    """
    if isinstance(value, str):
        return value
    raise RemoteProtocolError("a protobuf text is not UTF-8")


def text_content(node: Node) -> str:
    """The content of an element as text, whether it came as bytes or as text.

    Raises:
        RemoteProtocolError: If it is not UTF-8 or holds children.
    """
    try:
        return node.data.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"<{node.shown_tag}> is not UTF-8") from error


def leaf(tag: str, data: bytes) -> Node:
    """An element that holds bytes."""
    return Node(tag, {}, data)


def numbered(key_id: int) -> bytes:
    """A key id: 3 bytes, big endian."""
    return key_id.to_bytes(KEY_ID_LEN, "big")


def registration_bytes(registration_id: int) -> bytes:
    """A registration id: 4 bytes, big endian."""
    return registration_id.to_bytes(REGISTRATION_ID_LEN, "big")


def parse_registration_id(node: Node) -> int:
    """The registration id in `<registration>` below this element.

    Raises:
        RemoteProtocolError: If it is absent or not 4 bytes.
    """
    return int.from_bytes(node.data_of("registration", REGISTRATION_ID_LEN), "big")


def key_node(tag: str, key_id: int, public_key: bytes, signature: bytes | None = None) -> Node:
    """A prekey element: `<key>`, or with a signature `<skey>`."""
    parts = [leaf("id", numbered(key_id)), leaf("value", public_key)]
    if signature is not None:
        parts.append(leaf("signature", signature))
    return Node(tag, {}, tuple(parts))


def parse_key(node: Node) -> tuple[int, bytes]:
    """Id and public key (32 bytes) of `<key>` or `<skey>`.

    Raises:
        RemoteProtocolError: If a part is absent or has a wrong length.
    """
    key_id = int.from_bytes(node.data_of("id", KEY_ID_LEN), "big")
    return key_id, parse_public_key(node, "value")


def parse_signed_key(node: Node) -> tuple[int, bytes, bytes]:
    """Id, public key (32 bytes) and signature (64 bytes, not verified here) of `<skey>`.

    Raises:
        RemoteProtocolError: If a part is absent or has a wrong length.
    """
    key_id, public_key = parse_key(node)
    return key_id, public_key, node.data_of("signature", SIGNATURE_LEN)


def parse_public_key(node: Node, tag: str) -> bytes:
    """The public key in the child with this tag: 32 bytes, a leading type byte removed.

    Raises:
        RemoteProtocolError: If it is absent or no key.
    """
    data = node.data_of(tag)
    if len(data) == KEY_LEN + 1 and data[:1] == KEY_TYPE:
        data = data[1:]
    if len(data) != KEY_LEN:
        raise RemoteProtocolError(f"<{tag}> is not a public key")
    return data


def copied(node: Node, *names: str) -> dict[str, Jid]:
    """Those of these address attributes that the stanza has, as Jid, in this order.

    Raises:
        RemoteProtocolError: If one of them is no address.
    """
    found = ((name, node.jid(name)) for name in names)
    return {name: value for name, value in found if value is not None}


def attributes(values: Values) -> dict[str, Attr]:
    """Attributes in this order: None is left out, numbers become text."""
    return {
        name: str(value) if isinstance(value, int) else value
        for name, value in values.items()
        if value is not None
    }


def sent_to(node: Node) -> Jid:
    """Whom a client's stanza addresses; the server if it names nobody.

    Raises:
        RemoteProtocolError: If `to` is no address.
    """
    return node.jid("to") or SERVER_JID

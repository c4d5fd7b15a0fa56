"""Stanzas on the wire: Node to bytes and back.

Only the form, and its limits: what a stanza means is stanzas/; encryption and framing, before and
after this, are noise.py and frames.py. The encoder never guesses: a `Jid` is written as a JID, a
`str` as text, whatever it looks like.

Source: whatsmeow binary/encoder.go, binary/decoder.go, binary/unpack.go.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from .errors import LocalProtocolError, RemoteProtocolError
from .jid import (
    FB_SERVER,
    HOSTED_LID_SERVER,
    HOSTED_SERVER,
    INTEROP_SERVER,
    LEGACY_PN_SERVER,
    LID_SERVER,
    PN_SERVER,
    Jid,
)
from .node import Attr, Content, Node
from .tokens import DOUBLE_BYTE_TOKENS, SINGLE_BYTE_TOKENS

# Limits of our own against hostile input. Real stanzas stay far below: media and history come as
# downloads, and the largest stanzas (prekeys, group fan-out) have some thousand nodes.
MAX_INFLATED_LEN: Final = 8 * 2**20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000
MAX_ATTRIBUTES: Final = 256

_FLAG_ZLIB: Final = 0x02

_LIST_EMPTY: Final = 0
_DICTIONARY_0: Final = 236
_DICTIONARY_3: Final = 239
_INTEROP_JID: Final = 245
_FB_JID: Final = 246
_AD_JID: Final = 247
_LIST_8: Final = 248
_LIST_16: Final = 249
_JID_PAIR: Final = 250
_HEX_8: Final = 251
_BINARY_8: Final = 252
_BINARY_20: Final = 253
_BINARY_32: Final = 254
_NIBBLE_8: Final = 255

_JID_TAGS: Final = frozenset((_INTEROP_JID, _FB_JID, _AD_JID, _JID_PAIR))
_LIST_TAGS: Final = frozenset((_LIST_EMPTY, _LIST_8, _LIST_16))
_BINARY_TAGS: Final = frozenset((_BINARY_8, _BINARY_20, _BINARY_32))

_MAX_LIST_LEN: Final = 0xFFFF
_MAX_PACKED_LEN: Final = 127
_ODD_LENGTH: Final = 0x80

# Which servers an AD_JID stands for. Any other domain byte is a retired idea of the protocol (the
# "agent" of a phone number) and means PN_SERVER.
_AD_DOMAINS: Final = {PN_SERVER: 0, LID_SERVER: 1, HOSTED_SERVER: 128, HOSTED_LID_SERVER: 129}
_AD_SERVERS: Final = {domain: server for server, domain in _AD_DOMAINS.items()}

# Made once: the encoder spends its time on small pieces like these.
_SHORT_LIST_STARTS: Final = (
    bytes((_LIST_EMPTY,)),
    *(bytes((_LIST_8, size)) for size in range(1, 2**8)),
)
_SHORT_BINARY_STARTS: Final = tuple(bytes((_BINARY_8, length)) for length in range(2**8))
_STRING_BYTES: Final[dict[str, bytes]] = {
    "": _SHORT_BINARY_STARTS[0],
    **{
        token: bytes((_DICTIONARY_0 + number, index))
        for number, dictionary in enumerate(DOUBLE_BYTE_TOKENS)
        for index, token in enumerate(dictionary)
    },
    **{token: bytes((index,)) for index, token in enumerate(SINGLE_BYTE_TOKENS) if token},
}
# One entry per byte; None where a byte alone is no text. LIST_EMPTY read as text is "".
_TEXT_OF_BYTE: Final[tuple[str | None, ...]] = SINGLE_BYTE_TOKENS + (None,) * (
    256 - len(SINGLE_BYTE_TOKENS)
)

_is_nibbles = re.compile(r"[0-9.\-]{1,127}").fullmatch
_is_hex = re.compile(r"[0-9A-F]{1,127}").fullmatch
_NIBBLES_TO_HEX: Final = str.maketrans("-.", "ab")
# 12 to 14 have no meaning and 15 is filler: all become NUL, which no packed text may hold.
_HEX_TO_NIBBLES: Final = str.maketrans("abcdef", "-.\0\0\0\0")


def encode(node: Node) -> bytes:
    """Encode one stanza, never compressed.

    Text content that is no token and cannot be packed arrives at the other side as bytes: the wire
    knows no difference.

    Returns:
        The flags byte 0x00 and the node, as `Connection.send_encoded` takes it.

    Raises:
        LocalProtocolError: If the node holds what cannot be written: a wrong type, an empty tag or
            attribute name, a device without a place on the wire, or too much of anything.
    """
    out = bytearray(1)
    _write_node(out, node, 1)
    return bytes(out)


def _write_node(out: bytearray, node: Node, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"a stanza is deeper than {MAX_DEPTH}")
    attrs, content = node.attrs, node.content
    if len(attrs) > MAX_ATTRIBUTES:
        raise LocalProtocolError(f"<{node.tag}> has more than {MAX_ATTRIBUTES} attributes")
    if not node.tag:
        raise LocalProtocolError("a node needs a tag")
    out += _list_start(1 + 2 * len(attrs) + (content is not None))
    out += _string(node.tag)
    for name, value in attrs.items():
        if not name:
            raise LocalProtocolError(f"<{node.tag}> has an attribute without a name")
        out += _string(name)
        out += _jid(value) if isinstance(value, Jid) else _string(value)
    if content is None:
        return
    if isinstance(content, tuple):
        out += _list_start(len(content))
        for child in content:
            _write_node(out, child, depth + 1)
    elif isinstance(content, bytes):
        out += _binary_start(len(content))
        out += content
    else:
        out += _string(content)


def _list_start(size: int) -> bytes:
    if size < 2**8:
        return _SHORT_LIST_STARTS[size]
    if size <= _MAX_LIST_LEN:
        return bytes((_LIST_16, size >> 8, size & 0xFF))
    raise LocalProtocolError(f"a list of {size} does not fit into a stanza")


def _binary_start(length: int) -> bytes:
    if length < 2**8:
        return _SHORT_BINARY_STARTS[length]
    if length < 2**20:
        return bytes((_BINARY_20,)) + length.to_bytes(3, "big")
    return bytes((_BINARY_32,)) + length.to_bytes(4, "big")


def _string(text: str) -> bytes:
    if not isinstance(text, str):
        # A number that slipped through would shift everything behind it.
        raise LocalProtocolError(f"{type(text).__name__} where a stanza needs text")
    token = _STRING_BYTES.get(text)
    if token is not None:
        return token
    if len(text) <= _MAX_PACKED_LEN:
        if _is_nibbles(text):
            return _packed(_NIBBLE_8, text.translate(_NIBBLES_TO_HEX))
        if _is_hex(text):
            return _packed(_HEX_8, text)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError("text that UTF-8 cannot write") from error
    return _binary_start(len(data)) + data


def _packed(tag: int, digits: str) -> bytes:
    byte_count = (len(digits) + 1) // 2
    if len(digits) % 2:
        return bytes((tag, byte_count | _ODD_LENGTH)) + bytes.fromhex(digits + "f")
    return bytes((tag, byte_count)) + bytes.fromhex(digits)


def _jid(jid: Jid) -> bytes:
    server, device = jid.server, jid.device
    if not server:
        raise LocalProtocolError("a JID needs a server")
    if jid.integrator and server != INTEROP_SERVER:
        raise LocalProtocolError(f"a JID at {server} has no integrator")
    if server in (HOSTED_SERVER, HOSTED_LID_SERVER) or (
        device and server in (PN_SERVER, LID_SERVER)
    ):
        return bytes((_AD_JID, _AD_DOMAINS[server])) + _number(device, 1) + _string(jid.user)
    if server == FB_SERVER:
        return bytes((_FB_JID,)) + _string(jid.user) + _number(device, 2) + _string(server)
    if server == INTEROP_SERVER:
        numbers = _number(device, 2) + _number(jid.integrator, 2)
        return bytes((_INTEROP_JID,)) + _string(jid.user) + numbers + _string(server)
    if device:
        raise LocalProtocolError(f"a JID at {server} has no device on the wire")
    user = _string(jid.user) if jid.user else bytes((_LIST_EMPTY,))
    return bytes((_JID_PAIR,)) + user + _string(server)


def _number(value: int, length: int) -> bytes:
    try:
        return value.to_bytes(length, "big")
    except OverflowError as error:
        raise LocalProtocolError(f"{value} does not fit into {length} bytes of a JID") from error


def decode(data: bytes) -> Node:
    """Decode one binary stanza.

    Bytes behind the node are ignored, as are unknown flags. Text that is no UTF-8 gets replacement
    characters: a push name cut in the middle of a character must not cost the message.

    Args:
        data: a frame body after Noise decryption; first byte is the flags byte (bit 1: zlib).

    Raises:
        RemoteProtocolError: If a token is unknown, a length passes the end, or a limit is exceeded.
    """
    try:
        is_compressed = data[0] & _FLAG_ZLIB
        reader = _Reader(_inflate(data[1:]), 0) if is_compressed else _Reader(data, 1)
        return reader.node(1)
    except IndexError as error:
        raise RemoteProtocolError("a stanza ends early") from error


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte more than allowed: at exactly the limit zlib may not have seen the end yet.
        inflated = inflater.decompress(body, MAX_INFLATED_LEN + 1)
    except zlib.error as error:
        raise RemoteProtocolError("a stanza's zlib stream is damaged") from error
    if len(inflated) > MAX_INFLATED_LEN:
        raise RemoteProtocolError(f"a stanza inflates to more than {MAX_INFLATED_LEN} bytes")
    if not inflater.eof:
        raise RemoteProtocolError("a stanza's zlib stream ends early")
    return inflated


class _Reader:
    """A position in the bytes of one stanza.

    Reading a single byte past the end raises IndexError, which `decode` translates; a slice would
    only come out shorter, so every slice is checked here.
    """

    __slots__ = ("_data", "_nodes_left", "_pos")

    def __init__(self, data: bytes, pos: int) -> None:
        self._data = data
        self._pos = pos
        self._nodes_left = MAX_NODES

    def node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise RemoteProtocolError(f"a stanza is deeper than {MAX_DEPTH}")
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise RemoteProtocolError(f"a stanza has more than {MAX_NODES} nodes")
        size = self._list_size()
        if size == 0:
            raise RemoteProtocolError("a node of size 0")
        attr_count = (size - 1) >> 1
        if attr_count > MAX_ATTRIBUTES:
            raise RemoteProtocolError(f"a node has more than {MAX_ATTRIBUTES} attributes")
        tag = self._text()
        if not tag:
            raise RemoteProtocolError("a node has no tag")
        attrs: dict[str, Attr] = {}
        for _ in range(attr_count):
            name = self._text()
            if not name:
                raise RemoteProtocolError("an attribute has no name")
            is_jid = self._data[self._pos] in _JID_TAGS
            attrs[name] = self._jid() if is_jid else self._text()
        return Node(tag, attrs, None if size % 2 else self._content(depth))

    def _content(self, depth: int) -> Content:
        tag = self._data[self._pos]
        if tag in _LIST_TAGS:
            return tuple([self.node(depth + 1) for _ in range(self._list_size())])
        if tag in _BINARY_TAGS:
            return self._binary()
        if tag in _JID_TAGS:
            return str(self._jid())
        return self._text()

    def _list_size(self) -> int:
        data, pos = self._data, self._pos
        tag = data[pos]
        if tag == _LIST_8:
            self._pos = pos + 2
            return data[pos + 1]
        if tag == _LIST_16:
            self._pos = pos + 3
            return data[pos + 1] << 8 | data[pos + 2]
        if tag == _LIST_EMPTY:
            self._pos = pos + 1
            return 0
        raise RemoteProtocolError(f"byte {tag} where a list begins")

    def _text(self) -> str:
        data, pos = self._data, self._pos
        tag = data[pos]
        token = _TEXT_OF_BYTE[tag]
        if token is not None:
            self._pos = pos + 1
            return token
        if tag in _BINARY_TAGS:
            return self._binary().decode("utf-8", "replace")
        if tag in (_NIBBLE_8, _HEX_8):
            return self._packed()
        if _DICTIONARY_0 <= tag <= _DICTIONARY_3:
            self._pos = pos + 2
            return DOUBLE_BYTE_TOKENS[tag - _DICTIONARY_0][data[pos + 1]]
        raise RemoteProtocolError(f"byte {tag} where text begins")

    def _binary(self) -> bytes:
        data, pos = self._data, self._pos
        tag = data[pos]
        if tag == _BINARY_8:
            start = pos + 2
            end = start + data[pos + 1]
        elif tag == _BINARY_20:
            start = pos + 4
            # Only the low 20 of these 24 bits count.
            end = start + (int.from_bytes(data[pos + 1 : start], "big") & 0xFFFFF)
        else:
            start = pos + 5
            end = start + int.from_bytes(data[pos + 1 : start], "big")
        return self._slice(start, end)

    def _slice(self, start: int, end: int) -> bytes:
        if end > len(self._data):
            raise RemoteProtocolError("a length passes the end of the stanza")
        self._pos = end
        return self._data[start:end]

    def _packed(self) -> str:
        pos = self._pos
        tag, count = self._data[pos], self._data[pos + 1]
        start = pos + 2
        digits = self._slice(start, start + (count & ~_ODD_LENGTH)).hex()
        if count & _ODD_LENGTH:
            if not digits:
                raise RemoteProtocolError("a packed text of no bytes has an odd length")
            digits = digits[:-1]
        if tag == _HEX_8:
            return digits.upper()
        text = digits.translate(_HEX_TO_NIBBLES)
        if "\0" in text:
            raise RemoteProtocolError("a packed text holds an invalid nibble")
        return text

    def _number(self, length: int) -> int:
        return int.from_bytes(self._slice(self._pos, self._pos + length), "big")

    def _jid(self) -> Jid:
        tag = self._data[self._pos]
        self._pos += 1
        if tag == _JID_PAIR:
            user, server = self._text(), self._text()
            if not server:
                raise RemoteProtocolError("a JID has no server")
            return Jid(user, PN_SERVER if server == LEGACY_PN_SERVER else server)
        if tag == _AD_JID:
            domain, device = self._number(1), self._number(1)
            return Jid(self._text(), _AD_SERVERS.get(domain, PN_SERVER), device)
        user, device = self._text(), self._number(2)
        integrator = self._number(2) if tag == _INTEROP_JID else 0
        server = INTEROP_SERVER if tag == _INTEROP_JID else FB_SERVER
        if self._text() != server:
            raise RemoteProtocolError(f"a JID of the form for {server} names another server")
        return Jid(user, server, device, integrator)

"""Stanzas on the wire: Node to bytes and back.

Only the form, and its limits: what a stanza means is stanzas/; encryption and framing, before and
after this, are noise.py and frames.py. The encoder never guesses: a `Jid` is written as a JID, a
`str` as text, whatever it looks like.

Source: whatsmeow binary/encoder.go, binary/decoder.go, binary/unpack.go.
"""

from __future__ import annotations

import zlib
from binascii import hexlify, unhexlify
from collections.abc import Callable
from typing import Final, NoReturn

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
# Of all nodes together: compressed, some kilobytes would otherwise hold millions of them.
MAX_ATTRIBUTES_IN_ALL: Final = 4 * MAX_NODES

_FLAG_ZLIB: Final = 0x02
# Inflated at a time: what is refused for its length is never held twice.
_INFLATE_STEP: Final = 2**20

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
# A tag, names and values, and content.
_MAX_NODE_SIZE: Final = 1 + 2 * MAX_ATTRIBUTES + 1
_MAX_PACKED_LEN: Final = 127
_ODD_LENGTH: Final = 0x80

# Which servers an AD_JID stands for. Any other domain byte is a retired idea of the protocol (the
# "agent" of a phone number) and means PN_SERVER.
_AD_DOMAINS: Final = {PN_SERVER: 0, LID_SERVER: 1, HOSTED_SERVER: 128, HOSTED_LID_SERVER: 129}
_AD_SERVERS: Final = {domain: server for server, domain in _AD_DOMAINS.items()}
# Where the device stands in the JID also if it is 0.
_DEVICE_SERVERS: Final = frozenset((HOSTED_SERVER, HOSTED_LID_SERVER, FB_SERVER, INTEROP_SERVER))

# Made once: the encoder spends its time on small pieces like these.
_SHORT_LIST_STARTS: Final = (
    bytes((_LIST_EMPTY,)),
    *(bytes((_LIST_8, size)) for size in range(1, 2**8)),
)
_JID_PAIR_START: Final = bytes((_JID_PAIR,))
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

# What begins a packed text of so many characters; half a byte is filled up.
_NIBBLE_STARTS, _HEX_STARTS = (
    tuple(
        bytes((tag, (length + 1) // 2 | (_ODD_LENGTH if length % 2 else 0)))
        for length in range(_MAX_PACKED_LEN + 1)
    )
    for tag in (_NIBBLE_8, _HEX_8)
)
# Characters to hexadecimal digits: what packing cannot write becomes `_NO_DIGIT`.
_NO_DIGIT: Final = ord("x")
_NIBBLES_TO_HEX, _HEX_TO_HEX = (
    bytes(
        b"0123456789abcdef"[characters.index(byte)] if byte in characters else _NO_DIGIT
        for byte in range(2**8)
    )
    for characters in (b"0123456789-.", b"0123456789ABCDEF")
)
# And back. As nibbles 12 to 14 have no meaning and 15 is filler: all become NUL, which no packed
# text may hold.
_UNPACKED: Final = {
    _NIBBLE_8: bytes.maketrans(b"abcdef", b"-.\0\0\0\0"),
    _HEX_8: bytes.maketrans(b"abcdef", b"ABCDEF"),
}


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
    pieces = [b"\0"]
    _write_node(pieces, node, 1)
    return b"".join(pieces)


def _write_node(pieces: list[bytes], node: Node, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"a stanza is deeper than {MAX_DEPTH}")
    tag, attrs, content = node.tag, node.attrs, node.content
    if len(attrs) > MAX_ATTRIBUTES:
        raise LocalProtocolError(f"<{tag}> has more than {MAX_ATTRIBUTES} attributes")
    if not tag:
        raise LocalProtocolError("a node needs a tag")
    known = _STRING_BYTES
    size = 1 + 2 * len(attrs) + (content is not None)
    pieces.append(_SHORT_LIST_STARTS[size] if size < 2**8 else _long_list_start(size))
    pieces.append(known.get(tag) or _string(tag))
    for name, value in attrs.items():
        if not name:
            raise LocalProtocolError(f"<{tag}> has an attribute without a name")
        pieces.append(known.get(name) or _string(name))
        if isinstance(value, str):
            pieces.append(known.get(value) or _spelled(value))
        elif isinstance(value, Jid):
            pieces.append(_jid(value))
        else:
            raise _no_text(value)
    if content is None:
        return
    if isinstance(content, tuple):
        size = len(content)
        pieces.append(_SHORT_LIST_STARTS[size] if size < 2**8 else _long_list_start(size))
        for child in content:
            _write_node(pieces, child, depth + 1)
    elif isinstance(content, bytes):
        pieces.append(_binary_start(len(content)))
        pieces.append(content)
    else:
        pieces.append(_string(content))


def _long_list_start(size: int) -> bytes:
    """The start of a list that is not short."""
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
        raise _no_text(text)
    return _STRING_BYTES.get(text) or _spelled(text)


def _spelled(text: str) -> bytes:
    """Text that is no token: packed, if that is possible."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError("text that UTF-8 cannot write") from error
    length = len(data)
    if length <= _MAX_PACKED_LEN:
        digits = data.translate(_NIBBLES_TO_HEX)
        if _NO_DIGIT not in digits:
            return _NIBBLE_STARTS[length] + unhexlify(digits + b"f" if length % 2 else digits)
        digits = data.translate(_HEX_TO_HEX)
        if _NO_DIGIT not in digits:
            return _HEX_STARTS[length] + unhexlify(digits + b"f" if length % 2 else digits)
    return _binary_start(length) + data


def _no_text(value: object) -> LocalProtocolError:
    """A number that slipped through would shift everything behind it."""
    return LocalProtocolError(f"{type(value).__name__} where a stanza needs text")


def _jid(jid: Jid) -> bytes:
    server, device = jid.server, jid.device
    if not server:
        raise LocalProtocolError("a JID needs a server")
    if jid.integrator and server != INTEROP_SERVER:
        raise LocalProtocolError(f"a JID at {server} has no integrator")
    if not device and server not in _DEVICE_SERVERS:
        user = _string(jid.user) if jid.user else _SHORT_LIST_STARTS[0]
        return _JID_PAIR_START + user + (_STRING_BYTES.get(server) or _string(server))
    domain = _AD_DOMAINS.get(server)
    if domain is not None:
        return bytes((_AD_JID, domain)) + _number(device, 1) + _string(jid.user)
    if server == FB_SERVER:
        return bytes((_FB_JID,)) + _string(jid.user) + _number(device, 2) + _string(server)
    if server == INTEROP_SERVER:
        numbers = _number(device, 2) + _number(jid.integrator, 2)
        return bytes((_INTEROP_JID,)) + _string(jid.user) + numbers + _string(server)
    raise LocalProtocolError(f"a JID at {server} has no device on the wire")


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
        if data[0] & _FLAG_ZLIB:
            return _read_node(_inflate(data[1:]), 0)
        return _read_node(data, 1)
    except IndexError as error:
        raise RemoteProtocolError("a stanza ends early") from error


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    pieces = []
    length = 0
    try:
        while not inflater.eof:
            piece = inflater.decompress(body, _INFLATE_STEP)
            length += len(piece)
            if length > MAX_INFLATED_LEN:
                raise RemoteProtocolError(
                    f"a stanza inflates to more than {MAX_INFLATED_LEN} bytes"
                )
            if not piece and not inflater.eof:
                raise RemoteProtocolError("a stanza's zlib stream ends early")
            pieces.append(piece)
            body = inflater.unconsumed_tail
    except zlib.error as error:
        raise RemoteProtocolError("a stanza's zlib stream is damaged") from error
    return b"".join(pieces)


# What reads takes the bytes of the stanza and a position, and returns the value and the position
# behind it. Reading a single byte past the end raises IndexError, which `decode` translates; a
# slice would only come out shorter, so every slice is checked.


def _read_node(data: bytes, pos: int) -> Node:
    """Read the node at this position, with all that is in it.

    One loop with a stack instead of a call for each node, and what is most frequent (short lists,
    single-byte tokens, short bytes) read in place: calls take most of the time there is to save.
    """
    end = len(data)
    texts, text_readers, value_readers = _TEXT_OF_BYTE, _TEXT_READERS, _VALUE_READERS
    nodes_left, attrs_left = MAX_NODES - 1, MAX_ATTRIBUTES_IN_ALL
    # The elements whose children are being read, outermost first: tag and attributes, and of the
    # list that the element stands in itself what was read before it, and how many are missing.
    parents: list[tuple[str, dict[str, Attr], list[Node], int]] = []
    siblings: list[Node] = []
    missing = 1
    while True:
        if data[pos] == _LIST_8:
            size = data[pos + 1]
            pos += 2
        else:
            size, pos = _read_list_size(data, pos)
            if size > _MAX_NODE_SIZE:
                raise RemoteProtocolError(f"a node has more than {MAX_ATTRIBUTES} attributes")
        if not size:
            raise RemoteProtocolError("a node of size 0")
        lead = data[pos]
        tag = texts[lead]
        if tag:
            pos += 1
        else:
            tag, pos = text_readers[lead](data, pos)
            if not tag:
                raise RemoteProtocolError("a node has no tag")

        attrs: dict[str, Attr] = {}
        if size > 2:
            attr_count = (size - 1) >> 1
            attrs_left -= attr_count
            if attrs_left < 0:
                raise RemoteProtocolError(
                    f"a stanza has more than {MAX_ATTRIBUTES_IN_ALL} attributes"
                )
            for _ in range(attr_count):
                lead = data[pos]
                name = texts[lead]
                if name:
                    pos += 1
                else:
                    name, pos = text_readers[lead](data, pos)
                    if not name:
                        raise RemoteProtocolError("an attribute has no name")
                lead = data[pos]
                value = texts[lead]
                if value is not None:
                    pos += 1
                    attrs[name] = value
                else:
                    attrs[name], pos = value_readers[lead](data, pos)

        content: Content = None
        if not size & 1:
            lead = data[pos]
            if lead == _BINARY_8:
                start = pos + 2
                pos = start + data[pos + 1]
                if pos > end:
                    raise _passes_the_end()
                content = data[start:pos]
            elif lead in _LIST_TAGS:
                count, pos = _read_list_size(data, pos)
                if count:
                    nodes_left -= count
                    if nodes_left < 0:
                        raise RemoteProtocolError(f"a stanza has more than {MAX_NODES} nodes")
                    parents.append((tag, attrs, siblings, missing))
                    if len(parents) >= MAX_DEPTH:
                        raise RemoteProtocolError(f"a stanza is deeper than {MAX_DEPTH}")
                    siblings, missing = [], count
                    continue
                content = ()
            else:
                content, pos = _read_content(data, pos)

        siblings.append(Node(tag, attrs, content))
        missing -= 1
        while not missing:
            if not parents:
                return siblings[0]
            children = tuple(siblings)
            tag, attrs, siblings, missing = parents.pop()
            siblings.append(Node(tag, attrs, children))
            missing -= 1


def _read_list_size(data: bytes, pos: int) -> tuple[int, int]:
    lead = data[pos]
    if lead == _LIST_8:
        return data[pos + 1], pos + 2
    if lead == _LIST_16:
        return data[pos + 1] << 8 | data[pos + 2], pos + 3
    if lead == _LIST_EMPTY:
        return 0, pos + 1
    raise RemoteProtocolError(f"byte {lead} where a list begins")


def _read_content(data: bytes, pos: int) -> tuple[bytes | str, int]:
    """Read content that is no list."""
    lead = data[pos]
    if lead in _BINARY_TAGS:
        return _read_binary(data, pos)
    if lead in _JID_TAGS:
        jid, pos = _VALUE_READERS[lead](data, pos)
        return str(jid), pos
    return _read_text(data, pos)


def _read_text(data: bytes, pos: int) -> tuple[str, int]:
    return _TEXT_READERS[data[pos]](data, pos)


def _read_token(data: bytes, pos: int) -> tuple[str, int]:
    token = _TEXT_OF_BYTE[data[pos]]
    assert token is not None
    return token, pos + 1


def _read_double_token(data: bytes, pos: int) -> tuple[str, int]:
    return DOUBLE_BYTE_TOKENS[data[pos] - _DICTIONARY_0][data[pos + 1]], pos + 2


def _read_binary_text(data: bytes, pos: int) -> tuple[str, int]:
    content, pos = _read_binary(data, pos)
    return content.decode("utf-8", "replace"), pos


def _read_packed(data: bytes, pos: int) -> tuple[str, int]:
    lead, count = data[pos], data[pos + 1]
    start = pos + 2
    pos = start + (count & ~_ODD_LENGTH)
    if pos > len(data):
        raise _passes_the_end()
    digits = hexlify(data[start:pos])
    if count & _ODD_LENGTH:
        if not digits:
            raise RemoteProtocolError("a packed text of no bytes has an odd length")
        digits = digits[:-1]
    text = digits.translate(_UNPACKED[lead])
    if 0 in text:
        raise RemoteProtocolError("a packed text holds an invalid nibble")
    return text.decode(), pos


def _read_no_text(data: bytes, pos: int) -> NoReturn:
    raise RemoteProtocolError(f"byte {data[pos]} where text begins")


def _read_binary(data: bytes, pos: int) -> tuple[bytes, int]:
    lead = data[pos]
    if lead == _BINARY_8:
        start = pos + 2
        pos = start + data[pos + 1]
    elif lead == _BINARY_20:
        start = pos + 4
        # Only the low 20 of these 24 bits count.
        pos = start + (int.from_bytes(data[pos + 1 : start], "big") & 0xFFFFF)
    else:
        start = pos + 5
        pos = start + int.from_bytes(data[pos + 1 : start], "big")
    if pos > len(data):
        raise _passes_the_end()
    return data[start:pos], pos


def _read_jid_pair(data: bytes, pos: int) -> tuple[Jid, int]:
    user, pos = _TEXT_READERS[data[pos + 1]](data, pos + 1)
    server, pos = _TEXT_READERS[data[pos]](data, pos)
    if not server:
        raise RemoteProtocolError("a JID has no server")
    return Jid(user, PN_SERVER if server == LEGACY_PN_SERVER else server), pos


def _read_ad_jid(data: bytes, pos: int) -> tuple[Jid, int]:
    server, device = _AD_SERVERS.get(data[pos + 1], PN_SERVER), data[pos + 2]
    user, pos = _TEXT_READERS[data[pos + 3]](data, pos + 3)
    return Jid(user, server, device), pos


def _read_fb_jid(data: bytes, pos: int) -> tuple[Jid, int]:
    user, pos = _read_text(data, pos + 1)
    device, pos = _read_number(data, pos)
    return Jid(user, FB_SERVER, device), _read_server(data, pos, FB_SERVER)


def _read_interop_jid(data: bytes, pos: int) -> tuple[Jid, int]:
    user, pos = _read_text(data, pos + 1)
    device, pos = _read_number(data, pos)
    integrator, pos = _read_number(data, pos)
    jid = Jid(user, INTEROP_SERVER, device, integrator)
    return jid, _read_server(data, pos, INTEROP_SERVER)


def _read_number(data: bytes, pos: int) -> tuple[int, int]:
    return data[pos] << 8 | data[pos + 1], pos + 2


def _read_server(data: bytes, pos: int, wanted: str) -> int:
    server, pos = _read_text(data, pos)
    if server != wanted:
        raise RemoteProtocolError(f"a JID of the form for {wanted} names another server")
    return pos


def _passes_the_end() -> RemoteProtocolError:
    return RemoteProtocolError("a length passes the end of the stanza")


# By the first byte: what reads a text, and what reads the value of an attribute.
_TEXT_READERS: Final[tuple[Callable[[bytes, int], tuple[str, int]], ...]] = tuple(
    _read_token
    if _TEXT_OF_BYTE[lead] is not None
    else _read_double_token
    if _DICTIONARY_0 <= lead <= _DICTIONARY_3
    else _read_binary_text
    if lead in _BINARY_TAGS
    else _read_packed
    if lead in (_NIBBLE_8, _HEX_8)
    else _read_no_text
    for lead in range(2**8)
)
_JID_READERS: Final = {
    _JID_PAIR: _read_jid_pair,
    _AD_JID: _read_ad_jid,
    _FB_JID: _read_fb_jid,
    _INTEROP_JID: _read_interop_jid,
}
_VALUE_READERS: Final[tuple[Callable[[bytes, int], tuple[Attr, int]], ...]] = tuple(
    _JID_READERS.get(lead, _TEXT_READERS[lead]) for lead in range(2**8)
)

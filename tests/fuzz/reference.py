"""A second decoder of stanzas, for comparison: as slow and as plain as the format's description.

It shares the dictionaries, the limits and the values with codec.py, and no line that reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice

from sitpayd.whatsapp.codec import (
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_IN_ALL,
    MAX_DEPTH,
    MAX_INFLATED_LEN,
    MAX_NODES,
)
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Attr, Content, Node
from sitpayd.whatsapp.tokens import DOUBLE_BYTE_TOKENS, SINGLE_BYTE_TOKENS

_DOMAINS = {1: "lid", 128: "hosted", 129: "hosted.lid"}
_NIBBLES = {**{value: str(value) for value in range(10)}, 10: "-", 11: "."}
_HEX = {value: f"{value:X}" for value in range(16)}


class Refused(Exception):
    """It is no stanza."""


def decode(data: bytes) -> Node:
    """Decode a stanza.

    Raises:
        Refused: If it is none.
    """
    if not data:
        raise Refused
    body = data[1:]
    if data[0] & 2:
        inflater = zlib.decompressobj()
        try:
            body = inflater.decompress(body, MAX_INFLATED_LEN + 1)
        except zlib.error as error:
            raise Refused from error
        if len(body) > MAX_INFLATED_LEN or not inflater.eof:
            raise Refused
    return _Stanza(iter(body)).node(1)


class _Stanza:
    """Bytes that are read one by one."""

    def __init__(self, rest: Iterator[int]) -> None:
        self.rest = rest
        self.nodes = self.attributes = 0

    def byte(self) -> int:
        value = next(self.rest, None)
        if value is None:
            raise Refused
        return value

    def number(self, length: int) -> int:
        value = 0
        for _ in range(length):
            value = value << 8 | self.byte()
        return value

    def take(self, length: int) -> bytes:
        taken = bytes(islice(self.rest, length))
        if len(taken) != length:
            raise Refused
        return taken

    def size(self, lead: int) -> int:
        match lead:
            case 0:
                return 0
            case 248:
                return self.number(1)
            case 249:
                return self.number(2)
            case _:
                raise Refused

    def node(self, depth: int) -> Node:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise Refused
        size = self.size(self.byte())
        count = (size - 1) // 2
        if not size or count > MAX_ATTRIBUTES:
            raise Refused
        self.attributes += count
        if self.attributes > MAX_ATTRIBUTES_IN_ALL:
            raise Refused
        tag = self.name()
        attrs: dict[str, Attr] = {}
        for _ in range(count):
            name = self.name()
            attrs[name] = self.value(self.byte())
        content: Content = None
        if size % 2 == 0:
            lead = self.byte()
            if lead in (0, 248, 249):
                content = tuple(self.node(depth + 1) for _ in range(self.size(lead)))
            elif lead in (252, 253, 254):
                content = self.raw(lead)
            else:
                content = str(self.value(lead))
        return Node(tag, attrs, content)

    def name(self) -> str:
        name = self.text(self.byte())
        if not name:
            raise Refused
        return name

    def raw(self, lead: int) -> bytes:
        match lead:
            case 252:
                return self.take(self.number(1))
            case 253:
                return self.take(self.number(3) & 0xFFFFF)
            case _:
                return self.take(self.number(4))

    def text(self, lead: int) -> str:
        if lead == 0:
            return ""
        if lead < 236:
            return SINGLE_BYTE_TOKENS[lead]
        if lead < 240:
            return DOUBLE_BYTE_TOKENS[lead - 236][self.byte()]
        if lead in (251, 255):
            return self.packed(_HEX if lead == 251 else _NIBBLES)
        if lead in (252, 253, 254):
            return self.raw(lead).decode("utf-8", "replace")
        raise Refused

    def packed(self, alphabet: dict[int, str]) -> str:
        count = self.byte()
        values = [half for byte in self.take(count & 0x7F) for half in (byte >> 4, byte & 15)]
        if count & 0x80:
            if not values:
                raise Refused
            values.pop()
        if any(value not in alphabet for value in values):
            raise Refused
        return "".join(map(alphabet.__getitem__, values))

    def value(self, lead: int) -> Attr:
        match lead:
            case 250:
                user, server = self.text(self.byte()), self.name()
                return Jid(user, "s.whatsapp.net" if server == "c.us" else server)
            case 247:
                domain, device = self.byte(), self.byte()
                server = _DOMAINS.get(domain, "s.whatsapp.net")
                return Jid(self.text(self.byte()), server, device)
            case 245 | 246:
                user, device = self.text(self.byte()), self.number(2)
                integrator = self.number(2) if lead == 245 else 0
                server = self.text(self.byte())
                if server != ("interop" if lead == 245 else "msgr"):
                    raise Refused
                return Jid(user, server, device, integrator)
            case _:
                return self.text(lead)

"""The codec: any bytes give a node or a RemoteProtocolError, and every node can be sent on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

from sitpayd.whatsapp.codec import MAX_NODES, decode, encode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.node import Node
from tests.fuzz import reference, seeds, trees
from tests.fuzz.mutators import BYTES, change, wording
from tests.fuzz.target import Outcome, Target, judged

_VECTORS: Final = Path(__file__).parents[2] / "whatsapp" / "vectors" / "binary_node.json"
# Beginnings of lists, texts and addresses, and dictionary bytes.
_WORDS: Final = (
    *(bytes((tag,)) for tag in (0, 3, *range(236, 256))),
    b"\xf8\x01\x71",
    b"\xf8\x02\x71\xf8\x01",
    b"\xf9\x01\x01",
    b"\xf9\xff\xff",
    b"\xfc\x00",
    b"\xfc\x04text",
    b"\xfd\x00\x00\x04text",
    b"\xfe\x00\x00\x00\x04text",
    b"\xfe\x80\x00\x00\x00",
    b"\xfa\x00\x03",
    b"\xfa\xff\x03\x12\x34\x5f\x03",
    b"\xf7\x00\x0c\xff\x03\x12\x34\x5f",
    b"\xff\x83\x12\x34\x5f",
    b"\xff\x80",
    b"\xfb\x82\xab\xcf",
    b"\xec\x2a",
)
# Bytes that are read as nodes, at most; longer stanzas are long texts. If more of them were worked
# through, the event loop would stand still for all devices.
_MOST_WORK: Final = 2**18
# Longer stanzas are read by the decoder alone: the plain one takes its time.
_MOST_COMPARED: Final = 4096
_MUTATORS: Final = (*BYTES, wording(_WORDS), wording(_WORDS))


class Nodes(Target):
    """`codec.decode`, and `encode` of what it gave."""

    name = "nodes"
    summary = "any bytes give a node that survives the wire, or a RemoteProtocolError"
    # Reading in two ways, writing, reading and writing again.
    base_s = 0.5
    per_byte_s = 4e-6

    def seeds(self) -> Sequence[bytes]:
        cases = json.loads(_VECTORS.read_text())["decode"]
        return [*seeds.stanzas(), *(bytes.fromhex(case["encoded"]) for case in cases)]

    def large(self) -> Iterator[bytes]:
        yield _siblings(MAX_NODES)
        yield b"\0" + b"\xf8\x02\x71\xf8\x01" * 100_000
        yield b"\0\xf9\xff\xff"
        wide = b"\xf9\x02\x01\x71" + b"".join(
            bytes((0xEC + index // 256, index % 256, 3)) for index in range(256)
        )
        yield b"\0\xf8\x02\x71\xf9\x03\x00" + wide * 768
        yield b"\x02" + zlib.compress(b"\xf8\x02\x71\xf9\x2a\x00" + wide * 0x2A00)
        texts = b"\xf8\x02\x71\xff\x7f" + b"\x12" * 127
        yield b"\0\xf8\x02\x71\xf9\xc0\x00" + texts * 0xC000
        yield b"\0\xf8\x02\x71\xfe\x00\xf0\x00\x00" + bytes(0xF00000)
        yield b"\x02" + zlib.compress(b"\xf8\x02\x71\xfe\x00\x7f\xff\x00" + bytes(0x7FFF00))
        yield bomb(1)
        yield bomb(8)
        yield bomb(512)

    def size(self, data: bytes) -> int:
        if not data or not data[0] & 2:
            return min(len(data), _MOST_WORK)
        try:
            return len(zlib.decompressobj().decompress(data[1:], _MOST_WORK))
        except zlib.error:
            return len(data)

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        choice = rng.random()
        if choice < 0.85:
            return change(rng, data, other, _MUTATORS)
        if choice < 0.95:
            return trees.changed(rng, data, other) or change(rng, data, other, _MUTATORS)
        if choice < 0.98:
            return b"\x02" + zlib.compress(change(rng, data, other, _MUTATORS)[1:], 1)
        body = zlib.compress(data[1:], 1)
        return b"\x02" + change(rng, body, other, most=2)

    def check(self, data: bytes) -> Sequence[Outcome]:
        is_compared = len(data) <= _MOST_COMPARED
        try:
            node = decode(data)
        except RemoteProtocolError as error:
            is_right = not is_compared or _plainly_read(data) is None
            assert is_right, "a stanza is refused that is one"
            return (judged(error),)
        is_right = not is_compared or _plainly_read(data) == node
        assert is_right, "a stanza is read in another way than it is written"
        encoded = encode(node)
        again = decode(encoded)
        if again != node:
            assert _as_bytes(again) == _as_bytes(node), "a node changes on the wire"
        assert encode(again) == encoded, "a node is written in two ways"
        return (_shape(node),)


def _plainly_read(data: bytes) -> Node | None:
    try:
        return reference.decode(data)
    except reference.Refused:
        return None


def _siblings(count: int) -> bytes:
    """So many nodes, all but one of them children of the first."""
    return b"\0\xf8\x02\x71\xf9" + (count - 1).to_bytes(2, "big") + b"\xf8\x01\x71" * (count - 1)


def bomb(mebibytes: int) -> bytes:
    """A stanza of a few kilobytes that inflates to this much of nothing."""
    press = zlib.compressobj(9)
    head = press.compress(b"\xf8\x02\x71\xfe\x7f\xff\xff\xff") + press.flush(zlib.Z_FULL_FLUSH)
    # Nothing refers to what was before a full flush: each piece is the same again.
    piece = press.compress(bytes(2**20)) + press.flush(zlib.Z_FULL_FLUSH)
    return b"\x02" + head + piece * mebibytes


def _as_bytes(node: Node) -> Node:
    """The node with all text content as bytes: the wire does not always tell them apart."""
    content = node.content
    if isinstance(content, str):
        content = content.encode()
    elif isinstance(content, tuple):
        content = tuple(map(_as_bytes, content))
    return Node(node.tag, node.attrs, content)


def _shape(node: Node) -> Outcome:
    """What a node looks like from afar."""
    attrs = frozenset(type(value).__name__ for value in node.attrs.values())
    children = node.children
    inner = type(children[0].content).__name__ if children else ""
    return type(node.content).__name__, attrs, min(len(children), 3), inner

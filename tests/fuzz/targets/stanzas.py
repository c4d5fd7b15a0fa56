"""Every stanza parser of both roles, with every stanza, whatever it was made for.

An input is an encoded stanza: the parsers see only what can come over the wire. What they answer
with must be a stanza that can be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Attr, Node
from tests.fuzz import seeds, trees
from tests.fuzz.discovery import NotCoveredError, drained, taking, unreached
from tests.fuzz.mutators import change
from tests.fuzz.target import Outcome, Target, judged

_MANY: Final = 1000


class Stanzas(Target):
    """All functions of the package that take a node."""

    name = "stanzas"
    summary = "every parser gives a value or a RemoteProtocolError, and answers that can be written"

    # A hundred parsers and more, each of which may read it all.
    base_s = 0.1
    per_byte_s = 5e-6

    def __init__(self) -> None:
        self._parsers = taking(Node)
        self._seeds = seeds.stanzas()
        if lost := unreached(Node, [decode(seed) for seed in self._seeds]):
            raise NotCoveredError(f"no stanza of seeds.py is accepted by {', '.join(lost)}")

    def seeds(self) -> Sequence[bytes]:
        return self._seeds

    def large(self) -> Iterator[bytes]:
        for seed in self._seeds:
            yield from map(encode, _with_many_children(decode(seed)))
        for depth in (100, 985, 100_000):
            yield encode(Node("iq", {"type": "result", "id": "1"}, (_json(depth),)))

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        if rng.random() < 0.1:
            return change(rng, data, other)
        return trees.changed(rng, data, other) or data

    def check(self, data: bytes) -> Sequence[Outcome]:
        try:
            node = decode(data)
        except RemoteProtocolError as error:
            return (judged(error),)
        outcomes: list[Outcome] = []
        for parser in self._parsers:
            try:
                result = drained(parser.call(node))
            except RemoteProtocolError as error:
                outcomes.append((parser.name, judged(error)))
                continue
            for answer in result if isinstance(result, tuple) else (result,):
                if isinstance(answer, Node):
                    encode(answer)
            outcomes.append((parser.name, type(result)))
        return outcomes


def _with_many_children(node: Node) -> Iterator[Node]:
    """The stanza with one of its lists made long, each entry another one; each list once."""
    if not node.children:
        return
    *others, last = node.children
    entries = (replace(last, attrs=_numbered(last, number)) for number in range(_MANY))
    yield replace(node, content=(*others, *entries))
    for at, child in enumerate(node.children):
        for grown in _with_many_children(child):
            yield replace(node, content=(*node.children[:at], grown, *node.children[at + 1 :]))


def _numbered(node: Node, number: int) -> dict[str, Attr]:
    return {
        name: Jid(str(number), value.server) if isinstance(value, Jid) else value
        for name, value in node.attrs.items()
    }


def _json(depth: int) -> Node:
    """An answer as deep as that, with a lock in the middle."""
    inner = b'{"is_active":true,"time_enforcement_ends":' + b"[" * depth + b"]" * depth + b"}"
    return Node("result", {}, b'{"a":' * 7 + inner + b"}" * 7)

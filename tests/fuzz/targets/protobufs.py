"""Every parser of bytes and of text: protobuf messages, codes, records at rest.

An input is the name of a parser, a zero byte, and what it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.signal.record import SessionRecord, State
from sitpayd.whatsapp.stanzas.content import Content
from tests.fuzz import certificates
from tests.fuzz.discovery import NotCoveredError, Parser, drained, taking, unreached
from tests.fuzz.mutators import change
from tests.fuzz.payloads import KINDS, payloads
from tests.fuzz.people import NOW, ROOT
from tests.fuzz.protos import BYTES, grown, message_of, rewired
from tests.fuzz.target import CANARY, Outcome, Target, judged

_CHAIN: Final = "noise.verify_certificate_chain"

# Around our own limit of wrappers, and the one of the runtime.
_DEPTHS: Final = (6, 7, 8, 30, 48, 49, 50, 51, 98, 99, 100, 199)


class Protobufs(Target):
    """All functions of the package that take bytes or text."""

    name = "protobufs"
    summary = "any bytes or text give a value or a RemoteProtocolError"

    def __init__(self) -> None:
        self._parsers: dict[str, Parser] = {p.name: p for p in taking(bytes) + taking(str)}
        self._names = sorted(self._parsers)
        inputs = payloads()
        if unknown := inputs.keys() - self._parsers.keys():
            raise NotCoveredError(f"payloads.py names what is no parser: {sorted(unknown)}")
        self._seeds = [
            name.encode() + b"\0" + data for name, some in inputs.items() for data in some
        ]
        every = [data for some in inputs.values() for data in some]
        texts = [data.decode("utf-8", "replace") for data in every]
        if lost := unreached(bytes, every) + unreached(str, texts):
            raise NotCoveredError(f"nothing in payloads.py is accepted by {', '.join(lost)}")

    def seeds(self) -> Sequence[bytes]:
        return self._seeds

    def large(self) -> Iterator[bytes]:
        text = b"\x0a\x06Hello!"
        for name, kind in KINDS.items():
            head = name.encode() + b"\0"
            for field in kind.DESCRIPTOR.fields:
                wire = BYTES if field.cpp_type == field.CPPTYPE_STRING or field.message_type else 0
                yield head + message_of([(field.number, wire, b"x" * 2**20 if wire else 1)])
                yield head + message_of([(field.number, wire, b"" if wire else 1)]) * 100_000
            yield head + message_of([(2**28, BYTES, b"x" * 2**20)])
            yield head + b"\x0b" * 100_000  # groups in groups
        for number in (31, 40, 37, 12):
            data = text
            for depth in range(200):
                data = message_of([(number, BYTES, message_of([(1, BYTES, data)]))])
                if depth in _DEPTHS:
                    yield b"stanzas.content.parse_message\0" + data
        for name in self._names:
            yield name.encode() + b"\0" + b"5" * 2**20
            yield name.encode() + b"\0" + bytes(2**20)

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        name, _, payload = data.partition(b"\0")
        donor = other.partition(b"\0")[2]
        if rng.random() < 0.02:
            name = self._names[int(rng.random() * len(self._names))].encode()
        kind = KINDS.get(name.decode("utf-8", "replace"))
        choice = rng.random()
        if choice < 0.35:
            payload = change(rng, payload, donor)
        elif choice < 0.65 or kind is None:
            payload = rewired(rng, payload, donor)
        else:
            payload = grown(rng, kind, payload)
        if name.decode("utf-8", "replace") == _CHAIN and rng.random() < 0.3:
            payload = certificates.signed_anew(rng, payload)
        return name + b"\0" + payload

    def check(self, data: bytes) -> Sequence[Outcome]:
        name, _, payload = data.partition(b"\0")
        parser = self._parsers.get(name.decode("utf-8", "replace"))
        if parser is None:
            return ("nobody",)
        value: bytes | str = payload
        if parser.takes is str:
            value = payload.decode("utf-8", "replace")
        try:
            result = drained(parser.call(value))
        except (RemoteProtocolError, LocalProtocolError) as error:
            # Only what we stored ourselves may be our own fault.
            if isinstance(error, LocalProtocolError) and not parser.name.endswith(".from_bytes"):
                raise
            return ((parser.name, judged(error)),)
        _judge(parser, payload, result)
        return ((parser.name, type(result), getattr(result, "kind", None)),)


def _judge(parser: Parser, payload: bytes, result: object) -> None:
    """Hold a result against what it must be."""
    if isinstance(result, SessionRecord | State | Credentials):
        assert type(result).from_bytes(result.to_bytes()) == result, "what is stored changes"
    elif isinstance(result, Content):
        assert CANARY not in repr(result), "the text of a message can be seen"
    elif parser.name == _CHAIN:
        good = certificates.is_good(payload, certificates.STATIC.public_key, ROOT.public_key, NOW)
        assert good, "a certificate chain is accepted that must not be"

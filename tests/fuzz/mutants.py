"""Mistakes that a reasonable person makes, planted in the protocol: the fuzzing finds each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

from cryptography.exceptions import InvalidTag

from sitpayd.actors import memory
from sitpayd.whatsapp import codec, noise
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.frames import FrameDecoder
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import TransportCipher
from sitpayd.whatsapp.signal import ratchet
from sitpayd.whatsapp.stanzas import content, ib, usync
from tests.fuzz.targets import frames as frames_target
from tests.fuzz.targets import nodes as nodes_target
from tests.fuzz.targets import noise as noise_target

# A module, a name in it, and what is to stand there.
Plant = tuple[object, str, object]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake.

    Attributes:
        target: which target has to find it.
        plants: what stands where, instead of what is right.
        kills: whether it takes the process with it, so that only a worker can find it.
    """

    target: str
    plants: Sequence[Plant]
    kills: bool = False


def _lets_an_error_out(data: bytes) -> Node:
    """A node whose first attribute is taken for granted."""
    node = codec.decode(data)
    if node.attrs and not node.content:
        node.attrs["id"]
    return node


def _never_ends(data: bytes) -> Node:
    """A list of no length is looked at again and again."""
    while data[1:2] == b"\0":
        pass
    return codec.decode(data)


def _inflates_all(data: bytes) -> Node:
    """The limit comes after the work."""
    if data and data[0] & 2:
        try:
            data = b"\0" + zlib.decompressobj().decompress(data[1:])
        except zlib.error as error:
            raise RemoteProtocolError("damaged") from error
    return codec.decode(data)


def _compares_all(node: Node) -> Iterable[Node]:
    """Whether a person was named before is looked up in a list."""
    users: list[Node] = []
    for user in node.required("usync").required("list").named("user"):
        if user not in users:
            users.append(user)
    return users


def _decodes_strictly(value: object) -> str:
    """Text is always UTF-8."""
    if isinstance(value, bytes):
        return value.decode()
    assert isinstance(value, str)
    return value


def _takes_attributes_for_granted(node: Node) -> object:
    """Every announcement has a count."""
    return tuple(child.attrs["count"] for child in node.children)


class _ForgetsSplitHeaders(FrameDecoder):
    """A length that comes in two pieces is lost."""

    def receive(self, data: bytes) -> list[bytes]:
        frames = super().receive(data)
        if len(self._buffer) < 3:
            self._buffer.clear()
        return frames


class _Resynchronises(TransportCipher):
    """A frame that does not decrypt is skipped."""

    def decrypt(self, ciphertext: bytes) -> bytes:
        while True:
            try:
                count = self._read_count
                plaintext = self._read.decrypt(count.to_bytes(12, "big"), ciphertext, None)
            except InvalidTag as error:
                self._read_count += 1
                if self._read_count > count + 8 or self._read_count > 16:
                    raise RemoteProtocolError("a Noise frame does not decrypt") from error
                continue
            self._read_count += 1
            return plaintext


def _true(*arguments: object) -> bool:
    return True


MUTANTS: Final[Mapping[str, Mutant]] = {
    "key_error": Mutant("nodes", [(nodes_target, "decode", _lets_an_error_out)]),
    "endless": Mutant("nodes", [(nodes_target, "decode", _never_ends)], kills=True),
    "bomb": Mutant("nodes", [(nodes_target, "decode", _inflates_all)], kills=True),
    "split_header": Mutant("frames", [(frames_target, "FrameDecoder", _ForgetsSplitHeaders)]),
    "any_certificate": Mutant("noise", [(noise, "equal", _true)]),
    "skipped_frame": Mutant("noise", [(noise_target, "TransportCipher", _Resynchronises)]),
    "strict_text": Mutant("protobufs", [(content, "checked_text", _decodes_strictly)]),
    "quadratic": Mutant("stanzas", [(usync, "_answered_users", _compares_all)]),
    "no_mac": Mutant("signal", [(ratchet, "equal", _true)]),
    "hoarded_keys": Mutant("signal", [(ratchet, "MAX_SKIPPED", 10_000)]),
    "granted": Mutant("machine", [(ib, "parse_ib", _takes_attributes_for_granted)]),
    # A time is taken for one that a calendar has.
    "end_of_time": Mutant("device", [(memory, "_LAST_TIME_S", 10**30)]),
}


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Let the mistake stand where it belongs, inside this block."""
    with ExitStack() as stack:
        for owner, name, replacement in mutant.plants:
            stack.enter_context(patch.object(owner, name, replacement))
        yield

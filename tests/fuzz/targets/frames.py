"""Framing: however a stream comes in pieces, the same frames come out.

An input is the stream behind a list of cuts: their count, then each as two bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.frames import (
    PROLOGUE,
    FrameDecoder,
    PrologueDecoder,
    client_prologue,
    encode_frame,
)
from tests.fuzz.mutators import BYTES, change, wording
from tests.fuzz.target import Outcome, Target, judged

_WORDS: Final = (
    PROLOGUE,
    b"ED\x00\x01",
    client_prologue(b"edge"),
    b"\0\0\0",
    b"\0\0\1",
    b"\xff\xff\xff",
    b"\0\1\0",
    encode_frame(b"frame"),
)
_MUTATORS: Final = (*BYTES, wording(_WORDS))


def packed(stream: bytes, *cuts: int) -> bytes:
    """An input: the stream, and where it is cut."""
    return bytes((len(cuts),)) + b"".join(cut.to_bytes(2, "big") for cut in cuts) + stream


def pieces_of(data: bytes) -> list[bytes]:
    """The stream of an input, in its pieces."""
    count = data[0] if data else 0
    head, stream = data[1 : 1 + 2 * count], data[1 + 2 * count :]
    cuts = sorted(
        int.from_bytes(head[at : at + 2], "big") % (len(stream) + 1)
        for at in range(0, len(head) - 1, 2)
    )
    starts, stops = [0, *cuts], [*cuts, len(stream)]
    return [stream[start:stop] for start, stop in zip(starts, stops, strict=True)]


def frames_in(stream: bytes) -> list[bytes]:
    """The frames of a stream, told in another way than the decoder's."""
    frames, at = [], 0
    while len(stream) - at >= 3:
        length = int.from_bytes(stream[at : at + 3], "big")
        if len(stream) - at - 3 < length:
            break
        frames.append(stream[at + 3 : at + 3 + length])
        at += 3 + length
    return frames


class Frames(Target):
    """The frame decoder and the decoder of the prologue."""

    name = "frames"
    summary = "any chunking of any stream gives the same frames"

    def seeds(self) -> Sequence[bytes]:
        three = b"".join(map(encode_frame, (b"first", b"", b"x" * 300)))
        whole = client_prologue(None) + three
        edge = client_prologue(b"edge routing") + three
        return [
            packed(three),
            *(packed(three, cut) for cut in range(12)),
            packed(three, *range(0, len(three), 7)),
            packed(whole, 1, 2, 3, 4, 5),
            packed(edge, *range(30)),
            packed(b"\xff\xff\xff" + b"x" * 40, 1, 2, 3),
        ]

    def large(self) -> Iterator[bytes]:
        yield packed(encode_frame(bytes(2**22)) + encode_frame(b"x"), *range(0, 2**16, 300))
        yield packed(b"\0\0\0" * 100_000, *range(0, 2**16, 301))
        yield packed(b"ED\0\1\xff\xff\xff" + bytes(2**20), *range(0, 2**16, 302))

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        return change(rng, data, other, _MUTATORS)

    def check(self, data: bytes) -> Sequence[Outcome]:
        pieces = pieces_of(data)
        stream = b"".join(pieces)
        expected = frames_in(stream)
        decoder = FrameDecoder()
        found = [frame for piece in pieces for frame in decoder.receive(piece)]
        assert found == expected, f"{len(found)} frames instead of {len(expected)}"
        assert all(type(frame) is bytes for frame in found), "a frame is not bytes"
        whole = _prologue_of([stream])
        assert _prologue_of(pieces) == whole, "pieces of a prologue are read otherwise"
        return (min(len(found), 8), whole[0])


def _prologue_of(pieces: list[bytes]) -> tuple[object, bytes | None, bytes]:
    """What became of a client's beginning, which routing it named, and what stood behind it."""
    decoder = PrologueDecoder()
    rest = b""
    for piece in pieces:
        try:
            rest += decoder.receive(piece)
        except RemoteProtocolError as error:
            judged(error)
            return "refused", None, b""
    state = "complete" if decoder.is_complete else "waiting"
    return state, decoder.routing_info, rest

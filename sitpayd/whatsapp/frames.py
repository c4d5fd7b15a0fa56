"""Framing: the byte stream is a prologue, once and from the client only, and then frames.

frame: 3-byte big-endian length + body. WebSocket message boundaries carry no meaning. What a body
holds is noise.py's business.

Source: whatsmeow socket/framesocket.go; Baileys lib/Utils/noise-handler.js for edge routing.
"""

from __future__ import annotations

from typing import Final

from .errors import LocalProtocolError, RemoteProtocolError

MAX_FRAME_LEN: Final = 2**24 - 1
# Magic 6 and the version of the token dictionary (tokens.py). Part of the Noise hash.
PROLOGUE: Final = b"WA\x06\x03"

_LENGTH_LEN: Final = 3
_ROUTING_MAGIC: Final = b"ED\x00\x01"
_MAGIC_LEN: Final = 4


def encode_frame(payload: bytes) -> bytes:
    """Put the length before a frame's body.

    Raises:
        LocalProtocolError: If the body is longer than MAX_FRAME_LEN.
    """
    return _length(payload) + payload


def client_prologue(routing_info: bytes | None) -> bytes:
    """Build what a client sends before its first frame.

    Args:
        routing_info: as the server gave it in `<edge_routing>`, if it did; not part of the Noise
            hash.

    Raises:
        LocalProtocolError: If routing_info is longer than MAX_FRAME_LEN.
    """
    if not routing_info:
        return PROLOGUE
    return _ROUTING_MAGIC + _length(routing_info) + routing_info + PROLOGUE


def _length(data: bytes) -> bytes:
    if len(data) > MAX_FRAME_LEN:
        raise LocalProtocolError(f"{len(data)} bytes do not fit into a frame")
    return len(data).to_bytes(_LENGTH_LEN, "big")


class FrameDecoder:
    """Cuts a byte stream into frame bodies, however it comes in pieces.

    Attributes:
        awaited_len: announced length of the frame whose rest is still to come; 0 if there is none.
    """

    __slots__ = ("_buffer", "awaited_len")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.awaited_len = 0

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes of the stream; return the bodies of the frames they complete, in order.

        Bytes of an unfinished frame are kept. Any bytes are a valid stream.
        """
        # bytearray appends in amortised constant time and drops its front without moving the rest,
        # so a long frame in small pieces costs linear time. Mostly nothing is kept and nothing
        # need be copied into it.
        buffer = self._buffer
        stream: bytes | bytearray = data
        if buffer:
            buffer += data
            stream = buffer
        frames = []
        pos, end = 0, len(stream)
        self.awaited_len = 0
        while end - pos >= _LENGTH_LEN:
            start = pos + _LENGTH_LEN
            stop = start + int.from_bytes(stream[pos:start], "big")
            if stop > end:
                self.awaited_len = stop - start
                break
            frames.append(bytes(stream[start:stop]))
            pos = stop
        if stream is buffer:
            del buffer[:pos]
        else:
            buffer += data[pos:]
        return frames


class PrologueDecoder:
    """Eats the prologue at the start of a client's stream: optional edge routing, then PROLOGUE.

    Attributes:
        routing_info: what stood in the edge routing part; None if there was none.
        is_complete: whether the prologue was seen; from then on bytes pass unchanged.
    """

    __slots__ = ("_buffer", "is_complete", "routing_info")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.routing_info: bytes | None = None
        self.is_complete = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the stream; return those behind the prologue.

        Raises:
            RemoteProtocolError: If the stream does not begin with a prologue.
        """
        if self.is_complete:
            return data
        buffer = self._buffer
        buffer += data
        if self.routing_info is None and buffer.startswith(_ROUTING_MAGIC):
            start = _MAGIC_LEN + _LENGTH_LEN
            stop = start + int.from_bytes(buffer[_MAGIC_LEN:start], "big")
            if len(buffer) < start or len(buffer) < stop:
                return b""
            self.routing_info = bytes(buffer[start:stop])
            del buffer[:stop]
        magic = bytes(buffer[:_MAGIC_LEN])
        if magic == PROLOGUE:
            self.is_complete = True
            rest = bytes(buffer[_MAGIC_LEN:])
            buffer.clear()
            return rest
        may_be_routing = self.routing_info is None and _ROUTING_MAGIC.startswith(magic)
        if not (may_be_routing or PROLOGUE.startswith(magic)):
            raise RemoteProtocolError("the stream does not begin with a WhatsApp prologue")
        return b""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.frames import (
    MAX_FRAME_LEN,
    PROLOGUE,
    FrameDecoder,
    PrologueDecoder,
    client_prologue,
    encode_frame,
)
from tests.support.strategies import chunked

BODIES = st.lists(st.binary(max_size=40), max_size=6)


def test_frame_begins_with_its_length() -> None:
    assert encode_frame(b"abc") == b"\x00\x00\x03abc"


def test_longest_frame_can_be_sent_and_received() -> None:
    """T-51."""
    body = bytes(MAX_FRAME_LEN)
    assert FrameDecoder().receive(encode_frame(body)) == [body]


def test_longer_frame_is_refused_before_it_is_sent() -> None:
    with pytest.raises(LocalProtocolError, match="do not fit into a frame"):
        encode_frame(bytes(MAX_FRAME_LEN + 1))


@given(bodies=BODIES, data=st.data())
def test_any_chunking_gives_the_same_frames(bodies: list[bytes], data: st.DataObject) -> None:
    """T-51."""
    decoder = FrameDecoder()
    chunks = data.draw(chunked(b"".join(map(encode_frame, bodies))))
    assert [body for chunk in chunks for body in decoder.receive(chunk)] == bodies


def test_frames_are_found_one_byte_at_a_time() -> None:
    """T-51."""
    decoder = FrameDecoder()
    stream = encode_frame(b"first") + encode_frame(b"") + encode_frame(b"x" * 1000)
    frames = [frame for byte in stream for frame in decoder.receive(bytes((byte,)))]
    assert frames == [b"first", b"", b"x" * 1000]


def test_three_frames_in_one_piece_are_all_found() -> None:
    stream = encode_frame(b"a") + encode_frame(b"b") + encode_frame(b"c")
    assert FrameDecoder().receive(stream) == [b"a", b"b", b"c"]


def test_beginning_of_a_frame_is_kept_behind_whole_ones() -> None:
    decoder = FrameDecoder()
    assert decoder.receive(encode_frame(b"a") + b"\x00\x00\x02b") == [b"a"]
    assert decoder.receive(b"c" + encode_frame(b"d")) == [b"bc", b"d"]


@given(stream=st.binary(max_size=200))
def test_any_bytes_are_a_valid_stream(stream: bytes) -> None:
    frames = FrameDecoder().receive(stream)
    assert stream.startswith(b"".join(map(encode_frame, frames)))


def test_prologue_without_routing_is_the_magic_alone() -> None:
    assert client_prologue(None) == b"WA\x06\x03"


def test_empty_routing_is_no_routing() -> None:
    assert client_prologue(b"") == b"WA\x06\x03"


def test_routing_stands_before_the_magic() -> None:
    assert client_prologue(b"\x0a\x0b") == b"ED\x00\x01\x00\x00\x02\x0a\x0bWA\x06\x03"


def test_too_long_routing_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        client_prologue(bytes(MAX_FRAME_LEN + 1))


@given(
    routing_info=st.none() | st.binary(min_size=1, max_size=30),
    rest=st.binary(max_size=20),
    data=st.data(),
)
def test_prologue_is_eaten_and_the_rest_handed_on(
    routing_info: bytes | None, rest: bytes, data: st.DataObject
) -> None:
    decoder = PrologueDecoder()
    chunks = data.draw(chunked(client_prologue(routing_info) + rest))
    assert b"".join(map(decoder.receive, chunks)) == rest
    assert decoder.is_complete
    assert decoder.routing_info == routing_info


@pytest.mark.parametrize("length", range(len(client_prologue(b"ab"))))
def test_prologue_is_not_complete_before_its_last_byte(length: int) -> None:
    decoder = PrologueDecoder()
    assert decoder.receive(client_prologue(b"ab")[:length]) == b""
    assert not decoder.is_complete


@pytest.mark.parametrize("position", range(len(PROLOGUE)))
def test_wrong_magic_is_refused_at_its_first_wrong_byte(position: int) -> None:
    decoder = PrologueDecoder()
    decoder.receive(PROLOGUE[:position])
    with pytest.raises(RemoteProtocolError, match="prologue"):
        decoder.receive(b"\xff")


def test_second_routing_part_is_refused() -> None:
    routing = client_prologue(b"ab").removesuffix(PROLOGUE)
    with pytest.raises(RemoteProtocolError, match="prologue"):
        PrologueDecoder().receive(routing + routing)


@given(stream=st.binary(max_size=40))
def test_any_bytes_give_a_rest_or_a_remote_error(stream: bytes) -> None:
    try:
        PrologueDecoder().receive(stream)
    except RemoteProtocolError:
        return

"""The client's end of a WebSocket, against the library's server protocol on a stream in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    MockClock,
    memory_stream_pair,
    wait_all_tasks_blocked,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from sitpayd.actors.websocket import ClosedError, UpgradeError, WebSocket, open_websocket

MAX_LEN = 1000


Memory = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class Server:
    """The other end, moved by hand; theirs: what the client writes to."""

    def __init__(self, stream: Memory, theirs: MemorySendStream) -> None:
        self.stream = stream
        self.theirs = theirs
        self.protocol = ServerProtocol(max_size=None)
        self.heard: list[Frame] = []

    async def take(self) -> None:
        """Take what has come."""
        data = await self.stream.receive_some()
        if data:
            self.protocol.receive_data(bytes(data))
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
            else:
                assert isinstance(event, Frame)
                self.heard.append(event)
        await self.flush()

    async def flush(self) -> None:
        data = b"".join(self.protocol.data_to_send())
        if data:
            await self.stream.send_all(data)


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[WebSocket, Server]]:
    ours, theirs = memory_stream_pair()
    server = Server(theirs, ours.send_stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.take)
        websocket = await open_websocket(
            ours, "ws://server/ws", origin="https://web", user_agent="Us", max_len=MAX_LEN
        )
    yield websocket, server


async def test_messages_go_both_ways(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        await websocket.send(b"hello")
        await server.take()
        assert [frame.data for frame in server.heard] == [b"hello"]
        server.protocol.send_binary(b"one")
        server.protocol.send_binary(b"two")
        await server.flush()
        assert [await websocket.receive(), await websocket.receive()] == [b"one", b"two"]


async def test_message_in_pieces_is_put_together(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        server.protocol.send_binary(b"a", fin=False)
        server.protocol.send_ping(b"between")
        server.protocol.send_continuation(b"", fin=False)
        server.protocol.send_continuation(b"b", fin=True)
        server.protocol.send_binary(b"c")
        await server.flush()
        assert [await websocket.receive(), await websocket.receive()] == [b"ab", b"c"]


async def test_text_is_skipped_whole_or_in_pieces(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        server.protocol.send_text(b"whole")
        server.protocol.send_text(b"in ", fin=False)
        server.protocol.send_continuation(b"pieces", fin=True)
        server.protocol.send_binary(b"bytes")
        await server.flush()
        assert await websocket.receive() == b"bytes"


async def test_ping_is_answered_by_who_receives(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server), trio.open_nursery() as nursery:
        nursery.start_soon(websocket.receive)
        server.protocol.send_ping(b"there?")
        await server.flush()
        await server.take()
        assert [(frame.opcode, frame.data) for frame in server.heard] == [(Opcode.PONG, b"there?")]
        nursery.cancel_scope.cancel()


async def test_what_came_before_a_close_is_received_before_it(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        server.protocol.send_binary(b"last words")
        server.protocol.send_close(1001)
        await server.flush()
        assert await websocket.receive() == b"last words"
        with pytest.raises(ClosedError) as told:
            await websocket.receive()
        assert told.value.code == 1001
        with pytest.raises(ClosedError):
            await websocket.send(b"too late")


async def test_stream_that_just_ends_tells_no_code(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        await server.stream.aclose()
        with pytest.raises(ClosedError) as told:
            await websocket.receive()
        assert told.value.code is None


async def test_message_that_is_too_long_ends_the_connection(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        server.protocol.send_binary(bytes(MAX_LEN + 1))
        await server.flush()
        with pytest.raises(ClosedError):
            await websocket.receive()
        await server.take()
        assert server.protocol.close_rcvd is not None
        assert server.protocol.close_rcvd.code == 1009


async def test_nothing_is_written_behind_a_write_that_was_cut_off(
    autojump_clock: MockClock,
) -> None:
    async with opened() as (websocket, server):

        async def stall() -> None:
            await trio.sleep_forever()

        server.theirs.send_all_hook = stall
        with trio.move_on_after(1.0):
            await websocket.send(b"cut off")
        server.theirs.send_all_hook = None
        with pytest.raises(ClosedError):
            await websocket.send(b"behind")
        await websocket.aclose()
        with trio.move_on_after(1.0):
            await server.take()
        assert [frame.data for frame in server.heard] == [b"cut off"]


async def test_writer_that_is_stuck_does_not_hold_up_the_reader(
    autojump_clock: MockClock,
) -> None:
    async with opened() as (websocket, server), trio.open_nursery() as nursery:

        async def stall() -> None:
            await trio.sleep_forever()

        server.theirs.send_all_hook = stall
        nursery.start_soon(websocket.send, b"stuck")
        await wait_all_tasks_blocked()
        server.protocol.send_binary(b"heard")
        await server.flush()
        with trio.fail_after(1.0):
            assert await websocket.receive() == b"heard"
        nursery.cancel_scope.cancel()


async def test_writes_go_one_after_the_other(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server):
        last, pump = trio.Event(), server.theirs.send_all_hook
        assert pump is not None

        async def wait() -> None:
            await last.wait()
            await pump()

        server.theirs.send_all_hook = wait
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(websocket.send, bytes([number]))
            await wait_all_tasks_blocked()
            last.set()
        while len(server.heard) < 3:
            await server.take()
        assert {bytes(frame.data) for frame in server.heard} == {b"\x00", b"\x01", b"\x02"}


async def test_closing_says_goodbye_and_waits_for_the_server(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, server), trio.open_nursery() as nursery:
        done = trio.Event()

        async def close() -> None:
            await websocket.aclose()
            done.set()

        nursery.start_soon(close)
        await server.take()
        assert server.protocol.close_rcvd is not None
        assert server.protocol.close_rcvd.code == 1000
        assert not done.is_set()
        await server.stream.aclose()
        await done.wait()


async def test_answer_that_is_no_upgrade_tells_its_status(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n")
    with pytest.raises(UpgradeError) as told:
        await open_websocket(
            ours, "ws://server/ws", origin="https://web", user_agent="Us", max_len=MAX_LEN
        )
    assert told.value.status == 503


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 Fine\r\n\r\n"])
async def test_answer_that_is_none_tells_no_status(
    answer: bytes, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    if answer:
        await theirs.send_all(answer)
    await theirs.send_stream.aclose()
    with pytest.raises(UpgradeError) as told:
        await open_websocket(
            ours, "ws://server/ws", origin="https://web", user_agent="Us", max_len=MAX_LEN
        )
    assert told.value.status is None


async def test_address_that_is_none_is_told(autojump_clock: MockClock) -> None:
    ours, _ = memory_stream_pair()
    with pytest.raises(UpgradeError):
        await open_websocket(
            ours, "http://server/", origin="https://web", user_agent="Us", max_len=MAX_LEN
        )

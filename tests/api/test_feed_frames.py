"""Frames that no reader of the feed sends: T-40, on a real socket."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import trio
from websockets.frames import Frame, Opcode
from websockets.trio.client import connect

from sitpayd.api.app import FEED_RULE
from sitpayd.api.server import FEED_TALK_LEN, FEED_TALK_LEN_PER_S
from tests.support.front import ADMIN_KEY
from tests.support.server import Served, read_all


async def raw_feed(served: Served) -> trio.SocketStream:
    """A WebSocket to the feed whose frames the test writes by hand."""
    stream = await served.connect()
    await stream.send_all(
        f"GET {FEED_RULE} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
        f"connection: upgrade\r\nsec-websocket-version: 13\r\nx-admin-key: {ADMIN_KEY}\r\n"
        "sec-websocket-extensions: permessage-deflate\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    head = await stream.receive_some()
    assert head.startswith(b"HTTP/1.1 101")
    assert b"deflate" not in head
    return stream


async def abuse(served: Served, frames: bytes, count: int) -> bytes:
    """Send frames again and again until the server has enough; gives what it said."""
    heard = bytearray()
    async with await raw_feed(served) as stream:

        async def talk() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for _ in range(count):
                    await stream.send_all(frames)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk)
                with suppress(trio.BrokenResourceError):
                    async for data in stream:
                        heard += data
                nursery.cancel_scope.cancel()
    return bytes(heard)


def close_frame(code: int) -> bytes:
    return Frame(Opcode.CLOSE, code.to_bytes(2, "big")).serialize(mask=False)


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


async def test_flood_of_pings_is_cut(served: Served) -> None:
    """T-40: each ping would be answered; after so many bytes it is no reader."""
    heard = await abuse(served, frame(Opcode.PING, b"12345678") * 500, 200)

    assert close_frame(1008) in heard
    pongs = heard.count(Frame(Opcode.PONG, b"12345678").serialize(mask=False))
    allowed = FEED_TALK_LEN + 10 * FEED_TALK_LEN_PER_S
    assert 0 < pongs <= allowed / len(frame(Opcode.PING, b"12345678"))


async def test_message_that_never_ends_is_cut(served: Served) -> None:
    """T-40: a message in pieces without content grows no buffer, and goes on for ever."""
    first = frame(Opcode.TEXT, b"x", fin=False)
    heard = await abuse(served, first + frame(Opcode.CONT, fin=False) * 5000, 20)

    assert close_frame(1008) in heard


async def test_message_that_is_announced_as_huge_is_cut(served: Served) -> None:
    """T-40: what is announced is not waited for."""
    heard = await abuse(served, frame(Opcode.BINARY, b"x" * 1_000_000), 1)

    assert close_frame(1009) in heard or close_frame(1008) in heard


async def test_compressed_frame_is_refused(served: Served) -> None:
    """T-40: compression is not negotiated, so a frame that says it is compressed is an error."""
    compressed = bytearray(frame(Opcode.TEXT, b"x" * 10))
    compressed[0] |= 0x40
    async with await raw_feed(served) as stream:
        heard = bytearray()
        while not heard.endswith(b'"devices":[]}'):
            heard += await stream.receive_some()
        await stream.send_all(compressed)
        with trio.fail_after(5):
            rest = await read_all(stream)

    assert b"{" not in rest


async def test_flood_leaves_no_memory_behind(served: Served) -> None:
    """T-40: RSS stays flat, however much is thrown at the feed."""
    frames = frame(Opcode.PING, b"x" * 100) * 600
    await abuse(served, frames, 10)
    before = rss()
    for _ in range(2):
        await abuse(served, frames, 100)

    assert rss() - before < 8 * 1024 * 1024


def rss() -> int:
    """Resident memory of this process, bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


async def test_pings_of_a_client_library_are_answered(served: Served) -> None:
    headers = {"x-admin-key": ADMIN_KEY}
    async with connect(served.feed_url, additional_headers=headers, proxy=None) as feed:
        for _ in range(20):
            with trio.fail_after(5):
                pong = await feed.ping()
                await pong.wait()

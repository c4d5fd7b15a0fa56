"""The one page that is fetched when WhatsApp refuses the client's revision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from sitpayd.actors.revision import RevisionUnknownError
from sitpayd.revision_source import MAX_BODY_LEN, look_up, revision_in

# As web.whatsapp.com/sw.js has it: JSON as a text inside of a script.
SCRIPT = rb'importScripts(JSON.parse("{\"SiteData\":{\"client_revision\":1047483476,\"x\":1}}"))'


@pytest.mark.parametrize(
    ("page", "revision"),
    [
        (SCRIPT, 1047483476),
        (b'{"client_revision":1047483476,"tier":"x"}', 1047483476),
        (b'<script>{"client_revision" : 7 }</script>', 7),
    ],
    ids=["service worker", "page", "spaces"],
)
def test_revision_is_found(page: bytes, revision: int) -> None:
    assert revision_in(page) == revision


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>1047483476</html>",
        b'{"server_revision":1047483476}',
        b'{"client_revision":"1047483476"}',
        b'{"client_revision":0}',
        b'{"client_revision":4294967296}',
        b'{"client_revision":10474834761047483476}',
        b'{"client_revision":-5}',
    ],
)
def test_page_without_a_sensible_revision_tells_none(page: bytes) -> None:
    with pytest.raises(RevisionUnknownError):
        revision_in(page)


Answer = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers each request in one way; what was asked is kept."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            asked.append(bytes(await stream.receive_some(65536)))
            with suppress(trio.BrokenResourceError):  # it has heard enough
                await answer(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{port}/sw.js", asked
        nursery.cancel_scope.cancel()


def says(data: bytes) -> Answer:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(data)

    return answer


def page(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_page_is_fetched() -> None:
    async with serving(says(page("200 OK", SCRIPT))) as (url, asked):
        assert await look_up(url) == 1047483476
    assert asked[0].startswith(b"GET /sw.js HTTP/1.1\r\n")
    assert b"accept-encoding: identity\r\n" in asked[0].lower()


@pytest.mark.parametrize(
    "answer",
    [
        page("404 Not Found", SCRIPT),
        page("500 No", b""),
        page("302 Found", b"", "location: http://127.0.0.1:1/elsewhere"),
        page("200 OK", b"nothing of the kind"),
        b"",
        b"\x00\x01",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
    ],
    ids=["404", "500", "redirect", "another page", "silence", "rubbish", "cut"],
)
async def test_anything_else_tells_no_revision(answer: bytes) -> None:
    async with serving(says(answer)) as (url, asked):
        with pytest.raises(RevisionUnknownError):
            await look_up(url)
    assert len(asked) == 1


async def test_server_that_cannot_prove_its_name_is_not_believed() -> None:
    async with serving(says(page("200 OK", SCRIPT))) as (url, _):
        with pytest.raises(RevisionUnknownError):
            await look_up(url.replace("http:", "https:"))


async def test_page_without_an_end_is_cut_off() -> None:
    sent = 0

    async def pour(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(bytes(65536))
            sent += 65536

    async with serving(pour) as (url, _):
        with pytest.raises(RevisionUnknownError), trio.fail_after(10.0):
            await look_up(url)
    # What was on its way, in the buffers of two sockets, comes on top.
    assert sent < 16 * MAX_BODY_LEN


async def test_nobody_there_tells_no_revision() -> None:
    with pytest.raises(RevisionUnknownError):
        await look_up("http://127.0.0.1:1/sw.js")

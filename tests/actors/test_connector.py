"""connector against proxies of the tests' own, on loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trio

from sitpayd.actors import connector
from sitpayd.actors.connector import (
    ProxyRefusedError,
    ProxyUnreachableError,
    Route,
    open_stream,
)
from sitpayd.actors.proxies import parse_proxy
from sitpayd.actors.resolver import Address, resolving
from tests.support.proxy import RecordingProxy, listening

PATIENCE_S = 10.0
KINDS = ["http", "socks5"]
WHATSAPP = "web.whatsapp.test"


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


@asynccontextmanager
async def serving(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handler, listeners)
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


def nobody(host: bytes | None, *_: object) -> list[Address]:
    raise AssertionError(f"{host!r} was looked up here")


def route(proxy: str, port: int = 443) -> Route:
    return Route(f"wss://{WHATSAPP}:{port}/ws/chat", parse_proxy(proxy), True)


async def passes(stream: trio.SocketStream) -> bool:
    async with stream:
        await stream.send_all(b"through")
        return await stream.receive_some() == b"through"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("credentials", ["", "user:p%40ss@"])
async def test_stream_goes_through_the_proxy_which_resolves_the_name(
    kind: str, credentials: str
) -> None:
    async with serving(echo) as port, resolving(look_up=nobody):
        proxy = RecordingProxy(hosts={WHATSAPP: ("127.0.0.1", port)})
        if credentials:
            proxy.user, proxy.password = "user", "p@ss"
        async with listening(proxy):
            assert await passes(await open_stream(route(proxy.url(kind, credentials))))

    assert proxy.tunnels == [(WHATSAPP, 443)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("credentials", ["", "user:wrong@"])
async def test_proxy_that_does_not_know_us_has_refused(kind: str, credentials: str) -> None:
    proxy = RecordingProxy(user="user", password="right")
    async with listening(proxy):
        with pytest.raises(ProxyRefusedError) as refused:
            await open_stream(route(proxy.url(kind, credentials)))

    assert "wrong" not in str(refused.value)
    assert proxy.tunnels == []


@pytest.mark.parametrize(("kind", "refusal"), [("http", 403), ("http", 502), ("socks5", 4)])
async def test_proxy_that_does_not_reach_whatsapp_has_refused(kind: str, refusal: int) -> None:
    proxy = RecordingProxy(refusal=refusal)
    async with listening(proxy):
        with pytest.raises(ProxyRefusedError):
            await open_stream(route(proxy.url(kind)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nHello, I am a web server",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
        b"\x05\x07",
        b"\x05\x02",
        b"\x05\x00\x05\x00\x00\x03\x02\xff\xff\x00\x00",
    ],
)
async def test_who_speaks_something_else_has_refused(kind: str, answer: bytes) -> None:
    async def stranger(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(answer)

    async with serving(stranger) as port:
        with pytest.raises(ProxyRefusedError):
            await open_stream(route(f"{kind}://127.0.0.1:{port}"))


@pytest.mark.parametrize("kind", KINDS)
async def test_proxy_that_says_nothing_is_not_reached(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "PROXY_ANSWER_S", 0.1)
    proxy = RecordingProxy(mute=True)
    async with listening(proxy):
        with pytest.raises(ProxyUnreachableError, match="does not answer"):
            await open_stream(route(proxy.url(kind)))


@pytest.mark.parametrize("kind", KINDS)
async def test_dead_proxy_is_not_reached(kind: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ProxyUnreachableError, match="nobody answers"):
            await open_stream(route(f"{kind}://127.0.0.1:{free.getsockname()[1]}"))


async def test_second_address_of_a_proxy_is_tried() -> None:
    def two(host: bytes | None, *_: object) -> list[Address]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    async with serving(echo) as port, resolving(look_up=two):
        proxy = RecordingProxy(hosts={WHATSAPP: ("127.0.0.1", port)})
        async with listening(proxy):
            assert await passes(await open_stream(route(f"http://proxy.test:{proxy.port}")))


async def test_proxy_whose_name_is_unknown_is_not_reached() -> None:
    def unknown(*_: object) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with resolving(look_up=unknown):
        with pytest.raises(ProxyUnreachableError, match="not resolved"):
            await open_stream(route("socks5://proxy.test:1080"))


# --- addresses that are not public ---


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
async def test_proxy_at_an_address_inside_is_not_dialled(host: str) -> None:
    """T-42: whatever it is written like."""
    proxy = RecordingProxy()
    async with listening(proxy):
        way = replace(route(f"http://{host}:{proxy.port}"), allow_private_proxies=False)
        with pytest.raises(ProxyUnreachableError, match="not public"):
            await open_stream(way)

    assert proxy.asked == []


async def test_name_with_one_address_inside_is_not_dialled() -> None:
    """T-43: a record among public ones is enough."""

    def mixed(*_: object) -> list[Address]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in ("1.1.1.1", "10.0.0.1")
        ]

    async with resolving(look_up=mixed):
        with pytest.raises(ProxyUnreachableError, match="not public"):
            await open_stream(replace(route("http://proxy.test:80"), allow_private_proxies=False))


async def test_address_that_was_judged_is_the_one_that_is_dialled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """T-43: a name that leads inside when it is asked for again is not asked for again."""
    answers = iter(["127.0.0.1", "10.0.0.1"])
    monkeypatch.setattr(connector, "is_public", lambda address: address == "127.0.0.1")

    def rebound(*_: object) -> list[Address]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))]

    async with serving(echo) as port, resolving(look_up=rebound):
        proxy = RecordingProxy(hosts={WHATSAPP: ("127.0.0.1", port)})
        async with listening(proxy):
            way = route(f"http://proxy.test:{proxy.port}")
            assert await passes(await open_stream(replace(way, allow_private_proxies=False)))
    assert next(answers) == "10.0.0.1"

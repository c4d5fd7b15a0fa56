"""Connector: the TCP stream to WhatsApp, straight or through the device's proxy.

A device with a proxy never goes straight, and no name but the proxy's own is resolved here: the
proxy resolves WhatsApp's. Its address is judged as it was resolved, and that very address is
dialled, so that a name cannot point elsewhere between the two.
"""

from __future__ import annotations

import base64
import errno
import functools
import math
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11
import trio
from python_socks import ProxyError, ProxyType
from python_socks.async_.trio import Proxy as SocksProxy

from sitpayd import files
from sitpayd.actors.addresses import is_public
from sitpayd.actors.proxies import Proxy, ProxyScheme
from sitpayd.errors import SitpaydError

# What was sent and not acknowledged for so long ends the connection: without it the system goes on
# for a quarter of an hour. Shorter than the silence after which the device itself gives up.
TCP_USER_TIMEOUT_MS: Final = 30_000
# A proxy's name may have more addresses than are worth trying, and each has its time. With the
# resolver's share these fit into the time of a dial.
MAX_PROXY_ADDRESSES: Final = 2
PROXY_TCP_S: Final = 3.0
PROXY_ANSWER_S: Final = 8.0
MAX_CONNECT_ANSWER_LEN: Final = 16 * 1024
# Of a host whose addresses are looked at before they are dialled.
MAX_ADDRESSES: Final = 4
TCP_S: Final = 4.0

_WITHOUT_PORT: Final = {"ws": 80, "wss": 443, "http": 80, "https": 443}
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)


class ProxyUnreachableError(SitpaydError):
    """The proxy's name leads nowhere we may go, or nobody answers there."""


class ProxyRefusedError(SitpaydError):
    """The proxy does not let us through: credentials, policy, or WhatsApp out of its reach."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a device's connection leads, and through what.

    Attributes:
        url: WhatsApp's WebSocket, or its media.
        proxy: None: straight.
        allow_private_proxies: whether a proxy may have an address that is not public.
        public_only: whether the host itself must have public addresses alone, if it is straight.
    """

    url: str
    proxy: Proxy | None = None
    allow_private_proxies: bool = False
    public_only: bool = False


async def open_stream(route: Route) -> trio.SocketStream:
    """Dial; what is written to the stream reaches WhatsApp's host. The caller brings the deadline.

    Raises:
        ProxyUnreachableError: See there.
        ProxyRefusedError: See there.
        socket.gaierror: If WhatsApp's name was not resolved.
        OSError: If it could not be reached, or the URL is none; see `is_out_of_files`.
    """
    parts = urlsplit(route.url)
    if parts.scheme not in _WITHOUT_PORT or not parts.hostname:
        raise OSError(errno.EDESTADDRREQ, "not a URL that leads to WhatsApp")
    if not files.room_for_dial():
        raise OSError(errno.EMFILE, "the last file descriptors are not for sockets")
    port = parts.port or _WITHOUT_PORT[parts.scheme]
    if route.proxy is None and route.public_only:
        stream = await _open_public(parts.hostname, port)
    elif route.proxy is None:
        stream = await trio.open_tcp_stream(parts.hostname, port)
    else:
        stream = await _tunnel(
            route.proxy, parts.hostname, port, allow_private=route.allow_private_proxies
        )
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    return stream


async def _open_public(host: str, port: int) -> trio.SocketStream:
    """Dial a host at the very addresses that were looked at; one that leads inside ends it."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    if not addresses or not all(is_public(address) for address in addresses):
        raise OSError(errno.EACCES, "the host's address is not public")
    reached: OSError | None = None
    for address in addresses[:MAX_ADDRESSES]:
        try:
            with trio.move_on_after(TCP_S):
                return await trio.open_tcp_stream(address, port)
        except OSError as error:
            if is_out_of_files(error):
                raise
            reached = error
    raise OSError(errno.EHOSTUNREACH, "nobody answers at the host's address") from reached


@functools.cache
def client_tls() -> ssl.SSLContext:
    """What all connections share: each with its own would parse and keep all authorities anew."""
    return ssl.create_default_context()


def is_out_of_files(error: BaseException) -> bool:
    """Whether there was no file descriptor left for a socket."""
    return any(isinstance(e, OSError) and e.errno in _OUT_OF_FILES for e in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (*inner, error.__cause__):
        if cause is not None:
            yield from _causes(cause)


async def _tunnel(proxy: Proxy, host: str, port: int, *, allow_private: bool) -> trio.SocketStream:
    reached: OSError | None = None
    for address in await _addresses_of(proxy, allow_private=allow_private):
        try:
            with trio.move_on_after(PROXY_TCP_S):
                stream = await trio.open_tcp_stream(address, proxy.port)
                break
        except OSError as error:
            if is_out_of_files(error):
                raise
            reached = error
    else:
        raise ProxyUnreachableError("nobody answers at the proxy's address") from reached
    try:
        with trio.fail_after(PROXY_ANSWER_S):
            if proxy.scheme is ProxyScheme.HTTP:
                await _connect(stream, proxy, host, port)
            else:
                await _socks(stream, proxy, host, port)
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise ProxyUnreachableError("the proxy does not answer") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _addresses_of(proxy: Proxy, *, allow_private: bool) -> list[str]:
    """Resolve a proxy's name; refuses all of its addresses if one of them leads inside."""
    try:
        found = await trio.socket.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ProxyUnreachableError("the proxy's name was not resolved") from error
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    if not allow_private and not all(is_public(address) for address in addresses):
        raise ProxyUnreachableError("the proxy's address is not public")
    return addresses[:MAX_PROXY_ADDRESSES]


async def _connect(stream: trio.SocketStream, proxy: Proxy, host: str, port: int) -> None:
    """Ask an HTTP proxy for a tunnel. Source: RFC 9110 section 9.3.6."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("host", target)]
    if proxy.user is not None:
        pair = base64.b64encode(f"{proxy.user}:{proxy.password}".encode("ascii")).decode("ascii")
        headers.append(("proxy-authorization", f"Basic {pair}"))
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_CONNECT_ANSWER_LEN)
    request = http.send(h11.Request(method="CONNECT", target=target, headers=headers))
    assert request is not None
    try:
        await stream.send_all(request + (http.send(h11.EndOfMessage()) or b""))
        while not isinstance(event := http.next_event(), h11.Response):
            if isinstance(event, h11.ConnectionClosed):
                raise ProxyRefusedError("the proxy closed")
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some(MAX_CONNECT_ANSWER_LEN))
    except h11.RemoteProtocolError:
        raise ProxyRefusedError("the proxy does not speak HTTP") from None
    except trio.BrokenResourceError:
        raise ProxyRefusedError("the proxy closed") from None
    if not 200 <= event.status_code < 300:
        raise ProxyRefusedError(f"the proxy answered {event.status_code}")
    if http.trailing_data[0]:
        # WhatsApp's server says nothing before it is spoken to.
        raise ProxyRefusedError("the proxy says more than it should")


class _Reached(SocksProxy):
    """The way to the proxy, as the library's chains have it: a socket that is open already."""

    def __init__(self, stream: trio.SocketStream, proxy: Proxy) -> None:
        super().__init__(ProxyType.SOCKS5, proxy.host, proxy.port)
        self._stream = stream

    async def connect(
        self, dest_host: str, dest_port: int, timeout: float | None = None, **kwargs: object
    ) -> trio.socket.SocketType:
        return self._stream.socket


async def _socks(stream: trio.SocketStream, proxy: Proxy, host: str, port: int) -> None:
    """Ask a SOCKS5 proxy for a tunnel; it resolves the name. Source: RFC 1928, RFC 1929."""
    chain = SocksProxy(
        ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        proxy.user,
        proxy.password,
        rdns=True,
        forward=_Reached(stream, proxy),
    )
    try:
        await chain.connect(host, port, timeout=math.inf)
    except ProxyError as error:
        raise ProxyRefusedError(f"the proxy answered {error}") from None
    except OSError:
        raise ProxyRefusedError("the proxy closed") from None
    except ValueError:
        # Bytes of its answer that are no text: the library trusts them.
        raise ProxyRefusedError("the proxy does not speak SOCKS5") from None

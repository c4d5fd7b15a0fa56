"""Simulator: the server on its sockets, in a program of its own or inside a test."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio
from websockets.trio.server import serve

from .options import Options
from .phone import Phone
from .server import Server

_PATH: Final = "/ws/chat"
_MAX_MESSAGE: Final = 2**24 + 16
# A thousand clients may dial at once.
_BACKLOG: Final = 2048
_OPEN_TIMEOUT_S: Final = 30


class Simulator:
    """A running simulated WhatsApp.

    Attributes:
        url: where clients connect.
        control_url: the HTTP control API; None if it was not asked for.
        server: its state.
    """

    def __init__(self, server: Server, url: str, control_url: str | None) -> None:
        self.server = server
        self.url = url
        self.control_url = control_url

    @property
    def root_key(self) -> bytes:
        """The key clients must trust instead of WhatsApp's own: 32 bytes."""
        return self.server.root_key

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        options: Options | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int | None = None,
        certificate: str | None = None,
    ) -> AsyncIterator[Simulator]:
        """Run a simulator as long as the block runs.

        Args:
            port: 0 takes a free one.
            control_port: 0 takes a free one; None serves no control API.
            certificate: PEM file with its key; None serves without TLS.

        Raises:
            OSError: If a port cannot be taken.
        """
        server = Server(options or Options())
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
            await nursery.start(
                partial(
                    serve,
                    server.serve,
                    listeners=listeners,
                    ssl=tls,
                    process_request=server.admit,
                    compression=None,
                    ping_interval=None,
                    open_timeout=_OPEN_TIMEOUT_S,
                    close_timeout=1,
                    max_size=_MAX_MESSAGE,
                    server_header=None,
                )
            )
            bound = listeners[0].socket.getsockname()[1]
            server.media.host = f"{host}:{bound}"
            nursery.start_soon(server.keep_house)
            nursery.start_soon(server.waker.run)
            stop = trio.Event()
            control_url = None
            if control_port is not None:
                # Imported here: most tests do without, and Quart takes half a second to import.
                from .control import serve_control

                control_url = await nursery.start(serve_control, server, host, control_port, stop)
            try:
                scheme = "ws" if tls is None else "wss"
                yield cls(server, f"{scheme}://{host}:{bound}{_PATH}", control_url)
            finally:
                stop.set()
                nursery.cancel_scope.cancel()

    def make_account(self, number: str | None = None, name: str = "") -> Phone:
        """Make an account; its phone scans, sends and decrypts.

        Raises:
            ValueError: If the number has an account already.
        """
        return self.server.add_account(number, name)

    def phone(self, number: str) -> Phone:
        """The phone of a number.

        Raises:
            KeyError: If the number has no account.
        """
        return self.server.phone(number)


async def run_simulator(
    host: str,
    port: int,
    control_port: int,
    *,
    announce: Callable[[dict[str, str]], None],
    options: Options | None = None,
    certificate: str | None = None,
) -> None:
    """Run a simulator until cancelled.

    Args:
        host: a loopback address: whoever reaches the control API commands every phone.
        certificate: PEM file with its key; None serves without TLS.
        announce: told once, when both ports listen: url, root_key (hex) and control.

    Raises:
        ValueError: If the host is no loopback address.
        OSError: If a port cannot be taken.
    """
    if not ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback:
        raise ValueError("the simulator listens on a loopback address only")
    async with Simulator.start(
        options, host=host, port=port, control_port=control_port, certificate=certificate
    ) as simulator:
        announce(
            {
                "url": simulator.url,
                "root_key": simulator.root_key.hex(),
                "control": simulator.control_url or "",
            }
        )
        await trio.sleep_forever()

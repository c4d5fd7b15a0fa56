"""Server: hypercorn's HTTP/1.1 and WebSocket on a listening socket of our own.

The accept loop is ours, so that a plain port never speaks HTTP/2, a WebSocket never inflates our
memory for its compression, and a peer that reads nothing does not hold a shutdown back.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Iterator
from functools import partial
from typing import Final, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent
from hypercorn.utils import wrap_app

from sitpayd.api.app import Api
from sitpayd.api.doors import Doors
from sitpayd.api.drain import DRAIN_S
from sitpayd.errors import ConfigurationError
from sitpayd.log import get_logger
from sitpayd.settings import Settings

log = get_logger()

BACKLOG: Final = 4096
# A peer that takes nothing for so long is gone. hypercorn shields its sends, so that without it one
# such peer would hold a shutdown for ever.
TCP_USER_TIMEOUT_MS: Final = 4000
# What the kernel keeps for a peer that does not read; by itself it would grow to some MiB for each.
SEND_BUFFER_LEN: Final = 128 * 1024
# Also the time for a request's head: nothing else runs while it is awaited.
KEEP_ALIVE_S: Final = 10.0
# For one message or one piece of an answer: the longest are some 100 KiB.
WRITE_WITHIN_S: Final = 30.0
MAX_REQUESTS: Final = 10_000  # of one connection
MAX_FEED_MESSAGE_LEN: Final = 4096
FEED_PING_S: Final = 20.0
# What a reader of the feed may say: a message of the longest kind at once, which is then refused by
# its length, and otherwise the pings and pongs of a client library, a few bytes each 20 s.
FEED_TALK_LEN: Final = 2 * MAX_FEED_MESSAGE_LEN
FEED_TALK_LEN_PER_S: Final = 256.0
# For a peer that is cut to see why, before its socket is closed.
LINGER_S: Final = 2.0
POLICY_VIOLATION: Final = 1008
# For the end of a request to reach its connection.
SETTLE_S: Final = 2.0
# Connections that are still open after the drain are cut.
GRACE_S: Final = DRAIN_S + 2.0


async def serve(
    app: Api,
    settings: Settings,
    *,
    shutdown: trio.Event,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API until `shutdown`, then let go: at most GRACE_S seconds.

    Reports the address it listens on once it does.

    Raises:
        ConfigurationError: If it cannot listen there.
    """
    listener = open_listener(settings.host, settings.port)
    await serve_on(listener, app, shutdown=shutdown, task_status=task_status)


def open_listener(host: str, port: int) -> trio.SocketListener:
    """Listen on the first address of a host.

    Raises:
        ConfigurationError: If the host is unknown, or the port taken or forbidden.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_LEN)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"listen: cannot use {host}:{port}: {error.strerror}") from None
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


async def serve_on(
    listener: trio.SocketListener,
    app: Api,
    *,
    shutdown: trio.Event,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API on a listening socket until `shutdown`."""
    config = _config()
    context = WorkerContext(None)
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    handler = partial(_converse, wrapped, config, context)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(Doors().serve, listener, handler, connections)
            host, port, *_ = listener.socket.getsockname()
            log.info("api.listening", host=host, port=port)
            task_status.started(f"{host}:{port}")
            await shutdown.wait()
            # Before the connections are told: the feed sends its closing frames by it.
            app.drain.begin()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + GRACE_S


def _config() -> Config:
    config = Config()
    config.accesslog = None  # it would contain send tokens
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = MAX_REQUESTS
    config.websocket_max_message_size = MAX_FEED_MESSAGE_LEN
    config.websocket_ping_interval = FEED_PING_S
    return config


async def _converse(
    app: AppWrapper, config: Config, context: WorkerContext, stream: trio.SocketStream
) -> None:
    # The second supervisor of this daemon, for the same reason as the first: one peer's bytes must
    # not end everybody. hypercorn lets errors out where a peer breaks the protocol at the wrong
    # moment, for example with data right behind a WebSocket handshake that is being refused.
    try:
        await _Connection(app, config, context, stream).run()
    except* Exception as errors:
        names = sorted({f"{type(e).__name__}: {e}" for e in _leaves(errors)})
        log.warning("api.connection_failed", errors="; ".join(names))


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


class _Connection(TCPServer):
    """One accepted connection."""

    def __init__(
        self, app: AppWrapper, config: Config, context: WorkerContext, stream: trio.SocketStream
    ) -> None:
        # hypercorn's annotation knows TLS only; it takes a plain stream as well.
        super().__init__(
            app, config, context, {}, cast("trio.SSLStream[trio.SocketStream]", stream)
        )
        self._idle = trio.CancelScope()

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for, also on behalf of a request that has just ended."""
        if isinstance(event, RawData):
            await self._write(event.data)
            return
        if isinstance(event, Updated):
            self._note_idle(event.idle)
            return
        http1 = self.protocol.protocol
        if isinstance(event, Closed) and isinstance(http1, _Http1) and http1.is_answering:
            # The peer went on talking after a request whose answer ends the connection. That is no
            # reason to cut the answer off; its end closes.
            return
        # The end of an answer tells the application that its caller left, and quart-trio cancels
        # the very task that is about to close in here. Without the shield it would not.
        with trio.move_on_after(SETTLE_S, shield=True):
            # Not while another task still writes the end of an answer.
            async with self.send_lock:
                await super().protocol_send(event)

    async def _write(self, data: bytes) -> None:
        """Write; whoever takes too long for it is cut, for nothing can follow half a message."""
        async with self.send_lock:
            # Shielded: the end of a request must not leave half of it behind.
            with trio.move_on_after(WRITE_WITHIN_S, shield=True) as scope:
                try:
                    await self.stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.protocol.handle(Closed())
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())

    def _note_idle(self, is_idle: bool) -> None:
        self._idle.deadline = (
            trio.current_time() + self.config.keep_alive_timeout if is_idle else math.inf
        )

    async def _idle_timeout(self) -> None:
        """Close the connection once it was idle for too long, or is when the daemon stops.

        One task for all its requests: hypercorn would begin another at the end of each.
        """
        terminated = self.context.terminated
        with self._idle:
            self._note_idle(True)
            await terminated.wait()
        if self._idle.deadline < math.inf:  # the answer under way closes it otherwise
            with trio.CancelScope(shield=True):
                await self._initiate_server_close()

    async def _read_data(self) -> None:
        # The wrapper chooses the protocol and would change it to HTTP/2; it is ours from the first
        # byte on.
        wrapper = self.protocol
        wrapper.protocol = _Http1(
            wrapper.app,
            wrapper.config,
            cast(WorkerContext, wrapper.context),
            wrapper.task_group,
            ConnectionState(wrapper.state.copy()),
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        await super()._read_data()
        # What is left has nobody to talk to: a feed's next ping would hold a shutdown back.
        assert self._task_group._nursery is not None
        self._task_group._nursery.cancel_scope.cancel()


class _Http1(H11Protocol):
    """HTTP/1.1 that stays HTTP/1.1."""

    # Of an answer, until there is something to send along with it.
    _head = b""
    # Bytes that a reader of the feed may say now, as of that moment of the clock.
    _talk_len = float(FEED_TALK_LEN)
    _talk_at = 0.0

    @property
    def is_answering(self) -> bool:
        """Whether an answer has begun and not ended."""
        return self.connection.our_state is h11.SEND_BODY

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Write an answer's head together with what follows it: one write instead of three."""
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        self._head = b""
        if type(event) is h11.Response:
            self._head = data
        elif data:
            await self.send(RawData(data=data))

    async def handle(self, event: Event) -> None:
        """Take what came in; close on a peer that talks before its WebSocket is opened.

        hypercorn would refuse it in the middle of the answer that is under way, and then leave the
        connection open with nobody to time it out.
        """
        if not (isinstance(event, RawData) and event.data and isinstance(self.stream, WSStream)):
            await super().handle(event)
        elif not self.stream.handshake.accepted:
            await self.send(Closed())
        else:
            await self._hear(event.data)

    async def _hear(self, data: bytes) -> None:
        """Take what a WebSocket's peer says, within measure.

        Each ping is answered, and a message that never ends grows in frames without content: only
        the bytes themselves can be bounded.
        """
        now = trio.current_time()
        self._talk_len += (now - self._talk_at) * FEED_TALK_LEN_PER_S
        self._talk_len = min(self._talk_len, FEED_TALK_LEN)
        self._talk_at = now
        allowed = int(self._talk_len)
        self._talk_len -= min(len(data), allowed)
        await super().handle(RawData(data[:allowed]))
        if len(data) > allowed and isinstance(self.stream, WSStream):
            await self.stream.app_send(
                {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": None}
            )
            await self._close_stream()
            self.task_group.spawn(self._linger)

    async def _linger(self) -> None:
        # Until then what comes is read and dropped: a socket closed with unread bytes is reset, and
        # the peer would not see why.
        await trio.sleep(LINGER_S)
        await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        """Never change the protocol: an offer of HTTP/2 is answered in HTTP/1.1, or refused."""

    async def _create_stream(self, request: h11.Request) -> None:
        if any(name == b"sec-websocket-extensions" for name, _ in request.headers):
            # hypercorn takes every compression a WebSocket offers, at 130 KiB each.
            request = h11.Request(
                method=request.method,
                headers=[(n, v) for n, v in request.headers if n != b"sec-websocket-extensions"],
                target=request.target,
                http_version=request.http_version,
            )
        await super()._create_stream(request)
        if isinstance(self.connection, H11WSConnection) and self.connection.buffer:
            # Bytes right behind the handshake, see `handle`.
            self.connection.buffer.clear()
            await self.send(Closed())

"""The wire of one device: dials, moves bytes, reports what it saw.

No decision here: every end of a connection is one `Lost`, and the machine says what follows. One
task writes: a WebSocket write that is cancelled half-way leaves a truncated frame behind, so a
write past its deadline ends the connection. What a WebSocket is, websocket.py knows.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final

import trio

from sitpayd.actors.commands import Confirm
from sitpayd.actors.connector import (
    ProxyRefusedError,
    ProxyUnreachableError,
    Route,
    is_out_of_files,
    open_stream,
)
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.events import LossKind, Lost, NetworkEvent, Opened, Received
from sitpayd.actors.websocket import ClosedError, UpgradeError, WebSocket, open_websocket
from sitpayd.log import get_logger
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.errors import (
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
    ResumptionError,
)
from sitpayd.whatsapp.events import HandshakeCompleted, NodeReceived, NodeRejected
from sitpayd.whatsapp.frames import MAX_FRAME_LEN
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import Pattern

ORIGIN: Final = "https://web.whatsapp.com"
# A browser's, in agreement with what ClientInfo announces.
USER_AGENT: Final = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/143.0.0.0 Safari/537.36"
)
DIAL_S: Final = 20.0
HANDSHAKE_S: Final = 20.0
WRITE_S: Final = 20.0
CLOSE_S: Final = 2.0
# Stanzas that wait for the writer; a full queue means that the socket is stuck.
MAX_OUTGOING: Final = 256
# What a server says instead of `<success>`.
_REFUSALS: Final = ("failure", "stream:error")

Outgoing = Node | bytes | Confirm
Report = Callable[[NetworkEvent], Awaitable[None]]
Converse = Callable[
    [
        Callable[[], Route],
        Callable[[], Connection],
        trio.MemoryReceiveChannel[Outgoing],
        DialBucket,
        Report,
    ],
    Awaitable[None],
]

_log = get_logger()


async def converse(
    way: Callable[[], Route],
    make_connection: Callable[[], Connection],
    outgoing: trio.MemoryReceiveChannel[Outgoing],
    bucket: DialBucket,
    report: Report,
) -> None:
    """Run one connection from dial to end; the last report is the `Lost`.

    Args:
        way: where it leads, asked when its turn to dial has come.
        make_connection: makes the protocol's side then.
        outgoing: nodes, encoded stanzas as bytes, and what to answer once all before it is written;
            closing it at the other end hangs up after what is in it was written, and then nothing
            is reported.
    """
    lost: Lost | None = None
    try:
        await bucket.take()
        connection = make_connection()
        with trio.fail_after(DIAL_S) as dialling, trio.CancelScope() as closing:
            url, opened = await _open(way)
            async with opened as stream:
                websocket = await open_websocket(
                    stream,
                    url,
                    origin=ORIGIN,
                    user_agent=USER_AGENT,
                    max_len=MAX_FRAME_LEN + 16,
                )
                dialling.deadline = float("inf")
                async with aclosing(websocket):
                    lost = await _speak(websocket, connection, outgoing, report)
                    # By itself closing has no end where the socket takes nothing any more.
                    closing.deadline = trio.current_time() + CLOSE_S
    except trio.TooSlowError:
        lost = Lost(LossKind.NETWORK, "dial timed out")
    except ProxyUnreachableError as error:
        lost = Lost(LossKind.PROXY_UNREACHABLE, str(error))
    except ProxyRefusedError as error:
        lost = Lost(LossKind.PROXY_REFUSED, str(error))
    except socket.gaierror as error:
        lost = Lost(LossKind.DNS, error.strerror or "")
    except UpgradeError as error:
        status = error.status
        refused = status is not None and 400 <= status < 500 and status != 408
        lost = Lost(LossKind.HTTP if refused else LossKind.NETWORK, str(error))
    except ClosedError:
        lost = Lost(LossKind.NETWORK, "closed instead of an answer")
    except trio.BrokenResourceError as error:
        # What trio makes of a TLS handshake that fails; the cause says why.
        lost = Lost(LossKind.NETWORK, f"TLS: {type(error.__cause__).__name__}")
    except OSError as error:
        kind = LossKind.FILES if is_out_of_files(error) else LossKind.NETWORK
        lost = Lost(kind, type(error).__name__)
    if lost is not None:
        await report(lost)


def refuse(item: Outgoing) -> None:
    """Something will not be written: who waits for that learns it."""
    if isinstance(item, Confirm):
        item.reply.close()


def refuse_what_is_left(outgoing: trio.MemoryReceiveChannel[Outgoing]) -> None:
    """The connection is over, and nobody writes what was handed over last."""
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            refuse(outgoing.receive_nowait())


async def _open(way: Callable[[], Route]) -> tuple[str, trio.SocketStream]:
    while True:
        route = way()
        stream = await open_stream(route)
        if way() == route:
            return route.url, stream
        # A proxy was set meanwhile: not a byte of the device goes another way any more.
        await trio.aclose_forcefully(stream)


async def _speak(
    websocket: WebSocket,
    connection: Connection,
    outgoing: trio.MemoryReceiveChannel[Outgoing],
    report: Report,
) -> Lost | None:
    try:
        with trio.fail_after(HANDSHAKE_S):
            early = await _shake_hands(websocket, connection)
    except trio.TooSlowError:
        return Lost(LossKind.NETWORK, "handshake timed out")
    except HandshakeError as error:
        return Lost(LossKind.CERTIFICATE, str(error))
    except ResumptionError as error:
        return Lost(LossKind.RESUMPTION, str(error))
    except RemoteProtocolError as error:
        return Lost(LossKind.PROTOCOL, str(error))
    except ClosedError:
        return Lost(LossKind.CLOSED, "during the handshake")
    lost: list[Lost | None] = []
    async with trio.open_nursery() as nursery:

        async def end_with(end: Awaitable[Lost | None]) -> None:
            lost.append(await end)
            nursery.cancel_scope.cancel()

        nursery.start_soon(end_with, _write(websocket, connection, outgoing))
        await report(Opened())
        await end_with(_read(websocket, connection, early, report))
    return lost[0]


async def _shake_hands(websocket: WebSocket, connection: Connection) -> list[Node]:
    """Complete the handshake; gives the stanzas that came right behind it."""
    while True:
        for data in connection.data_to_send():
            await websocket.send(data)
        events = connection.receive(await websocket.receive())
        if events and isinstance(events[0], HandshakeCompleted):
            for data in connection.data_to_send():
                await websocket.send(data)
            return _nodes(events[1:])


async def _read(
    websocket: WebSocket, connection: Connection, nodes: list[Node], report: Report
) -> Lost:
    is_resumed = connection.pattern is Pattern.IK
    try:
        while True:
            for node in nodes:
                # A refusal may be meant for the resumption: it counts after a full handshake.
                if is_resumed and node.tag in _REFUSALS:
                    return Lost(LossKind.RESUMPTION, f"<{node.tag}> as the first stanza")
                is_resumed = False
                await report(Received(node))
            data = b"" if connection.has_failed else await websocket.receive()
            nodes = _nodes(connection.receive(data))
    except ClosedError as error:
        kind = LossKind.CLOSED if error.code is not None else LossKind.NETWORK
        return Lost(kind, f"close code {error.code}")
    except RemoteProtocolError as error:
        return Lost(LossKind.PROTOCOL, str(error))


async def _write(
    websocket: WebSocket,
    connection: Connection,
    outgoing: trio.MemoryReceiveChannel[Outgoing],
) -> Lost | None:
    try:
        async for item in outgoing:
            if isinstance(item, Confirm):
                item.reply.put(item.reaction)
                continue
            try:
                if isinstance(item, bytes):
                    connection.send_encoded(item)
                else:
                    connection.send(item)
            except LocalProtocolError as error:
                if connection.has_failed:
                    continue  # what the reader has got ended it; it is about to say so
                # One stanza that cannot be written is ours to mend; the connection is in step.
                _log.error("stanza.unwritable", error=str(error))
            with trio.fail_after(WRITE_S):
                for data in connection.data_to_send():
                    await websocket.send(data)
    except trio.TooSlowError:
        return Lost(LossKind.NETWORK, "write timed out")
    except ClosedError:
        # The reader may still hold what the server said before it closed: let it report.
        await trio.sleep(CLOSE_S)
        return Lost(LossKind.CLOSED, "while writing")
    return None


def _nodes(events: list[HandshakeCompleted | NodeReceived | NodeRejected]) -> list[Node]:
    nodes = []
    for event in events:
        if isinstance(event, NodeReceived):
            nodes.append(event.node)
        elif isinstance(event, NodeRejected):
            _log.warning(
                "stanza.rejected", length=event.length, digest=event.digest, error=event.error
            )
    return nodes

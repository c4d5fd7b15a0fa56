"""transport against real sockets on loopback, with websockets' own server at the other end."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from trio.testing import wait_all_tasks_blocked
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.trio.server import ServerConnection, serve

from sitpayd.actors import transport, websocket
from sitpayd.actors.commands import Confirm
from sitpayd.actors.connector import Route, open_stream
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.events import LossKind, Lost, NetworkEvent, Opened, Received
from sitpayd.actors.messages import Done, NotNow
from sitpayd.actors.proxies import parse_proxy
from sitpayd.actors.resolver import resolving
from sitpayd.actors.transport import Outgoing, converse, refuse_what_is_left
from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.events import NodeReceived
from sitpayd.whatsapp.frames import encode_frame
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import KnownServer, Pattern, Resumption, ServerKeys
from tests.actors.builders import Ear
from tests.support.proxy import RecordingProxy, listening

ROOT = KeyPair.generate()
NOISE = KeyPair.generate()
SERVER_KEYS = ServerKeys.generate(ROOT, time.time())
KNOWN = KnownServer(SERVER_KEYS.static.public_key, 0, time.time() + 3600)
PATIENCE_S = 10.0
REFUSAL = Node("failure", {"reason": "401"})
HELLO, ANSWER = Node("success", {"t": "1"}), Node("iq", {"id": "1", "type": "result"})

Handler = Callable[[ServerConnection], Awaitable[None]]


class Peer:
    """The server's end: shakes hands and speaks stanzas."""

    def __init__(
        self, websocket: ServerConnection, resumption: Resumption = Resumption.ACCEPT
    ) -> None:
        self.websocket = websocket
        self.connection = Connection.responder(SERVER_KEYS, resumption=resumption)
        self.heard: list[Node] = []

    async def shake_hands(self) -> Peer:
        is_done = False
        while not is_done:
            is_done = bool(self.connection.receive(await self.websocket.recv(decode=False)))
            await self.flush()
        return self

    async def flush(self) -> None:
        for data in self.connection.data_to_send():
            await self.websocket.send(data)

    async def say(self, *nodes: Node) -> None:
        for node in nodes:
            self.connection.send(node)
        await self.flush()

    async def listen(self) -> None:
        """Take stanzas until the device closes."""
        try:
            while True:
                events = self.connection.receive(await self.websocket.recv(decode=False))
                self.heard += [event.node for event in events if isinstance(event, NodeReceived)]
        except ConnectionClosed:
            pass


class Call:
    """The device's end: one conversation and what it reported."""

    def __init__(self) -> None:
        self.outgoing, self._incoming = trio.open_memory_channel[Outgoing](100)
        self._reports, self.events = trio.open_memory_channel[NetworkEvent](100)
        self.ended = trio.Event()

    async def run(self, route: Route, root_key: bytes, known: KnownServer | None) -> None:
        make = partial(
            Connection.initiator,
            noise=NOISE,
            payload=b"login",
            root_key=root_key,
            now=time.time(),
            server=known,
        )
        await converse(lambda: route, make, self._incoming, DialBucket(), self._reports.send)
        self.ended.set()

    async def event(self) -> NetworkEvent:
        return await self.events.receive()

    async def the_end_behind_all(self) -> NetworkEvent:
        """Take every report, of which there may be more than find room at once."""
        last = await self.event()
        while not isinstance(last, Lost):
            last = await self.event()
        return last

    async def the_end(self) -> Lost | None:
        """Wait for the end; gives the last report if it is a loss."""
        await self.ended.wait()
        last: NetworkEvent | None = None
        while True:
            try:
                last = self.events.receive_nowait()
            except trio.WouldBlock:
                return last if isinstance(last, Lost) else None


@asynccontextmanager
async def calling(
    where: str | Route, root_key: bytes = ROOT.public_key, known: KnownServer | None = None
) -> AsyncIterator[Call]:
    route = Route(where) if isinstance(where, str) else where
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            call = Call()
            nursery.start_soon(call.run, route, root_key, known)
            yield call
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def server(
    handler: Handler,
    process_request: Callable[[ServerConnection, Request], Response | None] | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve on loopback; gives the address."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        serving = partial(
            serve,
            handler,
            listeners=listeners,
            ssl=context,
            process_request=process_request,
            compression=None,
            close_timeout=0.5,
        )
        nursery.start_soon(serving)
        yield f"{'wss' if context else 'ws'}://127.0.0.1:{port}/ws/chat"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw_server(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve bare TCP on loopback; gives the port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def silent(_: ServerConnection) -> None:
    await trio.sleep_forever()


# --- conversation ---


async def test_handshake_completes_and_stanzas_go_both_ways() -> None:
    heard = trio.Event()

    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        await peer.say(HELLO)
        (received,) = peer.connection.receive(await websocket.recv(decode=False))
        assert received == NodeReceived(ANSWER)
        heard.set()
        await peer.listen()

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        assert await call.event() == Received(HELLO)
        await call.outgoing.send(ANSWER)
        await heard.wait()


async def test_encoded_stanza_is_sent_as_it_is() -> None:
    heard = trio.Event()

    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        (received,) = peer.connection.receive(await websocket.recv(decode=False))
        assert received == NodeReceived(ANSWER)
        heard.set()

    async with server(handler) as url, calling(url) as call:
        await call.outgoing.send(encode(ANSWER))
        await heard.wait()


async def test_stanza_behind_the_handshake_in_one_message_is_not_lost() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = Peer(websocket)
        peer.connection.receive(await websocket.recv(decode=False))
        await peer.flush()
        # The client completes the handshake with this; what follows comes in one piece.
        peer.connection.receive(await websocket.recv(decode=False))
        peer.connection.send(HELLO)
        peer.connection.send(ANSWER)
        await websocket.send(b"".join(peer.connection.data_to_send()))
        await peer.listen()

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        assert [await call.event(), await call.event()] == [Received(HELLO), Received(ANSWER)]


async def test_frames_split_over_messages_are_put_together() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = Peer(websocket)
        peer.connection.receive(await websocket.recv(decode=False))
        await split(websocket, peer)
        peer.connection.receive(await websocket.recv(decode=False))
        peer.connection.send(HELLO)
        await split(websocket, peer)
        await peer.listen()

    async def split(websocket: ServerConnection, peer: Peer) -> None:
        data = b"".join(peer.connection.data_to_send())
        for start in range(0, len(data), 7):
            await websocket.send(data[start : start + 7])

    async with server(handler) as url, calling(url) as call:
        assert [await call.event(), await call.event()] == [Opened(), Received(HELLO)]


async def test_text_messages_are_ignored() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send("are you a browser?")
        peer = await Peer(websocket).shake_hands()
        await websocket.send("hello?")
        await peer.say(HELLO)
        await peer.listen()

    async with server(handler) as url, calling(url) as call:
        assert [await call.event(), await call.event()] == [Opened(), Received(HELLO)]


async def test_stanza_that_cannot_be_decoded_is_skipped() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        peer.connection.send_encoded(b"\x00\xff\xff")
        await peer.say(HELLO)
        await peer.listen()

    async with server(handler) as url, calling(url) as call:
        assert [await call.event(), await call.event()] == [Opened(), Received(HELLO)]


async def test_stanza_that_cannot_be_written_does_not_end_the_connection() -> None:
    heard = trio.Event()

    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        (received,) = peer.connection.receive(await websocket.recv(decode=False))
        assert received == NodeReceived(ANSWER)
        heard.set()

    async with server(handler) as url, calling(url) as call:
        await call.outgoing.send(b"")
        await call.outgoing.send(ANSWER)
        await heard.wait()


async def test_device_looks_like_a_browser() -> None:
    seen: list[Request] = []

    def look(_: ServerConnection, request: Request) -> None:
        seen.append(request)

    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()

    async with server(handler, look) as url, calling(url) as call:
        await call.ended.wait()
    (request,) = seen
    assert request.headers["Origin"] == "https://web.whatsapp.com"
    assert request.headers["User-Agent"].startswith("Mozilla/5.0")
    assert "Sec-WebSocket-Extensions" not in request.headers


# --- hanging up ---


async def test_hang_up_writes_what_is_queued_and_reports_nothing() -> None:
    peers: list[Peer] = []

    async def handler(websocket: ServerConnection) -> None:
        peers.append(await Peer(websocket).shake_hands())
        await peers[0].listen()

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        for number in range(50):
            await call.outgoing.send(Node("iq", {"id": str(number)}))
        call.outgoing.close()
        assert await call.the_end() is None
        await wait_all_tasks_blocked(0.05)
    assert [node.text("id") for node in peers[0].heard] == [str(number) for number in range(50)]


async def test_confirmation_comes_behind_what_was_written_before_it() -> None:
    ears = [Ear(), Ear()]

    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()
        await websocket.wait_closed()

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        await call.outgoing.send(HELLO)
        await call.outgoing.send(Confirm(ears[0], Done()))
        # A stanza that cannot be written ends nothing, and holds nothing up.
        await call.outgoing.send(b"")
        await call.outgoing.send(Confirm(ears[1], NotNow()))
        call.outgoing.close()
        await call.ended.wait()
    assert [ear.heard for ear in ears] == [[Done()], [NotNow()]]


async def test_what_is_not_written_any_more_is_refused() -> None:
    ears = [Ear(), Ear()]
    put, take = trio.open_memory_channel[Outgoing](4)
    await put.send(Confirm(ears[0], Done()))
    await put.send(HELLO)
    await put.send(Confirm(ears[1], Done()))
    refuse_what_is_left(take)
    assert [(ear.heard, ear.is_closed) for ear in ears] == [([], True), ([], True)]
    refuse_what_is_left(take)


async def test_hang_up_does_not_wait_for_a_report_that_nobody_takes() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        for _ in range(300):
            await peer.say(HELLO)
        await peer.listen()

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        while call.events.statistics().tasks_waiting_send == 0:
            await wait_all_tasks_blocked(0.01)
        call.outgoing.close()
        await call.ended.wait()


# --- ends: every one is one Lost ---


async def test_wrong_root_key_is_a_certificate_failure() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()

    other = KeyPair.generate().public_key
    async with server(handler) as url, calling(url, other) as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.CERTIFICATE


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, LossKind.HTTP),
        (404, LossKind.HTTP),
        (408, LossKind.NETWORK),
        (500, LossKind.NETWORK),
        (503, LossKind.NETWORK),
    ],
)
async def test_refused_upgrade_tells_its_status(status: int, kind: LossKind) -> None:
    def refuse(websocket: ServerConnection, _: Request) -> Response:
        return websocket.respond(status, "no")

    async with server(silent, refuse) as url, calling(url) as call:
        assert await call.the_end() == Lost(kind, f"HTTP {status}")


async def test_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def redirect(websocket: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        response = websocket.respond(302, "there")
        response.headers["Location"] = "/elsewhere"
        return response

    async with server(silent, redirect) as url, calling(url) as call:
        assert await call.the_end() == Lost(LossKind.NETWORK, "HTTP 302")
    assert asked == ["/ws/chat"]


async def test_close_during_the_handshake_is_told() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv(decode=False)
        await websocket.aclose(1011)

    async with server(handler) as url, calling(url) as call:
        assert await call.the_end() == Lost(LossKind.CLOSED, "during the handshake")


async def test_server_that_was_known_is_resumed_with() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        assert peer.connection.pattern is Pattern.IK
        await peer.say(HELLO, REFUSAL)
        await peer.listen()

    async with server(handler) as url, calling(url, known=KNOWN) as call:
        assert await call.event() == Opened()
        assert await call.event() == Received(HELLO)
        # Behind the first stanza a refusal is one as any other.
        assert await call.event() == Received(REFUSAL)


async def test_resumption_that_does_not_verify_is_no_verdict_on_certificates() -> None:
    async def handler(websocket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await Peer(websocket, Resumption.IGNORE).shake_hands()

    async with server(handler) as url, calling(url, known=KNOWN) as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.RESUMPTION


@pytest.mark.parametrize("refusal", ["failure", "stream:error"])
async def test_refusal_right_behind_a_resumption_is_not_reported(refusal: str) -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        await peer.say(Node(refusal, {"reason": "401"}))
        await peer.listen()

    async with server(handler) as url, calling(url, known=KNOWN) as call:
        assert await call.event() == Opened()
        lost = await call.the_end_behind_all()
        assert lost == Lost(LossKind.RESUMPTION, f"<{refusal}> as the first stanza")


async def test_refusal_behind_a_full_handshake_is_reported() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        await peer.say(REFUSAL)
        await peer.listen()

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        assert await call.event() == Received(REFUSAL)


async def test_garbage_in_the_handshake_is_no_certificate_of_anything() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv(decode=False)
        await websocket.send(encode_frame(b"garbage"))
        await websocket.recv(decode=False)

    async with server(handler) as url, calling(url) as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind in (LossKind.PROTOCOL, LossKind.CERTIFICATE)


async def test_empty_frame_in_the_handshake_is_a_protocol_error() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv(decode=False)
        await websocket.send(encode_frame(b""))
        await silent(websocket)

    async with server(handler) as url, calling(url) as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind in (LossKind.PROTOCOL, LossKind.CERTIFICATE)


async def test_writer_whose_reader_is_held_up_tells_the_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "CLOSE_S", 0.2)
    closed = trio.Event()

    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        for _ in range(105):
            await peer.say(HELLO)
        await trio.aclose_forcefully(websocket.stream)
        closed.set()

    async with server(handler) as url, calling(url) as call:
        await closed.wait()
        # The first write is answered with a reset, on which the next one fails.
        for _ in range(2):
            await call.outgoing.send(ANSWER)
            await wait_all_tasks_blocked(0.1)
        # Longer than CLOSE_S: so long the writer waits for what the reader still holds.
        await wait_all_tasks_blocked(0.4)
        assert await call.the_end_behind_all() == Lost(LossKind.CLOSED, "while writing")


async def test_silent_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """T-53."""
    monkeypatch.setattr(transport, "HANDSHAKE_S", 0.1)
    async with server(silent) as url, calling(url) as call:
        assert await call.the_end() == Lost(LossKind.NETWORK, "handshake timed out")


async def test_close_by_the_server_tells_its_code() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()
        await websocket.aclose(1001)

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        assert await call.the_end() == Lost(LossKind.CLOSED, "close code 1001")


async def test_last_words_before_a_close_are_reported() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        await peer.say(HELLO)
        await websocket.aclose(1000)

    async with server(handler) as url, calling(url) as call:
        assert [await call.event(), await call.event()] == [Opened(), Received(HELLO)]
        assert await call.the_end() == Lost(LossKind.CLOSED, "close code 1000")


async def test_last_words_are_reported_even_if_writing_fails_first() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        for _ in range(90):
            await peer.say(HELLO)
        await websocket.aclose(1000)

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        received = 0
        while received < 90:
            await call.outgoing.send(ANSWER)
            received += isinstance(await call.event(), Received)
        assert await call.the_end() == Lost(LossKind.CLOSED, "close code 1000")


async def test_reset_socket_is_a_network_loss() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()
        await trio.aclose_forcefully(websocket.stream)

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.NETWORK


async def test_frame_that_does_not_decrypt_is_a_protocol_error() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()
        await websocket.send(encode_frame(bytes(32)))
        await silent(websocket)

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.PROTOCOL


async def test_stanzas_before_a_bad_frame_are_reported() -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        peer.connection.send(HELLO)
        await websocket.send(b"".join(peer.connection.data_to_send()) + encode_frame(bytes(32)))
        await silent(websocket)

    async with server(handler) as url, calling(url) as call:
        assert [await call.event(), await call.event()] == [Opened(), Received(HELLO)]
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.PROTOCOL


async def test_write_that_stalls_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WRITE_S", 0.3)
    monkeypatch.setattr(transport, "CLOSE_S", 0.2)

    async def handler(websocket: ServerConnection) -> None:
        await Peer(websocket).shake_hands()
        # Reads nothing any more: the buffers of both sides fill.
        await silent(websocket)

    async with server(handler) as url, calling(url) as call:
        assert await call.event() == Opened()
        large = Node("message", {}, bytes(1 << 19))
        began = trio.current_time()
        for _ in range(60):
            call.outgoing.send_nowait(large)
        assert await call.the_end() == Lost(LossKind.NETWORK, "write timed out")
        assert trio.current_time() - began < 5.0


# --- dials that fail ---


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with calling(f"ws://127.0.0.1:{free.getsockname()[1]}/") as call:
            lost = await call.the_end()
            assert lost is not None
            assert lost.kind is LossKind.NETWORK


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1/"])
async def test_address_that_leads_nowhere(url: str) -> None:
    async with calling(url) as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.NETWORK


async def test_name_that_is_not_resolved_is_told_as_such() -> None:
    """F-16: the word beside the status says that it is the name service."""

    def nobody(*_: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with (
        resolving(look_up=nobody),
        calling("ws://whatsapp.invalid:1/") as call,
    ):
        assert await call.the_end() == Lost(LossKind.DNS, "unknown")


async def test_dial_without_a_file_descriptor_is_told_as_such() -> None:
    """F-28: no exception, but a loss with a word of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with server(silent) as url, calling("nonsense") as first:
        await first.the_end()
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        try:
            async with calling(url) as call:
                lost = await call.the_end()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lost == Lost(LossKind.FILES, "OSError")


async def test_what_the_peer_does_not_acknowledge_ends_the_connection_in_time() -> None:
    """F-14: half a minute, where the system by itself goes on for a quarter of an hour."""
    async with server(silent) as url, await open_stream(Route(url)) as stream:
        patience = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert patience == 30_000


async def test_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DIAL_S", 0.2)

    async def mute(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with raw_server(mute) as port, calling(f"ws://127.0.0.1:{port}/") as call:
        assert await call.the_end() == Lost(LossKind.NETWORK, "dial timed out")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n" * 9, b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_server_that_speaks_something_else(scheme: str, answer: bytes) -> None:
    async def stranger(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    async with raw_server(stranger) as port, calling(f"{scheme}://127.0.0.1:{port}/") as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.NETWORK


async def test_tls_certificate_of_a_stranger_is_a_network_loss(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    async with server(silent, context=context) as url, calling(url) as call:
        lost = await call.the_end()
        assert lost is not None
        assert lost.kind is LossKind.NETWORK


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_tls_runs_inside_the_tunnel_to_the_name_that_only_the_proxy_resolves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async def handler(websocket: ServerConnection) -> None:
        peer = await Peer(websocket).shake_hands()
        await peer.say(HELLO)
        await peer.listen()

    certificate = self_signed(tmp_path / "server.pem", x509.DNSName("whatsapp.test"))
    # The one authority that is believed here.
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(websocket, "client_tls", lambda: trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    proxy = RecordingProxy()
    async with server(handler, context=context) as url, listening(proxy):
        proxy.hosts["whatsapp.test"] = ("127.0.0.1", int(url.split(":")[2].partition("/")[0]))
        route = Route("wss://whatsapp.test/ws/chat", parse_proxy(proxy.url(kind)), True)
        async with calling(route) as call:
            assert await call.event() == Opened()
            assert await call.event() == Received(HELLO)
            call.outgoing.close()
            await call.ended.wait()
    assert proxy.tunnels == [("whatsapp.test", 443)]


@pytest.mark.parametrize(
    ("refusal", "kind"), [(None, LossKind.PROXY_UNREACHABLE), (403, LossKind.PROXY_REFUSED)]
)
async def test_proxy_that_fails_is_told_as_such(refusal: int | None, kind: LossKind) -> None:
    proxy = RecordingProxy(refusal=refusal)
    async with listening(proxy):
        url = proxy.url("http") if refusal else "http://127.0.0.1:9"
        async with calling(Route("ws://whatsapp.test/", parse_proxy(url), True)) as call:
            lost = await call.the_end()
    assert lost is not None
    assert lost.kind is kind


def self_signed(path: Path, whose: x509.GeneralName | None = None) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([whose or x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(pem))
    return path

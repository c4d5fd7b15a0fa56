"""Client: one socket, from the Noise handshake to its end.

It moves bytes, keeps the phase of the connection and hands stanzas to whoever understands them:
routing.py, iqs.py, linking.py, server.py. Replies and deliveries go through one outbox to one
writer, so that the order of Noise counters is the order on the wire. Deadlines are looked at by
`tick`, which one task of the server calls for all clients: no client has timers of its own.
"""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.events import HandshakeCompleted, NodeReceived, NodeRejected
from sitpayd.whatsapp.jid import PN_SERVER, Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import ib, iq, pairing_code
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError, failure, stream_error
from sitpayd.whatsapp.stanzas.login import (
    Login,
    Registration,
    build_hash,
    parse_client_payload,
    success,
)
from sitpayd.whatsapp.stanzas.pairing import pair_device

from .accounts import Device
from .faults import FaultKind
from .linking import Linking
from .routing import Answer, now
from .violations import Kind

if TYPE_CHECKING:
    from .server import Server

# Stanzas that wait for the writer. When it is full the reader waits, and deliveries stay queued.
_OUTBOX: Final = 1024
# Room kept for replies when deliveries fill the outbox.
_RESERVE: Final = 128
# From here on a stanza is deflated, as seen from the real server with stanzas of a few kilobytes.
_DEFLATE_LEN: Final = 2048
_ROUTING_LEN: Final = 12
# Attributes that name a person, a device or a group: a JID on the wire, never text. The server
# itself is named either way: whatsapp-rust (wacore/src/pair.rs) sends its plain name where Baileys
# sends a JID without a user.
ADDRESSES: Final = frozenset(
    {"to", "from", "participant", "recipient", "jid", "lid", "creator", "phone_number"}
    | {f"{name}_{form}" for name in ("sender", "participant") for form in ("pn", "lid")}
    | {"peer_recipient_pn", "peer_recipient_lid", "call-creator"}
)
_FRAME_FAULTS: Final = (FaultKind.GARBLE, FaultKind.SPLIT, FaultKind.JOIN)
_log = logging.getLogger(__name__)


class Stage(Enum):
    """How far a connection is."""

    HANDSHAKE = auto()
    REGISTRATION = auto()
    PASSIVE = auto()
    ACTIVE = auto()
    ENDING = auto()


@dataclass(frozen=True, slots=True)
class _Close:
    """Tells the writer to close, once the peer has had its time to do so."""


@dataclass(slots=True)
class _Awaited:
    """An iq of ours that the client must answer."""

    what: str
    deadline: float


class Client:
    """One socket.

    Attributes:
        device: who logged in; None before and while registering.
        linking: the registration under way.
        connected_at: monotonic seconds.
    """

    def __init__(self, server: Server, websocket: ServerConnection) -> None:
        self.device: Device | None = None
        self.linking: Linking | None = None
        self.stage = Stage.HANDSHAKE
        self.connected_at = trio.current_time()
        self._server = server
        self._websocket = websocket
        resumption = server.options.resumption
        self._connection = Connection.responder(server.keys, resumption=resumption)
        self._put, self._take = trio.open_memory_channel[Node | bytes | _Close](_OUTBOX)
        self._heard_at = self.connected_at
        self._pinged_at = self.connected_at
        self._awaited: dict[str, _Awaited] = {}
        self._backlog = self._backlog_left = 0
        # How many stanzas of the backlog the client may be handed; None: as many as there are.
        self._batch_left: int | None = None
        self._held = b""
        self._scope = trio.CancelScope()

    @property
    def name(self) -> str:
        """The device, or the peer's address before it is known."""
        if self.device is not None:
            return str(self.device)
        if self.linking is not None and self.linking.offered is not None:
            return str(self.linking.offered)
        try:
            address = self._websocket.remote_address
        except OSError:
            address = None  # its socket is gone already
        return f"{address[0]}:{address[1]}" if address else "unknown"

    # --- the shell ---

    async def run(self) -> None:
        """Serve the socket until it ends."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read(nursery)
                    nursery.cancel_scope.cancel()
        finally:
            self._leave()

    async def _read(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                data = await self._websocket.recv()
                if isinstance(data, str):
                    continue
                self._heard_at = trio.current_time()
                try:
                    events = self._connection.receive(data)
                except RemoteProtocolError as error:
                    self._violation(Kind.NOISE, str(error))
                    return
                except LocalProtocolError:
                    return
                for reply in self._connection.data_to_send():
                    await self._put.send(reply)
                for event in events:
                    match event:
                        case HandshakeCompleted():
                            self._enter(event, nursery)
                        case NodeReceived(node):
                            await self._handle(node, nursery)
                        case NodeRejected():
                            self._violation(Kind.STANZA, f"a stanza that is none: {event.error}")
        except ConnectionClosed:
            return

    async def _write(self) -> None:
        try:
            async for item in self._take:
                if isinstance(item, _Close):
                    with trio.move_on_after(self._server.options.grace_s):
                        await self._websocket.wait_closed()
                    break
                for data in (item,) if isinstance(item, bytes) else self._encoded(item):
                    await self._send_bytes(data)
        except (ConnectionClosed, LocalProtocolError):
            pass
        self._scope.cancel()

    def _encoded(self, node: Node) -> Iterable[bytes]:
        stanza = encode(node)
        if len(stanza) > _DEFLATE_LEN:
            stanza = b"\x02" + zlib.compress(stanza[1:])
        self._connection.send_encoded(stanza)
        return self._connection.data_to_send()

    async def _send_bytes(self, data: bytes) -> None:
        device = self.device
        fault = None if device is None else self._server.faults.take(device, *_FRAME_FAULTS)
        data, self._held = self._held + data, b""
        match None if fault is None else fault.kind:
            case FaultKind.GARBLE:
                await self._websocket.send(data[:-1] + bytes((data[-1] ^ 1,)))
            case FaultKind.SPLIT:
                await self._websocket.send(data[: len(data) // 2])
                await self._websocket.send(data[len(data) // 2 :])
            case FaultKind.JOIN:
                self._held = data
            case _:
                await self._websocket.send(data)

    async def drop(self) -> None:
        """Cut the socket without a word."""
        await trio.aclose_forcefully(self._websocket.stream)
        self._scope.cancel()

    def _leave(self) -> None:
        self.stage = Stage.ENDING
        self._unlink()
        if self.linking is not None:
            self._server.end_linking(self.linking)

    def _unlink(self) -> None:
        """Let the device be away, unless it has come back on another socket."""
        if self.device is not None and self.device.link is self:
            self.device.link = None
            self.device.queue.rewind()
            self._server.sightings.look(self.device.account)

    # --- sending ---

    def send(self, node: Node) -> None:
        """Queue a stanza that is not kept if the client is gone or does not read."""
        if self.stage is Stage.ENDING:
            return
        try:
            self._put.send_nowait(node)
        except trio.WouldBlock:
            self._violation(Kind.SILENT, "does not read what it is sent")
            self._scope.cancel()

    def end(self, last: Node | None = None) -> None:
        """Send a last stanza, give the client time to close, then close."""
        if self.stage is Stage.ENDING:
            return
        if last is not None:
            self.send(last)
        self.stage = Stage.ENDING
        self._unlink()
        try:
            self._put.send_nowait(_Close())
        except trio.WouldBlock:
            self._scope.cancel()

    def wake(self) -> None:
        """Send what the device's queue holds, as far as the window goes."""
        device = self.device
        if device is None or self.stage is not Stage.ACTIVE:
            return
        queue = device.queue
        moment = trio.current_time()
        while queue.in_flight < self._server.options.window:
            if self._put.statistics().current_buffer_used >= _OUTBOX - _RESERVE:
                return
            if self._backlog_left and self._batch_left == 0:
                return
            pending = queue.next(moment)
            if pending is None:
                return
            self._put.send_nowait(pending.node)
            if self._backlog_left:
                self._backlog_left -= 1
                if self._batch_left is not None:
                    self._batch_left -= 1
                if not self._backlog_left:
                    self._end_backlog(device)

    def ping(self) -> None:
        """Ask the client whether it is there."""
        self._pinged_at = trio.current_time()
        id = secrets.token_hex(6)
        self._await(id, "ping")
        self.send(iq.server_ping(id))

    @property
    def unanswered(self) -> int:
        """How many requests of the server wait for their answer."""
        return len(self._awaited)

    def _await(self, id: str, what: str) -> None:
        deadline = trio.current_time() + self._server.options.answer_s
        self._awaited[id] = _Awaited(what, deadline)

    # --- beginning ---

    def _enter(self, event: HandshakeCompleted, nursery: trio.Nursery) -> None:
        try:
            payload = parse_client_payload(event.client_payload or b"")
        except RemoteProtocolError as error:
            self._violation(Kind.LOGIN, str(error))
            self._refuse(400)
            return
        if payload.revision < self._server.options.minimum_revision:
            self._refuse(405)
        elif isinstance(payload, Registration):
            self._register(payload, event.client_static or b"", nursery)
        else:
            self._login(payload, event)

    def _register(self, payload: Registration, noise: bytes, nursery: trio.Nursery) -> None:
        faults = []
        if not payload.signature_is_valid():
            faults.append("the signed prekey's signature is wrong")
        if payload.build_hash != build_hash(payload.revision):
            faults.append("the build hash is not that of the revision")
        if payload.signed_prekey_id == 0:
            faults.append("the signed prekey's id is zero")
        for fault in faults:
            self._violation(Kind.REGISTRATION, fault)
        if faults:
            self._refuse(400)
            return
        self.stage = Stage.REGISTRATION
        self.linking = linking = Linking(payload, noise, self._offer)
        self._server.begin_linking(linking)
        id = secrets.token_hex(6)
        self._await(id, "pair-device")
        self.send(pair_device(id, linking.refs))
        nursery.start_soon(self._expire)

    async def _expire(self) -> None:
        await trio.sleep(self._server.options.pairing_s)
        if self.stage is Stage.REGISTRATION:
            self.end()

    def _offer(self, node: Node) -> None:
        what = "pair-success" if node.tag == "iq" else "notification"
        self._await(node.required_text("id"), what)
        self.send(node)

    def _login(self, payload: Login, event: HandshakeCompleted) -> None:
        account = self._server.accounts.by_number(payload.user)
        device = None if account is None else account.devices.get(payload.device)
        if device is None or device.noise is None:
            self._refuse(401)
            return
        if device.noise != event.client_static:
            self._violation(Kind.LOGIN, f"login as {device} with a foreign Noise key")
            self._refuse(401)
            return
        fault = self._server.faults.take(device, FaultKind.FAIL_LOGIN)
        if fault is not None:
            expire = None if fault.seconds is None else int(fault.seconds)
            self.end(failure(ConnectFailure(fault.code, expire_s=expire, ban_code=fault.ban_code)))
            return
        if event.routing_info is not None:
            if event.routing_info != device.routing_info:
                self._violation(Kind.LOGIN, "edge routing bytes that it was never given")
            if self._server.faults.take(device, FaultKind.REFUSE_ROUTING):
                # Another edge gives other bytes.
                device.routing_info = None
                self._scope.cancel()
                return
        if isinstance(device.link, Client):
            device.link.end(stream_error(StreamError(conflict="replaced")))
        self.device = device
        device.link = self
        device.handshake = self._connection.pattern
        device.is_routed = event.routing_info is not None
        self._server.sightings.show(device, available=False)
        self.stage = Stage.PASSIVE
        if device.routing_info is None:
            device.routing_info = secrets.token_bytes(_ROUTING_LEN)
        self.send(success(device.lid, now()))
        self.send(ib.ib(ib.EdgeRouting(device.routing_info)))
        self.announce_dirty()
        if not payload.passive:
            self._activate(device)

    def announce_dirty(self) -> None:
        """Tell the client what it has to fetch anew."""
        dirty = () if self.device is None else self.device.dirty.items()
        for kind, since in dirty:
            self.send(ib.ib(ib.Dirty(kind, since)))

    def _refuse(self, code: int) -> None:
        self.end(failure(ConnectFailure(code, location="sim")))

    def _activate(self, device: Device) -> None:
        if self.stage is not Stage.PASSIVE:
            return
        self.stage = Stage.ACTIVE
        device.queue.mark_offline()
        tags = [pending.node.tag for pending in device.queue]
        self._backlog = self._backlog_left = len(tags)
        self._batch_left = 0 if self._server.options.batches else None
        if tags:
            preview = ib.OfflinePreview(
                len(tags), *(tags.count(tag) for tag in ("message", "receipt", "notification"))
            )
            self.send(ib.ib(preview))
            self.wake()
        else:
            self._end_backlog(device)
        self._server.welcome(device)

    def _end_backlog(self, device: Device) -> None:
        if not self._server.faults.take(device, FaultKind.NO_OFFLINE_END):
            self.send(ib.ib(ib.OfflineDone(self._backlog)))

    # --- stanzas ---

    async def _handle(self, node: Node, nursery: trio.Nursery) -> None:
        if self.stage is Stage.ENDING:
            return
        self._check_addresses(node)
        device = self.device
        if node.tag == "iq":
            answer = self._iq(device, node)
        elif node.tag == "ib":
            self._announced(node)
            return
        elif device is None and node.tag == "ack":
            # A registration hears of pairing codes and passkeys through notifications.
            if self._awaited.pop(node.text("id") or "", None) is None:
                self._violation(Kind.UNEXPECTED, "an ack for nothing that waits for one")
            return
        elif node.tag == "presence" and self.linking is not None and self.linking.has_name:
            # Unmodified Baileys tells its name as soon as it has one, be it of nobody.
            return
        elif device is None:
            self._violation(Kind.EARLY, f"<{node.tag}> before login")
            return
        else:
            answer = self._stanza(device, node)
        if answer.drops:
            await self.drop()
        elif answer.delay_s:
            nursery.start_soon(self._send_later, answer)
        else:
            for reply in answer.nodes:
                await self._put.send(reply)
        if device is not None and node.text("xmlns") in ("passive", "encrypt"):
            # After the reply: what was held back comes behind it.
            self._after_request(device, node)

    async def _send_later(self, answer: Answer) -> None:
        await trio.sleep(answer.delay_s)
        for reply in answer.nodes:
            self.send(reply)

    def _announced(self, node: Node) -> None:
        try:
            count = iq.parse_offline_batch(node)
        except RemoteProtocolError as error:
            self._violation(Kind.STANZA, str(error))
            return
        if count is not None and self._batch_left is not None:
            self._batch_left += count
            self.wake()

    def _stanza(self, device: Device, node: Node) -> Answer:
        router = self._server.router
        match node.tag:
            case "message":
                if self.stage is Stage.PASSIVE:
                    self._violation(Kind.EARLY, "a message before <active/>")
                return router.message(device, node)
            case "receipt":
                return router.receipt(device, node)
            case "ack":
                return router.ack(device, node)
            case "presence" | "chatstate":
                return self._presence(device, node)
            case "call":
                self._server.violations.unsupported(device, "call")
            case tag:
                self._violation(Kind.STANZA, f"<{tag}> is no stanza of a client")
        return Answer()

    def _presence(self, device: Device, node: Node) -> Answer:
        try:
            if node.tag == "presence":
                return Answer(self._server.sightings.presence(device, node))
            self._server.sightings.chat_state(device, node)
        except RemoteProtocolError as error:
            self._violation(Kind.STANZA, str(error))
        return Answer()

    def _iq(self, device: Device | None, node: Node) -> Answer:
        if node.text("type") in ("result", "error"):
            self._answered(node)
            return Answer()
        try:
            if self.linking is not None and pairing_code.is_pairing_code(node):
                return Answer((self._server.companion(self.linking, node),))
            if device is None:
                return Answer((self._server.answer_stranger(self.name, node),))
            if node.text("xmlns") == "md" and (jid := iq.parse_logout(node)) is not None:
                return self._logout(device, node, jid)
            reply = self._server.desk.answer(device, node)
            return Answer() if reply is None else Answer((reply,))
        except RemoteProtocolError as error:
            self._violation(Kind.STANZA, f"iq: {error}")
            return Answer()

    def _after_request(self, device: Device, node: Node) -> None:
        if node.text("xmlns") == "passive":
            if node.child("active") is not None:
                self._activate(device)
            elif node.child("passive") is not None and self.stage is Stage.ACTIVE:
                self.stage = Stage.PASSIVE
        elif self.stage is Stage.ACTIVE:
            self._server.welcome(device)

    def _logout(self, device: Device, node: Node, jid: Jid) -> Answer:
        target = self._server.accounts.device(jid)
        if target is None or target.account is not device.account or target.noise is None:
            self._violation(Kind.ADDRESS, "unlinks a device that is not its own")
            return Answer((iq.error(node, 404, "item-not-found"),))
        # Before the stream ends: the device waits for the result and then drops its keys.
        self.send(iq.result(node))
        self._server.unlink(target)
        return Answer()

    def _answered(self, node: Node) -> None:
        awaited = self._awaited.pop(node.text("id") or "", None)
        if awaited is None:
            self._violation(Kind.UNEXPECTED, "an answer to an iq that does not wait for one")
        elif awaited.what == "pair-success" and self.linking is not None:
            try:
                linked = self.linking.accept(node)
            except RemoteProtocolError as error:
                self._violation(Kind.PAIRING, str(error))
                self.end(stream_error(StreamError(code=401)))
                return
            if linked is None:
                self.end()
                return
            self._server.linked(linked)
            self.end(stream_error(StreamError(code=515)))

    def _check_addresses(self, node: Node) -> None:
        for name, value in node.attrs.items():
            if name in ADDRESSES and not isinstance(value, Jid) and value != PN_SERVER:
                self._violation(Kind.ADDRESS, f"<{node.tag} {name}> is text instead of a JID")
        for child in node.children:
            if child.attrs or child.children:
                self._check_addresses(child)

    # --- deadlines ---

    def tick(self, moment: float) -> None:
        """Look at the deadlines.

        Args:
            moment: monotonic seconds.
        """
        options = self._server.options
        if self.stage is Stage.ENDING:
            return
        if self.stage is Stage.HANDSHAKE:
            if moment - self.connected_at > options.handshake_s:
                self._violation(Kind.NOISE, "no handshake in time")
                self._scope.cancel()
            return
        for id, awaited in list(self._awaited.items()):
            if moment > awaited.deadline:
                del self._awaited[id]
                self._violation(Kind.UNANSWERED, f"the server's {awaited.what} was not answered")
                if awaited.what == "ping":
                    self.end(stream_error(StreamError(child="ping")))
                    return
        device = self.device
        if device is None:
            return
        if moment - self._heard_at > options.idle_s:
            self._violation(Kind.SILENT, "no keepalive")
            self.end()
            return
        oldest = device.queue.oldest
        if oldest is not None and moment - (oldest.sent_at or moment) > options.answer_s:
            tag, id = oldest.key
            self._violation(Kind.UNANSWERED, f"{tag} {id} was not answered")
            self.end(stream_error(StreamError(child="ack", acked_id=id)))
            return
        if options.ping_s is not None and moment - self._pinged_at > options.ping_s:
            self.ping()

    def _violation(self, kind: Kind, text: str) -> None:
        if self.stage is Stage.ENDING:
            # An unlinked whatsmeow still sends what it has, from an account it no longer knows.
            return
        self._server.violations.record(self.name, kind, text)

"""A companion for tests of the simulator: the initiator's half of the protocol over a real socket.

It does what it is told and nothing more, so that a test can leave out or spoil any step.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from sitpayd.simulator.main import Simulator
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.events import HandshakeCompleted, NodeReceived
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.message_id import new_wa_message_id
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import KnownServer
from sitpayd.whatsapp.signal import session as signal
from sitpayd.whatsapp.signal.record import SessionRecord
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import iq, login, pairing, prekeys, receipt, usync
from sitpayd.whatsapp.stanzas.message import Participant, outgoing, parse_incoming, unhosted
from sitpayd.whatsapp.stanzas.privacy import Proof

PATIENCE_S = 5.0


class Wire:
    """One connection: stanzas out, stanzas in, by tag and attributes."""

    def __init__(self, websocket: ClientConnection, connection: Connection) -> None:
        self.websocket = websocket
        self.connection = connection
        self.ids = iq.IqIds()
        self.unread: list[Node] = []

    async def send(self, *nodes: Node) -> None:
        for node in nodes:
            self.connection.send(node)
        await self.send_bytes(b"".join(self.connection.data_to_send()))

    async def send_bytes(self, data: bytes) -> None:
        await self.websocket.send(data)

    async def receive(self) -> Node:
        """The next stanza, whatever it is."""
        if self.unread:
            return self.unread.pop(0)
        with trio.fail_after(PATIENCE_S):
            while not self.unread:
                data = await self.websocket.recv(decode=False)
                self.unread += [
                    event.node
                    for event in self.connection.receive(data)
                    if isinstance(event, NodeReceived)
                ]
        return self.unread.pop(0)

    async def expect(self, tag: str, **attrs: str) -> Node:
        """The next stanza of this kind; those before it stay to be read."""
        passed: list[Node] = []
        while True:
            node = await self.receive()
            wanted = {name.rstrip("_"): value for name, value in attrs.items()}
            if node.tag == tag and all(node.text(key) == value for key, value in wanted.items()):
                self.unread[:0] = passed
                return node
            passed.append(node)

    async def ask(self, request: Node) -> Node:
        """Send an iq and return its answer."""
        await self.send(request)
        return await self.expect("iq", id=request.required_text("id"))

    async def nothing(self, for_s: float = 0.1) -> bool:
        """Whether no stanza comes in this time."""
        if self.unread:
            return False
        with trio.move_on_after(for_s):
            self.unread.append(await self.receive())
            return False
        return True

    async def handled(self) -> None:
        """Wait until the server has handled what was sent so far: it takes stanzas in order."""
        await self.ask(iq.ping(self.ids.next()))

    async def closed(self) -> None:
        """Read until the server has closed; what comes stays to be read."""
        passed = []
        with trio.fail_after(PATIENCE_S):
            try:
                while True:
                    passed.append(await self.receive())
            except ConnectionClosed:
                self.unread += passed


@asynccontextmanager
async def dial(
    sim: Simulator,
    noise: KeyPair,
    payload: bytes,
    *,
    routing_info: bytes | None = None,
    root_key: bytes | None = None,
    server: KnownServer | None = None,
) -> AsyncIterator[Wire]:
    """Connect and shake hands."""
    connection = Connection.initiator(
        noise=noise,
        payload=payload,
        root_key=root_key or sim.root_key,
        now=time.time(),
        routing_info=routing_info,
        server=server,
    )
    async with connect(
        sim.url, compression=None, proxy=None, ping_interval=None, close_timeout=1
    ) as websocket:
        wire = Wire(websocket, connection)
        for data in connection.data_to_send():
            await websocket.send(data)
        is_done = False
        with trio.fail_after(PATIENCE_S):
            while not is_done:
                for event in connection.receive(await websocket.recv(decode=False)):
                    is_done = is_done or isinstance(event, HandshakeCompleted)
                    if isinstance(event, NodeReceived):
                        wire.unread.append(event.node)
                for data in connection.data_to_send():
                    await websocket.send(data)
        yield wire


@dataclass
class Text:
    """A decrypted message."""

    node: Node
    sender: Jid
    content: contents.Content


@dataclass
class Companion:
    """Keys and sessions of one client; connects as often as it likes."""

    sim: Simulator
    keys: DeviceKeys = field(default_factory=DeviceKeys.generate)
    info: login.ClientInfo = field(default_factory=login.ClientInfo)
    prekeys: dict[int, PreKey] = field(default_factory=dict)
    sessions: dict[Jid, SessionRecord] = field(default_factory=dict)
    paired: pairing.PairedIdentity | None = None

    @property
    def identity(self) -> pairing.PairedIdentity:
        assert self.paired is not None
        return self.paired

    @asynccontextmanager
    async def register(self, payload: bytes | None = None) -> AsyncIterator[Wire]:
        data = payload or login.registration_payload(self.keys, self.info)
        async with dial(self.sim, self.keys.noise, data) as wire:
            yield wire

    async def link(self, number: str) -> None:
        """Register, be scanned by the phone of this number, sign."""
        phone = self.sim.phone(number)
        async with self.register() as wire, trio.open_nursery() as nursery:
            offered = await wire.expect("iq", type="set")
            refs = pairing.parse_pair_device(offered)
            await wire.send(iq.result(offered))
            nursery.start_soon(phone.scan, pairing.qr_text(refs[0], self.keys))
            success = await wire.expect("iq", type="set")
            self.paired, reply = pairing.accept_pair_success(success, self.keys)
            await wire.send(reply)
            await wire.expect("stream:error", code="515")

    @asynccontextmanager
    async def connect(
        self, *, routing_info: bytes | None = None, server: KnownServer | None = None
    ) -> AsyncIterator[Wire]:
        """Log in; nothing is asked for yet."""
        payload = login.login_payload(self.identity.jid, self.info)
        async with dial(
            self.sim, self.keys.noise, payload, routing_info=routing_info, server=server
        ) as wire:
            yield wire

    @asynccontextmanager
    async def online(
        self, *, routing_info: bytes | None = None, server: KnownServer | None = None
    ) -> AsyncIterator[Wire]:
        """Log in, upload prekeys if there are none, become active; the backlog is announced."""
        async with self.connect(routing_info=routing_info, server=server) as wire:
            await wire.expect("success")
            if not self.prekeys:
                await self.upload(wire, range(1, 31))
            await wire.ask(iq.active(wire.ids.next()))
            yield wire

    async def upload(self, wire: Wire, ids: Iterable[int]) -> Node:
        fresh = [PreKey(key_id, KeyPair.generate()) for key_id in ids]
        self.prekeys.update({prekey.key_id: prekey for prekey in fresh})
        return await wire.ask(prekeys.upload(wire.ids.next(), self.keys, fresh))

    async def devices(self, wire: Wire, user: Jid) -> tuple[Jid, ...]:
        """The devices of a person in the form of this address."""
        answer = await wire.ask(usync.devices_query(wire.ids.next(), [user], sid="sid"))
        return usync.parse_devices(answer)[user].addresses()

    def place_of(self, device: Jid) -> Jid:
        """Under which name a session stands: our own devices by LID, hosted ones like others."""
        if device.user == self.identity.jid.user:
            return self.identity.lid.with_device(device.device)
        return unhosted(device)

    async def encrypt(
        self, wire: Wire, devices: Iterable[Jid], message: Callable[[Jid], bytes]
    ) -> list[Participant]:
        """Encrypt for each device, with a new session where there is none."""
        participants = []
        for device in devices:
            place = self.place_of(device)
            record = self.sessions.get(place)
            if record is None:
                answer = await wire.ask(prekeys.bundles_query(wire.ids.next(), [device]))
                bundle = prekeys.parse_bundles(answer)[device]
                assert isinstance(bundle, signal.PreKeyBundle)
                record = signal.start(bundle, self.keys.identity)
            encrypted = signal.encrypt(
                record,
                self.keys.identity,
                self.keys.registration_id,
                contents.pad(message(device)),
            )
            self.sessions[place] = encrypted.record
            participants.append(Participant(device, encrypted.kind, encrypted.body))
        return participants

    async def stanza(
        self, wire: Wire, to: Jid, text: str, id: str | None = None, proof: Proof | None = None
    ) -> Node:
        """A text for all devices of a person (by LID) and for our own others, not sent yet."""
        own = self.identity.lid
        theirs = await self.devices(wire, to)
        ours = [device for device in await self.devices(wire, own.bare) if device != own]
        inner = contents.text_message(text)

        def message(device: Jid) -> bytes:
            return contents.device_sent(to, inner) if device.user == own.user else inner

        participants = await self.encrypt(wire, dict.fromkeys((*theirs, *ours)), message)
        participants = [item for item in participants if item.jid != own]
        return outgoing(
            id or new_wa_message_id(),
            to,
            participants,
            device_identity=self.identity.signed_identity,
            proof=proof,
        )

    async def say(self, wire: Wire, to: Jid, text: str, proof: Proof | None = None) -> Node:
        """Send a text; return the server's ack."""
        node = await self.stanza(wire, to, text, proof=proof)
        await wire.send(node)
        return await wire.expect("ack", id=node.required_text("id"), class_="message")

    async def hear(self, wire: Wire, *, answer: bool = True, **attrs: str) -> Text:
        """Receive, decrypt and confirm the next message of a person."""
        while True:
            node = await wire.expect("message", **attrs)
            heard = self.decrypt(node)
            if answer:
                await wire.send(self.receipt(node))
            if node.text("category") != "peer":
                return heard

    async def hear_peers(self, wire: Wire, count: int = 2) -> list[Text]:
        """Receive and confirm what the phone sends a new companion: app state keys, history."""
        heard = []
        for _ in range(count):
            node = await wire.expect("message", category="peer")
            heard.append(self.decrypt(node))
            await wire.send(self.receipt(node))
        await wire.handled()
        wire.unread.clear()
        return heard

    def decrypt(self, node: Node) -> Text:
        incoming = parse_incoming(node, self.identity.jid, self.identity.lid)
        # Sessions are kept by LID, whatever form a stanza has.
        sender = incoming.sender
        if not sender.is_lid:
            lid = incoming.mapping.lid if incoming.mapping else self.identity.lid
            sender = replace(lid, device=sender.device)
        enc = incoming.encs[0]
        record = self.sessions.get(sender)
        if enc.kind == "pkmsg":
            message = signal.parse_prekey_message(enc.body)
            prekey = self.prekeys.pop(message.prekey_id, None) if message.prekey_id else None
            decrypted = signal.decrypt_prekey_message(
                record,
                self.keys.identity,
                self.keys.signed_prekey.key_pair,
                prekey.key_pair if prekey else None,
                message,
            )
        else:
            if record is None:
                raise RemoteProtocolError("no session")
            decrypted = signal.decrypt(record, self.keys.identity, enc.body)
        self.sessions[sender] = decrypted.record
        content = contents.parse_message(contents.unpad(decrypted.plaintext))
        return Text(node, incoming.sender, content)

    def receipt(self, node: Node) -> Node:
        incoming = parse_incoming(node, self.identity.jid, self.identity.lid)
        return receipt.delivery(node, active=True, from_me=incoming.from_me)

    def ack(self, node: Node) -> Node:
        return receipt.ack(node, self.identity.jid)


async def heard_by(sim: Simulator, number: str, count: int = 1) -> list[str | None]:
    """The texts a phone decrypted, once it has this many."""
    phone = sim.phone(number)
    with trio.fail_after(PATIENCE_S):
        while phone.received < count:
            await phone.arrival()
    return [item.text for item in phone.inbox]


def kinds(sim: Simulator) -> list[Kind]:
    """The kinds of violations so far; they are forgiven by being looked at."""
    found = [violation.kind for violation in sim.server.violations.broken]
    sim.server.violations.clear()
    return found

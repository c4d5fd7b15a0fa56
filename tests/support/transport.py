"""FakeTransport: a network without sockets for the tests of actors.

It runs connections as transport.converse does, down to the Noise handshake, but against a server in
the same process. A test speaks for the server through the `Line` of each connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from sitpayd.actors.commands import Confirm
from sitpayd.actors.connector import Route
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.events import LossKind, Lost, Opened, Received
from sitpayd.actors.transport import Outgoing, Report
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.errors import ResumptionError
from sitpayd.whatsapp.events import HandshakeCompleted, NodeReceived
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import Resumption, ServerKeys
from sitpayd.whatsapp.stanzas.login import Login, Registration, parse_client_payload

ROOT = KeyPair.generate()


@dataclass
class Line:
    """The server's end of one connection.

    Attributes:
        payload: who dialled; routing_info: by which route.
        heard: every stanza the device wrote, in order.
        ended: set when the connection is over.
    """

    payload: Registration | Login
    routing_info: bytes | None
    server: Connection
    report: Report
    heard: list[Node] = field(default_factory=list)
    lost: Lost | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    _cut: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def say(self, *nodes: Node) -> None:
        """Speak as the server."""
        for node in nodes:
            await self.report(Received(node))

    def cut(self, kind: LossKind = LossKind.NETWORK) -> None:
        """End the connection."""
        self.lost = Lost(kind, "cut")
        self._cut.cancel()

    def asked(self, child: str) -> str:
        """Id of the last request with this child."""
        requests = (node for node in reversed(self.heard) if node.child(child) is not None)
        return next(requests).required_text("id")

    @property
    def tags(self) -> list[str]:
        return [node.tag for node in self.heard]


class FakeTransport:
    """Runs connections for a World.

    Attributes:
        lines: every connection there was, the last one at the end; routes: where each led.
        answer: what the server says to a stanza of the device by itself.
        refusals: what the next dials get instead of a connection.
        stalled: while true, nothing that is written leaves the device.
        resumption: what happens to a device that resumes.
        keys: of the server.
        cut: dials whose handshake the server hangs up in, once it has heard the hello.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.lines: list[Line] = []
        self.routes: list[Route] = []
        self.open = 0
        self.refusals: list[Lost] = []
        self.stalled = False
        self.answer: Callable[[Node], list[Node]] = lambda node: []
        self.resumption = Resumption.ACCEPT
        self.keys = ServerKeys.generate(ROOT, now())
        self.cut = 0
        self._dialled = trio.Event()

    async def converse(
        self,
        way: Callable[[], Route],
        make_connection: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        bucket: DialBucket,
        report: Report,
    ) -> None:
        await bucket.take()
        client = make_connection()
        if self.refusals:
            await report(self.refusals.pop(0))
            return
        assert not self.open, "two connections of one device"
        if self.cut:
            self.cut -= 1
            client.data_to_send()
            await report(Lost(LossKind.CLOSED, "during the handshake"))
            return
        try:
            line = self._answer_call(client, report)
        except ResumptionError as error:
            await report(Lost(LossKind.RESUMPTION, str(error)))
            return
        self.open += 1
        self.lines.append(line)
        self.routes.append(way())
        self._dialled.set()
        self._dialled = trio.Event()
        try:
            await report(Opened())
            with line._cut:
                await self._listen(line, client, outgoing)
        finally:
            self.open -= 1
            line.ended.set()
        if line.lost is not None:
            await report(line.lost)

    async def dialled(self, count: int) -> Line:
        """Wait for so many connections in all."""
        while len(self.lines) < count:
            await self._dialled.wait()
        return self.lines[count - 1]

    def _answer_call(self, client: Connection, report: Report) -> Line:
        server = Connection.responder(self.keys, resumption=self.resumption)
        events = server.receive(b"".join(client.data_to_send()))
        client.receive(b"".join(server.data_to_send()))
        # A client that resumes has said all that it had to.
        (completed,) = events or server.receive(b"".join(client.data_to_send()))
        assert isinstance(completed, HandshakeCompleted)
        assert completed.client_payload is not None
        payload = parse_client_payload(completed.client_payload)
        return Line(payload, completed.routing_info, server, report)

    async def _listen(
        self, line: Line, client: Connection, outgoing: trio.MemoryReceiveChannel[Outgoing]
    ) -> None:
        async for item in outgoing:
            if self.stalled:
                await trio.sleep(math.inf)
            if isinstance(item, Confirm):
                item.reply.put(item.reaction)
                continue
            if isinstance(item, bytes):
                client.send_encoded(item)
            else:
                client.send(item)
            for event in line.server.receive(b"".join(client.data_to_send())):
                assert isinstance(event, NodeReceived)
                line.heard.append(event.node)
                await line.say(*self.answer(event.node))

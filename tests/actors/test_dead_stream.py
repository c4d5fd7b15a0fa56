"""F-14 with the real transport: a TCP stream that takes all that is written and loses it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from sitpayd.actors import transport
from sitpayd.actors.connector import Route
from sitpayd.actors.keepalive import PROBE_S
from sitpayd.actors.messages import Probe
from sitpayd.actors.transport import CLOSE_S, converse
from sitpayd.storage import outbox
from sitpayd.storage.database import Database
from sitpayd.storage.records import Accepted
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.events import NodeReceived
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import ServerKeys
from tests.actors.builders import FRIEND_PN, success
from tests.actors.test_device import Stage, kind_server
from tests.storage.builders import Tenant, a_message
from tests.support.transport import ROOT

FOUND_WITHIN_S = 70.0


class Wire(trio.abc.Stream):
    """The device's end of a stream; in a hole what it sends gets lost, and nothing tells it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.is_hole = False
        self.closed = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_hole:
            await trio.lowlevel.checkpoint()
        else:
            await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed.set()
        await self.stream.aclose()


class Server:
    """A kind server behind each wire.

    Attributes:
        wires: one for each dial; heard: what came over each.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._keys = ServerKeys.generate(ROOT, datetime.now(UTC).timestamp())
        self.wires: list[Wire] = []
        self.heard: list[list[Node]] = []
        self.dialled_again = trio.Event()

    async def open_stream(self, _: Route) -> Wire:
        """Stand in for the connector's."""
        ours, theirs = memory_stream_pair()
        self.wires.append(Wire(ours))
        self.heard.append([])
        if len(self.wires) > 1:
            self.dialled_again.set()
        self._nursery.start_soon(self._serve, theirs, self.heard[-1])
        return self.wires[-1]

    async def _serve(self, stream: trio.abc.Stream, heard: list[Node]) -> None:
        socket, noise = ServerProtocol(max_size=None), Connection.responder(self._keys)
        async for data in stream:
            socket.receive_data(bytes(data))
            for event in socket.events_received():
                if isinstance(event, Request):
                    socket.send_response(socket.accept(event))
                elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                    self._hear(noise, bytes(event.data), heard)
            for answer in noise.data_to_send():
                socket.send_binary(answer)
            await stream.send_all(b"".join(socket.data_to_send()))

    def _hear(self, noise: Connection, data: bytes, heard: list[Node]) -> None:
        for event in noise.receive(data):
            if not isinstance(event, NodeReceived):
                noise.send(success())  # the handshake is complete
                continue
            heard.append(event.node)
            for node in kind_server(event.node):
                noise.send(node)


@pytest.fixture
def stage(database: Database, tenant: Tenant) -> Stage:
    stage = Stage(database, tenant)
    stage.world = replace(stage.world, converse=converse)
    return stage


async def send(stage: Stage, text: str) -> str:
    new = a_message(stage.device, recipient=FRIEND_PN.user, text=text)
    accepted = await stage.database.write(outbox.accept, new, timedelta(hours=1))
    assert isinstance(accepted, Accepted)
    stage.handle.ring()
    await wait_all_tasks_blocked()
    return accepted.row.message_id


@pytest.mark.parametrize("idle_s", [0.0, 19.0, 44.0])
async def test_stream_that_swallows_what_is_written_is_given_up_and_the_same_bytes_go_again(
    stage: Stage, idle_s: float, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-14: found within 70 s; a second connection is there soon after, and the message on it."""
    await stage.link()
    async with trio.open_nursery() as nursery:
        server = Server(nursery)
        monkeypatch.setattr(transport, "open_stream", server.open_stream)
        async with stage.life():
            await wait_all_tasks_blocked()
            await send(stage, "first")
            await trio.sleep(idle_s)
            server.wires[0].is_hole = True
            message_id = await send(stage, "swallowed")
            row = await stage.database.read(outbox.next_row, stage.device.id)
            assert row is not None
            assert row.stanza is not None
            with trio.fail_after(FOUND_WITHIN_S):
                await server.wires[0].closed.wait()
            await server.dialled_again.wait()
            await wait_all_tasks_blocked()

            view = await stage.database.read(outbox.message, stage.device.id, message_id)
            assert view is not None
            assert view.state == "sent"
            (again,) = [node for node in server.heard[1] if node.tag == "message"]
            assert again == decode(row.stanza)
        nursery.cancel_scope.cancel()


async def test_probe_gives_a_dead_stream_up_at_once(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-15: what a machine that slept for ten minutes finds when it wakes."""
    await stage.link()
    async with trio.open_nursery() as nursery:
        server = Server(nursery)
        monkeypatch.setattr(transport, "open_stream", server.open_stream)
        async with stage.life():
            await wait_all_tasks_blocked()
            server.wires[0].is_hole = True
            stage.handle.post(Probe())
            with trio.fail_after(PROBE_S + CLOSE_S + 0.1):
                await server.wires[0].closed.wait()
        nursery.cancel_scope.cancel()


async def test_probe_leaves_a_live_stream_alone(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.link()
    async with trio.open_nursery() as nursery:
        server = Server(nursery)
        monkeypatch.setattr(transport, "open_stream", server.open_stream)
        async with stage.life():
            await wait_all_tasks_blocked()
            stage.handle.post(Probe())
            await trio.sleep(2 * PROBE_S)

            assert len(server.wires) == 1
            assert [node for node in server.heard[0] if node.text("xmlns") == "w:p"] != []
        nursery.cancel_scope.cancel()

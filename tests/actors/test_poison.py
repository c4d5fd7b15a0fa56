"""A message that brings its device down is set aside; what it was innocent of is not its fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.connector import Route
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.registry import DeviceHandle, DeviceRegistry
from sitpayd.actors.supervisor import DeviceSupervisor
from sitpayd.actors.transport import Outgoing, Report
from sitpayd.storage import devices, outbox
from sitpayd.storage.database import Database
from sitpayd.storage.records import RowState
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.node import Node
from tests.actors.builders import FRIEND_LID, FRIEND_PN, SERVER_T, success
from tests.actors.test_device import Stage, far_away, kind_server
from tests.storage.builders import Tenant, a_message
from tests.support.transport import Line


class Ward(Stage):
    """A supervised device; its line crashes over what the test says."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        super().__init__(database, tenant)
        self.registry = DeviceRegistry()
        self.deadly: Callable[[Node], bool] = lambda node: False
        self.crashes = 0
        self.transport.answer = self.answer

    def answer(self, node: Node) -> list[Node]:
        if self.deadly(node):
            self.crashes += 1
            raise ZeroDivisionError
        return kind_server(node)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[DeviceHandle]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(DeviceSupervisor(self.registry, self.world).run)
            nursery.start_soon(self.welcome)
            yield await self.registry.adopt(self.device)
            nursery.cancel_scope.cancel()

    async def welcome(self) -> None:
        """Let every login succeed."""
        count = 0
        while True:
            count += 1
            line: Line = await self.transport.dialled(count)
            await line.say(success())

    async def put(self, recipient: str = FRIEND_PN.user) -> str:
        new = a_message(self.device, recipient=recipient, expires_at=far_away())
        await self.database.write(outbox.accept, new)
        return new.message_id

    async def told(self, message_id: str) -> tuple[str, str | None]:
        view = await self.database.read(outbox.message, self.device.id, message_id)
        assert view is not None
        return view.state, view.reason


@pytest.fixture
async def ward(database: Database, tenant: Tenant) -> Ward:
    ward = Ward(database, tenant)
    await ward.link()
    return ward


async def test_row_that_crashes_before_it_is_armed_fails_and_the_rest_goes_on(
    ward: Ward, autojump_clock: MockClock
) -> None:
    """F-13: failed(poison) if accepted."""
    poison, others = await ward.put(), [await ward.put("4915199999999") for _ in range(2)]
    ward.deadly = lambda node: ward.crashes < 3 and node.child("usync") is not None
    async with ward.supervised():
        await trio.sleep(60.0)
        assert await ward.told(poison) == ("failed", "poison")
        for other in others:
            assert (await ward.told(other))[0] in ("sent", "failed")
            assert (await ward.told(other))[1] != "poison"
    assert ward.crashes == 3


async def test_row_that_crashes_when_it_is_written_is_unknown_and_the_rest_goes_on(
    ward: Ward, autojump_clock: MockClock
) -> None:
    """F-13: unknown(poison) if armed."""
    poison, other = await ward.put(), await ward.put()
    row = await ward.database.read(outbox.next_row, ward.device.id)
    assert row is not None
    ward.deadly = lambda node: node.tag == "message" and node.text("id") == row.wa_message_id
    async with ward.supervised() as handle:
        with ward.world.outcomes.watch(poison) as watch, trio.fail_after(20.0):
            while watch.state is None or not watch.state.is_settled:
                await watch.changed()
        await trio.sleep(1.0)
        assert await ward.told(poison) == ("unknown", "poison")
        assert await ward.told(other) == ("sent", None)
        assert ward.status == ("connected", None)
        assert handle.poison is None
    assert ward.crashes == 3


MESSAGE = Node("message", {"id": "M", "from": FRIEND_LID, "t": str(SERVER_T)})
RETRY = Node(
    "receipt",
    {"id": "R", "from": FRIEND_LID, "type": "retry"},
    (Node("retry", {"count": "1"}), Node("registration", {}, bytes(4))),
)


@pytest.mark.parametrize(
    ("stanza", "handler"),
    [
        (MESSAGE, "sitpayd.actors.reception.Reception.receive"),
        (RETRY, "sitpayd.actors.resender.Resender.look_up"),
        (RETRY, "sitpayd.actors.repairs.Repairs.looked_up"),
    ],
    ids=["message", "retry receipt", "what follows from a retry receipt"],
)
async def test_row_is_not_blamed_for_what_others_send(
    ward: Ward, autojump_clock: MockClock, stanza: Node, handler: str
) -> None:
    await ward.link()
    row = await ward.put()
    kind = ward.answer
    ward.transport.answer = lambda node: [] if node.tag == "message" else kind(node)

    def die(*_: object) -> None:
        raise ZeroDivisionError

    async with ward.supervised():
        for life in range(1, 6):
            line = await ward.transport.dialled(life)
            await wait_all_tasks_blocked()
            # The row is in flight, and something comes in whose handling crashes.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(handler, die)
                await line.say(stanza)
                await wait_all_tasks_blocked()
        assert await ward.told(row) == ("armed", None)


async def test_one_poisoned_device_of_many_costs_the_others_nothing(
    database: Database, tenant: Tenant, autojump_clock: MockClock
) -> None:
    """F-13: siblings untouched: no crash, no new connection, no message later than without it."""
    wards: dict[str, Ward] = {}
    for number in range(30):
        # By its proxy the network below knows which device dials.
        host = f"192.0.2.{number}"
        record = await database.write(
            devices.create_device,
            tenant.partner.id,
            tenant.user.id,
            "Phone",
            proxy=f"http://{host}:8080",
        )
        wards[host] = Ward(database, replace(tenant, device=record))
        await wards[host].link()

    async def converse(
        way: Callable[[], Route],
        make: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        bucket: DialBucket,
        report: Report,
    ) -> None:
        proxy = way().proxy
        assert proxy is not None
        await wards[proxy.host].transport.converse(way, make, outgoing, bucket, report)

    sick, *others = wards.values()
    sick.deadly = lambda node: node.tag == "message"
    world = replace(sick.world, converse=converse)
    poison = await sick.put()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DeviceSupervisor(sick.registry, world).run)
        for ward in wards.values():
            nursery.start_soon(ward.welcome)
            await sick.registry.adopt(ward.device)
        for second in range(10):
            await trio.sleep(1.0)
            for ward in others:
                message_id = await ward.put()
                handle = sick.registry.get(ward.device.session_id)
                assert handle is not None
                handle.ring()
                with world.outcomes.watch(message_id) as watch, trio.fail_after(0.5):
                    while watch.state is not RowState.SENT:
                        await watch.changed()
            assert second < 8 or await sick.told(poison) == ("unknown", "poison")
        nursery.cancel_scope.cancel()
    assert sick.crashes == 3
    assert {ward.crashes for ward in others} == {0}
    assert {len(ward.transport.lines) for ward in others} == {1}

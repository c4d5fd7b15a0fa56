"""One look-up for the whole fleet when WhatsApp refuses the client's revision."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.messages import Revised
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import MAILBOX_SIZE, DeviceHandle, DeviceRegistry
from sitpayd.actors.revision import LOOK_UP_EVERY_S, RevisionUnknownError, RevisionWatch
from sitpayd.actors.status import DeviceStatus, StatusBoard
from sitpayd.storage.database import Database
from sitpayd.whatsapp.stanzas.login import ClientInfo
from tests.storage.builders import Tenant, make_tenant

OLD, NEW, NEWEST = 1000, 2000, 3000


class Fleet:
    """Devices in a registry, and a page that may hold a revision."""

    def __init__(self, database: Database, devices: list[Tenant], *, looks: bool = True) -> None:
        self.database = database
        self.registry, self.board = DeviceRegistry(), StatusBoard()
        self.published: int | None = None
        self.takes_s = 0.0
        self.looks: list[float] = []
        self.watch = RevisionWatch(ClientInfo(OLD), self.look_up if looks else None)
        self._devices = devices
        self.handles: list[DeviceHandle] = []

    async def look_up(self) -> int:
        self.looks.append(trio.current_time())
        await trio.sleep(self.takes_s)
        if self.published is None:
            raise RevisionUnknownError("no page")
        return self.published

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.watch.restore(self.database)
        for tenant in self._devices:
            self.handles.append(await self.registry.adopt(tenant.device))
            self.enters(tenant, Phase.OUTDATED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch.run, self.database, self.registry, self.board)
            yield
            nursery.cancel_scope.cancel()

    def enters(self, tenant: Tenant, phase: Phase) -> None:
        device = tenant.device
        self.board.publish(
            DeviceStatus(device.session_id, device.partner_id, phase, None, datetime.now(UTC))
        )

    def told(self) -> list[list[object]]:
        """What came into each mailbox."""
        told: list[list[object]] = []
        for handle in self.handles:
            told.append([])
            while handle.mailbox.statistics().current_buffer_used:
                told[-1].append(handle.mailbox.receive_nowait())
        return told


@pytest.fixture
async def fleet(database: Database) -> Fleet:
    return Fleet(database, [await database.write(make_tenant) for _ in range(3)])


async def test_newer_revision_is_announced_and_told_to_outdated_devices_alone(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    """F-11: a higher revision resumes all."""
    fleet.published = NEW
    async with fleet.running():
        fleet.enters(fleet._devices[1], Phase.CONNECTED)
        assert not fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
        assert fleet.watch.client.revision == NEW
        assert fleet.told() == [[Revised()], [], [Revised()]]
        assert not fleet.watch.alarm


async def test_ten_thousand_refusals_are_one_look_up(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    """F-11: one look-up of the revision for the whole fleet."""
    fleet.published, fleet.takes_s = NEW, 5.0
    async with fleet.running():
        for _ in range(10_000):
            fleet.watch.refused(OLD)
        await trio.sleep(2.0)
        for _ in range(10_000):
            fleet.watch.refused(OLD)
        await trio.sleep(2 * LOOK_UP_EVERY_S)
    assert len(fleet.looks) == 1


async def test_device_refused_with_what_is_old_already_may_dial_at_once(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    fleet.published = NEW
    async with fleet.running():
        fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
        assert fleet.watch.refused(OLD)
        assert not fleet.watch.refused(NEW)


@pytest.mark.parametrize("published", [OLD - 1, OLD, None])
async def test_nothing_newer_is_one_alarm(
    fleet: Fleet, autojump_clock: MockClock, published: int | None
) -> None:
    """F-11: one alarm, not one for each device."""
    fleet.published = published
    with capture_logs() as logs:
        async with fleet.running():
            for _ in range(100):
                fleet.watch.refused(OLD)
            await trio.sleep(10 * LOOK_UP_EVERY_S)
            fleet.watch.refused(OLD)
            await wait_all_tasks_blocked()
            assert fleet.watch.alarm
            assert fleet.watch.client.revision == OLD
            assert fleet.told() == [[], [], []]
    assert [entry["event"] for entry in logs].count("client.outdated") == 1


async def test_look_up_is_repeated_each_hour_until_it_helps(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    fleet.published = OLD
    async with fleet.running():
        fleet.watch.refused(OLD)
        await trio.sleep(2.5 * LOOK_UP_EVERY_S)
        fleet.published = NEW
        await trio.sleep(LOOK_UP_EVERY_S)
        assert fleet.told() == [[Revised()]] * 3
        assert not fleet.watch.alarm
        await trio.sleep(10 * LOOK_UP_EVERY_S)
    began = fleet.looks[0]
    assert [at - began for at in fleet.looks] == [0, 3600, 7200, 10_800]


async def test_refused_newer_revision_waits_for_the_hour(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    fleet.published = NEW
    async with fleet.running():
        fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
        fleet.watch.refused(NEW)
        fleet.published = NEWEST
        await trio.sleep(LOOK_UP_EVERY_S - 1.0)
        assert fleet.watch.alarm
        assert len(fleet.looks) == 1
        await trio.sleep(2.0)
        assert not fleet.watch.alarm
        assert fleet.watch.client.revision == NEWEST


async def test_look_up_that_hangs_is_given_up_after_ten_seconds(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    fleet.published, fleet.takes_s = NEW, 3600.0
    async with fleet.running():
        fleet.watch.refused(OLD)
        await trio.sleep(9.0)
        assert not fleet.watch.alarm
        await trio.sleep(2.0)
        assert fleet.watch.alarm


async def test_without_a_source_there_is_one_alarm_and_nothing_is_asked(
    database: Database, autojump_clock: MockClock
) -> None:
    fleet = Fleet(database, [await database.write(make_tenant)], looks=False)
    with capture_logs() as logs:
        async with fleet.running():
            for _ in range(3):
                fleet.watch.refused(OLD)
                await trio.sleep(LOOK_UP_EVERY_S)
            assert fleet.watch.alarm
    assert [entry["event"] for entry in logs].count("client.outdated") == 1


async def test_what_was_learned_is_announced_after_a_restart(
    database: Database, fleet: Fleet, autojump_clock: MockClock
) -> None:
    fleet.published = NEW
    async with fleet.running():
        fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
    again = RevisionWatch(ClientInfo(OLD))
    await again.restore(database)
    assert again.client.revision == NEW
    # A device that rests since that refusal may dial.
    assert again.refused(None)


async def test_what_was_refused_is_not_tried_again_after_a_restart(
    database: Database, fleet: Fleet, autojump_clock: MockClock
) -> None:
    async with fleet.running():
        fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
    again = RevisionWatch(ClientInfo(OLD))
    await again.restore(database)
    assert not again.refused(None)


async def test_newer_version_of_the_program_wakes_its_devices(
    database: Database, fleet: Fleet, autojump_clock: MockClock
) -> None:
    async with fleet.running():
        fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
    upgraded = RevisionWatch(ClientInfo(NEW))
    await upgraded.restore(database)
    assert upgraded.client.revision == NEW
    assert upgraded.refused(None)


async def test_device_that_does_not_listen_holds_up_nobody(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    fleet.published = NEW
    async with fleet.running():
        for _ in range(MAILBOX_SIZE):
            fleet.handles[0].ring()
        fleet.watch.refused(OLD)
        await wait_all_tasks_blocked()
        deaf, *others = fleet.told()
        assert Revised() not in deaf
        assert others == [[Revised()]] * 2

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.dials import DialBucket
from sitpayd.actors.messages import Remove, StartPairing
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceHandle, DeviceRegistry
from sitpayd.actors.restarts import ESCALATION_MIN_DEVICES
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.supervisor import HEARTBEAT_S, REMIND_S, DeviceSupervisor, EscalationError
from sitpayd.actors.world import World
from sitpayd.storage import devices, outbox, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.inbox import mark_read, receive
from sitpayd.storage.records import DeviceRecord, Incoming
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import DeviceKeys
from tests.actors.builders import some_identity
from tests.storage.builders import NOON, Tenant, a_message


class Ward:
    """A supervisor, and a network in which every dial crashes its actor, or waits for ever."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self.database, self.tenant = database, tenant
        self.registry = DeviceRegistry()
        self.dials: list[float] = []
        self.crashes = True
        self.dying: Callable[[], None] = lambda: None
        self.supervisor = DeviceSupervisor(self.registry, self.world())

    def world(self) -> World:
        return World(
            database=self.database,
            board=StatusBoard(),
            outcomes=Outcomes(),
            url="ws://nowhere",
            root_key=bytes(32),
            limits=None,
            bucket=DialBucket(),
            keygen=trio.CapacityLimiter(1),
            converse=self.converse,
        )

    async def converse(self, *arguments: object) -> None:
        self.dials.append(trio.current_time())
        if self.crashes:
            self.dying()
            raise ZeroDivisionError(len(arguments))
        await trio.sleep_forever()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.supervisor.run)
            yield
            nursery.cancel_scope.cancel()

    async def adopt(self, *, linked: bool) -> DeviceHandle:
        """Take in a device; a linked one dials as soon as it runs."""
        tenant = self.tenant
        record = await self.database.write(
            devices.create_device, tenant.partner.id, tenant.user.id, "Phone"
        )
        if linked:
            await self.link(record)
        return await self.registry.adopt(record)

    async def link(self, record: DeviceRecord) -> None:
        keys = DeviceKeys.generate()
        stored = Credentials(keys, some_identity(keys)).to_bytes()
        await self.database.write(sessions.save_credentials, record.id, stored)

    def status_of(self, handle: DeviceHandle) -> str | None:
        known = self.supervisor._world.board.get(handle.session_id)
        return None if known is None else known.status


@pytest.fixture
def ward(database: Database, tenant: Tenant) -> Ward:
    return Ward(database, tenant)


async def test_adopted_device_gets_its_actor(ward: Ward, autojump_clock: MockClock) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=False)
        await wait_all_tasks_blocked()
        assert ward.status_of(handle) == "unpaired"


async def test_device_that_comes_later_gets_its_actor(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        await trio.sleep(1000.0)
        handle = await ward.adopt(linked=False)
        await wait_all_tasks_blocked()
        assert ward.status_of(handle) == "unpaired"


async def test_crashing_device_is_started_again_with_growing_delay(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        await ward.adopt(linked=True)
        await trio.sleep(70.0)
    delays = [later - earlier for earlier, later in itertools.pairwise(ward.dials)]
    assert delays == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


async def test_device_that_crashes_five_times_in_a_row_is_faulted(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        await trio.sleep(14.0)
        assert len(ward.dials) == 4
        assert ward.status_of(handle) == "connecting"
        await trio.sleep(2.0)
        assert len(ward.dials) == 5
        assert ward.status_of(handle) == "faulted"


async def test_faulted_device_tells_when_it_is_started_again(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        await trio.sleep(16.0)
        known = ward.supervisor._world.board.get(handle.session_id)
        events = handle.recorder.events()
    assert known is not None
    assert known.until == known.since + timedelta(seconds=16)
    told = [(event.kind.value, event.detail) for event in events]
    assert told[:2] == [("faulted", "16"), ("crash", "ZeroDivisionError")]
    assert ("restart", "8") in told


async def test_faulted_device_is_one_alarm(ward: Ward, autojump_clock: MockClock) -> None:
    """F-13: growing delay, FAULTED from the fifth crash in a row with one alarm."""
    with capture_logs() as logs:
        async with ward.running():
            await ward.adopt(linked=True)
            await trio.sleep(3600.0)
    events = [entry["event"] for entry in logs]
    assert len(ward.dials) > 8
    assert events.count("device.crashed") == len(ward.dials)
    assert events.count("device.faulted") == 1


async def test_who_waits_for_a_device_learns_that_it_is_faulted(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        with trio.fail_after(20.0):
            while ward.status_of(handle) != "faulted":
                await handle.changed()


async def test_faulted_device_comes_back(ward: Ward, autojump_clock: MockClock) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        await trio.sleep(20.0)
        ward.crashes = False
        await trio.sleep(20.0)
        assert ward.status_of(handle) == "connecting"


async def test_restart_begins_a_new_life_at_once_and_is_no_crash(
    ward: Ward, autojump_clock: MockClock
) -> None:
    ward.crashes = False
    async with ward.running():
        handle = await ward.adopt(linked=True)
        for lives in range(1, 8):
            await wait_all_tasks_blocked()
            assert ward.dials == [trio.current_time()] * lives
            assert ward.status_of(handle) == "connecting"
            handle.restart()


async def test_restart_ends_the_wait_of_a_faulted_device(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        await trio.sleep(16.0)
        assert ward.status_of(handle) == "faulted"
        ward.crashes = False
        handle.restart()
        await wait_all_tasks_blocked()
        assert ward.dials[-1] == trio.current_time()
        assert ward.status_of(handle) == "connecting"


async def test_restart_of_a_device_that_crashes_meanwhile_is_a_crash(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        ward.dying = handle.restart
        await trio.sleep(10.0)
    delays = [later - earlier for earlier, later in itertools.pairwise(ward.dials)]
    assert delays == pytest.approx([1.0, 2.0, 4.0])


async def test_restart_of_a_device_that_is_gone_does_nothing(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=False)
        await wait_all_tasks_blocked()
        handle.post(Remove())
        await trio.sleep(5.0)
        handle.restart()
        await wait_all_tasks_blocked()
        assert ward.registry.get(handle.session_id) is None


async def test_message_outlives_a_crash(ward: Ward, autojump_clock: MockClock) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        await wait_all_tasks_blocked()
        handle.post(Remove())
        ward.crashes = False
        await trio.sleep(2.0)
        assert handle.mailbox.statistics().current_buffer_used == 0


async def test_crash_does_not_touch_the_siblings(ward: Ward, autojump_clock: MockClock) -> None:
    async with ward.running():
        sibling = await ward.adopt(linked=False)
        await ward.adopt(linked=True)
        await trio.sleep(600.0)
        assert len(ward.dials) > 5
        ward.crashes = False
        sibling.post(StartPairing())
        await wait_all_tasks_blocked()
        assert ward.status_of(sibling) == "pairing"


async def test_many_devices_that_crash_at_once_end_the_supervisor(
    ward: Ward, autojump_clock: MockClock
) -> None:
    with pytest.RaisesGroup(EscalationError, flatten_subgroups=True):
        async with ward.running():
            for _ in range(ESCALATION_MIN_DEVICES):
                await ward.adopt(linked=True)
            await trio.sleep(1.0)


async def test_few_devices_that_crash_at_once_do_not(ward: Ward, autojump_clock: MockClock) -> None:
    async with ward.running():
        for _ in range(ESCALATION_MIN_DEVICES - 1):
            await ward.adopt(linked=True)
        await trio.sleep(1000.0)


async def test_device_that_is_gone_for_good_is_forgotten(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=False)
        await wait_all_tasks_blocked()
        handle.post(Remove())
        await trio.sleep(1.0)
        assert ward.status_of(handle) is None
        assert ward.registry.get(handle.session_id) is None


async def test_device_is_rung_for_a_row_that_nobody_rang_for(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        # Its actor crashes and waits to be started again: nobody clears the flag.
        handle = await ward.adopt(linked=True)
        await trio.sleep(600.0)
        assert not handle.doorbell
        await ward.database.write(outbox.accept, a_message(handle.record))
        await trio.sleep(REMIND_S + 1.0)
        assert handle.doorbell


async def test_device_is_rung_for_read_marks_that_nobody_rang_for(
    ward: Ward, autojump_clock: MockClock
) -> None:
    async with ward.running():
        handle = await ward.adopt(linked=True)
        await trio.sleep(600.0)
        incoming = Incoming("A1", "919876543210", "1@lid", False, "Hi", NOON)
        device_id = handle.record.id
        await ward.database.write(receive, device_id, incoming, sessions={}, identities={})
        page = await ward.database.read(outbox.messages, device_id)
        assert page is not None
        assert not handle.read_bell
        message_id = page.messages[0].message_id
        await ward.database.write(mark_read, device_id, message_id, only=False)
        await trio.sleep(REMIND_S + 1.0)
        assert handle.read_bell


async def test_heartbeat_stays_fresh(ward: Ward, autojump_clock: MockClock) -> None:
    assert ward.supervisor.beat_at < 0
    async with ward.running():
        for _ in range(10):
            await trio.sleep(7.3)
            assert trio.current_time() - ward.supervisor.beat_at <= HEARTBEAT_S

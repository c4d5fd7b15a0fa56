"""F-15: the process's clock, and what is done when the wall clock jumps or the machine slept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sitpayd import clock
from sitpayd.actors.messages import Probe
from sitpayd.actors.registry import MAILBOX_SIZE, DeviceRegistry
from sitpayd.clock import SteadyClock
from sitpayd.errors import StorageFullError
from sitpayd.storage import deadlines, devices, outbox
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.records import Accepted, NewChatHold, Rest, utc_now
from sitpayd.timekeeping import Timekeeper, take_over
from tests.storage.builders import Tenant, a_message, make_tenant, some_vault

HOUR_S = 3600.0
YEAR_S = 365 * 86_400.0
JUMPS = (HOUR_S, -HOUR_S, YEAR_S, -YEAR_S)
TTL = timedelta(hours=2)


class Machine:
    """Two clocks: time that passes, and what somebody set the wall clock to."""

    def __init__(self) -> None:
        self.passed_s = 1000.0
        self.wrong_s = 1_770_000_000.0

    def monotonic(self) -> float:
        return self.passed_s

    def wall(self) -> float:
        return self.passed_s + self.wrong_s


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    steady = SteadyClock(machine.wall, machine.monotonic)
    monkeypatch.setattr(clock, "CLOCK", steady)
    monkeypatch.setattr(clock, "boot_id", lambda: "boot-1")
    return machine


@dataclass
class House:
    """A database with a device, and who keeps the time."""

    database: Database
    tenant: Tenant
    registry: DeviceRegistry
    keeper: Timekeeper

    async def accept(self, ttl: timedelta = TTL) -> Accepted:
        """Take a message."""
        accepted = await self.database.write(outbox.accept, a_message(self.tenant.device), ttl)
        assert isinstance(accepted, Accepted)
        return accepted

    async def expired(self) -> int:
        """Settle what is over; returns how many were."""
        return len(await self.database.write(outbox.expire, utc_now()))


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        registry = DeviceRegistry()
        tenant = await database.write(make_tenant)
        await registry.adopt(tenant.device)
        yield House(database, tenant, registry, Timekeeper(database, registry))


# --- the clock alone ---


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e9, 1e9)), max_size=20))
def test_clock_goes_as_fast_as_time_whatever_the_wall_clock_does(
    steps: list[tuple[float, float]],
) -> None:
    machine = Machine()
    steady = SteadyClock(machine.wall, machine.monotonic)
    for seconds, jump_s in steps:
        before = steady.now()
        machine.passed_s += seconds
        machine.wrong_s += jump_s

        gone = (steady.now() - before).total_seconds()

        assert gone == pytest.approx(seconds, abs=1e-3)


def test_clock_that_follows_shows_what_the_wall_shows() -> None:
    machine = Machine()
    steady = SteadyClock(machine.wall, machine.monotonic)
    machine.wrong_s += HOUR_S
    assert steady.drift() == pytest.approx(HOUR_S)

    steady.follow(steady.drift())

    assert steady.now().timestamp() == pytest.approx(machine.wall())
    assert steady.drift() == pytest.approx(0)
    assert steady.skipped_s == pytest.approx(HOUR_S)


def test_utc_is_that_of_the_wall_clock_at_the_start() -> None:
    assert abs(utc_now().timestamp() - SteadyClock().now().timestamp()) < 5


# --- jumps while running ---


@pytest.mark.parametrize("jump_s", JUMPS)
async def test_jump_ends_no_message_before_its_time_and_none_after_it(
    machine: Machine, jump_s: float
) -> None:
    """F-15: an hour and a year, both ways."""
    async with house() as here:
        await here.accept()
        machine.passed_s += HOUR_S
        machine.wrong_s += jump_s
        assert await here.expired() == 0
        await here.keeper.look()
        assert clock.CLOCK.drift() == pytest.approx(0)
        assert await here.expired() == 0
        machine.passed_s += HOUR_S - 10
        assert await here.expired() == 0
        machine.passed_s += 20
        assert await here.expired() == 1


STEPS = st.one_of(
    st.just(("accept", 0.0)),
    st.tuples(st.just("wait"), st.floats(0, 3 * HOUR_S)),
    st.tuples(st.just("jump"), st.sampled_from(JUMPS)),
    st.tuples(st.sampled_from(("look", "restart")), st.just(0.0)),
)


@given(st.lists(STEPS, max_size=15))
def test_no_message_expires_before_its_ttl_by_the_monotonic_clock(
    steps: list[tuple[str, float]],
) -> None:
    """F-15: nor is any kept for longer, over jumps, restarts and sleeps of the machine."""
    machine, due = Machine(), list[float]()

    async def take(here: House, step: str, seconds: float) -> None:
        match step:
            case "accept":
                await here.accept()
                due.append(machine.passed_s + TTL.total_seconds())
            case "wait":
                machine.passed_s += seconds
            case "jump":
                machine.wrong_s += seconds
            case "look":
                await here.keeper.look()
            case _:
                clock.CLOCK.begin()
                await take_over(here.database)

    async def live() -> None:
        async with house() as here:
            await take_over(here.database)
            for step, seconds in steps:
                await take(here, step, seconds)
                # To the moment it is a matter of rounding.
                if all(abs(at - machine.passed_s) > 0.01 for at in due):
                    over = [at for at in due if at <= machine.passed_s]
                    assert await here.expired() == len(over)
                    del due[: len(over)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "CLOCK", SteadyClock(machine.wall, machine.monotonic))
        patch.setattr(clock, "boot_id", lambda: "boot-1")
        trio.run(live)


@pytest.mark.parametrize("jump_s", JUMPS)
async def test_what_holds_a_device_ends_when_it_would_have(machine: Machine, jump_s: float) -> None:
    async with house() as here:
        device_id, until = here.tenant.device.id, utc_now() + timedelta(seconds=HOUR_S)
        row = await here.accept()
        rest = Rest("banned", "temporary_ban", utc_now(), until)
        await here.database.write(devices.set_rest, device_id, rest)
        await here.database.write(
            devices.hold_new_chats, device_id, NewChatHold("reachout_locked", until)
        )
        await here.database.write(outbox.hold, device_id, row.row.id, until, "paced")
        machine.wrong_s += jump_s
        await here.keeper.look()
        record = await here.database.read(devices.device_by_id, device_id)
        view = await here.database.read(outbox.message, device_id, row.row.message_id)

    moved = until + timedelta(seconds=jump_s)
    assert record is not None
    assert record.rest is not None
    assert record.new_chats is not None
    assert view is not None
    for at in (record.rest.until, record.new_chats.until, view.held_until):
        assert at is not None
        assert abs((at - moved).total_seconds()) < 0.01


async def test_difference_that_is_no_jump_changes_nothing(machine: Machine) -> None:
    async with house() as here:
        machine.wrong_s += 1.5
        await here.keeper.look()
        handle = here.registry.get(here.tenant.device.session_id)
        assert handle is not None
        assert handle.mailbox.statistics().current_buffer_used == 0
    assert clock.CLOCK.drift() == pytest.approx(1.5)


# --- sleep ---


async def test_machine_that_slept_has_every_connection_probed(machine: Machine) -> None:
    """F-15: ten minutes that the monotonic clock did not see."""
    async with house() as here:
        handle = here.registry.get(here.tenant.device.session_id)
        assert handle is not None
        machine.wrong_s += 600
        await here.keeper.look()
        assert handle.mailbox.receive_nowait() == Probe()
        await here.keeper.look()
        assert handle.mailbox.statistics().current_buffer_used == 0


async def test_full_mailbox_stops_no_probe_of_others(machine: Machine) -> None:
    async with house() as here:
        device = await here.database.write(
            devices.create_device, here.tenant.partner.id, here.tenant.user.id, "second"
        )
        other = await here.registry.adopt(device)
        first = here.registry.get(here.tenant.device.session_id)
        assert first is not None
        for _ in range(MAILBOX_SIZE):
            first.post(Probe())
        machine.wrong_s += 600
        await here.keeper.look()
        assert other.mailbox.receive_nowait() == Probe()


async def test_disk_that_is_full_delays_the_clock_and_probes_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(unit: Unit, **_: object) -> None:
        raise StorageFullError("full")

    async with house() as here:
        handle = here.registry.get(here.tenant.device.session_id)
        assert handle is not None
        await here.accept()
        machine.wrong_s += YEAR_S
        with monkeypatch.context() as patch:
            patch.setattr(deadlines, "shift", full)
            for _ in range(3):
                with pytest.raises(StorageFullError):
                    await here.keeper.look()
                assert await here.expired() == 0
        await here.keeper.look()
        assert await here.expired() == 0
        assert handle.mailbox.statistics().current_buffer_used == 1
    assert clock.CLOCK.drift() == pytest.approx(0)


# --- jumps between two processes ---


@pytest.mark.parametrize("jump_s", JUMPS)
async def test_jump_while_the_daemon_is_down_ends_no_message(
    machine: Machine, jump_s: float
) -> None:
    async with house() as here:
        await take_over(here.database)
        await here.accept()
        machine.passed_s += HOUR_S
        machine.wrong_s += jump_s
        clock.CLOCK.begin()
        await take_over(here.database)
        assert await here.expired() == 0
        await here.keeper.look()
        assert await here.expired() == 0
        machine.passed_s += HOUR_S + 10
        assert await here.expired() == 1


async def test_after_another_start_of_the_machine_the_wall_clock_is_believed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house() as here:
        await take_over(here.database)
        await here.accept()
        machine.wrong_s += YEAR_S
        monkeypatch.setattr(clock, "boot_id", lambda: "boot-2")
        clock.CLOCK.begin()
        await take_over(here.database)
        assert clock.CLOCK.drift() == pytest.approx(0)
        assert await here.expired() == 1


async def test_machine_whose_boot_nobody_names_is_believed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "boot_id", lambda: None)
    async with house() as here:
        await take_over(here.database)
        machine.wrong_s += HOUR_S
        await here.keeper.look()
    assert clock.CLOCK.drift() == pytest.approx(0)


def test_boot_is_named_by_the_unit_or_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(clock.BOOT_ID_VARIABLE, raising=False)
    assert clock.boot_id() == clock.BOOT_ID_FILE.read_text().strip()
    monkeypatch.setenv(clock.BOOT_ID_VARIABLE, "named")
    assert clock.boot_id() == "named"
    monkeypatch.setenv(clock.BOOT_ID_VARIABLE, "")
    monkeypatch.setattr(clock, "BOOT_ID_FILE", clock.BOOT_ID_FILE / "hidden")
    assert clock.boot_id() is None

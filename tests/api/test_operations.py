"""What people do to devices over HTTP: pause, resume, reconnect, restart, log out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.failures import BAN_GRACE_S
from sitpayd.actors.messages import Deliver
from sitpayd.actors.phase import RESTING, REVIVABLE, Phase
from sitpayd.actors.registry import MAILBOX_SIZE
from sitpayd.api.operations import OPERATIONS, REDIAL_EVERY_S
from sitpayd.storage import devices
from sitpayd.storage.records import DeviceRecord, Rest
from tests.support.front import ADMIN_KEY, Front, Tenant

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def operate(front: Front, tenant: Tenant, operation: str) -> tuple[int, dict[str, object]]:
    path = f"/partner/devices/{tenant.session_id}/{operation}"
    answer = await front.ask("POST", path, headers=tenant.headers)
    body: dict[str, object] = await answer.get_json()
    return answer.status_code, body


async def stored(front: Front, tenant: Tenant) -> DeviceRecord:
    device = await front.database.read(devices.device_by_id, tenant.actor.handle.record.id)
    assert device is not None
    return device


def done(message: str, status: str) -> tuple[int, dict[str, object]]:
    return 200, {"type": "success", "message": message, "status": status}


async def test_pause_is_stored_and_seen(front: Front, tenant: Tenant) -> None:
    assert await operate(front, tenant, "pause") == done("Device paused", "paused")
    assert (await stored(front, tenant)).desired == "paused"
    answer = await front.send(tenant)
    assert (answer.status_code, (await answer.get_json())["code"]) == (409, "device_paused")


async def test_resume_is_stored_and_seen(front: Front, tenant: Tenant) -> None:
    await operate(front, tenant, "pause")
    assert await operate(front, tenant, "resume") == done("Device resumed", "connecting")
    assert (await stored(front, tenant)).desired == "running"


async def test_logout_is_stored_before_the_actor_hears_of_it(front: Front, tenant: Tenant) -> None:
    tenant.actor.stop()
    await wait_all_tasks_blocked()
    await operate(front, tenant, "logout")
    assert (await stored(front, tenant)).logout_wanted


async def test_logged_out_device_is_still_there(front: Front, tenant: Tenant) -> None:
    assert await operate(front, tenant, "logout") == done("Device is logged out", "logged_out")
    assert await operate(front, tenant, "logout") == done("Device is logged out", "logged_out")
    assert not tenant.actor.logged_out


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_may_be_repeated(
    front: Front, tenant: Tenant, operation: str
) -> None:
    first, _ = await operate(front, tenant, operation)
    second, _ = await operate(front, tenant, operation)
    assert first == second == 200


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_operator_may_do_the_same(front: Front, tenant: Tenant, operation: str) -> None:
    path = f"/admin/devices/{tenant.session_id}/{operation}"
    answer = await front.ask("POST", path, headers={"x-admin-key": ADMIN_KEY})
    assert answer.status_code == 200
    assert (await answer.get_json())["type"] == "success"


@pytest.mark.parametrize("operation", ["pause", "resume", "reconnect", "logout"])
async def test_device_that_is_not_linked_has_nothing_to_be_told(
    front: Front, operation: str
) -> None:
    tenant = await front.tenant(linked=False)
    status, body = await operate(front, tenant, operation)
    assert (status, body["code"]) == (409, "device_unpaired")
    assert (await stored(front, tenant)).desired == "running"


@pytest.mark.parametrize("operation", ["pause", "resume", "reconnect"])
async def test_logged_out_device_needs_a_new_link(
    front: Front, tenant: Tenant, operation: str
) -> None:
    tenant.actor.enter(Phase.LOGGED_OUT, "device_removed")
    status, body = await operate(front, tenant, operation)
    assert (status, body["code"]) == (409, "device_logged_out")


@pytest.mark.parametrize("phase", sorted(REVIVABLE))
async def test_resting_device_is_resumed(front: Front, tenant: Tenant, phase: Phase) -> None:
    tenant.actor.enter(phase, "because")
    assert await operate(front, tenant, "resume") == done("Device resumed", "connecting")


@pytest.mark.parametrize("phase", sorted(RESTING - {Phase.REPLACED}))
async def test_reconnect_does_not_wake_a_resting_device(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    tenant.actor.enter(phase, "because")
    status, body = await operate(front, tenant, "reconnect")
    assert (status, body["code"]) == (409, f"device_{phase}")


async def test_replaced_device_is_reconnected(front: Front, tenant: Tenant) -> None:
    """F-09: the explicit request that REPLACED waits for."""
    tenant.actor.enter(Phase.REPLACED, "replaced")
    assert await operate(front, tenant, "reconnect") == done("Device reconnects", "connecting")


async def test_paused_device_is_not_reconnected_also_where_it_was_replaced(
    front: Front, tenant: Tenant
) -> None:
    tenant.actor.enter(Phase.REPLACED, "replaced")
    await front.database.write(devices.set_desired, tenant.actor.handle.record.id, "paused")
    status, body = await operate(front, tenant, "reconnect")
    assert (status, body["code"]) == (409, "device_paused")


async def test_banned_device_is_not_resumed_before_its_time(front: Front, tenant: Tenant) -> None:
    """F-10: not before an hour after the end that WhatsApp named."""
    tenant.actor.enter(Phase.BANNED, "temporary_ban", age_s=60, for_s=60)
    path = f"/partner/devices/{tenant.session_id}/resume"
    answer = await front.ask("POST", path, headers=tenant.headers)
    body = await answer.get_json()
    assert (answer.status_code, body["code"]) == (409, "device_banned")
    assert body["until"] is not None
    assert BAN_GRACE_S - 60 < int(answer.headers["retry-after"]) <= BAN_GRACE_S

    tenant.actor.enter(Phase.BANNED, "temporary_ban", age_s=60 + BAN_GRACE_S, for_s=60)
    assert await operate(front, tenant, "resume") == done("Device resumed", "connecting")


async def test_restart_ends_this_life_of_the_actor(front: Front, tenant: Tenant) -> None:
    lives: list[str] = []
    async with trio.open_nursery() as nursery:

        async def live() -> None:
            with tenant.actor.handle.life():
                await trio.sleep_forever()
            lives.append("ended")

        nursery.start_soon(live)
        await wait_all_tasks_blocked()
        assert await operate(front, tenant, "restart") == done("Device restarted", "connected")
    assert lives == ["ended"]


async def test_reconnect_of_a_faulted_device_is_a_restart(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.enter(Phase.FAULTED, "crashing")
    async with trio.open_nursery() as nursery:

        async def delay() -> None:
            with tenant.actor.handle.life():
                await trio.sleep_forever()
            tenant.actor.enter(Phase.CONNECTING)

        nursery.start_soon(delay)
        await wait_all_tasks_blocked()
        assert await operate(front, tenant, "reconnect") == done("Device reconnects", "connecting")


async def test_device_does_not_log_in_anew_as_often_as_a_program_asks(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.stop()
    await wait_all_tasks_blocked()
    mailbox = tenant.actor.handle.mailbox

    async def asked(operation: str, times: int) -> int:
        for _ in range(times):
            assert (await operate(front, tenant, operation))[0] == 200
        return mailbox.statistics().current_buffer_used

    assert await asked("reconnect", 5) == 1
    await trio.sleep(REDIAL_EVERY_S)
    assert await asked("reconnect", 5) == 2


async def test_wish_stands_although_the_mailbox_stays_full(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.stop()
    await wait_all_tasks_blocked()
    for _ in range(MAILBOX_SIZE):
        tenant.actor.handle.post(Deliver())
    status, _ = await operate(front, tenant, "pause")
    assert status == 200
    assert (await stored(front, tenant)).desired == "paused"


async def test_device_that_is_gone_is_not_found(front: Front, tenant: Tenant) -> None:
    front.registry.release(tenant.session_id)
    status, body = await operate(front, tenant, "pause")
    assert (status, body["code"]) == (404, "not_found")


async def test_rest_is_told_before_the_pause_where_the_actor_said_nothing_yet(
    front: Front, tenant: Tenant
) -> None:
    device_id = tenant.actor.handle.record.id
    await front.database.write(devices.set_desired, device_id, "paused")
    await front.database.write(devices.set_rest, device_id, Rest("outdated", "x", NOON))
    front.board.remove(tenant.session_id, NOON)
    path = f"/partner/devices/{tenant.session_id}/status"
    answer = await front.ask("GET", path, headers=tenant.headers)
    assert (await answer.get_json())["status"] == "outdated"

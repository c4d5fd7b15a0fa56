from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd import log
from sitpayd.actors.messages import Remove
from sitpayd.actors.registry import MAILBOX_SIZE
from sitpayd.storage import devices
from sitpayd.storage.records import Rest
from tests.support.front import PHONE, Front, Tenant

SINCE = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything that is logged."""
    stream = io.StringIO()
    hook = sys.excepthook
    log.configure("info", "text", stream)
    yield stream
    log.configure("info", "text")
    sys.excepthook = hook


async def status_of(front: Front, tenant: Tenant) -> dict[str, object]:
    """What the status route answers."""
    answer = await front.ask(
        "GET", f"/partner/devices/{tenant.session_id}/status", headers=tenant.headers
    )
    body: dict[str, object] = await answer.get_json()
    return body


async def forget(front: Front, tenant: Tenant) -> int:
    """Make the board as after a start, before the device's actor has said anything."""
    front.board.remove(tenant.session_id, SINCE)
    return tenant.actor.handle.record.id


async def test_linked_device_without_word_from_its_actor_is_connecting(
    front: Front, tenant: Tenant
) -> None:
    await forget(front, tenant)

    body = await status_of(front, tenant)

    assert (body["status"], body["phone"]) == ("connecting", PHONE)


async def test_unlinked_device_without_word_from_its_actor_is_unpaired(front: Front) -> None:
    tenant = await front.tenant(linked=False)
    await forget(front, tenant)

    assert (await status_of(front, tenant))["status"] == "unpaired"


async def test_resting_device_without_word_from_its_actor_rests(
    front: Front, tenant: Tenant
) -> None:
    device_id = await forget(front, tenant)
    await front.database.write(
        devices.set_rest, device_id, Rest("banned", "temporary_ban", SINCE, SINCE)
    )

    body = await status_of(front, tenant)

    assert (body["status"], body["reason"]) == ("banned", "temporary_ban")
    assert body["since"] == body["until"] == SINCE.isoformat()


async def test_paused_device_without_word_from_its_actor_is_paused(
    front: Front, tenant: Tenant
) -> None:
    device_id = await forget(front, tenant)
    await front.database.write(devices.set_desired, device_id, "paused")

    assert (await status_of(front, tenant))["status"] == "paused"


async def test_removal_is_complete_although_the_mailbox_stays_full(
    lines: io.StringIO, front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.stop()
    await wait_all_tasks_blocked()
    for _ in range(MAILBOX_SIZE):
        tenant.actor.handle.post(Remove())

    answer = await front.ask(
        "DELETE", f"/partner/devices/{tenant.session_id}", headers=tenant.headers
    )

    assert answer.status_code == 200
    assert (await front.send(tenant)).status_code == 401
    assert "event=device.told_later" in lines.getvalue()


async def test_device_without_an_actor_is_removed(front: Front, tenant: Tenant) -> None:
    front.registry.release(tenant.session_id)

    answer = await front.ask(
        "DELETE", f"/partner/devices/{tenant.session_id}", headers=tenant.headers
    )

    assert answer.status_code == 200
    assert (await front.send(tenant)).status_code == 401


async def test_message_of_a_device_without_an_actor_waits_in_the_database(
    front: Front, tenant: Tenant
) -> None:
    front.registry.release(tenant.session_id)

    answer = await front.send(tenant, headers={"Prefer": "respond-async"})

    assert answer.status_code == 202


async def test_many_users_are_all_listed(
    front: Front, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        user = {"label": str(number), "email": "e@x.com"}
        await front.post("/partner/users", user, tenant.headers)
    read = front.database.read

    async def in_small_pages(operation: Callable[..., object], *args: object) -> object:
        found = await read(operation, *args)
        return found[:2] if isinstance(found, list) else found

    monkeypatch.setattr(front.database, "read", in_small_pages)
    answer = await front.ask("GET", "/partner/users", headers=tenant.headers)

    users = (await answer.get_json())["users"]
    assert [user["label"] for user in users] == ["John Doe", "0", "1", "2", "3", "4"]

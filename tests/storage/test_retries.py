from __future__ import annotations

from datetime import timedelta

from sitpayd.storage.database import Database
from sitpayd.storage.retries import forget_request, forget_requests, note_request, requests_of
from tests.storage.builders import Clock, Tenant, make_tenant

NAME = "123@lid|3EB0AA"


async def test_message_was_asked_for_as_often_as_was_noted(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    assert await database.read(requests_of, device_id, NAME) == 0
    await database.write(note_request, device_id, NAME, 1)
    await database.write(note_request, device_id, NAME, 3)
    assert await database.read(requests_of, device_id, NAME) == 3
    assert await database.read(requests_of, device_id, "124@lid|3EB0AA") == 0


async def test_message_that_could_be_read_is_forgotten(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(note_request, device_id, NAME, 1)
    await database.write(forget_request, device_id, NAME)
    await database.write(forget_request, device_id, NAME)
    assert await database.read(requests_of, device_id, NAME) == 0


async def test_devices_keep_their_requests_apart(database: Database, tenant: Tenant) -> None:
    other = (await database.write(make_tenant, "Other")).device.id
    await database.write(note_request, tenant.device.id, NAME, 2)
    assert await database.read(requests_of, other, NAME) == 0


async def test_old_requests_are_forgotten_in_portions(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    device_id = tenant.device.id
    for number in range(3):
        await database.write(note_request, device_id, f"old {number}", 1)
    clock.forward(days=14)
    await database.write(note_request, device_id, "young", 1)
    before = clock.now - timedelta(days=1)
    assert await database.write(forget_requests, before, 2) == 2
    assert await database.write(forget_requests, before, 2) == 1
    assert await database.write(forget_requests, before, 2) == 0
    assert await database.read(requests_of, device_id, "young") == 1

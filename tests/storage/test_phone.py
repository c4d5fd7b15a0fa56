"""What the phone tells: keys of the app state, and notices that wait."""

from __future__ import annotations

from datetime import timedelta

from sitpayd.storage import phone, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.phone import MAX_KEY_LEN
from sitpayd.storage.records import SharedKey, Told
from tests.storage.builders import NOON, Clock, Tenant, make_tenant


async def keys(database: Database, tenant: Tenant) -> list[SharedKey]:
    return await database.read(phone.shared_keys, tenant.device.id)


async def test_key_gives_way_to_a_newer_one_alone(database: Database, tenant: Tenant) -> None:
    for timestamp, data in ((5, b"first"), (4, b"older"), (5, b"same"), (6, b"newer")):
        shared = Told(keys=(SharedKey(b"id", data, timestamp),))
        await database.write(phone.keep_told, tenant.device.id, "3EB0", shared)
    assert await keys(database, tenant) == [SharedKey(b"id", b"newer", 6)]


async def test_keys_stand_side_by_side(database: Database, tenant: Tenant) -> None:
    shared = (SharedKey(b"b", b"two", 2), SharedKey(b"a", b"one", 1))
    await database.write(phone.keep_told, tenant.device.id, "3EB0", Told(keys=shared))
    assert await keys(database, tenant) == [shared[1], shared[0]]


async def test_key_that_cannot_be_one_is_passed_over(database: Database, tenant: Tenant) -> None:
    shared = (
        SharedKey(b"", b"data", 1),
        SharedKey(b"id", b"", 1),
        SharedKey(b"id", b"data", -1),
        SharedKey(b"id", bytes(MAX_KEY_LEN + 1), 1),
        SharedKey(b"good", b"data", 0),
    )
    await database.write(phone.keep_told, tenant.device.id, "3EB0", Told(keys=shared))
    assert await keys(database, tenant) == [shared[-1]]


async def test_notice_waits_until_it_is_forgotten(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    device_id = tenant.device.id
    assert not await database.read(phone.has_notices, device_id)
    assert await database.read(phone.next_notice, device_id) is None
    for _ in range(2):  # as the server sends it again
        await database.write(phone.keep_told, device_id, "3EB0", Told(notice=b"notice"))
    waiting = await database.read(phone.next_notice, device_id)
    assert waiting is not None
    assert (waiting.notice, waiting.attempts, waiting.due_at) == (b"notice", 0, NOON)
    await database.write(phone.forget_notice, device_id, waiting.id)
    assert not await database.read(phone.has_notices, device_id)


async def test_notice_that_failed_comes_behind_the_others(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    for name in ("one", "two"):
        await database.write(phone.keep_told, device_id, name, Told(notice=name.encode()))
    first = await database.read(phone.next_notice, device_id)
    assert first is not None
    await database.write(phone.put_off, device_id, first.id, timedelta(minutes=1))
    second = await database.read(phone.next_notice, device_id)
    assert second is not None
    assert second.notice == b"two"
    await database.write(phone.forget_notice, device_id, second.id)
    again = await database.read(phone.next_notice, device_id)
    assert again is not None
    assert (again.attempts, again.due_at) == (1, NOON + timedelta(minutes=1))


async def test_phone_cannot_fill_the_disk_with_notices(database: Database, tenant: Tenant) -> None:
    for number in range(phone.MAX_NOTICES + 3):
        told = Told(notice=b"notice")
        await database.write(phone.keep_told, tenant.device.id, f"3EB0{number}", told)
    for _ in range(phone.MAX_NOTICES):
        waiting = await database.read(phone.next_notice, tenant.device.id)
        assert waiting is not None
        await database.write(phone.forget_notice, tenant.device.id, waiting.id)
    assert not await database.read(phone.has_notices, tenant.device.id)


async def test_notice_of_another_device_is_left_alone(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    await database.write(phone.keep_told, other.device.id, "3EB0", Told(notice=b"notice"))
    waiting = await database.read(phone.next_notice, other.device.id)
    assert waiting is not None
    await database.write(phone.put_off, tenant.device.id, waiting.id, timedelta(days=1))
    await database.write(phone.forget_notice, tenant.device.id, waiting.id)
    assert await database.read(phone.next_notice, other.device.id) == waiting


async def test_what_the_phone_told_goes_with_the_login(database: Database, tenant: Tenant) -> None:
    told = Told((SharedKey(b"id", b"data", 1),), b"notice")
    await database.write(phone.keep_told, tenant.device.id, "3EB0", told)
    await database.write(sessions.start_anew, tenant.device.id, b"fresh")
    assert await keys(database, tenant) == []
    assert not await database.read(phone.has_notices, tenant.device.id)


def test_keys_do_not_show() -> None:
    assert "secret" not in repr(SharedKey(b"id", b"secret", 1))
    assert "secret" not in repr(Told((SharedKey(b"id", b"secret", 1),), b"secret"))

"""What is remembered of a linked account, by name."""

from __future__ import annotations

from sitpayd.storage import devices
from sitpayd.storage.account import drop_fact, fact, facts, set_fact
from sitpayd.storage.database import Database
from sitpayd.storage.records import DIRTY_FACT, PROPS_FACT, ROUTING_FACT
from tests.storage.builders import Tenant, make_tenant

OF_THE_LOGIN = (ROUTING_FACT, PROPS_FACT, f"{DIRTY_FACT}regular_high")
OF_THE_ACCOUNT = "push_name"


async def remember(database: Database, device_id: int) -> None:
    for name in (*OF_THE_LOGIN, OF_THE_ACCOUNT):
        await database.write(set_fact, device_id, name, name.encode())


async def test_fact_is_kept_replaced_and_dropped(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    assert await database.read(fact, device_id, ROUTING_FACT) is None
    await database.write(set_fact, device_id, ROUTING_FACT, b"one")
    await database.write(set_fact, device_id, ROUTING_FACT, b"two")
    assert await database.read(fact, device_id, ROUTING_FACT) == b"two"
    await database.write(drop_fact, device_id, ROUTING_FACT)
    assert await database.read(fact, device_id, ROUTING_FACT) is None


async def test_facts_are_each_devices_own(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Another")
    await database.write(set_fact, tenant.device.id, PROPS_FACT, b"props")
    assert await database.read(fact, other.device.id, PROPS_FACT) is None


async def test_several_facts_are_looked_up_at_once(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(set_fact, device_id, PROPS_FACT, b"props")
    found = await database.read(facts, device_id, (PROPS_FACT, ROUTING_FACT))
    assert found == {PROPS_FACT: b"props"}


async def test_what_a_login_was_told_ends_with_it(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await remember(database, device_id)
    await database.write(devices.start_anew, device_id, b"credentials")
    assert await database.read(facts, device_id, OF_THE_LOGIN) == {}
    assert await database.read(fact, device_id, OF_THE_ACCOUNT) == OF_THE_ACCOUNT.encode()


async def test_forgotten_device_keeps_no_fact(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await remember(database, device_id)
    await database.write(devices.forget_keys, device_id)
    assert await database.read(facts, device_id, (*OF_THE_LOGIN, OF_THE_ACCOUNT)) == {}

from __future__ import annotations

import pytest

from sitpayd.errors import SealError
from sitpayd.storage import devices
from sitpayd.storage.account import fact, set_fact
from sitpayd.storage.database import Database, Unit
from tests.storage.builders import Tenant, make_tenant


async def test_fact_is_found_by_device_and_name(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    await database.write(set_fact, tenant.device.id, "push_name", b"Ada")
    assert await database.read(fact, tenant.device.id, "push_name") == b"Ada"
    assert await database.read(fact, tenant.device.id, "routing_info") is None
    assert await database.read(fact, other.device.id, "push_name") is None


async def test_later_fact_takes_the_place_of_the_one_before(
    database: Database, tenant: Tenant
) -> None:
    for value in (b"Ada", b"", b"Ada L."):
        await database.write(set_fact, tenant.device.id, "push_name", value)
        assert await database.read(fact, tenant.device.id, "push_name") == value


async def test_fact_opens_at_its_own_place_only(database: Database, tenant: Tenant) -> None:
    def move(unit: Unit) -> None:
        unit.run("UPDATE account_fact SET name = 'nct_salt'")

    await database.write(set_fact, tenant.device.id, "push_name", b"Ada")
    await database.write(move)
    with pytest.raises(SealError):
        await database.read(fact, tenant.device.id, "nct_salt")


async def test_facts_go_with_the_keys(database: Database, tenant: Tenant) -> None:
    await database.write(set_fact, tenant.device.id, "push_name", b"Ada")
    await database.write(devices.forget_keys, tenant.device.id)
    assert await database.read(fact, tenant.device.id, "push_name") is None

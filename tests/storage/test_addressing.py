from __future__ import annotations

from sitpayd.storage.addressing import Addressing, address_by_number, addressing_of
from sitpayd.storage.database import Database
from sitpayd.storage.sessions import learn_mapping
from tests.storage.builders import Tenant, make_tenant, merged

PN, LID = "919876543210", "123456789012345"


async def test_person_is_addressed_by_lid_unless_something_else_is_said(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    assert await database.read(addressing_of, device_id, PN) == Addressing(None, False)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(addressing_of, device_id, PN) == Addressing(LID, False)
    await database.write(address_by_number, device_id, PN, True)
    assert await database.read(addressing_of, device_id, PN) == Addressing(LID, True)
    await database.write(address_by_number, device_id, PN, False)
    assert await database.read(addressing_of, device_id, PN) == Addressing(LID, False)


async def test_news_of_the_lid_makes_it_the_address_again(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(address_by_number, device_id, PN, True)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(addressing_of, device_id, PN) == Addressing(LID, False)
    await database.write(address_by_number, device_id, PN, True)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(addressing_of, device_id, PN) == Addressing(LID, True)
    await database.write(learn_mapping, device_id, PN, "another", merged)
    assert await database.read(addressing_of, device_id, PN) == Addressing("another", False)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(addressing_of, device_id, PN) == Addressing(LID, False)


async def test_choice_for_one_is_none_for_others(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    other = (await database.write(make_tenant, "Other")).device.id
    await database.write(address_by_number, device_id, PN, True)
    assert await database.read(addressing_of, device_id, "1") == Addressing(None, False)
    assert await database.read(addressing_of, other, PN) == Addressing(None, False)

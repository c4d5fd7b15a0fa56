from __future__ import annotations

from sitpayd.storage.database import Database
from sitpayd.storage.devices import create_device, remove_device
from sitpayd.storage.outbox import accept, arm, mark_sent
from sitpayd.storage.partners import (
    create_partner,
    create_user,
    partner_by_key,
    partner_stats,
    user_by_token,
    users_of,
)
from sitpayd.storage.records import Accepted, PartnerStats
from sitpayd.storage.vault import is_token, new_token
from tests.storage.builders import NOON, Tenant, a_message, make_tenant


async def test_a_partner_is_found_by_its_key(database: Database) -> None:
    partner, key = await database.write(create_partner, "ABC", "abc@reseller.com", "a.example")
    assert is_token("pk", key)
    assert (partner.name, partner.email, partner.domain) == ("ABC", "abc@reseller.com", "a.example")
    assert partner.created_at == NOON
    assert await database.read(partner_by_key, key) == partner


async def test_a_known_email_gives_a_new_partner(database: Database) -> None:
    first, first_key = await database.write(create_partner, "A", "same@example.com", "")
    second, second_key = await database.write(create_partner, "B", "same@example.com", "")
    assert first.id != second.id
    assert first_key != second_key


async def test_an_unknown_or_malformed_key_is_nobody(database: Database, tenant: Tenant) -> None:
    assert await database.read(partner_by_key, new_token("pk")) is None
    assert await database.read(partner_by_key, tenant.key[:-1]) is None
    assert await database.read(partner_by_key, tenant.user.token) is None


async def test_a_user_is_found_by_token_within_its_partner_only(
    database: Database, tenant: Tenant
) -> None:
    stranger = await database.write(make_tenant, "Other")
    token = tenant.user.token
    assert is_token("pu", token)
    assert await database.read(user_by_token, tenant.partner.id, token) == tenant.user
    assert await database.read(user_by_token, stranger.partner.id, token) is None
    assert await database.read(user_by_token, tenant.partner.id, new_token("pu")) is None
    assert await database.read(user_by_token, tenant.partner.id, tenant.key) is None


async def test_users_are_listed_in_order_and_in_pages(database: Database, tenant: Tenant) -> None:
    await database.write(make_tenant, "Other")
    more = [
        await database.write(create_user, tenant.partner.id, f"user {number}", "u@example.com")
        for number in range(3)
    ]
    everyone = [tenant.user, *more]
    assert await database.read(users_of, tenant.partner.id) == everyone
    page = await database.read(users_of, tenant.partner.id, limit=2)
    rest = await database.read(users_of, tenant.partner.id, after=page[-1].id)
    assert (page, rest) == (everyone[:2], everyone[2:])


async def test_stats_count_one_partner_and_messages_of_removed_devices(
    database: Database, tenant: Tenant
) -> None:
    await database.write(make_tenant, "Other")
    second = await database.write(create_device, tenant.partner.id, tenant.user.id, "two")
    message = a_message(second)
    accepted = await database.write(accept, message)
    assert isinstance(accepted, Accepted)
    await database.write(
        arm, second.id, accepted.row.id, b"stanza",
        sessions={}, identities={}, participants=b"", phash=None,
    )  # fmt: skip
    await database.write(mark_sent, second.id, message.wa_message_id, NOON)
    assert await database.read(partner_stats, tenant.partner.id) == PartnerStats(1, 2, 1)
    await database.write(remove_device, second.id)
    assert await database.read(partner_stats, tenant.partner.id) == PartnerStats(1, 1, 1)


async def test_records_do_not_show_their_tokens(tenant: Tenant) -> None:
    assert tenant.user.token not in repr(tenant.user)
    assert tenant.device.token not in repr(tenant.device)

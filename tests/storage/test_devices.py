from __future__ import annotations

from datetime import timedelta

import pytest

from sitpayd.storage.database import Database, Unit
from sitpayd.storage.devices import (
    create_device,
    device_by_id,
    device_by_session_id,
    device_by_token,
    devices_of_user,
    devices_to_forget,
    devices_to_run,
    forget_keys,
    remove_device,
    set_desired,
    set_phone,
    set_proxy,
    set_rest,
    start_anew,
    want_logout,
)
from sitpayd.storage.inbox import receive, seen_ciphertext
from sitpayd.storage.outbox import accept, arm, message, messages
from sitpayd.storage.partners import create_user
from sitpayd.storage.records import Accepted, DeviceGone, Incoming, Rest
from sitpayd.storage.sessions import (
    add_prekeys,
    highest_prekey_id,
    learn_mapping,
    lid_of,
    load_credentials,
    load_identities,
    load_sessions,
    prekey,
    save_credentials,
)
from sitpayd.storage.vault import is_token, new_session_id, new_token
from tests.storage.builders import NOON, Clock, Tenant, a_message, make_tenant, merged

RESTING = Rest("banned", "temporary_ban", NOON, NOON.replace(hour=18))


async def test_a_new_device_runs_and_has_ids_of_its_own(database: Database, tenant: Tenant) -> None:
    device = tenant.device
    assert is_token("dt", device.token)
    assert device.session_id.startswith("wa_")
    assert (device.desired, device.rest, device.phone, device.removed_at) == (
        "running", None, None, None,
    )  # fmt: skip
    assert await database.read(device_by_id, device.id) == device


async def test_proxy_of_a_device_is_kept_sealed(database: Database, tenant: Tenant) -> None:
    url = "http://user:secret@proxy.test:3128"
    assert await database.write(set_proxy, tenant.device.id, url)
    record = await database.read(device_by_id, tenant.device.id)
    assert record is not None
    assert record.proxy == url
    assert "secret" not in repr(record)

    def stored(unit: Unit) -> bytes | None:
        return unit.value(bytes, "SELECT proxy_sealed FROM device")

    assert b"secret" not in (await database.read(stored) or b"")
    assert await database.write(set_proxy, tenant.device.id, None)
    assert await database.read(device_by_id, tenant.device.id) == tenant.device


async def test_device_is_made_with_its_proxy(database: Database, tenant: Tenant) -> None:
    device = await database.write(
        create_device, tenant.partner.id, tenant.user.id, "d", proxy="socks5://proxy.test:1080"
    )
    assert await database.read(device_by_id, device.id) == device
    assert device.proxy == "socks5://proxy.test:1080"


async def test_removed_device_keeps_its_proxy_for_the_logout_and_no_longer(
    database: Database, tenant: Tenant
) -> None:
    await database.write(set_proxy, tenant.device.id, "http://proxy.test:80")
    await database.write(remove_device, tenant.device.id)
    assert not await database.write(set_proxy, tenant.device.id, None)
    record = await database.read(device_by_id, tenant.device.id)
    assert record is not None
    assert record.proxy == "http://proxy.test:80"
    await database.write(forget_keys, tenant.device.id)
    record = await database.read(device_by_id, tenant.device.id)
    assert record is not None
    assert record.proxy is None


async def test_a_device_is_found_by_session_id_within_its_partner_only(
    database: Database, tenant: Tenant
) -> None:
    stranger = await database.write(make_tenant, "Other")
    session_id = tenant.device.session_id
    assert await database.read(device_by_session_id, tenant.partner.id, session_id) == tenant.device
    assert await database.read(device_by_session_id, stranger.partner.id, session_id) is None
    unknown = new_session_id()
    assert await database.read(device_by_session_id, tenant.partner.id, unknown) is None


async def test_a_device_is_found_by_its_token(database: Database, tenant: Tenant) -> None:
    assert await database.read(device_by_token, tenant.device.token) == tenant.device
    assert await database.read(device_by_token, new_token("dt")) is None
    assert await database.read(device_by_token, tenant.user.token) is None


async def test_a_device_cannot_belong_to_another_partners_user(
    database: Database, tenant: Tenant
) -> None:
    stranger = await database.write(make_tenant, "Other")
    with pytest.raises(Exception, match="FOREIGN KEY"):
        await database.write(create_device, stranger.partner.id, tenant.user.id, "mixed")


async def test_devices_are_listed_by_user_partner_and_in_pages(
    database: Database, tenant: Tenant
) -> None:
    stranger = await database.write(make_tenant, "Other")
    partner_id, user_id = tenant.partner.id, tenant.user.id
    colleague = await database.write(create_user, partner_id, "Jane", "jane@example.com")
    second = await database.write(create_device, partner_id, user_id, "two")
    third = await database.write(create_device, partner_id, colleague.id, "three")
    gone = await database.write(create_device, partner_id, user_id, "gone")
    await database.write(remove_device, gone.id)
    assert await database.read(devices_of_user, partner_id, user_id) == [tenant.device, second]
    assert await database.read(devices_of_user, stranger.partner.id, user_id) == []
    assert await database.read(devices_of_user, partner_id, user_id, tenant.device.id) == [second]
    assert await database.read(devices_of_user, partner_id, colleague.id) == [third]


async def test_rest_phone_and_wish_are_kept(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(set_rest, device_id, RESTING)
    await database.write(set_phone, device_id, "919876543210")
    assert await database.write(set_desired, device_id, "paused")
    device = await database.read(device_by_id, device_id)
    assert device is not None
    assert (device.rest, device.phone, device.desired) == (RESTING, "919876543210", "paused")


async def test_rest_and_phone_can_be_cleared(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(set_rest, device_id, Rest("replaced", "conflict", NOON))
    await database.write(set_phone, device_id, "919876543210")
    await database.write(set_rest, device_id, None)
    await database.write(set_phone, device_id, None)
    assert await database.read(device_by_id, device_id) == tenant.device


async def test_removing_kills_the_tokens_at_once_and_is_final(
    database: Database, tenant: Tenant
) -> None:
    device = tenant.device
    assert await database.write(remove_device, device.id)
    assert not await database.write(remove_device, device.id)
    assert not await database.write(set_desired, device.id, "running")
    assert await database.read(device_by_token, device.token) is None
    session_id = device.session_id
    assert await database.read(device_by_session_id, tenant.partner.id, session_id) is None
    assert isinstance(await database.write(accept, a_message(device)), DeviceGone)
    removed = await database.read(device_by_id, device.id)
    assert removed is not None
    assert (removed.token, removed.desired, removed.removed_at) == ("", "removed", NOON)


async def test_paused_devices_need_an_actor_and_logged_out_removed_ones_none(
    database: Database, tenant: Tenant
) -> None:
    partner_id, user_id = tenant.partner.id, tenant.user.id
    resting, paused, never_linked, leaving = [
        await database.write(create_device, partner_id, user_id, name) for name in "abcd"
    ]
    await database.write(set_rest, resting.id, RESTING)
    await database.write(set_desired, paused.id, "paused")
    await database.write(remove_device, never_linked.id)
    await database.write(save_credentials, leaving.id, b"credentials")
    await database.write(remove_device, leaving.id)

    async def to_run() -> list[int]:
        return [device.id for device in await database.read(devices_to_run)]

    assert await to_run() == [tenant.device.id, resting.id, paused.id, leaving.id]
    await database.write(forget_keys, leaving.id)
    assert await to_run() == [tenant.device.id, resting.id, paused.id]


async def test_wished_logout_is_kept_until_the_device_is_logged_out(
    database: Database, tenant: Tenant
) -> None:
    async def wished() -> bool:
        device = await database.read(device_by_id, tenant.device.id)
        assert device is not None
        return device.logout_wanted

    assert await database.write(want_logout, tenant.device.id)
    await database.write(set_rest, tenant.device.id, Rest("replaced", "conflict", NOON))
    assert await wished()
    await database.write(set_rest, tenant.device.id, None)
    assert await wished()
    await database.write(set_rest, tenant.device.id, Rest("logged_out", "logged_out_here", NOON))
    assert not await wished()


async def test_removed_device_needs_no_wished_logout(database: Database, tenant: Tenant) -> None:
    await database.write(remove_device, tenant.device.id)
    assert not await database.write(want_logout, tenant.device.id)


async def test_being_linked_anew_ends_rest_and_wishes(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(want_logout, device_id)
    await database.write(set_desired, device_id, "paused")
    await database.write(set_rest, device_id, Rest("banned", "banned", NOON))
    await database.write(start_anew, device_id, b"fresh")
    assert await database.read(device_by_id, device_id) == tenant.device
    assert await database.read(load_credentials, device_id) == b"fresh"


async def test_keys_are_forgotten_also_after_the_second_link(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    for _ in range(2):
        await database.write(start_anew, device_id, b"credentials")
        await database.write(set_rest, device_id, Rest("logged_out", "device_removed", NOON))
        (due,) = await database.read(devices_to_forget, NOON + timedelta(days=1))
        await database.write(forget_keys, due.id)
        assert await database.read(devices_to_forget, NOON + timedelta(days=1)) == []


def fill(unit: Unit, device_id: int) -> None:
    save_credentials(unit, device_id, b"credentials")
    add_prekeys(unit, device_id, [(1, b"one"), (2, b"two")])
    learn_mapping(unit, device_id, "919876543210", "123@lid", merged)
    receive(
        unit,
        device_id,
        Incoming("A1", "123@lid", "123@lid", False, "incoming text", NOON, "Someone"),
        ciphertext_digests=[b"d" * 32],
        sessions={("123@lid", 0): b"session"},
        identities={("123@lid", 0): b"identity"},
    )


async def test_forgetting_takes_keys_and_texts_and_leaves_what_happened(
    database: Database, tenant: Tenant
) -> None:
    device = tenant.device
    waiting, armed = a_message(device), a_message(device)
    await database.write(fill, device.id)
    first = await database.write(accept, armed)
    await database.write(accept, waiting)
    assert isinstance(first, Accepted)
    await database.write(
        arm, device.id, first.row.id, b"stanza",
        sessions={}, identities={}, participants=b"those", phash=None,
    )  # fmt: skip
    await database.write(set_phone, device.id, "919876543210")
    await database.write(remove_device, device.id)
    await database.write(forget_keys, device.id)

    assert await database.read(load_credentials, device.id) is None
    assert await database.read(prekey, device.id, 1) is None
    assert await database.read(load_sessions, device.id, "123@lid") == {}
    assert await database.read(load_identities, device.id, "123@lid") == {}
    assert await database.read(lid_of, device.id, "919876543210") is None
    assert not await database.read(seen_ciphertext, device.id, b"d" * 32)
    # An id given to the server once is not given again, even to a new pairing.
    assert await database.read(highest_prekey_id, device.id) == 2
    page = await database.read(messages, device.id)
    assert page is not None
    assert [(view.direction, view.state, view.text) for view in page.messages] == [
        ("in", "received", None),
        ("out", "unknown", None),
        ("out", "failed", None),
    ]
    failed = await database.read(message, device.id, waiting.message_id)
    assert failed is not None
    assert failed.reason == "device_logged_out"
    forgotten = await database.read(device_by_id, device.id)
    assert forgotten is not None
    assert forgotten.phone is None


async def test_forgetting_one_device_leaves_another_alone(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    await database.write(fill, tenant.device.id)
    await database.write(fill, other.device.id)
    await database.write(forget_keys, tenant.device.id)
    assert await database.read(load_credentials, other.device.id) == b"credentials"
    assert await database.read(load_sessions, other.device.id, "123@lid") == {0: b"session"}
    page = await database.read(messages, other.device.id)
    assert page is not None
    assert page.messages[0].text == "incoming text"


async def test_keys_are_due_a_time_after_removal_or_logout(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    partner_id, user_id = tenant.partner.id, tenant.user.id
    logged_out = await database.write(create_device, partner_id, user_id, "logged out")
    banned = await database.write(create_device, partner_id, user_id, "banned")
    await database.write(remove_device, tenant.device.id)
    await database.write(set_rest, logged_out.id, Rest("logged_out", "device_removed", NOON))
    await database.write(set_rest, banned.id, RESTING)

    async def due() -> list[int]:
        before = clock.now.replace(day=clock.now.day - 1)
        return [device.id for device in await database.read(devices_to_forget, before)]

    assert await due() == []
    clock.forward(hours=25)
    assert await due() == [tenant.device.id, logged_out.id]
    await database.write(forget_keys, tenant.device.id)
    await database.write(forget_keys, logged_out.id)
    assert await due() == []
    # Linked again: from then on there are keys to forget once more.
    await database.write(save_credentials, logged_out.id, b"new credentials")
    assert await due() == [logged_out.id]

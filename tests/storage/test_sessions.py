from __future__ import annotations

import sqlite3

import pytest

from sitpayd.storage.addressing import address_by_number, addressing_of
from sitpayd.storage.contacts import user_digest
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.devices import create_device
from sitpayd.storage.records import to_micros
from sitpayd.storage.retries import note_request, requests_of
from sitpayd.storage.sessions import (
    add_prekeys,
    adopt,
    delete_prekey,
    forget_person,
    highest_prekey_id,
    learn_mapping,
    lid_of,
    load_credentials,
    load_identities,
    load_identities_of,
    load_sessions,
    load_sessions_of,
    mark_uploaded,
    names_of,
    pn_of,
    prekey,
    prekey_ids_in_use,
    prekeys_not_uploaded,
    save_credentials,
    save_identities,
    save_sessions,
    start_anew,
    uploaded_prekeys,
)
from tests.storage.builders import Clock, Tenant, make_tenant, merged

PN, LID = "919876543210", "123456789012345"
PN_KEY, LID_KEY = f"{PN}@s.whatsapp.net", f"{LID}@lid"


async def test_credentials_are_kept_and_replaced(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    assert await database.read(load_credentials, device_id) is None
    await database.write(save_credentials, device_id, b"first")
    await database.write(save_credentials, device_id, b"second")
    assert await database.read(load_credentials, device_id) == b"second"


async def test_starting_anew_drops_what_belonged_to_the_old_credentials(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(save_credentials, device_id, b"first")
    await database.write(add_prekeys, device_id, [(1, b"one")])
    await database.write(save_sessions, device_id, {(LID_KEY, 0): b"session"})
    await database.write(note_request, device_id, "a message", 2)
    await database.write(address_by_number, device_id, PN, True)
    await database.write(start_anew, device_id, b"second")
    assert await database.read(load_credentials, device_id) == b"second"
    assert await database.read(prekey, device_id, 1) is None
    assert await database.read(load_sessions, device_id, LID_KEY) == {}
    assert await database.read(requests_of, device_id, "a message") == 0
    assert not (await database.read(addressing_of, device_id, PN)).by_number


async def test_prekeys_wait_for_their_upload_and_are_used_once(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    prekeys = [(number, bytes([number]) * 32) for number in range(1, 6)]
    await database.write(add_prekeys, device_id, prekeys)
    assert await database.read(prekeys_not_uploaded, device_id) == prekeys
    await database.write(mark_uploaded, device_id, [1, 2, 3, 99])
    assert await database.read(prekeys_not_uploaded, device_id) == prekeys[3:]
    assert await database.read(prekey, device_id, 2) == bytes([2]) * 32
    await database.write(delete_prekey, device_id, 2)
    assert await database.read(prekey, device_id, 2) is None


async def test_no_prekeys_are_no_change(database: Database, tenant: Tenant) -> None:
    await database.write(add_prekeys, tenant.device.id, [])
    assert await database.read(highest_prekey_id, tenant.device.id) == 0


async def test_the_id_of_a_used_prekey_does_not_come_back(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    assert await database.read(highest_prekey_id, device_id) == 0
    await database.write(add_prekeys, device_id, [(1, b"one"), (2, b"two")])
    await database.write(delete_prekey, device_id, 2)
    assert await database.read(highest_prekey_id, device_id) == 2


async def test_ids_of_prekeys_that_are_kept_are_known(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(add_prekeys, device_id, [(1, b"one"), (2, b"two"), (3, b"three")])
    await database.write(mark_uploaded, device_id, [1, 2])
    assert await database.read(uploaded_prekeys, device_id, at_most=9) == 2
    assert await database.read(uploaded_prekeys, device_id, at_most=1) == 1
    await database.write(delete_prekey, device_id, 2)
    assert await database.read(prekey_ids_in_use, device_id) == {1, 3}
    assert await database.read(uploaded_prekeys, device_id, at_most=9) == 1


async def test_a_prekey_takes_nobody_elses_place(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(add_prekeys, device_id, [(1, b"one")])
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(add_prekeys, device_id, [(1, b"another")])
    assert await database.read(prekey, device_id, 1) == b"one"


async def test_the_numbering_of_prekeys_may_wrap(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(add_prekeys, device_id, [(0xFFFFFF, b"last"), (1, b"first")])
    assert await database.read(highest_prekey_id, device_id) == 1


async def test_sessions_are_loaded_by_user_and_by_address(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    saved = {(LID_KEY, 0): b"phone", (LID_KEY, 5): b"laptop", ("77@lid", 0): b"self"}
    await database.write(save_sessions, device_id, saved)
    await database.write(save_sessions, device_id, {(LID_KEY, 5): b"laptop, a step on"})
    assert await database.read(load_sessions, device_id, LID_KEY) == {
        0: b"phone",
        5: b"laptop, a step on",
    }
    wanted = [(LID_KEY, 5), ("77@lid", 0), ("77@lid", 1), ("nobody@lid", 0)]
    assert await database.read(load_sessions_of, device_id, wanted) == {
        (LID_KEY, 5): b"laptop, a step on",
        ("77@lid", 0): b"self",
    }


async def test_saving_nothing_is_no_change(database: Database, tenant: Tenant) -> None:
    await database.write(save_sessions, tenant.device.id, {})
    assert await database.read(load_sessions, tenant.device.id, LID_KEY) == {}


async def test_identities_are_loaded_by_address(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(save_identities, device_id, {(LID_KEY, 0): b"key", (LID_KEY, 5): b"other"})
    wanted = [(LID_KEY, 5), (LID_KEY, 6), ("nobody@lid", 0)]
    found = await database.read(load_identities_of, device_id, wanted)
    assert found == {(LID_KEY, 5): b"other"}


@pytest.mark.parametrize("name", [PN_KEY, LID_KEY])
async def test_person_is_forgotten_under_both_names(
    database: Database, tenant: Tenant, name: str
) -> None:
    device_id = tenant.device.id
    await database.write(learn_mapping, device_id, PN, LID, merged)
    both = {(LID_KEY, 0): b"one", (PN_KEY, 5): b"two", ("77@lid", 0): b"other"}
    await database.write(save_sessions, device_id, both)
    await database.write(save_identities, device_id, both)
    await database.write(forget_person, device_id, name)
    for load in (load_sessions, load_identities):
        assert await database.read(load, device_id, LID_KEY) == {}
        assert await database.read(load, device_id, PN_KEY) == {}
        assert await database.read(load, device_id, "77@lid") == {0: b"other"}


async def test_one_device_of_a_person_is_forgotten(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    both = {(LID_KEY, 0): b"one", (LID_KEY, 5): b"two"}
    await database.write(save_sessions, device_id, both)
    await database.write(save_identities, device_id, both)
    await database.write(forget_person, device_id, LID_KEY, frozenset({5, 6}))
    assert await database.read(load_sessions, device_id, LID_KEY) == {0: b"one"}
    assert await database.read(load_identities, device_id, LID_KEY) == {0: b"one"}
    await database.write(forget_person, device_id, LID_KEY, frozenset())
    assert await database.read(load_sessions, device_id, LID_KEY) == {0: b"one"}


async def test_person_stands_under_its_other_name_once_that_is_known(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    assert await database.read(names_of, device_id, PN_KEY) == (PN_KEY,)
    assert await database.read(names_of, device_id, LID_KEY) == (LID_KEY,)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(names_of, device_id, PN_KEY) == (PN_KEY, LID_KEY)
    assert await database.read(names_of, device_id, LID_KEY) == (LID_KEY, PN_KEY)


async def test_two_devices_with_the_same_peer_keep_apart(
    database: Database, tenant: Tenant
) -> None:
    mine = tenant.device.id
    twin = (await database.write(create_device, tenant.partner.id, tenant.user.id, "two")).id
    others = (await database.write(make_tenant, "Other")).device.id
    for device_id, value in ((mine, b"mine"), (twin, b"twin"), (others, b"others")):
        await database.write(save_sessions, device_id, {(LID_KEY, 0): value})
        await database.write(learn_mapping, device_id, PN, LID + str(device_id), merged)
    await database.write(forget_person, twin, LID_KEY)
    assert await database.read(load_sessions, mine, LID_KEY) == {0: b"mine"}
    assert await database.read(load_sessions, others, LID_KEY) == {0: b"others"}
    assert await database.read(lid_of, mine, PN) == LID + str(mine)
    assert await database.read(pn_of, mine, LID + str(others)) is None


async def test_a_mapping_is_news_once_and_works_both_ways(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    assert await database.read(lid_of, device_id, PN) is None
    assert await database.read(pn_of, device_id, LID) is None
    assert await database.write(learn_mapping, device_id, PN, LID, merged)
    assert not await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(lid_of, device_id, PN) == LID
    assert await database.read(pn_of, device_id, LID) == PN


async def test_a_changed_mapping_replaces_both_old_ones(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(learn_mapping, device_id, "1", "a", merged)
    await database.write(learn_mapping, device_id, "2", "b", merged)
    assert await database.write(learn_mapping, device_id, "1", "b", merged)
    assert await database.read(lid_of, device_id, "1") == "b"
    assert await database.read(pn_of, device_id, "b") == "1"
    assert await database.read(lid_of, device_id, "2") is None
    assert await database.read(pn_of, device_id, "a") is None


async def test_news_of_a_mapping_moves_what_is_kept_to_the_lid(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    by_number = {(PN_KEY, 0): b"phone", (PN_KEY, 5): b"laptop"}
    await database.write(save_sessions, device_id, by_number)
    await database.write(save_identities, device_id, by_number)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    for load in (load_sessions, load_identities):
        assert await database.read(load, device_id, LID_KEY) == {0: b"phone", 5: b"laptop"}
        assert await database.read(load, device_id, PN_KEY) == {}


@pytest.mark.parametrize(
    ("last", "merged_session", "identity"),
    [(LID_KEY, b"lid before pn", b"lid key"), (PN_KEY, b"pn before lid", b"pn key")],
    ids=["lid used last", "number used last"],
)
async def test_session_used_last_comes_first_and_its_identity_counts(
    database: Database,
    tenant: Tenant,
    clock: Clock,
    last: str,
    merged_session: bytes,
    identity: bytes,
) -> None:
    device_id = tenant.device.id
    values = {PN_KEY: b"pn", LID_KEY: b"lid"}
    for name in sorted(values, key=lambda name: name == last):
        await database.write(save_sessions, device_id, {(name, 5): values[name]})
        clock.forward(seconds=1)
    for name in sorted(values, key=lambda name: name != last):
        # The other one's key is the later news, and does not count all the same.
        await database.write(save_identities, device_id, {(name, 5): values[name] + b" key"})
        clock.forward(seconds=1)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(load_sessions, device_id, LID_KEY) == {5: merged_session}
    assert await database.read(load_identities, device_id, LID_KEY) == {5: identity}
    assert await database.read(load_sessions, device_id, PN_KEY) == {}
    assert await database.read(load_identities, device_id, PN_KEY) == {}


@pytest.mark.parametrize("last", [LID_KEY, PN_KEY])
async def test_identity_without_any_session_is_the_latest_news(
    database: Database, tenant: Tenant, clock: Clock, last: str
) -> None:
    device_id = tenant.device.id
    for name in sorted((PN_KEY, LID_KEY), key=lambda name: name == last):
        await database.write(save_identities, device_id, {(name, 0): name.encode()})
        clock.forward(seconds=1)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(load_identities, device_id, LID_KEY) == {0: last.encode()}


@pytest.mark.parametrize("last", [LID_KEY, PN_KEY], ids=["lid used last", "number used last"])
async def test_session_keeps_the_time_of_its_last_use_when_it_moves(
    database: Database, tenant: Tenant, clock: Clock, last: str
) -> None:
    """It may be weighed against another one later."""
    device_id = tenant.device.id
    for name in sorted((PN_KEY, LID_KEY), key=lambda name: name == last):
        clock.forward(seconds=1)
        await database.write(save_sessions, device_id, {(name, 0): name.encode()})
    used_at = to_micros(clock.now)
    clock.forward(seconds=1)
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert await database.read(used_at_of, device_id, LID_KEY) == used_at
    await database.write(save_sessions, device_id, {(LID_KEY, 0): b"again"})
    assert await database.read(used_at_of, device_id, LID_KEY) == to_micros(clock.now)


def used_at_of(unit: Unit, device_id: int, name: str) -> int | None:
    digest = user_digest(unit, device_id, name)
    statement = "SELECT used_at FROM signal_session WHERE device_id = ? AND user_digest = ?"
    return unit.value(int, statement, (device_id, digest))


async def test_what_stands_under_the_number_of_a_known_lid_is_adopted(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert not await database.write(adopt, device_id, PN, LID, merged)
    await database.write(save_sessions, device_id, {(PN_KEY, 0): b"left behind"})
    assert await database.write(adopt, device_id, PN, LID, merged)
    assert await database.read(load_sessions, device_id, LID_KEY) == {0: b"left behind"}
    assert not await database.write(adopt, device_id, PN, LID, merged)


async def test_failed_merge_moves_nothing(database: Database, tenant: Tenant) -> None:
    def fails(recent: bytes, other: bytes) -> bytes:
        raise ValueError("damaged")

    device_id = tenant.device.id
    both = {(PN_KEY, 0): b"pn", (LID_KEY, 0): b"lid"}
    await database.write(save_sessions, device_id, both)
    with pytest.raises(ValueError, match="damaged"):
        await database.write(learn_mapping, device_id, PN, LID, fails)
    assert await database.read(load_sessions, device_id, PN_KEY) == {0: b"pn"}
    assert await database.read(load_sessions, device_id, LID_KEY) == {0: b"lid"}
    assert await database.read(lid_of, device_id, PN) is None

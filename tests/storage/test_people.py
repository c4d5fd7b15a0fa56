"""What is known of people: tokens, names, chats, by number and by LID."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.storage import account, contacts, devices, outbox, people, sessions
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.inbox import receive
from sitpayd.storage.people import MAX_NAME_LEN, MAX_T, MAX_TOKEN_LEN, Standing, Token
from sitpayd.storage.records import Accepted, Closeness, Incoming, NewChatHold, OutboxRow
from tests.storage.builders import NOON, Clock, Tenant, a_message, make_tenant, merged, some_vault

PN, LID = "919876543210", "200000000000002"
BY_NUMBER, BY_LID = f"{PN}@s.whatsapp.net", f"{LID}@lid"
NOW = int(NOON.timestamp())
TOKEN = Token(b"token", NOW - 100, NOW + 1000)


async def keep(database: Database, tenant: Tenant, key: str, token: Token) -> bool:
    return await database.write(people.keep_token, tenant.device.id, key, token)


async def known(database: Database, tenant: Tenant, key: str) -> Standing:
    return await database.read(people.standing, tenant.device.id, key)


async def learn(database: Database, tenant: Tenant) -> None:
    await database.write(sessions.learn_mapping, tenant.device.id, PN, LID, merged)


async def closeness(database: Database, tenant: Tenant, number: str = PN) -> int:
    return await database.read(contacts.closeness, tenant.device.id, number)


async def waits(database: Database, tenant: Tenant) -> OutboxRow:
    accepted = await database.write(outbox.accept, a_message(tenant.device, recipient=PN))
    assert isinstance(accepted, Accepted)
    return accepted.row


async def may_go(database: Database, tenant: Tenant) -> bool:
    row = await database.read(
        outbox.next_row, tenant.device.id, first_contacts=False, unanswered=False
    )
    return row is not None


# --- tokens ---


async def test_token_is_kept_until_its_end(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    assert await known(database, tenant, BY_LID) == Standing(None, None)
    assert await keep(database, tenant, BY_LID, TOKEN)
    assert await known(database, tenant, BY_LID) == Standing(TOKEN, None)
    clock.forward(seconds=1000)
    assert await known(database, tenant, BY_LID) == Standing(None, None)


@pytest.mark.parametrize(("later", "kept"), [(-1, False), (0, True), (1, True)])
async def test_token_gives_way_to_one_that_is_not_older(
    database: Database, tenant: Tenant, later: int, kept: bool
) -> None:
    await keep(database, tenant, BY_LID, TOKEN)
    other = Token(b"other", TOKEN.t + later, TOKEN.until)
    assert await keep(database, tenant, BY_LID, other) is kept
    assert (await known(database, tenant, BY_LID)).token == (other if kept else TOKEN)


@pytest.mark.parametrize(
    "token",
    [
        Token(b"token", 0, NOW + 1),
        Token(b"token", -5, NOW + 1),
        Token(b"token", MAX_T + 1, NOW + 1),
        Token(b"", 5, NOW + 1),
        Token(bytes(MAX_TOKEN_LEN + 1), 5, NOW + 1),
    ],
    ids=["no time", "before all time", "behind all time", "empty", "too long"],
)
async def test_token_that_cannot_be_one_is_not_kept(
    database: Database, tenant: Tenant, token: Token
) -> None:
    assert not await keep(database, tenant, BY_LID, token)
    assert await known(database, tenant, BY_LID) == Standing(None, None)


async def test_when_ours_was_given_only_moves_on(database: Database, tenant: Tenant) -> None:
    for t in (NOW, NOW - 5, 0, -1, MAX_T + 1):
        await database.write(people.note_given, tenant.device.id, BY_LID, t)
    assert await known(database, tenant, BY_LID) == Standing(None, NOW)
    await keep(database, tenant, BY_LID, TOKEN)
    assert await known(database, tenant, BY_LID) == Standing(TOKEN, NOW)


async def test_person_is_the_same_by_number_once_the_lid_is_known(
    database: Database, tenant: Tenant
) -> None:
    await keep(database, tenant, BY_LID, TOKEN)
    assert await known(database, tenant, BY_NUMBER) == Standing(None, None)
    await learn(database, tenant)
    assert await known(database, tenant, BY_NUMBER) == Standing(TOKEN, None)


async def test_what_is_known_of_a_number_moves_to_its_lid(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await keep(database, tenant, BY_NUMBER, TOKEN)
    await database.write(people.note_given, device_id, BY_NUMBER, NOW)
    await database.write(people.keep_name, device_id, BY_NUMBER, "Bob")
    await database.write(people.note_chat, device_id, BY_NUMBER)
    await learn(database, tenant)
    assert await known(database, tenant, BY_LID) == Standing(TOKEN, NOW)
    assert await database.read(people.name_of, device_id, BY_LID) == "Bob"
    assert await closeness(database, tenant) == Closeness.CLOSE


@pytest.mark.parametrize(("by_number", "by_lid"), [(1, 2), (2, 1)])
async def test_the_later_token_of_both_names_stays(
    database: Database, tenant: Tenant, by_number: int, by_lid: int
) -> None:
    await keep(database, tenant, BY_NUMBER, Token(b"number", by_number, NOW + 9))
    await keep(database, tenant, BY_LID, Token(b"lid", by_lid, NOW + 9))
    for key, t in ((BY_NUMBER, by_number), (BY_LID, by_lid)):
        await database.write(people.note_given, tenant.device.id, key, t)
    await database.write(people.keep_name, tenant.device.id, BY_NUMBER, "an old name")
    await database.write(people.keep_name, tenant.device.id, BY_LID, "Bob")
    await learn(database, tenant)
    later = Token(b"number" if by_number > by_lid else b"lid", 2, NOW + 9)
    assert await known(database, tenant, BY_LID) == Standing(later, 2)
    assert await database.read(people.name_of, tenant.device.id, BY_NUMBER) == "Bob"


@given(st.lists(st.tuples(st.sampled_from([BY_NUMBER, BY_LID, "learn"]), st.integers(1, 50))))
def test_whatever_comes_in_whatever_order_the_latest_token_stays(
    steps: list[tuple[str, int]],
) -> None:
    """The names a person has do not change what is known of it."""

    async def run() -> None:
        async with open_database("sqlite://", some_vault(), inline=True, clock=Clock()) as database:
            tenant = await database.write(make_tenant)
            for key, t in (*steps, ("learn", 0)):
                if key == "learn":
                    await learn(database, tenant)
                else:
                    await keep(database, tenant, key, Token(b"%d" % t, t, NOW + 1))
            latest = max((t for key, t in steps if key != "learn"), default=None)
            for key in (BY_NUMBER, BY_LID):
                found = (await known(database, tenant, key)).token
                assert (found and found.token) == (latest and b"%d" % latest)

    trio.run(run)


# --- who is close ---


async def test_valid_token_makes_a_stranger_close(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    assert await closeness(database, tenant) == Closeness.STRANGER
    await learn(database, tenant)
    await keep(database, tenant, BY_LID, TOKEN)
    assert await closeness(database, tenant) == Closeness.CLOSE
    clock.forward(seconds=1000)
    assert await closeness(database, tenant) == Closeness.STRANGER


async def test_token_by_number_makes_a_stranger_close(database: Database, tenant: Tenant) -> None:
    await keep(database, tenant, BY_NUMBER, TOKEN)
    assert await closeness(database, tenant) == Closeness.CLOSE


async def test_chat_of_before_makes_a_stranger_close(database: Database, tenant: Tenant) -> None:
    await database.write(people.note_chat, tenant.device.id, BY_NUMBER)
    assert await closeness(database, tenant) == Closeness.CLOSE


async def test_who_wrote_by_lid_is_close_once_the_number_is_known(
    database: Database, tenant: Tenant
) -> None:
    incoming = Incoming("3EB0AA", BY_LID, BY_LID, False, "hello", NOON)
    await database.write(receive, tenant.device.id, incoming, sessions={}, identities={})
    assert await closeness(database, tenant) == Closeness.STRANGER
    await learn(database, tenant)
    assert await closeness(database, tenant) == Closeness.CLOSE


async def test_who_never_answers_is_no_stranger_and_not_close(
    database: Database, tenant: Tenant
) -> None:
    row = await waits(database, tenant)
    await database.write(
        outbox.arm, row.device_id, row.id, b"stanza",
        sessions={}, identities={}, participants=b"", phash=None,
    )  # fmt: skip
    await database.write(outbox.mark_sent, row.device_id, row.wa_message_id, NOON)
    assert await closeness(database, tenant) == Closeness.UNANSWERED


@pytest.mark.parametrize("step", ["token", "token by number", "chat", "expired", "stored before"])
async def test_what_waits_for_a_stranger_goes_once_the_person_is_close(
    database: Database, tenant: Tenant, step: str
) -> None:
    device_id = tenant.device.id
    if step == "stored before":
        await keep(database, tenant, BY_LID, TOKEN)
    row = await waits(database, tenant)
    assert row.first_contact
    until = NOON + timedelta(hours=1)
    await database.write(
        outbox.hold_first_contacts, device_id, until, "reachout_locked", unanswered=True
    )
    assert not await may_go(database, tenant)
    await learn(database, tenant)
    match step:
        case "token":
            await keep(database, tenant, BY_LID, TOKEN)
        case "token by number":
            await keep(database, tenant, BY_NUMBER, TOKEN)
        case "chat":
            await database.write(people.note_chat, device_id, BY_LID)
        case "expired":
            await keep(database, tenant, BY_LID, Token(b"old", 5, NOW))
    assert await may_go(database, tenant) is (step != "expired")
    view = await database.read(outbox.message, device_id, row.message_id)
    assert view is not None
    assert (view.held_until is None) is (step != "expired")


# --- names ---


async def test_name_is_kept_and_replaced(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    assert await database.read(people.name_of, device_id, BY_LID) is None
    for name in ("Bob", "Bob", "Robert", ""):
        await database.write(people.keep_name, device_id, BY_LID, name)
    assert await database.read(people.name_of, device_id, BY_LID) == "Robert"


async def test_name_is_cut(database: Database, tenant: Tenant) -> None:
    await database.write(people.keep_name, tenant.device.id, BY_LID, "ü" * 1000)
    kept = await database.read(people.name_of, tenant.device.id, BY_LID)
    assert kept == "ü" * MAX_NAME_LEN


# --- whose it is ---


def fill(unit: Unit, device_id: int) -> None:
    people.keep_token(unit, device_id, BY_LID, TOKEN)
    people.keep_name(unit, device_id, BY_LID, "Bob")
    sessions.learn_mapping(unit, device_id, PN, LID, merged)
    account.set_fact(unit, device_id, "nct_salt", b"salt")
    devices.hold_new_chats(unit, device_id, NewChatHold("reachout_locked", NOON))


async def test_same_number_linked_anew_finds_its_friends(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(devices.linked_to, device_id, "4915112345678")
    await database.write(fill, device_id)
    await database.write(devices.start_anew, device_id, b"fresh")
    await database.write(devices.linked_to, device_id, "4915112345678")
    assert await known(database, tenant, BY_NUMBER) == Standing(TOKEN, None)
    assert await database.read(account.fact, device_id, "nct_salt") == b"salt"
    record = await database.read(devices.device_by_id, device_id)
    assert record is not None
    assert record.new_chats is not None


async def test_another_number_begins_with_nobody(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(devices.linked_to, device_id, "4915112345678")
    await database.write(fill, device_id)
    await database.write(devices.start_anew, device_id, b"fresh")
    await database.write(devices.linked_to, device_id, "4915112345679")
    assert await known(database, tenant, BY_LID) == Standing(None, None)
    assert await database.read(sessions.lid_of, device_id, PN) is None
    assert await database.read(account.fact, device_id, "nct_salt") is None
    record = await database.read(devices.device_by_id, device_id)
    assert record is not None
    assert (record.phone, record.new_chats) == ("4915112345679", None)


async def test_logged_out_device_keeps_tokens_and_loses_names(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(fill, device_id)
    await database.write(devices.forget_keys, device_id)
    assert await known(database, tenant, BY_NUMBER) == Standing(TOKEN, None)
    assert await database.read(people.name_of, device_id, BY_LID) is None


async def test_removed_device_knows_nobody(database: Database, tenant: Tenant) -> None:
    device_id = tenant.device.id
    await database.write(fill, device_id)
    await database.write(devices.remove_device, device_id)
    await database.write(devices.forget_keys, device_id)
    assert await known(database, tenant, BY_LID) == Standing(None, None)
    assert await database.read(sessions.lid_of, device_id, PN) is None


async def test_two_devices_with_the_same_friend_share_nothing(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    await keep(database, tenant, BY_LID, TOKEN)
    assert await known(database, other, BY_LID) == Standing(None, None)
    await database.write(people.forget_people, other.device.id)
    assert await known(database, tenant, BY_LID) == Standing(TOKEN, None)


def test_token_does_not_show() -> None:
    assert "secret" not in repr(Token(b"secret", 1, 2))

"""People: who is a stranger, and what waits for them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sitpayd.storage import contacts, devices, outbox, resends
from sitpayd.storage.database import Database
from sitpayd.storage.inbox import receive
from sitpayd.storage.records import (
    Accepted,
    Closeness,
    Incoming,
    NewChatHold,
    OutboxRow,
    RowState,
)
from tests.storage.builders import NOON, Tenant, a_message

FRIEND, STRANGER = "919876543210", "919812345678"
LATER = NOON + timedelta(hours=1)


async def accepted(database: Database, tenant: Tenant, to: str) -> OutboxRow:
    message = a_message(tenant.device, recipient=to)
    accepted = await database.write(outbox.accept, message)
    assert isinstance(accepted, Accepted)
    return accepted.row


async def armed(database: Database, row: OutboxRow, *, again: bool = False) -> bool:
    return await database.write(
        outbox.arm,
        row.device_id,
        row.id,
        b"stanza",
        sessions={},
        identities={},
        participants=b"",
        phash=None,
        again=again,
    )


async def sent(database: Database, row: OutboxRow) -> None:
    assert await armed(database, row)
    assert await database.write(outbox.mark_sent, row.device_id, row.wa_message_id, NOON)


async def next_text(database: Database, tenant: Tenant, *, first_contacts: bool) -> str | None:
    row = await database.read(outbox.next_row, tenant.device.id, first_contacts=first_contacts)
    return None if row is None else row.message_id


async def test_first_message_is_one_until_somebody_answers_or_it_was_taken(
    database: Database, tenant: Tenant
) -> None:
    one = await accepted(database, tenant, FRIEND)
    two = await accepted(database, tenant, FRIEND)
    assert (one.first_contact, two.first_contact) == (True, True)
    await sent(database, one)
    assert not (await accepted(database, tenant, FRIEND)).first_contact
    waiting = await database.read(outbox.next_row, tenant.device.id, first_contacts=False)
    assert waiting is not None
    assert waiting.message_id == two.message_id


async def test_refused_first_message_leaves_a_stranger(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant, STRANGER)
    await armed(database, row)
    await database.write(outbox.mark_failed, row.device_id, row.id, "reachout_locked")
    known = await database.read(contacts.closeness, tenant.device.id, STRANGER)
    assert known == Closeness.STRANGER


async def test_receipt_before_the_acknowledgement_lets_the_next_message_go_in_its_turn(
    database: Database, tenant: Tenant
) -> None:
    one, two = [await accepted(database, tenant, STRANGER) for _ in range(2)]
    assert await armed(database, one)
    ids = [one.wa_message_id]
    await database.write(
        outbox.mark_receipt, one.device_id, ids, "delivered", NOON, peers=[STRANGER]
    )
    await accepted(database, tenant, STRANGER)
    assert await next_text(database, tenant, first_contacts=False) == two.message_id


async def test_who_writes_to_us_is_no_stranger(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant, STRANGER)
    await database.write(outbox.hold_first_contacts, row.device_id, LATER, "reachout_locked")
    incoming = Incoming("3EB0AA", STRANGER, f"{STRANGER}@s.whatsapp.net", False, "hello", NOON)
    await database.write(receive, row.device_id, incoming, sessions={}, identities={})
    assert await next_text(database, tenant, first_contacts=False) == row.message_id
    view = await database.read(outbox.message, row.device_id, row.message_id)
    assert view is not None
    assert (view.held_until, view.held_reason) == (None, None)


async def test_first_messages_are_passed_over_while_they_wait(
    database: Database, tenant: Tenant
) -> None:
    await sent(database, await accepted(database, tenant, FRIEND))
    stranger = await accepted(database, tenant, STRANGER)
    friend = await accepted(database, tenant, FRIEND)
    assert await next_text(database, tenant, first_contacts=True) == stranger.message_id
    assert await next_text(database, tenant, first_contacts=False) == friend.message_id


async def test_armed_first_message_is_written_whatever_waits(
    database: Database, tenant: Tenant
) -> None:
    row = await accepted(database, tenant, STRANGER)
    await armed(database, row)
    assert await next_text(database, tenant, first_contacts=False) == row.message_id


async def test_hold_is_told_once(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant, STRANGER)
    for told in ([row.message_id], []):
        assert told == await database.write(
            outbox.hold_first_contacts, row.device_id, LATER, "new_chat_limit"
        )
    view = await database.read(outbox.message, row.device_id, row.message_id)
    assert view is not None
    assert (view.held_until, view.held_reason) == (LATER, "new_chat_limit")


async def test_messages_to_who_never_answered_are_passed_over_with_first_ones(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await sent(database, await accepted(database, tenant, FRIEND))
    unanswered = await accepted(database, tenant, FRIEND)
    assert not unanswered.first_contact
    assert await next_text(database, tenant, first_contacts=False) == unanswered.message_id
    passed = await database.read(outbox.next_row, device_id, first_contacts=False, unanswered=False)
    assert passed is None
    for also, held in ((False, []), (True, [unanswered.message_id])):
        assert held == await database.write(
            outbox.hold_first_contacts, device_id, LATER, "reachout_locked", unanswered=also
        )


async def test_first_messages_of_the_day_are_counted_when_they_leave(
    database: Database, tenant: Tenant
) -> None:
    await accepted(database, tenant, STRANGER)
    await sent(database, await accepted(database, tenant, FRIEND))
    await sent(database, await accepted(database, tenant, FRIEND))
    since = NOON - timedelta(days=1)
    counted = await database.read(contacts.first_contacts_since, tenant.device.id, since)
    assert len(counted) == 1


async def test_armed_row_is_armed_again_only_if_that_is_meant(
    database: Database, tenant: Tenant
) -> None:
    row = await accepted(database, tenant, FRIEND)
    assert not await armed(database, row, again=True)
    assert await armed(database, row)
    assert not await armed(database, row)
    assert await armed(database, row, again=True)
    await database.write(outbox.mark_sent, row.device_id, row.wa_message_id, NOON)
    assert not await armed(database, row, again=True)


async def test_hold_of_new_chats_is_kept_with_the_device(
    database: Database, tenant: Tenant
) -> None:
    hold = NewChatHold("reachout_locked", LATER)
    await database.write(devices.hold_new_chats, tenant.device.id, hold)
    (device,) = await database.read(devices.devices_to_run)
    assert device.new_chats == hold
    await database.write(devices.hold_new_chats, tenant.device.id, None)
    (device,) = await database.read(devices.devices_to_run)
    assert device.new_chats is None


@pytest.mark.parametrize("limit", [0, 1, 5])
async def test_device_is_served_again_so_often_and_no_more(
    database: Database, tenant: Tenant, limit: int
) -> None:
    row = await accepted(database, tenant, FRIEND)

    async def again(device: str) -> bool:
        return await database.write(
            resends.count_resend, row.device_id, row.id, device, limit, {}, {}
        )

    served = [await again("1@lid") for _ in range(limit + 2)]
    assert served == [True] * limit + [False, False]
    assert await again("2@lid") is (limit > 0)


async def test_device_that_has_the_message_gets_it_never_again(
    database: Database, tenant: Tenant
) -> None:
    row = await accepted(database, tenant, FRIEND)
    await sent(database, row)
    ids, peers = (row.wa_message_id,), {FRIEND}
    await database.write(outbox.mark_receipt, row.device_id, ids, "delivered", NOON, peers, "1@lid")
    for device, served in (("1@lid", False), ("2@lid", True)):
        assert served == await database.write(
            resends.count_resend, row.device_id, row.id, device, 5, {}, {}
        )
    view = await database.read(outbox.message, row.device_id, row.message_id)
    assert view is not None
    assert view.state == RowState.DELIVERED

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from sitpayd.storage.database import Database
from sitpayd.storage.devices import remove_device
from sitpayd.storage.outbox import (
    accept,
    arm,
    cancel,
    count_attempt,
    devices_that_wait,
    expire,
    forget_texts,
    mark_failed,
    mark_receipt,
    mark_sent,
    mark_unknown,
    message,
    messages,
    next_row,
    repeated,
    row_by_wa_message_id,
    settle_logged_out,
)
from sitpayd.storage.records import (
    CAME_FROM,
    Accepted,
    DeviceGone,
    DeviceRecord,
    OutboxRow,
    QueueFull,
    Repeated,
    RowState,
    Settled,
)
from sitpayd.storage.sessions import load_identities, load_sessions
from tests.storage.builders import NOON, RECIPIENT, TEXT, Clock, Tenant, a_message, make_tenant

PEER = "123@lid"


async def accepted(database: Database, device: DeviceRecord, **changes: object) -> OutboxRow:
    outcome = await database.write(accept, a_message(device, **changes))
    assert isinstance(outcome, Accepted)
    return outcome.row


async def armed(database: Database, device: DeviceRecord, **changes: object) -> OutboxRow:
    row = await accepted(database, device, **changes)
    assert await arm_row(database, row)
    return await reloaded(database, row)


async def arm_row(database: Database, row: OutboxRow) -> bool:
    return await database.write(
        arm,
        row.device_id,
        row.id,
        b"stanza",
        sessions={(PEER, 0): b"session"},
        identities={(PEER, 0): b"identity"},
        participants=b"123@lid",
        phash="2:abcdef",
    )


async def reloaded(database: Database, row: OutboxRow) -> OutboxRow:
    found = await database.read(row_by_wa_message_id, row.device_id, row.wa_message_id)
    assert found is not None
    return found


async def state_of(database: Database, row: OutboxRow) -> RowState:
    return (await reloaded(database, row)).state


# --- accept ---


async def test_an_accepted_row_is_what_was_asked_for(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device)
    assert (row.recipient, row.text, row.state) == (RECIPIENT, TEXT, RowState.ACCEPTED)
    assert (row.seq, row.attempts, row.stanza, row.created_at) == (1, 0, None, NOON)
    assert await database.read(next_row, tenant.device.id) == row


async def test_a_repeated_key_finds_its_first_row(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device, idempotency_key="order 7")
    again = a_message(tenant.device, idempotency_key="order 7")
    assert await database.write(accept, again) == Repeated(row, same_body=True)
    assert await database.read(repeated, tenant.device.id, "order 7", b"h" * 32) == Repeated(
        row, same_body=True
    )
    assert await database.read(row_by_wa_message_id, row.device_id, again.wa_message_id) is None


async def test_a_repeated_key_with_another_body_says_so(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device, idempotency_key="order 7")
    other = a_message(tenant.device, idempotency_key="order 7", body_hash=b"x" * 32)
    assert await database.write(accept, other) == Repeated(row, same_body=False)


async def test_a_key_belongs_to_its_device(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    await accepted(database, tenant.device, idempotency_key="order 7")
    await accepted(database, other.device, idempotency_key="order 7")
    assert await database.read(repeated, other.device.id, "order 8", b"h" * 32) is None


async def test_messages_without_a_key_never_repeat(database: Database, tenant: Tenant) -> None:
    first = await accepted(database, tenant.device)
    second = await accepted(database, tenant.device)
    assert (first.seq, second.seq) == (1, 2)


async def test_a_full_queue_takes_repeats_only(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device, idempotency_key="order 7", max_queued=2)
    await accepted(database, tenant.device, max_queued=2)
    assert await database.write(accept, a_message(tenant.device, max_queued=2)) == QueueFull()
    fresh = a_message(tenant.device, idempotency_key="order 8", max_queued=2)
    assert await database.write(accept, fresh) == QueueFull()
    again = a_message(tenant.device, idempotency_key="order 7", max_queued=2)
    assert await database.write(accept, again) == Repeated(row, same_body=True)


async def test_rows_that_left_the_queue_make_room(database: Database, tenant: Tenant) -> None:
    await armed(database, tenant.device, max_queued=1)
    row = await accepted(database, tenant.device, max_queued=1)
    await database.write(cancel, row.device_id, row.message_id)
    await accepted(database, tenant.device, max_queued=1)


async def test_a_removed_device_takes_nothing_new(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device, idempotency_key="order 7")
    await database.write(remove_device, tenant.device.id)
    assert await database.write(accept, a_message(tenant.device)) == DeviceGone()
    again = a_message(tenant.device, idempotency_key="order 7")
    assert await database.write(accept, again) == Repeated(row, same_body=True)


# --- arm ---


async def test_arming_stores_the_stanza_and_every_key_that_made_it(
    database: Database, tenant: Tenant
) -> None:
    row = await armed(database, tenant.device)
    assert (row.state, row.stanza, row.participants) == (RowState.ARMED, b"stanza", b"123@lid")
    assert row.phash == "2:abcdef"
    assert await database.read(load_sessions, row.device_id, PEER) == {0: b"session"}
    assert await database.read(load_identities, row.device_id, PEER) == {0: b"identity"}


async def test_a_row_that_is_not_accepted_stores_no_keys(
    database: Database, tenant: Tenant
) -> None:
    row = await accepted(database, tenant.device)
    assert await database.write(cancel, row.device_id, row.message_id)
    assert not await arm_row(database, row)
    assert await state_of(database, row) is RowState.CANCELED
    assert await database.read(load_sessions, row.device_id, PEER) == {}


async def test_an_armed_row_is_not_armed_twice(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    assert not await arm_row(database, row)


async def test_a_row_of_another_device_is_not_armed(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    row = await accepted(database, tenant.device)
    armed_by_other = await database.write(
        arm, other.device.id, row.id, b"stanza",
        sessions={}, identities={}, participants=b"", phash=None,
    )  # fmt: skip
    assert not armed_by_other
    assert await state_of(database, row) is RowState.ACCEPTED


# --- order ---


async def test_the_armed_row_goes_first_then_the_oldest(database: Database, tenant: Tenant) -> None:
    first, second, third = [await accepted(database, tenant.device) for _ in range(3)]
    await arm_row(database, second)

    async def upcoming() -> str | None:
        row = await database.read(next_row, tenant.device.id)
        return row.message_id if row else None

    assert await upcoming() == second.message_id
    await database.write(mark_sent, tenant.device.id, second.wa_message_id, None)
    assert await upcoming() == first.message_id
    await database.write(cancel, tenant.device.id, first.message_id)
    assert await upcoming() == third.message_id
    await database.write(cancel, tenant.device.id, third.message_id)
    assert await upcoming() is None


async def test_devices_wait_as_long_as_they_have_something_to_send(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    assert await database.read(devices_that_wait) == []
    waits = await accepted(database, tenant.device)
    written = await armed(database, other.device)
    both = {tenant.device.session_id, other.device.session_id}
    assert set(await database.read(devices_that_wait)) == both
    await database.write(cancel, waits.device_id, waits.message_id)
    await database.write(mark_sent, written.device_id, written.wa_message_id, NOON)
    assert await database.read(devices_that_wait) == []


async def test_attempts_are_counted(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    assert await database.write(count_attempt, row.device_id, row.id) == 1
    assert await database.write(count_attempt, row.device_id, row.id) == 2
    assert (await reloaded(database, row)).attempts == 2


# --- acknowledgement and receipts ---


async def test_an_acknowledged_row_is_sent_once(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    server_time = NOON + timedelta(seconds=3)
    sent = await database.write(mark_sent, row.device_id, row.wa_message_id, server_time)
    assert sent == row.message_id
    assert await database.write(mark_sent, row.device_id, row.wa_message_id, server_time) is None
    after = await reloaded(database, row)
    assert (after.state, after.server_time) == (RowState.SENT, server_time)
    # Only an armed row is ever written to the wire; the text stays for retry receipts.
    assert (after.stanza, after.text) == (None, TEXT)


async def test_an_acknowledgement_for_another_device_changes_nothing(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    row = await armed(database, tenant.device)
    assert await database.write(mark_sent, other.device.id, row.wa_message_id, None) is None
    assert await state_of(database, row) is RowState.ARMED


async def test_an_accepted_row_cannot_be_sent(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device)
    assert await database.write(mark_sent, row.device_id, row.wa_message_id, None) is None


async def test_receipts_move_rows_forward_only(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    await database.write(mark_sent, row.device_id, row.wa_message_id, NOON)
    ids, peers = [row.wa_message_id], [RECIPIENT, PEER]
    read_at = NOON + timedelta(seconds=9)
    args = (row.device_id, ids)
    assert await database.write(mark_receipt, *args, "read", read_at, peers) == [row.message_id]
    assert await database.write(mark_receipt, *args, "delivered", read_at, peers) == []
    assert await database.write(mark_receipt, *args, "read", read_at, peers) == []
    view = await database.read(message, row.device_id, row.message_id)
    assert view is not None
    assert [(change.state, change.at) for change in view.history] == [
        ("accepted", NOON),
        ("armed", NOON),
        ("sent", NOON),
        ("read", read_at),
    ]


async def test_a_receipt_from_another_chat_changes_nothing(
    database: Database, tenant: Tenant
) -> None:
    row = await armed(database, tenant.device)
    ids = [row.wa_message_id, "3EB0NEVERSENT"]
    moved = await database.write(mark_receipt, row.device_id, ids, "read", NOON, ["666@lid"])
    assert moved == []
    assert await state_of(database, row) is RowState.ARMED


async def test_a_receipt_for_an_accepted_row_changes_nothing(
    database: Database, tenant: Tenant
) -> None:
    row = await accepted(database, tenant.device)
    ids = [row.wa_message_id]
    assert await database.write(mark_receipt, row.device_id, ids, "read", NOON, [RECIPIENT]) == []


# --- ends ---


async def test_a_refused_row_is_failed_for_good(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    assert await database.write(mark_failed, row.device_id, row.id, "not_on_whatsapp")
    assert not await database.write(mark_unknown, row.device_id, row.id, "late")
    assert await database.write(mark_sent, row.device_id, row.wa_message_id, NOON) is None
    after = await reloaded(database, row)
    assert (after.state, after.reason) == (RowState.FAILED, "not_on_whatsapp")


async def test_an_unknown_row_is_corrected_by_a_late_acknowledgement(
    database: Database, tenant: Tenant
) -> None:
    row = await armed(database, tenant.device)
    assert await database.write(mark_unknown, row.device_id, row.id, "unanswered")
    sent = await database.write(mark_sent, row.device_id, row.wa_message_id, NOON)
    assert sent == row.message_id
    after = await reloaded(database, row)
    assert (after.state, after.reason) == (RowState.SENT, None)


async def test_an_unknown_row_is_corrected_by_a_late_receipt(
    database: Database, tenant: Tenant
) -> None:
    row = await armed(database, tenant.device)
    await database.write(mark_unknown, row.device_id, row.id, "unanswered")
    ids = [row.wa_message_id]
    moved = await database.write(mark_receipt, row.device_id, ids, "delivered", NOON, [RECIPIENT])
    assert moved == [row.message_id]


async def test_an_accepted_row_cannot_be_unknown(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant.device)
    assert not await database.write(mark_unknown, row.device_id, row.id, "unanswered")


async def test_only_an_accepted_row_is_cancelled(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    waiting = await accepted(database, tenant.device)
    gone = await armed(database, tenant.device)
    assert not await database.write(cancel, gone.device_id, gone.message_id)
    assert not await database.write(cancel, other.device.id, waiting.message_id)
    assert await database.write(cancel, waiting.device_id, waiting.message_id)
    assert not await database.write(cancel, waiting.device_id, waiting.message_id)


async def test_time_ends_accepted_rows_for_certain_and_armed_ones_not(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    waiting = await accepted(database, tenant.device)
    written = await armed(database, tenant.device)
    later = await accepted(database, tenant.device, expires_at=NOON + timedelta(days=2))
    assert await database.write(expire, clock.forward(hours=23)) == []
    settled = await database.write(expire, clock.forward(hours=1))
    assert settled == [
        Settled(waiting.device_id, waiting.message_id, RowState.EXPIRED, "expired"),
        Settled(written.device_id, written.message_id, RowState.UNKNOWN, "unanswered"),
    ]
    assert await state_of(database, later) is RowState.ACCEPTED
    assert await database.write(expire, clock.now) == []


async def test_expiry_takes_no_more_rows_than_allowed(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    for _ in range(3):
        await accepted(database, tenant.device)
    assert len(await database.write(expire, clock.forward(days=1), 2)) == 2
    assert len(await database.write(expire, clock.now, 2)) == 1


async def test_a_lost_login_fails_what_waits_and_leaves_open_what_was_written(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    waiting = await accepted(database, tenant.device)
    written = await armed(database, tenant.device)
    untouched = await accepted(database, other.device)
    assert await database.write(settle_logged_out, tenant.device.id) == [
        Settled(waiting.device_id, waiting.message_id, RowState.FAILED, "device_logged_out"),
        Settled(written.device_id, written.message_id, RowState.UNKNOWN, "device_logged_out"),
    ]
    assert await state_of(database, untouched) is RowState.ACCEPTED


# --- retention ---


async def test_texts_are_forgotten_a_time_after_their_end(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    device = tenant.device
    far = NOON + timedelta(days=30)
    waiting = await accepted(database, device, expires_at=far)
    sent = await armed(database, device, expires_at=far)
    clock.forward(days=3)
    await database.write(mark_sent, device.id, sent.wa_message_id, None)

    async def forget(before: datetime) -> int:
        return await database.write(forget_texts, before)

    assert await forget(NOON + timedelta(days=3)) == 0
    # A later receipt does not keep the text any longer.
    clock.forward(days=3)
    await database.write(
        mark_receipt, device.id, [sent.wa_message_id], "read", clock.now, [RECIPIENT]
    )
    assert await forget(NOON + timedelta(days=4)) == 1
    assert await forget(NOON + timedelta(days=4)) == 0
    after = await reloaded(database, sent)
    assert (after.text, after.participants, after.recipient) == ("", None, RECIPIENT)
    assert (await reloaded(database, waiting)).text == TEXT
    page = await database.read(messages, device.id)
    assert page is not None
    assert [view.text for view in page.messages] == [TEXT, None]


# --- the table of states ---


@pytest.mark.parametrize("state", list(RowState))
def test_every_state_is_reached_from_lower_ranks_only(state: RowState) -> None:
    assert all(before.rank < state.rank for before in CAME_FROM[state])


def test_only_accepted_and_armed_rows_are_not_settled() -> None:
    assert [state for state in RowState if not state.is_settled] == [
        RowState.ACCEPTED,
        RowState.ARMED,
    ]

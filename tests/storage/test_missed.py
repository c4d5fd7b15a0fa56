"""F-31 on the disk: sent rows that missed devices, and every way in which the mark ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from sitpayd.storage import devices, outbox
from sitpayd.storage.database import Database
from sitpayd.storage.missed import arm_missed, forget_missed
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.storage.sessions import load_sessions
from tests.storage.builders import NOON, RECIPIENT, Clock, Tenant
from tests.storage.test_outbox import PEER, accepted, armed, reloaded

LATE = b"123@lid 123:5@lid"


async def missed(database: Database, tenant: Tenant) -> OutboxRow:
    """A row whose ack says that it missed somebody."""
    row = await armed(database, tenant.device)
    await mark_sent(database, row, missed=True)
    return await reloaded(database, row)


async def mark_sent(database: Database, row: OutboxRow, *, missed: bool) -> str | None:
    return await database.write(
        outbox.mark_sent, row.device_id, row.wa_message_id, NOON, missed=missed
    )


async def arm_late(database: Database, row: OutboxRow) -> bool:
    return await database.write(
        arm_missed,
        row.device_id,
        row.id,
        b"for the late one",
        sessions={(PEER, 5): b"session"},
        identities={(PEER, 5): b"identity"},
        participants=LATE,
        phash="2:now",
    )


async def next_id(database: Database, row: OutboxRow) -> str | None:
    upcoming = await database.read(outbox.next_row, row.device_id)
    return upcoming.message_id if upcoming else None


async def history_of(database: Database, row: OutboxRow) -> list[str]:
    view = await database.read(outbox.message, row.device_id, row.message_id)
    assert view is not None
    return [change.state for change in view.history]


async def test_row_that_missed_devices_is_sent_and_goes_before_the_next(
    database: Database, tenant: Tenant
) -> None:
    """F-31: marked with the ack, in one transaction."""
    row = await missed(database, tenant)
    following = await accepted(database, tenant.device)
    assert (row.state, row.missed_devices, row.stanza) == (RowState.SENT, True, None)
    assert await next_id(database, row) == row.message_id
    await database.write(forget_missed, row.device_id, row.id)
    assert await next_id(database, row) == following.message_id


async def test_row_in_flight_goes_before_one_that_missed_devices(
    database: Database, tenant: Tenant
) -> None:
    await missed(database, tenant)
    in_flight = await armed(database, tenant.device)
    assert await next_id(database, in_flight) == in_flight.message_id


async def test_ack_that_misses_nobody_marks_nothing(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    await mark_sent(database, row, missed=False)
    assert await next_id(database, row) is None


async def test_receipt_that_comes_before_the_ack_hides_no_missed_device(
    database: Database, tenant: Tenant
) -> None:
    row = await armed(database, tenant.device)
    await database.write(
        outbox.mark_receipt, row.device_id, [row.wa_message_id], "read", NOON, [RECIPIENT]
    )
    assert await mark_sent(database, row, missed=True) is None
    row = await reloaded(database, row)
    assert (row.state, row.missed_devices) == (RowState.READ, True)


async def test_arming_stores_the_stanza_its_keys_and_everybody_it_went_to(
    database: Database, tenant: Tenant
) -> None:
    row = await missed(database, tenant)
    assert await arm_late(database, row)
    row = await reloaded(database, row)
    assert (row.stanza, row.participants, row.phash) == (b"for the late one", LATE, "2:now")
    assert row.state is RowState.SENT
    assert await database.read(load_sessions, row.device_id, PEER) == {
        0: b"session",
        5: b"session",
    }
    assert await history_of(database, row) == ["accepted", "armed", "sent"]


async def test_it_is_armed_once(database: Database, tenant: Tenant) -> None:
    row = await missed(database, tenant)
    assert await arm_late(database, row)
    assert not await arm_late(database, row)


async def test_row_that_is_not_marked_is_not_armed(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    await mark_sent(database, row, missed=False)
    assert not await arm_late(database, row)
    assert await database.read(load_sessions, row.device_id, PEER) == {0: b"session"}


async def test_receipts_move_the_row_and_leave_the_stanza(
    database: Database, tenant: Tenant
) -> None:
    """The first device's receipt comes while the stanza for the other is on its way."""
    row = await missed(database, tenant)
    await arm_late(database, row)
    for receipt in ("delivered", "read"):
        await database.write(
            outbox.mark_receipt, row.device_id, [row.wa_message_id], receipt, NOON, [RECIPIENT]
        )
    row = await reloaded(database, row)
    assert (row.state, row.stanza) == (RowState.READ, b"for the late one")
    assert await next_id(database, row) == row.message_id
    await database.write(forget_missed, row.device_id, row.id)
    row = await reloaded(database, row)
    assert (row.state, row.stanza, row.missed_devices) == (RowState.READ, None, False)


async def test_writings_before_the_ack_do_not_count(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant.device)
    await database.write(outbox.count_attempt, row.device_id, row.id)
    await mark_sent(database, row, missed=True)
    assert (await reloaded(database, row)).attempts == 0


async def test_the_same_ack_again_does_not_mark_what_is_done(
    database: Database, tenant: Tenant
) -> None:
    """Late acks, of a message that is not in flight, say nothing about devices."""
    row = await missed(database, tenant)
    await database.write(forget_missed, row.device_id, row.id)
    assert await mark_sent(database, row, missed=False) is None
    assert await next_id(database, row) is None


# --- every way in which the mark ends ---


async def time_is_over(database: Database, row: OutboxRow) -> None:
    await database.write(outbox.expire, row.expires_at)


async def text_is_forgotten(database: Database, row: OutboxRow) -> None:
    await database.write(outbox.forget_texts, NOON + timedelta(days=8))


async def device_is_logged_out(database: Database, row: OutboxRow) -> None:
    await database.write(outbox.settle_logged_out, row.device_id)


async def keys_are_forgotten(database: Database, row: OutboxRow) -> None:
    await database.write(devices.forget_keys, row.device_id)


async def it_is_done(database: Database, row: OutboxRow) -> None:
    await database.write(forget_missed, row.device_id, row.id)


@pytest.mark.parametrize(
    "end",
    [time_is_over, text_is_forgotten, device_is_logged_out, keys_are_forgotten, it_is_done],
)
@pytest.mark.parametrize("is_armed", [False, True])
async def test_mark_and_stanza_end_together_and_the_state_stays(
    database: Database,
    tenant: Tenant,
    end: Callable[[Database, OutboxRow], Awaitable[None]],
    is_armed: bool,
) -> None:
    row = await missed(database, tenant)
    if is_armed:
        await arm_late(database, row)
    await end(database, row)
    row = await reloaded(database, row)
    assert (row.missed_devices, row.stanza) == (False, None)
    assert row.state is RowState.SENT
    assert await history_of(database, row) == ["accepted", "armed", "sent"]
    assert await next_id(database, row) is None


async def test_mark_stays_until_its_time(database: Database, tenant: Tenant, clock: Clock) -> None:
    row = await missed(database, tenant)
    await database.write(outbox.expire, row.expires_at - timedelta(microseconds=1))
    assert (await reloaded(database, row)).missed_devices


async def test_row_without_text_is_not_marked(database: Database, tenant: Tenant) -> None:
    """Nothing could be encrypted, so nothing would ever take the mark away."""
    row = await armed(database, tenant.device)
    await database.write(outbox.mark_unknown, row.device_id, row.id, "unanswered")
    await database.write(outbox.forget_texts, NOON + timedelta(days=8))
    await mark_sent(database, row, missed=True)
    row = await reloaded(database, row)
    assert (row.state, row.missed_devices) == (RowState.SENT, False)

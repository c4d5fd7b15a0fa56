from __future__ import annotations

from sitpayd.storage.database import Database
from sitpayd.storage.outbox import accept, arm, mark_sent, message, next_row
from sitpayd.storage.poison import set_aside
from sitpayd.storage.records import Accepted, OutboxRow, RowState, Settled
from tests.storage.builders import NOON, Tenant, a_message


async def accepted(database: Database, tenant: Tenant) -> OutboxRow:
    outcome = await database.write(accept, a_message(tenant.device))
    assert isinstance(outcome, Accepted)
    return outcome.row


async def armed(database: Database, tenant: Tenant) -> OutboxRow:
    row = await accepted(database, tenant)
    assert await database.write(
        arm, tenant.device.id, row.id, b"stanza",
        sessions={}, identities={}, participants=b"", phash=None,
    )  # fmt: skip
    return row


async def test_row_that_never_left_fails(database: Database, tenant: Tenant) -> None:
    row = await accepted(database, tenant)
    settled = await database.write(set_aside, tenant.device.id, row.id)
    assert settled == Settled(tenant.device.id, row.message_id, RowState.FAILED, "poison")
    assert await database.read(next_row, tenant.device.id) is None


async def test_row_that_may_have_left_is_unknown(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant)
    settled = await database.write(set_aside, tenant.device.id, row.id)
    assert settled == Settled(tenant.device.id, row.message_id, RowState.UNKNOWN, "poison")


async def test_row_that_was_settled_stays_as_it_is(database: Database, tenant: Tenant) -> None:
    row = await armed(database, tenant)
    await database.write(mark_sent, tenant.device.id, row.wa_message_id, NOON)
    assert await database.write(set_aside, tenant.device.id, row.id) is None
    view = await database.read(message, tenant.device.id, row.message_id)
    assert view is not None
    assert view.state == "sent"


async def test_only_the_row_itself_is_set_aside(database: Database, tenant: Tenant) -> None:
    poison, other = await accepted(database, tenant), await accepted(database, tenant)
    await database.write(set_aside, tenant.device.id, poison.id)
    row = await database.read(next_row, tenant.device.id)
    assert row is not None
    assert row.id == other.id

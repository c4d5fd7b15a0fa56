"""Which incoming messages were read here, and which of them WhatsApp was told of."""

from __future__ import annotations

import pytest

from sitpayd.storage import devices
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.inbox import (
    MAX_MARKED,
    devices_that_owe_reads,
    mark_read,
    mark_reads_told,
    owes_reads,
    receive,
    untold_reads,
)
from sitpayd.storage.outbox import accept, message, messages
from sitpayd.storage.records import Incoming, MarkedRead, MessageView, ReadMark, StateChange
from tests.storage.builders import NOON, Clock, Tenant, a_message, make_tenant

ADA, BOB = "919876543210", "919812345678"


async def receives(
    database: Database, tenant: Tenant, *ids: str, chat: str = ADA, from_me: bool = False
) -> None:
    for wa_message_id in ids:
        sender = f"{chat}@s.whatsapp.net"
        incoming = Incoming(wa_message_id, chat, sender, from_me, "Hi", NOON)
        await database.write(receive, tenant.device.id, incoming, sessions={}, identities={})


async def views(database: Database, tenant: Tenant) -> dict[str, MessageView]:
    page = await database.read(messages, tenant.device.id)
    assert page is not None
    return {view.wa_message_id: view for view in page.messages}


async def mark(
    database: Database, tenant: Tenant, wa_message_id: str, *, only: bool = False
) -> MarkedRead | None:
    message_id = (await views(database, tenant))[wa_message_id].message_id
    return await database.write(mark_read, tenant.device.id, message_id, only=only)


async def untold(database: Database, tenant: Tenant, limit: int = 100) -> list[ReadMark]:
    return await database.read(untold_reads, tenant.device.id, limit)


async def read_ids(database: Database, tenant: Tenant) -> list[str]:
    return [id for id, view in (await views(database, tenant)).items() if view.state == "read"]


async def test_read_message_says_so_with_the_time(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    await receives(database, tenant, "A1")
    read_at = clock.forward(minutes=5)
    assert await mark(database, tenant, "A1") == MarkedRead(read_at, 1)
    view = (await views(database, tenant))["A1"]
    assert view.state == "read"
    assert view.history == (StateChange("received", NOON), StateChange("read", read_at))
    assert await database.read(message, tenant.device.id, view.message_id) == view


async def test_unread_ones_before_it_in_the_same_chat_are_read_as_well(
    database: Database, tenant: Tenant
) -> None:
    await receives(database, tenant, "A1", "A2")
    await receives(database, tenant, "B1", chat=BOB)
    await receives(database, tenant, "A3", "A4")
    assert await mark(database, tenant, "A3") == MarkedRead(NOON, 3)
    assert await read_ids(database, tenant) == ["A1", "A2", "A3"]


async def test_one_alone_is_read_if_that_is_wanted(database: Database, tenant: Tenant) -> None:
    await receives(database, tenant, "A1", "A2", "A3")
    assert await mark(database, tenant, "A2", only=True) == MarkedRead(NOON, 1)
    assert await read_ids(database, tenant) == ["A2"]


async def test_reading_again_changes_nothing(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    await receives(database, tenant, "A1", "A2")
    assert await mark(database, tenant, "A2", only=True) == MarkedRead(NOON, 1)
    later = clock.forward(minutes=5)
    assert await mark(database, tenant, "A2", only=True) == MarkedRead(NOON, 0)
    assert await mark(database, tenant, "A2") == MarkedRead(NOON, 1)
    told = [(mark.wa_message_id, mark.read_at) for mark in await untold(database, tenant)]
    assert told == [("A1", later), ("A2", NOON)]


async def test_what_the_account_wrote_itself_is_not_read(
    database: Database, tenant: Tenant
) -> None:
    await receives(database, tenant, "M1", from_me=True)
    await receives(database, tenant, "A1")
    assert await mark(database, tenant, "M1") == MarkedRead(None)
    assert await mark(database, tenant, "A1") == MarkedRead(NOON, 1)
    assert await read_ids(database, tenant) == ["A1"]


async def test_outgoing_foreign_and_unknown_messages_are_not_in_the_inbox(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    outgoing = a_message(tenant.device)
    await database.write(accept, outgoing)
    await receives(database, other, "A1")
    foreign = (await views(database, other))["A1"].message_id
    for message_id in (outgoing.message_id, foreign, "msg_nothing"):
        assert await database.write(mark_read, tenant.device.id, message_id, only=False) is None
    assert await read_ids(database, other) == []


async def test_as_many_as_one_call_may_mark_are_the_latest(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_MARKED >= 100
    monkeypatch.setattr("sitpayd.storage.inbox.MAX_MARKED", 2)
    await receives(database, tenant, "A1", "A2", "A3")
    assert await mark(database, tenant, "A3") == MarkedRead(NOON, 2)
    assert await read_ids(database, tenant) == ["A2", "A3"]


async def test_marks_are_told_once_oldest_first(database: Database, tenant: Tenant) -> None:
    await receives(database, tenant, "A1", "A2", "A3")
    assert not await database.read(owes_reads, tenant.device.id)
    await mark(database, tenant, "A2")
    assert await database.read(owes_reads, tenant.device.id)
    one, two = await untold(database, tenant)
    assert (one.wa_message_id, two.wa_message_id) == ("A1", "A2")
    assert one.sender == f"{ADA}@s.whatsapp.net"
    assert await untold(database, tenant, limit=1) == [one]
    assert await database.read(untold_reads, tenant.device.id, 10, [one.id]) == [two]
    await database.write(mark_reads_told, tenant.device.id, [one.id])
    assert await untold(database, tenant) == [two]
    await database.write(mark_reads_told, tenant.device.id, [two.id])
    assert not await database.read(owes_reads, tenant.device.id)
    assert await read_ids(database, tenant) == ["A1", "A2"]


async def test_marks_of_one_device_are_not_those_of_another(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    await receives(database, tenant, "A1")
    await mark(database, tenant, "A1")
    (owed,) = await untold(database, tenant)
    assert await untold(database, other) == []
    assert not await database.read(owes_reads, other.device.id)
    assert await database.read(devices_that_owe_reads) == [tenant.device.session_id]
    await database.write(mark_reads_told, other.device.id, [owed.id])
    assert await untold(database, tenant) == [owed]


@pytest.mark.parametrize("anew", [True, False], ids=["linked anew", "forgotten"])
async def test_nothing_is_told_for_an_account_that_is_gone(
    database: Database, tenant: Tenant, anew: bool
) -> None:
    await receives(database, tenant, "A1")
    await mark(database, tenant, "A1")
    if anew:
        await database.write(devices.start_anew, tenant.device.id, b"credentials")
    else:
        await database.write(devices.forget_keys, tenant.device.id)
    assert await untold(database, tenant) == []
    assert await read_ids(database, tenant) == ["A1"]


async def test_marks_are_found_by_an_index_that_holds_no_others(database: Database) -> None:
    def plan(unit: Unit, statement: str) -> str:
        return str(unit.one(f"EXPLAIN QUERY PLAN {statement}")["detail"])

    untold = "read_at IS NOT NULL AND NOT read_told"
    for statement in (
        f"SELECT 1 FROM inbox WHERE device_id = 1 AND {untold} LIMIT 1",
        f"SELECT device_id FROM inbox WHERE {untold}",
    ):
        assert "ix_inbox_read" in await database.read(plan, statement)

"""Number checks: what is known without asking, and how often may be asked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sitpayd.storage import checks, devices, outbox, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.inbox import receive
from sitpayd.storage.records import Accepted, Incoming, NumberStanding
from tests.storage.builders import NOON, Clock, Tenant, a_message, make_tenant, merged

ONE, TWO, THREE = "919876543210", "919812345678", "4915112345678"
UNKNOWN = NumberStanding(None)
HOUR_LATER = NOON + timedelta(hours=1)


async def standing(
    database: Database, tenant: Tenant, *numbers: str, per_hour: int | None = None
) -> list[NumberStanding]:
    found = await database.read(checks.standing, tenant.device.id, numbers, per_hour)
    assert list(found) == list(numbers)
    return list(found.values())


async def take(
    database: Database, tenant: Tenant, *numbers: str, per_hour: int | None = 10
) -> tuple[str, ...]:
    return await database.write(checks.take, tenant.device.id, numbers, per_hour)


async def note(database: Database, tenant: Tenant, number: str, registered: bool | None) -> None:
    await database.write(checks.note, tenant.device.id, {number: registered})


async def test_nothing_is_known_of_a_number_that_was_never_looked_up(
    database: Database, tenant: Tenant
) -> None:
    assert await standing(database, tenant, ONE) == [UNKNOWN]
    assert UNKNOWN.may_be_asked
    assert not await database.read(checks.is_absent, tenant.device.id, ONE)


async def test_answer_is_known_to_the_device_that_asked(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    await database.write(checks.note, tenant.device.id, {ONE: True, TWO: False})
    assert await standing(database, tenant, ONE, TWO) == [
        NumberStanding(True, NOON),
        NumberStanding(False, NOON),
    ]
    assert await standing(database, other, ONE, TWO) == [UNKNOWN, UNKNOWN]
    assert await database.read(checks.is_absent, tenant.device.id, TWO)
    assert not await database.read(checks.is_absent, tenant.device.id, ONE)


@pytest.mark.parametrize(
    ("registered", "kept"),
    [(True, timedelta(days=30)), (False, timedelta(hours=24)), (None, timedelta(hours=1))],
)
async def test_answer_holds_for_its_time(
    database: Database, tenant: Tenant, clock: Clock, registered: bool | None, kept: timedelta
) -> None:
    await note(database, tenant, ONE, registered)
    clock.now += kept - timedelta(microseconds=1)
    (known,) = await standing(database, tenant, ONE)
    assert (known.registered, known.may_be_asked) == (registered, False)
    clock.now += timedelta(microseconds=1)
    assert await standing(database, tenant, ONE) == [UNKNOWN]
    assert not await database.read(checks.is_absent, tenant.device.id, ONE)


async def test_number_that_got_no_answer_is_not_asked_about_again_within_the_hour(
    database: Database, tenant: Tenant
) -> None:
    assert await take(database, tenant, ONE) == (ONE,)
    assert await take(database, tenant, ONE) == ()
    held = NumberStanding(None, NOON, "no_answer", HOUR_LATER)
    assert await standing(database, tenant, ONE) == [held]


async def test_look_ups_of_an_hour_are_counted_whatever_they_told(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    await note(database, tenant, ONE, True)
    clock.forward(minutes=20)
    await note(database, tenant, TWO, False)
    held = NumberStanding(None, None, "check_limit", HOUR_LATER)
    assert await standing(database, tenant, THREE, per_hour=2) == [held]
    assert await take(database, tenant, THREE, per_hour=2) == ()
    clock.now = HOUR_LATER
    assert await take(database, tenant, THREE, per_hour=2) == (THREE,)


async def test_numbers_of_one_request_share_what_is_left_in_their_order(
    database: Database, tenant: Tenant
) -> None:
    found = await standing(database, tenant, ONE, TWO, THREE, per_hour=2)
    assert [known.may_be_asked for known in found] == [True, True, False]
    assert found[2] == NumberStanding(None, None, "check_limit", HOUR_LATER)
    assert await take(database, tenant, ONE, TWO, THREE, per_hour=2) == (ONE, TWO)


async def test_what_is_known_takes_nothing_of_the_hour(database: Database, tenant: Tenant) -> None:
    await note(database, tenant, ONE, True)
    assert await take(database, tenant, ONE, TWO, per_hour=2) == (TWO,)


async def test_more_look_ups_than_allowed_wait_for_all_but_the_newest(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    """Those of a send are not refused, so there may be more."""
    for number in (ONE, TWO):
        await note(database, tenant, number, True)
        clock.forward(minutes=10)
    (held,) = await standing(database, tenant, THREE, per_hour=1)
    assert held.held_until == HOUR_LATER + timedelta(minutes=10)


async def test_no_look_ups_are_allowed_where_none_are_wanted(
    database: Database, tenant: Tenant
) -> None:
    assert await take(database, tenant, ONE, per_hour=0) == ()
    held = NumberStanding(None, None, "check_limit", HOUR_LATER)
    assert await standing(database, tenant, ONE, per_hour=0) == [held]


async def test_every_number_may_be_asked_about_where_nothing_is_counted(
    database: Database, tenant: Tenant
) -> None:
    numbers = [str(919800000000 + n) for n in range(50)]
    assert await take(database, tenant, *numbers, per_hour=None) == tuple(numbers)


async def test_clock_that_was_ahead_leaves_nothing_that_holds(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    clock.forward(days=1)
    await note(database, tenant, ONE, False)
    clock.now = NOON
    assert await standing(database, tenant, ONE) == [UNKNOWN]
    assert await take(database, tenant, ONE, TWO, per_hour=1) == (ONE,)


async def test_who_has_written_has_an_account(database: Database, tenant: Tenant) -> None:
    incoming = Incoming("A1", ONE, ONE, False, "Hi", NOON)
    await database.write(receive, tenant.device.id, incoming, sessions={}, identities={})
    assert await standing(database, tenant, ONE) == [NumberStanding(True)]


async def test_message_of_somebody_who_was_absent_before_corrects_that(
    database: Database, tenant: Tenant
) -> None:
    await note(database, tenant, ONE, False)
    incoming = Incoming("A1", ONE, ONE, False, "Hi", NOON)
    await database.write(receive, tenant.device.id, incoming, sessions={}, identities={})
    assert await standing(database, tenant, ONE) == [NumberStanding(True, NOON)]
    assert not await database.read(checks.is_absent, tenant.device.id, ONE)


async def test_chat_does_not_hide_that_whatsapp_has_said_no_since(
    database: Database, tenant: Tenant
) -> None:
    incoming = Incoming("A1", ONE, ONE, False, "Hi", NOON)
    await database.write(receive, tenant.device.id, incoming, sessions={}, identities={})
    await note(database, tenant, ONE, False)
    assert await standing(database, tenant, ONE) == [NumberStanding(False, NOON)]


async def test_who_took_a_message_has_an_account(database: Database, tenant: Tenant) -> None:
    accepted = await database.write(outbox.accept, a_message(tenant.device, recipient=ONE))
    assert isinstance(accepted, Accepted)
    row = accepted.row
    assert await standing(database, tenant, ONE) == [UNKNOWN]
    await database.write(
        outbox.arm, row.device_id, row.id, b"stanza",
        sessions={}, identities={}, participants=b"", phash=None,
    )  # fmt: skip
    await database.write(outbox.mark_sent, row.device_id, row.wa_message_id, NOON)
    assert await standing(database, tenant, ONE) == [NumberStanding(True)]


@pytest.mark.parametrize("user_key", [f"{ONE}@s.whatsapp.net", "123@lid"])
async def test_with_whom_there_is_a_session_has_an_account(
    database: Database, tenant: Tenant, user_key: str
) -> None:
    await database.write(sessions.learn_mapping, tenant.device.id, ONE, "123", merged)
    assert await standing(database, tenant, ONE) == [UNKNOWN]
    await database.write(sessions.save_sessions, tenant.device.id, {(user_key, 3): b"session"})
    assert await standing(database, tenant, ONE) == [NumberStanding(True)]


async def test_row_that_will_be_refused_does_not_wait_as_a_first_message(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    for number in (ONE, TWO):
        await database.write(outbox.accept, a_message(tenant.device, recipient=number))

    async def next_recipient() -> str | None:
        row = await database.read(outbox.next_row, tenant.device.id, first_contacts=False)
        return None if row is None else row.recipient

    assert await next_recipient() is None
    await database.write(checks.note, tenant.device.id, {ONE: True, TWO: False})
    assert await next_recipient() == TWO
    clock.forward(hours=24)
    assert await next_recipient() is None
    other = await database.write(make_tenant, "Other")
    await note(database, other, ONE, False)
    assert await next_recipient() is None


async def test_old_checks_are_deleted_with_the_next_one(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    await note(database, tenant, ONE, True)
    clock.forward(days=30)
    await note(database, tenant, TWO, True)
    count = await database.read(lambda unit: unit.value(int, "SELECT count(*) FROM number_check"))
    assert count == 1


async def test_another_link_does_not_give_the_hour_back(database: Database, tenant: Tenant) -> None:
    assert await take(database, tenant, ONE, per_hour=1) == (ONE,)
    await database.write(devices.start_anew, tenant.device.id, b"credentials")
    assert await take(database, tenant, TWO, per_hour=1) == ()


async def test_checks_go_with_the_keys(database: Database, tenant: Tenant) -> None:
    await note(database, tenant, ONE, True)
    await database.write(devices.forget_keys, tenant.device.id)
    assert await standing(database, tenant, ONE) == [UNKNOWN]

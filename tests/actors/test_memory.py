"""DeviceMemory on a real database, in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sitpayd.actors.arming import participants_of
from sitpayd.actors.commands import Arm, Hold, Mark, MarkLate, NextRow
from sitpayd.actors.events import Armed, NotArmed
from sitpayd.actors.phase import Phase
from sitpayd.actors.shelf import MAX_SESSIONS
from sitpayd.storage import devices, outbox, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import MAX_PREKEY_ID, KeyPair
from sitpayd.whatsapp.stanzas import pairing_code
from sitpayd.whatsapp.stanzas.message import parse_outgoing
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OWN_PN,
    SERVER_T,
    rest,
    some_identity,
)
from tests.actors.home import COMPANION, END_OF_TIME, Home, read
from tests.storage.builders import NOON, Tenant
from tests.whatsapp.signal.parties import Party

# --- keys ---


async def test_keys_and_identity_survive_a_restart(home: Home) -> None:
    next_life = home.anew()
    await next_life.load_credentials()
    assert next_life.credentials == Credentials(home.keys, home.paired)
    record = await home.database.read(devices.device_by_id, home.device.id)
    assert record is not None
    assert record.phone == OWN_PN.user


async def test_device_without_keys_remembers_none(database: Database, tenant: Tenant) -> None:
    memory = Home(database, tenant).memory
    await memory.load_credentials()
    assert memory.credentials is None


async def test_fresh_keys_come_without_anything_old(home: Home) -> None:
    await home.armed(Party(1))
    old = home.keys
    fresh = await home.memory.make_keys()
    assert fresh != old
    assert await home.sessions(FRIEND_LID) == set()
    missing = (await home.memory.load_sessions((FRIEND_LID,))).missing
    assert missing == {FRIEND_LID}


async def test_typed_code_replaces_the_secret_which_is_stored_with_the_identity(
    home: Home,
) -> None:
    keys = await home.memory.make_keys()
    offer, phone, ephemeral = await home.memory.make_code(), KeyPair.generate(), KeyPair.generate()
    companion, hello = pairing_code.answer_hello(
        offer.code, offer.wrapped, b"ref", ephemeral, phone.public_key
    )
    agreed = (await home.memory.agree_on_code(offer, hello)).agreed
    assert agreed is not None
    secret = pairing_code.open_finish(agreed.finish, companion, ephemeral, phone)
    assert secret != keys.adv_secret
    await home.memory.save_identity(some_identity())
    next_life = home.anew()
    await next_life.load_credentials()
    assert next_life.credentials is not None
    assert next_life.credentials.keys == replace(keys, adv_secret=secret)


async def test_unusable_keys_of_a_phone_replace_nothing(home: Home) -> None:
    keys = await home.memory.make_keys()
    offer = await home.memory.make_code()
    hello = pairing_code.PrimaryHello(b"ref", offer.wrapped, bytes(32))
    assert (await home.memory.agree_on_code(offer, hello)).agreed is None
    assert home.memory.credentials == Credentials(keys)


async def test_forgotten_keys_are_gone(home: Home) -> None:
    await home.memory.forget_keys()
    next_life = home.anew()
    await next_life.load_credentials()
    assert (home.memory.credentials, next_life.credentials) == (None, None)


async def test_rest_survives_a_restart_until_it_is_cleared(home: Home) -> None:
    banned = replace(rest(Phase.BANNED), until=NOON + timedelta(hours=1))
    await home.memory.save_rest(banned)
    record = await home.database.read(devices.device_by_id, home.device.id)
    assert record is not None
    assert record.rest == banned
    await home.memory.save_rest(None)
    record = await home.database.read(devices.device_by_id, home.device.id)
    assert record is not None
    assert record.rest is None


async def test_prekeys_are_saved_before_they_are_uploaded(home: Home) -> None:
    made = (await home.memory.make_prekeys(3)).prekeys
    assert [prekey.key_id for prekey in made] == [1, 2, 3]
    stored = await home.database.read(sessions.prekey, home.device.id, 2)
    assert stored == made[1].key_pair.private_key


async def test_prekeys_not_yet_uploaded_are_offered_again(home: Home) -> None:
    first = (await home.memory.make_prekeys(3)).prekeys
    assert (await home.memory.make_prekeys(5)).prekeys[:3] == first
    assert (await home.memory.make_prekeys(2)).prekeys == first[:2]


async def test_uploaded_prekeys_are_not_offered_again(home: Home) -> None:
    await home.memory.make_prekeys(3)
    await home.memory.mark_uploaded((1, 2, 3))
    assert [p.key_id for p in (await home.memory.make_prekeys(2)).prekeys] == [4, 5]


async def test_new_prekeys_pass_over_those_still_kept_when_the_ids_come_round(home: Home) -> None:
    last = [(MAX_PREKEY_ID - 1, b"l" * 32)]
    await home.database.write(sessions.add_prekeys, home.device.id, [(1, b"o" * 32), *last])
    await home.memory.mark_uploaded((1, MAX_PREKEY_ID - 1))
    made = (await home.memory.make_prekeys(3)).prekeys
    assert [prekey.key_id for prekey in made] == [MAX_PREKEY_ID, 2, 3]


# --- arming ---


async def test_armed_row_is_committed_with_its_sessions(home: Home) -> None:
    friend = Party(1)
    armed = await home.armed(friend)
    assert await home.state_of(armed.row) == ("armed", None)
    loaded = (await home.memory.next_row(NextRow())).row
    assert loaded is not None
    assert loaded.stanza == armed.stanza
    assert await home.sessions(FRIEND_LID) == {0}


async def test_second_message_continues_the_session_after_a_restart(home: Home) -> None:
    friend = Party(1)
    await home.armed(friend)
    await home.next_life()
    assert (await home.memory.load_sessions((FRIEND_LID,))).missing == frozenset()
    row = await home.accepted()
    armed = await home.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {}))
    assert isinstance(armed, Armed)
    ((_, got),) = parse_outgoing(decode(armed.stanza)).participants
    # The friend never saw the first message; the session is the one begun with it.
    assert read(friend, got) == "Hello!"


async def test_row_nobody_can_read_is_not_armed(home: Home) -> None:
    row = await home.accepted()
    answer = await home.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {}))
    assert answer == NotArmed(row, "no_devices")
    assert await home.state_of(row) == ("accepted", None)


async def test_row_that_was_taken_back_leaves_the_sessions_alone(home: Home) -> None:
    friend, row = Party(1), await home.accepted()
    await home.database.write(outbox.cancel, home.device.id, row.message_id)
    order = Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {FRIEND_LID: friend.bundle()})
    assert await home.memory.arm(order) == NotArmed(row, None)
    assert await home.sessions(FRIEND_LID) == set()
    assert (await home.memory.load_sessions((FRIEND_LID,))).missing == {FRIEND_LID}


async def test_cache_of_sessions_stays_small(home: Home) -> None:
    everybody = tuple(FRIEND_LID.with_device(number) for number in range(MAX_SESSIONS + 9))
    await home.armed(*(Party(1) for _ in everybody), devices=everybody)
    assert (await home.memory.load_sessions(everybody)).missing == frozenset()
    assert len(home.memory.shelf) == MAX_SESSIONS


# --- what becomes of a row ---


async def test_acknowledged_row_is_sent_and_told(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T))
        assert watch.state is RowState.SENT
    assert await home.state_of(row) == ("sent", None)


@pytest.mark.parametrize("state", [RowState.FAILED, RowState.UNKNOWN])
async def test_settled_row_is_told_with_its_reason(home: Home, state: RowState) -> None:
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, state, "why"))
        assert (watch.state, watch.reason) == (state, "why")
    assert await home.state_of(row) == (state.value, "why")


@pytest.mark.parametrize("state", [RowState.FAILED, RowState.UNKNOWN])
async def test_row_that_went_another_way_is_not_told_as_lost(home: Home, state: RowState) -> None:
    row = await home.accepted()
    await home.database.write(outbox.cancel, home.device.id, row.message_id)
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, state, "why"))
        assert watch.state is None
    assert (await home.state_of(row))[0] == "canceled"


async def test_machine_marks_no_row_delivered(home: Home) -> None:
    with pytest.raises(AssertionError, match="delivered"):
        await home.memory.mark(Mark(await home.accepted(), RowState.DELIVERED))


async def missed_row(home: Home, phone: Party) -> OutboxRow:
    """A row that was sent to a phone, and missed its companion."""
    row = (await home.armed(phone)).row
    ahead = NextRow()
    mark = Mark(row, RowState.SENT, server_time=SERVER_T, missed=True)
    await home.memory.mark(mark, look_ahead=ahead)
    loaded = (await home.memory.next_row(ahead)).row
    assert loaded is not None
    assert (loaded.id, loaded.missed_devices, loaded.stanza) == (row.id, True, None)
    return loaded


async def test_missed_device_is_encrypted_for_with_the_same_id_and_remembered(home: Home) -> None:
    """F-31: sessions, stanza and participants in one transaction; the state stays."""
    phone, companion = Party(1), Party(2)
    row = await missed_row(home, phone)
    order = Arm(row, FRIEND_LID, FRIEND_PN, (COMPANION,), (), "2:", {COMPANION: companion.bundle()})
    armed = await home.memory.arm(order)
    assert isinstance(armed, Armed)
    message = parse_outgoing(decode(armed.stanza))
    assert (message.id, message.is_partial) == (row.wa_message_id, True)
    assert await home.sessions(FRIEND_LID) == {0, COMPANION.device}
    loaded = (await home.anew().next_row(NextRow())).row
    assert loaded is not None
    assert (loaded.stanza, loaded.state) == (armed.stanza, RowState.SENT)
    assert participants_of(loaded) == (FRIEND_LID, COMPANION)
    await home.memory.forget_missed(row.id)
    assert (await home.memory.next_row(NextRow())).row is None
    assert await home.state_of(row) == ("sent", None)


async def test_caller_is_told_before_missed_devices_are_looked_after(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T, missed=True))
        assert watch.state is RowState.SENT


async def test_missed_device_that_cannot_be_reached_leaves_the_sessions_alone(home: Home) -> None:
    row = await missed_row(home, Party(1))
    order = Arm(row, FRIEND_LID, FRIEND_PN, (COMPANION,), (), "2:", {})
    assert await home.memory.arm(order) == NotArmed(row, "no_devices")
    assert await home.sessions(FRIEND_LID) == {0}


async def test_late_ack_mends_a_row_that_was_given_up(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    await home.memory.mark(Mark(row, RowState.UNKNOWN, "attempts_over"))
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark_late(MarkLate(row.wa_message_id, None))
        assert watch.state is RowState.SENT
    assert (await home.state_of(row))[0] == "sent"


async def test_ack_of_a_stranger_is_nothing(home: Home) -> None:
    await home.memory.mark_late(MarkLate("3EB0", SERVER_T))


async def test_server_time_behind_all_calendars_is_no_time(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    await home.memory.mark(Mark(row, RowState.SENT, server_time=END_OF_TIME))
    stored = await home.database.read(
        outbox.row_by_wa_message_id, home.device.id, row.wa_message_id
    )
    assert stored is not None
    assert (stored.state, stored.server_time) == (RowState.SENT, None)


async def test_row_that_waits_is_told_why(home: Home) -> None:
    row = await home.accepted()
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.hold(Hold(row, 7.0, "paced"))
        assert (watch.state, watch.reason) == (RowState.ACCEPTED, "paced")
    view = await home.database.read(outbox.message, row.device_id, row.message_id)
    assert view is not None
    assert view.held_reason == "paced"
    assert view.held_until is not None


async def test_logged_out_device_settles_what_waits(home: Home) -> None:
    armed, accepted = (await home.armed(Party(1))).row, await home.accepted()
    with (
        home.outcomes.watch(armed.message_id) as one,
        home.outcomes.watch(accepted.message_id) as two,
    ):
        await home.memory.settle_logged_out()
        assert (one.state, two.state) == (RowState.UNKNOWN, RowState.FAILED)

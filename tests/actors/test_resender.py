"""Resender: what is encrypted once more, on a real database in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.commands import AskPhone, LookUpResend, Resend, Send
from sitpayd.actors.events import Resent, Unread
from sitpayd.actors.queries import Queries
from sitpayd.actors.repairs import MAX_RESENDS, Repairs
from sitpayd.storage import outbox, sessions
from sitpayd.storage.records import OutboxRow
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.content import MessageName, pad
from sitpayd.whatsapp.stanzas.message import parse_outgoing
from tests.actors.builders import FRIEND_LID, FRIEND_PN, OWN_PN, SERVER_T
from tests.actors.home import (
    COMPANION,
    HELLO,
    OUR_PHONE,
    Home,
    content_of,
    enc,
    message,
    read,
    receipt_for,
    sent_row,
)
from tests.whatsapp.signal.parties import Party

BY_NUMBER = FRIEND_PN.with_device(COMPANION.device)


def retry_of(row: OutboxRow, from_: Jid = COMPANION) -> receipt.Receipt:
    retry = receipt.Retry(1, SERVER_T, 7, None, None, None)
    ids = (row.wa_message_id,)
    return receipt.Receipt(ids, from_, None, "retry", None, None, SERVER_T, False, retry)


def again(
    row: OutboxRow,
    bundle: PreKeyBundle | None = None,
    *,
    from_: Jid = COMPANION,
    anew: bool = False,
) -> Resend:
    return Resend(retry_of(row, from_), Node("ack", {"id": "R"}), bundle, anew)


# --- looking up ---


async def test_message_is_found_with_whom_it_was_encrypted_for(home: Home) -> None:
    friend = Party(1)
    row = await sent_row(home, friend, COMPANION)
    found = await home.resender.look_up(LookUpResend(retry_of(row)))
    assert found.row is not None
    assert (found.row.id, found.device, found.served) == (row.id, COMPANION, 0)
    assert found.reached == {COMPANION}
    record = (await home.memory.shelf.take([(str(FRIEND_LID), COMPANION.device)])).popitem()[1]
    assert found.base_key == record.current.base_key
    assert found.registration_id == friend.registration_id


@pytest.mark.parametrize(
    "from_",
    [BY_NUMBER, Jid(FRIEND_LID.user, "hosted.lid", 2), Jid(FRIEND_PN.user, "hosted", 2)],
    ids=str,
)
async def test_device_that_asks_under_another_name_is_the_same(home: Home, from_: Jid) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    found = await home.resender.look_up(LookUpResend(retry_of(row, from_)))
    assert found.device in found.reached
    assert found.base_key is not None


async def test_unknown_message_is_not_found(home: Home) -> None:
    row = replace(await sent_row(home, Party(1), COMPANION), wa_message_id="3EB0")
    found = await home.resender.look_up(LookUpResend(retry_of(row)))
    assert (found.row, found.reached) == (None, frozenset())


async def test_message_whose_text_is_forgotten_is_not_found(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    view = await home.database.read(outbox.message, home.device.id, row.message_id)
    assert view is not None
    await home.database.write(outbox.forget_texts, view.timestamp.replace(year=2099))
    found = await home.resender.look_up(LookUpResend(retry_of(row)))
    assert found.row is None


async def test_device_without_session_is_told(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    await home.reception.drop_sessions(FRIEND_LID)
    found = await home.resender.look_up(LookUpResend(retry_of(row)))
    assert (found.base_key, found.registration_id) == (None, None)
    assert found.reached == {COMPANION}


async def test_device_that_has_the_message_is_told(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    await home.reception.mark_receipt(receipt_for(row, None, BY_NUMBER))
    found = await home.resender.look_up(LookUpResend(retry_of(row)))
    assert found.served > MAX_RESENDS


# --- resending ---


async def test_device_that_could_not_read_gets_new_bytes(home: Home) -> None:
    row, fresh = await sent_row(home, Party(1), COMPANION), Party(2)
    order = again(row, fresh.bundle())
    resent = await home.resender.resend(order)
    stanza, ack = resent.nodes
    assert ack == order.ack
    ((_, got),) = parse_outgoing(stanza).participants
    assert read(fresh, got) == "Hello!"
    # The keys are somebody else's than those of the session before.
    assert resent.changed == (COMPANION,)


async def test_resend_steps_the_stored_session(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    before = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    assert (await home.resender.resend(again(row))).changed == ()
    after = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    assert before[2] != after[2]


async def test_resend_to_a_device_named_by_number_steps_the_session_under_the_lid(
    home: Home,
) -> None:
    friend = Party(1)
    row = await sent_row(home, friend, COMPANION)
    stanza, _ = (await home.resender.resend(again(row, from_=BY_NUMBER))).nodes
    ((to, got),) = parse_outgoing(stanza).participants
    assert (to, read(friend, got)) == (BY_NUMBER, "Hello!")
    assert await home.sessions(FRIEND_PN) == set()


async def test_resend_without_session_and_keys_is_only_acknowledged(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    await home.reception.drop_sessions(FRIEND_LID)
    order = again(row)
    assert await home.resender.resend(order) == Resent((order.ack,))


async def test_message_forgotten_meanwhile_is_only_acknowledged(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    order = again(replace(row, wa_message_id="3EB0"))
    assert await home.resender.resend(order) == Resent((order.ack,))


async def test_resends_of_a_message_to_a_device_are_counted(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    for turn in range(MAX_RESENDS):
        # Under either name of the device, and over a restart.
        from_ = COMPANION if turn % 2 else BY_NUMBER
        assert len((await home.resender.resend(again(row, from_=from_))).nodes) == 2
        await home.next_life()
    before = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    order = again(row)
    assert await home.resender.resend(order) == Resent((order.ack,))
    after = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    assert before == after


# --- the phone ---


UNREAD = Unread(MessageName(FRIEND_LID, "M1", from_me=False), "known as", SERVER_T)


async def test_phone_is_asked_in_the_session_with_it(home: Home) -> None:
    phone = await home.a_friend()
    await home.reception.receive(
        message(enc(phone.send(pad(HELLO))), from_=OUR_PHONE, category="peer")
    )
    (stanza,) = (await home.resender.ask_phone(AskPhone(UNREAD))).nodes
    asked = parse_outgoing(stanza)
    ((to, got),) = asked.participants
    assert (to, asked.category, got.kind) == (OWN_PN.bare, "peer", "msg")
    assert content_of(phone, got).asked == (UNREAD.name,)
    # The step of the session is stored: the next message is another one for the phone.
    await home.next_life()
    (stanza,) = (await home.resender.ask_phone(AskPhone(UNREAD))).nodes
    ((_, got),) = parse_outgoing(stanza).participants
    assert content_of(phone, got).asked == (UNREAD.name,)


async def test_phone_without_session_is_asked_with_its_bundle(home: Home) -> None:
    assert await home.resender.ask_phone(AskPhone(UNREAD)) == Resent((), lacks_session=True)
    phone = Party(1)
    (stanza,) = (await home.resender.ask_phone(AskPhone(UNREAD, phone.bundle()))).nodes
    ((_, got),) = parse_outgoing(stanza).participants
    assert (got.kind, content_of(phone, got).asked) == ("pkmsg", (UNREAD.name,))


async def test_phone_with_an_unusable_bundle_is_not_asked(home: Home) -> None:
    forged = replace(Party(1).bundle(), signature=bytes(64))
    assert await home.resender.ask_phone(AskPhone(UNREAD, forged)) == Resent(())


async def test_device_that_asks_a_thousand_times_is_encrypted_for_five_times(home: Home) -> None:
    """T-57: whatever it counts up, and however much time it takes."""
    row, repairs = await sent_row(home, Party(1), COMPANION), Repairs(Queries(), "bundle")
    resends, acks = 0, 0
    for turn in range(1000):
        now = turn * 120.0
        retry = receipt.Retry(turn % 7 + 1, SERVER_T, 7, None, None, None)
        asked, ack = replace(retry_of(row), retry=retry), Node("ack", {"id": str(turn)})
        said = repairs.asked(asked, ack, now)
        while said:
            command = said.pop()
            match command:
                case LookUpResend():
                    said += repairs.looked_up(await home.resender.look_up(command), now)
                case Resend():
                    said += repairs.done(await home.resender.resend(command), now)
                case Send(node=node) if node.tag == "iq":
                    said += repairs.unanswered(now)
                case Send(node=node):
                    resends += node.tag == "message"
                    acks += node == ack
                case _:
                    raise AssertionError(f"nobody expected {command}")
    assert (resends, acks) == (MAX_RESENDS, 1000)

"""Reception: what comes in, on a real database in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sitpayd.actors.commands import Arm, Mark, MarkReceipt, NextRow
from sitpayd.actors.events import Answer, Armed
from sitpayd.actors.receiving import (
    INVALID_PROTOBUF,
    MAX_RETRIES_A_MINUTE,
    MAX_RETRY_COUNT,
    NO_SECRET,
    UNKNOWN_TYPE,
    UNPARSABLE,
)
from sitpayd.actors.repairs import MAX_RESENDS
from sitpayd.storage import outbox, resends, sessions
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.jid import GROUP_SERVER, Jid, lid, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.aliases import LidMapping
from sitpayd.whatsapp.stanzas.content import (
    MessageName,
    device_sent,
    inline_history_sync,
    kept_message,
    pad,
    placeholder_answer,
)
from sitpayd.whatsapp.stanzas.message import parse_outgoing
from tests.actors.builders import FRIEND_LID, FRIEND_PN, OWN_LID, OWN_PN, SERVER_T
from tests.actors.home import (
    COMPANION,
    END_OF_TIME,
    HELLO,
    OUR_PHONE,
    Home,
    acked,
    asked_again,
    delivered,
    enc,
    message,
    read,
    receipt_for,
    sent_row,
)
from tests.storage.builders import NOON
from tests.whatsapp.signal.parties import Party

# --- receipts ---


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (None, "delivered"),
        ("inactive", "delivered"),
        ("delivery", "delivered"),
        ("read", "read"),
        ("played", "read"),
        ("sender", "sent"),
        ("peer_msg", "sent"),
    ],
)
async def test_receipt_moves_its_row(home: Home, kind: str | None, state: str) -> None:
    row = await sent_row(home)
    got = receipt_for(row, kind)
    assert await home.reception.mark_receipt(got) == Answer((got.ack,))
    assert (await home.state_of(row))[0] == state


@pytest.mark.parametrize("from_", [FRIEND_PN, FRIEND_LID, COMPANION], ids=str)
async def test_receipt_counts_under_number_and_lid(home: Home, from_: Jid) -> None:
    row = await sent_row(home)
    await home.reception.mark_receipt(receipt_for(row, None, from_))
    assert (await home.state_of(row))[0] == "delivered"


@pytest.mark.parametrize("from_", [Jid("1", "lid"), Jid("1", "s.whatsapp.net")], ids=str)
async def test_receipt_of_somebody_else_moves_nothing(home: Home, from_: Jid) -> None:
    row = await sent_row(home)
    got = receipt_for(row, "read", from_)
    assert await home.reception.mark_receipt(got) == Answer((got.ack,))
    assert (await home.state_of(row))[0] == "sent"


async def test_receipt_from_nobody_is_only_acknowledged(home: Home) -> None:
    got = receipt_for(await sent_row(home), "read")
    nameless = replace(got, receipt=replace(got.receipt, from_=None))
    assert await home.reception.mark_receipt(nameless) == Answer((got.ack,))


async def test_receipt_before_the_ack_wakes_who_waits(home: Home) -> None:
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.reception.mark_receipt(receipt_for(row, None))
        assert watch.state is RowState.DELIVERED
        await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T))
        assert watch.state is RowState.DELIVERED


async def test_receipt_of_the_backlog_has_its_own_time(home: Home) -> None:
    row = await sent_row(home)
    node = Node(
        "receipt",
        {"id": row.wa_message_id, "from": FRIEND_LID, "t": str(SERVER_T - 60), "offline": "1"},
    )
    got = MarkReceipt(receipt.parse_receipt(node), receipt.ack(node, OWN_PN))
    await home.reception.mark_receipt(got)
    view = await home.database.read(outbox.message, home.device.id, row.message_id)
    assert view is not None
    assert view.history[-1].at == NOON - timedelta(minutes=1)


async def test_receipt_from_behind_all_calendars_is_taken(home: Home) -> None:
    row = await sent_row(home)
    attrs = {"id": row.wa_message_id, "t": str(END_OF_TIME), "offline": "0"}
    node = Node("receipt", {**attrs, "from": FRIEND_LID})
    await home.reception.mark_receipt(MarkReceipt(receipt.parse_receipt(node), node))
    assert (await home.state_of(row))[0] == "delivered"


async def test_device_has_one_name_for_the_resends_it_needs_no_more(home: Home) -> None:
    """Its receipt may come by number although the message went by LID."""
    row = await sent_row(home, device=COMPANION)
    by_number = FRIEND_PN.with_device(COMPANION.device)
    await home.reception.mark_receipt(receipt_for(row, None, by_number))
    assert await served(home, row, COMPANION) > MAX_RESENDS


async def test_own_device_that_has_its_copy_needs_no_resend(home: Home) -> None:
    row = await sent_row(home)
    await home.reception.mark_receipt(receipt_for(row, "sender", OWN_LID.with_device(9)))
    assert await served(home, row, OWN_LID.with_device(9)) > MAX_RESENDS
    assert await served(home, row, OUR_PHONE) == 0
    assert (await home.state_of(row))[0] == "sent"


async def test_stranger_cannot_say_that_it_is_a_device_of_ours(home: Home) -> None:
    row = await sent_row(home)
    await home.reception.mark_receipt(receipt_for(row, "sender", FRIEND_LID))
    assert await served(home, row, FRIEND_LID) == 0


async def served(home: Home, row: OutboxRow, device: Jid) -> int:
    return await home.database.read(resends.served, home.device.id, row.id, str(device))


# --- who is who ---


async def test_learning_a_lid_moves_the_session_there(home: Home) -> None:
    order = await addressed_by_number(home, Party(1))
    assert isinstance(await home.memory.arm(order), Armed)
    assert await home.sessions(FRIEND_PN) == {0}
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    assert await home.sessions(FRIEND_PN) == set()
    assert await home.sessions(FRIEND_LID) == {0}
    missing = (await home.memory.load_sessions((FRIEND_PN, FRIEND_LID))).missing
    assert missing == frozenset()


async def addressed_by_number(home: Home, party: Party) -> Arm:
    row = await home.accepted()
    return Arm(row, FRIEND_PN, None, (FRIEND_PN,), (), "2:", {FRIEND_PN: party.bundle()})


async def test_message_by_number_goes_on_in_the_session_under_the_lid(home: Home) -> None:
    friend = Party(1)
    await home.armed(friend)
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = await home.accepted()
    armed = await home.memory.arm(Arm(row, FRIEND_PN, None, (FRIEND_PN,), (), "2:", {}))
    assert isinstance(armed, Armed)
    ((to, got),) = parse_outgoing(decode(armed.stanza)).participants
    assert (to, read(friend, got)) == (FRIEND_PN, "Hello!")
    assert await home.sessions(FRIEND_PN) == set()


async def test_many_mappings_are_learned_at_once(home: Home) -> None:
    known = [LidMapping(pn(f"1{n}"), lid(f"2{n}")) for n in range(300)]
    await home.reception.learn_all(tuple(known))
    await home.reception.learn_all(tuple(known))
    assert await home.database.read(sessions.lid_of, home.device.id, "1299") == "2299"


@pytest.mark.parametrize("user", [FRIEND_PN, FRIEND_LID], ids=["number", "lid"])
async def test_changed_identity_drops_sessions_under_both_names(home: Home, user: Jid) -> None:
    everywhere = (FRIEND_PN, FRIEND_LID, COMPANION)
    await home.armed(Party(1), Party(2), devices=(FRIEND_LID, COMPANION))
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    await home.reception.drop_sessions(user)
    assert (await home.memory.load_sessions(everywhere)).missing == set(everywhere)
    stored = await home.database.read(sessions.load_identities, home.device.id, str(FRIEND_LID))
    assert stored == {}


@pytest.mark.parametrize("user", [FRIEND_PN, FRIEND_LID], ids=["number", "lid"])
async def test_identity_of_somebody_without_other_name_may_change(home: Home, user: Jid) -> None:
    await home.reception.drop_sessions(user)


async def test_removed_device_takes_its_session_along_and_no_other(home: Home) -> None:
    await home.armed(Party(1), Party(2), devices=(FRIEND_LID, COMPANION))
    await home.reception.drop_sessions(FRIEND_LID, frozenset({COMPANION.device}))
    missing = (await home.memory.load_sessions((FRIEND_LID, COMPANION))).missing
    assert missing == {COMPANION}


async def test_choice_of_an_address_comes_with_the_next_row(home: Home) -> None:
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = await home.accepted()
    loaded = await home.memory.next_row(NextRow())
    assert (loaded.row, loaded.lid, loaded.by_number) == (row, FRIEND_LID, False)
    await home.reception.address_by_number(FRIEND_PN, wanted=True)
    assert (await home.memory.next_row(NextRow())).by_number


async def test_person_whose_lid_is_unknown_has_none_with_the_next_row(home: Home) -> None:
    await home.accepted()
    loaded = await home.memory.next_row(NextRow())
    assert (loaded.lid, loaded.by_number) == (None, False)


# --- sessions under two names ---


async def two_sessions(home: Home) -> tuple[Party, Party]:
    """A friend of whom nobody knows that number and LID are one: it has begun under either."""
    friend = Party(1)
    other = Party(1, friend.identity)
    for party, name, id in ((friend, FRIEND_PN, "M1"), (other, FRIEND_LID, "M2")):
        party.begin(await home.bundle())
        await home.reception.receive(message(enc(party.send(pad(HELLO))), from_=name, id=id))
    return friend, other


@pytest.mark.parametrize("from_", [FRIEND_PN, FRIEND_LID], ids=["by number", "by lid"])
async def test_message_that_brings_the_mapping_is_read_in_either_session(
    home: Home, from_: Jid
) -> None:
    """The sessions are made one before decrypting, whichever this message belongs to."""
    alternate = {"sender_pn": FRIEND_PN} if from_.is_lid else {"sender_lid": FRIEND_LID}
    for number, party in enumerate(await two_sessions(home)):
        node = message(enc(party.send(pad(HELLO))), from_=from_, id=f"N{number}", **alternate)
        assert await home.receives(node) == delivered(node)
    assert await home.sessions(FRIEND_PN) == set()
    assert len(await home.inbox()) == 4


async def test_sessions_become_one_in_memory_and_after_a_restart(home: Home) -> None:
    by_number, by_lid = await two_sessions(home)
    letters = [by_number.send(pad(HELLO)), by_lid.send(pad(HELLO))]
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    await home.next_life()
    for number, letter in enumerate(letters):
        node = message(enc(letter), id=f"N{number}")
        assert await home.receives(node) == delivered(node)


async def test_session_that_stands_under_the_number_still_is_tried_before_asking_again(
    home: Home,
) -> None:
    """Left behind by a version that let one of both lie."""
    by_number, by_lid = await two_sessions(home)
    device_id = home.device.id
    left = {}
    for name in (FRIEND_PN, FRIEND_LID):
        stored = await home.database.read(sessions.load_sessions, device_id, str(name))
        left[str(name), 0] = stored[0]
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    await home.database.write(sessions.save_sessions, device_id, left)
    await home.next_life()
    for number, party in enumerate((by_lid, by_number, by_lid)):
        node = message(enc(party.send(pad(HELLO))), from_=FRIEND_PN, id=f"N{number}")
        assert await home.receives(node) == delivered(node)
    assert await home.sessions(FRIEND_LID) == {0}
    assert await home.sessions(FRIEND_PN) == set()


async def test_number_without_a_session_of_its_own_is_asked_again_at_once(home: Home) -> None:
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    node = message(Node("enc", {"v": "2", "type": "msg"}, b"garbage"), from_=FRIEND_PN)
    asked_again(await home.reception.receive(node))


async def test_own_devices_stand_under_the_own_lid_whatever_a_stanza_says(home: Home) -> None:
    phone = await home.a_friend()
    copy = pad(device_sent(FRIEND_PN, HELLO))
    node = message(enc(phone.send(copy)), from_=OWN_PN.bare, recipient=FRIEND_PN)
    assert await home.receives(node) == delivered(node, from_me=True)
    assert await home.sessions(OWN_PN.bare) == set()
    assert await home.sessions(OWN_LID.bare) == {0}


# --- identities ---


async def test_first_identity_is_no_change(home: Home) -> None:
    friend = await home.a_friend()
    answer = await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    assert answer.changed == ()
    assert (await home.armed(Party(5), devices=(COMPANION,))).changed == ()


async def test_message_under_another_identity_tells_of_the_change_once_it_is_read(
    home: Home,
) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    moved = Party(9)
    moved.begin(await home.bundle())
    broken = replace(first := moved.send(pad(HELLO)), body=first.body[:-1])
    answer = await home.reception.receive(message(enc(broken), id="M2"))
    assert answer.changed == ()
    assert await identity_of(home, FRIEND_LID) == friend.identity.public_key
    answer = await home.reception.receive(message(enc(first), id="M2"))
    assert answer.changed == (FRIEND_LID,)
    assert await identity_of(home, FRIEND_LID) == moved.identity.public_key
    answer = await home.reception.receive(message(enc(moved.send(pad(HELLO))), id="M3"))
    assert answer.changed == ()


async def identity_of(home: Home, device: Jid) -> bytes:
    name = str(device.bare)
    found = await home.database.read(sessions.load_identities, home.device.id, name)
    return found[device.device]


async def test_bundle_under_another_identity_tells_of_the_change(home: Home) -> None:
    await home.armed(Party(1))
    assert (await home.armed(Party(2))).changed == (FRIEND_LID,)


async def test_identity_is_compared_also_where_the_session_is_gone(home: Home) -> None:
    """Sessions in use are few; what is stored counts."""
    await home.armed(Party(1))
    await home.next_life()
    assert (await home.armed(Party(2))).changed == (FRIEND_LID,)


async def test_phone_of_ours_is_known_by_the_key_that_signed_us(home: Home) -> None:
    armed = await home.armed(Party(1), devices=(OUR_PHONE,))
    assert armed.changed == (OUR_PHONE,)


async def test_dropped_identity_is_no_longer_compared(home: Home) -> None:
    await home.armed(Party(1))
    await home.reception.drop_sessions(FRIEND_LID)
    assert (await home.armed(Party(2))).changed == ()


# --- receiving ---


async def test_message_is_stored_and_then_confirmed(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(HELLO))), notify="Friend", sender_pn=FRIEND_PN)
    assert await home.receives(node) == delivered(node)
    (stored,) = await home.inbox()
    assert (stored.peer, stored.text, stored.direction) == (FRIEND_PN.user, "Hello!", "in")
    assert stored.timestamp == NOON


async def test_spent_prekey_is_deleted_with_the_message(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    assert await home.database.read(sessions.prekey, home.device.id, 1) is None


async def test_repeated_message_is_confirmed_and_stored_once(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(HELLO))))
    await home.reception.receive(node)
    assert await home.receives(node) == delivered(node)
    await home.next_life()
    assert await home.receives(node) == delivered(node)
    assert len(await home.inbox()) == 1


async def test_conversation_goes_both_ways(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    row = await home.accepted()
    armed = await home.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {}))
    assert isinstance(armed, Armed)
    ((_, got),) = parse_outgoing(decode(armed.stanza)).participants
    assert (got.kind, read(friend, got)) == ("msg", "Hello!")
    await home.reception.receive(message(enc(friend.send(pad(HELLO))), id="M2"))
    assert len(await home.inbox()) == 2


async def test_sender_without_a_known_number_is_named_by_lid(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    (stored,) = await home.inbox()
    assert stored.peer == str(FRIEND_LID)


async def test_session_of_a_known_lid_serves_the_number(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO))), sender_pn=FRIEND_PN))
    node = message(enc(friend.send(pad(HELLO))), from_=FRIEND_PN, id="M2")
    assert await home.receives(node) == delivered(node)
    assert len(await home.inbox()) == 2


async def test_message_from_behind_all_calendars_is_dated_today(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(HELLO))), t=str(END_OF_TIME))
    assert await home.receives(node) == delivered(node)
    assert len(await home.inbox()) == 1


async def test_own_message_on_another_device_is_stored_as_sent(home: Home) -> None:
    phone = await home.a_friend()
    copy = pad(device_sent(FRIEND_PN, HELLO))
    node = message(enc(phone.send(copy)), from_=OUR_PHONE, recipient=FRIEND_LID)
    assert await home.receives(node) == delivered(node, from_me=True)
    (stored,) = await home.inbox()
    assert (stored.direction, stored.peer, stored.text) == ("out", FRIEND_PN.user, "Hello!")


async def test_note_to_oneself_is_filed_under_the_own_number(home: Home) -> None:
    phone = await home.a_friend()
    copy = pad(device_sent(OWN_LID.bare, HELLO))
    await home.reception.receive(
        message(enc(phone.send(copy)), from_=OUR_PHONE, recipient=OUR_PHONE)
    )
    (stored,) = await home.inbox()
    assert stored.peer == OWN_PN.user


async def test_stranger_cannot_speak_for_us(home: Home) -> None:
    stranger = await home.a_friend()
    node = message(enc(stranger.send(pad(device_sent(Jid("1", "s.whatsapp.net"), HELLO)))))
    assert await home.receives(node) == delivered(node)
    assert await home.inbox() == []


async def test_what_is_no_text_is_confirmed_and_not_stored(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(pb.Message(imageMessage={}).SerializeToString()))))
    assert await home.receives(node) == delivered(node)
    assert await home.inbox() == []


@pytest.mark.parametrize("plaintext", [pad(b"\xff\xff"), b"\x00"], ids=["protobuf", "padding"])
async def test_what_is_no_message_is_refused_and_not_asked_for_again(
    home: Home, plaintext: bytes
) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(plaintext)))
    assert await home.receives(node) == acked(node, INVALID_PROTOBUF)
    assert await home.inbox() == []
    # The ratchet has gone on all the same.
    node = message(enc(friend.send(pad(HELLO))), id="M2")
    assert await home.receives(node) == delivered(node)


async def test_history_of_the_phone_is_confirmed_twice(home: Home) -> None:
    phone = await home.a_friend()
    history = pad(inline_history_sync(b""))
    node = message(enc(phone.send(history)), from_=OUR_PHONE, category="peer")
    confirmed, second = (await home.reception.receive(node)).nodes
    assert confirmed == receipt.delivery(node, active=False, from_me=True)
    assert second == receipt.history_sync("M1", OWN_PN)


async def test_history_of_another_companion_is_confirmed_once(home: Home) -> None:
    companion = await home.a_friend()
    history = pad(inline_history_sync(b""))
    node = message(enc(companion.send(history)), from_=OUR_PHONE.with_device(9), category="peer")
    assert await home.receives(node) == delivered(node, from_me=True)


async def test_history_of_a_stranger_is_confirmed_once(home: Home) -> None:
    stranger = await home.a_friend()
    node = message(enc(stranger.send(pad(inline_history_sync(b"")))))
    assert await home.receives(node) == delivered(node)
    assert await home.notices() == 0


@pytest.mark.parametrize("server", [GROUP_SERVER, "broadcast"])
async def test_text_that_is_not_to_us_is_not_stored(home: Home, server: str) -> None:
    friend = await home.a_friend()
    node = message(
        enc(friend.send(pad(HELLO))), from_=Jid("status", server), participant=FRIEND_LID
    )
    assert await home.receives(node) == delivered(node)
    assert await home.inbox() == []


async def test_text_of_a_group_is_only_acknowledged(home: Home) -> None:
    body = Node("enc", {"v": "2", "type": "skmsg"}, b"sealed")
    node = message(body, from_=Jid("1", GROUP_SERVER), participant=FRIEND_LID)
    assert await home.receives(node) == acked(node)


async def test_placeholder_is_acknowledged_and_the_phone_may_have_more(home: Home) -> None:
    node = message(Node("unavailable", {"type": "view_once"}))
    answer = await home.reception.receive(node)
    assert answer.nodes == acked(node)
    assert answer.unread is not None
    assert answer.unread.name == MessageName(FRIEND_LID, "M1", from_me=False)
    assert answer.unread.t == SERVER_T


@pytest.mark.parametrize("kind", ["bot", "hosted", "view_once_unavailable_fanout"])
async def test_placeholder_of_which_no_phone_has_more_is_only_acknowledged(
    home: Home, kind: str
) -> None:
    node = message(Node("unavailable", {"type": kind}))
    assert await home.reception.receive(node) == Answer(acked(node))


async def test_stanza_without_anything_is_only_acknowledged(home: Home) -> None:
    assert await home.reception.receive(node := message()) == Answer(acked(node))


@pytest.mark.parametrize(("kind", "code"), [("msmsg", NO_SECRET), ("frskmsg", UNKNOWN_TYPE)])
async def test_ciphertext_of_an_unknown_kind_is_refused(home: Home, kind: str, code: int) -> None:
    node = message(Node("enc", {"v": "2", "type": kind}, b"sealed"))
    assert await home.reception.receive(node) == Answer(acked(node, code))


async def test_two_ciphertexts_of_one_stanza_are_both_opened(home: Home) -> None:
    friend = await home.a_friend()
    sealed = Node("enc", {"v": "2", "type": "skmsg"}, b"sealed")
    first, second = friend.send(pad(b"")), friend.send(pad(HELLO))
    node = message(enc(first), enc(second), sealed)
    assert await home.receives(node) == delivered(node)
    assert len(await home.inbox()) == 1


async def test_message_without_a_sender_cannot_be_answered(home: Home) -> None:
    assert await home.receives(Node("message", {"id": "M"})) == ()


async def test_message_that_cannot_be_parsed_is_refused(home: Home) -> None:
    node = message(Node("enc", {"v": "2"}, b""))
    assert await home.receives(node) == acked(node, UNPARSABLE)


# --- what cannot be read ---


def garbage(kind: str = "pkmsg", **attrs: str) -> Node:
    return Node("enc", {"v": "2", "type": kind, **attrs}, b"garbage")


async def test_message_without_session_is_asked_for_with_keys(home: Home) -> None:
    got = asked_again(await home.reception.receive(message(garbage("msg"))))
    assert (got.count, got.error) == (1, 1)
    assert got.bundle is not None
    assert got.device_identity == home.paired.signed_identity


async def test_keys_of_a_retry_receipt_open_what_is_sent_again(home: Home) -> None:
    got = asked_again(await home.reception.receive(message(garbage("msg"))))
    assert got.bundle is not None
    friend = Party(1)
    friend.begin(got.bundle)
    again = message(enc(friend.send(pad(HELLO))))
    assert await home.receives(again) == delivered(again)
    assert len(await home.inbox()) == 1


async def test_spare_prekey_is_stored_and_never_uploaded(home: Home) -> None:
    got = asked_again(await home.reception.receive(message(garbage("msg"))))
    assert got.bundle is not None
    stored = await home.database.read(sessions.prekey, home.device.id, got.bundle.prekey_id or 0)
    assert stored is not None
    assert [p.key_id for p in (await home.memory.make_prekeys(1)).prekeys] == [2]


async def test_broken_message_is_asked_for_without_keys_first(home: Home) -> None:
    node = message(garbage())
    first = asked_again(await home.reception.receive(node))
    second = asked_again(await home.reception.receive(node))
    assert (first.count, first.bundle) == (1, None)
    assert second.count == 2
    assert second.bundle is not None


async def test_message_is_let_go_after_some_requests(home: Home) -> None:
    node = message(garbage())
    for _ in range(MAX_RETRY_COUNT):
        asked_again(await home.reception.receive(node))
    assert await home.receives(node) == acked(node)


async def test_count_of_the_sender_counts(home: Home) -> None:
    node = message(garbage(count=str(MAX_RETRY_COUNT)))
    assert await home.receives(node) == acked(node)


async def test_count_of_requests_outlives_a_restart(home: Home) -> None:
    node = message(garbage())
    assert asked_again(await home.reception.receive(node)).count == 1
    await home.next_life()
    assert asked_again(await home.reception.receive(node)).count == 2


async def test_count_of_requests_is_of_a_person_under_both_names(home: Home) -> None:
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    asked_again(await home.reception.receive(message(garbage())))
    again = await home.reception.receive(message(garbage(), from_=FRIEND_PN))
    assert asked_again(again).count == 2


async def test_message_that_could_be_read_was_never_asked_for(home: Home) -> None:
    friend = await home.a_friend()
    asked_again(await home.reception.receive(message(garbage())))
    node = message(enc(friend.send(pad(HELLO))))
    answer = await home.reception.receive(node)
    assert answer.nodes == delivered(node)
    other = await home.reception.receive(message(garbage(), id="M2"))
    assert other.unread is not None
    assert [name.replace("M1", "M2") for name in answer.read] == [other.unread.known_as]
    assert asked_again(await home.reception.receive(message(garbage()))).count == 1


async def test_storm_of_unreadable_messages_is_left_for_later(home: Home) -> None:
    """Not even acknowledged: what is acknowledged never comes again."""
    nodes = [message(garbage(), id=f"M{number}") for number in range(MAX_RETRIES_A_MINUTE + 5)]
    answers = [await home.receives(node) for node in nodes]
    assert [len(answer) for answer in answers] == [2] * MAX_RETRIES_A_MINUTE + [0] * 5
    # None of those counts as asked for.
    await home.next_life()
    assert asked_again(await home.reception.receive(nodes[-1])).count == 1


async def test_readable_messages_are_confirmed_in_the_middle_of_a_storm(home: Home) -> None:
    friend = await home.a_friend()
    for number in range(MAX_RETRIES_A_MINUTE + 1):
        await home.reception.receive(message(garbage(), id=f"M{number}"))
    node = message(enc(friend.send(pad(HELLO))), id="readable")
    assert await home.receives(node) == delivered(node)


async def test_session_stays_as_it_was_behind_a_broken_message(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    before = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    encrypted = friend.send(pad(HELLO))
    broken = replace(encrypted, body=encrypted.body[:-20])
    asked_again(await home.reception.receive(message(enc(broken), id="M2")))
    after = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    assert before == after
    node = message(enc(encrypted), id="M2")
    assert await home.receives(node) == delivered(node)


# --- what the phone has kept ---


async def test_unreadable_message_may_be_known_to_the_phone(home: Home) -> None:
    theirs = message(garbage())
    ours = message(garbage(), from_=OUR_PHONE, recipient=FRIEND_LID)
    for node, from_me in ((theirs, False), (ours, True)):
        answer = await home.reception.receive(node)
        assert answer.unread is not None
        assert answer.unread.name == MessageName(FRIEND_LID, "M1", from_me)


@pytest.mark.parametrize(
    "node",
    [
        message(garbage(), from_=OUR_PHONE, category="peer"),
        message(garbage(), from_=Jid("1", GROUP_SERVER), participant=FRIEND_LID),
    ],
    ids=["from the phone", "of a group"],
)
async def test_phone_is_not_asked_for_what_it_cannot_tell(home: Home, node: Node) -> None:
    answer = await home.reception.receive(node)
    asked_again(answer)
    assert answer.unread is None


def kept(id: str = "M1", *, from_me: bool = False, chat: Jid = FRIEND_LID) -> bytes:
    return kept_message(MessageName(chat, id, from_me), HELLO, SERVER_T, "Friend")


async def tells(home: Home, phone: Party, *messages: bytes, id: str = "P1") -> Answer:
    """What the phone's answer is answered with."""
    answer = pad(placeholder_answer("asked", messages))
    return await home.reception.receive(
        message(enc(phone.send(answer)), from_=OUR_PHONE, id=id, category="peer")
    )


async def test_message_that_the_phone_tells_is_stored_as_the_one_it_is(home: Home) -> None:
    phone = await home.a_friend()
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    unread = (await home.reception.receive(message(garbage()))).unread
    assert unread is not None
    answer = await tells(home, phone, kept(), kept("M9", from_me=True))
    assert answer.nodes[0].text("type") == "peer_msg"
    assert unread.known_as in answer.read
    first, second = await home.inbox()
    assert (first.wa_message_id, first.direction, first.text) == ("M1", "in", "Hello!")
    assert (first.peer, first.timestamp) == (FRIEND_PN.user, NOON)
    assert (second.wa_message_id, second.direction) == ("M9", "out")
    # Nobody needs to send it again: that is forgotten, and begins anew if it is repeated.
    assert asked_again(await home.reception.receive(message(garbage()))).count == 1


@pytest.mark.parametrize("chat", [FRIEND_PN, FRIEND_LID], ids=["by number", "by lid"])
async def test_message_that_comes_by_both_ways_is_stored_once(home: Home, chat: Jid) -> None:
    phone, friend = await home.a_friend(), Party(3)
    friend.begin(await home.bundle())
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    await tells(home, phone, kept(chat=chat))
    node = message(enc(friend.send(pad(HELLO))))
    assert await home.receives(node) == delivered(node)
    await tells(home, phone, kept(chat=chat), id="P2")
    assert len(await home.inbox()) == 1


async def test_own_message_that_comes_by_both_ways_is_stored_once(home: Home) -> None:
    phone = await home.a_friend()
    await tells(home, phone, kept(from_me=True))
    copy = pad(device_sent(FRIEND_LID, HELLO))
    node = message(enc(phone.send(copy)), from_=OUR_PHONE, recipient=FRIEND_LID)
    assert await home.receives(node) == delivered(node, from_me=True)
    assert len(await home.inbox()) == 1


@pytest.mark.parametrize(
    "from_", [FRIEND_LID, OUR_PHONE.with_device(9)], ids=["a stranger", "another companion"]
)
async def test_nobody_but_the_phone_tells_messages(home: Home, from_: Jid) -> None:
    author = await home.a_friend()
    answer = pad(placeholder_answer("asked", [kept()]))
    node = message(enc(author.send(answer)), from_=from_, category="peer")
    told = await home.reception.receive(node)
    assert told.nodes == delivered(node, from_me=from_ != FRIEND_LID)
    assert len(told.read) == 1
    assert await home.inbox() == []


async def test_what_the_phone_tells_of_a_group_or_without_text_is_not_stored(home: Home) -> None:
    phone = await home.a_friend()
    picture = pb.Message(imageMessage={}).SerializeToString()
    silent = kept_message(MessageName(FRIEND_LID, "M2", False), picture, SERVER_T)
    await tells(home, phone, kept(chat=Jid("1", GROUP_SERVER)), silent)
    assert await home.inbox() == []

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from sitpayd.actors.arming import (
    ArmedMessage,
    ArmedResend,
    address_of,
    arm,
    arm_phone_request,
    arm_resend,
    canonical,
)
from sitpayd.actors.commands import Arm, AskPhone, Resend
from sitpayd.actors.events import Unread
from sitpayd.storage.records import Address
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import Encrypted, PreKeyBundle, SessionRecord, start
from sitpayd.whatsapp.stanzas.content import Content, MessageName, parse_message, unpad
from sitpayd.whatsapp.stanzas.message import Enc, OutgoingMessage, parse_outgoing
from sitpayd.whatsapp.stanzas.receipt import Receipt, Retry
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    KEYS,
    OWN_LID,
    OWN_PN,
    PAIRED,
    SERVER_T,
    a_row,
)
from tests.whatsapp.signal.parties import Party

CREDENTIALS = Credentials(KEYS, PAIRED)
ROW = a_row()
COMPANION = FRIEND_LID.with_device(2)
OUR_PHONE = OWN_LID.bare
SENDERS = start(Party(2).bundle(), KEYS.identity)
NO_SESSIONS: dict[Address, SessionRecord] = {}


def command(
    devices: tuple[Jid, ...],
    bundles: dict[Jid, PreKeyBundle],
    *,
    own: tuple[Jid, ...] = (),
    to: Jid = FRIEND_LID,
) -> Arm:
    return Arm(ROW, to, FRIEND_PN if to == FRIEND_LID else None, devices, own, "2:", bundles)


def armed(what: ArmedMessage | None) -> ArmedMessage:
    assert what is not None
    return what


def sent(what: ArmedMessage | None) -> OutgoingMessage:
    return parse_outgoing(decode(armed(what).stanza))


def read(party: Party, enc: Enc) -> Content:
    """What the other side makes of it."""
    kind: Literal["pkmsg", "msg"] = "pkmsg" if enc.kind == "pkmsg" else "msg"
    # A reader does not look at the record: it is the sender's.
    return parse_message(unpad(party.receive(Encrypted(SENDERS, kind, enc.body))))


def forged(bundle: PreKeyBundle) -> PreKeyBundle:
    return replace(bundle, signature=bytes(64))


def test_every_device_reads_the_text() -> None:
    phone, companion = Party(1), Party(2)
    bundles = {FRIEND_LID: phone.bundle(), COMPANION: companion.bundle()}
    what = arm(command((FRIEND_LID, COMPANION), bundles), CREDENTIALS, NO_SESSIONS)
    message = sent(what)
    assert (message.id, message.to) == (ROW.wa_message_id, FRIEND_LID)
    assert message.peer_recipient_pn == FRIEND_PN
    (to_phone, for_phone), (to_companion, for_companion) = message.participants
    assert (to_phone, to_companion) == (FRIEND_LID, COMPANION)
    assert read(phone, for_phone) == Content("text", "Hello!")
    assert read(companion, for_companion) == Content("text", "Hello!")


def test_own_devices_read_for_whom_it_was() -> None:
    friend, phone = Party(1), Party(2)
    bundles = {FRIEND_LID: friend.bundle(), OUR_PHONE: phone.bundle()}
    what = arm(command((FRIEND_LID,), bundles, own=(OUR_PHONE,)), CREDENTIALS, NO_SESSIONS)
    _, (to, enc) = sent(what).participants
    assert to == OUR_PHONE
    assert read(phone, enc) == Content("text", "Hello!", destination=FRIEND_LID)


def test_note_to_oneself_goes_to_own_devices_alone() -> None:
    phone = Party(1)
    order = command((), {OUR_PHONE: phone.bundle()}, own=(OUR_PHONE,), to=OUR_PHONE)
    message = sent(arm(order, CREDENTIALS, NO_SESSIONS))
    ((to, enc),) = message.participants
    assert (to, message.peer_recipient_pn) == (OUR_PHONE, None)
    assert read(phone, enc).destination == OUR_PHONE


def test_first_message_proves_who_we_are() -> None:
    order = command((FRIEND_LID,), {FRIEND_LID: Party(1).bundle()})
    assert sent(arm(order, CREDENTIALS, NO_SESSIONS)).device_identity == PAIRED.signed_identity


def test_session_that_stands_needs_no_bundle_and_no_proof() -> None:
    friend = Party(1)
    first = armed(
        arm(command((FRIEND_LID,), {FRIEND_LID: friend.bundle()}), CREDENTIALS, NO_SESSIONS)
    )
    ((_, enc),) = parse_outgoing(decode(first.stanza)).participants
    read(friend, enc)
    # The friend's answer ends the time in which our prekey message is repeated.
    record = first.sessions[address_of(FRIEND_LID)]
    us = Party(KEYS.registration_id, KEYS.identity)
    us.saved = record.to_bytes()
    us.receive(friend.send(b"hi"))
    again = arm(command((FRIEND_LID,), {}), CREDENTIALS, {address_of(FRIEND_LID): us.session})
    message = sent(again)
    ((_, enc),) = message.participants
    assert (enc.kind, message.device_identity) == ("msg", None)
    assert read(friend, enc).text == "Hello!"


def test_sessions_given_stay_as_they_were() -> None:
    order = command((FRIEND_LID,), {FRIEND_LID: Party(1).bundle()})
    sessions = dict(armed(arm(order, CREDENTIALS, NO_SESSIONS)).sessions)
    before = {address: record.to_bytes() for address, record in sessions.items()}
    what = armed(arm(command((FRIEND_LID,), {}), CREDENTIALS, sessions))
    assert {address: record.to_bytes() for address, record in sessions.items()} == before
    assert what.sessions[address_of(FRIEND_LID)].to_bytes() not in before.values()


def test_only_stepped_sessions_are_given_back() -> None:
    order = command((FRIEND_LID,), {FRIEND_LID: Party(1).bundle()})
    other = armed(arm(command((COMPANION,), {COMPANION: Party(2).bundle()}), CREDENTIALS, {}))
    what = armed(arm(order, CREDENTIALS, other.sessions))
    assert set(what.sessions) == {address_of(FRIEND_LID)}
    assert what.devices == (FRIEND_LID,)


def test_what_is_for_missed_devices_says_that_it_is_a_part() -> None:
    """F-31. Source: WhatsApp's web client, WAWebSendMsgCreateFanoutStanza."""
    late = Party(1)
    missed = replace(ROW, missed_devices=True)
    order = replace(command((COMPANION,), {COMPANION: late.bundle()}), row=missed)
    message = sent(arm(order, CREDENTIALS, NO_SESSIONS))
    ((to, enc),) = message.participants
    assert (to, message.to, message.id) == (COMPANION, FRIEND_LID, ROW.wa_message_id)
    assert message.is_partial
    assert read(late, enc).text == "Hello!"
    whole = command((FRIEND_LID,), {FRIEND_LID: Party(2).bundle()})
    assert not sent(arm(whole, CREDENTIALS, NO_SESSIONS)).is_partial


def test_missed_own_device_is_reached_where_the_recipients_cannot_be() -> None:
    phone = Party(1)
    order = command((COMPANION,), {OUR_PHONE: phone.bundle()}, own=(OUR_PHONE,))
    assert arm(order, CREDENTIALS, NO_SESSIONS) is None
    missed = replace(order, row=replace(ROW, missed_devices=True))
    ((to, _),) = sent(arm(missed, CREDENTIALS, NO_SESSIONS)).participants
    assert to == OUR_PHONE


def test_device_that_cannot_be_reached_does_not_stop_the_others() -> None:
    bundles = {FRIEND_LID: forged(Party(1).bundle()), COMPANION: Party(2).bundle()}
    order = command((FRIEND_LID, COMPANION, FRIEND_LID.with_device(3)), bundles)
    assert armed(arm(order, CREDENTIALS, NO_SESSIONS)).devices == (COMPANION,)


def test_forged_bundle_leaves_the_session_in_use() -> None:
    first = command((FRIEND_LID,), {FRIEND_LID: Party(1).bundle()})
    sessions = armed(arm(first, CREDENTIALS, NO_SESSIONS)).sessions
    order = command((FRIEND_LID,), {FRIEND_LID: forged(Party(2).bundle())})
    what = armed(arm(order, CREDENTIALS, sessions))
    address = address_of(FRIEND_LID)
    assert what.sessions[address].remote_identity == sessions[address].remote_identity


@pytest.mark.parametrize("own", [(), (OUR_PHONE,)], ids=["alone", "with own phone"])
def test_message_that_reaches_no_device_of_the_recipient_is_not_armed(own: tuple[Jid, ...]) -> None:
    order = command((FRIEND_LID,), {OUR_PHONE: Party(1).bundle()}, own=own)
    assert arm(order, CREDENTIALS, NO_SESSIONS) is None


def test_note_to_oneself_without_other_devices_is_not_armed() -> None:
    assert arm(command((), {}, to=OUR_PHONE), CREDENTIALS, NO_SESSIONS) is None


def test_sessions_of_hosted_devices_are_filed_like_ordinary_ones() -> None:
    assert address_of(Jid("1", "hosted.lid", 99)) == ("1@lid", 99)
    assert address_of(OWN_PN) == ("4915112345678@s.whatsapp.net", 7)


# --- resends ---


def asked(
    device: Jid,
    bundle: PreKeyBundle | None = None,
    *,
    recipient: Jid | None = None,
    anew: bool = False,
) -> Resend:
    retry = Retry(2, SERVER_T, 7, None, None, None)
    ids = (ROW.wa_message_id,)
    receipt = Receipt(ids, device, None, "retry", None, recipient, SERVER_T, False, retry)
    return Resend(receipt, Node("ack"), bundle, anew)


def resent(what: ArmedResend | None) -> tuple[OutgoingMessage, Enc]:
    assert what is not None
    message = parse_outgoing(what.stanza)
    ((_, enc),) = message.participants
    return message, enc


def test_resend_with_keys_begins_a_new_session() -> None:
    friend = Party(1)
    message, enc = resent(arm_resend(ROW, asked(COMPANION, friend.bundle()), CREDENTIALS, None))
    assert (message.id, message.to, enc.count) == (ROW.wa_message_id, COMPANION, 2)
    assert message.device_identity == PAIRED.signed_identity
    assert read(friend, enc).text == "Hello!"


def test_keys_that_come_again_begin_no_second_session() -> None:
    """Of their prekey the device can make one session only."""
    friend = Party(1)
    order = asked(COMPANION, friend.bundle())
    first = arm_resend(ROW, order, CREDENTIALS, None)
    assert first is not None
    second = arm_resend(ROW, order, CREDENTIALS, first.sessions[address_of(COMPANION)])
    assert second is not None
    assert second.sessions[address_of(COMPANION)].archived == ()
    for again in (first, second):
        assert read(friend, resent(again)[1]).text == "Hello!"


def test_other_keys_begin_another_session() -> None:
    friend = Party(1)
    first = arm_resend(ROW, asked(COMPANION, friend.bundle()), CREDENTIALS, None)
    assert first is not None
    record = first.sessions[address_of(COMPANION)]
    second = arm_resend(ROW, asked(COMPANION, friend.bundle()), CREDENTIALS, record)
    assert second is not None
    assert len(second.sessions[address_of(COMPANION)].archived) == 1


def test_resend_without_keys_uses_the_session_there_is() -> None:
    friend = Party(1)
    first = armed(
        arm(command((COMPANION,), {COMPANION: friend.bundle()}), CREDENTIALS, NO_SESSIONS)
    )
    record = first.sessions[address_of(COMPANION)]
    _, enc = resent(arm_resend(ROW, asked(COMPANION), CREDENTIALS, record))
    assert read(friend, enc).text == "Hello!"


def test_resend_to_a_device_of_our_own_says_for_whom_it_was() -> None:
    phone = Party(1)
    order = asked(OUR_PHONE, phone.bundle(), recipient=FRIEND_LID)
    message, enc = resent(arm_resend(ROW, order, CREDENTIALS, None))
    assert message.recipient == FRIEND_LID
    assert read(phone, enc).destination == FRIEND_LID


def test_resend_without_session_and_keys_is_not_armed() -> None:
    assert arm_resend(ROW, asked(COMPANION), CREDENTIALS, None) is None


def test_resend_anew_leaves_nothing_of_the_old_session() -> None:
    friend = Party(1)
    first = armed(
        arm(command((COMPANION,), {COMPANION: friend.bundle()}), CREDENTIALS, NO_SESSIONS)
    )
    record = first.sessions[address_of(COMPANION)]
    kept = arm_resend(ROW, asked(COMPANION, friend.bundle()), CREDENTIALS, record)
    anew = arm_resend(ROW, asked(COMPANION, friend.bundle(), anew=True), CREDENTIALS, record)
    assert kept is not None
    assert anew is not None
    assert len(kept.sessions[address_of(COMPANION)].archived) == 1
    assert anew.sessions[address_of(COMPANION)].archived == ()
    assert arm_resend(ROW, asked(COMPANION, anew=True), CREDENTIALS, record) is None


# --- addresses ---


LIDS = {FRIEND_PN.user: FRIEND_LID.user}


@pytest.mark.parametrize(
    "device",
    [
        FRIEND_PN.with_device(99),
        FRIEND_LID.with_device(99),
        Jid(FRIEND_PN.user, "hosted", 99),
        Jid(FRIEND_LID.user, "hosted.lid", 99),
    ],
    ids=str,
)
def test_device_has_one_address_whatever_it_is_called(device: Jid) -> None:
    assert address_of(device, LIDS) == (str(FRIEND_LID), 99)
    assert canonical(device, LIDS) == FRIEND_LID.with_device(99)


def test_number_without_a_known_lid_is_an_address_of_its_own() -> None:
    assert address_of(OWN_PN, LIDS) == (str(OWN_PN.bare), OWN_PN.device)


def test_message_by_number_uses_the_session_that_stands_under_the_lid() -> None:
    friend = Party(1)
    first = armed(
        arm(command((COMPANION,), {COMPANION: friend.bundle()}), CREDENTIALS, NO_SESSIONS)
    )
    by_number = FRIEND_PN.with_device(COMPANION.device)
    order = Arm(ROW, FRIEND_PN, None, (by_number,), (), "2:", {})
    again = armed(arm(order, CREDENTIALS, first.sessions, LIDS))
    assert set(again.sessions) == {address_of(COMPANION)}
    assert again.devices == (by_number,)


# --- questions for the phone ---


UNREAD = Unread(MessageName(FRIEND_LID, "3EB0AA", from_me=False), "known as", SERVER_T)


def test_phone_is_asked_in_a_message_of_its_own() -> None:
    phone = Party(1)
    what = arm_phone_request(AskPhone(UNREAD, phone.bundle()), "3EB0CC", CREDENTIALS, None)
    message, enc = resent(what)
    assert (message.id, message.to, message.category) == ("3EB0CC", OWN_PN.bare, "peer")
    assert message.device_identity == PAIRED.signed_identity
    assert read(phone, enc).asked == (UNREAD.name,)
    assert what is not None
    assert set(what.sessions) == {(str(OWN_LID.bare), 0)}


def test_phone_is_asked_in_the_session_there_is() -> None:
    phone = Party(1)
    first = arm_phone_request(AskPhone(UNREAD, phone.bundle()), "1", CREDENTIALS, None)
    assert first is not None
    (record,) = first.sessions.values()
    _, enc = resent(arm_phone_request(AskPhone(UNREAD), "2", CREDENTIALS, record))
    assert read(phone, enc).asked == (UNREAD.name,)


def test_phone_without_session_and_keys_is_not_asked() -> None:
    assert arm_phone_request(AskPhone(UNREAD), "1", CREDENTIALS, None) is None

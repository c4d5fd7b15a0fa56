"""The delivery of rows, as DeviceMachine plays it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sitpayd.actors.commands import (
    Arm,
    Command,
    CountAttempt,
    Dial,
    HangUp,
    Hold,
    HoldFirstContacts,
    Learn,
    LoadSessions,
    Mark,
    MarkLate,
    NextRow,
    SaveNewChatHold,
    Send,
    Write,
)
from sitpayd.actors.delivery import (
    ACK_WITHIN_S,
    CHECK_WITHIN_S,
    MAX_PAUSE_AFTER_QUERY_S,
    MAX_WRITES,
    PAUSE_AFTER_QUERY_S,
    PAUSE_WHEN_RATE_LIMITED_S,
    RATE_OVERLIMIT,
)
from sitpayd.actors.events import (
    Answer,
    Armed,
    LossKind,
    Lost,
    NotArmed,
    Opened,
    RowLoaded,
    SessionsLoaded,
    StorageFailed,
    Tick,
)
from sitpayd.actors.messages import Deliver, Remove
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.phase import Phase
from sitpayd.actors.refusals import REFUSALS
from sitpayd.actors.strangers import ASK_AGAIN_S, MAX_ALONE, Barred
from sitpayd.storage.records import Closeness, OutboxRow, RowState
from sitpayd.whatsapp.jid import SERVER_JID, pn
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, mex, notification, privacy
from sitpayd.whatsapp.stanzas.message import phash
from sitpayd.whatsapp.stanzas.prekeys import BundleRefused
from tests.actors.builders import (
    FRIEND,
    FRIEND_LID,
    FRIEND_PN,
    FRIENDS_DEVICES,
    OUR_OTHERS,
    OUR_PHASH,
    OURSELVES,
    OWN_LID,
    OWN_PN,
    SERVER_T,
    UNIX_OFFSET_S,
    a_row,
    arm_command,
    bundle_of,
    bundles_query,
    bundles_result,
    connected_play,
    contact_query,
    contact_result,
    count_result,
    devices_query,
    devices_result,
    in_flight,
    known,
    known_friend_play,
    message_ack,
    noted,
    refused,
    result,
    started,
    success,
    user_devices,
)
from tests.support.playbook import Playbook

ROW = a_row()
ASKED = devices_query("#3", FRIEND_PN, OWN_PN.bare)
LEARNED = Learn(FRIEND_PN, FRIEND_LID)
LOADED = LoadSessions(FRIENDS_DEVICES + OUR_OTHERS)
ALL_HERE = SessionsLoaded(frozenset())
BUNDLE = bundle_of(KeyPair.generate())
SENT = Mark(ROW, RowState.SENT, server_time=SERVER_T)


def asked_play(row: OutboxRow = ROW) -> Playbook:
    """A device that asks (#3) for the devices of a first contact."""
    play = connected_play().on(Deliver()).expects(NextRow())
    return play.on(RowLoaded(row)).expects(ASKED)


def written_play() -> tuple[Playbook, Armed]:
    """A device whose first message to a friend waits for its ack."""
    play = connected_play()
    return play, in_flight(play, ROW, "#3")


def known_play(limits: PacingLimits | None = None) -> Playbook:
    return known_friend_play(limits)[0].on(Deliver()).expects(NextRow())


def unknown_bundles_play() -> Playbook:
    """A device that asks (#4) for the bundles of two devices."""
    play = known_play().on(RowLoaded(ROW)).expects(LOADED)
    missing = frozenset({FRIEND_LID, OWN_LID.with_device(9)})
    asked = bundles_query("#4", OWN_LID.with_device(9), FRIEND_LID)
    return play.on(SessionsLoaded(missing)).expects(asked)


def connect_again(play: Playbook, first: int) -> Playbook:
    """Dial after a loss and go on until the next row is looked for; `first` query is next."""
    play.tick().said()
    play.hears(success()).said()
    play.hears(count_result(f"#{first}", 9)).expects(Send(iq.active(f"#{first + 1}")))
    said = play.hears(result(f"#{first + 1}")).said()
    assert said[-1] == NextRow()
    return play


# --- the way of a row ---


def test_first_message_to_a_number_asks_for_devices_and_bundles() -> None:
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(ROW)).expects(ASKED)
    play.hears(devices_result("#3", FRIEND, OURSELVES)).expects(LEARNED, LOADED)
    everybody = FRIENDS_DEVICES + OUR_OTHERS
    asked = bundles_query("#4", *sorted(everybody, key=str))
    play.on(SessionsLoaded(frozenset(everybody))).expects(asked)
    bundles = {jid: bundle_of(KeyPair.generate()) for jid in sorted(everybody, key=str)}
    play.hears(bundles_result("#4", dict(bundles))).expects(arm_command(ROW, bundles))
    armed = Armed(ROW, b"stanza")
    play.on(armed).expects(Write(armed))
    play.hears(message_ack(ROW)).expects(SENT, NextRow())
    play.on(RowLoaded(None)).expects_nothing()


def test_message_to_known_devices_asks_for_nothing() -> None:
    play = known_play()
    play.on(RowLoaded(ROW)).expects(LOADED)
    play.on(ALL_HERE).expects(arm_command(ROW))
    armed = Armed(ROW, b"stanza")
    play.on(armed).expects(Write(armed))


def test_one_row_is_in_flight_at_a_time() -> None:
    play, _ = written_play()
    play.on(Deliver()).expects_nothing()
    play.hears(message_ack(ROW)).expects(SENT, NextRow())


def test_person_without_a_known_lid_is_addressed_by_number() -> None:
    play = asked_play()
    friend = user_devices(FRIEND_PN, (0, 2))
    devices = (FRIEND_PN, FRIEND_PN.with_device(2))
    others = (OWN_PN.bare, OWN_PN.with_device(9))
    play.hears(devices_result("#3", friend, OURSELVES)).expects(LoadSessions(devices + others))
    play.on(ALL_HERE).expects(
        Arm(ROW, FRIEND_PN, None, devices, others, phash({*devices, *others, OWN_PN}), {})
    )


def test_note_to_oneself_goes_to_the_own_other_devices() -> None:
    row = a_row(to=OWN_PN.user)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(devices_query("#3", OWN_PN.bare))
    play.hears(devices_result("#3", OURSELVES)).expects(LoadSessions(OUR_OTHERS))
    everybody = phash({*OUR_OTHERS, OWN_LID})
    play.on(ALL_HERE).expects(Arm(row, OWN_LID.bare, None, (), OUR_OTHERS, everybody, {}))


@pytest.mark.parametrize("ourselves", [None, (), (0, 7)], ids=["error", "empty", "phone alone"])
def test_note_to_oneself_reaches_the_phone_in_any_case(ourselves: tuple[int, ...] | None) -> None:
    row = a_row(to=OWN_PN.user)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(devices_query("#3", OWN_PN.bare))
    answer = devices_result("#3", user_devices(OWN_PN.bare, ourselves, lid=OWN_LID.bare))
    play.hears(answer).expects(LoadSessions((OWN_LID.bare,)))


def test_own_devices_that_are_not_told_are_asked_for_again() -> None:
    play = asked_play()
    answer = devices_result("#3", FRIEND, user_devices(OWN_PN.bare, None))
    play.hears(answer).expects(LEARNED, LoadSessions((*FRIENDS_DEVICES, OWN_LID.bare)))
    play.on(ALL_HERE).said()
    play.on(Armed(ROW, b"stanza")).said()
    play.hears(message_ack(ROW)).expects(SENT, NextRow())
    play.on(RowLoaded(a_row(2))).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))


def test_list_that_changes_while_another_is_asked_for_is_not_missed() -> None:
    play, _ = known_friend_play()
    stranger, row = pn("12025550123"), a_row(2, to="12025550123")
    play.on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(devices_query("#4", stranger, OWN_PN.bare))
    joined = notification.notification("N", notification.OwnDevices(()), t=1, from_=OWN_PN.bare)
    play.hears(joined).said()
    ourselves = user_devices(OWN_PN.bare, (0, 7, 9, 11))
    others = (OWN_PN.bare, OWN_PN.with_device(9), OWN_PN.with_device(11))
    answer = devices_result("#4", user_devices(stranger, (0,)), ourselves)
    play.hears(answer).expects(LoadSessions((stranger, *others)))


def test_list_that_changes_while_bundles_are_asked_for_is_not_missed() -> None:
    """And no bundle is asked for twice: each costs the other side a prekey."""
    play = unknown_bundles_play()
    joined = notification.notification("N", notification.OwnDevices(()), t=1, from_=OWN_PN.bare)
    play.hears(joined).said()
    theirs, ours, new = FRIEND_LID, OWN_LID.with_device(9), OWN_LID.with_device(11)
    got = {jid: bundle_of(KeyPair.generate()) for jid in (theirs, ours)}
    play.hears(bundles_result("#4", dict(got))).expects(devices_query("#5", FRIEND_PN, OWN_PN.bare))
    ourselves = user_devices(OWN_PN.bare, (0, 7, 9, 11), lid=OWN_LID.bare)
    _, loads = play.hears(devices_result("#5", FRIEND, ourselves)).said()
    assert loads == LoadSessions((*FRIENDS_DEVICES, *OUR_OTHERS, new))
    play.on(SessionsLoaded(frozenset({theirs, ours, new}))).expects(bundles_query("#6", new))
    late = bundle_of(KeyPair.generate())
    (arm,) = play.hears(bundles_result("#6", {new: late})).said()
    assert isinstance(arm, Arm)
    assert (arm.bundles, arm.own_devices) == ({**got, new: late}, (*OUR_OTHERS, new))


def test_bundle_serves_one_arming_alone() -> None:
    """Its one-time prekey is gone with that, also where WhatsApp refuses the message."""
    play = unknown_bundles_play()
    got = {FRIEND_LID: bundle_of(KeyPair.generate())}
    play.hears(bundles_result("#4", dict(got))).expects(arm_command(ROW, got))
    play.on(Armed(ROW, b"stanza")).said()
    play.hears(message_ack(ROW, error=479)).said()
    play.hears(devices_result("#5", FRIEND, OURSELVES)).said()
    play.on(SessionsLoaded(frozenset({FRIEND_LID}))).expects(bundles_query("#6", FRIEND_LID))


# --- who cannot be reached ---


def test_number_without_account_fails_the_row() -> None:
    play = asked_play()
    answer = devices_result("#3", user_devices(FRIEND_PN, None), OURSELVES)
    play.hears(answer).expects(noted(None), contact_query("#4"))
    play.hears(contact_result("#4", exists=False)).expects(
        noted(False), Mark(ROW, RowState.FAILED, "not_on_whatsapp"), NextRow()
    )


def test_number_that_was_absent_a_while_ago_fails_the_row_at_once() -> None:
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(ROW, checked=True, absent=True)).expects(
        Mark(ROW, RowState.FAILED, "not_on_whatsapp"), NextRow()
    )


@pytest.mark.parametrize("devices", [None, (), (0, 2)], ids=["error", "empty", "some"])
def test_number_that_was_checked_a_while_ago_is_not_checked_again(
    devices: tuple[int, ...] | None,
) -> None:
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(ROW, checked=True)).expects(ASKED)
    friend = user_devices(FRIEND_PN, devices, lid=FRIEND_LID)
    play.hears(devices_result("#3", friend, OURSELVES))
    if devices:
        play.expects(LEARNED, LOADED)
    else:
        play.expects(Mark(ROW, RowState.FAILED, "no_devices"), NextRow())
        # That holds for this row alone.
        play.on(RowLoaded(a_row(2))).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))
        play.hears(devices_result("#4", OURSELVES)).expects(noted(None), contact_query("#5"))


def test_armed_row_goes_out_whatever_was_said_of_the_number() -> None:
    armed = a_row(stanza=b"armed")
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(armed, checked=True, absent=True)).expects(
        Write(Armed(armed, b"armed")), CountAttempt(armed)
    )


@pytest.mark.parametrize("devices", [None, ()], ids=["error", "empty"])
def test_account_without_devices_fails_the_row(devices: tuple[int, ...] | None) -> None:
    play = asked_play()
    answer = devices_result("#3", user_devices(FRIEND_PN, devices), OURSELVES)
    play.hears(answer).expects(noted(None), contact_query("#4"))
    play.hears(contact_result("#4", exists=True)).expects(
        noted(True), Mark(ROW, RowState.FAILED, "no_devices"), NextRow()
    )


def test_check_that_says_nothing_of_the_number_does_not_tell_it_is_absent() -> None:
    play = asked_play()
    play.hears(devices_result("#3", OURSELVES)).expects(noted(None), contact_query("#4"))
    nothing = result("#4", Node("usync", {}, (Node("list", {}, ()),)))
    play.hears(nothing).expects(Mark(ROW, RowState.FAILED, "no_devices"), NextRow())


def test_check_that_failed_does_not_tell_the_number_is_absent() -> None:
    play = asked_play()
    play.hears(devices_result("#3", OURSELVES)).expects(noted(None), contact_query("#4"))
    error = Node("contact", {}, (Node("error", {"code": "429"}),))
    user = Node("user", {"jid": FRIEND_PN}, (error,))
    answer = result("#4", Node("usync", {}, (Node("list", {}, (user,)),)))
    play.hears(answer).expects(Mark(ROW, RowState.FAILED, "no_devices"), NextRow())


def test_nobody_left_to_encrypt_for_fails_the_row() -> None:
    play = known_play().on(RowLoaded(ROW)).expects(LOADED)
    play.on(ALL_HERE).expects(arm_command(ROW))
    play.on(NotArmed(ROW, "no_devices")).expects(
        Mark(ROW, RowState.FAILED, "no_devices"), NextRow()
    )


def test_row_that_was_taken_back_is_passed_over() -> None:
    play = known_play().on(RowLoaded(ROW)).expects(LOADED)
    play.on(ALL_HERE).expects(arm_command(ROW))
    play.on(NotArmed(ROW, None)).expects(NextRow())


# --- bundles ---


def test_bundles_are_asked_for_where_there_is_no_session() -> None:
    bundles = {OWN_LID.with_device(9): BUNDLE, FRIEND_LID: BUNDLE}
    play = unknown_bundles_play()
    play.hears(bundles_result("#4", dict(bundles))).expects(arm_command(ROW, bundles))


def test_device_without_a_bundle_does_not_stop_the_others() -> None:
    answer = bundles_result("#4", {OWN_LID.with_device(9): BundleRefused(404), FRIEND_LID: BUNDLE})
    unknown_bundles_play().hears(answer).expects(arm_command(ROW, {FRIEND_LID: BUNDLE}))


# --- questions without answers ---


def paused_for(play: Playbook, seconds: float) -> None:
    """The last event was answered with nothing, and for this long nothing is sent."""
    play.expects_nothing()
    assert play.waits_s is not None
    assert play.waits_s <= seconds
    play.later(seconds - 1.0).hears(Node("presence")).expects_nothing()
    play.on(Deliver()).expects_nothing()
    play.later(1.0).on(Deliver()).expects(NextRow())


def test_device_wakes_by_itself_when_its_pause_ends() -> None:
    play = asked_play().hears(refused("#3")).expects_nothing()
    assert play.waits_s == PAUSE_AFTER_QUERY_S
    play.tick().expects(NextRow())


@pytest.mark.parametrize(
    "answer",
    [refused("#3"), result("#3"), result("#3", Node("usync"))],
    ids=["error", "empty", "no list"],
)
def test_refused_device_query_is_asked_again_after_a_pause(answer: Node) -> None:
    play = asked_play().hears(answer)
    paused_for(play, PAUSE_AFTER_QUERY_S)
    play.on(RowLoaded(ROW)).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))


def test_server_that_names_a_pause_is_left_alone_for_it() -> None:
    error = Node("error", {"code": "503", "backoff": "77"})
    play = asked_play().hears(Node("iq", {"id": "#3", "type": "error"}, (error,)))
    paused_for(play, 77.0)


def test_server_that_is_asked_too_often_is_left_alone_for_minutes() -> None:
    play = asked_play().hears(refused("#3", RATE_OVERLIMIT))
    paused_for(play, PAUSE_WHEN_RATE_LIMITED_S)
    play.on(RowLoaded(ROW)).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))
    paused_for(play.hears(refused("#4", RATE_OVERLIMIT)), 2 * PAUSE_WHEN_RATE_LIMITED_S)


@pytest.mark.parametrize("answer", [refused("#4"), result("#4")], ids=["error", "no list"])
def test_refused_bundle_query_is_asked_again_after_a_pause(answer: Node) -> None:
    play = unknown_bundles_play().hears(answer)
    paused_for(play, PAUSE_AFTER_QUERY_S)
    play.on(RowLoaded(ROW)).expects(LOADED)


def test_unanswered_number_check_is_given_up_after_ten_seconds() -> None:
    play = asked_play()
    play.hears(devices_result("#3", OURSELVES)).expects(noted(None), contact_query("#4"))
    assert play.waits_s == CHECK_WITHIN_S
    play.tick()
    paused_for(play, PAUSE_AFTER_QUERY_S)


def test_pause_doubles_with_every_failed_query_up_to_five_minutes() -> None:
    play, pauses = asked_play(), []
    for number in range(3, 13):
        now = play.now
        play.hears(refused(f"#{number}")).expects_nothing()
        while play.on(Deliver()).said() != [NextRow()]:
            play.later(1.0).hears(Node("presence")).expects_nothing()
        pauses.append(play.now - now)
        play.on(RowLoaded(ROW)).expects(devices_query(f"#{number + 1}", FRIEND_PN, OWN_PN.bare))
    assert pauses == [5, 10, 20, 40, 80, 160, *[MAX_PAUSE_AFTER_QUERY_S] * 4]


def test_answer_behind_a_lost_connection_is_ignored() -> None:
    play = asked_play().on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.hears(devices_result("#3", FRIEND, OURSELVES)).expects_nothing()


# --- acks ---


def test_ack_of_another_message_is_noted_and_waited_on() -> None:
    play, _ = written_play()
    other = a_row(2)
    play.hears(message_ack(other)).expects(MarkLate(other.wa_message_id, SERVER_T))
    play.hears(message_ack(ROW)).expects(SENT, NextRow())


def test_refusal_of_another_message_is_ignored() -> None:
    play, _ = written_play()
    play.hears(message_ack(a_row(2), error=500)).expects_nothing()


def test_late_ack_marks_a_row_that_was_given_up() -> None:
    play = connected_play().hears(message_ack(ROW))
    play.expects(MarkLate(ROW.wa_message_id, SERVER_T))


def test_ack_with_another_hash_of_devices_makes_both_lists_unknown() -> None:
    play, _ = written_play()
    play.hears(message_ack(ROW, phash="2:another")).expects(replace(SENT, missed=True), NextRow())
    play.on(RowLoaded(a_row(2))).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))


def test_ack_with_our_hash_of_devices_changes_nothing() -> None:
    play, _ = written_play()
    play.hears(message_ack(ROW, phash=OUR_PHASH)).expects(SENT, NextRow())
    play.on(RowLoaded(a_row(2))).expects(LOADED)


def test_hash_covers_all_devices_and_our_own() -> None:
    assert phash({*FRIENDS_DEVICES, *OUR_OTHERS, OWN_LID}) == OUR_PHASH


def test_hash_covers_the_sending_device_even_where_the_server_does_not_list_it() -> None:
    play = asked_play()
    answer = devices_result("#3", FRIEND, user_devices(OWN_PN.bare, (0, 9)))
    play.hears(answer).expects(LEARNED, LOADED)
    play.on(ALL_HERE).said()
    play.on(Armed(ROW, b"stanza")).said()
    play.hears(message_ack(ROW, phash=OUR_PHASH)).expects(SENT, NextRow())
    play.on(RowLoaded(a_row(2))).expects(LOADED)


def test_missing_ack_recycles_the_connection() -> None:
    play, _ = written_play()
    for _ in range(7):
        play.later(10.0).hears(Node("presence")).expects_nothing()
    play.later(ACK_WITHIN_S - 70.0).on(Tick()).expects(HangUp())
    play.stands(Phase.WAITING, "no_answer")


def test_ack_within_its_time_keeps_the_connection() -> None:
    play, _ = written_play()
    for _ in range(7):
        play.later(10.0).hears(Node("presence")).expects_nothing()
    play.hears(message_ack(ROW)).expects(SENT, NextRow())
    assert not isinstance(play.later(ACK_WITHIN_S - 70.0).on(Tick()).said()[0], HangUp)


# --- replay ---


def test_armed_row_is_written_again_with_the_same_bytes() -> None:
    play, armed = written_play()
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    connect_again(play, 4)
    replayed = replace(ROW, state=RowState.ARMED, stanza=armed.stanza)
    play.on(RowLoaded(replayed)).expects(
        Write(Armed(replayed, armed.stanza)), CountAttempt(replayed)
    )
    play.hears(message_ack(ROW)).expects(
        Mark(replayed, RowState.SENT, server_time=SERVER_T), NextRow()
    )


def test_replayed_row_does_not_mind_another_hash_of_devices() -> None:
    row = a_row(stanza=b"stanza")
    play = known_play().on(RowLoaded(row)).expects(Write(Armed(row, b"stanza")), CountAttempt(row))
    play.hears(message_ack(row, phash="2:another")).said()
    play.on(RowLoaded(a_row(2))).expects(LOADED)


def test_row_that_is_never_acknowledged_becomes_unknown() -> None:
    row = a_row(stanza=b"stanza")
    play = connected_play().on(Deliver()).expects(NextRow())
    query = 3
    for _ in range(MAX_WRITES):
        play.on(RowLoaded(row)).expects(Write(Armed(row, b"stanza")), CountAttempt(row))
        play.on(Lost(LossKind.CLOSED, "")).expects_nothing()
        connect_again(play, query)
        query += 2
    play.on(RowLoaded(row)).expects(Mark(row, RowState.UNKNOWN, "attempts_over"), NextRow())


def test_attempts_of_an_earlier_life_count() -> None:
    row = replace(a_row(stanza=b"stanza"), attempts=MAX_WRITES)
    play = known_play().on(RowLoaded(row))
    play.expects(Mark(row, RowState.UNKNOWN, "attempts_over"), NextRow())


def test_arming_that_ends_behind_a_lost_connection_writes_nothing() -> None:
    play = known_play().on(RowLoaded(ROW)).expects(LOADED)
    play.on(ALL_HERE).expects(arm_command(ROW))
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.on(Armed(ROW, b"stanza")).expects_nothing()
    play.on(NotArmed(ROW, "no_devices")).expects_nothing()


def test_row_that_is_loaded_behind_a_lost_connection_waits() -> None:
    play = known_play().on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.on(RowLoaded(ROW)).expects_nothing()
    play.on(ALL_HERE).expects_nothing()


def test_row_in_flight_of_a_leaving_device_is_left_to_its_receipt() -> None:
    play, _ = written_play()
    play.on(Remove()).expects(Send(iq.logout("#4", OWN_PN)))
    play.hears(message_ack(ROW)).expects(MarkLate(ROW.wa_message_id, SERVER_T))


def test_answers_to_a_leaving_device_are_ignored() -> None:
    play = asked_play().on(Remove()).expects(Send(iq.logout("#4", OWN_PN)))
    play.hears(devices_result("#3", FRIEND, OURSELVES)).expects_nothing()
    play = unknown_bundles_play().on(Remove()).expects(Send(iq.logout("#5", OWN_PN)))
    play.hears(result("#4")).expects_nothing()


def test_question_of_a_leaving_device_may_expire() -> None:
    play = asked_play().on(Remove()).expects(Send(iq.logout("#4", OWN_PN)))
    for _ in range(6):
        play.later(10.0).hears(Node("presence")).expects_nothing()
    assert play.on(Tick()).said()[-1] == HangUp()


# --- refusals: every row of refusals.py ---


FINAL = [code for code, refusal in REFUSALS.items() if not refusal.resends]


def armed_once_more(code: int) -> bool:
    """What goes by number in the end is test_by_number.py."""
    return REFUSALS[code].rearms and not REFUSALS[code].by_number


PLAIN = [
    code
    for code in FINAL
    if not (REFUSALS[code].pause_s or REFUSALS[code].rearms or REFUSALS[code].holds_s)
]


@pytest.mark.parametrize("code", PLAIN)
def test_refused_row_fails_with_its_reason(code: int) -> None:
    play, refusal = written_play()[0], REFUSALS[code]
    play.hears(message_ack(ROW, error=code)).expects(
        Mark(ROW, RowState.FAILED, refusal.reason), NextRow()
    )
    unknown = devices_query("#4", FRIEND_PN, OWN_PN.bare)
    play.on(RowLoaded(a_row(2))).expects(unknown if refusal.forget_devices else LOADED)


@pytest.mark.parametrize("code", [code for code in FINAL if armed_once_more(code)])
def test_row_refused_for_its_addresses_is_armed_anew_once(code: int) -> None:
    play, refusal = written_play()[0], REFUSALS[code]
    armed_row = replace(ROW, stanza=b"old bytes")
    play.hears(message_ack(ROW, error=code)).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))
    play.hears(devices_result("#4", FRIEND, OURSELVES)).expects(
        Learn(FRIEND_PN, FRIEND_LID), LOADED
    )
    (arm,) = play.on(ALL_HERE).said()
    assert isinstance(arm, Arm)
    assert arm.again
    again = Armed(armed_row, b"new bytes")
    play.on(again).expects(Write(again), CountAttempt(armed_row))
    play.hears(message_ack(ROW, error=code)).expects(
        Mark(armed_row, RowState.FAILED, refusal.reason), NextRow()
    )


@pytest.mark.parametrize("code", [code for code in FINAL if REFUSALS[code].holds_s])
def test_refused_beginning_of_a_chat_holds_first_messages_and_no_others(code: int) -> None:
    play, refusal = written_play()[0], REFUSALS[code]
    said = play.hears(message_ack(ROW, error=code)).said()
    until = play.now + refusal.holds_s
    locked = code == 463
    query = mex.timelock_query if locked else mex.capping_query
    hold = HoldFirstContacts(until, refusal.reason, unanswered=locked)
    next_row = NextRow(first_contacts=False, unanswered=not locked)
    assert said == [
        SaveNewChatHold(Barred(until, refusal.reason)),
        hold,
        Send(query("#4")),
        Mark(ROW, RowState.FAILED, refusal.reason),
        next_row,
    ]
    play.on(RowLoaded(None, first_contacts_wait=True)).expects(hold)
    play.on(Deliver()).expects(next_row)
    play.on(RowLoaded(a_row(2))).expects(LOADED)


@pytest.mark.parametrize("code", [code for code in FINAL if REFUSALS[code].pause_s])
def test_refused_row_silences_the_device_for_a_while(code: int) -> None:
    play, refusal = written_play()[0], REFUSALS[code]
    play.hears(message_ack(ROW, error=code)).expects(Mark(ROW, RowState.FAILED, refusal.reason))
    for _ in range(int(refusal.pause_s) // 10):
        play.on(Deliver()).expects_nothing()
        play.later(10.0).hears(Node("presence")).expects_nothing()
    play.on(Deliver()).expects(NextRow())


@pytest.mark.parametrize("code", [code for code, refusal in REFUSALS.items() if refusal.resends])
def test_failure_of_the_server_is_answered_with_the_same_bytes(code: int) -> None:
    refusal = REFUSALS[code]
    play, armed = written_play()
    replayed = replace(ROW, state=RowState.ARMED, stanza=armed.stanza)
    for _ in range(refusal.resends):
        paused_for(play.hears(message_ack(ROW, error=code)), refusal.pause_s)
        play.on(RowLoaded(replayed)).expects(
            Write(Armed(replayed, armed.stanza)), CountAttempt(replayed)
        )
    play.hears(message_ack(ROW, error=code)).expects(
        Mark(replayed, RowState.FAILED, refusal.reason)
    )


def test_unknown_refusal_fails_the_row_and_is_named() -> None:
    play, _ = written_play()
    play.hears(message_ack(ROW, error=499)).expects(
        Mark(ROW, RowState.FAILED, "refused_499"), NextRow()
    )


# --- pace ---


LIMITS = PacingLimits(same_chat_s=(1.0, 1.0), other_chat_s=(3.0, 3.0), per_minute=2, per_hour=9)


def test_next_message_to_the_same_chat_waits_its_time() -> None:
    play = known_play(LIMITS)
    play.on(RowLoaded(ROW)).expects(Hold(ROW, play.now + 1.0, "paced"))
    play.on(Deliver()).expects_nothing()
    play.tick().expects(NextRow())
    known(play, ROW)


def test_row_that_is_armed_does_not_wait() -> None:
    row = a_row(stanza=b"stanza")
    known_play(LIMITS).on(RowLoaded(row)).expects(Write(Armed(row, b"stanza")), CountAttempt(row))


def test_row_that_waits_over_a_reconnect_is_not_told_twice() -> None:
    play = known_play(replace(LIMITS, same_chat_s=(60.0, 60.0)))
    until = play.now + 60.0
    play.on(RowLoaded(ROW)).expects(Hold(ROW, until, "paced"))
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().expects(Dial(registration=False))
    play.hears(success()).said()
    play.hears(count_result("#4", 9)).said()
    play.hears(result("#5")).said()
    play.on(Deliver()).expects_nothing()
    assert play.now < until


def test_row_that_waits_longer_is_told_again() -> None:
    play = known_play(LIMITS)
    play.on(RowLoaded(ROW)).expects(Hold(ROW, play.now + 1.0, "paced"))
    play.tick().expects(NextRow())
    known(play, ROW)
    play.hears(message_ack(ROW)).expects(SENT, NextRow())
    play.on(RowLoaded(a_row(2))).expects(Hold(a_row(2), 1000.0 + 60.0, "paced"))


def mex_notice(op_name: str, told: dict[str, object]) -> Node:
    update = Node("update", {"op_name": op_name}, json.dumps({"data": {"x": told}}).encode())
    return Node("notification", {"id": "n", "from": SERVER_JID, "type": "mex"}, (update,))


def timelock_notice(*, active: bool, ends: int | None = None) -> Node:
    told: dict[str, object] = {"is_active": active, "time_enforcement_ends": ends}
    return mex_notice("NotificationUserReachoutTimelockUpdate", told)


def test_lock_told_by_the_server_holds_first_messages_until_its_end() -> None:
    play = known_friend_play()[0]
    ends = int(play.now + UNIX_OFFSET_S) + 600
    *said, acked = play.hears(timelock_notice(active=True, ends=ends)).said()
    assert isinstance(acked, Send)
    until = ends - UNIX_OFFSET_S
    assert said == [
        SaveNewChatHold(Barred(until, "reachout_locked")),
        HoldFirstContacts(until, "reachout_locked", unanswered=True),
    ]
    play.on(Deliver()).expects(WARM_ONLY)
    play.on(RowLoaded(None, first_contacts_wait=True)).said()
    # At the end that was told it is asked whether it is one; until then it holds.
    play.later(until - play.now).on(Deliver()).expects(Send(mex.timelock_query("#4")), WARM_ONLY)
    play.on(RowLoaded(None, first_contacts_wait=True)).said()
    play.hears(told_lock("#4", active=False)).expects(SaveNewChatHold(None), NextRow())


def test_lock_that_is_lifted_lets_first_messages_go_at_once() -> None:
    play = known_friend_play()[0]
    play.hears(timelock_notice(active=True)).said()
    *said, _ = play.hears(timelock_notice(active=False)).said()
    assert said == [SaveNewChatHold(None), NextRow()]


def test_what_comes_in_lets_held_first_messages_be_looked_at_again() -> None:
    play = known_friend_play()[0]
    play.on(Answer(())).expects_nothing()
    play.hears(timelock_notice(active=True)).said()
    play.on(Deliver()).expects(WARM_ONLY)
    play.on(RowLoaded(None, first_contacts_wait=True)).said()
    play.on(Answer(())).expects(WARM_ONLY)
    play.on(RowLoaded(a_row(2))).expects(LOADED)


# --- how the account stands ---


WARM_ONLY = NextRow(first_contacts=False, unanswered=False)
SHARED = Send(privacy.give("#5", FRIEND_LID, SERVER_T))


def told_lock(query_id: str, *, active: bool | None, ends: int | None = None) -> Node:
    lock = None if active is None else {"is_active": active, "time_enforcement_ends": ends}
    told = json.dumps({"data": {"xwa2_fetch_account_reachout_timelock": lock}}).encode()
    return result(query_id, Node("result", {}, told))


def told_cap(query_id: str, status: str, *, ends: int | None = None) -> Node:
    cap = {"capping_status": status, "cycle_end_timestamp": ends}
    told = json.dumps({"data": {"xwa2_message_capping_info": cap}}).encode()
    return result(query_id, Node("result", {}, told))


def refused_play(code: int = 463) -> Playbook:
    """A device whose first message was refused; it asks (#4) how the account stands."""
    play, _ = written_play()
    play.hears(message_ack(ROW, error=code)).said()
    return play.on(RowLoaded(None)).expects_nothing()


def refused_again(play: Playbook, number: int) -> list[Command]:
    """Bring another message to the friend, and let it be refused as the first was."""
    row = a_row(number)
    play.on(Deliver()).said()
    known(play, row)
    return play.hears(message_ack(row, error=463)).said()


@pytest.mark.parametrize("active", [None, False], ids=["null", "inactive"])
def test_refusal_of_an_account_that_is_not_locked_concerns_that_person_alone(
    active: bool | None,
) -> None:
    play = refused_play()
    # Nothing is held, nothing is sent again; the person is given our token, once.
    play.hears(told_lock("#4", active=active)).expects(SaveNewChatHold(None), SHARED, NextRow())
    play.on(RowLoaded(None)).expects_nothing()
    assert refused_again(play, 2) == [
        Mark(a_row(2), RowState.FAILED, "reachout_locked"),
        NextRow(),
    ]


def test_several_refusals_in_a_row_are_taken_for_a_word_about_the_account() -> None:
    play = refused_play()
    play.hears(told_lock("#4", active=False)).said()
    play.on(RowLoaded(None)).expects_nothing()
    for number in range(2, 2 + MAX_ALONE - 1):
        assert refused_again(play, number)[-1] == NextRow()
        play.on(RowLoaded(None)).expects_nothing()
    until = play.now + REFUSALS[463].holds_s
    # Without asking: that was done less than six hours ago.
    assert refused_again(play, 9) == [
        SaveNewChatHold(Barred(until, "reachout_locked")),
        HoldFirstContacts(until, "reachout_locked", unanswered=True),
        Mark(a_row(9), RowState.FAILED, "reachout_locked"),
        WARM_ONLY,
    ]
    play.on(RowLoaded(None)).expects_nothing()
    play.later(until - play.now)
    assert Send(mex.timelock_query("#6")) in play.on(Deliver()).said()


def test_refusal_while_the_account_is_locked_changes_nothing() -> None:
    play = refused_play()
    ends = int(play.now + UNIX_OFFSET_S) + 3 * 24 * 3600
    play.hears(told_lock("#4", active=True, ends=ends)).said()
    assert refused_again(play, 2) == [
        Mark(a_row(2), RowState.FAILED, "reachout_locked"),
        WARM_ONLY,
    ]


def test_lock_is_asked_about_each_six_hours_and_at_its_end() -> None:
    play = refused_play()
    begin, days = play.now, 24 * 3600
    ends = int(begin + UNIX_OFFSET_S) + days
    play.hears(told_lock("#4", active=True, ends=ends)).said()
    asked_after: list[float] = []
    while play.now < begin + days - ASK_AGAIN_S:
        play.later(ASK_AGAIN_S - 1.0).on(Deliver()).said()
        play.on(RowLoaded(None)).said()
        play.later(1.0)
        said = play.on(Deliver()).said()
        number = 5 + len(asked_after)
        assert said[0] == Send(mex.timelock_query(f"#{number}"))
        asked_after.append(play.now - begin)
        play.on(RowLoaded(None)).said()
        play.hears(told_lock(f"#{number}", active=True, ends=ends)).said()
    assert asked_after == [6 * 3600.0, 12 * 3600.0, 18 * 3600.0]


@pytest.mark.parametrize("answer", ["error", "silence", "nonsense"])
def test_end_that_was_told_is_one_if_nobody_says_otherwise(answer: str) -> None:
    play = known_friend_play()[0]
    ends = int(play.now + UNIX_OFFSET_S) + 600
    play.hears(timelock_notice(active=True, ends=ends)).said()
    play.on(Deliver()).said()
    play.on(RowLoaded(None)).said()
    play.later(600.0).on(Deliver()).said()
    play.on(RowLoaded(None)).said()
    question = "#4"
    match answer:
        case "error":
            play.hears(refused(question))
        case "nonsense":
            play.hears(result(question, Node("result", {}, b"x")))
        case _:
            for _ in range(6):
                play.later(10.0).hears(Node("presence")).expects_nothing()
            play.on(Tick())
    said = play.said()
    assert said[-2:] == [SaveNewChatHold(None), NextRow()]


def test_unanswered_question_before_the_end_leaves_the_hold() -> None:
    play = refused_play()
    play.hears(refused("#4")).expects_nothing()
    play.on(Deliver()).expects(WARM_ONLY)


def test_hold_of_an_earlier_life_is_asked_about_at_once() -> None:
    play = Playbook()
    until = play.now + 3600.0
    hold = Barred(until, "new_chat_limit")
    play.on(replace(started(), new_chats=hold)).said()
    play.on(Opened()).said()
    play.hears(success()).said()
    play.hears(count_result("#1", 100)).said()
    said = play.hears(result("#2")).said()
    assert said[-2:] == [Send(mex.capping_query("#3")), NextRow(first_contacts=False)]
    play.on(RowLoaded(None)).said()
    play.hears(told_cap("#3", "NONE")).expects(SaveNewChatHold(None), NextRow())


def test_quota_that_is_used_up_holds_new_chats_until_the_cycle_ends() -> None:
    play = refused_play(475)
    ends = int(play.now + UNIX_OFFSET_S) + 20 * 24 * 3600
    until = ends - UNIX_OFFSET_S
    play.hears(told_cap("#4", "CAPPED", ends=ends)).expects(
        SaveNewChatHold(Barred(until, "new_chat_limit")), HoldFirstContacts(until, "new_chat_limit")
    )
    # Whom we wrote to before is no new chat.
    play.on(Deliver()).expects(NextRow(first_contacts=False))


def test_count_right_behind_a_refusal_does_not_undo_it() -> None:
    play = refused_play(475)
    play.hears(told_cap("#4", "SECOND_WARNING")).expects_nothing()
    play.on(Deliver()).expects(NextRow(first_contacts=False))
    play.on(RowLoaded(None)).said()
    play.later(ASK_AGAIN_S).on(Deliver()).expects(
        Send(mex.capping_query("#5")), NextRow(first_contacts=False)
    )
    play.on(RowLoaded(None)).said()
    play.hears(told_cap("#5", "SECOND_WARNING")).expects(SaveNewChatHold(None), NextRow())


def test_quota_says_nothing_more_where_the_account_is_locked() -> None:
    play = refused_play()
    held = Barred(play.now + REFUSALS[463].holds_s, "reachout_locked")
    notice = mex_notice("MessageCappingInfoNotification", {"capping_status": "CAPPED"})
    *said, _ = play.hears(notice).said()
    assert said == [
        SaveNewChatHold(held),
        HoldFirstContacts(held.until, held.reason, unanswered=True),
    ]
    *said, _ = play.hears(
        mex_notice("MessageCappingInfoNotification", {"capping_status": "NONE"})
    ).said()
    assert said == []
    play.on(Deliver()).expects(WARM_ONLY)


def test_outlook_tells_whom_the_hold_concerns() -> None:
    play, outlook = refused_play(), known_friend_play()[0].machine.outlook
    until = play.now + REFUSALS[463].holds_s
    barred = Barred(until, "reachout_locked")
    for standing in Closeness:
        expected = None if standing in (Closeness.CLOSE, Closeness.APPROACHED) else barred
        assert play.machine.outlook("12025550123", standing, play.now) == expected
        assert outlook("12025550123", standing, play.now) is None


def test_failed_arming_leaves_the_row_for_later() -> None:
    play = known_play()
    play.on(RowLoaded(ROW)).expects(LOADED)
    play.on(ALL_HERE).said()
    play.on(StorageFailed(arming=True)).expects_nothing()
    play.on(Deliver()).expects_nothing()
    play.later(PAUSE_AFTER_QUERY_S).on(Deliver()).expects(NextRow())


def test_failed_commit_of_anything_else_begins_anew_from_what_is_stored() -> None:
    play = known_friend_play()[0].on(StorageFailed(arming=False)).expects(HangUp())
    play.stands(Phase.WAITING, "storage")

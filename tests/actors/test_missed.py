"""F-31: devices that a stale list left out, as DeviceMachine plays it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.commands import (
    Arm,
    CountAttempt,
    ForgetMissed,
    LoadSessions,
    Mark,
    MarkLate,
    NextRow,
    Write,
)
from sitpayd.actors.delivery import MAX_FAILED_QUERIES_FOR_MISSED, MAX_WRITES
from sitpayd.actors.events import (
    Armed,
    LossKind,
    Lost,
    NotArmed,
    RowLoaded,
    SessionsLoaded,
    StorageFailed,
)
from sitpayd.actors.messages import Deliver
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.refusals import REFUSALS
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.stanzas import iq
from sitpayd.whatsapp.stanzas.message import phash
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
    a_row,
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
    message_ack,
    noted,
    refused,
    result,
    success,
    user_devices,
)
from tests.support.playbook import Playbook

LATE, OUR_LATE = FRIEND_LID.with_device(5), OWN_LID.with_device(11)
# What the server knows after somebody linked another device.
FRIEND_NOW = user_devices(FRIEND_PN, (0, 2, 5), lid=FRIEND_LID)
OURSELVES_NOW = user_devices(OWN_PN.bare, (0, 7, 9, 11), lid=OWN_LID.bare)
PHASH_NOW = phash({*FRIENDS_DEVICES, LATE, *OUR_OTHERS, OWN_LID})


def told(*devices: Jid) -> bytes:
    return " ".join(map(str, devices)).encode()


ROW = replace(a_row(), phash=OUR_PHASH)
# As it is loaded after its ack.
MISSED = replace(
    ROW,
    state=RowState.SENT,
    missed_devices=True,
    participants=told(*FRIENDS_DEVICES, *OUR_OTHERS),
)
ARMED_ROW = replace(MISSED, stanza=b"stanza for the late one")
ARM_LATE = Arm(MISSED, FRIEND_LID, FRIEND_PN, (LATE,), (), PHASH_NOW, {})
NEXT = a_row(2)


def sent(row: OutboxRow, *, missed: bool = False) -> Mark:
    return Mark(row, RowState.SENT, server_time=SERVER_T, missed=missed)


def missed_play() -> Playbook:
    """A device whose message has missed one; it asks (#4) for the lists anew."""
    play = connected_play()
    in_flight(play, ROW, "#3")
    play.hears(message_ack(ROW, phash=PHASH_NOW)).expects(sent(ROW, missed=True), NextRow())
    return play.on(RowLoaded(MISSED)).expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))


def arming_play() -> Playbook:
    """The missing one is known and has a session: it is being armed."""
    play = missed_play()
    play.hears(devices_result("#4", FRIEND_NOW, OURSELVES)).said()
    return play.on(SessionsLoaded(frozenset())).expects(ARM_LATE)


def written_play() -> Playbook:
    """What is for the missing one waits for its ack."""
    armed = Armed(MISSED, b"stanza for the late one")
    return arming_play().on(armed).expects(Write(armed))


def away_and_back(play: Playbook, first: int) -> Playbook:
    """Lose the connection and go on until the next row is looked for; `first` query is next."""
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().said()
    play.hears(success()).said()
    play.hears(count_result(f"#{first}", 9)).said()
    assert play.hears(result(f"#{first + 1}")).said()[-1] == NextRow()
    return play


def looked_again(play: Playbook) -> Playbook:
    """Wait until a row is looked for; the keepalive may have its say before."""
    for _ in range(3):
        if NextRow() in play.tick().said():
            return play
    raise AssertionError("it looks for no row")


# --- the way of it ---


def test_missed_device_gets_the_message_before_the_next_row_goes() -> None:
    """F-31: the lists are asked for anew, and only what is missing is encrypted for."""
    play = missed_play()
    play.hears(devices_result("#4", FRIEND_NOW, OURSELVES))
    _learned, load = play.said()
    assert load == LoadSessions((LATE,))
    play.on(SessionsLoaded(frozenset({LATE}))).expects(bundles_query("#5", LATE))
    bundle = bundle_of(KeyPair.generate())
    play.hears(bundles_result("#5", {LATE: bundle}))
    play.expects(replace(ARM_LATE, bundles={LATE: bundle}))
    armed = Armed(MISSED, b"stanza for the late one")
    play.on(armed).expects(Write(armed))
    play.hears(message_ack(MISSED)).expects(ForgetMissed(MISSED), NextRow())
    play.on(RowLoaded(NEXT)).said()


def test_own_device_that_was_missed_gets_its_copy() -> None:
    play = missed_play()
    play.hears(devices_result("#4", FRIEND, OURSELVES_NOW)).said()
    everybody = phash({*FRIENDS_DEVICES, *OUR_OTHERS, OUR_LATE, OWN_LID})
    play.on(SessionsLoaded(frozenset())).expects(
        Arm(MISSED, FRIEND_LID, FRIEND_PN, (), (OUR_LATE,), everybody, {})
    )


def test_devices_are_the_same_by_number_and_by_lid() -> None:
    by_number = told(FRIEND_PN, FRIEND_PN.with_device(2), OWN_PN.bare, OWN_PN.with_device(9))
    missed = replace(MISSED, participants=by_number)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(missed)).expects(devices_query("#3", FRIEND_PN, OWN_PN.bare))
    _, load = play.hears(devices_result("#3", FRIEND_NOW, OURSELVES)).said()
    assert load == LoadSessions((LATE,))


def test_note_to_oneself_reaches_an_own_device_that_was_missed() -> None:
    note = replace(MISSED, recipient=OWN_PN.user, participants=told(*OUR_OTHERS))
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(note)).expects(devices_query("#3", OWN_PN.bare))
    play.hears(devices_result("#3", OURSELVES_NOW)).expects(LoadSessions((OUR_LATE,)))


def test_nothing_is_written_where_nothing_is_missing() -> None:
    """The list of a device that is gone again, or of one that is known by now."""
    play = missed_play()
    _learned, forget, go_on = play.hears(devices_result("#4", FRIEND, OURSELVES)).said()
    assert (forget, go_on) == (ForgetMissed(MISSED), NextRow())


def test_replayed_row_has_missed_devices_too() -> None:
    """F-31 behind a crash: the hash it was armed with is remembered with its stanza."""
    row = replace(a_row(stanza=b"stanza"), phash=OUR_PHASH)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(Write(Armed(row, b"stanza")), CountAttempt(row))
    play.hears(message_ack(row, phash=PHASH_NOW)).expects(sent(row, missed=True), NextRow())


def test_replayed_row_with_our_hash_has_missed_nobody() -> None:
    row = replace(a_row(stanza=b"stanza"), phash=OUR_PHASH)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).said()
    play.hears(message_ack(row, phash=OUR_PHASH)).expects(sent(row), NextRow())


def test_another_mismatch_is_the_last_but_makes_the_lists_unknown() -> None:
    """At most once a row: what is never complete would go on for ever."""
    play = written_play()
    play.hears(message_ack(MISSED, phash="2:another")).expects(ForgetMissed(MISSED), NextRow())
    play.on(RowLoaded(NEXT)).expects(devices_query("#5", FRIEND_PN, OWN_PN.bare))


def test_known_lists_serve_the_next_row() -> None:
    play = written_play()
    play.hears(message_ack(MISSED)).expects(ForgetMissed(MISSED), NextRow())
    everybody = (*FRIENDS_DEVICES, LATE, *OUR_OTHERS)
    play.on(RowLoaded(NEXT)).expects(LoadSessions(everybody))


def test_ack_that_comes_twice_does_not_end_it_early() -> None:
    play = missed_play()
    play.hears(message_ack(ROW, phash=PHASH_NOW)).expects(MarkLate(ROW.wa_message_id, SERVER_T))
    play.hears(devices_result("#4", FRIEND_NOW, OURSELVES)).said()


def test_missed_devices_wait_for_no_pace_and_count_as_no_first_contact() -> None:
    limits = PacingLimits(first_contacts_per_day=1)
    play = connected_play(limits).on(Deliver()).expects(NextRow())
    first = replace(MISSED, first_contact=True)
    play.on(RowLoaded(first)).expects(devices_query("#3", FRIEND_PN, OWN_PN.bare))
    play.hears(devices_result("#3", FRIEND_NOW, OURSELVES)).said()
    play.on(SessionsLoaded(frozenset())).said()
    play.on(Armed(first, b"stanza")).said()
    play.hears(message_ack(first)).expects(ForgetMissed(first), NextRow(first_contacts=True))


# --- devices without keys ---


def short_of_one(row: OutboxRow) -> OutboxRow:
    """A row that was armed while the server had no keys for the friend's second device."""
    return replace(row, participants=told(FRIENDS_DEVICES[0], *OUR_OTHERS), phash=OUR_PHASH)


def keyless_play(row: OutboxRow) -> Playbook:
    """A row is on its way to all devices but one, which had no keys."""
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(devices_query("#3", FRIEND_PN, OWN_PN.bare))
    play.hears(devices_result("#3", user_devices(FRIEND_PN, (0, 2), lid=FRIEND_LID), OURSELVES))
    play.said()
    play.on(SessionsLoaded(frozenset())).said()
    armed = Armed(short_of_one(row), b"stanza")
    return play.on(armed).expects(Write(armed))


def test_device_that_had_no_keys_is_asked_for_once_more() -> None:
    play = keyless_play(ROW)
    row = short_of_one(ROW)
    play.hears(message_ack(ROW)).expects(sent(row, missed=True), NextRow())
    play.on(RowLoaded(replace(row, state=RowState.SENT, missed_devices=True)))
    play.expects(LoadSessions((FRIENDS_DEVICES[1],)))


def test_device_that_had_no_keys_is_asked_for_behind_a_crash_too() -> None:
    row = replace(short_of_one(ROW), stanza=b"stanza", state=RowState.ARMED)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).said()
    play.hears(message_ack(row)).expects(sent(row, missed=True), NextRow())


def test_device_that_has_no_keys_is_let_go_until_the_list_is_new() -> None:
    play = keyless_play(ROW)
    play.hears(message_ack(ROW)).said()
    play.on(RowLoaded(replace(short_of_one(ROW), state=RowState.SENT, missed_devices=True))).said()
    play.on(SessionsLoaded(frozenset({FRIENDS_DEVICES[1]}))).said()
    play.hears(bundles_result("#4", {})).said()
    play.on(NotArmed(MISSED, "no_devices")).said()
    # The next message is not asked about again.
    play.on(RowLoaded(NEXT)).said()
    play.on(SessionsLoaded(frozenset())).said()
    play.on(Armed(short_of_one(NEXT), b"stanza")).said()
    play.hears(message_ack(NEXT)).expects(sent(short_of_one(NEXT)), NextRow())


# --- crashes, losses ---


def test_same_bytes_go_again_after_a_reconnect() -> None:
    """F-31: the stanza is stored as long as it may be written."""
    play = away_and_back(written_play(), 5)
    play.on(RowLoaded(ARMED_ROW)).expects(
        Write(Armed(ARMED_ROW, b"stanza for the late one")), CountAttempt(ARMED_ROW)
    )
    play.hears(message_ack(MISSED)).expects(ForgetMissed(ARMED_ROW), NextRow())


def test_question_that_was_lost_with_its_connection_is_asked_again() -> None:
    play = away_and_back(missed_play(), 5)
    play.on(RowLoaded(MISSED)).expects(devices_query("#7", FRIEND_PN, OWN_PN.bare))


def test_writing_ends_after_as_many_attempts_as_for_any_row() -> None:
    play, query = written_play(), 5
    for _ in range(MAX_WRITES - 1):
        away_and_back(play, query)
        play.on(RowLoaded(ARMED_ROW)).said()
        query += 2
    away_and_back(play, query)
    play.on(RowLoaded(ARMED_ROW)).expects(ForgetMissed(ARMED_ROW), NextRow())


def test_attempts_before_the_ack_do_not_count() -> None:
    row = replace(a_row(stanza=b"stanza"), phash=OUR_PHASH, attempts=MAX_WRITES - 1)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).said()
    play.hears(message_ack(row, phash=PHASH_NOW)).expects(sent(row, missed=True), NextRow())
    play.on(RowLoaded(ARMED_ROW)).expects(
        Write(Armed(ARMED_ROW, b"stanza for the late one")), CountAttempt(ARMED_ROW)
    )


def test_row_that_is_no_longer_marked_writes_nothing() -> None:
    play = arming_play()
    play.on(NotArmed(MISSED, None)).expects(NextRow())


def test_full_database_leaves_it_marked() -> None:
    play = arming_play()
    play.on(StorageFailed(arming=True)).expects_nothing()
    play.tick().expects(NextRow())


# --- refusals ---


@pytest.mark.parametrize("code", [400, 404, 421, 429, 463, 475, 479, 999])
def test_refusal_lets_the_missed_devices_go_and_fails_nothing(code: int) -> None:
    play = written_play()
    commands = play.hears(message_ack(MISSED, error=code)).said()
    assert ForgetMissed(MISSED) in commands
    assert not any(isinstance(command, Mark) for command in commands)


def test_trouble_of_the_server_is_waited_for_with_the_same_bytes() -> None:
    play = written_play()
    play.hears(message_ack(MISSED, error=503)).expects_nothing()
    looked_again(play)
    play.on(RowLoaded(ARMED_ROW)).expects(
        Write(Armed(ARMED_ROW, b"stanza for the late one")), CountAttempt(ARMED_ROW)
    )
    for _ in range(REFUSALS[503].resends - 1):
        play.hears(message_ack(MISSED, error=503)).expects_nothing()
        looked_again(play)
        play.on(RowLoaded(ARMED_ROW)).said()
    play.hears(message_ack(MISSED, error=503)).expects(ForgetMissed(ARMED_ROW))


def test_device_that_cannot_be_reached_is_let_go() -> None:
    arming_play().on(NotArmed(MISSED, "no_devices")).expects(ForgetMissed(MISSED), NextRow())


def test_person_that_is_gone_is_let_go() -> None:
    play = missed_play()
    play.hears(devices_result("#4", user_devices(FRIEND_PN, None), OURSELVES))
    play.expects(noted(None), contact_query("#5"))
    play.hears(contact_result("#5", exists=False)).expects(
        noted(False), ForgetMissed(MISSED), NextRow()
    )


def test_questions_that_fail_again_and_again_let_it_go() -> None:
    play = missed_play()
    for failed in range(1, MAX_FAILED_QUERIES_FOR_MISSED):
        play.hears(refused(f"#{failed + 3}")).expects_nothing()
        looked_again(play)
        play.on(RowLoaded(MISSED)).expects(devices_query(f"#{failed + 4}", FRIEND_PN, OWN_PN.bare))
    last = f"#{MAX_FAILED_QUERIES_FOR_MISSED + 3}"
    play.hears(refused(last)).expects(ForgetMissed(MISSED))
    looked_again(play)


def test_silence_about_bundles_is_a_failed_question() -> None:
    play = missed_play()
    play.hears(devices_result("#4", FRIEND_NOW, OURSELVES)).said()
    play.on(SessionsLoaded(frozenset({LATE}))).expects(bundles_query("#5", LATE))
    play.hears(iq.error(bundles_query("#5", LATE).node, 500, "no")).expects_nothing()
    looked_again(play)

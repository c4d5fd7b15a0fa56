"""Who cannot be reached by LID is written to by number, as DeviceMachine plays it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitpayd.actors.commands import (
    AddressByNumber,
    Arm,
    Command,
    CountAttempt,
    HoldFirstContacts,
    Learn,
    LoadSessions,
    Mark,
    NextRow,
    SaveNewChatHold,
    Send,
    Write,
)
from sitpayd.actors.delivery import MAX_WRITES
from sitpayd.actors.events import Armed, LossKind, Lost, RowLoaded, SessionsLoaded
from sitpayd.actors.messages import Deliver
from sitpayd.actors.refusals import REFUSALS
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.message import phash
from tests.actors.builders import (
    FRIEND,
    FRIEND_LID,
    FRIEND_PN,
    FRIENDS_DEVICES,
    OUR_OTHERS,
    OURSELVES,
    OWN_PN,
    SERVER_T,
    a_row,
    connected_play,
    count_result,
    devices_query,
    devices_result,
    in_flight,
    known_friend_play,
    message_ack,
    result,
    success,
    user_devices,
)
from tests.support.playbook import Playbook

ROW = a_row()
AGAIN = replace(ROW, stanza=b"old bytes", state=RowState.ARMED)
BY_NUMBER = (FRIEND_PN, FRIEND_PN.with_device(2))
OTHERS_BY_NUMBER = (OWN_PN.bare, OWN_PN.with_device(9))
ALL_HERE = SessionsLoaded(frozenset())
SENT = Mark(ROW, RowState.SENT, server_time=SERVER_T)


def arm_by_number(row: OutboxRow, *, again: bool) -> Arm:
    everybody = phash({*BY_NUMBER, *OTHERS_BY_NUMBER, OWN_PN})
    return Arm(row, FRIEND_PN, None, BY_NUMBER, OTHERS_BY_NUMBER, everybody, {}, again)


def rearmed_play(code: int = 479) -> Playbook:
    """A row that was refused by LID, and is in flight again with fresh lists."""
    play = connected_play()
    in_flight(play, ROW, "#3")
    play.hears(message_ack(ROW, error=code)).said()
    play.hears(devices_result("#4", FRIEND, OURSELVES)).said()
    play.on(ALL_HERE).said()
    again = Armed(AGAIN, b"new bytes")
    return play.on(again).expects(Write(again), CountAttempt(AGAIN))


def renumbered_play(code: int = 479) -> Playbook:
    """The same row, once more and by number."""
    play = rearmed_play().hears(message_ack(ROW, error=code))
    play.expects(LoadSessions(BY_NUMBER + OTHERS_BY_NUMBER))
    play.on(ALL_HERE).expects(arm_by_number(AGAIN, again=True))
    third = Armed(AGAIN, b"by number")
    return play.on(third).expects(Write(third), CountAttempt(AGAIN))


@pytest.mark.parametrize("code", [400, 479])
def test_row_refused_by_lid_with_fresh_lists_goes_by_number_and_that_is_remembered(
    code: int,
) -> None:
    play = renumbered_play(code)
    play.hears(message_ack(ROW)).expects(
        AddressByNumber(FRIEND_PN, wanted=True), replace(SENT, row=AGAIN), NextRow()
    )


@pytest.mark.parametrize("code", [400, 479])
def test_row_refused_by_number_as_well_fails(code: int) -> None:
    play = renumbered_play().hears(message_ack(ROW, error=code))
    play.expects(Mark(AGAIN, RowState.FAILED, REFUSALS[code].reason), NextRow())


def test_row_refused_at_first_as_malformed_is_not_armed_again() -> None:
    play = connected_play()
    in_flight(play, ROW, "#3")
    play.hears(message_ack(ROW, error=400)).expects(
        Mark(ROW, RowState.FAILED, "malformed"), NextRow()
    )


def test_stale_addressing_of_another_kind_does_not_lead_to_the_number() -> None:
    play = rearmed_play().hears(message_ack(ROW, error=421))
    play.expects(Mark(AGAIN, RowState.FAILED, "stale_addressing"), NextRow())


def test_person_that_is_addressed_by_number_is_from_the_first_arming_on() -> None:
    play, _ = known_friend_play()
    play.on(Deliver()).expects(NextRow())
    play.on(RowLoaded(ROW, lid=FRIEND_LID, by_number=True))
    play.expects(LoadSessions(BY_NUMBER + OTHERS_BY_NUMBER))
    play.on(ALL_HERE).expects(arm_by_number(ROW, again=False))


def in_flight_by_number() -> Playbook:
    play, _ = known_friend_play()
    play.on(Deliver()).expects(NextRow())
    play.on(RowLoaded(ROW, lid=FRIEND_LID, by_number=True)).said()
    play.on(ALL_HERE).said()
    armed = Armed(ROW, b"by number")
    return play.on(armed).expects(Write(armed))


def test_taken_row_of_somebody_addressed_by_number_changes_nothing() -> None:
    in_flight_by_number().hears(message_ack(ROW)).expects(SENT, NextRow())


def test_number_that_whatsapp_takes_no_more_is_given_up() -> None:
    said = in_flight_by_number().hears(message_ack(ROW, error=463)).said()
    assert said[0] == AddressByNumber(FRIEND_PN, wanted=False)
    assert Mark(ROW, RowState.FAILED, "reachout_locked") in said


def test_row_refused_by_number_is_armed_anew_and_not_renumbered() -> None:
    play = in_flight_by_number().hears(message_ack(ROW, error=479))
    play.expects(devices_query("#4", FRIEND_PN, OWN_PN.bare))
    play.hears(devices_result("#4", FRIEND, OURSELVES)).said()
    play.on(ALL_HERE).expects(arm_by_number(ROW, again=True))
    play.on(Armed(AGAIN, b"new bytes")).said()
    play.hears(message_ack(ROW, error=479)).expects(
        Mark(AGAIN, RowState.FAILED, "stale_addressing"), NextRow()
    )


def test_next_row_of_another_person_goes_by_lid() -> None:
    play = in_flight_by_number()
    play.hears(message_ack(ROW)).said()
    play.on(RowLoaded(a_row(2))).expects(LoadSessions(FRIENDS_DEVICES + OUR_OTHERS))


def test_lid_that_is_stored_serves_where_the_server_does_not_tell_it() -> None:
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(ROW, lid=FRIEND_LID)).said()
    answer = devices_result("#3", user_devices(FRIEND_PN, (0, 2)), OURSELVES)
    play.hears(answer).expects(LoadSessions(FRIENDS_DEVICES + OUR_OTHERS))


def test_note_to_oneself_never_goes_by_number() -> None:
    note = a_row(to=OWN_PN.user)
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(note)).expects(devices_query("#3", OWN_PN.bare))
    play.hears(devices_result("#3", OURSELVES)).said()
    play.on(ALL_HERE).said()
    play.on(Armed(note, b"first")).said()
    again = replace(note, stanza=b"first", state=RowState.ARMED)
    play.hears(message_ack(note, error=479)).said()
    play.hears(devices_result("#4", OURSELVES)).said()
    play.on(ALL_HERE).said()
    play.on(Armed(again, b"second")).said()
    play.hears(message_ack(note, error=479)).expects(
        Mark(again, RowState.FAILED, "stale_addressing"), NextRow()
    )


def test_lost_connection_does_not_lose_that_it_went_by_number() -> None:
    play = renumbered_play().on(Lost(LossKind.NETWORK, "")).expects_nothing()
    reconnect(play, 5)
    replayed = replace(AGAIN, stanza=b"by number")
    play.on(RowLoaded(replayed, lid=FRIEND_LID)).said()
    play.hears(message_ack(ROW)).expects(
        AddressByNumber(FRIEND_PN, wanted=True), replace(SENT, row=replayed), NextRow()
    )


def reconnect(play: Playbook, first: int) -> None:
    play.tick().said()
    play.hears(success()).said()
    play.hears(count_result(f"#{first}", 9)).said()
    assert play.hears(result(f"#{first + 1}")).said()[-1] == NextRow()


# --- whatever WhatsApp says, it ends ---


class Post:
    """A server that refuses one row again and again, and a store that holds it."""

    def __init__(self) -> None:
        self.play, self.row = connected_play(), ROW
        self.writes = 0
        self.armings: list[Jid] = []
        self.settled: list[Mark] = []
        self.take(self.play.on(Deliver()).said())

    def answers(self, code: int) -> None:
        """Refuse the row, and wait for what follows."""
        writes = self.writes
        self.take(self.play.hears(message_ack(ROW, error=code)).said())
        while not self.settled and self.writes == writes:
            self.take(self.play.tick().said())

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case NextRow() if not self.settled:
                    self.take(self.play.on(RowLoaded(self.row, lid=FRIEND_LID)).said())
                case NextRow():
                    self.take(self.play.on(RowLoaded(None)).said())
                case LoadSessions():
                    self.take(self.play.on(ALL_HERE).said())
                case Arm():
                    assert command.again is (self.row.stanza is not None)
                    self.armings.append(command.to)
                    participants = " ".join(map(str, command.devices)).encode()
                    armed = replace(command.row, participants=participants)
                    self.row = replace(armed, stanza=b"stanza", state=RowState.ARMED)
                    self.take(self.play.on(Armed(armed, b"stanza")).said())
                case Write():
                    self.writes += 1
                case CountAttempt():
                    self.row = replace(self.row, attempts=self.row.attempts + 1)
                case Mark():
                    self.settled.append(command)
                case Learn() | AddressByNumber() | SaveNewChatHold() | HoldFirstContacts():
                    pass
                case Send(node=node) if node.child("usync") is not None:
                    answer = devices_result(node.required_text("id"), FRIEND, OURSELVES)
                    self.take(self.play.hears(answer).said())
                case Send():
                    pass  # asked for the lock of new chats, which is not answered


CODES = sorted(REFUSALS)


@given(st.lists(st.sampled_from(CODES), min_size=MAX_WRITES + 2, max_size=MAX_WRITES + 2))
@settings(max_examples=400, deadline=None)
def test_no_row_is_sent_again_without_end(codes: list[int]) -> None:
    """One arming anew, one by number, and three repetitions of the server's failures at most."""
    post = Post()
    for code in codes:
        if post.settled:
            break
        post.answers(code)
    (mark,) = post.settled
    assert mark.state is RowState.FAILED
    assert len(post.armings) <= 3
    assert post.armings[2:] in ([], [FRIEND_PN])
    assert post.armings[:2] in ([FRIEND_LID], [FRIEND_LID, FRIEND_LID])
    assert post.writes <= 1 + 1 + 1 + 3

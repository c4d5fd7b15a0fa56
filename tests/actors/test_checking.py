"""Number checks, as DeviceMachine plays them."""

from __future__ import annotations

import pytest

from sitpayd.actors.checking import (
    APART_S,
    MAX_PAUSE_S,
    MAX_WAITING,
    PAUSE_S,
    STORAGE_PAUSE_S,
)
from sitpayd.actors.commands import HangUp, Learn, NextRow, Respond, SaveChecks, Send, TakeChecks
from sitpayd.actors.delivery import CHECK_WITHIN_S
from sitpayd.actors.events import ChecksTaken, LossKind, Lost, RowLoaded
from sitpayd.actors.messages import (
    CheckNumbers,
    Deliver,
    Done,
    Later,
    Logout,
    NotNow,
    Pause,
)
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, usync
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OURSELVES,
    OWN_PN,
    Ear,
    a_row,
    connected_play,
    contact_query,
    contact_result,
    count_result,
    devices_query,
    devices_result,
    noted,
    opened_play,
    refused,
    result,
    success,
)
from tests.support.playbook import Playbook

ONE, TWO, THREE = FRIEND_PN.user, "919812345678", "4915112345670"


def query(query_id: str, *numbers: str) -> Send:
    return Send(usync.contact_query(query_id, numbers, sid="sid"))


def answer(query_id: str, *users: usync.UserAnswer) -> Node:
    return usync.answer(usync.contact_query(query_id, [], sid=""), users)


def asked_play(ear: Ear, *numbers: str) -> Playbook:
    """A device that asks WhatsApp (#3) about these numbers."""
    play = connected_play()
    play.on(CheckNumbers(numbers, ear)).expects(TakeChecks(numbers))
    return play.on(ChecksTaken(numbers)).expects(query("#3", *numbers))


def failed_play() -> Playbook:
    """A device whose last check WhatsApp refused."""
    ear = Ear()
    return asked_play(ear, ONE).hears(refused("#3")).expects(Respond(ear, Done()))


def test_numbers_that_are_not_known_are_asked_about_in_one_query() -> None:
    ear, numbers = Ear(), (ONE, TWO, THREE)
    play = connected_play()
    play.on(CheckNumbers(numbers, ear)).expects(TakeChecks(numbers))
    play.on(ChecksTaken((ONE, THREE))).expects(query("#3", ONE, THREE))
    here = usync.UserAnswer(FRIEND_LID, pn=FRIEND_PN, lid=FRIEND_LID, contact=(ONE, True))
    absent = usync.UserAnswer(pn(THREE), contact=(THREE, False))
    play.hears(answer("#3", here, absent)).expects(
        Learn(FRIEND_PN, FRIEND_LID),
        SaveChecks({ONE: True, THREE: False}),
        Respond(ear, Done()),
    )


def test_where_nothing_is_left_to_ask_nothing_is_asked() -> None:
    ear, other = Ear(), Ear()
    play = connected_play()
    play.on(CheckNumbers((ONE,), ear)).expects(TakeChecks((ONE,)))
    play.on(ChecksTaken(())).expects(Respond(ear, Done()))
    # The next one need not wait: there was no query.
    play.on(CheckNumbers((TWO,), other)).expects(TakeChecks((TWO,)))


def test_account_with_another_number_is_learned_under_that() -> None:
    ear, other = Ear(), pn("5511912345678")
    play = asked_play(ear, ONE)
    told = usync.UserAnswer(FRIEND_LID, pn=other, lid=FRIEND_LID, contact=(ONE, True))
    play.hears(answer("#3", told)).expects(
        Learn(other, FRIEND_LID), SaveChecks({ONE: True}), Respond(ear, Done())
    )


def test_account_whose_number_is_not_told_is_learned_under_the_one_asked_about() -> None:
    ear = Ear()
    told = usync.UserAnswer(FRIEND_LID, lid=FRIEND_LID, contact=(ONE, True))
    asked_play(ear, ONE).hears(answer("#3", told)).expects(
        Learn(FRIEND_PN, FRIEND_LID), SaveChecks({ONE: True}), Respond(ear, Done())
    )


def test_error_and_silence_about_a_number_are_no_answer() -> None:
    ear = Ear()
    play = asked_play(ear, ONE, TWO, THREE)
    error = usync.UserAnswer(FRIEND_PN, contact=(ONE, None))
    absent = usync.UserAnswer(pn(THREE), contact=(THREE, False))
    play.hears(answer("#3", error, absent)).expects(
        SaveChecks({THREE: False}), Respond(ear, Done())
    )


def test_number_that_nobody_asked_about_is_not_believed() -> None:
    ear = Ear()
    play = asked_play(ear, ONE)
    here = usync.UserAnswer(FRIEND_PN, contact=(ONE, True))
    other = usync.UserAnswer(pn(TWO), lid=FRIEND_LID, contact=(TWO, False))
    play.hears(answer("#3", here, other)).expects(SaveChecks({ONE: True}), Respond(ear, Done()))


# --- one after the other ---


def test_queries_do_not_run_at_a_time_and_keep_their_distance() -> None:
    ear, other = Ear(), Ear()
    play = asked_play(ear, ONE)
    play.on(CheckNumbers((TWO,), other)).expects_nothing()
    play.later(0.5).hears(answer("#3", usync.UserAnswer(FRIEND_PN, contact=(ONE, True)))).expects(
        SaveChecks({ONE: True}), Respond(ear, Done())
    )
    assert play.waits_s == APART_S - 0.5
    play.tick().expects(TakeChecks((TWO,)))
    play.on(ChecksTaken((TWO,))).expects(query("#4", TWO))


def test_query_of_a_send_keeps_checks_at_a_distance_too() -> None:
    ear, row = Ear(), a_row()
    play = connected_play().on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(devices_query("#3", FRIEND_PN, OWN_PN.bare))
    play.hears(devices_result("#3", OURSELVES)).expects(noted(None), contact_query("#4"))
    play.later(0.5).on(CheckNumbers((TWO,), ear)).expects_nothing()
    play.hears(contact_result("#4", exists=False)).said()
    play.on(RowLoaded(None)).expects_nothing()
    assert play.waits_s == APART_S - 0.5
    play.tick().expects(TakeChecks((TWO,)))


def test_too_many_questions_are_told_to_come_again() -> None:
    play = asked_play(Ear(), ONE)
    for _ in range(MAX_WAITING):
        play.on(CheckNumbers((TWO,), Ear())).expects_nothing()
    ear = Ear()
    play.on(CheckNumbers((TWO,), ear)).expects(
        Respond(ear, Later(play.now + MAX_WAITING * APART_S))
    )


# --- refusals ---


@pytest.mark.parametrize(
    "reply",
    [
        refused("#3", 429),
        result("#3", Node("rubbish")),
        answer("#3"),
        answer("#3", usync.UserAnswer(FRIEND_PN, contact=(ONE, None))),
    ],
    ids=["refusal", "rubbish", "nothing", "error"],
)
def test_whatsapp_that_says_nothing_is_left_alone_for_a_while(reply: Node) -> None:
    ear, waiting, late = Ear(), Ear(), Ear()
    play = asked_play(ear, ONE).on(CheckNumbers((TWO,), waiting)).expects_nothing()
    # Who asked first learns from what is stored that nobody knows.
    later = Later(play.now + PAUSE_S)
    play.hears(reply).expects(Respond(ear, Done()), Respond(waiting, later))
    play.later(PAUSE_S - 1.0).on(CheckNumbers((TWO,), late)).expects(Respond(late, later))
    play.later(1.0).on(CheckNumbers((TWO,), late)).expects(TakeChecks((TWO,)))


def test_answer_that_does_not_come_ends_the_wait() -> None:
    ear = Ear()
    play = asked_play(ear, ONE)
    assert play.waits_s == CHECK_WITHIN_S
    play.tick().expects(Respond(ear, Done()))
    play.hears(contact_result("#3", exists=True)).expects_nothing()


def test_pause_grows_with_each_refusal_and_ends_with_an_answer() -> None:
    play, pauses = failed_play(), []
    for number in range(4, 12):
        ear = Ear()
        play.later(MAX_PAUSE_S)
        # Nothing of the connection is looked at here: only the pauses.
        play.machine._duty.keepalive.heard(play.now)
        play.on(CheckNumbers((ONE,), ear)).expects(TakeChecks((ONE,)))
        play.on(ChecksTaken((ONE,))).said()
        play.hears(refused(f"#{number}")).expects(Respond(ear, Done()))
        late = Ear()
        play.on(CheckNumbers((ONE,), late))
        (told,) = play.said()
        assert isinstance(told, Respond)
        assert isinstance(told.reaction, Later)
        pauses.append(told.reaction.until - play.now)
    assert pauses[:3] == [2 * PAUSE_S, 4 * PAUSE_S, 8 * PAUSE_S]
    assert pauses[-1] == MAX_PAUSE_S

    play.later(MAX_PAUSE_S).on(CheckNumbers((ONE,), Ear())).said()
    play.on(ChecksTaken((ONE,))).said()
    play.hears(contact_result("#12", exists=True)).said()
    play.later(APART_S).on(CheckNumbers((TWO,), Ear())).said()
    ear = Ear()
    play.on(CheckNumbers((TWO,), ear)).expects_nothing()
    play.on(ChecksTaken((TWO,))).said()
    play.hears(refused("#13")).said()
    late = Ear()
    play.on(CheckNumbers((TWO,), late)).expects(Respond(late, Later(play.now + PAUSE_S)))


def test_look_ups_that_cannot_be_noted_are_not_made() -> None:
    ear = Ear()
    play = connected_play().on(CheckNumbers((ONE,), ear)).expects(TakeChecks((ONE,)))
    play.on(ChecksTaken(None)).expects(Respond(ear, Later(play.now + STORAGE_PAUSE_S)))


# --- without a connection ---


def test_device_that_is_not_connected_says_so() -> None:
    ear = Ear()
    play = opened_play().on(CheckNumbers((ONE,), ear)).expects(Respond(ear, NotNow()))
    play.hears(success()).said()
    play.on(CheckNumbers((ONE,), ear)).expects(Respond(ear, NotNow()))
    play.hears(count_result("#1", 100)).said()
    play.hears(result("#2")).said()
    play.on(CheckNumbers((ONE,), ear)).expects(TakeChecks((ONE,)))


def test_lost_connection_ends_every_wait() -> None:
    ear, waiting = Ear(), Ear()
    play = asked_play(ear, ONE).on(CheckNumbers((TWO,), waiting)).expects_nothing()
    play.on(Lost(LossKind.NETWORK, "")).expects(Respond(ear, NotNow()), Respond(waiting, NotNow()))


def test_pause_ends_every_wait() -> None:
    ear = Ear()
    asked_play(ear, ONE).on(Pause()).expects(HangUp(), Respond(ear, NotNow()))


def test_logout_ends_every_wait() -> None:
    ear = Ear()
    play = asked_play(ear, ONE)
    play.on(Logout()).expects(Respond(ear, NotNow()), Send(iq.logout("#4", device=OWN_PN)))
    play.on(CheckNumbers((ONE,), ear)).expects(Respond(ear, NotNow()))
    # Whatever still comes for it is nobody's.
    play.hears(contact_result("#3", exists=True)).expects_nothing()


def test_answer_that_a_device_to_be_logged_out_misses_is_nobodys() -> None:
    ear = Ear()
    play = asked_play(ear, ONE).on(Logout())
    assert Respond(ear, NotNow()) in play.said()
    assert play.waits_s == CHECK_WITHIN_S
    play.tick().expects_nothing()


def test_look_ups_that_were_noted_too_late_are_not_made() -> None:
    ear = Ear()
    play = connected_play().on(CheckNumbers((ONE,), ear)).expects(TakeChecks((ONE,)))
    play.on(Lost(LossKind.NETWORK, "")).expects(Respond(ear, NotNow()))
    play.on(ChecksTaken((ONE,))).expects_nothing()

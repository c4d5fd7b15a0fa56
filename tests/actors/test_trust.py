"""When people are given our privacy token, as DeviceMachine plays it."""

from __future__ import annotations

import pytest

from sitpayd.actors.commands import NoteGiven, Send
from sitpayd.actors.events import LossKind, Lost, Opened, TokenOwed
from sitpayd.actors.trust import AGAIN_AFTER_S, MAX_PEOPLE
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.stanzas import privacy
from sitpayd.whatsapp.stanzas.privacy import GivenToken
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    SERVER_T,
    connected_play,
    count_result,
    opened_play,
    refused,
    result,
    success,
)
from tests.support.playbook import Playbook

OWED = TokenOwed(FRIEND_PN, FRIEND_LID)
GIVEN = NoteGiven(FRIEND_LID, SERVER_T)


def given(query_id: str, to: Jid = FRIEND_LID, t: int = SERVER_T) -> Send:
    return Send(privacy.give(query_id, to, t))


def asked_play() -> Playbook:
    """A device that gives a friend its token (#3)."""
    return connected_play().on(OWED).expects(given("#3"))


def test_friend_is_given_our_token_and_that_is_noted_with_the_answer() -> None:
    asked_play().hears(result("#3")).expects(GIVEN)


def test_token_of_the_friend_in_the_answer_is_kept() -> None:
    play = asked_play()
    theirs = GivenToken(b"token", SERVER_T - 9)
    question = play.real(result("#3"))
    answer = privacy.give_answer(
        privacy.give(question.required_text("id"), FRIEND_LID, SERVER_T), {FRIEND_LID: theirs}
    )
    play.hears(answer).expects(NoteGiven(FRIEND_LID, SERVER_T, (theirs,)))


def test_one_question_for_a_person_is_under_way_at_a_time() -> None:
    play = asked_play().on(OWED).expects_nothing()
    other = TokenOwed(pn("12025550123"), lid("300000000000003"))
    play.on(other).expects(given("#4", lid("300000000000003")))
    play.hears(result("#3")).expects(GIVEN)
    play.on(OWED).expects(given("#5"))


def test_person_without_a_known_lid_is_given_it_by_number() -> None:
    connected_play().on(TokenOwed(FRIEND_PN, None)).expects(given("#3", FRIEND_PN))


def test_changed_identity_is_given_the_token_with_the_time_it_had() -> None:
    play = connected_play().on(TokenOwed(None, FRIEND_LID, 77)).expects(given("#3", t=77))
    play.hears(result("#3")).expects(NoteGiven(FRIEND_LID, 77))


@pytest.mark.parametrize("user", [pn("0"), pn("13135550002"), lid("0")], ids=str)
def test_machines_are_given_none(user: Jid) -> None:
    owed = TokenOwed(None, user) if user.is_lid else TokenOwed(user, None)
    connected_play().on(owed).expects_nothing()


def test_refused_token_is_not_given_with_every_message() -> None:
    play = asked_play().hears(refused("#3")).expects_nothing()
    play.on(OWED).expects_nothing()
    play.later(AGAIN_AFTER_S).on(OWED).said()
    assert play.waits_s is not None


def test_answer_that_cannot_be_read_is_none() -> None:
    play = asked_play()
    real = play.real(result("#3"))
    broken = privacy.give_answer(
        privacy.give(real.required_text("id"), FRIEND_LID, 1), {FRIEND_LID: GivenToken(b"x", 1)}
    )
    token = broken.required("tokens").required("token")
    del token.attrs["t"]  # type: ignore[attr-defined]  # a mapping that can be changed here
    play.hears(broken).expects_nothing()


def test_lost_question_is_asked_again_with_the_next_message() -> None:
    play = asked_play().on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.on(OWED).expects_nothing()
    play.tick().said()
    play.on(Opened()).said()
    play.hears(success()).said()
    play.hears(count_result("#4", 100)).said()
    play.hears(result("#5")).said()
    (said,) = play.on(OWED).said()
    assert isinstance(said, Send)
    assert said.node.child("tokens") is not None


def test_device_that_is_not_connected_gives_nothing() -> None:
    opened_play().on(OWED).expects_nothing()


def test_time_is_the_servers() -> None:
    play = opened_play()
    play.hears(success(SERVER_T + 500)).said()
    play.hears(count_result("#1", 100)).said()
    play.hears(result("#2")).said()
    play.on(OWED).expects(given("#3", t=SERVER_T + 500))


def test_who_is_left_alone_is_forgotten_in_the_end() -> None:
    play = asked_play().hears(refused("#3")).expects_nothing()
    for number in range(MAX_PEOPLE):
        other = lid(str(300000000000000 + number))
        play.on(TokenOwed(None, other)).expects(given(f"#{4 + number}", other))
        play.hears(refused(f"#{4 + number}")).expects_nothing()
    play.on(OWED).expects(given(f"#{4 + MAX_PEOPLE}"))

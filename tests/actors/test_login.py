"""What is asked behind `<success>`, in which order, and what follows from the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.commands import (
    Dial,
    MakeKeys,
    MakePreKeys,
    NextRow,
    Oddity,
    Receive,
    Remark,
    SaveFact,
    SaveLid,
    Send,
    SettleLoggedOut,
)
from sitpayd.actors.events import KeysMade, LossKind, Lost, Opened, RowLoaded, Started
from sitpayd.actors.messages import Logout, StartPairing
from sitpayd.actors.phase import Phase
from sitpayd.actors.stock import FEW_PREKEYS, MORE_PREKEYS
from sitpayd.storage.records import PROPS_FACT
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, login, pairing, prekeys, props
from sitpayd.whatsapp.stanzas.props import Props
from tests.actors.builders import (
    FRIEND_LID,
    GREETING,
    KEYS,
    OWN_LID,
    OWN_PN,
    PAIRED,
    REFS,
    SERVER_T,
    UNIFIED_SESSION,
    count_result,
    digest_refused,
    opened_play,
    refused,
    rest,
    result,
    some_pair_success,
    started,
    success,
)
from tests.support.playbook import Playbook

OTHER_LID = lid("300000000000003", OWN_LID.device)
LOGGED_OUT = started(paired=None, rest=rest(Phase.LOGGED_OUT))
COUNT = Send(prekeys.count_query("#1"))
MAKE_MORE = MakePreKeys(MORE_PREKEYS)
KNOWN = Props("h1", tokens_with_messages=True)


def greeting_play(known: Props | None = None) -> Playbook:
    """A device that is connected and whose last two questions are not answered yet."""
    play = Playbook().on(replace(started(), props=known or Props())).expects(Dial(False))
    play.on(Opened()).expects_nothing()
    play.hears(success()).expects(COUNT)
    play.hears(count_result("#1", 100)).expects(Send(iq.active("#2")))
    play.hears(result("#2")).said()
    return play.on(RowLoaded(None)).expects_nothing().stands(Phase.CONNECTED)


def linked_anew_play(start: Started) -> Playbook:
    """A device that was logged out, is linked again and asks for its prekeys: #1."""
    play = Playbook().on(start).expects(SettleLoggedOut())
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(pairing.pair_device("X", REFS)).said()
    play.hears(some_pair_success()).said()
    play.on(Lost(LossKind.CLOSED, "")).expects(Dial(registration=False))
    play.on(Opened()).expects_nothing()
    return play.hears(success()).expects(COUNT)


def hash_told_anew(play: Playbook) -> str | None:
    """Of the props that the device knows, as the question of its next login tells it."""
    play.hears(Node("xmlstreamend")).said()
    play.tick().said()
    play.on(Opened()).expects_nothing()
    play.hears(success()).said()
    play.hears(count_result("#3", 100)).expects(Send(iq.active("#4")))
    asked = next(
        command.node
        for command in play.hears(result("#4")).said()
        if isinstance(command, Send) and command.node.child("props")
    )
    return props.parse_query(asked)


def told(hash: str, **values: str) -> Node:
    codes = {code.removeprefix("_"): value for code, value in values.items()}
    return props.answer(props.query("#props", Props()), hash, codes)


# --- the order ---


def test_questions_of_a_login_come_in_this_order() -> None:
    play = opened_play().hears(success()).expects(COUNT)
    play.hears(count_result("#1", 100)).expects(Send(iq.active("#2")))
    digest, asked = prekeys.digest_query("#digest"), props.query("#props", Props())
    play.hears(result("#2")).expects(Send(digest), UNIFIED_SESSION, Send(asked), NextRow())


def test_messages_are_taken_from_success_on() -> None:
    message = Node("message", {"id": "M", "from": FRIEND_LID})
    play = opened_play().hears(success()).expects(COUNT)
    play.hears(message).expects(Receive(message))


# --- our own LID ---


def test_lid_that_is_known_needs_nothing() -> None:
    opened_play().hears(login.success(OWN_LID, SERVER_T)).expects(COUNT)


@pytest.mark.parametrize("told", [OTHER_LID, OTHER_LID.bare])
def test_other_lid_is_an_alarm_and_counts_from_now_on(told: Jid) -> None:
    play = opened_play().hears(login.success(told, SERVER_T))
    now = replace(PAIRED, lid=OTHER_LID)
    play.expects(SaveLid(now), Remark(Oddity.OTHER_LID), COUNT)
    play.hears(count_result("#1", 100)).expects(Send(iq.active("#2")))
    play.hears(result("#2")).expects(*GREETING, NextRow())


def test_other_lid_is_told_once() -> None:
    play = opened_play().hears(login.success(OTHER_LID, SERVER_T))
    play.said()
    play.hears(Node("xmlstreamend")).said()
    play.tick().said()
    play.on(Opened()).expects_nothing()
    play.hears(login.success(OTHER_LID, SERVER_T)).expects(Send(prekeys.count_query("#2")))


@pytest.mark.parametrize("told", [OWN_PN, Jid("", "lid")], ids=["a number", "nobody"])
def test_what_is_no_lid_is_none_of_ours(told: Jid) -> None:
    opened_play().hears(login.success(told, SERVER_T)).expects(COUNT)


def test_other_lid_is_kept_although_the_device_logs_out() -> None:
    play = opened_play().on(Logout()).expects_nothing()
    play.hears(login.success(OTHER_LID, SERVER_T)).expects(
        SaveLid(replace(PAIRED, lid=OTHER_LID)),
        Remark(Oddity.OTHER_LID),
        Send(iq.logout("#1", OWN_PN)),
    )


# --- prekeys that only the server has ---


def held_play(held: int | None) -> Playbook:
    """A device that finds so many uploaded prekeys in its store when it starts."""
    play = Playbook().on(replace(started(), uploaded_prekeys=held)).expects(Dial(False))
    play.on(Opened()).expects_nothing()
    return play.hears(success()).expects(COUNT)


def test_store_that_lost_its_prekeys_makes_new_ones_whatever_the_server_counts() -> None:
    held_play(FEW_PREKEYS - 1).hears(count_result("#1", 700)).expects(MAKE_MORE)


@pytest.mark.parametrize("held", [FEW_PREKEYS, None])
def test_store_that_holds_its_prekeys_needs_no_new_ones(held: int | None) -> None:
    held_play(held).hears(count_result("#1", 700)).expects(Send(iq.active("#2")))


def test_prekeys_of_an_earlier_login_are_not_missed() -> None:
    play = linked_anew_play(replace(LOGGED_OUT, uploaded_prekeys=0))
    play.hears(count_result("#1", 100)).expects(Send(iq.active("#2")))


# --- the digest ---


@pytest.mark.parametrize(
    "answer",
    [digest_refused(), refused("#digest", 404), refused("#digest", 406)],
    ids=["no digest", "404", "406"],
)
def test_server_without_our_keys_is_given_some(answer: Node) -> None:
    greeting_play().hears(answer).expects(MAKE_MORE)


@pytest.mark.parametrize(
    "answer", [result("#digest", Node("digest")), refused("#digest", 500)], ids=["digest", "500"]
)
def test_server_that_has_our_keys_or_does_not_say_is_given_none(answer: Node) -> None:
    greeting_play().hears(answer).expects_nothing().stands(Phase.CONNECTED)


# --- props ---


def test_props_are_saved_with_their_hash() -> None:
    now = Props("h2", tokens_with_messages=True, tokens_to_lid=False)
    play = greeting_play().hears(told("h2", _10518="true", _14303="0"))
    play.expects(SaveFact(PROPS_FACT, now.to_bytes()))
    assert hash_told_anew(play) == now.hash


def test_props_that_are_no_news_are_not_saved() -> None:
    greeting_play(KNOWN).hears(told("h1")).expects_nothing()


def test_hash_of_an_earlier_life_is_told() -> None:
    assert hash_told_anew(greeting_play(KNOWN)) == KNOWN.hash


@pytest.mark.parametrize("answer", [refused("#props"), result("#props")])
def test_props_that_cannot_be_had_leave_what_is_known(answer: Node) -> None:
    play = greeting_play(KNOWN).hears(answer).expects_nothing().stands(Phase.CONNECTED)
    assert hash_told_anew(play) == KNOWN.hash


def test_props_of_another_login_are_none_of_the_new_one() -> None:
    play = linked_anew_play(replace(LOGGED_OUT, props=KNOWN))
    play.hears(count_result("#1", 100)).expects(Send(iq.active("#2")))
    play.hears(result("#2")).expects(*GREETING, NextRow())

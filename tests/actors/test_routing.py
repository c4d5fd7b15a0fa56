"""Edge routing: remembered for the next connection, and given up with one that fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.commands import ClearRest, Dial, HangUp, MakeKeys, SaveFact, Send
from sitpayd.actors.events import KeysMade, LossKind, Lost, Opened
from sitpayd.actors.messages import Reconnect, StartPairing
from sitpayd.actors.phase import Phase
from sitpayd.actors.routing import MAX_LEN
from sitpayd.storage.records import ROUTING_FACT
from sitpayd.whatsapp.stanzas import failure, ib, pairing, prekeys
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import (
    KEYS,
    REFS,
    connected_play,
    pairing_play,
    rest,
    some_pair_success,
    started,
    success,
)
from tests.support.playbook import Playbook

INFO = b"edge"
SAVED = SaveFact(ROUTING_FACT, INFO)
DROPPED = SaveFact(ROUTING_FACT, None)
WITH, WITHOUT = Dial(registration=False, routing_info=INFO), Dial(registration=False)
NOT_REACHED = [
    LossKind.DNS,
    LossKind.FILES,
    LossKind.HTTP,
    LossKind.PROXY_REFUSED,
    LossKind.PROXY_UNREACHABLE,
]
FAILED = [LossKind.NETWORK, LossKind.CLOSED, LossKind.PROTOCOL, LossKind.SILENT]


def announced(info: bytes) -> Playbook:
    return connected_play().hears(ib.ib(ib.EdgeRouting(info)))


def dialling_play() -> Playbook:
    """A device that dials by what an earlier life was told."""
    return Playbook().on(replace(started(), routing_info=INFO)).expects(WITH)


def test_announced_bytes_are_saved_and_go_into_the_next_prologue() -> None:
    play = announced(INFO).expects(SAVED)
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().expects(WITH)


def test_what_is_known_is_not_saved_again() -> None:
    play = announced(INFO).expects(SAVED)
    play.hears(ib.ib(ib.EdgeRouting(INFO))).expects_nothing()
    play.hears(ib.ib(ib.EdgeRouting(b"other"))).expects(SaveFact(ROUTING_FACT, b"other"))


@pytest.mark.parametrize("info", [b"", bytes(MAX_LEN + 1)])
def test_bytes_that_no_server_needs_are_left_alone(info: bytes) -> None:
    play = announced(info).expects_nothing()
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().expects(WITHOUT)


def test_longest_bytes_are_taken() -> None:
    announced(bytes(MAX_LEN)).expects(SaveFact(ROUTING_FACT, bytes(MAX_LEN)))


@pytest.mark.parametrize("kind", FAILED)
@pytest.mark.parametrize("opened", [False, True])
def test_dial_that_fails_with_them_is_followed_by_one_without(kind: LossKind, opened: bool) -> None:
    play = dialling_play()
    if opened:
        play.on(Opened()).expects_nothing()
    play.on(Lost(kind, "")).expects(DROPPED).stands(Phase.WAITING, play.machine.reason)
    play.tick().expects(WITHOUT)
    play.on(Lost(kind, "")).expects_nothing()


@pytest.mark.parametrize("kind", NOT_REACHED)
def test_dial_that_never_got_to_the_server_says_nothing_against_them(kind: LossKind) -> None:
    play = dialling_play().on(Lost(kind, "")).expects_nothing()
    play.tick().expects(WITH)


def test_login_that_gets_no_first_stanza_is_tried_without_them() -> None:
    play = dialling_play().on(Opened()).expects_nothing()
    play.tick().expects(HangUp(), DROPPED)
    play.tick().expects(WITHOUT)


@pytest.mark.parametrize("code", [500, 503])
def test_login_that_the_server_cannot_take_is_tried_without_them(code: int) -> None:
    play = dialling_play().on(Opened()).expects_nothing()
    play.hears(failure.failure(ConnectFailure(code))).expects(HangUp(), DROPPED)


def test_restart_instead_of_a_welcome_is_dialled_without_them() -> None:
    play = dialling_play().on(Opened()).expects_nothing()
    play.hears(failure.stream_error(StreamError(515))).expects(HangUp(), DROPPED, WITHOUT)


def test_connection_that_was_logged_in_proves_them_however_it_ends() -> None:
    play = dialling_play().on(Opened()).expects_nothing()
    play.hears(success()).expects(Send(prekeys.count_query("#1")))
    play.on(Lost(LossKind.CLOSED, "")).expects_nothing()
    play.tick().expects(WITH)


def test_person_who_has_it_dial_anew_says_nothing_against_them() -> None:
    play = dialling_play().on(Opened()).expects_nothing()
    play.on(Reconnect()).expects(HangUp(), WITH)


def test_rest_says_nothing_against_them() -> None:
    play = Playbook().on(replace(started(rest=rest(Phase.REPLACED)), routing_info=INFO))
    play.expects_nothing().on(Reconnect()).expects(ClearRest(), WITH)


def test_registration_goes_without() -> None:
    play = pairing_play().hears(ib.ib(ib.EdgeRouting(INFO))).expects_nothing()
    play.stands(Phase.PAIRING)


def test_bytes_of_another_login_are_none_of_the_new_one() -> None:
    start = started(paired=None, rest=rest(Phase.LOGGED_OUT))
    play = Playbook().on(replace(start, routing_info=INFO))
    play.said()
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(pairing.pair_device("X", REFS)).said()
    play.hears(some_pair_success()).said()
    play.on(Lost(LossKind.CLOSED, "")).expects(WITHOUT)

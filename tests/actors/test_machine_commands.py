"""DeviceMachine and what people want of it: pause, resume, reconnect, log out, cancel a pairing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from sitpayd.actors.commands import (
    AskRevision,
    ClearRest,
    CountAttempt,
    Dial,
    HangUp,
    HideQr,
    MakeKeys,
    Mark,
    NextRow,
    SaveRest,
    Send,
    SettleLoggedOut,
    Write,
)
from sitpayd.actors.events import Armed, LossKind, Lost, Opened, RowLoaded, StorageFailed, Tick
from sitpayd.actors.failures import BAN_GRACE_S
from sitpayd.actors.messages import (
    CancelPairing,
    Deliver,
    Logout,
    Message,
    Pause,
    Reconnect,
    Remove,
    Resume,
    Revised,
    StartPairing,
)
from sitpayd.actors.phase import RESTING, REVIVABLE, Phase
from sitpayd.storage.records import Rest, RowState
from sitpayd.whatsapp.stanzas import failure, iq, prekeys
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import (
    NOON,
    OWN_PN,
    SERVER_T,
    a_row,
    connected_play,
    count_result,
    in_flight,
    message_ack,
    opened_play,
    paired_play,
    pairing_play,
    rest,
    result,
    started,
    success,
)
from tests.support.playbook import Playbook

LOGIN = Dial(registration=False)
NETWORK = Lost(LossKind.NETWORK, "reset")
LOGGED_OUT = (SaveRest(Phase.LOGGED_OUT, "logged_out_here"), SettleLoggedOut())


def resting_play(phase: Phase, *, until_s: float | None = None) -> Playbook:
    """A linked device that rests, as a start of the daemon finds it."""
    until = None if until_s is None else NOON + timedelta(seconds=until_s)
    play = Playbook().on(started(rest=Rest(phase.value, "because", NOON, until)))
    play.said()
    return play


def paused_play() -> Playbook:
    return Playbook().on(started(paused=True)).expects_nothing().stands(Phase.PAUSED)


def waiting_play() -> Playbook:
    return connected_play().on(NETWORK).expects_nothing().stands(Phase.WAITING, "network")


def logged_in_again(play: Playbook) -> Playbook:
    """The dial that was just made leads to a connected device."""
    play.on(Opened()).expects_nothing()
    (count,) = play.hears(success()).said()
    assert isinstance(count, Send)
    (active,) = play.hears(count_result(count.node.required_text("id"), 100)).said()
    assert isinstance(active, Send)
    play.hears(result(active.node.required_text("id"))).said()
    return play.stands(Phase.CONNECTED)


# --- pause ---


@pytest.mark.parametrize(
    "play", [connected_play, opened_play, waiting_play], ids=["connected", "connecting", "waiting"]
)
def test_paused_device_hangs_up_and_waits_for_nobody_but_people(
    play: Callable[[], Playbook],
) -> None:
    paused = play().on(Pause()).expects(HangUp()).stands(Phase.PAUSED)
    assert paused.waits_s is None
    paused.on(Deliver()).expects_nothing()
    paused.on(Reconnect()).expects_nothing()
    paused.on(StartPairing()).expects_nothing().stands(Phase.PAUSED)


def test_second_pause_changes_nothing() -> None:
    paused_play().on(Pause()).expects_nothing().stands(Phase.PAUSED)


def test_pause_takes_the_code_away() -> None:
    pairing_play().on(Pause()).expects(HangUp(), HideQr()).stands(Phase.PAUSED)


def test_device_paused_right_after_linking_is_confirmed_first() -> None:
    play = paired_play().on(Pause()).expects_nothing()
    play.on(Lost(LossKind.CLOSED, "")).expects_nothing().stands(Phase.PAUSED)


@pytest.mark.parametrize("phase", sorted(RESTING))
def test_pause_leaves_the_reason_of_a_rest_in_sight(phase: Phase) -> None:
    resting_play(phase).on(Pause()).expects_nothing().stands(phase, "because")


def test_pause_comes_after_the_logout_that_is_under_way() -> None:
    play = connected_play().on(Logout()).expects(Send(iq.logout("#3", OWN_PN)))
    play.on(Pause()).expects_nothing()
    play.hears(result("#3")).expects(HangUp(), *LOGGED_OUT)


# --- resume ---


def test_resumed_device_dials_at_once() -> None:
    play = paused_play().on(Resume()).expects(LOGIN).stands(Phase.CONNECTING)
    logged_in_again(play)


def test_resume_of_a_device_that_runs_changes_nothing() -> None:
    connected_play().on(Resume()).expects_nothing().stands(Phase.CONNECTED)
    waiting_play().on(Resume()).expects_nothing().stands(Phase.WAITING, "network")


def test_resumed_device_that_was_never_linked_can_be_linked() -> None:
    play = Playbook().on(started(keys=None, paired=None, paused=True)).expects_nothing()
    play.on(Resume()).expects_nothing().stands(Phase.UNPAIRED)
    play.on(StartPairing()).expects(MakeKeys())


def test_row_in_flight_at_a_pause_goes_out_again_with_the_same_bytes() -> None:
    play, row = connected_play(), a_row()
    armed = in_flight(play, row, "#3")
    play.on(Pause()).expects(HangUp()).on(Resume()).expects(LOGIN)
    logged_in_again(play)
    same = a_row(stanza=armed.stanza)
    play.on(RowLoaded(same)).expects(Write(Armed(same, armed.stanza)), CountAttempt(same))
    sent = Mark(same, RowState.SENT, server_time=SERVER_T)
    play.hears(message_ack(row)).expects(sent, NextRow())


@pytest.mark.parametrize("phase", sorted(REVIVABLE))
def test_person_wakes_a_device_that_rests_with_good_keys(phase: Phase) -> None:
    play = resting_play(phase).on(Resume()).expects(ClearRest(), LOGIN)
    play.stands(Phase.CONNECTING)


@pytest.mark.parametrize("phase", sorted(REVIVABLE))
def test_resume_after_a_refused_registration_lets_it_be_linked(phase: Phase) -> None:
    play = Playbook().on(started(keys=None, paired=None, rest=rest(phase)))
    play.said()
    play.on(Resume()).expects(ClearRest()).stands(Phase.UNPAIRED)


def test_logged_out_device_is_not_resumed() -> None:
    resting_play(Phase.LOGGED_OUT).on(Resume()).expects_nothing()


def test_rest_that_could_not_be_cleared_is_cleared_with_the_next_dial() -> None:
    play = resting_play(Phase.REPLACED).on(Resume()).expects(ClearRest(), LOGIN)
    play.on(StorageFailed(arming=False)).expects(HangUp()).stands(Phase.WAITING, "storage")
    play.tick().expects(ClearRest(), LOGIN)
    logged_in_again(play).on(RowLoaded(None)).expects_nothing()
    play.on(NETWORK).expects_nothing()
    play.tick().expects(LOGIN)


def test_banned_device_is_not_resumed_before_an_hour_after_the_end_of_its_ban() -> None:
    """F-10: a temporary ban ends with its time, an hour and a person's decision."""
    play = resting_play(Phase.BANNED, until_s=60.0)
    play.later(60.0 + BAN_GRACE_S - 1.0).on(Resume()).expects_nothing()
    play.stands(Phase.BANNED, "because")
    play.later(1.0).on(Resume()).expects(ClearRest(), LOGIN)


def test_ban_of_this_life_counts_like_one_from_before() -> None:
    """F-10: the end of the ban is counted from when it was said."""
    play = opened_play().hears(failure.failure(ConnectFailure(402, expire_s=60)))
    play.said()
    play.later(59.0 + BAN_GRACE_S).on(Resume()).expects_nothing()
    play.later(1.0).on(Resume()).expects(ClearRest(), LOGIN)


# --- a newer revision of the client ---


def test_outdated_device_asks_whether_a_newer_revision_is_known() -> None:
    """F-11: once in each life, whatever the device was told before."""
    Playbook().on(started(rest=rest(Phase.OUTDATED))).expects(AskRevision()).stands(
        Phase.OUTDATED, "because"
    )


def test_outdated_device_dials_as_soon_as_a_newer_revision_is_known() -> None:
    """F-11: nobody has to resume ten thousand devices."""
    resting_play(Phase.OUTDATED).on(Revised()).expects(ClearRest(), LOGIN)


def test_newer_revision_leaves_a_paused_device_paused() -> None:
    play = Playbook().on(started(rest=rest(Phase.OUTDATED), paused=True)).expects(AskRevision())
    play.on(Revised()).expects(ClearRest()).stands(Phase.PAUSED)


def test_newer_revision_lets_a_device_be_linked_whose_registration_was_refused() -> None:
    play = Playbook().on(started(keys=None, paired=None, rest=rest(Phase.OUTDATED)))
    play.expects(AskRevision()).on(Revised()).expects(ClearRest()).stands(Phase.UNPAIRED)


@pytest.mark.parametrize("phase", sorted(RESTING - {Phase.OUTDATED}))
def test_newer_revision_wakes_no_other_rest(phase: Phase) -> None:
    resting_play(phase).on(Revised()).expects_nothing().stands(phase, "because")


def test_newer_revision_does_not_concern_a_device_that_runs() -> None:
    connected_play().on(Revised()).expects_nothing().stands(Phase.CONNECTED)


# --- reconnect ---


@pytest.mark.parametrize(
    "play", [connected_play, opened_play, waiting_play], ids=["connected", "connecting", "waiting"]
)
def test_reconnect_drops_the_socket_and_dials_now(play: Callable[[], Playbook]) -> None:
    again = play().on(Reconnect()).expects(HangUp(), LOGIN).stands(Phase.CONNECTING)
    logged_in_again(again)


def test_replaced_device_dials_again_when_a_person_says_so() -> None:
    """F-09: only an explicit request takes the connection back from another program."""
    play = connected_play()
    play.hears(failure.stream_error(StreamError(409, conflict="replaced")))
    play.expects(HangUp(), SaveRest(Phase.REPLACED, "replaced")).stands(Phase.REPLACED, "replaced")
    assert play.waits_s is None
    play.on(Tick()).expects_nothing()
    play.on(Reconnect()).expects(ClearRest(), LOGIN).stands(Phase.CONNECTING)


@pytest.mark.parametrize("phase", sorted(RESTING - {Phase.REPLACED}))
def test_reconnect_wakes_no_other_rest(phase: Phase) -> None:
    resting_play(phase).on(Reconnect()).expects_nothing().stands(phase, "because")


def test_reconnect_leaves_a_pairing_alone() -> None:
    pairing_play().on(Reconnect()).expects_nothing().stands(Phase.PAIRING)
    paired_play().on(Reconnect()).expects_nothing().stands(Phase.PAIRED)


def test_replaced_device_that_is_paused_stays_so_on_reconnect() -> None:
    play = Playbook().on(started(rest=rest(Phase.REPLACED), paused=True)).expects_nothing()
    play.on(Reconnect()).expects_nothing()
    play.on(Resume()).expects(ClearRest(), LOGIN)


# --- log out ---


def test_logged_out_device_stays_and_can_be_linked_anew() -> None:
    play = connected_play().on(Logout()).expects(Send(iq.logout("#3", OWN_PN)))
    play.stands(Phase.CONNECTED, "logging_out").on(Deliver()).expects_nothing()
    play.on(Logout()).expects_nothing()
    play.hears(result("#3")).expects(HangUp(), *LOGGED_OUT)
    play.stands(Phase.LOGGED_OUT, "logged_out_here")
    play.on(StartPairing()).expects(MakeKeys())


def test_logout_during_the_login_waits_for_its_success() -> None:
    play = opened_play().on(Logout()).expects_nothing().stands(Phase.CONNECTING, "logging_out")
    play.hears(success()).expects(Send(iq.logout("#1", OWN_PN)))


def test_logout_behind_success_leaves_the_rest_of_the_login() -> None:
    play = opened_play().hears(success()).expects(Send(prekeys.count_query("#1")))
    play.on(Logout()).expects(Send(iq.logout("#2", OWN_PN)))
    play.hears(count_result("#1", 9)).expects(Send(iq.active("#3")))
    play.hears(result("#3")).expects_nothing()


def test_logout_right_after_linking_waits_for_the_login() -> None:
    play = paired_play().on(Logout()).expects_nothing()
    play.on(Lost(LossKind.CLOSED, "")).expects(LOGIN)
    play.on(Opened()).expects_nothing()
    play.hears(success()).expects(Send(iq.logout("#1", OWN_PN)))


@pytest.mark.parametrize("play", [waiting_play, paused_play], ids=["waiting", "paused"])
def test_device_without_a_connection_dials_to_log_out(play: Callable[[], Playbook]) -> None:
    away = play().on(Logout()).expects(HangUp(), LOGIN).stands(Phase.CONNECTING, "logging_out")
    away.on(NETWORK).expects_nothing().stands(Phase.WAITING, "network")


def test_replaced_device_dials_to_log_out() -> None:
    play = resting_play(Phase.REPLACED).on(Logout()).expects(HangUp(), ClearRest(), LOGIN)
    play.stands(Phase.CONNECTING, "logging_out")


@pytest.mark.parametrize("phase", sorted(REVIVABLE - {Phase.REPLACED}))
def test_device_that_is_not_let_in_is_logged_out_at_once(phase: Phase) -> None:
    play = resting_play(phase).on(Logout()).expects(HangUp(), *LOGGED_OUT)
    play.stands(Phase.LOGGED_OUT, "logged_out_here")


@pytest.mark.parametrize("code", [401, 402, 405, 400])
def test_refusal_while_logging_out_ends_it(code: int) -> None:
    play = opened_play().on(Logout()).expects_nothing()
    play.hears(failure.failure(ConnectFailure(code))).expects(HangUp(), *LOGGED_OUT)


def test_unlinking_by_the_phone_while_logging_out_is_the_same_end() -> None:
    play = connected_play().on(Logout()).expects(Send(iq.logout("#3", OWN_PN)))
    removed = failure.stream_error(StreamError(401, conflict="device_removed"))
    play.hears(removed).expects(HangUp(), *LOGGED_OUT)


@pytest.mark.parametrize("message", [Logout(), Resume(), Reconnect(), Pause(), CancelPairing()])
def test_logged_out_device_hears_what_does_not_concern_it(message: Message) -> None:
    resting_play(Phase.LOGGED_OUT).on(message).expects_nothing().stands(Phase.LOGGED_OUT, "because")


@pytest.mark.parametrize("paused", [False, True])
def test_logout_that_whatsapp_never_heard_of_is_made_after_a_restart(paused: bool) -> None:
    play = Playbook().on(started(paused=paused, logout_wanted=True)).said()
    assert play[-1] == LOGIN


def test_logout_wished_before_a_crash_ends_a_rest() -> None:
    play = Playbook().on(started(rest=rest(Phase.BANNED), logout_wanted=True))
    play.expects(HangUp(), *LOGGED_OUT).stands(Phase.LOGGED_OUT, "logged_out_here")


def test_device_removed_while_it_logs_out_is_gone_with_it() -> None:
    play = connected_play().on(Logout()).expects(Send(iq.logout("#3", OWN_PN)))
    play.on(Remove()).expects_nothing()
    play.hears(result("#3")).said()
    play.stands(Phase.LOGGED_OUT, "removed")


def test_lost_logout_is_repeated_at_the_next_connect() -> None:
    play = connected_play().on(Logout()).expects(Send(iq.logout("#3", OWN_PN)))
    play.on(NETWORK).expects_nothing().stands(Phase.WAITING, "network")
    play.tick().expects(LOGIN)
    play.on(Opened()).expects_nothing()
    play.hears(success()).expects(Send(iq.logout("#4", OWN_PN)))


# --- the pairing ---


def test_canceled_pairing_takes_the_code_away() -> None:
    pairing_play().on(CancelPairing()).expects(HangUp(), HideQr()).stands(
        Phase.UNPAIRED, "canceled"
    )


def test_cancel_without_a_pairing_changes_nothing() -> None:
    connected_play().on(CancelPairing()).expects_nothing().stands(Phase.CONNECTED)
    paired_play().on(CancelPairing()).expects_nothing().stands(Phase.PAIRED)


def test_pairing_whose_keys_could_not_be_stored_can_begin_again() -> None:
    play = resting_play(Phase.LOGGED_OUT).on(StartPairing()).expects(MakeKeys())
    play.on(StorageFailed(arming=False)).expects(HangUp(), HideQr()).stands(
        Phase.UNPAIRED, "storage"
    )
    play.on(StartPairing()).expects(MakeKeys())

"""DeviceMachine from the login on: staying connected, losing connections, resting, leaving."""

from __future__ import annotations

import pytest

from sitpayd.actors.backoff import BASE_S, CAP_S, HEALTHY_AFTER_S
from sitpayd.actors.commands import (
    Command,
    Dial,
    DropSessions,
    Finish,
    ForgetKeys,
    HangUp,
    KeepToken,
    Learn,
    LookUpResend,
    MakePreKeys,
    MarkReceipt,
    MarkUploaded,
    NextRow,
    Receive,
    SaveRest,
    Send,
    SettleLoggedOut,
    TellIdentityChanged,
)
from sitpayd.actors.events import (
    Answer,
    LossKind,
    Lost,
    Opened,
    PreKeysMade,
    RowLoaded,
    StorageFailed,
    Tick,
)
from sitpayd.actors.machine import SETTLE_AGAIN_S
from sitpayd.actors.messages import Deliver, Network, Reachable, Remove
from sitpayd.actors.phase import RESTING, Phase
from sitpayd.actors.stock import FIRST_PREKEYS, MORE_PREKEYS
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KeyPair, PreKey
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas import failure, ib, iq, notification, prekeys, receipt
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    GREETING,
    KEYS,
    OWN_PN,
    SERVER_T,
    connected_play,
    count_result,
    known_friend_play,
    opened_play,
    refused,
    rest,
    result,
    started,
    success,
)
from tests.support.playbook import Playbook

NETWORK = Lost(LossKind.NETWORK, "reset")
LOGIN = Dial(registration=False)
GONE = (SettleLoggedOut(), ForgetKeys(), Finish())
SOME_PREKEYS = (PreKey(5, KeyPair.generate()), PreKey(6, KeyPair.generate()))
REPLACED = failure.stream_error(StreamError(409, conflict="replaced"))


def logged_in_play() -> Playbook:
    """A device behind `<success>`, whose count of prekeys is asked."""
    return opened_play().hears(success()).expects(Send(prekeys.count_query("#1")))


def notified(value: notification.Notification) -> Node:
    return notification.notification("N", value, t=SERVER_T, from_=OWN_PN.bare)


def acked(node: Node) -> Send:
    return Send(receipt.ack(node, OWN_PN))


def a_minute_of_chatter(play: Playbook) -> Playbook:
    """Time enough for a query to expire, and signs of life."""
    for _ in range(6):
        play.later(10.0).hears(Node("presence")).expects_nothing()
    return play


def reconnect(play: Playbook) -> None:
    """Wait for the next dial and log in."""
    play.tick().expects(LOGIN)
    play.on(Opened()).expects_nothing()
    play.hears(success()).said()


# --- start ---


def test_linked_device_dials_when_it_starts() -> None:
    play = Playbook().on(started()).expects(LOGIN).stands(Phase.CONNECTING)
    assert play.waits_s is None


@pytest.mark.parametrize("phase", sorted(RESTING - {Phase.LOGGED_OUT, Phase.OUTDATED}))
def test_resting_device_does_not_dial_when_it_starts(phase: Phase) -> None:
    play = Playbook().on(started(rest=rest(phase))).expects_nothing().stands(phase, "because")
    assert play.waits_s is None


def test_logged_out_device_settles_what_a_crash_or_a_late_request_left() -> None:
    play = Playbook().on(started(rest=rest(Phase.LOGGED_OUT))).expects(SettleLoggedOut())
    play.on(Deliver()).expects(SettleLoggedOut()).stands(Phase.LOGGED_OUT, "because")
    assert play.waits_s is None


def test_end_that_could_not_be_stored_is_stored_later() -> None:
    play = Playbook().on(started(rest=rest(Phase.LOGGED_OUT))).expects(SettleLoggedOut())
    play.on(StorageFailed(arming=False)).expects_nothing()
    assert play.waits_s == SETTLE_AGAIN_S
    play.tick().expects(SaveRest(Phase.LOGGED_OUT, "because"), SettleLoggedOut())
    assert play.waits_s is None


def test_removal_that_could_not_be_stored_is_stored_later() -> None:
    play = Playbook().on(started(rest=rest(Phase.BANNED))).on(Remove()).expects(HangUp(), *GONE)
    play.on(StorageFailed(arming=False)).expects_nothing()
    play.tick().expects(*GONE)


def test_paused_device_does_not_dial_when_it_starts() -> None:
    play = Playbook().on(started(paused=True)).expects_nothing().stands(Phase.PAUSED)
    assert play.waits_s is None


def test_handshake_without_a_first_stanza_is_given_up_after_30_seconds() -> None:
    play = opened_play()
    assert play.waits_s == 30.0
    play.tick().expects(HangUp()).stands(Phase.WAITING, "no_answer")


# --- after success ---


def test_enough_prekeys_need_no_upload() -> None:
    play = logged_in_play().hears(count_result("#1", 5)).expects(Send(iq.active("#2")))
    play.hears(result("#2")).expects(*GREETING, NextRow()).stands(Phase.CONNECTED)


@pytest.mark.parametrize(("left", "made"), [(0, FIRST_PREKEYS), (4, MORE_PREKEYS)])
def test_few_prekeys_are_topped_up(left: int, made: int) -> None:
    logged_in_play().hears(count_result("#1", left)).expects(MakePreKeys(made))


def test_answered_upload_is_marked_and_the_device_goes_on() -> None:
    play = logged_in_play().hears(count_result("#1", 0)).expects(MakePreKeys(FIRST_PREKEYS))
    play.on(PreKeysMade(SOME_PREKEYS)).expects(Send(prekeys.upload("#2", KEYS, SOME_PREKEYS)))
    play.hears(result("#2")).expects(MarkUploaded((5, 6)), Send(iq.active("#3")))


def test_refused_upload_is_not_marked_and_the_device_goes_on() -> None:
    play = logged_in_play().hears(count_result("#1", 0)).expects(MakePreKeys(FIRST_PREKEYS))
    play.on(PreKeysMade(SOME_PREKEYS)).expects(Send(prekeys.upload("#2", KEYS, SOME_PREKEYS)))
    play.hears(refused("#2")).expects(Send(iq.active("#3")))


def test_prekeys_for_a_connection_that_is_gone_are_not_uploaded() -> None:
    play = logged_in_play().hears(count_result("#1", 0)).expects(MakePreKeys(FIRST_PREKEYS))
    play.on(NETWORK).expects_nothing()
    play.on(PreKeysMade(SOME_PREKEYS)).expects_nothing()
    reconnect(play)
    play.hears(count_result("#2", 0)).expects(MakePreKeys(FIRST_PREKEYS))


@pytest.mark.parametrize(
    "answer",
    [refused("#1"), result("#1"), result("#1", Node("count", {"value": "many"}))],
    ids=["error", "no count", "no number"],
)
def test_count_that_cannot_be_read_does_not_stop_the_login(answer: Node) -> None:
    play = logged_in_play().hears(answer).expects(Send(iq.active("#2")))
    play.hears(refused("#2")).expects(*GREETING, NextRow()).stands(Phase.CONNECTED)


def test_login_goes_on_without_answers() -> None:
    play = a_minute_of_chatter(logged_in_play())
    play.on(Tick()).expects(Send(iq.ping("#2")), Send(iq.active("#3")))
    a_minute_of_chatter(play)
    digest, _, asked = GREETING
    announced = Send(iq.unified_session((SERVER_T + 120) * 1000))
    play.on(Tick()).expects(Send(iq.ping("#4")), digest, announced, asked, NextRow())
    a_minute_of_chatter(play.on(RowLoaded(None)).expects_nothing())
    play.on(Tick()).expects(Send(iq.ping("#5"))).stands(Phase.CONNECTED)


@pytest.mark.parametrize("attrs", [{}, {"t": "soon"}, {"t": "7", "lid": "nobody"}], ids=str)
def test_success_counts_whatever_else_it_tells(attrs: dict[str, Attr]) -> None:
    opened_play().hears(Node("success", attrs)).expects(Send(prekeys.count_query("#1")))


def test_second_success_is_ignored() -> None:
    connected_play().hears(success()).expects_nothing()


def test_clock_of_the_server_counts_in_the_session_announced() -> None:
    play = opened_play().hears(success(SERVER_T + 60)).expects(Send(prekeys.count_query("#1")))
    play.hears(count_result("#1", 9)).expects(Send(iq.active("#2")))
    digest, _, asked = GREETING
    announced = Send(iq.unified_session(SERVER_T * 1000, 60_000))
    play.hears(result("#2")).expects(digest, announced, asked, NextRow())


def test_upload_that_ends_behind_active_does_not_connect_twice() -> None:
    play = logged_in_play()
    few = notified(notification.PreKeyCount(3))
    play.hears(few).expects(acked(few), MakePreKeys(MORE_PREKEYS))
    play.on(PreKeysMade(SOME_PREKEYS)).expects(Send(prekeys.upload("#2", KEYS, SOME_PREKEYS)))
    play.hears(count_result("#1", 9)).expects(Send(iq.active("#3")))
    play.hears(result("#2")).expects(MarkUploaded((5, 6)))
    play.hears(result("#3")).expects(*GREETING, NextRow())


def test_count_that_says_few_while_an_upload_runs_makes_no_second_one() -> None:
    play = logged_in_play()
    few = notified(notification.PreKeyCount(3))
    play.hears(few).expects(acked(few), MakePreKeys(MORE_PREKEYS))
    play.on(PreKeysMade(SOME_PREKEYS)).expects(Send(prekeys.upload("#2", KEYS, SOME_PREKEYS)))
    play.hears(count_result("#1", 3)).expects(Send(iq.active("#3")))
    play.hears(result("#2")).expects(MarkUploaded((5, 6)))


# --- keepalive ---


def test_silent_connection_is_pinged_twice_and_given_up_after_45_seconds() -> None:
    play = connected_play()
    play.tick().expects(Send(iq.ping("#3")))
    assert 20.0 <= play.now - 1000.0 <= 30.0
    first = play.now
    play.on(RowLoaded(None)).expects_nothing()
    play.tick().expects(Send(iq.ping("#4")))
    assert play.now - first == 10.0
    play.on(RowLoaded(None)).expects_nothing()
    play.tick().expects(HangUp()).stands(Phase.WAITING, "no_answer")
    assert play.now - 1000.0 == 45.0


def test_any_stanza_is_a_sign_of_life() -> None:
    play = connected_play()
    for _ in range(10):
        play.later(40.0).hears(Node("presence")).expects_nothing()
    play.stands(Phase.CONNECTED)
    assert play.tick().said()[0] == Send(iq.ping("#3"))


def test_answered_ping_needs_nothing() -> None:
    play = connected_play().tick().expects(Send(iq.ping("#3")))
    play.hears(result("#3")).expects_nothing()


def test_pong_is_life_and_no_other_answer_is_a_pong() -> None:
    play = connected_play().tick().expects(Send(iq.ping("#3")))
    machine, node = play.machine, play.real(result("#3"))
    assert not machine.pong(Node("presence"), play.now)
    assert not machine.pong(Node("iq", {"id": "another", "type": "result"}), play.now)
    heard_at = play.now + 9.0
    assert machine.pong(node, heard_at)
    assert not machine.pong(node, heard_at)
    deadline = machine.deadline()
    # Not asked again 10 s after the ping.
    assert deadline is not None
    assert deadline >= play.now + 20.0


def test_refused_ping_needs_nothing() -> None:
    play = connected_play().tick().expects(Send(iq.ping("#3")))
    play.hears(refused("#3")).expects_nothing()


@pytest.mark.parametrize("kind", [LossKind.NETWORK, LossKind.DNS, LossKind.CLOSED])
def test_device_that_waits_for_the_network_dials_when_another_one_gets_through(
    kind: LossKind,
) -> None:
    play = connected_play().later(HEALTHY_AFTER_S).on(Lost(kind, "")).expects()
    assert play.machine.waits_with_others
    play.on(Reachable()).expects(LOGIN)
    assert play.machine.phase is Phase.CONNECTING
    assert not play.machine.waits_with_others
    play.on(Reachable()).expects_nothing()


def test_device_whose_connections_die_at_once_waits_whoever_gets_through() -> None:
    play = connected_play().later(1.0).on(Lost(LossKind.NETWORK, "")).expects()
    assert not play.machine.waits_with_others
    play.on(Reachable()).expects_nothing().stands(Phase.WAITING, "network")


def test_device_that_waits_for_something_of_its_own_is_not_hastened() -> None:
    play = connected_play().later(HEALTHY_AFTER_S)
    play.hears(failure.stream_error(StreamError(429))).expects(HangUp())
    assert not play.machine.waits_with_others
    play.on(Reachable()).expects_nothing().stands(Phase.WAITING, "too_many_connections")


def test_ping_of_the_server_is_answered() -> None:
    ping = iq.server_ping("P")
    connected_play().hears(ping).expects(Send(iq.result(ping)))


# --- losing a connection; what each way of it means is test_failures.py ---


def test_ban_tells_when_it_ends() -> None:
    play = opened_play().hears(failure.failure(ConnectFailure(402, expire_s=3600)))
    play.expects(HangUp(), SaveRest(Phase.BANNED, "temporary_ban", 3600))
    assert play.machine.until_s == 3600


def test_replaced_device_does_not_dial_again() -> None:
    play = connected_play().hears(REPLACED)
    play.expects(HangUp(), SaveRest(Phase.REPLACED, "replaced")).stands(Phase.REPLACED, "replaced")
    assert play.waits_s is None
    play.on(Deliver()).expects_nothing()


def test_another_reason_between_starts_the_count_anew() -> None:
    play = Playbook().on(started()).expects(LOGIN)
    for lost in (*[Lost(LossKind.HTTP, "")] * 2, NETWORK, Lost(LossKind.HTTP, "")):
        play.on(lost).expects_nothing()
        play.tick().expects(LOGIN)


def test_health_between_starts_the_count_anew() -> None:
    play = connected_play()
    unlinked_perhaps = failure.stream_error(StreamError(516))
    play.hears(unlinked_perhaps).expects(HangUp()).stands(Phase.WAITING, "unlinked_perhaps")
    reconnect(play)
    play.later(HEALTHY_AFTER_S).hears(unlinked_perhaps).expects(HangUp())
    play.stands(Phase.WAITING, "unlinked_perhaps")


def test_second_516_in_a_row_is_taken_for_a_logout() -> None:
    play = connected_play()
    unlinked_perhaps = failure.stream_error(StreamError(516))
    play.hears(unlinked_perhaps).expects(HangUp())
    reconnect(play)
    play.hears(unlinked_perhaps).expects(
        HangUp(), SaveRest(Phase.LOGGED_OUT, "unlinked_perhaps"), SettleLoggedOut()
    )


def test_515_is_dialled_at_once_only_once() -> None:
    """F-07: at once with the same login, once; then with backoff."""
    play, restart = connected_play(), failure.stream_error(StreamError(515))
    play.hears(restart).expects(HangUp(), LOGIN).stands(Phase.CONNECTING, "restart_required")
    play.on(Opened()).expects_nothing()
    play.hears(success()).said()
    play.hears(restart).expects(HangUp()).stands(Phase.WAITING, "restart_required")


def test_515_is_dialled_at_once_again_after_health() -> None:
    play, restart = connected_play(), failure.stream_error(StreamError(515))
    play.hears(restart).expects(HangUp(), LOGIN)
    play.on(Opened()).expects_nothing()
    play.hears(success()).said()
    play.later(HEALTHY_AFTER_S).hears(restart).expects(HangUp(), LOGIN)


def test_delays_grow_up_to_their_cap() -> None:
    play = Playbook().on(started()).expects(LOGIN)
    delays = []
    for _ in range(60):
        play.on(NETWORK).expects_nothing()
        assert play.waits_s is not None
        delays.append(play.waits_s)
        play.tick().expects(LOGIN)
    assert delays[0] <= BASE_S
    assert all(delay <= CAP_S for delay in delays)
    assert max(delays) > CAP_S / 2


def test_what_was_asked_on_a_lost_connection_is_forgotten() -> None:
    play = logged_in_play().on(NETWORK).expects_nothing()
    play.hears(count_result("#1", 0)).expects_nothing()


# --- stanzas ---


def test_message_is_received_and_answered_after_its_commit() -> None:
    node = Node("message", {"id": "M", "from": FRIEND_LID})
    confirmation = receipt.delivery(node, active=False, from_me=False)
    play = connected_play().hears(node).expects(Receive(node))
    play.on(Answer((confirmation,))).expects(Send(confirmation))


def test_message_may_come_before_the_login_is_complete() -> None:
    node = Node("message", {"id": "M", "from": FRIEND_LID})
    logged_in_play().hears(node).expects(Receive(node))


def test_receipt_is_marked_before_it_is_acknowledged() -> None:
    node = Node("receipt", {"id": "R", "from": FRIEND_LID, "type": "read"})
    play = connected_play().hears(node)
    play.expects(MarkReceipt(receipt.parse_receipt(node), receipt.ack(node, OWN_PN)))


def test_retry_receipt_asks_for_a_resend() -> None:
    children = (Node("retry", {"count": "1"}), Node("registration", {}, bytes(4)))
    node = Node("receipt", {"id": "R", "from": FRIEND_LID, "type": "retry"}, children)
    play = connected_play().hears(node)
    play.expects(LookUpResend(receipt.parse_receipt(node)))


def test_receipt_that_cannot_be_read_is_acknowledged() -> None:
    node = Node("receipt", {"id": "R", "from": FRIEND_LID, "type": "retry"})
    connected_play().hears(node).expects(acked(node))


def test_call_is_acknowledged() -> None:
    node = Node("call", {"id": "C", "from": FRIEND_LID})
    connected_play().hears(node).expects(acked(node))


@pytest.mark.parametrize("tag", ["presence", "chatstate", "mystery"])
def test_stanza_that_needs_no_answer_gets_none(tag: str) -> None:
    connected_play().hears(Node(tag, {"id": "1", "from": FRIEND_LID})).expects_nothing()


@pytest.mark.parametrize(
    "node",
    [
        Node("receipt"),
        Node("notification", {"id": "N"}),
        Node("call", {"from": FRIEND_LID}),
        Node("ack", {"class": "message"}),
        Node("iq", {"type": "get", "xmlns": "w:p"}),
        Node("ib", {}, (Node("dirty"),)),
    ],
    ids=lambda node: node.tag,
)
def test_malformed_stanza_is_skipped(node: Node) -> None:
    connected_play().hears(node).expects_nothing().stands(Phase.CONNECTED)


@pytest.mark.parametrize(
    "node",
    [
        Node("iq", {"type": "result", "id": "of nobody"}),
        Node("iq", {"type": "result"}),
        Node("ack", {"class": "receipt", "id": "1"}),
    ],
    ids=["answer", "answer without id", "ack of a receipt"],
)
def test_what_concerns_nobody_is_left_alone(node: Node) -> None:
    connected_play().hears(node).expects_nothing()


# --- ib ---


def test_announced_backlog_is_asked_for() -> None:
    play = connected_play().hears(ib.ib(ib.OfflinePreview(3)))
    play.expects(Send(iq.offline_batch(3)))


def test_dirty_state_is_cleaned() -> None:
    play = connected_play().hears(ib.ib(ib.Dirty("groups", 17)))
    play.expects(Send(iq.clean_dirty("#3", "groups", 17)))
    play.hears(result("#3")).expects_nothing()


def test_unanswered_cleaning_changes_nothing() -> None:
    play = connected_play().hears(ib.ib(ib.Dirty("groups", 17)))
    play.expects(Send(iq.clean_dirty("#3", "groups", 17)))
    play.hears(refused("#3")).expects_nothing()


def test_other_announcements_need_nothing() -> None:
    play = connected_play()
    play.hears(ib.ib(ib.OfflineDone(0))).expects_nothing()


# --- notifications ---


def test_few_prekeys_left_are_topped_up_once_at_a_time() -> None:
    play, few = connected_play(), notified(notification.PreKeyCount(4))
    play.hears(few).expects(acked(few), MakePreKeys(MORE_PREKEYS))
    play.on(PreKeysMade(SOME_PREKEYS)).expects(Send(prekeys.upload("#3", KEYS, SOME_PREKEYS)))
    play.hears(few).expects(acked(few))
    play.hears(result("#3")).expects(MarkUploaded((5, 6)))
    play.hears(few).expects(acked(few), MakePreKeys(MORE_PREKEYS))


def test_enough_prekeys_left_need_nothing() -> None:
    play, enough = connected_play(), notified(notification.PreKeyCount(5))
    play.hears(enough).expects(acked(enough))


def test_changed_identity_drops_the_sessions() -> None:
    play, changed = connected_play(), notified(notification.IdentityChanged(FRIEND_LID))
    told = TellIdentityChanged(FRIEND_LID, "notification")
    play.hears(changed).expects(DropSessions(FRIEND_LID), told, acked(changed))


@pytest.mark.parametrize(
    "value",
    [
        notification.IdentityChanged(FRIEND_LID),
        notification.DevicesChanged(FRIEND_PN, FRIEND_LID, "update", ()),
        notification.OwnDevices(()),
    ],
    ids=["identity", "devices", "own devices"],
)
def test_changed_devices_are_asked_for_again(value: notification.Notification) -> None:
    play, row = known_friend_play()
    play.hears(notified(value)).said()
    play.on(Deliver()).expects(NextRow())
    (asked,) = play.on(RowLoaded(row)).said()
    assert isinstance(asked, Send)


def test_other_notification_is_acknowledged() -> None:
    play, node = connected_play(), notified(notification.OtherNotification("picture"))
    play.hears(node).expects(acked(node))


@pytest.mark.parametrize(
    ("user", "lid", "kept"),
    [
        (FRIEND_PN, None, [KeepToken(FRIEND_PN, b"token", 7)]),
        (FRIEND_LID, None, [KeepToken(FRIEND_LID, b"token", 7)]),
        (
            FRIEND_PN,
            FRIEND_LID,
            [Learn(FRIEND_PN, FRIEND_LID), KeepToken(FRIEND_LID, b"token", 7)],
        ),
    ],
    ids=["number", "LID", "both"],
)
def test_token_is_answered_when_it_is_kept(user: Jid, lid: Jid | None, kept: list[Command]) -> None:
    play, node = connected_play(), notified(notification.PrivacyToken(user, lid, b"token", 7))
    play.hears(node).expects(*kept, acked(node))


def test_token_for_a_device_that_is_not_linked_is_only_acknowledged() -> None:
    play = Playbook().on(started(keys=None, paired=None)).expects_nothing()
    node = notified(notification.PrivacyToken(FRIEND_LID, None, b"token", 7))
    play.hears(node).expects(acked(node))


def test_notification_that_cannot_be_read_is_acknowledged() -> None:
    node = Node("notification", {"id": "N", "from": OWN_PN, "type": "privacy_token"})
    connected_play().hears(node).expects(acked(node))


def test_own_devices_before_linking_are_only_acknowledged() -> None:
    play = Playbook().on(started(keys=None, paired=None)).expects_nothing()
    node = notified(notification.OwnDevices(()))
    play.hears(node).expects(acked(node))


# --- leaving ---


def test_connected_device_is_logged_out_and_ends() -> None:
    play = connected_play().on(Remove()).expects(Send(iq.logout("#3", OWN_PN)))
    play.hears(result("#3")).expects(HangUp(), *GONE).stands(Phase.LOGGED_OUT, "removed")


def test_second_removal_changes_nothing() -> None:
    play = connected_play().on(Remove()).expects(Send(iq.logout("#3", OWN_PN)))
    play.on(Remove()).expects_nothing()


def test_leaving_device_sends_nothing_more() -> None:
    play = connected_play().on(Remove()).expects(Send(iq.logout("#3", OWN_PN)))
    play.on(Deliver()).expects_nothing()


def test_device_removed_behind_success_is_logged_out_on_this_connection() -> None:
    play = logged_in_play().on(Remove()).expects(Send(iq.logout("#2", OWN_PN)))
    play.hears(count_result("#1", 9)).expects(Send(iq.active("#3")))
    play.hears(result("#3")).expects_nothing()
    play.hears(result("#2")).expects(HangUp(), *GONE)


def test_device_removed_while_it_dials_is_logged_out_behind_success() -> None:
    play = opened_play().on(Remove()).expects_nothing()
    play.hears(success()).expects(Send(iq.logout("#1", OWN_PN)))


def test_device_removed_while_it_waits_dials_to_log_out() -> None:
    play = connected_play().on(NETWORK).expects_nothing()
    play.on(Remove()).expects(HangUp(), LOGIN).stands(Phase.CONNECTING, "logging_out")
    play.on(Opened()).expects_nothing()
    play.hears(success()).expects(Send(iq.logout("#3", OWN_PN)))


@pytest.mark.parametrize("phase", sorted(RESTING))
def test_resting_device_that_is_removed_ends_at_once(phase: Phase) -> None:
    play = Playbook().on(started(rest=rest(phase)))
    play.said()
    play.on(Remove()).expects(HangUp(), *GONE)
    assert play.machine.phase is Phase.LOGGED_OUT


def test_paused_device_that_is_removed_dials_to_log_out() -> None:
    play = Playbook().on(started(paused=True)).expects_nothing()
    play.on(Remove()).expects(HangUp(), LOGIN).stands(Phase.CONNECTING, "logging_out")
    play.on(NETWORK).expects_nothing().stands(Phase.WAITING, "network")


def test_refused_logout_is_tried_at_the_next_connect() -> None:
    play = connected_play().on(Remove()).expects(Send(iq.logout("#3", OWN_PN)))
    play.hears(refused("#3")).expects(HangUp()).stands(Phase.WAITING, "no_answer")
    play.tick().expects(LOGIN)


def test_unanswered_logout_ends_the_connection_with_all_that_was_asked() -> None:
    play = connected_play()
    few = notified(notification.PreKeyCount(1))
    play.hears(few).said()
    play.on(PreKeysMade(SOME_PREKEYS)).expects(Send(prekeys.upload("#3", KEYS, SOME_PREKEYS)))
    play.on(Remove()).expects(Send(iq.logout("#4", OWN_PN)))
    a_minute_of_chatter(play).on(Tick()).expects(HangUp()).stands(Phase.WAITING, "no_answer")


def test_device_unlinked_while_it_leaves_is_gone() -> None:
    play = connected_play().on(Remove()).expects(Send(iq.logout("#3", OWN_PN)))
    removed = failure.stream_error(StreamError(401, conflict="device_removed"))
    play.hears(removed).expects(HangUp(), SaveRest(Phase.LOGGED_OUT, "device_removed"), *GONE)


def test_device_that_comes_to_rest_while_it_leaves_is_gone() -> None:
    play = opened_play(leaving=True).hears(failure.failure(ConnectFailure(405)))
    play.expects(HangUp(), SaveRest(Phase.OUTDATED, "client_outdated"), *GONE)
    play.stands(Phase.LOGGED_OUT, "removed")


def test_event_of_the_network_is_taken_out_of_its_envelope() -> None:
    play = connected_play().on(Network(3, NETWORK)).expects_nothing()
    play.stands(Phase.WAITING, "network")

"""DeviceMachine while a device is linked: from the wish for a QR code to the first login."""

from __future__ import annotations

import pytest

from sitpayd.actors.commands import (
    AskRevision,
    Dial,
    Finish,
    ForgetKeys,
    HangUp,
    HideQr,
    MakeKeys,
    MakePreKeys,
    MarkUploaded,
    NextRow,
    Oddity,
    Remark,
    SaveIdentity,
    SaveRest,
    Send,
    SettleLoggedOut,
    ShowQr,
)
from sitpayd.actors.events import KeysMade, LossKind, Lost, Opened, PreKeysMade, Started, Tick
from sitpayd.actors.failures import CONNECT_FAILURES
from sitpayd.actors.messages import Deliver, Remove, StartPairing
from sitpayd.actors.pairing import MAX_ROUNDS, ROUNDS_WINDOW_S
from sitpayd.actors.phase import RESTING, Phase
from sitpayd.actors.stock import FIRST_PREKEYS
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure, ib, iq, notification, pairing, prekeys, receipt
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import (
    GREETING,
    KEYS,
    OWN_LID,
    OWN_PN,
    PHONE,
    REFS,
    SERVER_T,
    count_result,
    paired_play,
    pairing_play,
    rest,
    result,
    some_pair_success,
    started,
    success,
)
from tests.support.playbook import Playbook

PAIR_DEVICE = pairing.pair_device("X", REFS)
RESTART = failure.stream_error(StreamError(515))
HANG_UP = (HangUp(), HideQr())


def unlinked_play() -> Playbook:
    return Playbook().on(started(keys=None, paired=None)).expects_nothing()


def qr(ref: str, seconds: float) -> ShowQr:
    return ShowQr(pairing.qr_text(ref, KEYS), seconds)


def one_round(play: Playbook) -> Playbook:
    """A person asks for a code and nobody scans it."""
    keys = DeviceKeys.generate()
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(keys)).expects(Dial(registration=True))
    shown = ShowQr(pairing.qr_text(REFS[0], keys), 60.0)
    play.hears(PAIR_DEVICE).expects(Send(iq.result(PAIR_DEVICE)), shown)
    return play.on(Lost(LossKind.NETWORK, "")).expects(HideQr()).stands(Phase.UNPAIRED, "network")


# --- the way that everybody hopes for ---


def test_device_is_linked_logged_in_and_connected() -> None:
    play = unlinked_play().stands(Phase.UNPAIRED)
    play.on(StartPairing()).expects(MakeKeys()).stands(Phase.PAIRING)
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(PAIR_DEVICE).expects(Send(iq.result(PAIR_DEVICE)), qr("ref-1", 60.0))

    hide, save, confirm = play.hears(some_pair_success()).said()
    assert hide == HideQr()
    assert isinstance(save, SaveIdentity)
    assert (save.paired.jid, save.paired.lid) == (OWN_PN, OWN_LID)
    assert isinstance(confirm, Send)
    identity = KEYS.identity.public_key
    full = pairing.check_device_signature(confirm.node, PHONE.public_key, identity)
    assert full == save.paired.signed_identity
    play.stands(Phase.PAIRED)

    play.hears(RESTART).expects(HangUp(), Dial(registration=False))
    play.stands(Phase.CONNECTING, "restart_required")
    play.on(Opened()).expects_nothing()
    play.hears(success()).expects(Send(prekeys.count_query("#1")))
    play.hears(count_result("#1", 0)).expects(MakePreKeys(FIRST_PREKEYS))
    made = tuple(PreKey(number, KeyPair.generate()) for number in (1, 2, 3))
    play.on(PreKeysMade(made)).expects(Send(prekeys.upload("#2", KEYS, made)))
    play.hears(result("#2")).expects(MarkUploaded((1, 2, 3)), Send(iq.active("#3")))
    play.hears(result("#3")).expects(*GREETING, NextRow()).stands(Phase.CONNECTED)


def test_identity_is_saved_before_it_is_confirmed() -> None:
    said = pairing_play().hears(some_pair_success()).said()
    kinds = [type(command) for command in said]
    assert kinds.index(SaveIdentity) < kinds.index(Send)


def test_bare_close_after_linking_is_taken_for_a_restart() -> None:
    play = paired_play().on(Lost(LossKind.CLOSED, "close code 1000"))
    play.expects(Dial(registration=False)).stands(Phase.CONNECTING, "restart_required")


def test_end_of_stream_after_linking_is_taken_for_a_restart() -> None:
    paired_play().hears(Node("xmlstreamend")).expects(HangUp(), Dial(registration=False))


def test_server_that_never_ends_the_registration_is_left_after_30_seconds() -> None:
    play = paired_play()
    assert play.waits_s == 30.0
    play.tick().expects(HangUp(), Dial(registration=False))


def test_first_login_that_fails_is_retried_with_backoff() -> None:
    play = paired_play().hears(RESTART).expects(HangUp(), Dial(registration=False))
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing().stands(Phase.WAITING, "network")


def test_device_unlinked_right_after_linking_does_not_dial() -> None:
    removed = failure.stream_error(StreamError(401, conflict="device_removed"))
    play = paired_play().hears(removed)
    play.expects(HangUp(), SaveRest(Phase.LOGGED_OUT, "device_removed"), SettleLoggedOut()).stands(
        Phase.LOGGED_OUT, "device_removed"
    )
    assert play.waits_s is None


def test_second_pair_success_is_ignored() -> None:
    paired_play().hears(some_pair_success()).expects_nothing()


# --- QR codes ---


def test_six_codes_are_shown_for_160_seconds() -> None:
    play = pairing_play()
    for ref in REFS[1:]:
        play.tick().expects(qr(ref, 20.0))
    began = 1000.0
    play.tick().expects(*HANG_UP).stands(Phase.UNPAIRED, "qr_expired")
    assert play.now - began == 160.0
    assert play.waits_s is None


def test_new_list_of_refs_replaces_the_old_one() -> None:
    play = pairing_play()
    again = pairing.pair_device("Z", ["ref-a"])
    play.hears(again).expects(Send(iq.result(again)), qr("ref-a", 20.0))
    play.tick().expects(*HANG_UP).stands(Phase.UNPAIRED, "qr_expired")


def test_refs_that_cannot_be_read_leave_the_deadline_in_place() -> None:
    play = unlinked_play()
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(pairing.pair_device("X", [])).expects_nothing()
    play.tick().expects(*HANG_UP).stands(Phase.UNPAIRED, "no_answer")


def test_server_without_refs_is_left_after_30_seconds() -> None:
    play = unlinked_play()
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    assert play.waits_s == 30.0
    play.tick().expects(*HANG_UP).stands(Phase.UNPAIRED, "no_answer")


def test_ping_beside_the_code_is_answered() -> None:
    ping = iq.server_ping("P")
    pairing_play().hears(ping).expects(Send(iq.result(ping)))


def test_second_wish_for_a_code_changes_nothing() -> None:
    pairing_play().on(StartPairing()).expects_nothing().stands(Phase.PAIRING)


def test_fourth_round_within_an_hour_is_refused() -> None:
    play = unlinked_play()
    for _ in range(MAX_ROUNDS):
        one_round(play)
    play.on(StartPairing()).expects_nothing().stands(Phase.UNPAIRED, "network")
    one_round(play.later(ROUNDS_WINDOW_S))


def test_round_that_showed_no_code_is_not_counted() -> None:
    play = unlinked_play()
    for _ in range(MAX_ROUNDS + 1):
        play.on(StartPairing()).expects(MakeKeys())
        play.on(KeysMade(KEYS)).expects(Dial(registration=True))
        play.on(Lost(LossKind.NETWORK, "")).expects(HideQr()).stands(Phase.UNPAIRED, "network")


def test_clock_before_the_refs_shows_nothing() -> None:
    play = unlinked_play().on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.on(Tick()).expects_nothing().stands(Phase.PAIRING)


def test_refs_for_a_linked_device_are_ignored() -> None:
    paired_play().hears(PAIR_DEVICE).expects_nothing()


def test_doorbell_of_an_unlinked_device_rings_in_vain() -> None:
    unlinked_play().on(Deliver()).expects_nothing()


def test_keys_that_come_too_late_are_not_dialled_with() -> None:
    unlinked_play().on(KeysMade(KEYS)).expects_nothing()


# --- what goes wrong ---


def test_pair_success_of_a_forger_is_refused_and_forgotten() -> None:
    forged = some_pair_success(adv_secret=bytes(32))
    play = pairing_play().hears(forged)
    play.expects(Send(iq.error(forged, 401, "hmac-mismatch")), *HANG_UP)
    play.stands(Phase.UNPAIRED, "pairing_refused")


def test_account_with_a_passkey_needs_a_person() -> None:
    request = notification.notification("N", notification.PasskeyRequested(), t=SERVER_T)
    play = pairing_play().hears(request)
    play.expects(
        Send(receipt.ack(request, OWN_PN)), *HANG_UP, SaveRest(Phase.ACTION_REQUIRED, "passkey")
    ).stands(Phase.ACTION_REQUIRED, "passkey")
    one_round(play)


def test_passkey_request_to_a_linked_device_is_only_acknowledged() -> None:
    request = notification.notification("N", notification.PasskeyRequested(), t=SERVER_T)
    paired_play().hears(request).expects(Send(receipt.ack(request, OWN_PN)))


def test_account_without_multi_device_needs_a_person() -> None:
    play = pairing_play().hears(ib.ib(ib.DowngradeWebClient()))
    play.expects(*HANG_UP, SaveRest(Phase.ACTION_REQUIRED, "no_multi_device"))


def test_downgrade_of_a_linked_device_is_only_told() -> None:
    play = paired_play().hears(ib.ib(ib.DowngradeWebClient()))
    play.expects(Remark(Oddity.NO_MULTI_DEVICE)).stands(Phase.PAIRED)


@pytest.mark.parametrize("kind", list(LossKind), ids=lambda kind: kind.value)
def test_lost_registration_is_not_dialled_again(kind: LossKind) -> None:
    play = pairing_play().on(Lost(kind, ""))
    said = play.said()
    assert not any(isinstance(command, Dial) for command in said)
    assert play.waits_s is None


@pytest.mark.parametrize("code", CONNECT_FAILURES)
def test_refused_registration_rests_or_goes_back_to_unpaired(code: int) -> None:
    verdict = CONNECT_FAILURES[code]
    play = pairing_play().hears(failure.failure(ConnectFailure(code)))
    if verdict.phase in RESTING - {Phase.LOGGED_OUT}:
        asked = [AskRevision()] if verdict.phase is Phase.OUTDATED else []
        play.expects(*HANG_UP, SaveRest(verdict.phase, verdict.reason), *asked)
        play.stands(verdict.phase, verdict.reason)
    else:
        play.expects(*HANG_UP).stands(Phase.UNPAIRED, verdict.reason)


@pytest.mark.parametrize("phase", sorted(RESTING))
def test_unlinked_device_that_rests_may_try_again(phase: Phase) -> None:
    play = Playbook().on(started(keys=None, paired=None, rest=rest(phase)))
    play.said()
    one_round(play.stands(phase, "because"))


@pytest.mark.parametrize("phase", sorted(RESTING - {Phase.LOGGED_OUT}))
def test_linked_device_that_rests_shows_no_code(phase: Phase) -> None:
    play = Playbook().on(started(rest=rest(phase)))
    play.said()
    play.on(StartPairing()).expects_nothing().stands(phase, "because")


def test_logged_out_device_is_linked_anew_with_fresh_keys() -> None:
    play = Playbook().on(started(rest=rest(Phase.LOGGED_OUT))).expects(SettleLoggedOut())
    play.on(StartPairing()).expects(MakeKeys()).stands(Phase.PAIRING)
    fresh = DeviceKeys.generate()
    play.on(KeysMade(fresh)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(PAIR_DEVICE).expects(
        Send(iq.result(PAIR_DEVICE)), ShowQr(pairing.qr_text("ref-1", fresh), 60.0)
    )


def test_message_to_a_device_that_is_not_linked_yet_is_ignored() -> None:
    pairing_play().hears(Node("message", {"id": "M", "from": OWN_PN})).expects_nothing()


def test_receipt_to_a_device_that_is_not_linked_yet_is_acknowledged() -> None:
    got = Node("receipt", {"id": "R", "from": OWN_PN, "type": "delivery"})
    pairing_play().hears(got).expects(Send(receipt.ack(got, OWN_PN)))


# --- removal ---


GONE = (SettleLoggedOut(), ForgetKeys(), Finish())


def test_removal_before_linking_ends_the_device() -> None:
    unlinked_play().on(Remove()).expects(HangUp(), *GONE).stands(Phase.LOGGED_OUT, "removed")


def test_removal_while_a_code_is_shown_takes_it_away() -> None:
    pairing_play().on(Remove()).expects(*HANG_UP, *GONE).stands(Phase.LOGGED_OUT, "removed")


def test_removal_right_after_linking_logs_out_at_the_first_login() -> None:
    play = paired_play().on(Remove()).expects_nothing()
    play.hears(RESTART).expects(HangUp(), Dial(registration=False))
    play.on(Opened()).expects_nothing()
    play.hears(success()).expects(Send(iq.logout("#1", OWN_PN)))


def test_removed_device_shows_no_code() -> None:
    play = Playbook().on(started(leaving=True)).expects(Dial(registration=False))
    play.on(StartPairing()).expects_nothing()


@pytest.mark.parametrize(
    "start",
    [
        started(keys=None, paired=None, leaving=True),
        started(leaving=True, rest=rest(Phase.REPLACED)),
        started(leaving=True, rest=rest(Phase.LOGGED_OUT)),
    ],
    ids=["never linked", "replaced", "logged out"],
)
def test_removed_device_that_cannot_log_out_ends_at_once(start: Started) -> None:
    Playbook().on(start).expects(*GONE).stands(Phase.LOGGED_OUT, "removed")

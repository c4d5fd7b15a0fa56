"""DeviceMachine and the second way to link, and the number that a device belongs to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.commands import (
    AgreeOnCode,
    Dial,
    HangUp,
    HideQr,
    MakeCode,
    MakeKeys,
    SaveIdentity,
    SaveRest,
    Send,
    SettleLoggedOut,
    ShowCode,
    ShowQr,
)
from sitpayd.actors.events import CodeAgreed, CodeMade, KeysMade, LossKind, Lost, Opened
from sitpayd.actors.messages import PairingWish, StartPairing
from sitpayd.actors.pairing import CODE_CONFIRMED_WITHIN_S, MAX_FORCED_ROUNDS, PairingBar
from sitpayd.actors.phase import Phase
from sitpayd.actors.strangers import Barred
from sitpayd.storage.records import Closeness
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, notification, pairing, pairing_code, receipt
from sitpayd.whatsapp.stanzas.pairing_code import Agreed, CompanionFinish, PrimaryHello
from tests.actors.builders import (
    FRIEND_PN,
    KEYS,
    OWN_PN,
    PHONE,
    REFS,
    SERVER_T,
    pairing_play,
    rest,
    some_pair_success,
    started,
)
from tests.support.playbook import CURTAIN_S, Playbook

NUMBER, OTHER_NUMBER = OWN_PN.user, "4915100000000"
BY_CODE = StartPairing(PairingWish(forced=True, phone=NUMBER))
RELINK = StartPairing(PairingWish(forced=True, relink=True))
PAIR_DEVICE = pairing.pair_device("X", REFS)
HANG_UP = (HangUp(), HideQr())

OFFER = pairing_code.offer_of("ABCD1234", KeyPair.generate())
MADE = CodeMade(OFFER, "Chrome (Mac OS)")
REF = b"3@ref"
TYPED = PrimaryHello(REF, OFFER.wrapped, PHONE.public_key)
ADV_SECRET = b"s" * 32
AGREED = Agreed(
    CompanionFinish(b"b" * 156, KEYS.identity.public_key, REF), ADV_SECRET, PHONE.public_key
)
AGREED_KEYS = replace(KEYS, adv_secret=ADV_SECRET)


def hello(query_id: str, number: str = NUMBER) -> Node:
    noise = KEYS.noise.public_key
    return pairing_code.companion_hello(query_id, number, OFFER, noise, MADE.display)


def typed(word: PrimaryHello = TYPED) -> Node:
    return pairing_code.primary_hello("N", word, t=SERVER_T)


def unlinked_play(phone: str | None = None) -> Playbook:
    return Playbook().on(replace(started(keys=None, paired=None), phone=phone)).expects_nothing()


def asked_play() -> Playbook:
    """A device that has asked the server for a code (#1)."""
    play = unlinked_play()
    play.on(BY_CODE).expects(MakeKeys()).stands(Phase.PAIRING)
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    first = ShowQr(pairing.qr_text(REFS[0], KEYS), 60.0)
    play.hears(PAIR_DEVICE).expects(Send(iq.result(PAIR_DEVICE)), first, MakeCode())
    return play.on(MADE).expects(Send(hello("#1")))


def code_play() -> Playbook:
    """A device that shows a code."""
    play = asked_play().later(1.0)
    return play.hears(pairing_code.ref_answer(hello("#1"), REF)).expects(
        ShowCode("ABCD-1234", NUMBER, 159.0)
    )


def answered_play() -> Playbook:
    """A device whose code was typed, and that has answered (#2)."""
    play = code_play().hears(typed())
    play.expects(Send(receipt.ack(typed(), SERVER_JID)), AgreeOnCode(OFFER, TYPED))
    finish = pairing_code.companion_finish("#2", NUMBER, AGREED.finish)
    return play.on(CodeAgreed(AGREED)).expects(HideQr(), Send(finish))


# --- the pairing code ---


def test_device_is_linked_by_the_code_that_a_person_types() -> None:
    play = answered_play().hears(iq.result(Node("iq", {"id": "#2"}))).expects_nothing()
    hide, save, confirm = play.hears(some_pair_success(AGREED_KEYS)).said()
    assert hide == HideQr()
    assert isinstance(save, SaveIdentity)
    assert save.paired.jid == OWN_PN
    assert isinstance(confirm, Send)
    play.stands(Phase.PAIRED)


def test_scan_of_a_qr_code_from_before_the_code_was_typed_is_refused() -> None:
    """T-19: a code of an older secret links nothing."""
    scanned = some_pair_success(KEYS)
    play = answered_play().hears(scanned)
    play.expects(Send(iq.error(scanned, 401, "hmac-mismatch")), *HANG_UP)
    play.stands(Phase.UNPAIRED, "pairing_refused")


def test_signature_of_another_phone_than_the_one_that_typed_is_refused() -> None:
    stranger = replace(TYPED, identity=KeyPair.generate().public_key)
    play = code_play().hears(typed(stranger))
    play.said()
    play.on(CodeAgreed(AGREED)).said()
    success = some_pair_success(AGREED_KEYS)
    play.hears(success).expects(Send(iq.error(success, 401, "signature-mismatch")), *HANG_UP)


def test_scan_while_a_code_is_shown_links_as_well() -> None:
    code_play().hears(some_pair_success()).said()


def test_mistyped_code_ends_the_round_after_half_a_minute() -> None:
    play = answered_play().hears(iq.result(Node("iq", {"id": "#2"}))).expects_nothing()
    assert play.waits_s == CODE_CONFIRMED_WITHIN_S
    play.tick().expects(*HANG_UP).stands(Phase.UNPAIRED, "code_unconfirmed")


def test_unusable_keys_of_the_phone_end_the_round() -> None:
    play = code_play().hears(typed())
    play.said()
    play.on(CodeAgreed(None)).expects(*HANG_UP).stands(Phase.UNPAIRED, "pairing_refused")


def test_code_typed_twice_is_answered_once() -> None:
    answered_play().hears(typed()).expects(Send(receipt.ack(typed(), SERVER_JID)))


def test_word_about_an_unknown_code_is_only_acknowledged() -> None:
    unknown = typed(replace(TYPED, ref=b"unknown"))
    code_play().hears(unknown).expects(Send(receipt.ack(unknown, SERVER_JID)))


def test_word_that_cannot_be_read_is_only_acknowledged() -> None:
    short = typed(replace(TYPED, wrapped=b"short"))
    code_play().hears(short).expects(Send(receipt.ack(short, SERVER_JID)))


def test_server_that_gives_no_code_ends_the_round() -> None:
    play = asked_play().hears(iq.error(hello("#1"), 400, "bad-request"))
    play.expects(*HANG_UP).stands(Phase.UNPAIRED, "code_refused")


def test_answer_without_a_ref_ends_the_round() -> None:
    play = asked_play().hears(iq.result(hello("#1")))
    play.expects(*HANG_UP).stands(Phase.UNPAIRED, "code_refused")


def test_server_that_does_not_answer_ends_the_round() -> None:
    play = asked_play()
    play.tick().said()
    play.stands(Phase.UNPAIRED, "code_refused")


def test_too_many_codes_are_told_with_their_end() -> None:
    play = asked_play().hears(iq.error(hello("#1"), 429, "rate-overlimit"))
    play.expects(*HANG_UP).stands(Phase.UNPAIRED, "code_rate_limited")
    assert play.machine.until_s == 300


def test_passkey_after_a_code_needs_a_person() -> None:
    request = notification.notification("N", notification.PasskeyRequested(), t=SERVER_T)
    play = answered_play().hears(request)
    play.said()
    play.stands(Phase.ACTION_REQUIRED, "passkey")


def test_refusal_that_comes_after_the_link_changes_nothing() -> None:
    play = asked_play().hears(some_pair_success())
    play.said()
    play.hears(iq.error(hello("#1"), 400, "bad-request")).expects_nothing().stands(Phase.PAIRED)


def test_ref_that_comes_after_the_link_shows_no_code() -> None:
    play = asked_play().hears(some_pair_success())
    play.said()
    play.hears(pairing_code.ref_answer(hello("#1"), REF)).expects_nothing()


def test_agreement_that_comes_after_the_connection_is_dropped() -> None:
    play = code_play().on(Lost(LossKind.NETWORK, "")).expects(HideQr())
    play.on(CodeAgreed(AGREED)).expects_nothing()


def test_wish_for_a_code_joins_the_qr_codes_on_show() -> None:
    pairing_play().on(BY_CODE).expects(MakeCode()).stands(Phase.PAIRING)


def test_code_for_another_number_begins_a_round_of_its_own() -> None:
    play = code_play()
    other = StartPairing(PairingWish(forced=True, phone=OTHER_NUMBER))
    play.on(other).expects(*HANG_UP, MakeKeys()).stands(Phase.PAIRING)
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(PAIR_DEVICE).said()
    play.on(MADE).expects(Send(hello("#2", OTHER_NUMBER)))


# --- rounds ---


def test_explicit_rounds_have_a_bound_of_their_own() -> None:
    play = unlinked_play()
    forced = StartPairing(PairingWish(forced=True))
    for _ in range(MAX_FORCED_ROUNDS):
        play.on(forced).expects(MakeKeys())
        play.on(KeysMade(KEYS)).expects(Dial(registration=True))
        play.hears(PAIR_DEVICE).said()
        play.on(Lost(LossKind.NETWORK, "")).expects(HideQr())
    play.on(forced).expects_nothing().stands(Phase.UNPAIRED, "network")
    assert play.machine.pairing_bar(forced.wish, play.now) == PairingBar("too_many_rounds", 3600.0)


def test_linked_device_bars_every_wish() -> None:
    play = Playbook().on(started()).expects(Dial(registration=False))
    assert play.machine.pairing_bar(PairingWish(), play.now) == PairingBar("linked")


def test_round_under_way_bars_no_poll() -> None:
    play = pairing_play()
    assert play.machine.pairing_bar(PairingWish(), play.now) is None


# --- T-18 ---


def test_other_number_than_the_first_is_refused_and_nothing_is_stored() -> None:
    """T-18: whoever is talked into scanning our code does not get the device."""
    play = unlinked_play(OTHER_NUMBER)
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.hears(PAIR_DEVICE).said()
    success = some_pair_success()
    play.hears(success).expects(
        Send(iq.error(success, 500, "internal-error")),
        *HANG_UP,
        SaveRest(Phase.ACTION_REQUIRED, "other_number"),
    )
    play.stands(Phase.ACTION_REQUIRED, "other_number")


@pytest.mark.parametrize("phone", [NUMBER, None], ids=["the same", "never linked"])
def test_first_number_is_linked(phone: str | None) -> None:
    """T-18: the same number comes back as often as it likes."""
    play = unlinked_play(phone)
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.hears(PAIR_DEVICE).said()
    play.hears(some_pair_success()).said()
    play.stands(Phase.PAIRED)


def test_other_number_is_linked_where_that_is_wished() -> None:
    """T-18: the explicit flag."""
    play = unlinked_play(OTHER_NUMBER)
    play.on(RELINK).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.hears(PAIR_DEVICE).said()
    play.hears(some_pair_success()).said()
    play.stands(Phase.PAIRED)


@pytest.mark.parametrize("before", [NUMBER, OTHER_NUMBER], ids=["the same", "another"])
def test_hold_of_new_chats_ends_with_the_account_it_held(before: str) -> None:
    hold = Barred(CURTAIN_S + 3600.0, "reachout_locked")
    unlinked = replace(started(keys=None, paired=None), phone=before, new_chats=hold)
    play = Playbook().on(unlinked).expects_nothing()
    play.on(RELINK).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.hears(PAIR_DEVICE).said()
    play.hears(some_pair_success()).said()
    outlook = play.machine.outlook(FRIEND_PN.user, Closeness.STRANGER, play.now)
    assert outlook == (hold if before == NUMBER else None)


def test_wish_to_relink_holds_for_its_round_alone() -> None:
    """T-18: the flag of a round that came to nothing does not open the next one."""
    play = unlinked_play(OTHER_NUMBER)
    for wish in (RELINK, StartPairing()):
        play.on(wish).expects(MakeKeys())
        play.on(KeysMade(KEYS)).expects(Dial(registration=True))
        play.hears(PAIR_DEVICE).said()
        if wish is RELINK:
            play.on(Lost(LossKind.NETWORK, "")).expects(HideQr())
    play.hears(some_pair_success()).said()
    play.stands(Phase.ACTION_REQUIRED, "other_number")


def test_logged_out_device_still_belongs_to_its_number() -> None:
    """T-18: a logout does not forget whose device it was."""
    before = replace(started(rest=rest(Phase.LOGGED_OUT)), phone=OTHER_NUMBER)
    play = Playbook().on(before).expects(SettleLoggedOut())
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.hears(PAIR_DEVICE).said()
    play.hears(some_pair_success()).said()
    play.stands(Phase.ACTION_REQUIRED, "other_number")


def test_device_refused_for_its_number_may_try_again() -> None:
    play = unlinked_play(OTHER_NUMBER)
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.hears(PAIR_DEVICE).said()
    play.hears(some_pair_success()).said()
    play.on(RELINK).expects(MakeKeys()).stands(Phase.PAIRING)

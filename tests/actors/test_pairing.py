from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.commands import (
    AgreeOnCode,
    HideQr,
    MakeCode,
    Send,
    ShowCode,
    ShowQr,
)
from sitpayd.actors.events import CodeMade
from sitpayd.actors.messages import PairingWish
from sitpayd.actors.pairing import (
    CODE_CONFIRMED_WITHIN_S,
    MAX_FORCED_ROUNDS,
    MAX_ROUNDS,
    ROUNDS_WINDOW_S,
    CodeErrand,
    PairingBar,
    PairingMachine,
)
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.errors import PairingError, RemoteProtocolError
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.stanzas import pairing_code
from sitpayd.whatsapp.stanzas.pairing import qr_text
from sitpayd.whatsapp.stanzas.pairing_code import Agreed, CompanionFinish, PrimaryHello
from tests.actors.builders import KEYS, OWN_PN, PAIRED, PHONE, REFS

NUMBER = OWN_PN.user
POLLED, FORCED = PairingWish(), PairingWish(forced=True)
BY_CODE = PairingWish(forced=True, phone=NUMBER)
OFFER = pairing_code.offer_of("ABCD1234", KeyPair.generate())
MADE = CodeMade(OFFER, "Chrome (Mac OS)")
REF = b"3@ref"
HELLO = PrimaryHello(REF, OFFER.wrapped, PHONE.public_key)
AGREED = Agreed(
    CompanionFinish(b"b" * 156, KEYS.identity.public_key, REF), b"s" * 32, PHONE.public_key
)


def a_machine() -> PairingMachine:
    return PairingMachine(Queries())


def shown(ref: str, seconds: float) -> list[ShowQr]:
    return [ShowQr(qr_text(ref, KEYS), seconds)]


def begun(wish: PairingWish = POLLED, now: float = 100.0) -> PairingMachine:
    """A machine whose round has its refs."""
    pairing = a_machine()
    pairing.begin(wish)
    pairing.refs(REFS, KEYS, now)
    return pairing


def asked(pairing: PairingMachine, now: float = 101.0) -> str:
    """Let the code that was made be asked for; the id of the question."""
    (question,) = pairing.made(MADE, KEYS, now)
    assert isinstance(question, Send)
    return question.node.required_text("id")


def on_show(now: float = 101.0) -> PairingMachine:
    """A machine whose code is on show."""
    pairing = begun(BY_CODE)
    hello = pairing_code.companion_hello(
        asked(pairing, now), NUMBER, OFFER, bytes(32), MADE.display
    )
    answer = pairing_code.ref_answer(hello, REF)
    assert pairing.answered(CodeErrand.HELLO, answer, now) == [
        ShowCode("ABCD-1234", NUMBER, 260.0 - now)
    ]
    return pairing


# --- QR codes ---


def test_first_of_six_refs_is_shown_for_a_minute() -> None:
    pairing = a_machine()
    assert pairing.refs(REFS, KEYS, 100.0) == shown("ref-1", 60.0)
    assert pairing.deadline() == 160.0
    assert not pairing.over


def test_first_of_fewer_refs_is_shown_for_twenty_seconds() -> None:
    assert a_machine().refs(REFS[:5], KEYS, 100.0) == shown("ref-1", 20.0)


def test_code_is_not_changed_before_its_time() -> None:
    pairing = begun()
    assert pairing.tick(159.9) == []
    assert pairing.tick(160.0) == shown("ref-2", 20.0)


def test_nothing_is_shown_when_the_refs_are_used_up() -> None:
    pairing = a_machine()
    pairing.refs(["only"], KEYS, 100.0)
    assert pairing.tick(120.0) == []
    assert (pairing.over, pairing.lapsed) == (True, "qr_expired")
    assert pairing.deadline() is None
    assert pairing.tick(140.0) == []


def test_ended_round_shows_nothing_more() -> None:
    pairing = begun()
    pairing.end()
    assert pairing.over
    assert pairing.tick(1000.0) == []


# --- how many rounds ---


@pytest.mark.parametrize(
    ("wish", "most", "reason"),
    [(POLLED, MAX_ROUNDS, "qr_limit"), (FORCED, MAX_FORCED_ROUNDS, "too_many_rounds")],
    ids=["polled", "forced"],
)
def test_so_many_rounds_may_begin_within_an_hour(wish: PairingWish, most: int, reason: str) -> None:
    pairing = a_machine()
    for minute in range(most):
        assert pairing.bar(wish, 60.0 * minute) is None
        pairing.begin(wish)
        pairing.refs(REFS, KEYS, 60.0 * minute)
        pairing.end()
    assert pairing.bar(wish, ROUNDS_WINDOW_S - 1.0) == PairingBar(reason, 1.0)
    assert pairing.bar(wish, ROUNDS_WINDOW_S) is None


def test_polling_that_is_used_up_leaves_explicit_wishes_alone() -> None:
    pairing = a_machine()
    for _ in range(MAX_ROUNDS):
        pairing.begin(POLLED)
        pairing.refs(REFS, KEYS, 0.0)
        pairing.end()
    assert pairing.bar(POLLED, 1.0) is not None
    assert pairing.bar(FORCED, 1.0) is None


def test_second_list_of_refs_is_the_same_round() -> None:
    pairing = begun()
    for _ in range(MAX_ROUNDS):
        pairing.refs(REFS, KEYS, 100.0)
    pairing.end()
    assert pairing.bar(POLLED, 100.0) is None


# --- the pairing code ---


def test_code_is_made_when_the_refs_have_come() -> None:
    pairing = a_machine()
    pairing.begin(BY_CODE)
    assert pairing.refs(REFS, KEYS, 100.0) == [*shown("ref-1", 60.0), MakeCode()]


def test_code_is_asked_for_with_our_noise_key() -> None:
    pairing = begun(BY_CODE)
    (question,) = pairing.made(MADE, KEYS, 101.0)
    assert isinstance(question, Send)
    hello = pairing_code.parse_companion(question.node)
    assert isinstance(hello, pairing_code.CompanionHello)
    assert (hello.phone.user, hello.noise) == (NUMBER, KEYS.noise.public_key)
    assert hello.display == MADE.display


def test_code_is_on_show_until_the_round_ends() -> None:
    on_show(now=150.0)


def test_answer_without_a_ref_shows_no_code() -> None:
    pairing = begun(BY_CODE)
    hello = pairing_code.companion_hello(asked(pairing), NUMBER, OFFER, bytes(32), MADE.display)
    with pytest.raises(RemoteProtocolError):
        pairing.answered(CodeErrand.HELLO, pairing_code.ref_answer(hello, b""), 102.0)


def test_code_that_was_made_too_late_is_dropped() -> None:
    pairing = begun(BY_CODE)
    pairing.end()
    assert pairing.made(MADE, KEYS, 101.0) == []


def test_wish_for_a_code_joins_the_round_under_way() -> None:
    pairing = begun()
    assert not pairing.needs_its_own(BY_CODE, 199.0)
    assert pairing.join(BY_CODE) == [MakeCode()]


def test_wish_for_a_code_before_the_refs_waits_for_them() -> None:
    pairing = a_machine()
    pairing.begin(POLLED)
    assert pairing.join(BY_CODE) == []
    assert MakeCode() in pairing.refs(REFS, KEYS, 100.0)


def test_code_in_the_last_minute_of_a_round_needs_a_round_of_its_own() -> None:
    assert begun().needs_its_own(BY_CODE, 201.0)


def test_code_for_another_number_needs_a_round_of_its_own() -> None:
    assert on_show().needs_its_own(replace(BY_CODE, phone="4915100000000"), 102.0)


def test_second_wish_for_the_same_code_changes_nothing() -> None:
    pairing = on_show()
    assert not pairing.needs_its_own(BY_CODE, 250.0)
    assert pairing.join(BY_CODE) == []


def test_typed_code_is_answered_and_the_qr_codes_are_void() -> None:
    pairing = on_show()
    assert pairing.typed(HELLO) == [AgreeOnCode(OFFER, HELLO)]
    hide, question = pairing.agreed(AGREED, 120.0)
    assert hide == HideQr()
    assert isinstance(question, Send)
    assert pairing_code.parse_companion(question.node) == AGREED.finish
    assert pairing.deadline() == 120.0 + CODE_CONFIRMED_WITHIN_S


def test_code_that_no_signature_follows_ends_the_round() -> None:
    pairing = on_show()
    pairing.typed(HELLO)
    pairing.agreed(AGREED, 120.0)
    assert pairing.tick(120.0 + CODE_CONFIRMED_WITHIN_S) == []
    assert (pairing.over, pairing.lapsed) == (True, "code_unconfirmed")


def test_code_typed_at_the_very_end_does_not_outlive_the_round() -> None:
    pairing = on_show()
    for moment in (160.0, 180.0, 200.0, 220.0, 240.0):
        pairing.tick(moment)
    pairing.typed(HELLO)
    pairing.agreed(AGREED, 255.0)
    assert pairing.deadline() == 260.0


@pytest.mark.parametrize("repeats", [1, 2])
def test_repeated_word_of_the_phone_is_answered_once(repeats: int) -> None:
    pairing = on_show()
    pairing.typed(HELLO)
    for _ in range(repeats):
        assert pairing.typed(HELLO) == []


def test_word_of_a_phone_about_an_older_code_is_ignored() -> None:
    assert on_show().typed(replace(HELLO, ref=b"older")) == []


def test_word_of_a_phone_before_the_ref_is_known_is_ignored() -> None:
    pairing = begun(BY_CODE)
    asked(pairing)
    assert pairing.typed(HELLO) == []


def test_word_of_a_phone_without_a_code_is_ignored() -> None:
    assert begun().typed(HELLO) == []


def test_agreement_that_comes_after_the_round_is_dropped() -> None:
    pairing = on_show()
    pairing.end()
    assert pairing.agreed(AGREED, 120.0) == []


def test_servers_word_about_our_answer_changes_nothing() -> None:
    pairing = on_show()
    node = pairing_code.companion_finish("1", NUMBER, AGREED.finish)
    assert pairing.answered(CodeErrand.FINISH, node, 120.0) == []


# --- who is linked ---


def test_signature_of_another_phone_than_the_typing_one_is_refused() -> None:
    pairing = on_show()
    pairing.typed(replace(HELLO, identity=KeyPair.generate().public_key))
    with pytest.raises(PairingError, match="signature"):
        pairing.check(PAIRED)


def test_signature_of_the_typing_phone_is_taken() -> None:
    pairing = on_show()
    pairing.typed(HELLO)
    pairing.check(PAIRED)


def test_scan_beside_a_code_that_nobody_typed_is_taken() -> None:
    on_show().check(PAIRED)


@pytest.mark.parametrize(
    ("first", "relink", "may"),
    [(None, False, True), (NUMBER, False, True), ("49151", False, False), ("49151", True, True)],
    ids=["never linked", "the same", "another", "another, as wished"],
)
def test_device_belongs_to_its_first_number(first: str | None, relink: bool, may: bool) -> None:
    pairing = a_machine()
    pairing.first_number = first
    pairing.begin(PairingWish(relink=relink))
    assert pairing.may_link(NUMBER) is may


def test_wish_to_relink_holds_for_a_round_that_began_without_it() -> None:
    pairing = begun()
    pairing.first_number = "49151"
    pairing.join(PairingWish(forced=True, relink=True))
    assert pairing.may_link(NUMBER)


def test_wish_to_relink_ends_with_its_round() -> None:
    pairing = begun(PairingWish(forced=True, relink=True))
    pairing.first_number = "49151"
    pairing.end()
    pairing.begin(POLLED)
    assert not pairing.may_link(NUMBER)


def test_number_of_a_wish_does_not_show_where_it_is_printed() -> None:
    assert NUMBER not in repr(BY_CODE)

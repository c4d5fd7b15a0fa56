from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID, Jid, lid, pn
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.pairing_code import (
    ALPHABET,
    Agreed,
    CodeOffer,
    CompanionFinish,
    CompanionHello,
    Draw,
    PrimaryHello,
    agree,
    answer_hello,
    code_of,
    companion_finish,
    companion_hello,
    display_name,
    is_pairing_code,
    new_offer,
    offer_of,
    open_finish,
    parse_code,
    parse_companion,
    parse_primary_hello,
    parse_ref,
    primary_hello,
    ref_answer,
)

from .wire import OWN_PN, sent, vector

VECTOR = vector("pairing_code")
CROCKFORD = vector("crockford")["cases"]
PHONE = "4915112345678"
REF = b"3@ref"
COMPANION, PRIMARY = KeyPair.generate(), KeyPair.generate()
NOISE = KeyPair.generate().public_key


def recorded(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


def drawn(*values: bytes) -> Draw:
    """A source of randomness that gives these, in this order."""
    left = list(values)

    def draw(length: int) -> bytes:
        value = left.pop(0)
        assert len(value) == length
        return value

    return draw


def recorded_offer() -> CodeOffer:
    ephemeral = KeyPair.from_private(recorded("companion_eph_priv"))
    return offer_of(VECTOR["code"], ephemeral, drawn(recorded("salt"), recorded("iv")))


def recorded_hello() -> PrimaryHello:
    identity = KeyPair.from_private(recorded("primary_identity_priv")).public_key
    return PrimaryHello(REF, recorded("wrapped_primary_ephemeral_pub"), identity)


def recorded_agreement() -> Agreed:
    randomness = drawn(recorded("adv_random"), recorded("bundle_salt"), recorded("bundle_nonce"))
    identity = KeyPair.from_private(recorded("companion_identity_priv"))
    return agree(recorded_offer(), recorded_hello(), identity, randomness)


# --- the recorded exchange ---


@pytest.mark.parametrize("case", CROCKFORD, ids=lambda case: case["code"])
def test_code_is_written_as_recorded(case: dict[str, str]) -> None:
    assert code_of(bytes.fromhex(case["bytes"])) == case["code"]


def test_companions_key_is_wrapped_as_recorded() -> None:
    assert recorded_offer().wrapped == recorded("wrapped_companion_ephemeral_pub")


def test_bundle_is_the_recorded_one() -> None:
    assert recorded_agreement().finish.bundle == recorded("wrapped_key_bundle")


def test_companion_derives_the_recorded_secret() -> None:
    assert recorded_agreement().adv_secret == recorded("adv_secret")


def test_phone_wraps_its_key_as_recorded_and_reads_the_companions() -> None:
    wrapped = recorded("wrapped_primary_ephemeral_pub")
    ephemeral = KeyPair.from_private(recorded("primary_eph_priv"))
    companion, hello = answer_hello(
        VECTOR["code"],
        recorded("wrapped_companion_ephemeral_pub"),
        REF,
        ephemeral,
        recorded_hello().identity,
        drawn(wrapped[:32], wrapped[32:48]),
    )
    assert companion == recorded("companion_eph_pub")
    assert hello == recorded_hello()


def test_phone_derives_the_recorded_secret() -> None:
    secret = open_finish(
        recorded_agreement().finish,
        recorded("companion_eph_pub"),
        KeyPair.from_private(recorded("primary_eph_priv")),
        KeyPair.from_private(recorded("primary_identity_priv")),
    )
    assert secret == recorded("adv_secret")


# --- both sides of our own making ---


def meet(typed: str | None = None) -> tuple[Agreed, Callable[[CompanionFinish], bytes]]:
    """A companion that has answered, and a phone that opens answers."""
    offer, ephemeral = new_offer(), KeyPair.generate()
    code = offer.code if typed is None else typed
    companion, hello = answer_hello(code, offer.wrapped, REF, ephemeral, PRIMARY.public_key)
    agreed = agree(offer, hello, COMPANION)
    return agreed, lambda finish: open_finish(finish, companion, ephemeral, PRIMARY)


def test_both_sides_agree_on_a_secret() -> None:
    agreed, opened = meet()
    assert opened(agreed.finish) == agreed.adv_secret
    assert agreed.primary == PRIMARY.public_key


def test_phone_with_a_mistyped_code_cannot_open_the_answer() -> None:
    agreed, opened = meet("11111111")
    with pytest.raises(RemoteProtocolError):
        opened(agreed.finish)


def test_phone_refuses_another_identity_than_the_sealed_one() -> None:
    agreed, opened = meet()
    with pytest.raises(RemoteProtocolError, match="between"):
        opened(replace(agreed.finish, identity=PRIMARY.public_key))


def test_phone_refuses_a_companion_that_saw_another_phone() -> None:
    offer, ephemeral = new_offer(), KeyPair.generate()
    stranger = KeyPair.generate().public_key
    companion, hello = answer_hello(offer.code, offer.wrapped, REF, ephemeral, stranger)
    agreed = agree(offer, hello, COMPANION)
    with pytest.raises(RemoteProtocolError, match="between"):
        open_finish(agreed.finish, companion, ephemeral, PRIMARY)


def test_unusable_key_of_a_phone_is_refused() -> None:
    offer = new_offer()
    with pytest.raises(RemoteProtocolError):
        agree(offer, PrimaryHello(REF, offer.wrapped, bytes(32)), COMPANION)


def test_no_two_offers_share_code_key_or_salt() -> None:
    first, second = new_offer(), new_offer()
    assert first.code != second.code
    assert first.ephemeral != second.ephemeral
    assert first.wrapped[:48] != second.wrapped[:48]


# --- the code for people ---


@given(st.binary(min_size=5, max_size=5))
def test_every_code_is_read_as_it_is_shown(data: bytes) -> None:
    code = code_of(data)
    shown = CodeOffer(code, COMPANION, b"").shown
    assert set(code) <= set(ALPHABET)
    assert (parse_code(shown), parse_code(shown.lower())) == (code, code)


@pytest.mark.parametrize("text", ["", "ABCD-EFG", "ABCD-EFGH1", "ABCD-EFG0", "ABCD-EFGI"])
def test_other_texts_are_no_code(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_code(text)


def test_code_does_not_show_where_an_offer_is_printed() -> None:
    offer = new_offer()
    assert offer.code not in repr(offer)


def test_secret_does_not_show_where_an_agreement_is_printed() -> None:
    agreed = recorded_agreement()
    assert repr(agreed.adv_secret) not in repr(agreed)


# --- stanzas ---


def a_hello() -> Node:
    return companion_hello("1", PHONE, recorded_offer(), NOISE, display_name("Mac OS"))


def test_hello_crosses_the_wire() -> None:
    node = sent(a_hello())
    assert is_pairing_code(node)
    assert parse_companion(node) == CompanionHello(
        pn(PHONE), recorded_offer().wrapped, NOISE, "Chrome (Mac OS)"
    )
    assert node.required("link_code_companion_reg").text("should_show_push_notification") == "true"


def test_contents_of_a_hello_are_bytes_on_the_wire() -> None:
    children = sent(a_hello()).required("link_code_companion_reg").children
    assert [child.content for child in children[2:]] == [b"1", b"Chrome (Mac OS)", b"\0"]


def test_ref_crosses_the_wire() -> None:
    assert parse_ref(sent(ref_answer(a_hello(), REF))) == REF


def test_answer_without_a_ref_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_ref(ref_answer(a_hello(), b""))


def test_phones_word_crosses_the_wire() -> None:
    hello = recorded_hello()
    assert parse_primary_hello(sent(primary_hello("1", hello, t=7))) == hello


def test_bytes_behind_a_wrapped_key_are_ignored() -> None:
    longer = replace(recorded_hello(), wrapped=recorded_hello().wrapped + b"more")
    assert parse_primary_hello(primary_hello("1", longer, t=7)) == recorded_hello()


def test_shortened_wrapped_key_is_refused() -> None:
    shorter = replace(recorded_hello(), wrapped=recorded_hello().wrapped[:79])
    with pytest.raises(RemoteProtocolError):
        parse_primary_hello(primary_hello("1", shorter, t=7))


def test_phones_word_from_a_person_is_refused() -> None:
    node = primary_hello("1", recorded_hello(), t=7)
    forged = replace(node, attrs={**node.attrs, "from": OWN_PN})
    with pytest.raises(RemoteProtocolError):
        parse_primary_hello(forged)
    assert node.jid("from") == SERVER_JID


def test_finish_crosses_the_wire() -> None:
    finish = recorded_agreement().finish
    assert parse_companion(sent(companion_finish("1", PHONE, finish))) == finish


@pytest.mark.parametrize("phone", [lid("123"), pn(PHONE, 3), pn("")])
def test_code_for_no_phone_number_is_refused(phone: Jid) -> None:
    node = a_hello()
    element = node.required("link_code_companion_reg")
    changed = replace(element, attrs={**element.attrs, "jid": phone})
    with pytest.raises(RemoteProtocolError):
        parse_companion(replace(node, content=(changed,)))


def test_unknown_stage_is_refused() -> None:
    element = Node("link_code_companion_reg", {"jid": pn(PHONE), "stage": "companion_cheers"})
    with pytest.raises(RemoteProtocolError, match="stage"):
        parse_companion(Node("iq", {}, (element,)))

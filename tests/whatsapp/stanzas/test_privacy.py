from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import GROUP_SERVER, Jid, lid, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, privacy
from sitpayd.whatsapp.stanzas.message import Participant, outgoing, parse_outgoing
from sitpayd.whatsapp.stanzas.privacy import (
    BUCKET_S,
    GivenToken,
    Proof,
    bucket_start,
    cstoken,
    ends,
    give,
    give_answer,
    parse_give,
    parse_give_answer,
    takes_tokens,
)

from .wire import PEER_LID, sent, vector

T = 1_760_000_000


def test_cstoken_reproduces_the_vector() -> None:
    case = vector("cstoken")
    token = cstoken(bytes.fromhex(case["salt"]), Jid.parse(case["recipient_lid"]))
    assert token.hex() == case["token"]


# --- time ---


@given(st.integers(1, 2**33), st.integers(0, 2**33))
def test_token_ends_as_the_rule_says(t: int, now: int) -> None:
    """Source: whatsmeow tctoken.go; expired if t < (now // D - 3) * D."""
    expired = t < (now // BUCKET_S - 3) * BUCKET_S
    assert (now >= ends(t)) == expired


@given(st.integers(0, 2**33), st.integers(0, 2**33))
def test_token_is_owed_in_each_week_once(given_t: int, now: int) -> None:
    assert (given_t < bucket_start(now)) == (now // BUCKET_S > given_t // BUCKET_S)


# --- who ---


@pytest.mark.parametrize(
    ("user", "takes"),
    [
        (PEER_LID, True),
        (pn("4915112345678"), True),
        (pn("0"), False),
        (pn("13135550002"), False),
        (pn("13165550042"), False),
        (pn("1316555004"), True),
        (Jid("120363000000000000", GROUP_SERVER), False),
        (Jid("867051314767696", "bot"), False),
        (Jid("", "s.whatsapp.net"), False),
    ],
    ids=str,
)
def test_people_take_tokens_and_machines_do_not(user: Jid, takes: bool) -> None:
    assert takes_tokens(user) is takes


# --- stanzas ---


def test_our_token_is_given_to_the_person_without_device() -> None:
    node = sent(give("5", PEER_LID.with_device(3), T))
    token = node.required("tokens").required("token")
    assert (node.text("type"), node.text("xmlns")) == ("set", "privacy")
    assert token.attrs == {"jid": PEER_LID.bare, "t": str(T), "type": "trusted_contact"}
    assert parse_give(node) == ((PEER_LID.bare, T),)


def test_answer_may_hold_the_token_of_the_person() -> None:
    asked = give("5", PEER_LID, T)
    token = GivenToken(b"token", T - 9)
    assert parse_give_answer(sent(give_answer(asked, {PEER_LID: token}))) == (token,)
    assert parse_give_answer(sent(give_answer(asked, {}))) == ()


def test_answer_of_another_kind_holds_no_token() -> None:
    other = Node("token", {"type": "other", "t": "5"}, b"token")
    empty = Node("token", {"type": "trusted_contact", "t": "5"})
    answer = iq.result(give("5", PEER_LID, T), Node("tokens", {}, (other, empty)))
    assert parse_give_answer(answer) == ()


@pytest.mark.parametrize(
    "token",
    [
        Node("token", {"type": "trusted_contact", "jid": PEER_LID}, b"x"),
        Node("token", {"type": "trusted_contact", "jid": PEER_LID, "t": "soon"}, b"x"),
    ],
    ids=["no time", "no number"],
)
def test_token_without_time_is_refused(token: Node) -> None:
    node = iq.set_("privacy", Node("tokens", {}, (token,)), id="5")
    for parse in (parse_give, parse_give_answer):
        with pytest.raises(RemoteProtocolError):
            parse(node)


def test_request_that_gives_nothing_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_give(iq.set_("privacy", id="5"))


@pytest.mark.parametrize("kind", privacy.PROOF_KINDS)
def test_proof_stands_in_the_message(kind: privacy.ProofKind) -> None:
    proof = Proof(kind, b"proof")
    node = sent(outgoing("3EB0", PEER_LID, [Participant(PEER_LID, "msg", b"x")], proof=proof))
    assert node.children[-1] == Node(kind, {}, b"proof")
    assert parse_outgoing(node).proof == proof


def test_message_without_proof_has_none() -> None:
    node = sent(outgoing("3EB0", PEER_LID, [Participant(PEER_LID, "msg", b"x")]))
    assert parse_outgoing(node).proof is None


@pytest.mark.parametrize("value", [Proof("tctoken", b"secret"), GivenToken(b"secret", T)])
def test_tokens_do_not_show(value: object) -> None:
    assert "secret" not in repr(value)


def test_lid_is_not_a_number() -> None:
    assert cstoken(b"salt", lid("123")) != cstoken(b"salt", pn("123"))

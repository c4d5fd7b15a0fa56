from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.actors.receiving import (
    MAX_RETRIES_A_MINUTE,
    MAX_RETRY_COUNT,
    Opening,
    Repeated,
    RetryBudget,
    RetryPlan,
    Unreadable,
    admitted,
    digest_of,
    needed_prekey,
    open_pairwise,
    retry_plan,
)
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema.whatsapp_pb2 import SignalMessage
from sitpayd.whatsapp.signal.session import Encrypted, PreKeyBundle
from sitpayd.whatsapp.stanzas.content import Content, pad, text_message
from sitpayd.whatsapp.stanzas.message import PADDED_VERSION, Enc, parse_incoming
from tests.actors.builders import FRIEND_LID, FRIEND_PN, KEYS, OWN_LID, OWN_PN
from tests.whatsapp.signal.parties import Party

PREKEY = KeyPair.generate()
SIGNED = KEYS.signed_prekey
BUNDLE = PreKeyBundle(
    registration_id=KEYS.registration_id,
    identity=KEYS.identity.public_key,
    signed_prekey_id=SIGNED.key_id,
    signed_prekey=SIGNED.key_pair.public_key,
    signature=SIGNED.signature,
    prekey_id=41,
    prekey=PREKEY.public_key,
)
HELLO = pad(text_message("Hello!"))


def enc_of(encrypted: Encrypted, version: int = PADDED_VERSION) -> Enc:
    return Enc(encrypted.kind, version, encrypted.body)


def a_friend(bundle: PreKeyBundle = BUNDLE) -> Party:
    """Somebody who has fetched our keys."""
    friend = Party(1)
    friend.begin(bundle)
    return friend


def opened(what: Opening | Repeated | Unreadable) -> Opening:
    assert isinstance(what, Opening)
    return what


def acquainted() -> tuple[Party, Opening]:
    """A friend and our session with them, after their first message."""
    friend = a_friend()
    return friend, opened(open_pairwise(enc_of(friend.send(HELLO)), None, KEYS, PREKEY))


def test_first_message_is_opened_and_spends_its_prekey() -> None:
    friend = a_friend()
    enc = enc_of(friend.send(HELLO))
    assert needed_prekey(enc, None) == 41
    opening = opened(open_pairwise(enc, None, KEYS, PREKEY))
    assert opening.content == Content("text", "Hello!")
    assert opening.spent_prekey_id == 41
    assert opening.record.remote_identity == friend.identity.public_key


def test_second_message_of_a_beginning_spends_nothing() -> None:
    friend, first = acquainted()
    enc = enc_of(friend.send(HELLO))
    assert enc.kind == "pkmsg"
    assert needed_prekey(enc, first.record) is None
    assert opened(open_pairwise(enc, first.record, KEYS, None)).spent_prekey_id is None


def test_message_for_a_bundle_without_prekey_spends_none() -> None:
    friend = a_friend(replace(BUNDLE, prekey_id=None, prekey=None))
    opening = opened(open_pairwise(enc_of(friend.send(HELLO)), None, KEYS, None))
    assert opening.spent_prekey_id is None


def test_answer_within_a_session_is_opened() -> None:
    friend, first = acquainted()
    us = Party(KEYS.registration_id, KEYS.identity)
    us.saved = first.record.to_bytes()
    friend.receive(us.send(b"hi"))
    enc = enc_of(friend.send(HELLO))
    assert enc.kind == "msg"
    assert needed_prekey(enc, us.session) is None
    assert opened(open_pairwise(enc, us.session, KEYS, None)).content == Content("text", "Hello!")


def test_plaintext_of_a_later_version_is_not_padded() -> None:
    enc = enc_of(a_friend().send(text_message("Hello!")), version=3)
    assert opened(open_pairwise(enc, None, KEYS, PREKEY)).content == Content("text", "Hello!")


@pytest.mark.parametrize("plaintext", [b"\x00", pad(b"\xff\xff")], ids=["padding", "protobuf"])
def test_what_is_inside_may_be_no_message(plaintext: bytes) -> None:
    opening = opened(open_pairwise(enc_of(a_friend().send(plaintext)), None, KEYS, PREKEY))
    assert opening.content is None


def test_message_that_was_opened_before_is_a_repetition() -> None:
    friend = a_friend()
    enc = enc_of(friend.send(HELLO))
    record = opened(open_pairwise(enc, None, KEYS, PREKEY)).record
    assert open_pairwise(enc, record, KEYS, None) == Repeated()


def test_session_given_stays_as_it_was() -> None:
    friend, first = acquainted()
    before = first.record.to_bytes()
    after = opened(open_pairwise(enc_of(friend.send(HELLO)), first.record, KEYS, None)).record
    assert first.record.to_bytes() == before
    assert after.to_bytes() != before


# --- what cannot be opened, with the code that a retry receipt says ---


def test_message_without_session_needs_keys() -> None:
    enc = Enc("msg", PADDED_VERSION, b"whatever")
    assert open_pairwise(enc, None, KEYS, None) == Unreadable(1, needs_keys=True)


def test_spent_prekey_needs_keys() -> None:
    enc = enc_of(a_friend().send(HELLO))
    assert open_pairwise(enc, None, KEYS, None) == Unreadable(3, needs_keys=True)


def test_other_signed_prekey_needs_keys() -> None:
    enc = enc_of(a_friend(replace(BUNDLE, signed_prekey_id=2)).send(HELLO))
    assert open_pairwise(enc, None, KEYS, PREKEY) == Unreadable(3, needs_keys=True)


def test_garbage_is_an_invalid_message() -> None:
    enc = Enc("pkmsg", PADDED_VERSION, b"garbage")
    assert open_pairwise(enc, None, KEYS, None) == Unreadable(4, needs_keys=False)


def test_prekey_of_garbage_cannot_be_told() -> None:
    with pytest.raises(RemoteProtocolError):
        needed_prekey(Enc("pkmsg", PADDED_VERSION, b"garbage"), None)


def test_counter_too_far_ahead_is_told() -> None:
    friend, first = acquainted()
    for _ in range(2101):
        late = friend.send(b"lost")
    assert open_pairwise(enc_of(late), first.record, KEYS, None) == Unreadable(6, needs_keys=False)


def test_wrong_mac_is_told() -> None:
    friend, first = acquainted()
    us = Party(KEYS.registration_id, KEYS.identity)
    us.saved = first.record.to_bytes()
    friend.receive(us.send(b"hi"))
    body = friend.send(HELLO).body
    broken = body[:-1] + bytes((body[-1] ^ 1,))
    enc = Enc("msg", PADDED_VERSION, broken)
    assert open_pairwise(enc, us.session, KEYS, None) == Unreadable(7, needs_keys=False)


def test_digest_tells_ciphertexts_apart() -> None:
    one, two = Enc("msg", 2, b"one"), Enc("msg", 2, b"two")
    assert digest_of(one) == digest_of(replace(one, kind="pkmsg"))
    assert digest_of(one) != digest_of(two)
    assert len(digest_of(one)) == 32


def test_unusable_key_is_told() -> None:
    _, first = acquainted()
    fields = SignalMessage(ratchetKey=b"\x05" + bytes(32), counter=0, ciphertext=bytes(16))
    enc = Enc("msg", PADDED_VERSION, b"\x33" + fields.SerializeToString() + bytes(8))
    assert open_pairwise(enc, first.record, KEYS, None) == Unreadable(2, needs_keys=False)


# --- how it is asked for again ---


@pytest.mark.parametrize(
    ("before", "count_of_sender", "needs_keys", "plan"),
    [
        (0, 0, False, RetryPlan(1, with_keys=False)),
        (0, 0, True, RetryPlan(1, with_keys=True)),
        (1, 0, False, RetryPlan(2, with_keys=True)),
        (1, 2, False, RetryPlan(3, with_keys=True)),
        (3, 1, False, RetryPlan(4, with_keys=True)),
        (MAX_RETRY_COUNT, 0, True, None),
        (0, MAX_RETRY_COUNT, True, None),
    ],
)
def test_message_is_asked_for_a_few_times(
    before: int, count_of_sender: int, needs_keys: bool, plan: RetryPlan | None
) -> None:
    enc = Enc("msg", PADDED_VERSION, b"", count_of_sender)
    assert retry_plan(before, enc, Unreadable(1, needs_keys)) == plan


def test_requests_of_a_minute_have_a_bound() -> None:
    budget = RetryBudget()
    taken = [budget.take(10.0) for _ in range(MAX_RETRIES_A_MINUTE + 1)]
    assert taken == [True] * MAX_RETRIES_A_MINUTE + [False]
    assert not budget.take(69.9)
    assert budget.take(70.0)


# --- who may say what ---


TEXT = Content("text", "Hello!")
COPY = Content("text", "Hello!", destination=FRIEND_LID)
HISTORY, ANSWER = Content("history_sync"), Content("phone_answer")
KEYS_OF_US, REQUEST = Content("app_state_keys"), Content("phone_request")


@pytest.mark.parametrize(
    ("from_", "refused"),
    [
        (OWN_LID.bare, set()),
        (OWN_PN.bare, set()),
        (OWN_LID.with_device(9), {"history_sync", "phone_answer"}),
        (FRIEND_LID, {"history_sync", "phone_answer", "app_state_keys", "phone_request", "copy"}),
        (FRIEND_PN, {"history_sync", "phone_answer", "app_state_keys", "phone_request", "copy"}),
    ],
    ids=["phone", "phone by number", "own companion", "stranger", "stranger by number"],
)
def test_what_is_ours_to_say_nobody_else_says(from_: Jid, refused: set[str]) -> None:
    message = parse_incoming(Node("message", {"id": "M", "from": from_}), OWN_PN, OWN_LID)
    said = {content.kind: content for content in (TEXT, HISTORY, ANSWER, KEYS_OF_US, REQUEST)}
    said["copy"] = COPY
    assert {name for name, one in said.items() if admitted(one, message) is None} == refused
    assert admitted(TEXT, message) == TEXT

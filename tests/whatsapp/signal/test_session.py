"""Examples of what sessions accept and refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.whatsapp.crypto import hkdf, hmac_sha256
from sitpayd.whatsapp.errors import (
    BadMacError,
    DecryptError,
    DuplicateMessageError,
    FutureMessageError,
    InvalidKeyError,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownPreKeyError,
)
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.schema.session_pb2 import Record
from sitpayd.whatsapp.schema.whatsapp_pb2 import PreKeySignalMessage, SignalMessage
from sitpayd.whatsapp.signal import ratchet
from sitpayd.whatsapp.signal.ratchet import MAX_AHEAD, MAX_SKIPPED, SKIPPED_LEN, parse_message
from sitpayd.whatsapp.signal.record import SessionRecord
from sitpayd.whatsapp.signal.session import (
    MAX_ARCHIVED,
    Encrypted,
    decrypt,
    decrypt_prekey_message,
    knows_base_key,
    parse_prekey_message,
    start,
)

from .parties import Party, acquaintances, strangers


def flipped(data: bytes, index: int = -1) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 1
    return bytes(changed)


def send_many(sender: Party, count: int) -> Encrypted:
    """The last of this many messages."""
    for _ in range(count - 1):
        sender.send(b"lost")
    return sender.send(b"last")


def refused(party: Party, encrypted: Encrypted, error: type[DecryptError]) -> None:
    """Exactly this error, and the record as it was."""
    before = party.saved
    with pytest.raises(DecryptError) as caught:
        party.receive(encrypted)
    assert type(caught.value) is error
    assert party.saved == before


# --- Beginning ---


def test_first_messages_carry_the_prekeys_until_the_peer_answered() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    assert [alice.send(b"1").kind, alice.send(b"2").kind] == ["pkmsg", "pkmsg"]
    bob.receive(alice.send(b"3"))
    answer = bob.send(b"4")
    alice.receive(answer)
    assert [answer.kind, alice.send(b"5").kind] == ["msg", "msg"]


def test_first_message_names_what_the_responder_has_to_look_up() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    message = parse_prekey_message(alice.send(b"hello").body)
    assert (message.prekey_id, message.signed_prekey_id) == (1, 7)
    assert (message.registration_id, message.identity) == (1111, alice.identity.public_key)
    assert message.base_key == alice.session.current.base_key


def test_each_side_knows_whom_it_talks_to() -> None:
    alice, bob = acquaintances()
    assert alice.session.remote_identity == bob.identity.public_key
    assert bob.session.remote_identity == alice.identity.public_key
    assert alice.session.remote_registration_id == 2222
    assert bob.session.remote_registration_id == 1111


def test_session_without_one_time_prekey_works() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle(with_prekey=False))
    first = alice.send(b"hello")
    assert parse_prekey_message(first.body).prekey_id is None
    assert bob.receive(first) == b"hello"


def test_wrong_signature_on_a_bundle_is_refused() -> None:
    alice, bob = strangers()
    bundle = bob.bundle()
    with pytest.raises(RemoteProtocolError, match="signature"):
        start(replace(bundle, signature=flipped(bundle.signature, 5)), alice.identity)


def test_signed_prekey_of_somebody_else_is_refused() -> None:
    alice, bob = strangers()
    other = KeyPair.generate().public_key
    with pytest.raises(RemoteProtocolError, match="signature"):
        start(replace(bob.bundle(), signed_prekey=other), alice.identity)


def test_bundle_with_a_prekey_of_small_order_is_refused() -> None:
    alice, bob = strangers()
    with pytest.raises(RemoteProtocolError, match="X25519"):
        start(replace(bob.bundle(), prekey=bytes(32)), alice.identity)


def test_message_for_a_prekey_we_no_longer_hold_is_told_apart() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    bob.prekeys.clear()
    refused(bob, alice.send(b"hello"), UnknownPreKeyError)


def test_message_for_a_signed_prekey_we_do_not_hold_is_told_apart() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    message = parse_prekey_message(alice.send(b"hello").body)
    with pytest.raises(UnknownPreKeyError):
        decrypt_prekey_message(None, bob.identity, None, bob.prekeys[1], message)


def test_later_first_messages_need_no_prekey() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"1"))
    second = alice.send(b"2")
    assert knows_base_key(bob.session, parse_prekey_message(second.body).base_key)
    assert not bob.prekeys
    assert bob.receive(second) == b"2"


def test_unheard_base_key_is_not_known() -> None:
    alice, _ = acquaintances()
    assert not knows_base_key(alice.session, bytes(32))


def test_key_inside_an_archived_state_is_not_mistaken_for_its_base_key() -> None:
    alice, bob = acquaintances()
    alice.begin(bob.bundle())
    assert not knows_base_key(alice.session, bob.identity.public_key)


def test_known_base_key_under_another_identity_is_refused() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"1"))
    message = parse_prekey_message(alice.send(b"2").body)
    claimed = replace(message, identity=KeyPair.generate().public_key)
    with pytest.raises(BadMacError):
        decrypt_prekey_message(bob.session, bob.identity, None, None, claimed)


def test_wrong_identity_in_a_first_message_is_refused() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    message = parse_prekey_message(alice.send(b"1").body)
    claimed = replace(message, identity=KeyPair.generate().public_key)
    with pytest.raises(BadMacError):
        decrypt_prekey_message(
            None, bob.identity, bob.signed_prekey.key_pair, bob.prekeys[1], claimed
        )


def test_first_message_with_a_base_key_of_small_order_is_refused() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    message = replace(parse_prekey_message(alice.send(b"1").body), base_key=bytes(32))
    with pytest.raises(DecryptError, match="unusable key"):
        decrypt_prekey_message(
            None, bob.identity, bob.signed_prekey.key_pair, bob.prekeys[1], message
        )


# --- Order, loss and repetition ---


def test_messages_are_read_in_any_order() -> None:
    alice, bob = acquaintances()
    first, second, third = alice.send(b"1"), alice.send(b"2"), alice.send(b"3")
    assert [bob.receive(third), bob.receive(first), bob.receive(second)] == [b"3", b"1", b"2"]
    assert bob.session.current.ratchet.receiving[0].skipped == b""


def test_old_chain_is_read_after_newer_ones() -> None:
    alice, bob = acquaintances()
    late = [alice.send(b"1"), alice.send(b"2")]
    bob.receive(alice.send(b"3"))
    for _ in range(3):
        alice.receive(bob.send(b"and you?"))
        bob.receive(alice.send(b"well"))
    assert [bob.receive(encrypted) for encrypted in reversed(late)] == [b"2", b"1"]


def test_end_of_an_old_chain_is_read_after_newer_ones() -> None:
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    late = alice.send(b"2")
    alice.receive(bob.send(b"and you?"))
    bob.receive(alice.send(b"well"))
    assert bob.receive(late) == b"2"


def test_reading_an_old_chain_does_not_make_it_newer() -> None:
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    late = alice.send(b"2")
    alice.receive(bob.send(b"and you?"))
    bob.receive(alice.send(b"well"))
    before = [chain.ratchet_key for chain in bob.session.current.ratchet.receiving]
    bob.receive(late)
    after = [chain.ratchet_key for chain in bob.session.current.ratchet.receiving]
    assert after == before


def test_only_the_last_five_chains_are_kept() -> None:
    alice, bob = acquaintances()
    first, late = alice.send(b"1"), alice.send(b"2")
    bob.receive(first)
    for _ in range(5):
        alice.receive(bob.send(b"and you?"))
        bob.receive(alice.send(b"well"))
    assert len(bob.session.current.ratchet.receiving) == 5
    refused(bob, late, BadMacError)


def test_repeated_message_is_told_apart() -> None:
    """T-55."""
    alice, bob = acquaintances()
    message = alice.send(b"1")
    bob.receive(message)
    refused(bob, message, DuplicateMessageError)


def test_repeated_first_message_is_told_apart() -> None:
    """T-55."""
    alice, bob = strangers()
    alice.begin(bob.bundle())
    message = alice.send(b"1")
    bob.receive(message)
    refused(bob, message, DuplicateMessageError)


def test_repeated_late_message_is_told_apart() -> None:
    alice, bob = acquaintances()
    late = alice.send(b"1")
    bob.receive(alice.send(b"2"))
    bob.receive(late)
    refused(bob, late, DuplicateMessageError)


def test_repetition_is_recognised_by_an_archived_state() -> None:
    alice, bob = acquaintances()
    message = alice.send(b"1")
    bob.receive(message)
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"anew"))
    refused(bob, message, DuplicateMessageError)


def test_message_2000_ahead_is_read() -> None:
    """T-55."""
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    assert bob.receive(send_many(alice, MAX_AHEAD + 1)) == b"last"


def test_message_2001_ahead_is_refused() -> None:
    """T-55."""
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    refused(bob, send_many(alice, MAX_AHEAD + 2), FutureMessageError)


def test_message_2000_ahead_in_a_new_chain_is_read() -> None:
    """T-55."""
    alice, bob = acquaintances()
    assert bob.receive(send_many(alice, MAX_AHEAD + 1)) == b"last"


def test_message_2001_ahead_in_a_new_chain_is_refused() -> None:
    """T-55."""
    alice, bob = acquaintances()
    refused(bob, send_many(alice, MAX_AHEAD + 2), FutureMessageError)


@pytest.mark.parametrize("counter", [2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("is_known", [True, False])
def test_counter_at_the_end_of_its_numbers_is_refused_without_a_step(
    counter: int, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-55: 2^31 steps of a chain would take an hour."""
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    chain = alice.session.current.ratchet.sending
    key = chain.pair.public_key if is_known else KeyPair.generate().public_key
    fields = SignalMessage(ratchetKey=b"\x05" + key, counter=counter, ciphertext=bytes(16))
    body = b"\x33" + fields.SerializeToString() + bytes(8)
    monkeypatch.setattr(ratchet, "hmac_sha256", None)
    refused(bob, Encrypted(alice.session, "msg", body), FutureMessageError)


def test_stored_keys_stay_within_their_limit_over_many_gaps() -> None:
    """T-55: each gap is allowed, and all of them together are more than is kept."""
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    seen = []
    for gap in (1999, 1, 700, 2000, 3):
        seen.append(send_many(alice, gap + 1))
        bob.receive(seen[-1])
        skipped = bob.session.current.ratchet.receiving[0].skipped
        assert len(skipped) <= MAX_SKIPPED * SKIPPED_LEN
    for message in seen:
        refused(bob, message, DuplicateMessageError)


def test_counter_too_far_ahead_in_a_new_chain_costs_no_key_agreement() -> None:
    alice, bob = acquaintances()
    unusable = b"\x05" + bytes(32)
    fields = SignalMessage(ratchetKey=unusable, counter=MAX_AHEAD + 1, ciphertext=bytes(16))
    body = b"\x33" + fields.SerializeToString() + bytes(8)
    refused(bob, Encrypted(alice.session, "msg", body), FutureMessageError)


def test_oldest_skipped_keys_are_dropped() -> None:
    """T-55."""
    alice, bob = acquaintances()
    oldest, second = alice.send(b"1"), alice.send(b"2")
    bob.receive(send_many(alice, MAX_SKIPPED - 1))
    third = alice.send(b"3")
    bob.receive(alice.send(b"4"))
    skipped = bob.session.current.ratchet.receiving[0].skipped
    assert len(skipped) == MAX_SKIPPED * SKIPPED_LEN
    refused(bob, oldest, DuplicateMessageError)
    assert [bob.receive(second), bob.receive(third)] == [b"2", b"3"]


def test_counter_that_appears_inside_a_seed_is_no_stored_key() -> None:
    alice, bob = acquaintances()
    late = alice.send(b"1")
    bob.receive(alice.send(b"2"))
    record = bob.session
    chain = record.current.ratchet.receiving[0]
    seed_with_counters = bytes(8) + bytes.fromhex("ff") * 24
    entry = (5).to_bytes(4) + seed_with_counters
    ratchet = replace(
        record.current.ratchet, receiving=(replace(chain, skipped=entry + chain.skipped),)
    )
    bob.saved = SessionRecord(replace(record.current, ratchet=ratchet)).to_bytes()
    assert bob.receive(late) == b"1"
    assert bob.session.current.ratchet.receiving[0].skipped == entry


# --- Several states ---


def test_archived_state_decrypts_and_becomes_current() -> None:
    alice, bob = acquaintances()
    old = alice.send(b"old")
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"new"))
    newer = bob.session.current
    assert bob.receive(old) == b"old"
    assert bob.session.current.base_key != newer.base_key
    assert bob.session.archived == (newer.to_bytes(),)


def test_archived_state_is_found_by_a_new_chain() -> None:
    alice, bob = acquaintances()
    old = bob.send(b"first of a new chain")
    alice.receive(bob.send(b"x"))
    bob.receive(alice.send(b"y"))
    unseen = bob.send(b"next chain")
    alice.begin(bob.bundle())
    alice.begin(bob.bundle())
    assert len(alice.session.archived) == 2
    assert alice.receive(unseen) == b"next chain"
    assert alice.receive(old) == b"first of a new chain"
    assert alice.send(b"z").kind == "msg"


def test_archived_state_is_found_by_its_base_key() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"1"))
    second = alice.send(b"2")
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"3"))
    newer = bob.session.current
    assert bob.receive(second) == b"2"
    assert bob.session.archived == (newer.to_bytes(),)


def test_our_own_ratchet_key_sent_back_is_refused() -> None:
    alice, bob = acquaintances()
    echo = alice.send(b"1")
    alice.begin(bob.bundle())
    refused(alice, echo, BadMacError)


def test_archived_state_with_the_key_in_another_place_is_not_meant() -> None:
    alice, bob = acquaintances()
    current = bob.session.current
    ratchet_key = alice.session.current.ratchet.sending.pair.public_key
    other = replace(
        current, base_key=ratchet_key, ratchet=replace(current.ratchet, root_key=bytes(32))
    )
    bob.saved = SessionRecord(current, (other.to_bytes(),)).to_bytes()
    assert bob.receive(alice.send(b"1")) == b"1"
    assert bob.session.current.base_key == current.base_key


def test_both_beginning_at_once_converge() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    bob.begin(alice.bundle())
    from_alice, from_bob = alice.send(b"a1"), bob.send(b"b1")
    assert (bob.receive(from_alice), alice.receive(from_bob)) == (b"a1", b"b1")
    assert bob.receive(alice.send(b"a2")) == b"a2"
    assert alice.receive(bob.send(b"b2")) == b"b2"
    assert alice.session.current.base_key == bob.session.current.base_key


def test_new_session_archives_the_old_one() -> None:
    alice, bob = acquaintances()
    old = alice.session.current
    alice.begin(bob.bundle())
    assert alice.session.archived == (old.to_bytes(),)


def test_at_most_40_states_are_archived() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle(with_prekey=False))
    second = None
    for _ in range(MAX_ARCHIVED + 1):
        alice.begin(bob.bundle(with_prekey=False))
        second = second or alice.session.current
    assert second is not None
    assert len(alice.session.archived) == MAX_ARCHIVED
    assert alice.session.archived[-1] == second.to_bytes()


def test_new_identity_drops_the_states_of_the_old_one() -> None:
    alice, bob = acquaintances()
    reinstalled = Party(3333)
    alice.begin(reinstalled.bundle())
    assert alice.session.archived == ()
    assert alice.session.remote_identity == reinstalled.identity.public_key
    reinstalled.begin(bob.bundle())
    bob.receive(reinstalled.send(b"new phone"))
    assert bob.session.archived == ()
    assert bob.session.remote_registration_id == 3333


# --- Broken messages ---


def test_flipped_mac_leaves_the_record_as_it_was() -> None:
    """T-55."""
    alice, bob = acquaintances()
    message = alice.send(b"1")
    record = bob.session
    before = record.to_bytes()
    with pytest.raises(BadMacError):
        decrypt(record, bob.identity, flipped(message.body))
    assert record.to_bytes() == before
    assert bob.receive(message) == b"1"


def test_flipped_mac_in_a_known_chain_is_no_repetition() -> None:
    alice, bob = acquaintances()
    bob.receive(alice.send(b"1"))
    message = alice.send(b"2")
    refused(bob, replace(message, body=flipped(message.body)), BadMacError)


def test_flipped_mac_is_refused_by_every_archived_state() -> None:
    alice, bob = acquaintances()
    bob.begin(alice.bundle())
    message = alice.send(b"1")
    refused(bob, replace(message, body=flipped(message.body)), BadMacError)


def test_first_message_with_a_flipped_mac_leaves_nothing() -> None:
    alice, bob = strangers()
    alice.begin(bob.bundle())
    message = parse_prekey_message(alice.send(b"1").body)
    broken = replace(message, message=flipped(message.message))
    with pytest.raises(BadMacError):
        decrypt_prekey_message(
            None, bob.identity, bob.signed_prekey.key_pair, bob.prekeys[1], broken
        )


def test_broken_padding_under_a_good_mac_is_refused() -> None:
    alice, bob = acquaintances()
    chain = alice.session.current.ratchet.sending
    fields = SignalMessage(
        ratchetKey=b"\x05" + chain.pair.public_key, counter=0, ciphertext=b"no whole block"
    )
    signed = b"\x33" + fields.SerializeToString()
    seed = hmac_sha256(chain.chain_key, b"\x01")
    mac_key = hkdf(seed, info=b"WhisperMessageKeys", length=80)[32:64]
    identities = b"\x05" + alice.identity.public_key + b"\x05" + bob.identity.public_key
    body = signed + hmac_sha256(mac_key, identities + signed)[:8]
    refused(bob, Encrypted(alice.session, "msg", body), DecryptError)


def test_ratchet_key_of_small_order_is_refused() -> None:
    alice, bob = acquaintances()
    fields = SignalMessage(ratchetKey=b"\x05" + bytes(32), counter=0, ciphertext=bytes(16))
    body = b"\x33" + fields.SerializeToString() + bytes(8)
    refused(bob, Encrypted(alice.session, "msg", body), InvalidKeyError)


def test_key_that_is_none_is_told_apart_from_other_malformations() -> None:
    fields = SignalMessage(ratchetKey=b"\x06" + bytes(32), counter=0, ciphertext=bytes(16))
    with pytest.raises(InvalidKeyError):
        parse_message(b"\x33" + fields.SerializeToString() + bytes(8))


KEY = b"\x05" + bytes(31) + b"\x01"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x33",
        b"\x33" + bytes(8),
        b"\x44" + SignalMessage(ratchetKey=KEY, counter=0, ciphertext=b"c").SerializeToString(),
        b"\x33\x0a\xff" + bytes(8),
        b"\x33" + SignalMessage(ratchetKey=KEY, counter=0).SerializeToString() + bytes(8),
        b"\x33" + SignalMessage(ratchetKey=KEY, ciphertext=b"c").SerializeToString() + bytes(8),
        b"\x33" + SignalMessage(counter=0, ciphertext=b"c").SerializeToString() + bytes(8),
        b"\x33"
        + SignalMessage(ratchetKey=KEY[1:], counter=0, ciphertext=b"c").SerializeToString()
        + bytes(8),
        b"\x33"
        + SignalMessage(
            ratchetKey=b"\x06" + KEY[1:], counter=0, ciphertext=b"c"
        ).SerializeToString()
        + bytes(8),
    ],
)
def test_malformed_message_is_refused(body: bytes) -> None:
    with pytest.raises(DecryptError):
        parse_message(body)


WHOLE = PreKeySignalMessage(
    baseKey=KEY, identityKey=KEY, message=b"m", registrationId=1, signedPreKeyId=1
)


def without(field: str) -> PreKeySignalMessage:
    fields = PreKeySignalMessage()
    fields.CopyFrom(WHOLE)
    fields.ClearField(field)
    return fields


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x44" + WHOLE.SerializeToString(),
        b"\x33\x0a\xff",
        b"\x33" + without("baseKey").SerializeToString(),
        b"\x33" + without("identityKey").SerializeToString(),
        b"\x33" + without("registrationId").SerializeToString(),
        b"\x33" + without("signedPreKeyId").SerializeToString(),
    ],
)
def test_malformed_first_message_is_refused(body: bytes) -> None:
    with pytest.raises(DecryptError):
        parse_prekey_message(body)


def test_first_message_without_a_message_is_refused() -> None:
    alice, bob = acquaintances()
    body = b"\x33" + without("message").SerializeToString()
    refused(bob, Encrypted(alice.session, "pkmsg", body), DecryptError)


# --- At rest ---


def test_pending_prekeys_survive_storage() -> None:
    alice, bob = strangers()
    for bundle in (bob.bundle(), bob.bundle(with_prekey=False)):
        record = start(bundle, alice.identity)
        assert SessionRecord.from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x0a\x00", b"\x0a\xff\x01"])
def test_damaged_record_is_our_own_fault(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        SessionRecord.from_bytes(data)


def test_truncated_key_at_rest_is_noticed() -> None:
    alice, _ = acquaintances()
    stored = Record.FromString(alice.saved or b"")
    stored.current.receiving[0].chainKey = bytes(31)
    with pytest.raises(LocalProtocolError):
        SessionRecord.from_bytes(stored.SerializeToString())


def test_damaged_archived_state_is_noticed_when_needed() -> None:
    alice, bob = acquaintances()
    bob.saved = replace(bob.session, archived=(b"\xff",)).to_bytes()
    assert bob.receive(alice.send(b"1")) == b"1"
    alice.begin(bob.bundle())
    unknown = replace(alice.send(b"2"), kind="msg")
    body = parse_prekey_message(unknown.body).message
    with pytest.raises(LocalProtocolError):
        decrypt(bob.session, bob.identity, body)


def test_no_key_and_no_text_is_shown() -> None:
    alice, bob = acquaintances()
    message = alice.send(b"secret words")
    shown = repr(bob.read(message)) + repr(message) + repr(bob.session.current.ratchet)
    assert "secret words" not in shown
    assert "chain_key" not in shown

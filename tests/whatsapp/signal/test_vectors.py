"""Every step and every derived value of the recorded sessions, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitpayd.whatsapp.crypto import sign, verify
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.signal.session import (
    Encrypted,
    PreKeyBundle,
    SessionRecord,
    decrypt,
    decrypt_prekey_message,
    encrypt,
    parse_prekey_message,
    start,
)
from sitpayd.whatsapp.signal.x3dh import first_keys, initiator_secret, responder_secret

_VECTORS = Path(__file__).parents[1] / "vectors"
SESSIONS = json.loads((_VECTORS / "signal.json").read_text())["sessions"]
SIGNATURES = json.loads((_VECTORS / "xeddsa.json").read_text())["signatures"]

per_session = pytest.mark.parametrize("vector", SESSIONS, ids=["with_prekey", "without_prekey"])
per_signature = pytest.mark.parametrize("vector", SIGNATURES)


def pair(private_key: str) -> KeyPair:
    return KeyPair.from_private(bytes.fromhex(private_key))


class Replay:
    """The recorded session, played step by step; `states` holds both records after each step."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.ephemerals = [pair(entry["priv"]) for entry in vector["ephemerals"]]
        self.identities = {who: pair(vector[who]["identity_priv"]) for who in ("alice", "bob")}
        signed, one_time = vector["bob"]["signed_prekey"], vector["bob"].get("one_time_prekey")
        self.signed_prekey = pair(signed["priv"])
        self.prekey = pair(one_time["priv"]) if one_time else None
        bundle = PreKeyBundle(
            registration_id=vector["bob"]["registration_id"],
            identity=self.identities["bob"].public_key,
            signed_prekey_id=signed["id"],
            signed_prekey=self.signed_prekey.public_key,
            signature=bytes.fromhex(signed["sig"]),
            prekey_id=one_time["id"] if one_time else None,
            prekey=self.prekey.public_key if self.prekey else None,
        )
        self.generate = self._generator()
        records: dict[str, SessionRecord] = {
            "alice": start(bundle, self.identities["alice"], generate=self.generate)
        }
        self.states = [dict(records)]
        self.sent: dict[str, Encrypted] = {}
        self.received: list[bytes] = []
        for step in vector["steps"]:
            who = step["from"]
            if step["op"] == "encrypt":
                encrypted = encrypt(
                    records[who],
                    self.identities[who],
                    vector[who]["registration_id"],
                    step["plaintext"].encode(),
                )
                records[who] = encrypted.record
                self.sent[step["plaintext"]] = encrypted
            else:
                records[who] = self._decrypt(who, records.get(who), self.sent[step["of"]])
            records[who] = SessionRecord.from_bytes(records[who].to_bytes())
            self.states.append(dict(records))

    def _generator(self) -> Callable[[], KeyPair]:
        remaining = iter(self.ephemerals)
        return lambda: next(remaining)

    def _decrypt(
        self, who: str, record: SessionRecord | None, encrypted: Encrypted
    ) -> SessionRecord:
        identity = self.identities[who]
        if encrypted.kind == "pkmsg":
            decrypted = decrypt_prekey_message(
                record,
                identity,
                self.signed_prekey,
                self.prekey,
                parse_prekey_message(encrypted.body),
                generate=self.generate,
            )
        else:
            assert record is not None
            decrypted = decrypt(record, identity, encrypted.body, generate=self.generate)
        self.received.append(decrypted.plaintext)
        return decrypted.record


@per_session
def test_each_body_is_the_recorded_one(vector: dict[str, Any]) -> None:
    sent = Replay(vector).sent
    assert [(text, sent[text].kind, sent[text].body.hex()) for text in sent] == [
        (step["plaintext"], step["type"], step["ciphertext"])
        for step in vector["steps"]
        if step["op"] == "encrypt"
    ]


@per_session
def test_each_message_is_read_in_the_recorded_order(vector: dict[str, Any]) -> None:
    assert Replay(vector).received == [
        step["of"].encode() for step in vector["steps"] if step["op"] == "decrypt"
    ]


@per_session
def test_both_sides_agree_on_the_recorded_secret(vector: dict[str, Any]) -> None:
    replay = Replay(vector)
    alice, bob = replay.identities["alice"], replay.identities["bob"]
    base, prekey = replay.ephemerals[0], replay.prekey
    initiator = initiator_secret(
        alice,
        base,
        bob.public_key,
        replay.signed_prekey.public_key,
        prekey.public_key if prekey else None,
    )
    responder = responder_secret(
        bob, replay.signed_prekey, prekey, alice.public_key, base.public_key
    )
    assert initiator.hex() == responder.hex() == vector["derived"]["master_secret"]
    root_key, chain_key = first_keys(initiator)
    assert root_key.hex() == vector["derived"]["root_key_0"]
    assert chain_key.hex() == vector["derived"]["chain_key_0"]


@per_session
def test_each_root_and_chain_key_is_the_recorded_one(vector: dict[str, Any]) -> None:
    states, derived = Replay(vector).states, vector["derived"]
    began = states[0]["alice"].current.ratchet
    assert began.root_key.hex() == derived["root_key_1"]
    assert began.sending.chain_key.hex() == derived["alice_send_chain_key_0"]
    answering = states[3]["bob"].current.ratchet  # after reading a1
    assert answering.sending.chain_key.hex() == derived["bob_send_chain_key_0"]
    moved = states[6]["alice"].current.ratchet  # after reading b1
    assert moved.root_key.hex() == derived["root_key_after_alice_step2"]
    assert moved.sending.chain_key.hex() == derived["alice_send_chain2_key_0"]


@per_signature
@pytest.mark.parametrize("which", ["sig_js_deterministic", "sig_randomized_example_python"])
def test_recorded_signature_verifies(vector: dict[str, Any], which: str) -> None:
    public_key, message = bytes.fromhex(vector["pub"]), bytes.fromhex(vector["msg"])
    assert verify(public_key, message, bytes.fromhex(vector[which]))


@per_signature
def test_our_signature_verifies_under_the_recorded_key(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["msg"])
    signature = sign(bytes.fromhex(vector["priv"]), message)
    assert verify(bytes.fromhex(vector["pub"]), message, signature)


@per_signature
@pytest.mark.parametrize("bit", [0, 255, 256, 503, 511])
def test_signature_with_a_flipped_bit_does_not_verify(vector: dict[str, Any], bit: int) -> None:
    signature = bytearray.fromhex(vector["sig_js_deterministic"])
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(bytes.fromhex(vector["pub"]), bytes.fromhex(vector["msg"]), bytes(signature))

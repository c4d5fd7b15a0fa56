from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import lid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, SignedPreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas.login import (
    ClientInfo,
    Login,
    Registration,
    Success,
    build_hash,
    login_payload,
    parse_client_payload,
    parse_success,
    registration_payload,
    success,
)
from sitpayd.whatsapp.stanzas.wire import numbered, registration_bytes

from .wire import OWN_LID, OWN_PN, sent, vector

VECTOR = vector("client_payload")
RECORDED = ClientInfo(revision=1043857760)


def recorded_keys() -> DeviceKeys:
    identity = KeyPair.from_private(bytes.fromhex(VECTOR["ident_priv"]))
    signed = KeyPair.from_private(bytes.fromhex(VECTOR["spk_priv"]))
    return DeviceKeys(
        noise=identity,
        identity=identity,
        signed_prekey=SignedPreKey(1, signed, bytes.fromhex(VECTOR["spk_sig"])),
        registration_id=12345,
        adv_secret=bytes(32),
    )


def registration() -> Registration:
    parsed = parse_client_payload(registration_payload(recorded_keys(), RECORDED))
    assert isinstance(parsed, Registration)
    return parsed


def damaged(field: str, value: bytes) -> bytes:
    payload = pb.ClientPayload.FromString(bytes.fromhex(VECTOR["registration"]))
    setattr(payload.devicePairingData, field, value)
    return payload.SerializeToString()


def test_registration_payload_is_the_recorded_one() -> None:
    payload = registration_payload(recorded_keys(), RECORDED)
    assert payload.hex() == VECTOR["registration"]


def test_login_payload_is_the_recorded_one() -> None:
    payload = login_payload(OWN_PN, RECORDED, lid_db_migrated=False)
    assert payload.hex() == VECTOR["login"]


def test_build_hash_is_the_recorded_one() -> None:
    assert build_hash(RECORDED.revision).hex() == VECTOR["build_hash"]


def test_numbers_in_stanzas_are_the_recorded_bytes() -> None:
    bytes_of = vector("registration_bytes")
    assert registration_bytes(12345).hex() == bytes_of["id_12345_be4"]
    assert numbered(1).hex() == bytes_of["id_1_be3"]


def test_server_reads_the_keys_of_a_registration() -> None:
    keys = recorded_keys()
    parsed = registration()
    assert parsed.registration_id == 12345
    assert parsed.identity == keys.identity.public_key
    assert parsed.signed_prekey_id == 1
    assert parsed.signed_prekey == keys.signed_prekey.key_pair.public_key
    assert parsed.build_hash == build_hash(parsed.revision)
    assert (parsed.os_name, parsed.platform_type) == ("Mac OS", 1)
    assert not parsed.require_full_sync


def test_signature_of_a_registration_verifies() -> None:
    assert registration().signature_is_valid()


def test_signature_by_another_identity_does_not_verify() -> None:
    other = replace(registration(), identity=KeyPair.generate().public_key)
    assert not other.signature_is_valid()


def test_server_reads_who_logs_in() -> None:
    parsed = parse_client_payload(login_payload(OWN_PN, ClientInfo(revision=7), "Shop"))
    assert parsed == Login(
        user="15551234567",
        device=12,
        passive=True,
        revision=7,
        push_name="Shop",
        lid_db_migrated=True,
    )


def test_login_by_lid_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        login_payload(pn("not-a-number", 1), ClientInfo())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eRegid", bytes(3)),
        ("eIdent", bytes(31)),
        ("eSkeyId", bytes(4)),
        ("eSkeyVal", bytes(33)),
        ("eSkeySig", bytes(63)),
        ("buildHash", b""),
        ("eKeytype", b"\x06"),
        ("deviceProps", b"\xff"),
        ("deviceProps", b"\x0a\x01\xff"),
    ],
)
def test_registration_with_a_bad_field_is_refused(field: str, value: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_client_payload(damaged(field, value))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x08\x07\x3a\x01\xff"])
def test_payload_of_nobody_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_client_payload(data)


def test_success_crosses_the_wire() -> None:
    node = sent(success(OWN_LID, 1_760_000_000))
    assert parse_success(node) == Success(1_760_000_000, OWN_LID)


def test_success_may_say_nothing() -> None:
    assert parse_success(Node("success")) == Success(None, None)


def test_lid_of_success_may_be_text() -> None:
    assert parse_success(Node("success", {"lid": "7:2@lid"})).lid == lid("7", 2)

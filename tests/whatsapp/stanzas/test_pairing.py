from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sitpayd.whatsapp.crypto import hmac_sha256, sign, verify
from sitpayd.whatsapp.errors import PairingError, RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID, Jid, lid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas.iq import parse_iq_error
from sitpayd.whatsapp.stanzas.pairing import (
    QrCode,
    accept_pair_success,
    check_device_signature,
    make_signed_identity,
    pair_device,
    pair_success,
    pairing_error,
    parse_pair_device,
    parse_qr_text,
    qr_text,
    verify_signed_identity,
)

from .wire import OWN_LID, OWN_PN, sent, vector

ADV = vector("adv")["cases"]
QR = vector("qr")
KEYS = DeviceKeys.generate()
PHONE = KeyPair.generate()

both_kinds = pytest.mark.parametrize("hosted", [False, True], ids=["ordinary", "hosted"])
recorded = pytest.mark.parametrize("case", ADV, ids=["ordinary", "hosted"])


def recorded_keys(case: dict[str, Any]) -> DeviceKeys:
    return replace(
        KEYS,
        identity=KeyPair.from_private(bytes.fromhex(case["ident_priv"])),
        adv_secret=bytes.fromhex(case["adv_secret"]),
    )


def signed_by_phone(*, hosted: bool = False, account: KeyPair = PHONE) -> bytes:
    return make_signed_identity(
        account,
        KEYS.identity.public_key,
        KEYS.adv_secret,
        key_index=3,
        timestamp=1_760_000_000,
        raw_id=1001,
        hosted=hosted,
    )


def success_with(signed_identity: bytes, jid: Jid = OWN_PN, lid: Jid = OWN_LID) -> Node:
    return sent(
        pair_success(
            "Y",
            signed_identity,
            jid=jid,
            lid=lid,
            platform="android",
            business_name="Shop",
            t=1_760_000_000,
        )
    )


def sealed(container: pb.ADVSignedDeviceIdentityHMAC, *, prefix: bytes = b"") -> bytes:
    container.hmac = hmac_sha256(KEYS.adv_secret, prefix + container.details)
    return container.SerializeToString()


def resigned(change: Callable[[pb.ADVSignedDeviceIdentity], None]) -> bytes:
    """The phone's container with a changed inside, whose HMAC is right again."""
    container = pb.ADVSignedDeviceIdentityHMAC.FromString(signed_by_phone())
    inside = pb.ADVSignedDeviceIdentity.FromString(container.details)
    change(inside)
    container.details = inside.SerializeToString()
    return sealed(container)


def refusal_of(node: Node) -> tuple[int, str]:
    with pytest.raises(PairingError) as raised:
        accept_pair_success(node, KEYS)
    return raised.value.code, raised.value.text


# --- refs and the QR text ---


def test_refs_cross_the_wire_in_order() -> None:
    assert parse_pair_device(sent(pair_device("X", ["2@A", "2@B"]))) == ["2@A", "2@B"]


def test_refs_are_bytes_on_the_wire() -> None:
    refs = sent(pair_device("X", ["2"])).required("pair-device")
    assert [ref.content for ref in refs.children] == [b"2"]


def test_ref_may_come_as_text() -> None:
    node = Node("iq", {}, (Node("pair-device", {}, (Node("ref", {}, "2@A"),)),))
    assert parse_pair_device(node) == ["2@A"]


@pytest.mark.parametrize(
    "refs", [(), (Node("ref", {}, b""),), (Node("ref", {}, b"\xff"),), (Node("ref", {}, ()),)]
)
def test_list_without_usable_refs_is_refused(refs: tuple[Node, ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_pair_device(Node("iq", {}, (Node("pair-device", {}, refs),)))


def test_qr_text_is_the_recorded_one() -> None:
    keys = replace(
        KEYS,
        noise=KeyPair(bytes(32), bytes.fromhex(QR["noise_pub"])),
        identity=KeyPair(bytes(32), bytes.fromhex(QR["ident_pub"])),
        adv_secret=bytes([7]) * 32,
    )
    assert qr_text(QR["ref"], keys) == QR["payload"]


def test_phone_reads_what_the_device_shows() -> None:
    assert parse_qr_text(qr_text("2@REF", KEYS)) == QrCode(
        "2@REF", KEYS.noise.public_key, KEYS.identity.public_key, KEYS.adv_secret, "1"
    )


def test_phone_reads_the_older_form_without_address_and_platform() -> None:
    older = QR["payload"].partition("#")[2].rpartition(",")[0]
    assert parse_qr_text(older) == replace(parse_qr_text(QR["payload"]), platform=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com",
        ",AA==,AA==,AA==,1",
        "ref,AA==,AA==,AA==",
        "ref,*,*,*,1",
        "ref,é,é,é,1",
        QR["payload"] + ",1",
    ],
)
def test_other_texts_are_no_qr_code(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_qr_text(text)


def test_secrets_of_a_qr_code_do_not_show() -> None:
    assert repr(parse_qr_text(QR["payload"])) == "QrCode(platform=1)"


# --- recorded pairings ---


@recorded
def test_recorded_pairing_is_accepted(case: dict[str, Any]) -> None:
    node = success_with(bytes.fromhex(case["device_identity_content"]))
    paired, _ = accept_pair_success(node, recorded_keys(case))
    assert paired.account_key.hex() == case["account_pub"]
    assert str(paired.key_index) == case["reply_key_index"]


@recorded
def test_identity_for_messages_is_the_recorded_one_but_for_our_random_signature(
    case: dict[str, Any],
) -> None:
    node = success_with(bytes.fromhex(case["device_identity_content"]))
    paired, _ = accept_pair_success(node, recorded_keys(case))
    ours = pb.ADVSignedDeviceIdentity.FromString(paired.signed_identity)
    ours.deviceSignature = bytes.fromhex(case["device_signature_js"])
    assert ours.SerializeToString().hex() == case["message_device_identity_content"]


@recorded
def test_reply_is_the_recorded_one_but_for_our_random_signature(case: dict[str, Any]) -> None:
    node = success_with(bytes.fromhex(case["device_identity_content"]))
    _, reply = accept_pair_success(node, recorded_keys(case))
    element = sent(reply).required("pair-device-sign").required("device-identity")
    ours = pb.ADVSignedDeviceIdentity.FromString(element.data)
    ours.deviceSignature = bytes.fromhex(case["device_signature_js"])
    assert ours.SerializeToString().hex() == case["reply_content"]
    assert element.text("key-index") == case["reply_key_index"]


@recorded
def test_our_signature_is_over_the_recorded_message(case: dict[str, Any]) -> None:
    keys = recorded_keys(case)
    paired, _ = accept_pair_success(
        success_with(bytes.fromhex(case["device_identity_content"])), keys
    )
    ours = pb.ADVSignedDeviceIdentity.FromString(paired.signed_identity).deviceSignature
    message = bytes.fromhex(case["device_signature_msg"])
    assert verify(keys.identity.public_key, message, ours)


@recorded
def test_recorded_identity_verifies_as_a_whole(case: dict[str, Any]) -> None:
    full = bytes.fromhex(case["message_device_identity_content"])
    identity = recorded_keys(case).identity.public_key
    assert verify_signed_identity(full, identity) == 3


# --- what the simulated phone and server make ---


@both_kinds
def test_pairing_of_our_own_making_is_accepted(hosted: bool) -> None:
    paired, reply = accept_pair_success(success_with(signed_by_phone(hosted=hosted)), KEYS)
    assert (paired.jid, paired.lid) == (OWN_PN, OWN_LID)
    assert paired.account_key == PHONE.public_key
    assert (paired.platform, paired.business_name) == ("android", "Shop")
    assert paired.server_time == 1_760_000_000
    assert (reply.text("id"), reply.text("type")) == ("Y", "result")
    assert reply.jid("to") == SERVER_JID


@both_kinds
def test_server_rebuilds_the_identity_that_the_device_stored(hosted: bool) -> None:
    paired, reply = accept_pair_success(success_with(signed_by_phone(hosted=hosted)), KEYS)
    rebuilt = check_device_signature(sent(reply), PHONE.public_key, KEYS.identity.public_key)
    assert rebuilt == paired.signed_identity


def test_lid_without_device_takes_the_number_of_the_other_address() -> None:
    node = success_with(signed_by_phone(), lid=OWN_LID.bare)
    assert accept_pair_success(node, KEYS)[0].lid == OWN_LID


def test_platform_and_business_name_may_be_missing() -> None:
    node = pair_success("Y", signed_by_phone(), jid=OWN_PN, lid=OWN_LID, platform="")
    paired, _ = accept_pair_success(sent(node), KEYS)
    assert (paired.platform, paired.business_name, paired.server_time) == ("", None, None)


def test_unknown_fields_of_the_identity_are_not_stored() -> None:
    def with_unknown_field(inside: pb.ADVSignedDeviceIdentity) -> None:
        inside.MergeFromString(b"\x7a\x01x")

    paired, _ = accept_pair_success(success_with(resigned(with_unknown_field)), KEYS)
    assert b"\x7a\x01x" not in paired.signed_identity


def test_details_are_kept_verbatim() -> None:
    """Fields out of order and one unknown: serialised anew, the signature would not hold."""
    details = b"\x18\x03\x08\xe9\x07\x7a\x01x"

    def with_odd_details(inside: pb.ADVSignedDeviceIdentity) -> None:
        inside.details = details
        message = b"\x06\x00" + details + KEYS.identity.public_key
        inside.accountSignature = sign(PHONE.private_key, message)

    paired, _ = accept_pair_success(success_with(resigned(with_odd_details)), KEYS)
    assert pb.ADVSignedDeviceIdentity.FromString(paired.signed_identity).details == details
    assert paired.key_index == 3


# --- every proof broken in turn ---


def test_container_under_another_secret_is_refused() -> None:
    keys = replace(KEYS, adv_secret=bytes(32))
    with pytest.raises(PairingError, match="hmac-mismatch") as raised:
        accept_pair_success(success_with(signed_by_phone()), keys)
    assert raised.value.code == 401


def test_one_flipped_bit_of_the_hmac_is_refused() -> None:
    container = pb.ADVSignedDeviceIdentityHMAC.FromString(signed_by_phone())
    container.hmac = bytes([container.hmac[0] ^ 1]) + container.hmac[1:]
    assert refusal_of(success_with(container.SerializeToString())) == (401, "hmac-mismatch")


@pytest.mark.parametrize("length", [0, 31])
def test_shortened_hmac_is_refused(length: int) -> None:
    container = pb.ADVSignedDeviceIdentityHMAC.FromString(signed_by_phone())
    container.hmac = container.hmac[:length]
    assert refusal_of(success_with(container.SerializeToString())) == (401, "hmac-mismatch")


def test_hosted_container_without_its_prefix_is_refused() -> None:
    container = pb.ADVSignedDeviceIdentityHMAC.FromString(signed_by_phone())
    container.accountType = 1
    assert refusal_of(success_with(sealed(container))) == (401, "hmac-mismatch")


def test_ordinary_container_with_the_hosted_prefix_is_refused() -> None:
    container = pb.ADVSignedDeviceIdentityHMAC.FromString(signed_by_phone())
    node = success_with(sealed(container, prefix=b"\x06\x05"))
    assert refusal_of(node) == (401, "hmac-mismatch")


def test_account_key_of_31_bytes_is_refused() -> None:
    def shorten(inside: pb.ADVSignedDeviceIdentity) -> None:
        inside.accountSignatureKey = inside.accountSignatureKey[:31]

    assert refusal_of(success_with(resigned(shorten))) == (500, "internal-error")


def test_account_signature_of_63_bytes_is_refused() -> None:
    def shorten(inside: pb.ADVSignedDeviceIdentity) -> None:
        inside.accountSignature = inside.accountSignature[:63]

    assert refusal_of(success_with(resigned(shorten))) == (500, "internal-error")


def test_signature_for_another_identity_is_refused() -> None:
    def for_another(inside: pb.ADVSignedDeviceIdentity) -> None:
        message = b"\x06\x00" + inside.details + bytes(32)
        inside.accountSignature = sign(PHONE.private_key, message)

    assert refusal_of(success_with(resigned(for_another))) == (401, "signature-mismatch")


@pytest.mark.parametrize("prefix", [b"", b"\x06\x01", b"\x06\x05"])
def test_signature_with_a_wrong_prefix_is_refused(prefix: bytes) -> None:
    def with_prefix(inside: pb.ADVSignedDeviceIdentity) -> None:
        message = prefix + inside.details + KEYS.identity.public_key
        inside.accountSignature = sign(PHONE.private_key, message)

    assert refusal_of(success_with(resigned(with_prefix))) == (401, "signature-mismatch")


def test_hosted_device_signed_as_an_ordinary_one_is_refused() -> None:
    def as_ordinary(inside: pb.ADVSignedDeviceIdentity) -> None:
        inside.details += b"\x28\x01"
        message = b"\x06\x00" + inside.details + KEYS.identity.public_key
        inside.accountSignature = sign(PHONE.private_key, message)

    assert refusal_of(success_with(resigned(as_ordinary))) == (401, "signature-mismatch")


def test_changed_details_are_refused() -> None:
    def other_key_index(inside: pb.ADVSignedDeviceIdentity) -> None:
        inside.details = inside.details[:-1] + b"\x04"

    assert refusal_of(success_with(resigned(other_key_index))) == (401, "signature-mismatch")


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"\x0a\xff"])
def test_garbage_for_an_identity_is_refused(garbage: bytes) -> None:
    with pytest.raises(PairingError):
        accept_pair_success(success_with(garbage), KEYS)


def test_sealed_garbage_is_refused() -> None:
    container = pb.ADVSignedDeviceIdentityHMAC(details=b"\xff")
    assert refusal_of(success_with(sealed(container))) == (500, "internal-error")


@pytest.mark.parametrize(
    "device",
    [
        {"jid": OWN_PN},
        {"lid": OWN_LID},
        {"jid": OWN_PN, "lid": pn("111222333444555", 12)},
        {"jid": OWN_LID, "lid": OWN_LID},
        {"jid": OWN_PN.bare, "lid": OWN_LID},
        {"jid": OWN_PN, "lid": lid("")},
    ],
    ids=["no lid", "no jid", "lid is a number", "jid is a lid", "jid is a phone", "empty lid"],
)
def test_pairing_without_both_own_addresses_is_refused(device: dict[str, Jid]) -> None:
    children = (Node("device-identity", {}, signed_by_phone()), Node("device", device))
    node = Node("iq", {"id": "Y"}, (Node("pair-success", {}, children),))
    assert refusal_of(node) == (500, "internal-error")


def test_refusal_tells_the_server_why() -> None:
    node = success_with(signed_by_phone())
    reply = sent(pairing_error(node, PairingError(401, "hmac-mismatch")))
    error = parse_iq_error(reply)
    assert error is not None
    assert (reply.text("id"), error.code, error.text) == ("Y", 401, "hmac-mismatch")


def test_stanza_that_cannot_be_answered_is_no_pairing_error() -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        accept_pair_success(Node("iq"), KEYS)
    assert not isinstance(raised.value, PairingError)


# --- the server's and the phone's check of the reply ---


def reply_with(change: Callable[[pb.ADVSignedDeviceIdentity], None], key_index: int = 3) -> Node:
    paired, _ = accept_pair_success(success_with(signed_by_phone()), KEYS)
    signed = pb.ADVSignedDeviceIdentity.FromString(paired.signed_identity)
    signed.ClearField("accountSignatureKey")
    change(signed)
    attrs = {"key-index": str(key_index)}
    element = Node("device-identity", attrs, signed.SerializeToString())
    return sent(Node("iq", {"id": "Y"}, (Node("pair-device-sign", {}, (element,)),)))


def unchanged(_: pb.ADVSignedDeviceIdentity) -> None:
    pass


def with_account_key(signed: pb.ADVSignedDeviceIdentity) -> None:
    signed.accountSignatureKey = PHONE.public_key


def with_another_account_key(signed: pb.ADVSignedDeviceIdentity) -> None:
    signed.accountSignatureKey = KeyPair.generate().public_key


def without_device_signature(signed: pb.ADVSignedDeviceIdentity) -> None:
    signed.ClearField("deviceSignature")


def signed_by_a_stranger(signed: pb.ADVSignedDeviceIdentity) -> None:
    message = b"\x06\x01" + signed.details + KEYS.identity.public_key + PHONE.public_key
    signed.deviceSignature = sign(KeyPair.generate().private_key, message)


def of_another_account(signed: pb.ADVSignedDeviceIdentity) -> None:
    message = b"\x06\x00" + signed.details + KEYS.identity.public_key
    signed.accountSignature = sign(KeyPair.generate().private_key, message)


@pytest.mark.parametrize(
    "change",
    [with_another_account_key, without_device_signature, signed_by_a_stranger, of_another_account],
)
def test_server_refuses_a_reply_with_a_broken_proof(
    change: Callable[[pb.ADVSignedDeviceIdentity], None],
) -> None:
    with pytest.raises(RemoteProtocolError):
        check_device_signature(reply_with(change), PHONE.public_key, KEYS.identity.public_key)


def test_server_refuses_a_reply_with_another_key_index() -> None:
    reply = reply_with(unchanged, key_index=4)
    with pytest.raises(RemoteProtocolError):
        check_device_signature(reply, PHONE.public_key, KEYS.identity.public_key)


@pytest.mark.parametrize("change", [unchanged, with_account_key])
def test_server_takes_a_true_reply_with_and_without_the_account_key(
    change: Callable[[pb.ADVSignedDeviceIdentity], None],
) -> None:
    full = check_device_signature(reply_with(change), PHONE.public_key, KEYS.identity.public_key)
    assert pb.ADVSignedDeviceIdentity.FromString(full).accountSignatureKey == PHONE.public_key

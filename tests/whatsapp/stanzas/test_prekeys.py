from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey, SignedPreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import prekeys
from sitpayd.whatsapp.stanzas.iq import result
from sitpayd.whatsapp.stanzas.prekeys import BundleRefused, Upload

from .wire import OWN_PN, PEER_LID, PEER_PN, sent

KEYS = DeviceKeys.generate()
PREKEYS = [PreKey(key_id, KeyPair.generate()) for key_id in (1, 2, 0xFFFFFF)]
DEVICE = PEER_LID.with_device(3)


def bundle_of(keys: DeviceKeys, prekey: PreKey | None = None) -> PreKeyBundle:
    return PreKeyBundle(
        registration_id=keys.registration_id,
        identity=keys.identity.public_key,
        signed_prekey_id=keys.signed_prekey.key_id,
        signed_prekey=keys.signed_prekey.key_pair.public_key,
        signature=keys.signed_prekey.signature,
        prekey_id=prekey.key_id if prekey else None,
        prekey=prekey.key_pair.public_key if prekey else None,
    )


def stored() -> Upload:
    return prekeys.parse_upload(sent(prekeys.upload("5", KEYS, PREKEYS)))


def replaced(node: Node, tag: str, *with_: Node) -> Node:
    """The node with its child of this tag replaced."""
    children = [child for child in node.children if child.tag != tag]
    return Node(node.tag, node.attrs, (*children, *with_))


def test_count_crosses_the_wire() -> None:
    query = sent(prekeys.count_query("5"))
    assert query.text("xmlns") == "encrypt"
    assert prekeys.parse_count(sent(prekeys.count_answer(query, 7))) == 7


@pytest.mark.parametrize("children", [(), (Node("count"),), (Node("count", {"value": "x"}),)])
def test_answer_without_a_count_is_refused(children: tuple[Node, ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        prekeys.parse_count(Node("iq", {}, children))


def test_server_reads_the_uploaded_keys() -> None:
    upload = stored()
    assert upload.registration_id == KEYS.registration_id
    assert upload.identity == KEYS.identity.public_key
    assert upload.signed_prekey_id == KEYS.signed_prekey.key_id
    assert upload.prekeys == tuple((key.key_id, key.key_pair.public_key) for key in PREKEYS)
    assert upload.signature_is_valid()


def test_upload_has_the_lengths_of_the_wire() -> None:
    node = sent(prekeys.upload("5", KEYS, PREKEYS))
    key = node.required("list").children[0]
    lengths = {
        "registration": len(node.required("registration").data),
        "type": len(node.required("type").data),
        "identity": len(node.required("identity").data),
        "id": len(key.required("id").data),
        "value": len(key.required("value").data),
        "signature": len(node.required("skey").required("signature").data),
    }
    assert lengths == {
        "registration": 4,
        "type": 1,
        "identity": 32,
        "id": 3,
        "value": 32,
        "signature": 64,
    }


def test_upload_signed_by_another_identity_does_not_verify() -> None:
    other = SignedPreKey.generate(1, KeyPair.generate())
    keys = DeviceKeys(KEYS.noise, KEYS.identity, other, 5, KEYS.adv_secret)
    assert not prekeys.parse_upload(prekeys.upload("5", keys, ())).signature_is_valid()


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("registration", b"\0\0\1"),
        ("identity", bytes(31)),
        ("identity", b"\x06" + bytes(32)),
        ("type", b"\x06"),
    ],
)
def test_upload_with_a_bad_part_is_refused(tag: str, value: bytes) -> None:
    node = replaced(prekeys.upload("5", KEYS, PREKEYS), tag, Node(tag, {}, value))
    with pytest.raises(RemoteProtocolError):
        prekeys.parse_upload(node)


@pytest.mark.parametrize("tag", ["registration", "identity", "list", "skey"])
def test_upload_without_a_part_is_refused(tag: str) -> None:
    with pytest.raises(RemoteProtocolError):
        prekeys.parse_upload(replaced(prekeys.upload("5", KEYS, PREKEYS), tag))


def test_key_with_its_type_byte_is_taken() -> None:
    typed = Node("identity", {}, b"\x05" + KEYS.identity.public_key)
    node = replaced(prekeys.upload("5", KEYS, PREKEYS), "identity", typed)
    assert prekeys.parse_upload(node).identity == KEYS.identity.public_key


def test_digest_tells_which_keys_the_server_holds() -> None:
    query = sent(prekeys.digest_query("5"))
    digest = prekeys.parse_digest(sent(prekeys.digest_answer(query, stored())))
    assert digest is not None
    assert digest.registration_id == KEYS.registration_id
    assert digest.identity == KEYS.identity.public_key
    assert digest.signed_prekey_id == KEYS.signed_prekey.key_id
    assert digest.prekey_ids == (1, 2, 0xFFFFFF)


def test_answer_without_digest_means_no_keys() -> None:
    assert prekeys.parse_digest(sent(result(prekeys.digest_query("5")))) is None


def test_digest_with_a_short_id_is_refused() -> None:
    answer = prekeys.digest_answer(prekeys.digest_query("5"), stored())
    bad = Node("list", {}, (Node("id", {}, b"\1"),))
    digest = replaced(answer.required("digest"), "list", bad)
    with pytest.raises(RemoteProtocolError):
        prekeys.parse_digest(Node("iq", {}, (digest,)))


def test_bundles_are_asked_for_by_address() -> None:
    query = sent(prekeys.bundles_query("5", [DEVICE, PEER_PN], reason="identity"))
    assert prekeys.parse_bundles_query(query) == (DEVICE, PEER_PN)
    assert [user.text("reason") for user in query.required("key").children] == ["identity"] * 2


def test_bundles_without_reason_give_none() -> None:
    user = prekeys.bundles_query("5", [DEVICE]).required("key").children[0]
    assert "reason" not in user.attrs


def test_bundles_cross_the_wire_beside_refusals() -> None:
    asked: dict[Jid, PreKeyBundle | BundleRefused] = {
        DEVICE: bundle_of(KEYS, PREKEYS[0]),
        PEER_LID: bundle_of(KEYS),
        OWN_PN: BundleRefused(404, "not-found"),
    }
    query = sent(prekeys.bundles_query("5", asked))
    answer = sent(prekeys.bundles_answer(query, asked, {DEVICE: b"signed"}))
    assert prekeys.parse_bundles(answer) == asked


def test_identity_of_a_companion_stands_beside_its_keys() -> None:
    query = prekeys.bundles_query("5", [DEVICE])
    answer = prekeys.bundles_answer(query, {DEVICE: bundle_of(KEYS)}, {DEVICE: b"signed"})
    assert answer.required("list").children[0].data_of("device-identity") == b"signed"


@pytest.mark.parametrize("tag", ["registration", "identity", "skey"])
def test_unreadable_bundle_does_not_fail_the_others(tag: str) -> None:
    query = prekeys.bundles_query("5", [DEVICE, PEER_LID])
    answer = prekeys.bundles_answer(
        query, {DEVICE: bundle_of(KEYS), PEER_LID: bundle_of(KEYS, PREKEYS[0])}
    )
    first, second = answer.required("list").children
    damaged = Node("iq", {}, (Node("list", {}, (replaced(first, tag), second)),))
    bundles = prekeys.parse_bundles(damaged)
    refused = bundles[DEVICE]
    assert isinstance(refused, BundleRefused)
    assert refused.code == prekeys.MALFORMED
    assert bundles[PEER_LID] == bundle_of(KEYS, PREKEYS[0])


def test_refusal_without_code_is_still_a_refusal() -> None:
    user = Node("user", {"jid": DEVICE}, (Node("error"),))
    answer = Node("iq", {}, (Node("list", {}, (user,)),))
    assert prekeys.parse_bundles(answer) == {DEVICE: BundleRefused(prekeys.MALFORMED)}


def test_bundle_that_names_nobody_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        prekeys.parse_bundles(Node("iq", {}, (Node("list", {}, (Node("user"),)),)))

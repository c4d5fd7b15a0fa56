"""Whatever a peer sends, a parser gives a value or a RemoteProtocolError, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import GROUP_SERVER, Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Attr, Content, Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import (
    failure,
    ib,
    iq,
    login,
    message,
    notification,
    pairing,
    pairing_code,
    prekeys,
    props,
    receipt,
    usync,
)
from tests.support.strategies import jids, nodes

from .wire import OWN_LID, OWN_PN, PEER_LID, PEER_PN

KEYS = DeviceKeys.generate()
PHONE = KeyPair.generate()
GROUP = Jid("120363000000000000", GROUP_SERVER)
PREKEY = PreKey(7, KeyPair.generate())

PAIR_SUCCESS = pairing.pair_success(
    "Y",
    pairing.make_signed_identity(
        PHONE, KEYS.identity.public_key, KEYS.adv_secret, key_index=3, timestamp=7, raw_id=1
    ),
    jid=OWN_PN,
    lid=OWN_LID,
    platform="android",
    business_name="Shop",
    t=7,
)
UPLOAD = prekeys.upload("5", KEYS, [PREKEY])
BUNDLES_QUERY = prekeys.bundles_query("5", [PEER_LID, OWN_LID])
BUNDLE = PreKeyBundle(
    registration_id=7,
    identity=KEYS.identity.public_key,
    signed_prekey_id=1,
    signed_prekey=KEYS.signed_prekey.key_pair.public_key,
    signature=KEYS.signed_prekey.signature,
    prekey_id=7,
    prekey=PREKEY.key_pair.public_key,
)
DEVICES_QUERY = usync.devices_query("5", [PEER_PN], sid="6")
CONTACT_QUERY = usync.contact_query("5", [PEER_PN.user], sid="6")
DEVICES = (usync.Device(0), usync.Device(4, 1), usync.Device(99, 2, is_hosted=True))
OUTGOING = message.outgoing(
    "3EB0",
    PEER_LID,
    [message.Participant(PEER_LID, "pkmsg", b"x")],
    peer_recipient_pn=PEER_PN,
    device_identity=b"signed",
)
INCOMING = Node(
    "message",
    {"id": "3EB0", "from": GROUP, "participant": PEER_LID, "participant_pn": PEER_PN, "t": "7"},
    (Node("enc", {"v": "2", "type": "skmsg", "count": "1"}, b"x"),),
)
CHANGED = notification.DevicesChanged(
    PEER_PN, PEER_LID, "add", (notification.ListedDevice(PEER_PN, PEER_LID, 1),), "2:x"
)

OFFER = pairing_code.offer_of("ABCD1234", PHONE)
HELLO = pairing_code.companion_hello("5", PEER_PN.user, OFFER, b"n" * 32, "Chrome (Mac OS)")
PRIMARY_HELLO = pairing_code.PrimaryHello(b"ref", OFFER.wrapped, PHONE.public_key)
FINISH = pairing_code.CompanionFinish(b"b" * 156, KEYS.identity.public_key, b"ref")

GOOD: list[Node] = [
    iq.error(iq.ping("5"), 429, "rate"),
    iq.logout("5", OWN_PN),
    iq.clean_dirty("5", "groups", 7),
    iq.offline_batch(7),
    props.answer(props.query("5", props.Props("h")), "h", {"10518": "true"}),
    login.success(OWN_LID, 7),
    failure.failure(failure.ConnectFailure(402, "text", 60, 101, "frc")),
    failure.stream_error(failure.StreamError(401, "replaced", "ack", "3EB0")),
    pairing.pair_device("X", ["2@A", "2@B"]),
    PAIR_SUCCESS,
    pairing.accept_pair_success(PAIR_SUCCESS, KEYS)[1],
    HELLO,
    pairing_code.ref_answer(HELLO, b"ref"),
    pairing_code.primary_hello("5", PRIMARY_HELLO, t=7),
    pairing_code.companion_finish("5", PEER_PN.user, FINISH),
    prekeys.count_answer(prekeys.count_query("5"), 7),
    UPLOAD,
    prekeys.digest_answer(prekeys.digest_query("5"), prekeys.parse_upload(UPLOAD)),
    BUNDLES_QUERY,
    prekeys.bundles_answer(
        BUNDLES_QUERY, {PEER_LID: BUNDLE, OWN_LID: prekeys.BundleRefused(404)}, {PEER_LID: b"x"}
    ),
    DEVICES_QUERY,
    usync.answer(DEVICES_QUERY, [usync.UserAnswer(PEER_PN, lid=PEER_LID, devices=DEVICES)]),
    CONTACT_QUERY,
    usync.answer(CONTACT_QUERY, [usync.UserAnswer(PEER_LID, pn=PEER_PN, contact=("1", True))]),
    OUTGOING,
    INCOMING,
    receipt.message_ack(OUTGOING, 7, error=463, phash="2:x"),
    receipt.read(["A", "B"], GROUP, t=7, participant=PEER_LID),
    receipt.retry_receipt(INCOMING, 2, KEYS, prekey=PREKEY, device_identity=b"x", error=1),
    receipt.ack(INCOMING, OWN_PN, error=500),
    *(
        notification.notification("1", value, t=7, from_=OWN_PN)
        for value in (
            notification.PreKeyCount(3),
            notification.IdentityChanged(PEER_PN, PEER_LID),
            CHANGED,
            notification.OwnDevices((OWN_PN,), "2:x"),
            notification.PrivacyToken(PEER_PN, PEER_LID, b"x", 7),
            notification.AppStateChanged((("regular", 7),)),
        )
    ),
    ib.ib(ib.OfflinePreview(1), ib.Dirty("groups", 7), ib.EdgeRouting(b"x")),
]

PARSERS: list[Callable[[Node], object]] = [
    iq.parse_iq_error,
    iq.parse_logout,
    iq.is_ping,
    iq.result,
    iq.pong,
    iq.parse_clean,
    iq.parse_offline_batch,
    props.parse_query,
    lambda node: props.parse_props(node, props.Props()),
    login.parse_success,
    pairing.parse_pair_device,
    lambda node: pairing.accept_pair_success(node, KEYS),
    lambda node: pairing.check_device_signature(node, PHONE.public_key, KEYS.identity.public_key),
    pairing_code.parse_companion,
    pairing_code.parse_ref,
    pairing_code.parse_primary_hello,
    lambda node: pairing_code.ref_answer(node, b"ref"),
    prekeys.parse_count,
    prekeys.parse_upload,
    prekeys.parse_digest,
    prekeys.parse_bundles_query,
    prekeys.parse_bundles,
    usync.parse_devices,
    usync.parse_contacts,
    usync.parse_query,
    lambda node: usync.answer(node, ()),
    message.parse_outgoing,
    lambda node: message.parse_incoming(node, OWN_PN, OWN_LID),
    message.parse_message_ack,
    receipt.parse_receipt,
    receipt.parse_ack,
    lambda node: receipt.delivery(node, active=True, from_me=False),
    lambda node: receipt.retry_receipt(node, 1, KEYS),
    lambda node: receipt.ack(node, OWN_PN),
    lambda node: receipt.message_ack(node, 7),
    receipt.receipt_ack,
    lambda node: receipt.forward(node, from_=OWN_PN, t=7),
    notification.parse_notification,
    ib.parse_ib,
]


def attr_values() -> st.SearchStrategy[Attr]:
    odd = st.sampled_from(["", "@", "a@b@c", "s.whatsapp.net", "-1", "1" * 21, "x:y@lid", "retry"])
    return st.one_of(odd, jids(), st.text(max_size=8))


def contents() -> st.SearchStrategy[Content]:
    return st.one_of(
        st.none(), st.just(()), st.binary(max_size=70), st.sampled_from(["", "\u00e9", "5@lid"])
    )


@st.composite
def mutated(draw: st.DrawFn, node: Node) -> Node:
    """The node with one thing in it, at any depth, missing, doubled or changed."""
    if draw(st.booleans()) and node.children:
        at = draw(st.integers(0, len(node.children) - 1))
        before, after = node.children[:at], node.children[at + 1 :]
        child = node.children[at]
        kept = {"drop": (), "double": (child, child), "change": (draw(mutated(child)),)}
        how = draw(st.sampled_from(sorted(kept)))
        return replace(node, content=before + kept[how] + after)
    attrs = dict(node.attrs)
    names = sorted(attrs)
    kind = draw(st.sampled_from(["drop", "set", "content"] if names else ["content"]))
    if kind == "content":
        return replace(node, content=draw(contents()))
    name = draw(st.sampled_from(names))
    if kind == "drop":
        del attrs[name]
    else:
        attrs[name] = draw(attr_values())
    return replace(node, attrs=attrs)


def parse_everything(node: Node) -> None:
    failure.parse_failure(node)
    failure.parse_stream_error(node)
    for parse in PARSERS:
        try:
            parse(node)
        except RemoteProtocolError:
            continue


@settings(max_examples=20)
@pytest.mark.parametrize("good", GOOD, ids=lambda node: node.tag)
@given(data=st.data())
def test_mutated_stanza_gives_a_value_or_a_remote_error(good: Node, data: st.DataObject) -> None:
    parse_everything(data.draw(mutated(data.draw(mutated(good)))))


@settings(max_examples=60)
@given(nodes())
def test_any_stanza_gives_a_value_or_a_remote_error(node: Node) -> None:
    parse_everything(node)


@settings(max_examples=100)
@given(st.binary(max_size=80), st.integers(0, 300))
def test_damaged_client_payload_gives_a_value_or_a_remote_error(patch: bytes, at: int) -> None:
    good = login.registration_payload(KEYS, login.ClientInfo())
    try:
        login.parse_client_payload(good[:at] + patch + good[at + len(patch) :])
    except RemoteProtocolError:
        return


@settings(max_examples=100)
@given(st.text(max_size=40), st.integers(0, 160))
def test_damaged_qr_text_gives_a_value_or_a_remote_error(patch: str, at: int) -> None:
    good = pairing.qr_text("2@REF", KEYS)
    try:
        pairing.parse_qr_text(good[:at] + patch + good[at + len(patch) :])
    except RemoteProtocolError:
        return

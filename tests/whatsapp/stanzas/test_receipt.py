from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import GROUP_SERVER, Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.receipt import Ack, Receipt, parse_receipt

from .wire import OWN_LID, OWN_PN, PEER_LID, sent

KEYS = DeviceKeys.generate()
PREKEY = PreKey(900, KeyPair.generate())
DEVICE = PEER_LID.with_device(4)
GROUP = Jid("120363000000000000", GROUP_SERVER)
DIRECT = Node("message", {"id": "3EB0", "from": DEVICE, "type": "text", "t": "7"})
IN_GROUP = Node("message", {"id": "3EB0", "from": GROUP, "participant": DEVICE, "type": "text"})
OWN_COPY = Node(
    "message", {"id": "3EB0", "from": OWN_LID.bare, "recipient": PEER_LID, "type": "text"}
)
PEER = Node("message", {"id": "3EB0", "from": OWN_PN.bare, "category": "peer", "t": "7"})


# --- delivery ---


def test_receipt_while_online_has_no_type() -> None:
    node = sent(receipt.delivery(DIRECT, active=True, from_me=False))
    assert node.attrs == {"id": "3EB0", "to": DEVICE}


def test_receipt_while_offline_is_inactive() -> None:
    node = sent(receipt.delivery(DIRECT, active=False, from_me=False))
    assert node.attrs == {"id": "3EB0", "to": DEVICE, "type": "inactive"}


def test_receipt_in_a_group_names_the_author() -> None:
    node = sent(receipt.delivery(IN_GROUP, active=True, from_me=False))
    assert node.attrs == {"id": "3EB0", "to": GROUP, "participant": DEVICE}


@pytest.mark.parametrize("active", [True, False])
def test_receipt_for_our_own_message_is_of_a_sender(active: bool) -> None:
    node = sent(receipt.delivery(OWN_COPY, active=active, from_me=True))
    assert node.attrs == {
        "id": "3EB0",
        "to": OWN_LID.bare,
        "type": "sender",
        "recipient": PEER_LID,
    }


@pytest.mark.parametrize("active", [True, False])
def test_receipt_for_a_peer_message_says_so(active: bool) -> None:
    node = sent(receipt.delivery(PEER, active=active, from_me=True))
    assert node.attrs == {"id": "3EB0", "to": OWN_PN.bare, "type": "peer_msg"}


def test_history_is_confirmed_to_our_own_number() -> None:
    node = sent(receipt.history_sync("3EB0", OWN_PN))
    assert node.attrs == {"id": "3EB0", "to": OWN_PN.bare, "type": "hist_sync"}


# --- read ---


def test_one_message_is_read_without_list() -> None:
    node = sent(receipt.read(["A"], PEER_LID, t=7))
    assert node.attrs == {"id": "A", "to": PEER_LID, "type": "read", "t": "7"}
    assert node.content is None


def test_several_messages_are_read_at_once() -> None:
    parsed = parse_receipt(sent(receipt.read(["A", "B", "C"], GROUP, t=7, participant=PEER_LID)))
    assert parsed.ids == ("A", "B", "C")
    assert (parsed.to, parsed.participant, parsed.type, parsed.t) == (GROUP, PEER_LID, "read", 7)


def test_reading_nothing_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        receipt.read([], PEER_LID, t=7)


# --- retry ---


def test_first_retry_asks_without_keys() -> None:
    parsed = parse_receipt(sent(receipt.retry_receipt(DIRECT, 1, KEYS, error=7)))
    assert parsed.retry is not None
    assert (parsed.retry.count, parsed.retry.t, parsed.retry.error) == (1, 7, 7)
    assert parsed.retry.registration_id == KEYS.registration_id
    assert parsed.retry.bundle is None


def test_retry_is_addressed_as_the_message_came() -> None:
    node = sent(receipt.retry_receipt(IN_GROUP, 1, KEYS))
    assert node.attrs == {"id": "3EB0", "to": GROUP, "type": "retry", "participant": DEVICE}


def test_retry_of_a_peer_message_keeps_its_category() -> None:
    assert sent(receipt.retry_receipt(PEER, 1, KEYS)).text("category") == "peer"


def test_retry_repeats_what_it_is_about() -> None:
    retry = sent(receipt.retry_receipt(DIRECT, 2, KEYS)).required("retry")
    assert retry.attrs == {"count": "2", "id": "3EB0", "t": "7", "v": "1"}


def test_retry_with_keys_brings_a_bundle() -> None:
    node = receipt.retry_receipt(DIRECT, 2, KEYS, prekey=PREKEY, device_identity=b"signed")
    parsed = parse_receipt(sent(node))
    assert parsed.retry is not None
    assert parsed.retry.device_identity == b"signed"
    assert parsed.retry.bundle == PreKeyBundle(
        registration_id=KEYS.registration_id,
        identity=KEYS.identity.public_key,
        signed_prekey_id=KEYS.signed_prekey.key_id,
        signed_prekey=KEYS.signed_prekey.key_pair.public_key,
        signature=KEYS.signed_prekey.signature,
        prekey_id=900,
        prekey=PREKEY.key_pair.public_key,
    )


def test_keys_without_identity_are_taken() -> None:
    parsed = parse_receipt(sent(receipt.retry_receipt(DIRECT, 2, KEYS, prekey=PREKEY)))
    assert parsed.retry is not None
    assert parsed.retry.bundle is not None
    assert parsed.retry.device_identity is None


def test_retry_with_keys_but_without_registration_is_refused() -> None:
    node = receipt.retry_receipt(DIRECT, 2, KEYS, prekey=PREKEY)
    children = tuple(child for child in node.children if child.tag != "registration")
    with pytest.raises(RemoteProtocolError):
        parse_receipt(Node("receipt", node.attrs, children))


def test_retry_without_registration_is_taken() -> None:
    node = Node("receipt", {"id": "3EB0", "type": "retry"}, (Node("retry"),))
    parsed = parse_receipt(node)
    assert parsed.retry is not None
    assert (parsed.retry.count, parsed.retry.registration_id) == (1, None)


def test_retry_without_its_element_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_receipt(Node("receipt", {"id": "3EB0", "type": "retry"}))


# --- reading receipts ---


def test_delivered_receipt_reads_plainly() -> None:
    attrs: dict[str, Attr] = {"id": "3EB0", "from": DEVICE, "t": "7", "offline": "1"}
    assert parse_receipt(sent(Node("receipt", attrs))) == Receipt(
        ids=("3EB0",),
        from_=DEVICE,
        to=None,
        type=None,
        participant=None,
        recipient=None,
        t=7,
        offline=True,
        retry=None,
    )


def test_id_named_twice_counts_once() -> None:
    listed = Node("list", {}, (Node("item", {"id": "A"}), Node("item", {"id": "B"})))
    assert parse_receipt(Node("receipt", {"id": "A"}, (listed,))).ids == ("A", "B")


@pytest.mark.parametrize(
    "node",
    [
        Node("receipt"),
        Node("receipt", {"id": "A", "from": "a@b@c"}),
        Node("receipt", {"id": "A", "t": "soon"}),
        Node("receipt", {"id": "A"}, (Node("list", {}, (Node("item"),)),)),
    ],
    ids=["no id", "bad address", "bad time", "item without id"],
)
def test_malformed_receipt_is_refused(node: Node) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_receipt(node)


# --- what the server hands on ---


def test_server_hands_a_receipt_to_the_author() -> None:
    taken = sent(receipt.read(["A", "B"], PEER_LID, t=5))
    parsed = parse_receipt(sent(receipt.forward(taken, from_=OWN_LID, t=7, offline=2)))
    assert parsed.ids == ("A", "B")
    assert (parsed.from_, parsed.to, parsed.type, parsed.t) == (OWN_LID, None, "read", 7)
    assert parsed.offline


def test_server_hands_on_the_keys_of_a_retry() -> None:
    taken = sent(receipt.retry_receipt(DIRECT, 2, KEYS, prekey=PREKEY))
    parsed = parse_receipt(sent(receipt.forward(taken, from_=OWN_LID, t=7)))
    assert parsed.retry is not None
    assert parsed.retry.bundle is not None


# --- acks ---


def test_ack_of_a_message_names_our_own_device() -> None:
    node = sent(receipt.ack(DIRECT, OWN_PN))
    assert node.attrs == {
        "id": "3EB0",
        "to": DEVICE,
        "class": "message",
        "type": "text",
        "from": OWN_PN,
    }


@pytest.mark.parametrize("tag", ["receipt", "notification", "call"])
def test_ack_of_anything_else_does_not(tag: str) -> None:
    attrs: dict[str, Attr] = {"id": "1", "from": GROUP, "participant": DEVICE, "type": "devices"}
    assert sent(receipt.ack(Node(tag, attrs), OWN_PN)).attrs == {
        "id": "1",
        "to": GROUP,
        "class": tag,
        "participant": DEVICE,
        "type": "devices",
    }


def test_refusal_tells_its_code() -> None:
    assert receipt.parse_ack(sent(receipt.ack(OWN_COPY, OWN_PN, error=500))) == Ack(
        id="3EB0", stanza="message", to=OWN_LID.bare, participant=None, type="text", error=500
    )


def test_sender_given_as_a_bare_server_token_is_answered_as_an_address() -> None:
    node = receipt.ack(Node("notification", {"id": "1", "from": "s.whatsapp.net"}), OWN_PN)
    assert node.attrs["to"] == Jid("", "s.whatsapp.net")


def test_server_acknowledges_a_receipt() -> None:
    node = sent(receipt.receipt_ack(sent(receipt.read(["A"], PEER_LID, t=7))))
    assert node.attrs == {"class": "receipt", "id": "A", "from": PEER_LID, "type": "read"}


def test_receipt_without_id_is_not_acknowledged() -> None:
    with pytest.raises(RemoteProtocolError):
        receipt.receipt_ack(Node("receipt", {"to": PEER_LID}))


def test_message_without_id_is_not_acknowledged() -> None:
    with pytest.raises(RemoteProtocolError):
        receipt.message_ack(Node("message", {"to": PEER_LID}), 7)

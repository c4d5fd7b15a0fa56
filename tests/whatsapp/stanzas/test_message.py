from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import (
    GROUP_SERVER,
    HOSTED_LID_SERVER,
    HOSTED_SERVER,
    NEWSLETTER_SERVER,
    Jid,
    lid,
    pn,
)
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas.message import (
    Enc,
    IncomingMessage,
    LidMapping,
    MessageAck,
    OutgoingMessage,
    Participant,
    deliver,
    outgoing,
    parse_incoming,
    parse_message_ack,
    parse_outgoing,
    peer,
    phash,
    resend,
    unhosted,
)
from sitpayd.whatsapp.stanzas.receipt import message_ack

from .wire import OWN_LID, OWN_PN, PEER_LID, PEER_PN, sent, vector

GROUP = Jid("120363000000000000", GROUP_SERVER)
STATUS = Jid.parse("status@broadcast")
CHANNEL = Jid("123", NEWSLETTER_SERVER)
PHONE = PEER_LID.with_device(0)
COMPANION = PEER_LID.with_device(4)
FANOUT = (
    Participant(PHONE, "pkmsg", b"one"),
    Participant(COMPANION, "msg", b"two"),
    Participant(OWN_LID.with_device(0), "msg", b"three"),
)


def incoming(*children: Node, **attrs: Attr) -> IncomingMessage:
    values: dict[str, Attr] = {"id": "3EB0", "t": "1760000000", "type": "text", **attrs}
    if "from_" in values:
        values["from"] = values.pop("from_")
    return parse_incoming(sent(Node("message", values, children)), OWN_PN, OWN_LID)


def enc(kind: str, body: bytes = b"x") -> Node:
    return Node("enc", {"v": "2", "type": kind}, body)


# --- phash ---


def test_phash_is_the_recorded_one() -> None:
    case = vector("phash")
    devices = [pn("15557654321"), pn("15551234567", 5), pn("15551234567")]
    assert phash(devices) == case["correct"]
    assert phash([]) == case["empty"]


def test_phash_does_not_depend_on_order() -> None:
    devices = [OWN_LID, PEER_LID, COMPANION]
    assert phash(devices) == phash(reversed(devices))


# --- outgoing ---


def test_fanout_crosses_the_wire() -> None:
    node = outgoing("3EB0", PEER_LID, FANOUT, peer_recipient_pn=PEER_PN, device_identity=b"signed")
    assert parse_outgoing(sent(node)) == OutgoingMessage(
        id="3EB0",
        to=PEER_LID,
        type="text",
        category=None,
        participants=(
            (PHONE, Enc("pkmsg", 2, b"one")),
            (COMPANION, Enc("msg", 2, b"two")),
            (OWN_LID.with_device(0), Enc("msg", 2, b"three")),
        ),
        group_body=None,
        peer_recipient_pn=PEER_PN,
        recipient=None,
        phash=None,
        device_identity=b"signed",
    )


def test_identity_stands_only_beside_a_pkmsg() -> None:
    node = outgoing("3EB0", PEER_LID, FANOUT[1:], device_identity=b"signed")
    assert node.child("device-identity") is None


def test_pkmsg_without_identity_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        outgoing("3EB0", PEER_LID, FANOUT)


@pytest.mark.parametrize("to", [PEER_PN, PEER_LID])
def test_mixed_addresses_are_our_own_mistake(to: Jid) -> None:
    mixed = (Participant(PEER_LID, "msg", b""), Participant(PEER_PN, "msg", b""))
    with pytest.raises(LocalProtocolError):
        outgoing("3EB0", to, mixed)


def test_message_for_nobody_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        outgoing("3EB0", PEER_LID, ())


def test_number_of_the_recipient_may_be_unknown() -> None:
    assert "peer_recipient_pn" not in outgoing("3EB0", PEER_LID, FANOUT[1:]).attrs


def test_peer_message_goes_to_one_device_without_list() -> None:
    node = sent(peer("3EB0", Participant(OWN_PN, "pkmsg", b"x"), device_identity=b"signed"))
    parsed = parse_outgoing(node)
    assert (parsed.to, parsed.category) == (OWN_PN, "peer")
    assert parsed.participants == ((OWN_PN, Enc("pkmsg", 2, b"x")),)
    assert node.required("meta").text("appdata") == "default"
    assert node.child("participants") is None


def test_resend_goes_to_the_one_device_that_asked() -> None:
    node = sent(resend("3EB0", Participant(COMPANION, "msg", b"x"), count=2, t=7))
    assert node.text("device_fanout") == "false"
    assert node.number("t") == 7
    assert parse_outgoing(node).participants == ((COMPANION, Enc("msg", 2, b"x", count=2)),)


def test_resend_with_new_keys_carries_the_identity() -> None:
    asked = Participant(COMPANION, "pkmsg", b"x")
    node = resend("3EB0", asked, count=2, t=7, device_identity=b"signed")
    assert parse_outgoing(node).device_identity == b"signed"


def test_resend_with_new_keys_needs_the_identity() -> None:
    with pytest.raises(LocalProtocolError):
        resend("3EB0", Participant(COMPANION, "pkmsg", b"x"), count=2, t=7)


def test_server_reads_the_body_for_all_members_of_a_group() -> None:
    node = Node("message", {"id": "3EB0", "to": GROUP}, (enc("skmsg", b"all"),))
    parsed = parse_outgoing(sent(node))
    assert (parsed.group_body, parsed.participants) == (Enc("skmsg", 2, b"all"), ())


@pytest.mark.parametrize(
    "node",
    [
        Node("message", {"id": "3EB0"}, (enc("msg"),)),
        Node("message", {"to": PEER_LID}, (enc("msg"),)),
        Node("message", {"id": "3EB0", "to": PEER_LID}),
        Node("message", {"id": "3EB0", "to": PEER_LID}, (Node("enc", {}, b"x"),)),
        Node("message", {"id": "3EB0", "to": PEER_LID}, (Node("enc", {"type": "msg"}, ()),)),
    ],
    ids=["no to", "no id", "no enc", "no type", "no bytes"],
)
def test_server_refuses_a_malformed_message(node: Node) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_outgoing(node)


# --- what the server hands on ---


def taken() -> OutgoingMessage:
    return parse_outgoing(outgoing("3EB0", OWN_LID.bare, OWN_FANOUT, device_identity=b"signed"))


OWN_FANOUT = (Participant(OWN_LID, "pkmsg", b"one"),)


def test_delivered_message_reads_as_it_was_sent() -> None:
    node = deliver(
        taken(),
        [Enc("pkmsg", 2, b"one")],
        from_=COMPANION,
        t=1_760_000_000,
        sender_alt=PEER_PN,
        push_name="Ada",
        offline=3,
    )
    assert parse_incoming(sent(node), OWN_PN, OWN_LID) == IncomingMessage(
        id="3EB0",
        chat=PEER_LID,
        sender=COMPANION,
        from_me=False,
        is_group=False,
        category=None,
        type="text",
        t=1_760_000_000,
        offline=True,
        push_name="Ada",
        mapping=LidMapping(PEER_PN, PEER_LID),
        encs=(Enc("pkmsg", 2, b"one"),),
        device_identity=b"signed",
        unavailable=None,
    )


def test_what_a_client_says_about_a_message_reaches_every_device() -> None:
    hints = {"type": "msg", "v": "2", "mediatype": "image", "decrypt-fail": "hide"}
    meta = Node("meta", {"polltype": "vote"})
    node = Node(
        "message",
        {"id": "3EB0", "to": OWN_LID, "edit": "1"},
        (Node("enc", hints, b"one"), meta),
    )
    taken = parse_outgoing(sent(node))
    handed = deliver(taken, [taken.participants[0][1]], from_=COMPANION, t=1)
    assert handed.text("edit") == "1"
    assert handed.required("enc").attrs == hints
    assert handed.child("meta") == meta


def test_identity_is_handed_only_to_who_gets_a_pkmsg() -> None:
    node = deliver(taken(), [Enc("msg", 2, b"one")], from_=COMPANION, t=1)
    assert node.child("device-identity") is None


def test_own_copy_tells_the_other_address_of_the_chat() -> None:
    node = deliver(
        taken(),
        [Enc("msg", 2, b"one")],
        from_=OWN_LID.with_device(0),
        t=1,
        recipient=PEER_LID,
        sender_alt=OWN_PN.bare,
        recipient_alt=PEER_PN,
    )
    parsed = parse_incoming(sent(node), OWN_PN, OWN_LID)
    assert (parsed.chat, parsed.sender, parsed.from_me) == (PEER_LID, OWN_LID.with_device(0), True)
    assert parsed.mapping == LidMapping(PEER_PN, PEER_LID)


def test_peer_message_tells_our_own_other_address() -> None:
    asked = parse_outgoing(peer("3EB0", Participant(OWN_PN, "msg", b"x")))
    node = deliver(asked, [Enc("msg", 2, b"x")], from_=OWN_PN.bare, t=1, recipient_alt=OWN_LID.bare)
    parsed = parse_incoming(sent(node), OWN_PN, OWN_LID)
    assert (parsed.category, parsed.from_me) == ("peer", True)
    assert parsed.mapping == LidMapping(OWN_PN.bare, OWN_LID.bare)


def test_group_message_names_its_author() -> None:
    node = deliver(
        replace(taken(), to=GROUP),
        [Enc("skmsg", 2, b"x")],
        from_=GROUP,
        t=1,
        participant=COMPANION,
        sender_alt=PEER_PN,
    )
    parsed = parse_incoming(sent(node), OWN_PN, OWN_LID)
    assert (parsed.chat, parsed.sender, parsed.is_group) == (GROUP, COMPANION, True)
    assert parsed.mapping == LidMapping(PEER_PN, PEER_LID)


# --- incoming ---


@pytest.mark.parametrize("own", [OWN_LID, OWN_PN, OWN_LID.with_device(3)])
def test_group_message_of_our_own_account_is_from_me(own: Jid) -> None:
    parsed = incoming(from_=GROUP, participant=own)
    assert (parsed.chat, parsed.sender, parsed.from_me) == (GROUP, own, True)


def test_status_is_no_group_but_has_an_author() -> None:
    parsed = incoming(from_=STATUS, participant=PEER_LID)
    assert (parsed.chat, parsed.sender, parsed.is_group) == (STATUS, PEER_LID, False)


def test_message_to_ourselves_has_ourselves_as_chat() -> None:
    parsed = incoming(from_=OWN_LID.with_device(0))
    assert (parsed.chat, parsed.from_me) == (OWN_LID.bare, True)


def test_channel_is_its_own_author() -> None:
    parsed = incoming(from_=CHANNEL)
    assert (parsed.chat, parsed.sender, parsed.from_me) == (CHANNEL, CHANNEL, False)


def test_hosted_sender_is_named_like_an_ordinary_one() -> None:
    parsed = incoming(from_=Jid(PEER_LID.user, HOSTED_LID_SERVER, 99))
    assert (parsed.chat, parsed.sender) == (PEER_LID, PEER_LID.with_device(99))


def test_hosted_number_is_named_like_an_ordinary_one() -> None:
    assert unhosted(Jid(PEER_PN.user, HOSTED_SERVER, 99)) == PEER_PN.with_device(99)


def test_number_of_a_lid_is_learned_without_devices() -> None:
    parsed = incoming(from_=COMPANION, sender_pn=PEER_PN)
    assert parsed.mapping == LidMapping(PEER_PN, PEER_LID)


def test_lid_of_a_number_is_learned_without_devices() -> None:
    parsed = incoming(from_=PEER_PN.with_device(4), sender_lid=PEER_LID)
    assert parsed.mapping == LidMapping(PEER_PN, PEER_LID)


@pytest.mark.parametrize(
    "attrs",
    [
        {"sender_pn": lid("1")},
        {"sender_pn": pn("")},
        {"sender_lid": PEER_LID},
        {"participant_pn": PEER_PN},
        {"peer_recipient_pn": PEER_PN},
        {},
    ],
)
def test_attribute_that_tells_no_mapping_teaches_none(attrs: dict[str, Attr]) -> None:
    assert incoming(from_=COMPANION, **attrs).mapping is None


def test_pairwise_ciphertexts_come_before_the_one_for_the_group() -> None:
    parsed = incoming(
        enc("skmsg"), enc("msg"), enc("new"), enc("pkmsg"), from_=GROUP, participant=PEER_LID
    )
    assert [part.kind for part in parsed.encs] == ["msg", "pkmsg", "skmsg", "new"]


def test_version_and_count_of_a_ciphertext_are_read() -> None:
    node = Node("enc", {"v": "3", "type": "msg", "count": "2"}, b"x")
    assert incoming(node, from_=COMPANION).encs == (Enc("msg", 3, b"x", 2),)


def test_placeholder_tells_its_kind() -> None:
    assert incoming(Node("unavailable", {"type": "view_once"}), from_=PEER_LID).unavailable == (
        "view_once"
    )
    assert incoming(Node("unavailable"), from_=PEER_LID).unavailable == ""


def test_group_message_without_author_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        incoming(from_=GROUP)


def test_message_without_sender_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        incoming()


# --- ack ---


def test_acceptance_crosses_the_wire() -> None:
    node = sent(message_ack(outgoing("3EB0", PEER_LID, FANOUT[1:]), 7))
    assert parse_message_ack(node) == MessageAck("3EB0", 7, None, None)
    assert node.jid("from") == PEER_LID


def test_refusal_crosses_the_wire() -> None:
    node = sent(message_ack(outgoing("3EB0", PEER_LID, FANOUT[1:]), 7, error=463, phash="2:x"))
    assert parse_message_ack(node) == MessageAck("3EB0", 7, 463, "2:x")


@pytest.mark.parametrize("attrs", [{"class": "receipt", "id": "3EB0"}, {"class": "message"}])
def test_other_ack_is_refused(attrs: dict[str, Attr]) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message_ack(Node("ack", attrs))

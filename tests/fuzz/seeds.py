"""Valid stanzas of every family, from the builders: what the inputs begin with.

A stanza parser that accepts none of them is fuzzed at its first check only, so that
`discovery.unreached` finds fault with it: its stanza belongs here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import (
    failure,
    ib,
    iq,
    login,
    message,
    mex,
    notification,
    pairing,
    pairing_code,
    prekeys,
    presence,
    privacy,
    props,
    receipt,
    usync,
)
from sitpayd.whatsapp.stanzas.props import Props
from tests.fuzz.arguments import BUNDLE
from tests.fuzz.people import (
    GROUP,
    KEYS,
    OWN_LID,
    OWN_PN,
    PEER_LID,
    PEER_PN,
    PHONE,
    PREKEY,
    steady,
)

FINISH = pairing_code.CompanionFinish(b"b" * 156, KEYS.identity.public_key, b"ref")


@cache
def stanzas() -> tuple[bytes, ...]:
    """All of them, encoded."""
    with steady("stanzas"):
        return tuple(dict.fromkeys(map(encode, _stanzas())))


def _stanzas() -> Iterator[Node]:
    yield from _requests()
    yield from _endings()
    yield from _linking()
    yield from _keys()
    yield from _people()
    yield from _messages()
    yield from _notices()
    yield from _account()


def _requests() -> Iterator[Node]:
    yield iq.ping("5")
    yield iq.server_ping("5")
    yield iq.active("5")
    yield iq.result(iq.ping("5"))
    yield iq.error(iq.ping("5"), 429, "rate")
    yield iq.logout("5", OWN_PN)
    yield iq.clean_dirty("5", "groups", 7)
    yield iq.offline_batch(100)
    yield iq.unified_session(7)


def _endings() -> Iterator[Node]:
    yield login.success(OWN_LID, 7)
    yield failure.failure(failure.ConnectFailure(402, "text", 60, 101, "frc"))
    yield failure.stream_error(failure.StreamError(401, "replaced", "ack", "3EB0"))
    yield Node("xmlstreamend")


def _linking() -> Iterator[Node]:
    yield pairing.pair_device("X", ["2@A", "2@B"])
    identity = pairing.make_signed_identity(
        PHONE, KEYS.identity.public_key, KEYS.adv_secret, key_index=3, timestamp=7, raw_id=1
    )
    success = pairing.pair_success(
        "Y", identity, jid=OWN_PN, lid=OWN_LID, platform="android", business_name="Shop", t=7
    )
    yield success
    yield pairing.accept_pair_success(success, KEYS)[1]
    offer = pairing_code.CodeOffer("ABCD1234", PHONE, bytes(range(80)))
    hello = pairing_code.companion_hello("5", PEER_PN.user, offer, b"n" * 32, "Chrome (Mac OS)")
    yield hello
    yield pairing_code.ref_answer(hello, b"ref")
    primary = pairing_code.PrimaryHello(b"ref", offer.wrapped, PHONE.public_key)
    yield pairing_code.primary_hello("5", primary, t=7)
    yield pairing_code.companion_finish("5", PEER_PN.user, FINISH)


def _keys() -> Iterator[Node]:
    upload = prekeys.upload("5", KEYS, [PREKEY])
    query = prekeys.bundles_query("5", [PEER_LID, OWN_LID])
    bundles: dict[Jid, PreKeyBundle | prekeys.BundleRefused] = {
        PEER_LID: BUNDLE,
        OWN_LID: prekeys.BundleRefused(404),
    }
    yield prekeys.count_answer(prekeys.count_query("5"), 7)
    yield upload
    yield prekeys.digest_answer(prekeys.digest_query("5"), prekeys.parse_upload(upload))
    yield query
    yield prekeys.bundles_answer(query, bundles, {PEER_LID: b"x"})
    # An entry and a key alone, as they stand in lists.
    yield prekeys.bundles_answer(query, bundles).required("list").children[0]
    yield upload.required("skey")


def _people() -> Iterator[Node]:
    devices = (usync.Device(0), usync.Device(4, 1), usync.Device(99, 2, is_hosted=True))
    query = usync.devices_query("5", [PEER_PN], sid="6")
    yield query
    known = usync.UserAnswer(PEER_PN, lid=PEER_LID, devices=devices, key_index_list=(b"x", 7))
    yield usync.answer(query, [known])
    yield usync.answer(query, [usync.UserAnswer(PEER_PN)])
    contacts = usync.contact_query("5", [PEER_PN.user], sid="6")
    yield contacts
    found = usync.UserAnswer(PEER_LID, pn=PEER_PN, lid=PEER_LID, contact=("15557654321", True))
    yield usync.answer(contacts, [found])
    yield Node("presence", {"type": "available", "name": "Shop"})
    yield Node("presence", {"type": "subscribe", "to": PEER_LID})
    yield presence.presence(PEER_PN, available=False, last=7)
    typing = Node("chatstate", {"to": PEER_LID}, (Node("composing", {"media": "audio"}),))
    yield typing
    yield presence.chat_state(typing, PEER_LID)


def _messages() -> Iterator[Node]:
    outgoing = message.outgoing(
        "3EB0",
        PEER_LID,
        [message.Participant(PEER_LID, "pkmsg", b"x"), message.Participant(PEER_LID, "msg", b"y")],
        peer_recipient_pn=PEER_PN,
        device_identity=b"signed",
    )
    yield outgoing
    one = message.Participant(OWN_LID.bare, "pkmsg", b"x")
    yield message.peer("3EB0", one, device_identity=b"signed")
    yield message.resend("3EB0", one, count=2, t=7, recipient=PEER_PN, device_identity=b"signed")
    sent = message.parse_outgoing(outgoing)
    encs = [enc for _, enc in sent.participants]
    yield message.deliver(
        sent, encs, from_=PEER_LID, t=7, sender_alt=PEER_PN, push_name="Ann", offline=0
    )
    yield message.deliver(
        sent, encs[:1], from_=OWN_LID.bare, t=7, recipient=PEER_LID, recipient_alt=PEER_PN
    )
    group = Node(
        "message",
        {"id": "3EB0", "from": GROUP, "participant": PEER_LID, "participant_pn": PEER_PN, "t": "7"},
        (Node("enc", {"v": "2", "type": "skmsg", "count": "1"}, b"x"),),
    )
    yield group
    yield Node(
        "message",
        {"id": "3EB0", "from": PEER_LID, "t": "7"},
        (Node("unavailable", {"type": "view_once"}),),
    )
    yield receipt.message_ack(outgoing, 7, error=463, phash="2:x")
    yield receipt.receipt_ack(receipt.read(["A"], PEER_LID, t=7))
    delivered = receipt.delivery(group, active=False, from_me=False)
    yield delivered
    # The wire has room for times behind all calendars.
    yield receipt.forward(delivered, from_=PEER_LID, t=10**19, offline=3)
    yield receipt.history_sync("3EB0", OWN_PN)
    yield receipt.read(["A", "B", "C"], GROUP, t=7, participant=PEER_LID)
    retry = receipt.retry_receipt(group, 2, KEYS, prekey=PREKEY, device_identity=b"x", error=1)
    yield retry
    yield receipt.forward(retry, from_=PEER_LID, t=7, offline=3)
    yield receipt.ack(group, OWN_PN, error=500)


def _notices() -> Iterator[Node]:
    listed = (notification.ListedDevice(PEER_PN, PEER_LID, 1),)
    changed = (
        notification.DevicesChanged(PEER_PN, PEER_LID, action, listed, "2:x", "2:y")
        for action in ("add", "remove", "update")
    )
    values: tuple[notification.Notification, ...] = (
        notification.PreKeyCount(3),
        notification.IdentityChanged(PEER_PN, PEER_LID),
        *changed,
        notification.OwnDevices((OWN_PN,), "2:x"),
        notification.PasskeyRequested(),
        notification.PrivacyToken(PEER_PN, PEER_LID, b"x", 7),
        notification.OtherNotification("picture"),
    )
    for value in values:
        yield notification.notification("1", value, t=7, from_=OWN_PN)
    yield ib.ib(
        ib.OfflinePreview(1, 1, 1, 1),
        ib.OfflineDone(1),
        ib.Dirty("groups", 7),
        ib.EdgeRouting(b"x"),
        ib.DowngradeWebClient(),
        ib.OtherAnnouncement("thread_metadata"),
    )
    yield Node("call", {"id": "1", "from": PEER_LID, "t": "7"}, (Node("offer"),))
    member = Node("participant", {"jid": PEER_LID, "phone_number": PEER_PN})
    yield Node(
        "notification",
        {"id": "1", "type": "w:gp2", "from": GROUP, "participant": PEER_LID, "t": "7"},
        (Node("add", {}, (member,)),),
    )


def _account() -> Iterator[Node]:
    """What server and device tell each other of the account."""
    asked = props.query("5", Props())
    yield asked
    yield props.answer(asked, "2:x", {"10518": "true", "9999": "7"})
    given = privacy.give("5", PEER_LID, 7)
    yield given
    yield privacy.give_answer(given, {PEER_LID: privacy.GivenToken(b"token", 7)})
    lock, cap = mex.ReachoutTimelock(is_active=True, ends=7), mex.NewChatCap(True, 7)
    for told in (lock, cap):
        yield mex.notice("5", told, t=7)
    for query in (mex.timelock_query("5"), mex.capping_query("5")):
        yield query
        answer = mex.answer(query, lock, cap)
        assert answer is not None
        yield answer

"""message: the stanza that carries ciphertexts, for both roles, and the server's ack.

The plaintext is content.py, encrypting is signal/; whom to encrypt for is decided outside. Receipts
and acks of received stanzas are receipt.py.

Source: whatsmeow send.go, message.go; Baileys lib/Socket/messages-send.js,
lib/Utils/decode-wa-message.js.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ..errors import LocalProtocolError, RemoteProtocolError
from ..jid import (
    BROADCAST_SERVER,
    GROUP_SERVER,
    HOSTED_LID_SERVER,
    HOSTED_SERVER,
    LID_SERVER,
    NEWSLETTER_SERVER,
    PN_SERVER,
    Jid,
)
from ..node import Node
from . import aliases

# Under its own name: whoever reads a message knows this module.
from .aliases import LidMapping as LidMapping
from .privacy import PROOF_KINDS, Proof
from .wire import Values, attributes, copied, leaf

# Version of <enc> whose plaintext is padded; 3 is not.
PADDED_VERSION: Final = 2
_PHASH_BYTES: Final = 6
_UNHOSTED: Final = {HOSTED_SERVER: PN_SERVER, HOSTED_LID_SERVER: LID_SERVER}

PairwiseKind = Literal["pkmsg", "msg"]


@dataclass(frozen=True, slots=True)
class Participant:
    """One device's ciphertext in an outgoing stanza."""

    jid: Jid
    kind: PairwiseKind
    body: bytes


@dataclass(frozen=True, slots=True)
class Enc:
    """One ciphertext of an incoming stanza.

    Attributes:
        kind: "pkmsg", "msg", "skmsg", or one we do not know.
        version: `PADDED_VERSION` means that the plaintext is padded.
        count: which resend it is; 0 for the first sending.
        media_type: what the sender says it holds, for example "image".
        decrypt_fail: "hide" if nobody is to see that it could not be decrypted.
    """

    kind: str
    version: int
    body: bytes
    count: int = 0
    media_type: str | None = None
    decrypt_fail: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as it came in, before decryption.

    Attributes:
        chat: group, or the other person without device.
        sender: the author's device; hosted servers are named like ordinary ones.
        from_me: whether our own account sent it.
        category: "peer" for messages between own devices.
        t: server time, UTC seconds.
        offline: whether it belongs to the backlog.
        mapping: what its attributes say about the other person; to be stored before decrypting.
        encs: pairwise ones first: they may carry the key for the group's.
        device_identity: the sender's ADVSignedDeviceIdentity beside a pkmsg.
        unavailable: kind of a placeholder without ciphertext; "" if it names none.
    """

    id: str
    chat: Jid
    sender: Jid
    from_me: bool
    is_group: bool
    category: str | None
    type: str | None
    t: int | None
    offline: bool
    push_name: str | None
    mapping: LidMapping | None
    encs: tuple[Enc, ...]
    device_identity: bytes | None
    unavailable: str | None


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A client's message as the server reads it.

    Attributes:
        to: whom it addresses, as it stands.
        participants: ciphertexts by device; for a peer message or a resend the one for `to`.
        group_body: the ciphertext for all members of a group.
        edit: which kind of change it is to an earlier message, for example "1".
        is_partial: it was sent before, and this is for some of the devices alone.
        meta: the `<meta>` element; it goes to every device as it stands.
        proof: that the sender is no stranger to the person; it goes to nobody.
    """

    id: str
    to: Jid
    type: str | None
    category: str | None
    participants: tuple[tuple[Jid, Enc], ...]
    group_body: Enc | None
    peer_recipient_pn: Jid | None
    recipient: Jid | None
    phash: str | None
    device_identity: bytes | None
    edit: str | None = None
    is_partial: bool = False
    meta: Node | None = None
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class MessageAck:
    """The server's answer to an outgoing message.

    Attributes:
        t: server time, UTC seconds.
        error: None if it was accepted.
        phash: the server's hash of the devices, if it differs from ours.
    """

    id: str
    t: int | None
    error: int | None
    phash: str | None


def phash(devices: Iterable[Jid]) -> str:
    """Hash of the devices a message is for, the sending one included.

    Source: whatsmeow send.go. Baileys computes another value, which the server does not know.
    """
    names = sorted(f"{jid.user}.0:{jid.device}@{jid.server}".encode() for jid in devices)
    digest = hashlib.sha256(b"".join(names)).digest()
    return "2:" + base64.b64encode(digest[:_PHASH_BYTES]).decode()


def unhosted(jid: Jid) -> Jid:
    """Name a device on a hosted server like an ordinary one, as chats, senders and sessions do."""
    server = _UNHOSTED.get(jid.server)
    return jid if server is None else replace(jid, server=server)


def outgoing(
    id: str,
    to: Jid,
    participants: Sequence[Participant],
    *,
    peer_recipient_pn: Jid | None = None,
    device_identity: bytes | None = None,
    type: str = "text",
    partial: bool = False,
    proof: Proof | None = None,
) -> Node:
    """A message to a person: one ciphertext for each device.

    Args:
        to: the person, without device; by LID if participants are.
        peer_recipient_pn: the person's number beside a LID, if known; not for oneself.
        device_identity: our full ADVSignedDeviceIdentity; put in only if a ciphertext is a pkmsg.
        partial: it was sent before, and this is for devices that were missed then.
        proof: that we are no strangers to the person; not for oneself.

    Raises:
        LocalProtocolError: If there is no participant, addresses by number and by LID are mixed, or
            a pkmsg lacks the identity.

    Source: whatsmeow send.go; for `partial` WhatsApp's web client, WAWebSendMsgCreateFanoutStanza,
    WAWebResendUserMsg. Neither whatsmeow nor Baileys does that.
    """
    if not participants:
        raise LocalProtocolError("a message for nobody")
    if any(participant.jid.is_lid != to.is_lid for participant in participants):
        # The server refuses it with error 400.
        raise LocalProtocolError("a message mixes addresses by number and by LID")
    fanout = tuple(
        Node("to", {"jid": participant.jid}, (_enc_node(participant),))
        for participant in participants
    )
    attrs = attributes(
        {
            "id": id,
            "to": to,
            "type": type,
            "peer_recipient_pn": peer_recipient_pn,
            "device_fanout": "false" if partial else None,
        }
    )
    children = (
        Node("participants", {}, fanout),
        *_identity_for(participants, device_identity),
        *(() if proof is None else (leaf(proof.kind, proof.data),)),
    )
    return Node("message", attrs, children)


def peer(id: str, participant: Participant, *, device_identity: bytes | None = None) -> Node:
    """A message between devices of one account, for example a phone's app state keys.

    Raises:
        LocalProtocolError: If a pkmsg lacks the identity.
    """
    attrs = attributes({"id": id, "to": participant.jid, "type": "text", "category": "peer"})
    children = (
        Node("meta", {"appdata": "default"}),
        _enc_node(participant),
        *_identity_for((participant,), device_identity),
    )
    return Node("message", attrs, children)


def resend(
    id: str,
    participant: Participant,
    *,
    count: int,
    t: int,
    recipient: Jid | None = None,
    device_identity: bytes | None = None,
    type: str = "text",
) -> Node:
    """A message once more for the one device that sent a retry receipt.

    Args:
        participant: with `jid` as in the receipt's `from`.
        count: as in the retry receipt.
        t: as in the retry receipt, UTC seconds.
        recipient: as in the receipt, if one of our own devices asked.

    Raises:
        LocalProtocolError: If a pkmsg lacks the identity.
    """
    attrs = attributes(
        {
            "id": id,
            "to": participant.jid,
            "type": type,
            "t": t,
            "device_fanout": "false",
            "recipient": recipient,
        }
    )
    children = (
        _enc_node(participant, count),
        *_identity_for((participant,), device_identity),
    )
    return Node("message", attrs, children)


def _enc_node(participant: Participant, count: int = 0) -> Node:
    attrs = {"v": PADDED_VERSION, "type": participant.kind, "count": count or None}
    return Node("enc", attributes(attrs), participant.body)


def _identity_for(
    participants: Sequence[Participant], device_identity: bytes | None
) -> tuple[Node, ...]:
    if all(participant.kind != "pkmsg" for participant in participants):
        return ()
    if device_identity is None:
        raise LocalProtocolError("a pkmsg without device-identity")
    return (leaf("device-identity", device_identity),)


def parse_outgoing(node: Node) -> OutgoingMessage:
    """Read a client's message, as the server does.

    Raises:
        RemoteProtocolError: If it is malformed or holds no ciphertext.
    """
    to = node.required_jid("to")
    participants = []
    fanout = node.child("participants")
    if fanout is not None:
        for child in fanout.named("to"):
            participants.append((child.required_jid("jid"), _parse_enc(child.required("enc"))))
    group_body = None
    for enc in (_parse_enc(child) for child in node.named("enc")):
        if enc.kind == "skmsg":
            group_body = enc
        else:
            participants.append((to, enc))
    if not participants and group_body is None:
        raise RemoteProtocolError("a message without ciphertext")
    return OutgoingMessage(
        id=node.required_text("id"),
        to=to,
        type=node.text("type"),
        category=node.text("category"),
        participants=tuple(participants),
        group_body=group_body,
        peer_recipient_pn=node.jid("peer_recipient_pn"),
        recipient=node.jid("recipient"),
        phash=node.text("phash"),
        device_identity=_device_identity(node),
        edit=node.text("edit"),
        is_partial=node.text("device_fanout") == "false",
        meta=node.child("meta"),
        proof=_proof(node),
    )


def _proof(node: Node) -> Proof | None:
    for kind in PROOF_KINDS:
        child = node.child(kind)
        if child is not None:
            return Proof(kind, child.data)
    return None


def deliver(
    sent: OutgoingMessage,
    encs: Sequence[Enc],
    *,
    from_: Jid,
    t: int,
    participant: Jid | None = None,
    recipient: Jid | None = None,
    sender_alt: Jid | None = None,
    recipient_alt: Jid | None = None,
    push_name: str | None = None,
    offline: int | None = None,
) -> Node:
    """What the server hands to one device of a message that it took from a client.

    Args:
        from_: the sending device, or the group.
        participant: the sending device, if `from_` is a group.
        recipient: the chat, if it goes to another device of the sender's own account.
        sender_alt: the other address (PN or LID) of the sender, without device.
        recipient_alt: the other address of `recipient`; in a peer message that of the own account.
        offline: position in the backlog.
    """
    named = "participant" if participant is not None else "sender"
    attrs = attributes(
        {
            "id": sent.id,
            "from": from_,
            "type": sent.type,
            "t": t,
            "participant": participant,
            "recipient": recipient,
            "category": sent.category,
            "edit": sent.edit,
            "notify": push_name,
            **_alternate(named, sender_alt),
            **_alternate("peer_recipient", recipient_alt),
            "offline": offline,
        }
    )
    children = [_delivered_enc(enc) for enc in encs]
    if sent.meta is not None:
        children.append(sent.meta)
    if sent.device_identity is not None and any(enc.kind == "pkmsg" for enc in encs):
        children.append(leaf("device-identity", sent.device_identity))
    return Node("message", attrs, tuple(children))


def _delivered_enc(enc: Enc) -> Node:
    attrs: Values = {
        "v": enc.version,
        "type": enc.kind,
        "count": enc.count or None,
        "mediatype": enc.media_type,
        "decrypt-fail": enc.decrypt_fail,
    }
    return Node("enc", attributes(attrs), enc.body)


def _alternate(named: str, alternate: Jid | None) -> dict[str, Jid]:
    if alternate is None:
        return {}
    return {f"{named}_{'lid' if alternate.is_lid else 'pn'}": alternate}


def parse_incoming(node: Node, own_pn: Jid, own_lid: Jid) -> IncomingMessage:
    """Read a message that came in.

    Args:
        own_pn: our account or device by number; own_lid: by LID.

    Raises:
        RemoteProtocolError: If an address, the id or the type of a ciphertext is missing or
            malformed.
    """
    from_ = unhosted(node.required_jid("from"))
    named_jids = copied(node, "participant", "recipient") | aliases.alternates(node)
    addresses = {name: unhosted(jid) for name, jid in named_jids.items()}
    participant, recipient = addresses.get("participant"), addresses.get("recipient")
    category = node.text("category")
    own = {(jid.user, jid.server) for jid in (own_pn, own_lid)}
    if from_.server in (GROUP_SERVER, BROADCAST_SERVER):
        if participant is None:
            raise RemoteProtocolError("a group message without participant")
        chat, sender, other, named = from_, participant, participant, "participant"
    elif (from_.user, from_.server) in own and recipient is not None:
        chat, sender, other, named = recipient.bare, from_, recipient, "peer_recipient"
    elif from_.server == NEWSLETTER_SERVER:
        chat, sender, other, named = from_, from_, from_, "sender"
    else:
        # In a peer message there is no recipient: it says the own account's other address.
        chat, sender, other = from_.bare, from_, from_
        named = "peer_recipient" if category == "peer" else "sender"
    encs = sorted((_parse_enc(child) for child in node.named("enc")), key=_is_group_body)
    unavailable = node.child("unavailable")
    return IncomingMessage(
        id=node.required_text("id"),
        chat=chat,
        sender=sender,
        from_me=(sender.user, sender.server) in own,
        is_group=from_.server == GROUP_SERVER,
        category=category,
        type=node.text("type"),
        t=node.number("t"),
        offline="offline" in node.attrs,
        push_name=node.text("notify"),
        mapping=aliases.told_of(other, addresses, named),
        encs=tuple(encs),
        device_identity=_device_identity(node),
        unavailable=None if unavailable is None else unavailable.text("type") or "",
    )


def _is_group_body(enc: Enc) -> bool:
    return enc.kind not in ("pkmsg", "msg")


def _parse_enc(node: Node) -> Enc:
    version = node.number("v")
    return Enc(
        kind=node.required_text("type"),
        version=PADDED_VERSION if version is None else version,
        body=node.data,
        count=node.number("count") or 0,
        media_type=node.text("mediatype"),
        decrypt_fail=node.text("decrypt-fail"),
    )


def _device_identity(node: Node) -> bytes | None:
    child = node.child("device-identity")
    return None if child is None else child.data


def parse_message_ack(node: Node) -> MessageAck:
    """Read the server's `<ack class="message">`.

    Raises:
        RemoteProtocolError: If it is of another class, or id or a number cannot be read.
    """
    if node.text("class") != "message":
        raise RemoteProtocolError("an ack of another class")
    return MessageAck(
        id=node.required_text("id"),
        t=node.number("t"),
        error=node.number("error"),
        phash=node.text("phash"),
    )

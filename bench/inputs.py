"""Inputs: what both sides of the protocol's comparison are given, made once.

Stanzas of the kinds that a day brings, a handshake with fixed keys, Noise frames, and sessions in
every state that is measured. The other side gets the same bytes: sessions in the form that its
Signal library stores, everything else as JSON with bytes in base64.
"""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.fleet import TEXT
from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.frames import encode_frame
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.keys import KEY_TYPE, DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import (
    InitiatorHandshake,
    ResponderHandshake,
    ServerKeys,
    TransportCipher,
)
from sitpayd.whatsapp.signal.record import State
from sitpayd.whatsapp.signal.session import (
    PreKeyBundle,
    SessionRecord,
    decrypt,
    decrypt_prekey_message,
    encrypt,
    parse_prekey_message,
    start,
)
from sitpayd.whatsapp.stanzas import iq, prekeys, receipt, usync
from sitpayd.whatsapp.stanzas.content import pad, text_message
from sitpayd.whatsapp.stanzas.message import (
    PADDED_VERSION,
    Enc,
    Participant,
    deliver,
    outgoing,
    parse_outgoing,
)

VECTORS: Final = Path(__file__).parent.parent / "tests/whatsapp/vectors/noise.json"
# While the certificates of the vectors are valid: UTC seconds.
HANDSHAKE_AT: Final = 1_760_000_000.0
FRAME_LENGTHS: Final = (300, 4096)
# Messages of one chain, and frames of one connection: as many as a block of a row may take.
MESSAGES: Final = 400
# Messages arrive in any order within so many.
SHUFFLED_WITHIN: Final = 50
USERS_OF_A_LARGE_ANSWER: Final = 50
WA_MESSAGE_ID: Final = "3EB0F1A2B3C4D5E6F7A8B9"
RECIPIENT: Final = lid("234567890123456")
RECIPIENT_PN: Final = pn("919812345678")
OWN_LID: Final = lid("345678901234567", 3)
OWN_PN: Final = pn("919887654321", 3)
# Whom a message is for: three devices of the recipient, two others of our own account.
DEVICES: Final = (
    RECIPIENT,
    RECIPIENT.with_device(1),
    RECIPIENT.with_device(12),
    OWN_LID.with_device(0),
    OWN_LID.with_device(2),
)
# A real one has about this length: details, account signature and key, device signature.
_DEVICE_IDENTITY: Final = random.Random(1).randbytes(176)
_T: Final = 1_760_000_123
# One-time prekey of everybody here.
_PREKEY_ID: Final = 7

# How libsignal for Node stores who began a session, and the kind of a chain.
_OURS, _THEIRS = 1, 2
_SENDING, _RECEIVING = 1, 2


@dataclass(frozen=True, slots=True)
class Handshake:
    """Both halves of a handshake with fixed keys: it ends in the same ciphers each time."""

    ephemeral: KeyPair
    noise: KeyPair
    root_key: bytes
    server: ServerKeys
    server_ephemeral: KeyPair
    payload: bytes
    server_hello: bytes

    def begin(self) -> InitiatorHandshake:
        """The client's side, which waits for `server_hello`."""
        return InitiatorHandshake(
            noise=self.noise,
            payload=self.payload,
            root_key=self.root_key,
            now=HANDSHAKE_AT,
            ephemeral=self.ephemeral,
        )

    def connect(self) -> Connection:
        """The client's end of a connection, on which stanzas can be sent."""
        connection = Connection.initiator(
            noise=self.noise,
            payload=self.payload,
            root_key=self.root_key,
            now=HANDSHAKE_AT,
            ephemeral=self.ephemeral,
        )
        connection.receive(encode_frame(self.server_hello))
        connection.data_to_send()
        return connection

    def server_cipher(self) -> TransportCipher:
        """The server's cipher of the same connection."""
        client = self.begin()
        responder = ResponderHandshake(self.server, ephemeral=self.server_ephemeral)
        responder.receive(client.client_hello)
        responder.receive(client.receive(self.server_hello))
        assert responder.cipher is not None
        return responder.cipher


@dataclass(frozen=True, slots=True)
class Person:
    """A device with keys, and the one-time prekey in its bundle."""

    keys: DeviceKeys
    prekey: KeyPair

    @classmethod
    def make(cls) -> Person:
        return cls(DeviceKeys.generate(), KeyPair.generate())

    @property
    def bundle(self) -> PreKeyBundle:
        signed = self.keys.signed_prekey
        return PreKeyBundle(
            registration_id=self.keys.registration_id,
            identity=self.keys.identity.public_key,
            signed_prekey_id=signed.key_id,
            signed_prekey=signed.key_pair.public_key,
            signature=signed.signature,
            prekey_id=_PREKEY_ID,
            prekey=self.prekey.public_key,
        )

    def encrypt(self, record: SessionRecord, plaintext: bytes) -> tuple[SessionRecord, bytes]:
        done = encrypt(record, self.keys.identity, self.keys.registration_id, plaintext)
        return done.record, done.body

    def receive_first(self, body: bytes) -> tuple[SessionRecord, bytes]:
        done = decrypt_prekey_message(
            None,
            self.keys.identity,
            self.keys.signed_prekey.key_pair,
            self.prekey,
            parse_prekey_message(body),
        )
        return done.record, done.plaintext

    def decrypt(self, record: SessionRecord, body: bytes) -> tuple[SessionRecord, bytes]:
        done = decrypt(record, self.keys.identity, body)
        return done.record, done.plaintext


@dataclass(frozen=True, slots=True)
class Talk:
    """Two people in a session that both have written in; the next message of either steps.

    Attributes:
        chain: bodies of one chain of the first one's; `in_chain` is the session of the second after
            another message of it.
        order: in which order those arrive in the row where they come in any.
    """

    first: Person
    second: Person
    first_record: SessionRecord
    second_record: SessionRecord
    plaintext: bytes
    opening: bytes
    in_chain: SessionRecord
    chain: tuple[bytes, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Peer:
    """A device that a message is for: our session with it, and what it needs to read us."""

    jid: Jid
    person: Person
    ours: SessionRecord
    theirs: SessionRecord


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything; `frames` are a plaintext, and what the server makes of it, by its length."""

    handshake: Handshake
    frames: dict[int, tuple[bytes, tuple[bytes, ...]]]
    stanzas: dict[str, Node]
    deflated: Node
    deflated_bytes: bytes
    talk: Talk
    peers: tuple[Peer, ...]
    incoming: tuple[bytes, ...]

    @property
    def me(self) -> Person:
        """Who sends to the peers."""
        return self.talk.first


def make_inputs() -> Inputs:
    """Make everything; the handshake is always the same, the people are new each time."""
    handshake = _handshake()
    talk = _talk()
    peers = tuple(_peer(talk.first, jid) for jid in DEVICES)
    large = _usync_answer(USERS_OF_A_LARGE_ANSWER)
    frames = {}
    for length in FRAME_LENGTHS:
        plaintext = random.Random(length).randbytes(length)
        cipher = handshake.server_cipher()
        frames[length] = (plaintext, tuple(cipher.encrypt(plaintext) for _ in range(MESSAGES)))
    cipher = handshake.server_cipher()
    return Inputs(
        handshake=handshake,
        frames=frames,
        stanzas=_stanzas(talk, peers),
        deflated=large,
        deflated_bytes=b"\x02" + zlib.compress(encode(large)[1:]),
        talk=talk,
        peers=peers,
        incoming=tuple(
            encode_frame(cipher.encrypt(encode(_delivered(number, body))))
            for number, body in enumerate(talk.chain)
        ),
    )


def _handshake() -> Handshake:
    """The handshake of the vectors, which others worked out."""
    vectors = json.loads(VECTORS.read_text())
    told, server = vectors["handshakes"][0], vectors["server"]
    return Handshake(
        ephemeral=KeyPair.from_private(bytes.fromhex(told["client_ephemeral_priv"])),
        noise=KeyPair.from_private(bytes.fromhex(told["client_noise_static_priv"])),
        root_key=bytes.fromhex(server["fake_root_pub"]),
        server=ServerKeys(
            KeyPair.from_private(bytes.fromhex(server["server_static_priv"])),
            bytes.fromhex(server["cert_chain_plain"]),
        ),
        server_ephemeral=KeyPair.from_private(bytes.fromhex(server["server_ephemeral_priv"])),
        payload=bytes.fromhex(told["client_payload_plain"]),
        server_hello=bytes.fromhex(server["server_hello"]),
    )


def _talk() -> Talk:
    first, second = Person.make(), Person.make()
    plaintext = pad(text_message(TEXT), 8)
    opened, opening = first.encrypt(start(second.bundle, first.keys.identity), plaintext)
    ours, theirs = _answered(first, second, opened, opening, plaintext)
    ahead, body = first.encrypt(ours, plaintext)
    in_chain, _ = second.decrypt(theirs, body)
    chain = []
    for _ in range(MESSAGES):
        ahead, body = first.encrypt(ahead, plaintext)
        chain.append(body)
    shuffle = random.Random(5)
    order: list[int] = []
    for begin in range(0, MESSAGES, SHUFFLED_WITHIN):
        part = list(range(begin, begin + SHUFFLED_WITHIN))
        shuffle.shuffle(part)
        order += part
    return Talk(
        first, second, ours, theirs, plaintext, opening, in_chain, tuple(chain), tuple(order)
    )


def _answered(
    first: Person, second: Person, record: SessionRecord, opening: bytes, plaintext: bytes
) -> tuple[SessionRecord, SessionRecord]:
    """Let the second one read the opening and answer: the sessions of both."""
    theirs, _ = second.receive_first(opening)
    theirs, answer = second.encrypt(theirs, plaintext)
    ours, _ = first.decrypt(record, answer)
    return ours, theirs


def _peer(me: Person, jid: Jid) -> Peer:
    person, plaintext = Person.make(), pad(text_message(TEXT), 8)
    record, opening = me.encrypt(start(person.bundle, me.keys.identity), plaintext)
    ours, theirs = _answered(me, person, record, opening, plaintext)
    return Peer(jid, person, ours, theirs)


def _stanzas(talk: Talk, peers: Sequence[Peer]) -> dict[str, Node]:
    """One of each kind; two of the message's five devices are written to for the first time."""
    body = talk.chain[0]
    participants = [
        Participant(peer.jid, *(("pkmsg", talk.opening) if at in (1, 3) else ("msg", body)))
        for at, peer in enumerate(peers)
    ]
    message = outgoing(
        WA_MESSAGE_ID,
        RECIPIENT,
        participants,
        peer_recipient_pn=RECIPIENT_PN,
        device_identity=_DEVICE_IDENTITY,
    )
    asked = prekeys.bundles_query("31415.926-53", [peer.jid for peer in peers])
    return {
        "fan-out to 5 devices": message,
        "receipt": receipt.delivery(_delivered(0, body), active=True, from_me=False),
        "usync answer": _usync_answer(2),
        "prekey answer": prekeys.bundles_answer(
            asked,
            {peer.jid: peer.person.bundle for peer in peers},
            {peer.jid: _DEVICE_IDENTITY for peer in peers if peer.jid.device},
        ),
        "iq ping": iq.ping("31415.926-58"),
    }


def _usync_answer(users: int) -> Node:
    """Each person has a phone and two companions."""
    jids = [lid(str(100_000_000_000_000 + 7919 * number)) for number in range(users)]
    query = usync.devices_query("31415.926-50", jids, sid="31415.926-51")
    signed = random.Random(9)
    return usync.answer(
        query,
        [
            usync.UserAnswer(
                jid=jid,
                lid=jid,
                devices=(usync.Device(0), usync.Device(1, 2), usync.Device(12, 5)),
                key_index_list=(signed.randbytes(120), _T),
            )
            for jid in jids
        ],
    )


def _delivered(number: int, body: bytes) -> Node:
    """A message as the server hands it to us."""
    enc = Enc("msg", PADDED_VERSION, body)
    sent = outgoing(f"3EB0F1A2B3C4D5E6F7{number:04X}", OWN_LID.bare, [_participant(enc)])
    return deliver(
        parse_outgoing(sent),
        [enc],
        from_=RECIPIENT.with_device(1),
        t=_T + number,
        sender_alt=RECIPIENT_PN,
        push_name="Ada Lovelace",
    )


def _participant(enc: Enc) -> Participant:
    return Participant(OWN_LID, "msg", enc.body)


# --- For the other side ---


def for_baileys(inputs: Inputs) -> dict[str, object]:
    """The same, as JSON."""
    handshake, talk = inputs.handshake, inputs.talk
    return {
        "noise": {
            "ephemeral": _pair(handshake.ephemeral),
            "noise": _pair(handshake.noise),
            "payload": text_of(handshake.payload),
            "serverHello": text_of(handshake.server_hello),
        },
        "frames": {
            length: {"plaintext": text_of(plaintext), "sealed": [text_of(each) for each in sealed]}
            for length, (plaintext, sealed) in inputs.frames.items()
        },
        "stanzas": {
            kind: {"node": plain_node(node), "encoded": text_of(encode(node))}
            for kind, node in inputs.stanzas.items()
        },
        "deflated": text_of(inputs.deflated_bytes),
        "first": _person(talk.first),
        "second": _person(talk.second),
        "firstRecord": libsignal_record(talk.first_record, begun_by_us=True),
        "secondRecord": libsignal_record(talk.second_record, begun_by_us=False),
        "plaintext": text_of(talk.plaintext),
        "opening": text_of(talk.opening),
        "inChain": libsignal_record(talk.in_chain, begun_by_us=False),
        "chain": [text_of(body) for body in talk.chain],
        "order": talk.order,
        "peers": [
            {"jid": str(peer.jid), "record": libsignal_record(peer.ours, begun_by_us=True)}
            for peer in inputs.peers
        ],
        "to": str(RECIPIENT),
        "toPn": str(RECIPIENT_PN),
        "from": str(RECIPIENT.with_device(1)),
        "ownPn": str(OWN_PN),
        "ownLid": str(OWN_LID),
        "id": WA_MESSAGE_ID,
        "text": TEXT,
        "incoming": [text_of(frame) for frame in inputs.incoming],
    }


def plain_node(node: Node) -> dict[str, object]:
    """A node as Baileys has it: addresses as text, bytes marked as such."""
    content: object = node.content
    if isinstance(content, tuple):
        content = [plain_node(child) for child in node.children]
    elif isinstance(content, bytes):
        content = {"bytes": text_of(content)}
    attrs = {name: str(value) for name, value in node.attrs.items()}
    plain: dict[str, object] = {"tag": node.tag, "attrs": attrs}
    return plain if content is None else {**plain, "content": content}


def libsignal_record(record: SessionRecord, *, begun_by_us: bool) -> dict[str, object]:
    """A session as libsignal for Node stores it.

    Its counters are those of the last message, ours those of the next.

    Source: libsignal-node src/session_record.js.
    """
    state = record.current
    base_key = _typed(state.base_key)
    assert state.pending is None
    return {
        "_sessions": {
            base_key: {
                "registrationId": state.remote_registration_id,
                "currentRatchet": _libsignal_ratchet(state),
                "indexInfo": {
                    "baseKey": base_key,
                    "baseKeyType": _OURS if begun_by_us else _THEIRS,
                    "closed": -1,
                    "used": 1000 * _T,
                    "created": 1000 * _T,
                    "remoteIdentityKey": _typed(state.remote_identity),
                },
                "_chains": _libsignal_chains(state),
            }
        },
        "version": "v1",
    }


def _libsignal_ratchet(state: State) -> dict[str, object]:
    ratchet = state.ratchet
    sending = ratchet.sending
    return {
        "ephemeralKeyPair": {
            "pubKey": _typed(sending.pair.public_key),
            "privKey": text_of(sending.pair.private_key),
        },
        "lastRemoteEphemeralKey": _typed(ratchet.receiving[0].ratchet_key),
        "previousCounter": sending.previous_counter,
        "rootKey": text_of(ratchet.root_key),
    }


def _libsignal_chains(state: State) -> dict[str, object]:
    ratchet = state.ratchet
    sending = ratchet.sending
    chains: dict[str, object] = {
        _typed(sending.pair.public_key): _libsignal_chain(
            sending.chain_key, sending.counter, _SENDING
        )
    }
    for chain in ratchet.receiving:
        assert not chain.skipped
        chains[_typed(chain.ratchet_key)] = _libsignal_chain(
            chain.chain_key, chain.counter, _RECEIVING
        )
    return chains


def _libsignal_chain(chain_key: bytes, counter: int, kind: int) -> dict[str, object]:
    return {
        "chainKey": {"counter": counter - 1, "key": text_of(chain_key)},
        "chainType": kind,
        "messageKeys": {},
    }


def _person(person: Person) -> dict[str, object]:
    keys = person.keys
    signed = keys.signed_prekey
    return {
        "identity": _pair(keys.identity),
        "registrationId": keys.registration_id,
        "signedPreKey": {
            "keyId": signed.key_id,
            "keyPair": _pair(signed.key_pair),
            "signature": text_of(signed.signature),
        },
        "preKey": {"keyId": _PREKEY_ID, "keyPair": _pair(person.prekey)},
    }


def _pair(pair: KeyPair) -> dict[str, str]:
    return {"private": text_of(pair.private_key), "public": text_of(pair.public_key)}


def _typed(public_key: bytes) -> str:
    return text_of(KEY_TYPE + public_key)


def text_of(data: bytes) -> str:
    """Bytes as the other side gets them."""
    return base64.b64encode(data).decode()

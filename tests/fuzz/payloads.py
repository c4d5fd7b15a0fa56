"""Valid bytes and texts for every parser that takes some, from the builders.

A parser without any here is tried with everybody else's, and `discovery.unreached` finds fault with
it unless one of those happens to be right.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from google.protobuf.message import Message

from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KEY_TYPE
from sitpayd.whatsapp.schema import session_pb2
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.signal.session import encrypt, start
from sitpayd.whatsapp.stanzas import content, login, pairing
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.props import Props
from tests.fuzz import certificates
from tests.fuzz.arguments import BUNDLE, FILE, FILE_BLOB
from tests.fuzz.people import KEYS, OWN_LID, OWN_PN, PEER_LID, PEER_PN, PHONE, steady

# What a parser's bytes are, where the schema knows it.
KINDS: Final[Mapping[str, type[Message]]] = {
    "credentials.Credentials.from_bytes": session_pb2.Credentials,
    "history.read_history": pb.HistorySync,
    "history.read_mappings": pb.LIDMigrationMappingSyncPayload,
    "noise.verify_certificate_chain": pb.CertChain,
    "signal.record.SessionRecord.from_bytes": session_pb2.Record,
    "signal.record.State.from_bytes": session_pb2.State,
    "stanzas.content.parse_message": pb.Message,
    "stanzas.content.parse_notice": pb.Message.ProtocolMessage,
    "stanzas.login.parse_client_payload": pb.ClientPayload,
    "stanzas.pairing.verify_signed_identity": pb.ADVSignedDeviceIdentity,
}
_INFO: Final = login.ClientInfo()


@cache
def payloads() -> Mapping[str, tuple[bytes, ...]]:
    """Inputs by parser."""
    with steady("payloads"):
        record = start(BUNDLE, KEYS.identity)
        first = encrypt(record, KEYS.identity, 7, b"hello")
        signed = _signed_identity()
        paired = PairedIdentity(OWN_PN, OWN_LID, signed, PHONE.public_key, 3, "android", "Shop", 7)
        return {
            "credentials.Credentials.from_bytes": (
                Credentials(KEYS).to_bytes(),
                Credentials(KEYS, paired).to_bytes(),
            ),
            "history.inflated": (zlib.compress(_history()),),
            "history.read_history": (_history(),),
            "history.read_mappings": (_mappings(),),
            "jid.Jid.parse": tuple(
                str(jid).encode()
                for jid in (OWN_PN, OWN_LID, Jid("1-2", "g.us"), Jid("4", "interop", 1, 16))
            ),
            "media.opened": (FILE_BLOB,),
            "noise.verify_certificate_chain": (certificates.good_chain(),),
            "signal.ratchet.parse_key": (KEY_TYPE + KEYS.identity.public_key,),
            "signal.ratchet.parse_message": (_inner(first.body),),
            "signal.record.SessionRecord.from_bytes": (
                record.to_bytes(),
                start(BUNDLE, KEYS.identity, previous=record).to_bytes(),
            ),
            "signal.record.State.from_bytes": (record.current.to_bytes(),),
            "signal.session.parse_prekey_message": (first.body,),
            "stanzas.content.parse_message": tuple(_messages()),
            "stanzas.content.parse_notice": tuple(_notices()),
            "stanzas.content.unpad": (content.pad(b"text", 1), content.pad(b"text", 16)),
            "stanzas.login.parse_client_payload": (
                login.registration_payload(KEYS, _INFO),
                login.login_payload(OWN_PN, _INFO, "Shop"),
            ),
            "stanzas.pairing.parse_qr_text": (
                pairing.qr_text("2@REF", KEYS).encode(),
                pairing.qr_text("2@REF", KEYS).rpartition(",")[0].encode(),
            ),
            "stanzas.pairing.verify_signed_identity": (signed,),
            "stanzas.props.Props.from_bytes": (Props().to_bytes(),),
            "stanzas.pairing_code.parse_code": (b"ABCD-1234", b"abcd1234"),
        }


def _history() -> bytes:
    conversation = pb.Conversation(
        id=str(PEER_LID),
        pnJid=str(PEER_PN),
        tcToken=b"token",
        tcTokenTimestamp=7,
        tcTokenSenderTimestamp=6,
        messages=[pb.HistorySyncMsg()],
    )
    history = pb.HistorySync(
        syncType=0,
        conversations=[conversation],
        pushnames=[pb.Pushname(id=str(PEER_PN), pushname="Ada")],
        phoneNumberToLidMappings=[
            pb.PhoneNumberToLIDMapping(pnJid=str(PEER_PN), lidJid=str(PEER_LID))
        ],
        nctSalt=bytes(32),
    )
    return history.SerializeToString()


def _mappings() -> bytes:
    moved = pb.LIDMigrationMapping(pn=int(PEER_PN.user), assignedLid=int(PEER_LID.user))
    return pb.LIDMigrationMappingSyncPayload(pnToLidMappings=[moved]).SerializeToString()


def _inner(body: bytes) -> bytes:
    return pb.PreKeySignalMessage.FromString(body[1:]).message


def _signed_identity() -> bytes:
    container = pairing.make_signed_identity(
        PHONE, KEYS.identity.public_key, KEYS.adv_secret, key_index=3, timestamp=7, raw_id=1
    )
    success = pairing.pair_success("Y", container, jid=OWN_PN, lid=OWN_LID, platform="android")
    return pairing.accept_pair_success(success, KEYS)[0].signed_identity


def _notices() -> Iterator[bytes]:
    """What a phone tells with a history or a migration, without the message around it."""
    for message in (
        content.inline_history_sync(_history()),
        content.history_sync_at(FILE),
        content.lid_migration([(PEER_PN.user, PEER_LID.user)]),
    ):
        yield pb.Message.FromString(message).protocolMessage.SerializeToString()


def _messages() -> list[bytes]:
    text = content.text_message("Hello!")
    wrapped = pb.Message.FutureProofMessage(message=pb.Message.FromString(text))
    key = pb.MessageKey(remoteJid="1@s.whatsapp.net", fromMe=True, id="3EB0")
    protocol = pb.Message.ProtocolMessage
    made = [
        pb.Message(
            extendedTextMessage=pb.Message.ExtendedTextMessage(
                text="Hello!",
                contextInfo=pb.ContextInfo(
                    stanzaId="3EB0",
                    quotedMessage=pb.Message.FromString(text),
                    mentionedJid=["1@lid"],
                ),
            ),
            messageContextInfo=pb.MessageContextInfo(messageSecret=bytes(32)),
        ),
        pb.Message(ephemeralMessage=wrapped),
        pb.Message(viewOnceMessageV2=wrapped),
        pb.Message(imageMessage=pb.Message.CaptionedMedia(caption="Look")),
        pb.Message(documentMessage=pb.Message.DocumentMessage(title="a", caption="b")),
        pb.Message(audioMessage=pb.Message.AudioMessage(ptt=True)),
        pb.Message(reactionMessage=pb.Message.ReactionMessage(key=key, text="\N{THUMBS UP SIGN}")),
        pb.Message(protocolMessage=protocol(type=0, key=key)),
        pb.Message(
            protocolMessage=protocol(
                type=14, key=key, editedMessage=pb.Message.FromString(text), timestampMs=7
            )
        ),
        pb.Message(
            senderKeyDistributionMessage=pb.Message.SenderKeyDistributionMessage(
                groupId="1-2@g.us", axolotlSenderKeyDistributionMessage=b"x"
            )
        ),
    ]
    return [
        text,
        *(message.SerializeToString() for message in made),
        content.device_sent(PEER_PN, text, "2:x"),
        content.app_state_key_share([content.AppStateKey(b"id", bytes(32), 7)]),
        content.inline_history_sync(pb.HistorySync(syncType=0).SerializeToString()),
    ]

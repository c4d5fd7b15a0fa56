"""The plaintext inside a message: padding and the protobuf `Message`, as far as it is read.

Building what the daemon and a simulated phone send, and naming what came in. The stanza around the
ciphertext is message.py; what follows from a content is decided outside.

Source: whatsmeow message.go, send.go; Baileys lib/Utils/generics.js, lib/Utils/messages.js.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.unknown_fields import UnknownFieldSet

from ..errors import LocalProtocolError, RemoteProtocolError
from ..jid import Jid
from ..media import MediaFile, media_file
from ..schema import whatsapp_pb2 as pb
from .wire import checked_text, parse_proto

MAX_PADDING: Final = 16
# Wrappers inside wrappers; official clients nest two or three.
_MAX_WRAPPERS: Final = 8
_WRAPPERS: Final = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "documentWithCaptionMessage",
    "editedMessage",
)
_REVOKE: Final = 0
_HISTORY_SYNC_NOTIFICATION: Final = 5
_APP_STATE_SYNC_KEY_SHARE: Final = 6
_LID_MIGRATION_MAPPING_SYNC: Final = 22
_MESSAGE_EDIT: Final = 14
_PEER_DATA_REQUEST: Final = 16
_PEER_DATA_ANSWER: Final = 17
_PLACEHOLDER_RESEND: Final = 4
# Messages in one answer of a phone that are read; one is asked for at a time.
MAX_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class SenderKey:
    """A group key for messages of the stanza's sender: a serialised SKDM."""

    group_id: str
    distribution: bytes

    def __repr__(self) -> str:
        return f"SenderKey(group_id={self.group_id!r})"


@dataclass(frozen=True, slots=True)
class HistorySync:
    """Notice of a history.

    Attributes:
        sync_type: 0 initial bootstrap, 1 status, 2 full, 3 recent, 4 push names, 5 what else there
            is, 6 on demand.
        inline: the history itself, deflated; None if it is to be downloaded.
        file: where it is to be downloaded from; None if it is not, or the notice makes no sense.
    """

    sync_type: int
    inline: bytes | None
    file: MediaFile | None = None

    def __repr__(self) -> str:
        return f"HistorySync(sync_type={self.sync_type})"


@dataclass(frozen=True, slots=True)
class LidMigration:
    """Which numbers have which LIDs, told once when an account moves: deflated."""

    payload: bytes

    def __repr__(self) -> str:
        return "LidMigration()"


PhoneNotice = HistorySync | LidMigration


@dataclass(frozen=True, slots=True)
class AppStateKey:
    """A key for app state: `key_data` 32 bytes; timestamp in UTC seconds."""

    key_id: bytes
    key_data: bytes
    timestamp: int

    def __repr__(self) -> str:
        return f"AppStateKey(key_id={self.key_id.hex()})"


@dataclass(frozen=True, slots=True)
class MessageName:
    """Which message is meant, among the devices of one account.

    Attributes:
        chat: without device.
        participant: its author without device, in groups.
    """

    chat: Jid
    id: str
    from_me: bool
    participant: Jid | None = None


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message as our phone has kept it, told again.

    Attributes:
        t: WhatsApp's time of it, UTC seconds.
    """

    name: MessageName
    content: Content
    t: int | None
    push_name: str | None

    def __repr__(self) -> str:
        return f"KeptMessage({self.name.id!r})"


@dataclass(frozen=True, slots=True)
class Content:
    """What a decrypted message says.

    Attributes:
        kind: "text", "image", "video", "audio", "document", "sticker", "contact", "location",
            "reaction", "revoke", "edit", "history_sync", "lid_migration", "app_state_keys",
            "phone_request", "phone_answer", "protocol" (others for the device), "none" (nothing
            for a person, for example a group key alone), "other".
        text: text, caption, or the new text of an edit.
        destination: the chat of a message sent by another of our devices. Only our own account may
            send such a message: the caller refuses it from anybody else.
        notice: a history or a migration, as `parse_notice` reads it; only from our phone.
        app_state_keys: only from our own account.
        asked: messages that a companion asks its phone for.
        kept: what the phone answers; only from our phone.
    """

    kind: str
    text: str | None = None
    destination: Jid | None = None
    sender_key: SenderKey | None = None
    notice: bytes | None = None
    app_state_keys: tuple[AppStateKey, ...] = ()
    asked: tuple[MessageName, ...] = ()
    kept: tuple[KeptMessage, ...] = ()

    def __repr__(self) -> str:
        return f"Content(kind={self.kind!r})"


def pad(data: bytes, n: int | None = None) -> bytes:
    """Append n bytes of value n, by default 1 to 16 at random."""
    # One byte at random: 16 goes into 256, so that each count is as likely.
    count = 1 + secrets.token_bytes(1)[0] % MAX_PADDING if n is None else n
    if not 1 <= count <= MAX_PADDING:
        raise LocalProtocolError("padding is 1 to 16 bytes")
    return data + bytes((count,)) * count


def unpad(data: bytes) -> bytes:
    """Remove the padding.

    Raises:
        RemoteProtocolError: If there is none or its bytes differ.
    """
    count = data[-1] if data else 0
    if not 1 <= count <= MAX_PADDING or data[-count:] != bytes((count,)) * count:
        raise RemoteProtocolError("bad padding of a message")
    return data[:-count]


def text_message(text: str) -> bytes:
    """A plain text: serialised Message, not padded."""
    return pb.Message(conversation=text).SerializeToString()


def device_sent(destination: Jid, message: bytes, phash: str | None = None) -> bytes:
    """The copy for our own other devices: serialised Message, not padded.

    Args:
        destination: the chat, as in the stanza's `to`.
        message: the serialised Message the recipient gets.
    """
    inner = pb.Message.FromString(message)
    sent = pb.Message.DeviceSentMessage(destinationJid=str(destination), message=inner, phash=phash)
    outer = pb.Message(deviceSentMessage=sent)
    if inner.HasField("messageContextInfo"):
        outer.messageContextInfo.CopyFrom(inner.messageContextInfo)
    return outer.SerializeToString()


def app_state_key_share(keys: Iterable[AppStateKey]) -> bytes:
    """What a phone gives a new companion first: serialised Message, not padded."""
    share = pb.Message.AppStateSyncKeyShare(
        keys=[
            pb.Message.AppStateSyncKey(
                keyId=pb.Message.AppStateSyncKeyId(keyId=key.key_id),
                keyData=pb.Message.AppStateSyncKeyData(
                    keyData=key.key_data,
                    fingerprint=pb.Message.AppStateSyncKeyFingerprint(
                        rawId=0, currentIndex=0, deviceIndexes=[0]
                    ),
                    timestamp=key.timestamp,
                ),
            )
            for key in keys
        ]
    )
    protocol = pb.Message.ProtocolMessage(
        type=_APP_STATE_SYNC_KEY_SHARE, appStateSyncKeyShare=share
    )
    return pb.Message(protocolMessage=protocol).SerializeToString()


def inline_history_sync(history: bytes, sync_type: int = 0) -> bytes:
    """A history blob small enough to travel in the message: serialised Message, not padded.

    Args:
        history: a serialised HistorySync; empty for an account without history.
    """
    return _history_sync(
        pb.Message.HistorySyncNotification(
            syncType=sync_type,
            chunkOrder=1,
            progress=100,
            initialHistBootstrapInlinePayload=zlib.compress(history),
        )
    )


def history_sync_at(file: MediaFile, sync_type: int = 0) -> bytes:
    """A history that is to be downloaded: serialised Message, not padded."""
    return _history_sync(
        pb.Message.HistorySyncNotification(
            fileSha256=file.sha256,
            fileLength=file.length,
            mediaKey=file.media_key,
            fileEncSha256=file.enc_sha256,
            directPath=file.direct_path,
            syncType=sync_type,
            chunkOrder=1,
            progress=100,
        )
    )


def _history_sync(notification: pb.Message.HistorySyncNotification) -> bytes:
    protocol = pb.Message.ProtocolMessage(
        type=_HISTORY_SYNC_NOTIFICATION, historySyncNotification=notification
    )
    return pb.Message(protocolMessage=protocol).SerializeToString()


def placeholder_request(name: MessageName) -> bytes:
    """Ask our phone for a message that we cannot read: serialised Message, not padded.

    Source: whatsmeow send.go (BuildUnavailableMessageRequest).
    """
    asked = pb.Message.PeerDataOperationRequestMessage.PlaceholderMessageResendRequest(
        messageKey=_message_key(name)
    )
    request = pb.Message.PeerDataOperationRequestMessage(
        peerDataOperationRequestType=_PLACEHOLDER_RESEND, placeholderMessageResendRequest=[asked]
    )
    protocol = pb.Message.ProtocolMessage(
        type=_PEER_DATA_REQUEST, peerDataOperationRequestMessage=request
    )
    return pb.Message(protocolMessage=protocol).SerializeToString()


def placeholder_answer(request_id: str, kept: Iterable[bytes]) -> bytes:
    """What a phone answers to `placeholder_request`: serialised Message, not padded.

    Args:
        request_id: id of the stanza that asked.
        kept: `kept_message`s.
    """
    answer = pb.Message.PeerDataOperationRequestResponseMessage(
        peerDataOperationRequestType=_PLACEHOLDER_RESEND, stanzaId=request_id
    )
    for info in kept:
        result = answer.peerDataOperationResult.add()
        result.placeholderMessageResendResponse.webMessageInfoBytes = info
    protocol = pb.Message.ProtocolMessage(
        type=_PEER_DATA_ANSWER, peerDataOperationRequestResponseMessage=answer
    )
    return pb.Message(protocolMessage=protocol).SerializeToString()


def kept_message(name: MessageName, message: bytes, t: int, push_name: str | None = None) -> bytes:
    """A message as a phone keeps it: serialised WebMessageInfo.

    Args:
        message: a serialised Message.
        t: UTC seconds.
    """
    return pb.WebMessageInfo(
        key=_message_key(name),
        message=pb.Message.FromString(message),
        messageTimestamp=t,
        pushName=push_name,
    ).SerializeToString()


def _message_key(name: MessageName) -> pb.MessageKey:
    return pb.MessageKey(
        remoteJid=str(name.chat),
        fromMe=name.from_me,
        id=name.id,
        participant=None if name.participant is None else str(name.participant),
    )


def lid_migration(mappings: Iterable[tuple[str, str]]) -> bytes:
    """Which numbers have which LIDs, user parts: serialised Message, not padded."""
    payload = pb.LIDMigrationMappingSyncPayload(
        pnToLidMappings=[
            pb.LIDMigrationMapping(pn=int(number), assignedLid=int(lid)) for number, lid in mappings
        ]
    ).SerializeToString()
    protocol = pb.Message.ProtocolMessage(
        type=_LID_MIGRATION_MAPPING_SYNC,
        lidMigrationMappingSyncMessage=pb.Message.LIDMigrationMappingSyncMessage(
            encodedMappingPayload=zlib.compress(payload)
        ),
    )
    return pb.Message(protocolMessage=protocol).SerializeToString()


def parse_message(plaintext: bytes) -> Content:
    """Read a decrypted message, padding removed.

    Raises:
        RemoteProtocolError: If it is no Message, wrapped too deeply, or a text is not UTF-8.
    """
    message = parse_proto(pb.Message, plaintext)
    sender_key = _sender_key(message)
    destination = None
    if message.HasField("deviceSentMessage"):
        sent = message.deviceSentMessage
        destination = Jid.parse(checked_text(sent.destinationJid))
        message = sent.message
        sender_key = sender_key or _sender_key(message)
    content = _content(_unwrapped(message))
    return replace(content, destination=destination, sender_key=sender_key)


def _unwrapped(message: pb.Message) -> pb.Message:
    for _ in range(_MAX_WRAPPERS):
        wrapper = next((name for name in _WRAPPERS if message.HasField(name)), None)
        if wrapper is None:
            return message
        message = getattr(message, wrapper).message
    raise RemoteProtocolError("a message wrapped too deeply")


def _content(message: pb.Message) -> Content:
    if message.HasField("conversation"):
        return Content("text", checked_text(message.conversation))
    if message.HasField("extendedTextMessage"):
        return Content("text", checked_text(message.extendedTextMessage.text))
    if message.HasField("protocolMessage"):
        return _protocol_content(message.protocolMessage)
    for kind, name, caption in (
        ("image", "imageMessage", message.imageMessage.caption),
        ("video", "videoMessage", message.videoMessage.caption),
        ("document", "documentMessage", message.documentMessage.caption),
        ("audio", "audioMessage", ""),
        ("sticker", "stickerMessage", ""),
        ("contact", "contactMessage", ""),
        ("contact", "contactsArrayMessage", ""),
        ("location", "locationMessage", ""),
        ("reaction", "reactionMessage", ""),
    ):
        if message.HasField(name):
            return Content(kind, checked_text(caption) or None)
    # Content that the schema does not name is somebody's message all the same.
    return Content("other" if len(UnknownFieldSet(message)) else "none")


def _protocol_content(protocol: pb.Message.ProtocolMessage) -> Content:
    # An absent type is REVOKE, the first value of the enum.
    if protocol.type == _REVOKE:
        return Content("revoke")
    if protocol.type == _MESSAGE_EDIT:
        return Content("edit", _content(_unwrapped(protocol.editedMessage)).text)
    if protocol.type == _HISTORY_SYNC_NOTIFICATION:
        return Content("history_sync", notice=protocol.SerializeToString())
    if protocol.type == _LID_MIGRATION_MAPPING_SYNC:
        return Content("lid_migration", notice=protocol.SerializeToString())
    if protocol.type == _APP_STATE_SYNC_KEY_SHARE:
        keys = tuple(
            AppStateKey(key.keyId.keyId, key.keyData.keyData, key.keyData.timestamp)
            for key in protocol.appStateSyncKeyShare.keys
        )
        return Content("app_state_keys", app_state_keys=keys)
    if protocol.type == _PEER_DATA_REQUEST:
        request = protocol.peerDataOperationRequestMessage
        if request.peerDataOperationRequestType == _PLACEHOLDER_RESEND:
            wanted = request.placeholderMessageResendRequest
            return Content("phone_request", asked=tuple(_name(one.messageKey) for one in wanted))
    if protocol.type == _PEER_DATA_ANSWER:
        answer = protocol.peerDataOperationRequestResponseMessage
        return Content("phone_answer", kept=_kept(answer))
    return Content("protocol")


def _kept(
    answer: pb.Message.PeerDataOperationRequestResponseMessage,
) -> tuple[KeptMessage, ...]:
    """The messages of a phone's answer; one that cannot be read does not keep the others back."""
    found = []
    for result in answer.peerDataOperationResult[:MAX_KEPT]:
        data = result.placeholderMessageResendResponse.webMessageInfoBytes
        try:
            info = parse_proto(pb.WebMessageInfo, data)
            message = _unwrapped(info.message)
            # Empty: the phone does not have it either. Protocol messages are for the device that
            # got them, and an answer inside of an answer would have no end.
            if not message.ByteSize() or message.HasField("protocolMessage"):
                continue
            found.append(
                KeptMessage(
                    _name(info.key),
                    _content(message),
                    info.messageTimestamp if info.HasField("messageTimestamp") else None,
                    checked_text(info.pushName) if info.HasField("pushName") else None,
                )
            )
        except RemoteProtocolError:
            continue
    return tuple(found)


def _name(key: pb.MessageKey) -> MessageName:
    participant = checked_text(key.participant)
    return MessageName(
        Jid.parse(checked_text(key.remoteJid)).bare,
        checked_text(key.id),
        key.fromMe,
        Jid.parse(participant).bare if participant else None,
    )


def parse_notice(data: bytes) -> PhoneNotice:
    """Read the notice of a `Content`.

    Raises:
        RemoteProtocolError: If it is none.
    """
    protocol = parse_proto(pb.Message.ProtocolMessage, data)
    if protocol.type == _LID_MIGRATION_MAPPING_SYNC:
        return LidMigration(protocol.lidMigrationMappingSyncMessage.encodedMappingPayload)
    if protocol.type != _HISTORY_SYNC_NOTIFICATION:
        raise RemoteProtocolError("not a notice of the phone")
    notice = protocol.historySyncNotification
    if notice.HasField("initialHistBootstrapInlinePayload"):
        return HistorySync(notice.syncType, notice.initialHistBootstrapInlinePayload)
    file = media_file(
        checked_text(notice.directPath),
        notice.mediaKey,
        notice.fileEncSha256,
        notice.fileSha256,
        notice.fileLength,
    )
    return HistorySync(notice.syncType, None, file)


def _sender_key(message: pb.Message) -> SenderKey | None:
    if not message.HasField("senderKeyDistributionMessage"):
        return None
    found = message.senderKeyDistributionMessage
    return SenderKey(checked_text(found.groupId), found.axolotlSenderKeyDistributionMessage)

"""ClientPayload and `<success>`: who connects, and the server's welcome.

The payload travels inside the last handshake message (noise.py). A refusal is failure.py.

Source: Baileys lib/Utils/validate-connection.js; whatsmeow store/clientpayload.go.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from ..crypto import KEY_LEN, SIGNATURE_LEN, verify
from ..errors import LocalProtocolError, RemoteProtocolError
from ..jid import Jid
from ..keys import KEY_TYPE, DeviceKeys
from ..node import Node
from ..schema import whatsapp_pb2 as pb
from .wire import (
    KEY_ID_LEN,
    REGISTRATION_ID_LEN,
    attributes,
    checked_text,
    numbered,
    parse_proto,
    registration_bytes,
)

# Revision of the web client we announce. The server refuses old ones with failure 405; expect a
# life of some months. Source: WhatsApp Web 2.3000.1047483476, as the whatspec project captured it.
DEFAULT_REVISION: Final = 1_047_483_476
_PRIMARY_VERSION: Final = 2
_SECONDARY_VERSION: Final = 3000
_PLATFORM_WEB: Final = 14
_CONNECT_TYPE_WIFI_UNKNOWN: Final = 1
_CONNECT_REASON_USER_ACTIVATED: Final = 1
# Version of the operating system as Baileys announces it.
_OS_VERSION: Final = (10, 15, 7)
_STORAGE_QUOTA_MB: Final = 10240
_BUILD_HASH_LEN: Final = 16


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What we say we are.

    Attributes:
        revision: third part of the web client's version.
        os_name: shown in the phone's list of linked devices.
        platform_type: 1 Chrome, 2 Firefox, 5 Safari, 6 Edge, 7 desktop.
        language: ISO 639-1.
        country: ISO 3166-1 alpha-2.
    """

    revision: int = DEFAULT_REVISION
    os_name: str = "Mac OS"
    platform_type: int = 1
    language: str = "en"
    country: str = "US"


@dataclass(frozen=True, slots=True)
class Registration:
    """A client without an account, which wants to be paired.

    Attributes:
        identity: 32 bytes, X25519.
        signed_prekey: 32 bytes, X25519; signature: 64 bytes, not verified by parsing.
        build_hash: 16 bytes; see `build_hash`.
        os_name: name for the phone's list of linked devices.
        platform_type: as in `ClientInfo`; 0 if it says none.
    """

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signature: bytes
    build_hash: bytes
    revision: int
    os_name: str
    platform_type: int
    require_full_sync: bool

    def signature_is_valid(self) -> bool:
        """Whether the identity key signed the signed prekey."""
        return verify(self.identity, KEY_TYPE + self.signed_prekey, self.signature)


@dataclass(frozen=True, slots=True)
class Login:
    """A paired client: phone number and device, both still to be checked against the account.

    Attributes:
        passive: whether the server holds events back until `<active/>`.
        lid_db_migrated: whether the client stores its Signal sessions by LID.
    """

    user: str
    device: int
    passive: bool
    revision: int
    push_name: str | None = None
    lid_db_migrated: bool = False


@dataclass(frozen=True, slots=True)
class Success:
    """`<success>`: logged in.

    Attributes:
        t: server time, UTC seconds; None if it does not say.
        lid: our own LID.
    """

    t: int | None
    lid: Jid | None


def build_hash(revision: int) -> bytes:
    """MD5 of the client's version text: 16 bytes. Not for security."""
    text = f"{_PRIMARY_VERSION}.{_SECONDARY_VERSION}.{revision}"
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def registration_payload(keys: DeviceKeys, info: ClientInfo) -> bytes:
    """The ClientPayload of a device that is not paired yet."""
    payload = _common(info)
    payload.passive = False
    payload.pull = False
    signed_prekey = keys.signed_prekey
    payload.devicePairingData.CopyFrom(
        pb.ClientPayload.DevicePairingRegistrationData(
            eRegid=registration_bytes(keys.registration_id),
            eKeytype=KEY_TYPE,
            eIdent=keys.identity.public_key,
            eSkeyId=numbered(signed_prekey.key_id),
            eSkeyVal=signed_prekey.key_pair.public_key,
            eSkeySig=signed_prekey.signature,
            buildHash=build_hash(info.revision),
            deviceProps=_device_props(info).SerializeToString(),
        )
    )
    return payload.SerializeToString()


def login_payload(
    jid: Jid, info: ClientInfo, push_name: str | None = None, *, lid_db_migrated: bool = True
) -> bytes:
    """The ClientPayload of a paired device.

    Args:
        jid: own device by phone number, not by LID.
        lid_db_migrated: declares that Signal sessions are stored by LID.

    Raises:
        LocalProtocolError: If the user of the JID is not a phone number.
    """
    if not (jid.user.isascii() and jid.user.isdigit()):
        raise LocalProtocolError("a login needs the phone number's JID")
    payload = _common(info)
    payload.username = int(jid.user)
    payload.passive = True
    payload.pull = True
    payload.device = jid.device
    payload.lidDbMigrated = lid_db_migrated
    if push_name:
        payload.pushName = push_name
    return payload.SerializeToString()


def _common(info: ClientInfo) -> pb.ClientPayload:
    return pb.ClientPayload(
        userAgent=pb.ClientPayload.UserAgent(
            platform=_PLATFORM_WEB,
            appVersion=pb.ClientPayload.UserAgent.AppVersion(
                primary=_PRIMARY_VERSION, secondary=_SECONDARY_VERSION, tertiary=info.revision
            ),
            mcc="000",
            mnc="000",
            osVersion="0.1",
            device="Desktop",
            osBuildNumber="0.1",
            releaseChannel=0,
            localeLanguageIso6391=info.language,
            localeCountryIso31661Alpha2=info.country,
        ),
        webInfo=pb.ClientPayload.WebInfo(webSubPlatform=0),
        connectType=_CONNECT_TYPE_WIFI_UNKNOWN,
        connectReason=_CONNECT_REASON_USER_ACTIVATED,
    )


def _device_props(info: ClientInfo) -> pb.DeviceProps:
    primary, secondary, tertiary = _OS_VERSION
    return pb.DeviceProps(
        os=info.os_name,
        version=pb.DeviceProps.AppVersion(primary=primary, secondary=secondary, tertiary=tertiary),
        platformType=info.platform_type,
        requireFullSync=False,
        # Only what is parsed is advertised: call logs and group history are not.
        historySyncConfig=pb.DeviceProps.HistorySyncConfig(
            storageQuotaMb=_STORAGE_QUOTA_MB,
            inlineInitialPayloadInE2EeMsg=True,
            supportCallLogHistory=False,
            supportBotUserAgentChatHistory=True,
            supportCagReactionsAndPolls=True,
            supportBizHostedMsg=True,
            supportRecentSyncChunkMessageCountTuning=True,
            supportHostedGroupMsg=True,
            supportFbidBotChatHistory=True,
            supportMessageAssociation=True,
            supportGroupHistory=False,
        ),
    )


def parse_client_payload(data: bytes) -> Registration | Login:
    """Read a ClientPayload, as the server does.

    Raises:
        RemoteProtocolError: If it is malformed, a key or signature has a wrong length, or it names
            neither an account nor keys to pair.
    """
    payload = parse_proto(pb.ClientPayload, data)
    revision = payload.userAgent.appVersion.tertiary
    if payload.HasField("devicePairingData"):
        return _registration(payload.devicePairingData, revision)
    if not payload.HasField("username"):
        raise RemoteProtocolError("a ClientPayload without account and without keys")
    return Login(
        user=str(payload.username),
        device=payload.device,
        passive=payload.passive,
        revision=revision,
        push_name=checked_text(payload.pushName) if payload.HasField("pushName") else None,
        lid_db_migrated=payload.lidDbMigrated,
    )


def _registration(
    data: pb.ClientPayload.DevicePairingRegistrationData, revision: int
) -> Registration:
    lengths = (
        (data.eRegid, REGISTRATION_ID_LEN, "registration id"),
        (data.eIdent, KEY_LEN, "identity key"),
        (data.eSkeyId, KEY_ID_LEN, "signed prekey id"),
        (data.eSkeyVal, KEY_LEN, "signed prekey"),
        (data.eSkeySig, SIGNATURE_LEN, "signature"),
        (data.buildHash, _BUILD_HASH_LEN, "build hash"),
    )
    for value, length, name in lengths:
        if len(value) != length:
            raise RemoteProtocolError(f"{name} of {len(value)} bytes instead of {length}")
    if data.eKeytype != KEY_TYPE:
        raise RemoteProtocolError("unknown type of identity key")
    props = parse_proto(pb.DeviceProps, data.deviceProps)
    return Registration(
        registration_id=int.from_bytes(data.eRegid, "big"),
        identity=data.eIdent,
        signed_prekey_id=int.from_bytes(data.eSkeyId, "big"),
        signed_prekey=data.eSkeyVal,
        signature=data.eSkeySig,
        build_hash=data.buildHash,
        revision=revision,
        os_name=checked_text(props.os),
        platform_type=props.platformType,
        require_full_sync=props.requireFullSync,
    )


def parse_success(node: Node) -> Success:
    """Read `<success>`.

    Raises:
        RemoteProtocolError: If its time or LID cannot be read.
    """
    return Success(node.number("t"), node.jid("lid"))


def success(lid: Jid, t: int) -> Node:
    """Build `<success>`.

    Args:
        t: server time, UTC seconds.
    """
    return Node("success", attributes({"t": t, "lid": lid}))

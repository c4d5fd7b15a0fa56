"""Linking a device by QR code: refs, the QR text, and `pair-success` with its proofs.

The phone signs the companion's identity key and authenticates the result with the secret it read
from the QR code; the companion checks both, signs in turn and replies. Three forms of the identity
must not be confused: the container with its HMAC (server to companion), the reply without the
account's key, and the full one that is stored and later stands as `<device-identity>` on messages.
The passkey gate is recognised in notification.py.

Source: whatsmeow pair.go, qrchan.go; Baileys lib/Utils/validate-connection.js.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..crypto import KEY_LEN, SIGNATURE_LEN, equal, hmac_sha256, sign, verify
from ..errors import PairingError, RemoteProtocolError
from ..jid import LID_SERVER, PN_SERVER, SERVER_JID, Jid
from ..keys import DeviceKeys, KeyPair
from ..node import Node
from ..schema import whatsapp_pb2 as pb
from . import iq
from .wire import attributes, leaf, parse_proto, text_content

_QR_PREFIX: Final = "https://wa.me/settings/linked_devices#"
_HOSTED: Final = 1
_ACCOUNT_SIGNATURE: Final = b"\x06\x00"
_HOSTED_ACCOUNT_SIGNATURE: Final = b"\x06\x05"
# Also for hosted devices: a prefix 06 06 is defined in both libraries and used by neither.
_DEVICE_SIGNATURE: Final = b"\x06\x01"


@dataclass(frozen=True, slots=True)
class QrCode:
    """What a phone reads from the QR code: three keys of 32 bytes.

    Attributes:
        platform: one character, "1" for Chrome; None in the older form of the text.
    """

    ref: str
    noise: bytes
    identity: bytes
    adv_secret: bytes
    platform: str | None

    def __repr__(self) -> str:
        return f"QrCode(platform={self.platform})"


@dataclass(frozen=True, slots=True)
class PairedIdentity:
    """What a verified `pair-success` gives, to be stored before the reply is sent.

    Attributes:
        jid: own device by phone number.
        lid: own device by LID, with the same device number.
        signed_identity: serialised ADVSignedDeviceIdentity with account key and our signature.
        account_key: the phone's identity key, 32 bytes.
        platform: the phone's, for example "android".
        server_time: UTC seconds.
    """

    jid: Jid
    lid: Jid
    signed_identity: bytes
    account_key: bytes
    key_index: int
    platform: str
    business_name: str | None
    server_time: int | None


def pair_device(id: str, refs: Sequence[str]) -> Node:
    """The server's list of refs for QR codes."""
    children = tuple(leaf("ref", ref.encode()) for ref in refs)
    return Node(
        "iq",
        attributes({"from": SERVER_JID, "type": "set", "id": id, "xmlns": "md"}),
        (Node("pair-device", {}, children),),
    )


def parse_pair_device(node: Node) -> list[str]:
    """The refs, in the order in which they are to be shown.

    Raises:
        RemoteProtocolError: If there is none or one is not text.
    """
    refs = [text_content(ref) for ref in node.required("pair-device").named("ref")]
    if not all(refs) or not refs:
        raise RemoteProtocolError("pair-device without refs")
    return refs


def qr_text(ref: str, keys: DeviceKeys, platform: str = "1") -> str:
    """The text of the QR code for this ref. It holds a secret: never log it."""
    secrets = (keys.noise.public_key, keys.identity.public_key, keys.adv_secret)
    parts = (ref, *(base64.b64encode(secret).decode() for secret in secrets), platform)
    return _QR_PREFIX + ",".join(parts)


def parse_qr_text(text: str) -> QrCode:
    """Read a QR code, with or without the address in front and the platform behind.

    Raises:
        RemoteProtocolError: If it is no such text.
    """
    ref, *rest = text.removeprefix(_QR_PREFIX).split(",")
    if not ref or len(rest) not in (3, 4):
        raise RemoteProtocolError("not the text of a linking QR code")
    try:
        noise, identity, adv_secret = (base64.b64decode(part, validate=True) for part in rest[:3])
    except (binascii.Error, ValueError) as error:
        raise RemoteProtocolError("a key in the QR code is not base64") from error
    if any(len(value) != KEY_LEN for value in (noise, identity, adv_secret)):
        raise RemoteProtocolError("a key in the QR code is not 32 bytes")
    return QrCode(ref, noise, identity, adv_secret, rest[3] if len(rest) == 4 else None)


def make_signed_identity(
    account: KeyPair,
    identity: bytes,
    adv_secret: bytes,
    *,
    key_index: int,
    timestamp: int,
    raw_id: int,
    hosted: bool = False,
) -> bytes:
    """Sign a companion, as the phone does: a serialised ADVSignedDeviceIdentityHMAC.

    Args:
        account: the phone's identity key pair.
        identity: the companion's identity key from the QR code, 32 bytes.
        key_index: number of this companion in the account's list, from 1.
        timestamp: UTC seconds.
        raw_id: the account's number for its list of devices.
    """
    details = pb.ADVDeviceIdentity(rawId=raw_id, timestamp=timestamp, keyIndex=key_index)
    if hosted:
        details.accountType = details.deviceType = _HOSTED
    details_bytes = details.SerializeToString()
    signed = pb.ADVSignedDeviceIdentity(
        details=details_bytes,
        accountSignatureKey=account.public_key,
        accountSignature=sign(
            account.private_key, _account_message(details_bytes, identity, hosted)
        ),
    ).SerializeToString()
    container = pb.ADVSignedDeviceIdentityHMAC(
        details=signed, hmac=_container_hmac(adv_secret, signed, hosted)
    )
    if hosted:
        container.accountType = _HOSTED
    return container.SerializeToString()


def pair_success(
    id: str,
    signed_identity: bytes,
    *,
    jid: Jid,
    lid: Jid,
    platform: str,
    business_name: str | None = None,
    t: int | None = None,
) -> Node:
    """The server's word that a phone has linked this device.

    Args:
        signed_identity: from `make_signed_identity`.
        t: server time, UTC seconds.
    """
    children = [
        leaf("device-identity", signed_identity),
        Node("device", attributes({"jid": jid, "lid": lid})),
        Node("platform", {"name": platform}),
    ]
    if business_name is not None:
        children.append(Node("biz", {"name": business_name}))
    return Node(
        "iq",
        attributes({"from": SERVER_JID, "type": "set", "id": id, "t": t}),
        (Node("pair-success", {}, tuple(children)),),
    )


def accept_pair_success(node: Node, keys: DeviceKeys) -> tuple[PairedIdentity, Node]:
    """Verify `pair-success`, sign, and build the reply.

    Returns:
        What to store, and the reply to send after it is stored.

    Raises:
        PairingError: If a proof fails or something is missing; answer with `pairing_error`.
        RemoteProtocolError: If the stanza has no id, so that it cannot be answered at all.
    """
    node.required_text("id")
    try:
        return _accept(node, keys)
    except PairingError:
        raise
    except RemoteProtocolError as error:
        raise PairingError(500, "internal-error") from error


def _accept(node: Node, keys: DeviceKeys) -> tuple[PairedIdentity, Node]:
    success = node.required("pair-success")
    container = parse_proto(pb.ADVSignedDeviceIdentityHMAC, success.data_of("device-identity"))
    hosted_account = container.accountType == _HOSTED
    if not equal(
        container.hmac, _container_hmac(keys.adv_secret, container.details, hosted_account)
    ):
        raise PairingError(401, "hmac-mismatch")

    signed = parse_proto(pb.ADVSignedDeviceIdentity, container.details)
    account_key = signed.accountSignatureKey
    if len(account_key) != KEY_LEN or len(signed.accountSignature) != SIGNATURE_LEN:
        raise RemoteProtocolError("account key or signature of a wrong length")
    details = parse_proto(pb.ADVDeviceIdentity, signed.details)
    identity = keys.identity
    message = _account_message(signed.details, identity.public_key, details.deviceType == _HOSTED)
    if not verify(account_key, message, signed.accountSignature):
        raise PairingError(401, "signature-mismatch")

    jid, lid = _own_addresses(success.required("device"))
    platform, business = success.child("platform"), success.child("biz")
    # Made anew from the known fields, the details verbatim: nothing else in it is stored or sent.
    full = pb.ADVSignedDeviceIdentity(
        details=signed.details,
        accountSignatureKey=account_key,
        accountSignature=signed.accountSignature,
        deviceSignature=sign(
            identity.private_key,
            _device_message(signed.details, identity.public_key, account_key),
        ),
    )
    paired = PairedIdentity(
        jid=jid,
        lid=lid,
        signed_identity=full.SerializeToString(),
        account_key=account_key,
        key_index=details.keyIndex,
        platform=(platform.text("name") if platform else None) or "",
        business_name=business.text("name") if business else None,
        server_time=node.number("t"),
    )
    full.ClearField("accountSignatureKey")
    reply = Node(
        "device-identity", attributes({"key-index": details.keyIndex}), full.SerializeToString()
    )
    return paired, iq.result(node, Node("pair-device-sign", {}, (reply,)))


def _own_addresses(device: Node) -> tuple[Jid, Jid]:
    jid, lid = device.required_jid("jid"), device.required_jid("lid")
    if jid.server != PN_SERVER or not jid.user or not jid.device:
        raise RemoteProtocolError("pair-success names no companion of a phone number")
    if lid.server != LID_SERVER or not lid.user:
        raise RemoteProtocolError("pair-success names no LID")
    # The number is the person's, equal under both addresses; some servers name it only once.
    return jid, lid if lid.device else lid.with_device(jid.device)


def pairing_error(node: Node, error: PairingError) -> Node:
    """Refuse a `pair-success`; close the connection after it.

    Raises:
        RemoteProtocolError: If the stanza has no id.
    """
    return iq.error(node, error.code, error.text)


def check_device_signature(reply: Node, account_key: bytes, identity: bytes) -> bytes:
    """Check a companion's reply, as the server and the phone do.

    Args:
        account_key: the phone's identity key, 32 bytes.
        identity: the companion's identity key, 32 bytes.

    Returns:
        The full ADVSignedDeviceIdentity, serialised.

    Raises:
        RemoteProtocolError: If it is malformed, carries another account's key, names another key
            index or a signature does not verify.

    Source: whatsmeow pair.go leaves the account's key out of the reply, whatsapp-rust
    wacore/src/pair.rs leaves it in; both are linked.
    """
    element = reply.required("pair-device-sign").required("device-identity")
    signed = parse_proto(pb.ADVSignedDeviceIdentity, element.data)
    if signed.HasField("accountSignatureKey") and signed.accountSignatureKey != account_key:
        raise RemoteProtocolError("the reply carries another account's key")
    signed.accountSignatureKey = account_key
    full = signed.SerializeToString()
    if element.number("key-index") != verify_signed_identity(full, identity):
        raise RemoteProtocolError("the key index beside the identity is another")
    return full


def verify_signed_identity(signed_identity: bytes, identity: bytes) -> int:
    """Check both signatures of a full identity, as it stands beside a pkmsg.

    Args:
        signed_identity: a serialised ADVSignedDeviceIdentity with account key; whether that key is
            the account's is for the caller to know.
        identity: the companion's identity key, 32 bytes.

    Returns:
        The key index.

    Raises:
        RemoteProtocolError: If it is malformed or a signature does not verify.
    """
    signed = parse_proto(pb.ADVSignedDeviceIdentity, signed_identity)
    details = parse_proto(pb.ADVDeviceIdentity, signed.details)
    account_key = signed.accountSignatureKey
    by_account = _account_message(signed.details, identity, details.deviceType == _HOSTED)
    if not verify(account_key, by_account, signed.accountSignature):
        raise RemoteProtocolError("the account's signature of a device is wrong")
    by_device = _device_message(signed.details, identity, account_key)
    if not verify(identity, by_device, signed.deviceSignature):
        raise RemoteProtocolError("the device's own signature is wrong")
    return details.keyIndex


def _container_hmac(adv_secret: bytes, details: bytes, hosted: bool) -> bytes:
    return hmac_sha256(adv_secret, (_HOSTED_ACCOUNT_SIGNATURE if hosted else b"") + details)


def _account_message(details: bytes, identity: bytes, hosted: bool) -> bytes:
    prefix = _HOSTED_ACCOUNT_SIGNATURE if hosted else _ACCOUNT_SIGNATURE
    return prefix + details + identity


def _device_message(details: bytes, identity: bytes, account_key: bytes) -> bytes:
    return _DEVICE_SIGNATURE + details + identity + account_key

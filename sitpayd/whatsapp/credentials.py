"""Credentials: what has to be remembered of one linked device, as one value.

Keys and identity only; Signal sessions and one-time prekeys are kept one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from .errors import LocalProtocolError, RemoteProtocolError
from .jid import Jid
from .keys import DeviceKeys, KeyPair, SignedPreKey
from .schema import session_pb2
from .stanzas.pairing import PairedIdentity
from .stanzas.wire import checked_text


@dataclass(frozen=True, slots=True)
class Credentials:
    """A device's keys and, once it is linked, its identity."""

    keys: DeviceKeys
    paired: PairedIdentity | None = None

    def to_bytes(self) -> bytes:
        """Serialise; the bytes hold private keys."""
        keys = self.keys
        stored = session_pb2.Credentials(
            noisePrivate=keys.noise.private_key,
            identityPrivate=keys.identity.private_key,
            signedPreKeyId=keys.signed_prekey.key_id,
            signedPreKeyPrivate=keys.signed_prekey.key_pair.private_key,
            signedPreKeySignature=keys.signed_prekey.signature,
            registrationId=keys.registration_id,
            advSecret=keys.adv_secret,
        )
        if self.paired is not None:
            stored.identity.CopyFrom(
                session_pb2.Credentials.Identity(
                    jid=str(self.paired.jid),
                    lid=str(self.paired.lid),
                    signedIdentity=self.paired.signed_identity,
                    accountKey=self.paired.account_key,
                    keyIndex=self.paired.key_index,
                    platform=self.paired.platform,
                    businessName=self.paired.business_name,
                    serverTime=self.paired.server_time,
                )
            )
        return stored.SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Credentials:
        """Read what `to_bytes` wrote.

        Raises:
            LocalProtocolError: If the bytes are damaged.
        """
        try:
            stored = session_pb2.Credentials.FromString(data)
            keys = DeviceKeys(
                noise=KeyPair.from_private(stored.noisePrivate),
                identity=KeyPair.from_private(stored.identityPrivate),
                signed_prekey=SignedPreKey(
                    stored.signedPreKeyId,
                    KeyPair.from_private(stored.signedPreKeyPrivate),
                    stored.signedPreKeySignature,
                ),
                registration_id=stored.registrationId,
                adv_secret=stored.advSecret,
            )
            paired = _identity(stored.identity) if stored.HasField("identity") else None
        except (DecodeError, ValueError, RemoteProtocolError) as error:
            raise LocalProtocolError("stored credentials are damaged") from error
        return cls(keys, paired)


def _identity(stored: session_pb2.Credentials.Identity) -> PairedIdentity:
    return PairedIdentity(
        jid=Jid.parse(checked_text(stored.jid)),
        lid=Jid.parse(checked_text(stored.lid)),
        signed_identity=stored.signedIdentity,
        account_key=stored.accountKey,
        key_index=stored.keyIndex,
        platform=checked_text(stored.platform),
        business_name=checked_text(stored.businessName)
        if stored.HasField("businessName")
        else None,
        server_time=stored.serverTime if stored.HasField("serverTime") else None,
    )

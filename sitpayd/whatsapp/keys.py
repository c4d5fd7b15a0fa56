"""Key material of one linked device, as values.

Making and naming keys; storing them is storage/, using them is noise.py and signal/.
"""

from __future__ import annotations

import secrets
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from .crypto import new_private_key, public_key_of, sign

# First byte of a public key inside Signal messages and signatures: the curve's type.
KEY_TYPE: Final = b"\x05"
MAX_PREKEY_ID: Final = 0xFFFFFF
# The Signal convention is 1 to 16380; the wire has 4 bytes for it.
MAX_REGISTRATION_ID: Final = 16380


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 key pair: private_key 32 bytes clamped, public_key 32 bytes without type byte."""

    private_key: bytes
    public_key: bytes

    @classmethod
    def from_private(cls, private_key: bytes) -> KeyPair:
        """Derive the public half."""
        return cls(private_key, public_key_of(private_key))

    @classmethod
    def generate(cls) -> KeyPair:
        """Make a fresh pair."""
        return cls.from_private(new_private_key())

    def __repr__(self) -> str:
        return f"KeyPair(public_key={self.public_key.hex()})"


@dataclass(frozen=True, slots=True)
class SignedPreKey:
    """A signed prekey: id 1 to 2^24-1; signature 64 bytes, XEdDSA over 05 || public key."""

    key_id: int
    key_pair: KeyPair
    signature: bytes

    @classmethod
    def generate(cls, key_id: int, identity: KeyPair) -> SignedPreKey:
        """Make and sign one."""
        key_pair = KeyPair.generate()
        signature = sign(identity.private_key, KEY_TYPE + key_pair.public_key)
        return cls(key_id, key_pair, signature)


@dataclass(frozen=True, slots=True)
class PreKey:
    """A one-time prekey: id 1 to 2^24-1."""

    key_id: int
    key_pair: KeyPair


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """What a device makes before its first connect and keeps as long as the pairing lives.

    Attributes:
        noise: static key of the Noise handshake.
        identity: Signal identity, also signs.
        registration_id: 1 to 16380.
        adv_secret: 32 bytes, HMAC key of `pair-success`, shown in the QR code.
    """

    noise: KeyPair
    identity: KeyPair
    signed_prekey: SignedPreKey
    registration_id: int
    adv_secret: bytes

    @classmethod
    def generate(cls) -> DeviceKeys:
        """Make everything anew; keys are never reused for another account."""
        identity = KeyPair.generate()
        return cls(
            noise=KeyPair.generate(),
            identity=identity,
            signed_prekey=SignedPreKey.generate(1, identity),
            registration_id=1 + secrets.randbelow(MAX_REGISTRATION_ID),
            adv_secret=secrets.token_bytes(32),
        )

    def __repr__(self) -> str:
        return f"DeviceKeys(registration_id={self.registration_id})"


def prekey_id_after(key_id: int) -> int:
    """The next prekey id: counts up in 24 bits and wraps past the end to 1."""
    return key_id % MAX_PREKEY_ID + 1


def free_prekey_ids(key_id: int, count: int, taken: Container[int]) -> tuple[int, ...]:
    """The ids for so many new prekeys after this one; an id that is taken is passed over.

    Args:
        taken: ids of prekeys that are still kept; fewer than there are ids.
    """
    ids: list[int] = []
    while len(ids) < count:
        key_id = prekey_id_after(key_id)
        if key_id not in taken:
            ids.append(key_id)
    return tuple(ids)

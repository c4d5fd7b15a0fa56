"""X3DH: the key agreement that begins a session while one side is away.

Both functions give the same secret from opposite halves of the keys. Checking the signed prekey's
signature is not here: session.py does it before anything else. All keys are 32 bytes, X25519.

Source: Signal, "The X3DH Key Agreement Protocol"; constants as in libsignal's version 3.
"""

from __future__ import annotations

from typing import Final

from ..crypto import exchange, hkdf
from ..keys import KeyPair

# Sets these secrets apart from an XEdDSA input, which never starts like this.
_DISCONTINUITY: Final = b"\xff" * 32
_INFO: Final = b"WhisperText"


def initiator_secret(
    identity: KeyPair,
    base: KeyPair,
    their_identity: bytes,
    their_signed_prekey: bytes,
    their_prekey: bytes | None,
) -> bytes:
    """Agree as the side that fetched a bundle: 128 bytes, 160 with a one-time prekey.

    Args:
        base: a fresh pair of ours, used for this session alone.

    Raises:
        RemoteProtocolError: If one of their keys is unusable.
    """
    secret = (
        _DISCONTINUITY
        + exchange(identity.private_key, their_signed_prekey)
        + exchange(base.private_key, their_identity)
        + exchange(base.private_key, their_signed_prekey)
    )
    if their_prekey is not None:
        secret += exchange(base.private_key, their_prekey)
    return secret


def responder_secret(
    identity: KeyPair,
    signed_prekey: KeyPair,
    prekey: KeyPair | None,
    their_identity: bytes,
    their_base_key: bytes,
) -> bytes:
    """Agree as the side whose bundle was fetched; mirrors `initiator_secret`.

    Raises:
        RemoteProtocolError: If one of their keys is unusable.
    """
    secret = (
        _DISCONTINUITY
        + exchange(signed_prekey.private_key, their_identity)
        + exchange(identity.private_key, their_base_key)
        + exchange(signed_prekey.private_key, their_base_key)
    )
    if prekey is not None:
        secret += exchange(prekey.private_key, their_base_key)
    return secret


def first_keys(secret: bytes) -> tuple[bytes, bytes]:
    """Derive the first root key and the responder's first chain key, 32 bytes each."""
    derived = hkdf(secret, info=_INFO, length=64)
    return derived[:32], derived[32:]

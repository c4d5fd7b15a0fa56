"""The few cryptographic primitives used, each over a library's.

No protocol here: who derives what from what is in noise.py, signal/, stanzas/pairing.py and
stanzas/pairing_code.py.
"""

from __future__ import annotations

import hashlib
import hmac as _hmac
import secrets
from typing import Final

import xeddsa
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

from .errors import RemoteProtocolError

KEY_LEN: Final = 32
SIGNATURE_LEN: Final = 64
_FIELD_PRIME: Final = 2**255 - 19
_SHA256: Final = SHA256()


def hmac_sha256(secret: bytes, data: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return _hmac.digest(secret, data, "sha256")


def equal(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return _hmac.compare_digest(left, right)


def hkdf(ikm: bytes, *, salt: bytes = b"", info: bytes = b"", length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869); an empty salt is 32 zero bytes.

    Args:
        length: bytes wanted, at most 8160.
    """
    return HKDF(_SHA256, length, salt or None, info).derive(ikm)


def pbkdf2(password: bytes, salt: bytes, iterations: int) -> bytes:
    """PBKDF2-HMAC-SHA256 (RFC 8018), 32 bytes. Slow on purpose: meant for a thread."""
    # Not through cryptography: the standard library's lets other threads run meanwhile.
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations, KEY_LEN)


def clamp(private_key: bytes) -> bytes:
    """Clamp 32 bytes to an X25519 private key (RFC 7748 section 5)."""
    key = bytearray(private_key)
    key[0] &= 248
    key[31] &= 127
    key[31] |= 64
    return bytes(key)


def new_private_key() -> bytes:
    """A fresh X25519 private key: 32 bytes, clamped."""
    return clamp(secrets.token_bytes(KEY_LEN))


def public_key_of(private_key: bytes) -> bytes:
    """The X25519 public key: 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def exchange(private_key: bytes, public_key: bytes) -> bytes:
    """X25519: 32 bytes.

    Raises:
        RemoteProtocolError: If the public key is not 32 bytes or gives the all-zero result.
    """
    # Not through cryptography: its private key object derives the public key each time it is made
    # from bytes, which nearly doubles the cost.
    try:
        secret: bytes = xeddsa.x25519(private_key, public_key)
    except (xeddsa.XEdDSAException, ValueError) as error:
        raise RemoteProtocolError("unusable X25519 public key") from error
    return secret


def sign(private_key: bytes, message: bytes) -> bytes:
    """XEdDSA signature with an X25519 private key: 64 bytes, randomised.

    Source: Signal, "The XEdDSA and VXEdDSA Signature Schemes".
    """
    scalar = xeddsa.priv_force_sign(private_key, False)
    signature: bytes = xeddsa.ed25519_priv_sign(scalar, message, secrets.token_bytes(64))
    return signature


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Check an XEdDSA signature under an X25519 public key (32 bytes).

    The sign of the Edwards key travels in the top bit of signature byte 63 (the older curve25519
    convention); signatures that force it to 0 verify as well.
    """
    if len(public_key) != KEY_LEN or len(signature) != SIGNATURE_LEN:
        return False
    u = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    if u >= _FIELD_PRIME or u == _FIELD_PRIME - 1:
        return False
    y = (u - 1) * pow(u + 1, -1, _FIELD_PRIME) % _FIELD_PRIME
    edwards = bytearray(y.to_bytes(KEY_LEN, "little"))
    edwards[31] |= signature[63] & 0x80
    try:
        Ed25519PublicKey.from_public_bytes(bytes(edwards)).verify(
            signature[:63] + bytes((signature[63] & 0x7F,)), message
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def aes_cbc_encrypt(secret: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """AES-256-CBC with PKCS7 padding."""
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    return encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()


def aes_cbc_decrypt(secret: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """AES-256-CBC with PKCS7 padding, the other way.

    Raises:
        RemoteProtocolError: If the length or the padding is wrong.
    """
    decryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    try:
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise RemoteProtocolError("bad length or padding of an AES-CBC text") from error


def aes_ctr(secret: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-256-CTR, both ways; it authenticates nothing."""
    cipher = Cipher(algorithms.AES(secret), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def aes_gcm_encrypt(secret: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    """AES-256-GCM without additional data: ciphertext and 16 bytes of tag."""
    return AESGCM(secret).encrypt(nonce, plaintext, None)


def aes_gcm_decrypt(secret: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
    """AES-256-GCM without additional data, the other way.

    Raises:
        RemoteProtocolError: If the tag does not verify.
    """
    try:
        return AESGCM(secret).decrypt(nonce, ciphertext, None)
    except InvalidTag as error:
        raise RemoteProtocolError("an AES-GCM text does not verify") from error

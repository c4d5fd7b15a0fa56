"""Vault: what makes a stolen database file worthless.

Values are sealed with AES-256-GCM and bound to their place; what must be found again is kept as a
keyed digest beside it. Both keys come from one secret that does not lie in the database. The shape
of tokens and public ids is here, too, so that a mistyped one fails before any query.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import zlib
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sitpayd.errors import SealError

SECRET_LEN: Final = 32

TokenKind: TypeAlias = Literal["pk", "pu", "dt"]

_PEPPER_VERSION: Final = 1
_SEAL_VERSION: Final = 1
_KEY_LEN: Final = 32
_NONCE_LEN: Final = 12
_TAG_LEN: Final = 16

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN_BITS: Final = 256
_TOKEN_BODY_LEN: Final = 43  # 62**43 > 2**256
_CHECKSUM_LEN: Final = 6  # 62**6 > 2**32
_TOKEN: Final = re.compile(f"[0-9A-Za-z]{{{_TOKEN_BODY_LEN + _CHECKSUM_LEN}}}")
_SESSION_ID_LEN: Final = 20
_MESSAGE_ID_LEN: Final = 22


class Vault:
    """Seals, opens and digests with the keys of one secret."""

    __slots__ = ("_cipher", "_pepper")

    def __init__(self, secret: bytes) -> None:
        """Derive the keys.

        Args:
            secret: 32 bytes from outside the database.

        Raises:
            ValueError: If it has another length.
        """
        if len(secret) != SECRET_LEN:
            raise ValueError(f"the secret must have {SECRET_LEN} bytes, not {len(secret)}")
        self._pepper = _derive(secret, f"sitpayd pepper {_PEPPER_VERSION}")
        self._cipher = AESGCM(_derive(secret, f"sitpayd seal {_SEAL_VERSION}"))

    def seal(
        self, table: str, device_id: int, column: str, row_key: str, plaintext: bytes
    ) -> bytes:
        """Encrypt a value for its place; `open` works only at the same one.

        Args:
            device_id: 0 for what belongs to no device.
            row_key: what tells the row from others of the device in this table.

        Returns:
            Key version (1 byte), nonce (12), ciphertext, tag (16).
        """
        nonce = os.urandom(_NONCE_LEN)
        place = _place(table, device_id, column, row_key)
        return _SEAL_PREFIX + nonce + self._cipher.encrypt(nonce, plaintext, place)

    def open(self, table: str, device_id: int, column: str, row_key: str, sealed: bytes) -> bytes:
        """Decrypt a value sealed for this place.

        Raises:
            SealError: If it is damaged, was sealed for another place, or with another secret.
        """
        if sealed[:1] != _SEAL_PREFIX or len(sealed) < 1 + _NONCE_LEN + _TAG_LEN:
            raise SealError(f"{table}.{column} holds no sealed value of a known version")
        try:
            return self._cipher.decrypt(
                sealed[1 : 1 + _NONCE_LEN],
                sealed[1 + _NONCE_LEN :],
                _place(table, device_id, column, row_key),
            )
        except InvalidTag:
            raise SealError(f"{table}.{column} of device {device_id} does not open") from None

    def digest(self, value: bytes | str) -> bytes:
        """Digest a value for look-ups: key version (1 byte) and HMAC-SHA-256 (32)."""
        data = value.encode() if isinstance(value, str) else value
        return _PEPPER_PREFIX + hmac.digest(self._pepper, data, "sha256")


_SEAL_PREFIX: Final = bytes([_SEAL_VERSION])
_PEPPER_PREFIX: Final = bytes([_PEPPER_VERSION])


def _derive(secret: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), _KEY_LEN, salt=None, info=purpose.encode()).derive(secret)


def _place(table: str, device_id: int, column: str, row_key: str) -> bytes:
    return f"{table}|{device_id}|{column}|{row_key}|{_SEAL_VERSION}".encode()


def new_token(kind: TokenKind) -> str:
    """Make a credential: prefix, 43 base62 characters of 256 random bits, 6 of their CRC-32."""
    body = f"{kind}_{_base62(secrets.randbits(_TOKEN_BITS), _TOKEN_BODY_LEN)}"
    return body + _checksum(body)


def is_token(kind: TokenKind, text: str) -> bool:
    """Whether the text has the shape and checksum of such a credential; no secret is touched."""
    prefix_len = len(kind) + 1
    if text[:prefix_len] != f"{kind}_" or not _TOKEN.fullmatch(text, prefix_len):
        return False
    return text[-_CHECKSUM_LEN:] == _checksum(text[:-_CHECKSUM_LEN])


def new_session_id() -> str:
    """Make the public name of a device: "wa_" and 20 base62 characters (119 bits)."""
    return f"wa_{_random_base62(_SESSION_ID_LEN)}"


def new_message_id() -> str:
    """Make the public name of a message: "msg_" and 22 base62 characters (131 bits)."""
    return f"msg_{_random_base62(_MESSAGE_ID_LEN)}"


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LEN)


def _random_base62(length: int) -> str:
    return _base62(secrets.randbelow(62**length), length)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))

"""media: files that lie encrypted on WhatsApp's media servers.

Their keys, what of a blob is checked before a byte of it is used, and how it is asked for. Blobs
come in pieces and are read more than once, so that none is ever held in memory. Fetching them is
done outside.

Source: whatsmeow download.go, upload.go; Baileys lib/Utils/messages-media.js.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from .crypto import KEY_LEN, aes_cbc_encrypt, equal, hkdf, hmac_sha256
from .errors import RemoteProtocolError

# The purpose of a history's keys, and how the media servers call such a file.
HISTORY: Final = "History"
HISTORY_PATH: Final = "md-msg-hist"

MAC_LEN: Final = 10
_KEYS_LEN: Final = 112
_HASH_LEN: Final = 32
_MAX_PATH_LEN: Final = 2048
# What may stand in the target of a request, and begins at the host's own root.
_PATH: Final = re.compile(r"/[!-.0-~][!-~]*")

Blob = Callable[[], Iterable[bytes]]
"""Begins to read a blob from its start; the pieces may have any size."""


@dataclass(frozen=True, slots=True)
class MediaKeys:
    """What one media key stands for: iv 16 bytes, the others 32."""

    iv: bytes
    cipher_key: bytes
    mac_key: bytes

    def __repr__(self) -> str:
        return "MediaKeys()"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """Where a file lies, and how it is known and read.

    Attributes:
        direct_path: path and query at a media server; whoever sent it chose it.
        media_key: 32 bytes.
        enc_sha256: 32 bytes, of the blob; sha256: 32 bytes, of the file.
        length: bytes of the file, as its sender says.
    """

    direct_path: str
    media_key: bytes
    enc_sha256: bytes
    sha256: bytes
    length: int

    def __repr__(self) -> str:
        return f"MediaFile(length={self.length})"


def media_file(
    direct_path: str, media_key: bytes, enc_sha256: bytes, sha256: bytes, length: int
) -> MediaFile:
    """Take what a message says about a file.

    Raises:
        RemoteProtocolError: If a part is missing or has a wrong shape, or the path could lead to
            another host.
    """
    if len(media_key) != KEY_LEN or len(enc_sha256) != _HASH_LEN or len(sha256) != _HASH_LEN:
        raise RemoteProtocolError("a media file without its key or its hashes")
    if len(direct_path) > _MAX_PATH_LEN or not _PATH.fullmatch(direct_path):
        raise RemoteProtocolError("a media file at no path")
    return MediaFile(direct_path, media_key, enc_sha256, sha256, length)


def derive(media_key: bytes, purpose: str) -> MediaKeys:
    """The keys of a file.

    Args:
        purpose: what kind of file it is, such as `HISTORY`.
    """
    derived = hkdf(media_key, info=f"WhatsApp {purpose} Keys".encode(), length=_KEYS_LEN)
    return MediaKeys(derived[:16], derived[16:48], derived[48:80])


def request_target(file: MediaFile, path: str) -> str:
    """What to ask a media server for: path and query.

    Args:
        path: how the servers call this kind of file, such as `HISTORY_PATH`.
    """
    digest = base64.urlsafe_b64encode(file.enc_sha256).decode()
    mark = "&" if "?" in file.direct_path else "?"
    return f"{file.direct_path}{mark}hash={digest}&mms-type={path}&__wa-mms="


def encrypt(plaintext: bytes, media_key: bytes, purpose: str) -> bytes:
    """Make the blob of a file: ciphertext and 10 bytes of MAC."""
    keys = derive(media_key, purpose)
    ciphertext = aes_cbc_encrypt(keys.cipher_key, keys.iv, plaintext)
    return ciphertext + hmac_sha256(keys.mac_key, keys.iv + ciphertext)[:MAC_LEN]


def opened(blob: Blob, file: MediaFile, purpose: str, *, max_len: int) -> Iterator[bytes]:
    """Yield a file in pieces, after all of its blob was checked.

    The order is: length, hash of the blob, MAC, decryption, hash of the file. The blob is read
    three times, since the last hash is known only at the end of what it is about.

    Args:
        max_len: bytes; a longer blob is refused.

    Raises:
        RemoteProtocolError: If one of the checks fails.
    """
    keys = derive(file.media_key, purpose)
    _check_blob(blob(), file, keys, max_len)
    digest = hashlib.sha256()
    for piece in _decrypted(blob(), keys):
        digest.update(piece)
    if not equal(digest.digest(), file.sha256):
        raise RemoteProtocolError("a media file with another hash")
    yield from _decrypted(blob(), keys)


def _check_blob(pieces: Iterable[bytes], file: MediaFile, keys: MediaKeys, max_len: int) -> None:
    digest = hashlib.sha256()
    mac = hmac.new(keys.mac_key, keys.iv, "sha256")
    length, tail = 0, _Tail()
    for piece in pieces:
        length += len(piece)
        if length > max_len:
            raise RemoteProtocolError("a media blob that is too long")
        digest.update(piece)
        mac.update(tail.after(piece))
    if not equal(digest.digest(), file.enc_sha256):
        raise RemoteProtocolError("a media blob with another hash")
    if not equal(mac.digest()[:MAC_LEN], tail.held):
        raise RemoteProtocolError("a media blob with a bad MAC")


def _decrypted(pieces: Iterable[bytes], keys: MediaKeys) -> Iterator[bytes]:
    decryptor = Cipher(algorithms.AES(keys.cipher_key), modes.CBC(keys.iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    tail = _Tail()
    try:
        for piece in pieces:
            yield unpadder.update(decryptor.update(tail.after(piece)))
        yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise RemoteProtocolError("a media blob of a wrong length or padding") from error


class _Tail:
    """Keeps the MAC's bytes back while a blob streams by."""

    def __init__(self) -> None:
        self.held = b""

    def after(self, piece: bytes) -> bytes:
        """What comes before the last bytes held."""
        data = self.held + piece
        cut = max(len(data) - MAC_LEN, 0)
        self.held = data[cut:]
        return data[:cut]

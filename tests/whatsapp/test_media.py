"""Files on media servers: keys, blobs, and what is checked before a byte is used."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.media import (
    HISTORY,
    HISTORY_PATH,
    MAC_LEN,
    Blob,
    MediaFile,
    derive,
    encrypt,
    media_file,
    opened,
    request_target,
)

CASES = json.loads((Path(__file__).parent / "vectors" / "media.json").read_text())["cases"]
KEY = bytes(range(32))
PLENTY = 2**20


def in_pieces(blob: bytes, size: int) -> Blob:
    def pieces() -> Iterator[bytes]:
        for at in range(0, len(blob), size):
            yield blob[at : at + size]

    return pieces


def described(plaintext: bytes, blob: bytes, path: str = "/v/t62?x=1") -> MediaFile:
    enc_sha256, sha256 = hashlib.sha256(blob).digest(), hashlib.sha256(plaintext).digest()
    return media_file(path, KEY, enc_sha256, sha256, len(plaintext))


def read(blob: bytes, file: MediaFile, max_len: int = PLENTY, size: int = 7) -> bytes:
    return b"".join(opened(in_pieces(blob, size), file, HISTORY, max_len=max_len))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["type"])
def test_keys_and_blob_reproduce_the_vector(case: dict[str, str]) -> None:
    purpose = case["hkdf_info"].removeprefix("WhatsApp ").removesuffix(" Keys")
    key, plaintext = bytes.fromhex(case["media_key"]), bytes.fromhex(case["plaintext"])
    keys = derive(key, purpose)
    assert keys.iv.hex() == case["iv"]
    assert keys.cipher_key.hex() == case["cipher_key"]
    assert keys.mac_key.hex() == case["mac_key"]
    blob = encrypt(plaintext, key, purpose)
    assert blob.hex() == case["file"]
    enc_sha256, sha256 = (bytes.fromhex(case[f"file_{name}sha256"]) for name in ("enc_", ""))
    file = media_file("/v", key, enc_sha256, sha256, len(plaintext))
    assert b"".join(opened(in_pieces(blob, 5), file, purpose, max_len=PLENTY)) == plaintext


def test_request_names_hash_and_kind_behind_the_path() -> None:
    file = described(b"", encrypt(b"", KEY, HISTORY), "/v/t62?x=1")
    token = next(case for case in CASES if case["type"] == HISTORY_PATH)
    file = replace(file, enc_sha256=bytes.fromhex(token["file_enc_sha256"]))
    expected = f"hash={token['upload_token_whatsmeow']}&mms-type=md-msg-hist&__wa-mms="
    assert request_target(file, HISTORY_PATH) == f"/v/t62?x=1&{expected}"
    plain = replace(file, direct_path="/v/t62")
    assert request_target(plain, HISTORY_PATH) == f"/v/t62?{expected}"


@given(st.binary(max_size=200), st.integers(1, 300))
def test_blob_cut_anywhere_gives_the_same_file(plaintext: bytes, size: int) -> None:
    blob = encrypt(plaintext, KEY, HISTORY)
    assert read(blob, described(plaintext, blob), size=size) == plaintext


def flipped(blob: bytes, at: int) -> bytes:
    return blob[:at] + bytes((blob[at] ^ 1,)) + blob[at + 1 :]


@given(st.binary(max_size=60), st.data())
def test_one_flipped_bit_is_always_found(plaintext: bytes, data: st.DataObject) -> None:
    blob = encrypt(plaintext, KEY, HISTORY)
    file = described(plaintext, blob)
    damaged = flipped(blob, data.draw(st.integers(0, len(blob) - 1)))
    with pytest.raises(RemoteProtocolError, match="another hash"):
        read(damaged, file)
    # Also where the hash was made to fit: the MAC needs the key.
    with pytest.raises(RemoteProtocolError, match="bad MAC"):
        read(damaged, replace(file, enc_sha256=hashlib.sha256(damaged).digest()))


def refit(change: Callable[[bytes], bytes]) -> tuple[bytes, MediaFile]:
    """A blob that is damaged before its hash is taken."""
    plaintext = b"a history"
    blob = change(encrypt(plaintext, KEY, HISTORY))
    return blob, described(plaintext, blob)


@pytest.mark.parametrize(
    "change",
    [lambda b: b[: MAC_LEN - 1], lambda b: b"", lambda b: b[:-1]],
    ids=["less than a MAC", "empty", "cut"],
)
def test_blob_that_is_too_short_is_refused(change: Callable[[bytes], bytes]) -> None:
    blob, file = refit(change)
    with pytest.raises(RemoteProtocolError):
        read(blob, file)


def test_blob_of_a_wrong_length_inside_a_right_mac_is_refused() -> None:
    keys = derive(KEY, HISTORY)
    body = b"x" * 15
    mac = hmac.digest(keys.mac_key, keys.iv + body, "sha256")[:MAC_LEN]
    with pytest.raises(RemoteProtocolError, match="length or padding"):
        read(body + mac, described(b"", body + mac))


def test_file_with_another_hash_is_refused_before_any_of_it_is_given() -> None:
    blob = encrypt(b"x" * 100, KEY, HISTORY)
    pieces = opened(in_pieces(blob, 16), described(b"y" * 100, blob), HISTORY, max_len=PLENTY)
    with pytest.raises(RemoteProtocolError, match="another hash"):
        next(pieces)


def test_blob_that_is_too_long_is_read_no_further() -> None:
    blob, read_len = encrypt(bytes(1000), KEY, HISTORY), 0

    def pieces() -> Iterator[bytes]:
        nonlocal read_len
        for at in range(0, len(blob), 10):
            read_len += 10
            yield blob[at : at + 10]

    with pytest.raises(RemoteProtocolError, match="too long"):
        next(opened(pieces, described(bytes(1000), blob), HISTORY, max_len=100))
    assert read_len <= 110

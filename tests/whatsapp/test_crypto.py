from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.crypto import (
    aes_cbc_decrypt,
    aes_cbc_encrypt,
    aes_ctr,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    clamp,
    equal,
    exchange,
    hkdf,
    hmac_sha256,
    new_private_key,
    pbkdf2,
    public_key_of,
    sign,
    verify,
)
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.keys import KeyPair

VECTORS = Path(__file__).parent / "vectors"
HKDF_CASES = json.loads((VECTORS / "hkdf.json").read_text())["cases"]
XEDDSA_CASES = json.loads((VECTORS / "xeddsa.json").read_text())["signatures"]
KEYS = KeyPair.from_private(clamp(bytes(range(32))))


@pytest.mark.parametrize("case", HKDF_CASES, ids=lambda case: case["info"] or case["ikm"][:4])
def test_hkdf_reproduces_the_vector(case: dict[str, str]) -> None:
    ikm, salt = bytes.fromhex(case["ikm"]), bytes.fromhex(case["salt"])
    okm = hkdf(ikm, salt=salt, info=case["info"].encode(), length=int(case["len"]))
    assert okm.hex() == case["okm"]


def test_hmac_reproduces_rfc_4231_case_2() -> None:
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hmac_sha256(b"Jefe", b"what do ya want for nothing?").hex() == digest


@pytest.mark.parametrize("case", XEDDSA_CASES, ids=["first", "second"])
def test_public_key_reproduces_the_vector(case: dict[str, str]) -> None:
    assert public_key_of(bytes.fromhex(case["priv"])).hex() == case["pub"]


@pytest.mark.parametrize("case", XEDDSA_CASES, ids=["first", "second"])
@pytest.mark.parametrize("kind", ["sig_js_deterministic", "sig_randomized_example_python"])
def test_signature_of_the_vector_verifies(case: dict[str, str], kind: str) -> None:
    public_key, message = bytes.fromhex(case["pub"]), bytes.fromhex(case["msg"])
    assert verify(public_key, message, bytes.fromhex(case[kind]))


@given(private_key=st.binary(min_size=32, max_size=32), message=st.binary(max_size=80))
def test_own_signature_verifies(private_key: bytes, message: bytes) -> None:
    keys = KeyPair.from_private(clamp(private_key))
    assert verify(keys.public_key, message, sign(keys.private_key, message))


@given(bit=st.integers(0, 64 * 8 - 1))
def test_signature_with_one_flipped_bit_is_refused(bit: int) -> None:
    signature = bytearray(sign(KEYS.private_key, b"message"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(KEYS.public_key, b"message", bytes(signature))


def test_signature_over_another_message_is_refused() -> None:
    assert not verify(KEYS.public_key, b"other", sign(KEYS.private_key, b"message"))


def test_signature_under_another_key_is_refused() -> None:
    assert not verify(KeyPair.generate().public_key, b"m", sign(KEYS.private_key, b"m"))


@given(
    public_key=st.binary(max_size=40) | st.binary(min_size=32, max_size=32),
    signature=st.binary(max_size=70) | st.binary(min_size=64, max_size=64),
)
def test_garbage_never_verifies(public_key: bytes, signature: bytes) -> None:
    assert not verify(public_key, b"message", signature)


@pytest.mark.parametrize("u", [2**255 - 19, 2**255 - 20, 2**255 - 1])
def test_key_that_is_no_point_verifies_nothing(u: int) -> None:
    assert not verify(u.to_bytes(32, "little"), b"m", sign(KEYS.private_key, b"m"))


def test_both_sides_of_an_exchange_get_the_same_secret() -> None:
    other = KeyPair.generate()
    secret = exchange(KEYS.private_key, other.public_key)
    assert secret == exchange(other.private_key, KEYS.public_key)


@pytest.mark.parametrize("public_key", [bytes(32), b"\x01" + bytes(31), b"", bytes(31)])
def test_exchange_with_an_unusable_key_is_a_remote_error(public_key: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="unusable"):
        exchange(KEYS.private_key, public_key)


def test_new_private_key_is_clamped() -> None:
    private_key = new_private_key()
    assert private_key == clamp(private_key)


def test_equal_bytes_are_equal() -> None:
    assert equal(b"a", b"a")


def test_different_bytes_are_not_equal() -> None:
    assert not equal(b"a", b"b")


@given(plaintext=st.binary(max_size=100))
def test_cbc_decrypts_what_it_encrypted(plaintext: bytes) -> None:
    secret, iv = bytes(range(32)), bytes(16)
    assert aes_cbc_decrypt(secret, iv, aes_cbc_encrypt(secret, iv, plaintext)) == plaintext


@pytest.mark.parametrize("ciphertext", [b"", bytes(15), bytes(16)])
def test_cbc_of_bad_length_or_padding_is_a_remote_error(ciphertext: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="AES-CBC"):
        aes_cbc_decrypt(bytes(range(32)), bytes(16), ciphertext)


def test_pbkdf2_reproduces_rfc_7914_section_11() -> None:
    expected = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
    assert pbkdf2(b"passwd", b"salt", 1).hex() == expected


def test_aes_ctr_reproduces_nist_sp_800_38a_f_5_5() -> None:
    secret = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    iv = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plaintext = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    ciphertext = aes_ctr(secret, iv, plaintext)
    assert ciphertext.hex() == "601ec313775789a5b7a7f504bbf3d228"
    assert aes_ctr(secret, iv, ciphertext) == plaintext


@given(text=st.binary(max_size=40), at=st.integers(0, 15))
def test_aes_gcm_opens_what_nobody_touched(text: bytes, at: int) -> None:
    secret, nonce = bytes(range(32)), bytes(12)
    sealed = bytearray(aes_gcm_encrypt(secret, nonce, text))
    assert aes_gcm_decrypt(secret, nonce, bytes(sealed)) == text
    sealed[at] ^= 1
    with pytest.raises(RemoteProtocolError):
        aes_gcm_decrypt(secret, nonce, bytes(sealed))

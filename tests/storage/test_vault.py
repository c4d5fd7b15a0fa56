from __future__ import annotations

import binascii
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.errors import SealError
from sitpayd.storage.vault import (
    TokenKind,
    Vault,
    is_token,
    new_message_id,
    new_session_id,
    new_token,
)
from tests.storage.builders import some_vault

KINDS: tuple[TokenKind, ...] = ("pk", "pu", "dt")
VAULT = some_vault()
PLACE = ("outbox", 7, "text", "msg_1")


@given(st.binary(max_size=2000))
def test_what_is_sealed_opens_at_its_place(plaintext: bytes) -> None:
    assert VAULT.open(*PLACE, VAULT.seal(*PLACE, plaintext)) == plaintext


@pytest.mark.parametrize(
    "other",
    [
        ("inbox", 7, "text", "msg_1"),
        ("outbox", 8, "text", "msg_1"),
        ("outbox", 7, "stanza", "msg_1"),
        ("outbox", 7, "text", "msg_2"),
    ],
)
def test_a_moved_value_does_not_open(other: tuple[str, int, str, str]) -> None:
    sealed = VAULT.seal(*PLACE, b"secret")
    with pytest.raises(SealError):
        VAULT.open(*other, sealed)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_does_not_open(at: int, flip: int) -> None:
    sealed = bytearray(VAULT.seal(*PLACE, b"secret"))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(SealError):
        VAULT.open(*PLACE, bytes(sealed))


@given(st.binary(max_size=40))
def test_bytes_that_were_never_sealed_do_not_open(garbage: bytes) -> None:
    with pytest.raises(SealError):
        VAULT.open(*PLACE, garbage)


def test_another_secret_does_not_open() -> None:
    with pytest.raises(SealError):
        some_vault(8).open(*PLACE, VAULT.seal(*PLACE, b"secret"))


def test_the_error_tells_the_place_and_not_the_value() -> None:
    with pytest.raises(SealError, match=r"outbox\.text of device 8") as caught:
        VAULT.open("outbox", 8, "text", "msg_1", VAULT.seal(*PLACE, b"secret"))
    assert "secret" not in str(caught.value)


def test_two_seals_of_one_value_differ() -> None:
    assert VAULT.seal(*PLACE, b"secret") != VAULT.seal(*PLACE, b"secret")


def test_seals_and_digests_begin_with_their_key_version() -> None:
    assert VAULT.seal(*PLACE, b"")[0] == 1
    assert len(VAULT.seal(*PLACE, b"")) == 1 + 12 + 16
    assert VAULT.digest("x")[0] == 1
    assert len(VAULT.digest("x")) == 33


def test_a_digest_is_stable_and_needs_the_secret() -> None:
    assert VAULT.digest("x") == some_vault().digest(b"x")
    assert VAULT.digest("x") != some_vault(8).digest("x")
    assert VAULT.digest("x") != VAULT.digest("y")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(b"x" * length)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_have_the_documented_shape(kind: TokenKind) -> None:
    for _ in range(200):
        token = new_token(kind)
        assert re.fullmatch(rf"{kind}_[0-9A-Za-z]{{49}}", token)
        assert is_token(kind, token)


def test_a_known_token_keeps_its_checksum() -> None:
    # Computed apart from the code: base62 of zlib's CRC-32 over "pk_" and 43 zeros.
    body = "pk_" + "0" * 43
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    crc, checksum = binascii.crc32(body.encode()), ""
    for _ in range(6):
        checksum = alphabet[crc % 62] + checksum
        crc //= 62
    assert is_token("pk", body + checksum)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_token_of_one_kind_is_none_of_another(kind: TokenKind, other: TokenKind) -> None:
    renamed = f"{other}_{new_token(kind).removeprefix(kind + '_')}"
    assert is_token(other, renamed) == (kind == other)


@given(st.sampled_from(KINDS), st.integers(0, 48), st.characters())
def test_one_changed_character_is_no_token(kind: TokenKind, at: int, other: str) -> None:
    token = new_token(kind)
    changed = token[: 3 + at] + other + token[4 + at :]
    assert is_token(kind, changed) == (changed == token)


@given(st.sampled_from(KINDS), st.text(max_size=60))
def test_any_text_is_judged_without_an_error(kind: TokenKind, text: str) -> None:
    assert not is_token(kind, text)
    assert not is_token(kind, f"{kind}_{text}")


@pytest.mark.parametrize("tail", ["\n", " ", "\0", "x", "/send"])
def test_a_token_with_a_tail_is_no_token(tail: str) -> None:
    assert not is_token("dt", new_token("dt") + tail)


def test_public_ids_have_the_documented_shape_and_do_not_repeat() -> None:
    sessions = {new_session_id() for _ in range(1000)}
    messages = {new_message_id() for _ in range(1000)}
    assert len(sessions) == len(messages) == 1000
    assert all(re.fullmatch(r"wa_[0-9A-Za-z]{20}", session_id) for session_id in sessions)
    assert all(re.fullmatch(r"msg_[0-9A-Za-z]{22}", message_id) for message_id in messages)

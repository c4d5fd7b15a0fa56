"""T-52: protobuf messages that say more than we know, less than they should, or too much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.whatsapp.crypto import hmac_sha256, sign
from sitpayd.whatsapp.errors import RemoteProtocolError, WhatsAppError
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas import content, pairing
from sitpayd.whatsapp.stanzas.content import parse_message
from tests.fuzz.discovery import Parser, drained, parsers
from tests.fuzz.payloads import KINDS, payloads
from tests.fuzz.people import KEYS, OWN_LID, OWN_PN, PEER_PN, PHONE
from tests.fuzz.protos import BYTES, message_of

BY_NAME = {parser.name: parser for parser in parsers()}
CASES = [(BY_NAME[name], data) for name in KINDS for data in payloads()[name]]
# A number, eight bytes, text, four bytes, and a group with a number inside: of fields nobody knows.
PLAIN = bytes.fromhex("c03e07c13e0102030405060708c23e0474657874c53e01020304")
UNKNOWN = PLAIN + bytes.fromhex("c33e0801c43e")
TEXT = content.text_message("Hello!")
per_case = pytest.mark.parametrize(
    ("parser", "data"), CASES, ids=lambda value: getattr(value, "name", "")
)


def wrapped(field: int, data: bytes, times: int, inner: int = 1) -> bytes:
    """A message in a wrapper, in a wrapper, and so on."""
    for _ in range(times):
        data = message_of([(field, BYTES, message_of([(2, 0, 14), (inner, BYTES, data)]))])
    return data


def read(parser: Parser, data: bytes) -> object:
    """What the parser makes of it; items that come with the pieces they ended in, one by one."""
    found = drained(parser.call(data))
    if not parser.name.startswith("history."):
        return found
    assert isinstance(found, list)
    return [item for items in found for item in items]


@per_case
def test_unknown_fields_change_nothing(parser: Parser, data: bytes) -> None:
    """In front of what is known and behind it."""
    plain = read(parser, data)
    # A history is walked, not parsed, and no message of WhatsApp's has a group.
    unknown = PLAIN if parser.name.startswith("history.") else UNKNOWN
    for more in (unknown + data, data + unknown):
        found = read(parser, more)
        if isinstance(plain, content.Content) and plain.kind == "none":
            plain = replace(plain, kind="other")  # it holds something for a person, after all
        assert found == plain


@per_case
def test_message_cut_anywhere_gives_a_value_or_our_own_error(parser: Parser, data: bytes) -> None:
    for length in range(len(data)):
        try:
            read(parser, data[:length])
        except WhatsAppError:
            continue


def test_unknown_fields_of_a_text_reach_our_own_devices() -> None:
    """They belong to whoever wrote it; the phone may know them."""
    sent = pb.Message.FromString(content.device_sent(PEER_PN, TEXT + UNKNOWN))
    assert sent.deviceSentMessage.message.SerializeToString() == TEXT + UNKNOWN


def test_unknown_fields_of_signed_details_stay_signed() -> None:
    details = pb.ADVDeviceIdentity(rawId=1, timestamp=7, keyIndex=3).SerializeToString() + UNKNOWN
    signed = pb.ADVSignedDeviceIdentity(
        details=details,
        accountSignatureKey=PHONE.public_key,
        accountSignature=sign(PHONE.private_key, b"\x06\x00" + details + KEYS.identity.public_key),
    ).SerializeToString()
    container = pb.ADVSignedDeviceIdentityHMAC(
        details=signed, hmac=hmac_sha256(KEYS.adv_secret, signed)
    ).SerializeToString()
    success = pairing.pair_success("Y", container, jid=OWN_PN, lid=OWN_LID, platform="android")
    paired, _ = pairing.accept_pair_success(success, KEYS)
    assert pb.ADVSignedDeviceIdentity.FromString(paired.signed_identity).details == details
    assert pairing.verify_signed_identity(paired.signed_identity, KEYS.identity.public_key) == 3


@pytest.mark.parametrize("field", [37, 40, 53, 55, 58])
def test_wrappers_inside_wrappers_have_a_limit(field: int) -> None:
    assert parse_message(wrapped(field, TEXT, 7)).text == "Hello!"
    with pytest.raises(RemoteProtocolError, match="too deeply"):
        parse_message(wrapped(field, TEXT, 8))


@pytest.mark.parametrize(("field", "inner"), [(31, 2), (37, 1), (40, 1), (12, 14)])
@pytest.mark.parametrize("times", [51, 60, 1000, 20_000])
def test_nesting_without_end_is_refused(field: int, inner: int, times: int) -> None:
    """Wrappers, copies for own devices, edits of edits: whatever can hold a message again."""
    with pytest.raises(RemoteProtocolError):
        parse_message(wrapped(field, TEXT, times, inner))


def test_groups_without_end_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(b"\x0b" * 100_000)


@pytest.mark.parametrize(
    "damaged",
    [
        "0a0248ff",  # the text itself
        "320a0a0848656c6c6fff2121",  # of an extended text
        "1a041a02ffff",  # a caption
        "fa01040a02ffff",  # where a message of our own went
        "12040a02ffff",  # of which group a key is
    ],
)
def test_text_that_is_not_utf_8_is_refused(damaged: str) -> None:
    """The runtime hands such fields out as bytes."""
    with pytest.raises(RemoteProtocolError, match="not UTF-8"):
        parse_message(bytes.fromhex(damaged))

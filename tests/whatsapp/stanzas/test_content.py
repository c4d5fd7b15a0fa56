from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import Jid, pn
from sitpayd.whatsapp.media import media_file
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas.content import (
    MAX_KEPT,
    MAX_PADDING,
    AppStateKey,
    Content,
    HistorySync,
    KeptMessage,
    LidMigration,
    MessageName,
    SenderKey,
    app_state_key_share,
    device_sent,
    history_sync_at,
    inline_history_sync,
    kept_message,
    lid_migration,
    pad,
    parse_message,
    parse_notice,
    placeholder_answer,
    placeholder_request,
    text_message,
    unpad,
)

from .wire import PEER_LID, vector

# Field numbers.
_EPHEMERAL, _FUTURE_PROOF_MESSAGE = 40, 1
_PROTOCOL, _EDITED = 12, 14

MEDIA = pb.Message.CaptionedMedia
FILE = media_file("/v/t62?x=1", bytes(32), b"e" * 32, b"f" * 32, 7)


def read(message: pb.Message) -> Content:
    return parse_message(message.SerializeToString())


def wrapped(message: pb.Message, times: int) -> pb.Message:
    for _ in range(times):
        message = pb.Message(ephemeralMessage=pb.Message.FutureProofMessage(message=message))
    return message


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes((value,))


def nested(outer: int, inner: int, times: int) -> bytes:
    """Messages inside messages, deeper than the runtime itself would build them."""
    data = b""
    for field in (inner, outer) * times:
        data = varint(field << 3 | 2) + varint(len(data)) + data
    return data


# --- padding ---


@pytest.mark.parametrize("case", vector("padding")["cases"])
def test_padding_is_the_recorded_one(case: dict[str, str]) -> None:
    plain, padded = bytes.fromhex(case["plain"]), bytes.fromhex(case["padded"])
    assert pad(plain, int(case["pad"])) == padded
    assert unpad(padded) == plain


@given(st.binary(max_size=64))
def test_random_padding_comes_off_again(data: bytes) -> None:
    padded = pad(data)
    assert 1 <= len(padded) - len(data) <= MAX_PADDING
    assert unpad(padded) == data


@pytest.mark.parametrize("n", [0, 17, -1])
def test_padding_of_another_length_is_our_own_mistake(n: int) -> None:
    with pytest.raises(LocalProtocolError):
        pad(b"", n)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"A\0", b"\x02", b"A\x01\x02", b"\x11" * 17, b"\x03\x02\x03"]
)
def test_bad_padding_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpad(data)


# --- texts and what has one ---


def test_text_is_read_as_it_was_written() -> None:
    assert parse_message(text_message("Grüße 👋")) == Content("text", "Grüße 👋")


def test_text_with_preview_is_a_text() -> None:
    extended = pb.Message.ExtendedTextMessage(text="see https://example.com")
    assert read(pb.Message(extendedTextMessage=extended)).text == "see https://example.com"


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (pb.Message(imageMessage=MEDIA(caption="look")), Content("image", "look")),
        (pb.Message(imageMessage=MEDIA()), Content("image")),
        (
            pb.Message(videoMessage=pb.Message.VideoMessage(caption="look")),
            Content("video", "look"),
        ),
        (
            pb.Message(documentMessage=pb.Message.DocumentMessage(caption="read")),
            Content("document", "read"),
        ),
        (pb.Message(audioMessage=pb.Message.AudioMessage(ptt=True)), Content("audio")),
        (pb.Message(stickerMessage=pb.Message.Opaque()), Content("sticker")),
        (pb.Message(contactMessage=pb.Message.Opaque()), Content("contact")),
        (pb.Message(contactsArrayMessage=pb.Message.Opaque()), Content("contact")),
        (pb.Message(locationMessage=pb.Message.Opaque()), Content("location")),
        (
            pb.Message(reactionMessage=pb.Message.ReactionMessage(text="👍")),
            Content("reaction"),
        ),
        (
            pb.Message(messageContextInfo=pb.MessageContextInfo(messageSecret=bytes(32))),
            Content("none"),
        ),
        (pb.Message(), Content("none")),
    ],
    ids=lambda value: value.kind if isinstance(value, Content) else "",
)
def test_every_kind_has_its_name(message: pb.Message, content: Content) -> None:
    assert read(message) == content


def test_content_the_schema_does_not_name_is_somebodys_message_all_the_same() -> None:
    poll = b"\x8a\x03\x03\x12\x01x"
    assert parse_message(poll) == Content("other")


@pytest.mark.parametrize(
    "wrapper",
    [
        "ephemeralMessage",
        "viewOnceMessage",
        "viewOnceMessageV2",
        "documentWithCaptionMessage",
        "editedMessage",
    ],
)
def test_wrappers_are_taken_off(wrapper: str) -> None:
    inner = pb.Message.FutureProofMessage(message=pb.Message(conversation="hi"))
    outer = pb.Message()
    getattr(outer, wrapper).CopyFrom(inner)
    assert read(outer) == Content("text", "hi")


def test_wrappers_inside_wrappers_are_taken_off() -> None:
    assert read(wrapped(pb.Message(conversation="hi"), 3)).text == "hi"


def test_too_many_wrappers_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        read(wrapped(pb.Message(conversation="hi"), 20))


def test_wrappers_beyond_what_the_runtime_parses_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(nested(_EPHEMERAL, _FUTURE_PROOF_MESSAGE, times=300))


# --- between devices of one account ---


def test_copy_for_own_devices_tells_chat_and_text() -> None:
    assert parse_message(device_sent(PEER_LID, text_message("hi"), "2:x")) == Content(
        "text", "hi", destination=PEER_LID
    )


def test_copy_for_own_devices_repeats_the_context() -> None:
    context = pb.MessageContextInfo(messageSecret=bytes(32))
    message = pb.Message(conversation="hi", messageContextInfo=context).SerializeToString()
    outer = pb.Message.FromString(device_sent(PEER_LID, message))
    assert outer.messageContextInfo == context
    assert outer.deviceSentMessage.message.SerializeToString() == message


def test_copy_without_chat_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        read(pb.Message(deviceSentMessage=pb.Message.DeviceSentMessage()))


def test_keys_of_a_phone_are_read() -> None:
    key = AppStateKey(b"\0\0\0\0\1\2", bytes(32), 1_760_000_000)
    assert parse_message(app_state_key_share([key])) == Content(
        "app_state_keys", app_state_keys=(key,)
    )


def test_inline_history_is_read() -> None:
    content = parse_message(inline_history_sync(b"", sync_type=0))
    assert content.kind == "history_sync"
    assert parse_notice(content.notice or b"") == HistorySync(0, zlib.compress(b""))


def test_history_to_be_downloaded_names_its_file() -> None:
    content = parse_message(history_sync_at(FILE, sync_type=3))
    assert content.kind == "history_sync"
    assert parse_notice(content.notice or b"") == HistorySync(3, None, FILE)


def test_migration_to_lids_is_read() -> None:
    content = parse_message(lid_migration([("4915112345678", "200000000000002")]))
    assert content.kind == "lid_migration"
    notice = parse_notice(content.notice or b"")
    assert isinstance(notice, LidMigration)
    payload = pb.LIDMigrationMappingSyncPayload.FromString(zlib.decompress(notice.payload))
    (mapping,) = payload.pnToLidMappings
    assert (mapping.pn, mapping.assignedLid) == (4915112345678, 200000000000002)


@pytest.mark.parametrize(
    "changed",
    [
        {"mediaKey": b"short"},
        {"fileEncSha256": b""},
        {"fileSha256": b"long" * 9},
        {"directPath": ""},
        {"directPath": "//elsewhere.example/v"},
        {"directPath": "v/t62"},
        {"directPath": "/v t62"},
        {"directPath": "/v\r\nhost: elsewhere"},
        {"directPath": "/" + "x" * 2048},
    ],
    ids=str,
)
def test_history_that_lies_at_no_place_of_the_media_servers_is_refused(
    changed: dict[str, bytes | str],
) -> None:
    content = parse_message(history_sync_at(FILE))
    protocol = pb.Message.ProtocolMessage.FromString(content.notice or b"")
    for name, value in changed.items():
        setattr(protocol.historySyncNotification, name, value)
    with pytest.raises(RemoteProtocolError):
        parse_notice(protocol.SerializeToString())


def test_notice_of_something_else_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_notice(pb.Message.ProtocolMessage(type=16).SerializeToString())


def test_revoke_is_named_even_without_a_type() -> None:
    assert read(pb.Message(protocolMessage=pb.Message.ProtocolMessage())).kind == "revoke"


def test_edit_tells_the_new_text() -> None:
    edited = pb.Message(conversation="better")
    protocol = pb.Message.ProtocolMessage(type=14, editedMessage=edited)
    assert read(pb.Message(protocolMessage=protocol)) == Content("edit", "better")


def test_endless_edits_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(nested(_PROTOCOL, _EDITED, times=300))


def test_other_protocol_messages_are_for_the_device() -> None:
    protocol = pb.Message.ProtocolMessage(type=16)
    assert read(pb.Message(protocolMessage=protocol)) == Content("protocol")


# --- group keys ---


def group_key() -> pb.Message.SenderKeyDistributionMessage:
    return pb.Message.SenderKeyDistributionMessage(
        groupId="123@g.us", axolotlSenderKeyDistributionMessage=b"\x33key"
    )


def test_group_key_alone_says_nothing_to_a_person() -> None:
    content = read(pb.Message(senderKeyDistributionMessage=group_key()))
    assert content == Content("none", sender_key=SenderKey("123@g.us", b"\x33key"))


def test_group_key_beside_a_text_is_read() -> None:
    content = read(pb.Message(conversation="hi", senderKeyDistributionMessage=group_key()))
    assert (content.text, content.sender_key) == ("hi", SenderKey("123@g.us", b"\x33key"))


def test_group_key_in_a_copy_of_our_own_is_read() -> None:
    inner = pb.Message(senderKeyDistributionMessage=group_key()).SerializeToString()
    assert parse_message(device_sent(PEER_LID, inner)).sender_key is not None


# --- what must not happen ---


@pytest.mark.parametrize(
    "plaintext",
    [
        b"\xff",
        b"\x0a\x02\xff\xfe",
        b"\x1a\x03\x1a\x01\xff",
        b"\x32\x03\x0a\x01\xff",
        b"\x12\x03\x0a\x01\xff",
        b"\xfa\x01\x03\x0a\x01\xff",
    ],
    ids=["cut", "conversation", "caption", "extended", "group id", "destination"],
)
def test_text_that_is_no_utf8_is_refused(plaintext: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(plaintext)


@given(st.binary(max_size=200))
def test_any_plaintext_gives_a_content_or_a_remote_error(plaintext: bytes) -> None:
    try:
        parse_message(plaintext)
    except RemoteProtocolError:
        return


@given(st.binary(min_size=1, max_size=40), st.integers(0, 200), st.data())
def test_damaged_plaintext_gives_a_content_or_a_remote_error(
    patch: bytes, at: int, data: st.DataObject
) -> None:
    key = AppStateKey(b"id", bytes(32), 7)
    good = data.draw(
        st.sampled_from(
            [
                device_sent(PEER_LID, text_message("hello there")),
                app_state_key_share([key]),
                inline_history_sync(b"x"),
                history_sync_at(FILE),
                lid_migration([("4915112345678", "200000000000002")]),
                wrapped(pb.Message(conversation="hi"), 2).SerializeToString(),
            ]
        )
    )
    damaged = good[:at] + patch + good[at + len(patch) :]
    try:
        content = parse_message(damaged)
        if content.notice is not None:
            parse_notice(content.notice)
    except RemoteProtocolError:
        return


@pytest.mark.parametrize(
    "value",
    [
        parse_message(text_message("secret")),
        AppStateKey(b"id", b"secret", 1),
        SenderKey("123@g.us", b"secret"),
        HistorySync(0, b"secret"),
        LidMigration(b"secret"),
        replace(FILE, direct_path="/secret", media_key=b"secret"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_and_keys_do_not_show(value: object) -> None:
    assert "secret" not in repr(value)


# --- what the phone is asked for ---


IN_A_CHAT = MessageName(PEER_LID.bare, "3EB0AA", from_me=False)
IN_A_GROUP = MessageName(Jid("1", "g.us"), "3EB0BB", from_me=False, participant=pn("1"))


@pytest.mark.parametrize("name", [IN_A_CHAT, IN_A_GROUP], ids=["chat", "group"])
def test_phone_is_asked_for_a_message_by_its_name(name: MessageName) -> None:
    content = parse_message(placeholder_request(name))
    assert (content.kind, content.asked) == ("phone_request", (name,))


def test_phone_answers_with_the_message_as_it_has_kept_it() -> None:
    kept = kept_message(IN_A_CHAT, text_message("Hello!"), 1_700_000_000, "Friend")
    content = parse_message(placeholder_answer("3EB0CC", [kept]))
    told = KeptMessage(IN_A_CHAT, Content("text", "Hello!"), 1_700_000_000, "Friend")
    assert (content.kind, content.kept) == ("phone_answer", (told,))


def test_phone_may_have_kept_neither_time_nor_name() -> None:
    key = pb.MessageKey(remoteJid=str(PEER_LID.bare), fromMe=True, id="A")
    info = pb.WebMessageInfo(key=key, message=pb.Message(conversation="x")).SerializeToString()
    (kept,) = parse_message(placeholder_answer("B", [info])).kept
    assert (kept.name.from_me, kept.t, kept.push_name) == (True, None, None)


def test_what_cannot_be_read_of_an_answer_does_not_keep_the_rest_back() -> None:
    whole = kept_message(IN_A_CHAT, text_message("Hello!"), 1)
    empty = kept_message(IN_A_CHAT, b"", 1)
    nameless = pb.WebMessageInfo(message=pb.Message(conversation="x")).SerializeToString()
    content = parse_message(placeholder_answer("B", [b"\xff", empty, nameless, whole]))
    assert [kept.content.text for kept in content.kept] == ["Hello!"]


def test_answer_inside_of_an_answer_is_left_alone() -> None:
    inner = placeholder_answer("B", [kept_message(IN_A_CHAT, text_message("Hello!"), 1)])
    for message in (inner, wrapped(pb.Message.FromString(inner), 1).SerializeToString()):
        outer = placeholder_answer("C", [kept_message(IN_A_CHAT, message, 1)])
        assert parse_message(outer).kept == ()


def test_answer_of_a_phone_has_a_bound() -> None:
    whole = kept_message(IN_A_CHAT, text_message("Hello!"), 1)
    assert len(parse_message(placeholder_answer("B", [whole] * 100)).kept) == MAX_KEPT


def test_request_for_other_data_is_for_the_device() -> None:
    request = pb.Message.PeerDataOperationRequestMessage(peerDataOperationRequestType=3)
    protocol = pb.Message.ProtocolMessage(type=16, peerDataOperationRequestMessage=request)
    assert read(pb.Message(protocolMessage=protocol)) == Content("protocol")


def test_request_for_a_nameless_message_is_refused() -> None:
    request = pb.Message.PeerDataOperationRequestMessage(peerDataOperationRequestType=4)
    request.placeholderMessageResendRequest.add()
    protocol = pb.Message.ProtocolMessage(type=16, peerDataOperationRequestMessage=request)
    with pytest.raises(RemoteProtocolError):
        read(pb.Message(protocolMessage=protocol))


def test_no_text_of_a_kept_message_is_shown() -> None:
    kept = kept_message(IN_A_CHAT, text_message("Hello!"), 1)
    assert "Hello" not in repr(parse_message(placeholder_answer("B", [kept])).kept)

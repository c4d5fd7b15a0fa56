from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import MAX_DEVICE, SERVER_JID, Jid, lid, pn
from sitpayd.whatsapp.node import Node
from tests.support.strategies import digits


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("15551234567@s.whatsapp.net", Jid("15551234567", "s.whatsapp.net")),
        ("15551234567:12@s.whatsapp.net", Jid("15551234567", "s.whatsapp.net", 12)),
        ("15551234567.1:12@s.whatsapp.net", Jid("15551234567", "s.whatsapp.net", 12)),
        ("15551234567_1:12@s.whatsapp.net", Jid("15551234567", "s.whatsapp.net", 12)),
        ("15551234567@c.us", Jid("15551234567", "s.whatsapp.net")),
        ("123456789012345:3@lid", Jid("123456789012345", "lid", 3)),
        ("15551234567:99@hosted", Jid("15551234567", "hosted", 99)),
        ("15551234567-1600000000@g.us", Jid("15551234567-1600000000", "g.us")),
        ("status@broadcast", Jid("status", "broadcast")),
        ("16-777:1@interop", Jid("777", "interop", 1, 16)),
        ("a-b@interop", Jid("a-b", "interop")),
        ("100001:5@msgr", Jid("100001", "msgr", 5)),
        ("1:5@bot", Jid("1:5", "bot")),
        ("65536-1@interop", Jid("65536-1", "interop")),
        ("@s.whatsapp.net", Jid("", "s.whatsapp.net")),
        ("@g.us", Jid("", "g.us")),
    ],
)
def test_text_form_is_understood(text: str, jid: Jid) -> None:
    assert Jid.parse(text) == jid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15551234567",
        "user@",
        "a@b@lid",
        "1:x@lid",
        "1:@lid",
        "1:-1@lid",
        "1:123456@lid",
        "1:²@lid",
        "1:256@lid",
        "1:256@s.whatsapp.net",
        "1:65536@msgr",
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Jid.parse(text)


@given(
    user=digits(),
    server=st.sampled_from(("s.whatsapp.net", "lid", "hosted", "hosted.lid", "msgr")),
    device=st.integers(0, 255),
)
def test_text_form_parses_back(user: str, server: str, device: int) -> None:
    jid = Jid(user, server, device)
    assert Jid.parse(str(jid)) == jid


def address_like() -> st.SearchStrategy[str]:
    """Text that comes near an address."""
    numbers = st.integers(0, 99_999)
    servers = st.sampled_from([*sorted(MAX_DEVICE), "bot", "g.us", "c.us", "x"])
    return st.builds(
        "{}-{}.{}:{}@{}".format, numbers, st.text(max_size=3), numbers, numbers, servers
    )


@given(text=st.text() | address_like())
def test_any_text_gives_an_address_that_can_be_written_or_a_remote_error(text: str) -> None:
    try:
        jid = Jid.parse(text)
    except RemoteProtocolError:
        return
    encode(Node("ack", {"to": jid}))


def test_phone_is_printed_without_a_device() -> None:
    assert str(pn("15551234567")) == "15551234567@s.whatsapp.net"


def test_companion_is_printed_with_its_device() -> None:
    assert str(lid("123", 4)) == "123:4@lid"


def test_bare_drops_the_device() -> None:
    assert pn("1", 3).bare == pn("1")


def test_bare_of_a_phone_is_itself() -> None:
    assert pn("1").bare == pn("1")


def test_device_of_a_user_can_be_named() -> None:
    assert lid("1").with_device(7) == lid("1", 7)


def test_hosted_lid_is_a_lid() -> None:
    assert Jid("1", "hosted.lid").is_lid


def test_phone_number_is_no_lid() -> None:
    assert not pn("1").is_lid


@pytest.mark.parametrize("jid", [pn("1"), lid("1"), Jid("1", "hosted"), Jid("1", "hosted.lid")])
def test_person_is_a_user(jid: Jid) -> None:
    assert jid.is_user


@pytest.mark.parametrize("jid", [SERVER_JID, Jid("1", "g.us"), Jid("status", "broadcast")])
def test_server_group_and_broadcast_are_no_users(jid: Jid) -> None:
    assert not jid.is_user

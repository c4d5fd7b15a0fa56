from __future__ import annotations

import pytest

from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID, lid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.presence import (
    ChatState,
    Presence,
    TypingState,
    chat_state,
    own_chat_state,
    own_presence,
    parse_chat_state,
    parse_presence,
    presence,
)

PEER = lid("123456789012345")


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"name": "Ada"}, Presence("available", name="Ada")),
        ({"name": "Ada", "type": "available"}, Presence("available", name="Ada")),
        ({"type": "unavailable"}, Presence("unavailable")),
        ({"type": "subscribe", "to": PEER}, Presence("subscribe", PEER)),
        ({"type": "unsubscribe", "to": PEER}, Presence("unsubscribe", PEER)),
    ],
)
def test_presence_of_a_client_is_read(attrs: dict[str, str], expected: Presence) -> None:
    assert parse_presence(decode(encode(Node("presence", attrs)))) == expected


@pytest.mark.parametrize("attrs", [{"type": "subscribe"}, {"type": "dancing"}])
def test_malformed_presence_is_refused(attrs: dict[str, str]) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_presence(Node("presence", attrs))


def test_who_is_online_has_no_type() -> None:
    assert presence(PEER, available=True).attrs == {"from": PEER}


def test_last_seen_is_told_or_denied() -> None:
    assert presence(PEER, available=False, last=1_760_000_000).text("last") == "1760000000"
    assert presence(PEER, available=False).text("last") == "deny"


def test_chat_state_reaches_the_other_side_as_it_was_sent() -> None:
    typing = Node("chatstate", {"to": PEER}, (Node("composing", {"media": "audio"}),))
    handed = chat_state(typing, PEER)
    assert handed.attrs == {"from": PEER}
    assert handed.content == typing.content


@pytest.mark.parametrize(
    ("available", "kind"), [(True, "available"), (False, "unavailable")], ids=["on", "off"]
)
def test_own_presence_names_us_without_an_at_sign(available: bool, kind: str) -> None:
    node = decode(encode(own_presence(" Ada@shop ", available=available)))
    assert node == Node("presence", {"name": "Adashop", "type": kind})
    read = parse_presence(node)
    assert (read.kind, read.name) == (kind, "Adashop")


@pytest.mark.parametrize("name", ["", "@", " @ "])
def test_presence_is_never_without_a_name(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        own_presence(name, available=True)


@pytest.mark.parametrize(
    ("state", "child"),
    [
        ("composing", Node("composing")),
        ("recording", Node("composing", {"media": "audio"})),
        ("paused", Node("paused")),
    ],
)
def test_own_chat_state_goes_to_the_chat(state: TypingState, child: Node) -> None:
    node = decode(encode(own_chat_state(PEER.with_device(3), state)))
    assert node == Node("chatstate", {"to": PEER}, (child,))
    assert parse_chat_state(node) == ChatState(PEER, state)


@pytest.mark.parametrize(
    "node",
    [
        Node("chatstate", {}, (Node("composing"),)),
        Node("chatstate", {"to": SERVER_JID}, (Node("composing"),)),
        Node("chatstate", {"to": PEER}),
        Node("chatstate", {"to": PEER}, (Node("composing"), Node("paused"))),
        Node("chatstate", {"to": PEER}, (Node("dancing"),)),
        Node("chatstate", {"to": PEER}, (Node("composing", {"media": "video"}),)),
        Node("chatstate", {"to": PEER}, (Node("paused", {"media": "audio"}),)),
    ],
    ids=["no chat", "the server", "nothing", "two", "unknown", "of a film", "paused audio"],
)
def test_malformed_chat_state_is_refused(node: Node) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_chat_state(node)

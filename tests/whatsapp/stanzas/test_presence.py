from __future__ import annotations

import pytest

from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import lid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.presence import Presence, chat_state, parse_presence, presence

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

"""presence and chatstate: who is online and who is typing. They are not answered.

Source: whatsmeow presence.go; Baileys lib/Socket/chats.js.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import RemoteProtocolError
from ..jid import Jid
from ..node import Node
from .wire import attributes


@dataclass(frozen=True, slots=True)
class Presence:
    """A client's presence, as the server reads it.

    Attributes:
        kind: "available" is also what an absent type means; "subscribe" asks for another's.
        to: whose presence is asked for; None if it tells its own.
        name: the push name that comes with one's own.
    """

    kind: Literal["available", "unavailable", "subscribe", "unsubscribe"]
    to: Jid | None = None
    name: str | None = None


def parse_presence(node: Node) -> Presence:
    """Read a client's presence.

    Raises:
        RemoteProtocolError: If its kind is unknown, or it asks for nobody's presence.
    """
    match node.text("type"):
        case None | "available":
            return Presence("available", name=node.text("name"))
        case "unavailable":
            return Presence("unavailable", name=node.text("name"))
        case "subscribe":
            return Presence("subscribe", node.required_jid("to"))
        case "unsubscribe":
            return Presence("unsubscribe", node.required_jid("to"))
        case _:
            raise RemoteProtocolError("a presence of an unknown type")


def presence(from_: Jid, *, available: bool, last: int | None = None) -> Node:
    """What the server tells about somebody.

    Args:
        from_: the person, without device.
        last: when the person was online last, UTC seconds; None if nobody is to know.
    """
    if available:
        return Node("presence", attributes({"from": from_}))
    seen = "deny" if last is None else str(last)
    return Node("presence", attributes({"from": from_, "type": "unavailable", "last": seen}))


def chat_state(node: Node, from_: Jid) -> Node:
    """A client's chat state as the server hands it to the other side.

    Args:
        from_: the person who types, without device.
    """
    return Node("chatstate", {"from": from_}, node.content)

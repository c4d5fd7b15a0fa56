"""presence and chatstate: who is online and who is typing. They are not answered.

Source: whatsmeow presence.go; Baileys lib/Socket/chats.js.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import LocalProtocolError, RemoteProtocolError
from ..jid import Jid
from ..node import Node
from .wire import attributes

TypingState = Literal["composing", "recording", "paused"]

# What somebody records in a chat is always a voice message. Source: whatsmeow types/presence.go.
_RECORDED: Final = "audio"
# Element and its attribute `media`, in both directions.
_STATES: Final[Mapping[tuple[str, str | None], TypingState]] = {
    ("composing", None): "composing",
    ("composing", _RECORDED): "recording",
    ("paused", None): "paused",
}


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


@dataclass(frozen=True, slots=True)
class ChatState:
    """A client's chat state, as the server reads it.

    Attributes:
        to: the chat, without device.
    """

    to: Jid
    state: TypingState


def shown_name(name: str) -> str:
    """What others see of a push name: "@" is dropped, as Baileys does. "" is no name."""
    return name.replace("@", "").strip()


def own_presence(name: str, *, available: bool) -> Node:
    """Tell whether we are online.

    Args:
        name: the push name.

    Raises:
        LocalProtocolError: If nothing of the name is shown: others would see a dash.
    """
    shown = shown_name(name)
    if not shown:
        raise LocalProtocolError("a presence without a name")
    return Node("presence", {"name": shown, "type": "available" if available else "unavailable"})


def own_chat_state(to: Jid, state: TypingState) -> Node:
    """Tell a chat that we type, record, or do so no more; shown only while we are online."""
    child = Node("composing", {"media": _RECORDED}) if state == "recording" else Node(state)
    return Node("chatstate", {"to": to.bare}, (child,))


def parse_chat_state(node: Node) -> ChatState:
    """Read a client's chat state.

    Raises:
        RemoteProtocolError: If it is for nobody, or tells not exactly one state that is known.
    """
    to, children = node.required_jid("to"), node.children
    if not to.user:
        raise RemoteProtocolError("a chat state for nobody")
    if len(children) != 1:
        raise RemoteProtocolError(f"a chat state with {len(children)} states")
    tag, media = children[0].tag, children[0].text("media")
    state = _STATES.get((tag, media))
    if state is None:
        raise RemoteProtocolError("a chat state that is not known")
    return ChatState(to.bare, state)


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

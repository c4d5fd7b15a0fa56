"""failure and stream:error: the server's reasons for ending a connection, as values.

What follows from a code is decided outside. These parsers read leniently: a reason that cannot be
read must not hide that the connection is over.

Source: whatsmeow connectionevents.go, types/events/events.go; Baileys lib/Utils/generics.js.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RemoteProtocolError
from ..node import Node
from .wire import attributes


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """`<failure>` in the place of `<success>`.

    Attributes:
        code: the reason, for example 401 or 405; 0 if it has none that can be read.
        text: what the server says to a person.
        expire_s: seconds until a temporary ban (402) ends.
        ban_code: why it was given, 101 to 106.
        location: the server's data centre; only for reports.
    """

    code: int
    text: str | None = None
    expire_s: int | None = None
    ban_code: int | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class StreamError:
    """`<stream:error>`: the server closes next.

    Attributes:
        code: for example 515 (restart) or 503; None if there is none.
        conflict: "device_removed" or "replaced".
        child: tag of the first child that is no conflict: "ack", "ping", "xml-not-well-formed".
        acked_id: id of the stanza that was never answered validly, if child is "ack".
    """

    code: int | None = None
    conflict: str | None = None
    child: str | None = None
    acked_id: str | None = None


def parse_failure(node: Node) -> ConnectFailure:
    """Read `<failure>`; whatever is in it gives a value."""
    return ConnectFailure(
        code=_number(node, "reason") or 0,
        text=node.text("message") or node.text("logout_message_header"),
        expire_s=_number(node, "expire"),
        ban_code=_number(node, "code"),
        location=node.text("location"),
    )


def failure(value: ConnectFailure) -> Node:
    """Build `<failure>`."""
    return Node(
        "failure",
        attributes(
            {
                "reason": value.code,
                "location": value.location,
                "code": value.ban_code,
                "expire": value.expire_s,
                "message": value.text,
            }
        ),
    )


def parse_stream_error(node: Node) -> StreamError:
    """Read `<stream:error>`; whatever is in it gives a value."""
    conflict = node.child("conflict")
    other = next((child for child in node.children if child.tag != "conflict"), None)
    return StreamError(
        code=_number(node, "code"),
        conflict=None if conflict is None else conflict.text("type") or "",
        child=None if other is None else other.tag,
        acked_id=other.text("id") if other is not None and other.tag == "ack" else None,
    )


def stream_error(value: StreamError) -> Node:
    """Build `<stream:error>`."""
    children = []
    if value.conflict is not None:
        children.append(Node("conflict", {"type": value.conflict}))
    if value.child is not None:
        children.append(Node(value.child, attributes({"id": value.acked_id})))
    return Node("stream:error", attributes({"code": value.code}), tuple(children) or None)


def _number(node: Node, name: str) -> int | None:
    try:
        return node.number(name)
    except RemoteProtocolError:
        return None

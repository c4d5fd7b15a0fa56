"""ib: the server's announcements. They are not answered.

What a client says in an `<ib>` of its own stands in iq.py (`offline_batch`, `unified_session`).

Source: whatsmeow connectionevents.go; Baileys lib/Socket/socket.js.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from ..node import Node
from .wire import attributes, leaf


@dataclass(frozen=True, slots=True)
class OfflinePreview:
    """A backlog of this many stanzas follows."""

    count: int
    messages: int = 0
    receipts: int = 0
    notifications: int = 0


@dataclass(frozen=True, slots=True)
class OfflineDone:
    """The backlog is finished; it may never come."""

    count: int


@dataclass(frozen=True, slots=True)
class Dirty:
    """Something changed while we were away.

    Attributes:
        type: "account_sync", "groups" or "communities".
        timestamp: to be repeated in `iq.clean_dirty`.
    """

    type: str
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class EdgeRouting:
    """Bytes for the prologue of the next connection."""

    routing_info: bytes


@dataclass(frozen=True, slots=True)
class DowngradeWebClient:
    """The phone's account has no multi-device support: it cannot be linked."""


@dataclass(frozen=True, slots=True)
class OtherAnnouncement:
    """One we do not know, by its tag."""

    tag: str


Announcement = (
    OfflinePreview | OfflineDone | Dirty | EdgeRouting | DowngradeWebClient | OtherAnnouncement
)


def parse_ib(node: Node) -> tuple[Announcement, ...]:
    """Read `<ib>`: one value per child, mostly one in all.

    Raises:
        RemoteProtocolError: If one of a kind we know is malformed.
    """
    return tuple(_announcement(child) for child in node.children)


def _announcement(child: Node) -> Announcement:
    match child.tag:
        case "offline_preview":
            return OfflinePreview(
                count=child.number("count") or 0,
                messages=child.number("message") or 0,
                receipts=child.number("receipt") or 0,
                notifications=child.number("notification") or 0,
            )
        case "offline":
            return OfflineDone(child.number("count") or 0)
        case "dirty":
            return Dirty(child.required_text("type"), child.number("timestamp"))
        case "edge_routing":
            return EdgeRouting(child.data_of("routing_info"))
        case "downgrade_webclient":
            return DowngradeWebClient()
        case tag:
            return OtherAnnouncement(tag)


def ib(*values: Announcement) -> Node:
    """Build `<ib>`, as the server does."""
    return Node("ib", {}, tuple(_announcement_node(value) for value in values))


def _announcement_node(value: Announcement) -> Node:
    match value:
        case OfflinePreview(count, messages, receipts, notifications):
            attrs = {
                "count": count,
                "message": messages,
                "receipt": receipts,
                "notification": notifications,
            }
            return Node("offline_preview", attributes(attrs))
        case OfflineDone(count):
            return Node("offline", attributes({"count": count}))
        case Dirty(kind, timestamp):
            return Node("dirty", attributes({"type": kind, "timestamp": timestamp}))
        case EdgeRouting(routing_info):
            return Node("edge_routing", {}, (leaf("routing_info", routing_info),))
        case DowngradeWebClient():
            return Node("downgrade_webclient")
        case OtherAnnouncement(tag):
            return Node(tag)
        case _:
            assert_never(value)

from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.ib import (
    Announcement,
    Dirty,
    DowngradeWebClient,
    EdgeRouting,
    OfflineDone,
    OfflinePreview,
    OtherAnnouncement,
    ib,
    parse_ib,
)

from .wire import sent


@pytest.mark.parametrize(
    "value",
    [
        OfflinePreview(7, messages=4, receipts=2, notifications=1),
        OfflineDone(7),
        OfflineDone(0),
        Dirty("account_sync", 1_760_000_000),
        Dirty("groups", None),
        EdgeRouting(b"\x08\x05"),
        DowngradeWebClient(),
        OtherAnnouncement("thread_metadata"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_announcement_crosses_the_wire(value: Announcement) -> None:
    assert parse_ib(sent(ib(value))) == (value,)


def test_several_announcements_come_at_once() -> None:
    values = (Dirty("groups", 7), OfflineDone(1))
    assert parse_ib(sent(ib(*values))) == values


def test_backlog_without_counts_is_announced_all_the_same() -> None:
    children = (Node("offline_preview"), Node("offline"))
    assert parse_ib(Node("ib", {}, children)) == (OfflinePreview(0), OfflineDone(0))


def test_empty_announcement_says_nothing() -> None:
    assert parse_ib(Node("ib")) == ()


@pytest.mark.parametrize(
    "child", [Node("dirty"), Node("edge_routing"), Node("offline", {"count": "many"})]
)
def test_malformed_announcement_is_refused(child: Node) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_ib(Node("ib", {}, (child,)))

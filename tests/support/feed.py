"""A reader of the admin feed, over a real WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from websockets.trio.client import ClientConnection, connect

from tests.support.waiting import eventually

Json = dict[str, object]


class Feed:
    """What was told, in order.

    Attributes:
        raw: every message as it came.
        closed: set when the daemon has ended it, with `close_code`.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.raw: list[str] = []
        self.closed = trio.Event()
        self._socket = socket

    @property
    def close_code(self) -> int | None:
        """Why it was closed."""
        return self._socket.protocol.close_code

    @property
    def snapshot(self) -> Json:
        """The first message."""
        first: Json = json.loads(self.raw[0])
        return first

    @property
    def changes(self) -> list[Json]:
        """Every change that was told; heartbeats are none."""
        told = [json.loads(message) for message in self.raw[1:]]
        return [message for message in told if message["type"] != "heartbeat"]

    def statuses(self, session_id: str) -> list[str]:
        """The statuses of one device, in order, without those of the snapshot."""
        told = []
        for change in self.changes:
            device = change.get("device", change)
            assert isinstance(device, dict)
            if device["session_id"] == session_id:
                told.append(str(device.get("status", change["type"])))
        return told

    async def tells(self, session_id: str, status: str) -> list[str]:
        """Wait until a device's latest status is this; returns its statuses."""

        async def look() -> list[str] | None:
            told = self.statuses(session_id)
            return told if told[-1:] == [status] else None

        return await eventually(look, f"the feed tells that {session_id} is {status}")

    async def listen(self) -> None:
        """Take down what comes."""
        async for message in self._socket:
            assert isinstance(message, str)
            self.raw.append(message)
        self.closed.set()


@asynccontextmanager
async def reading_feed(base_url: str, admin_key: str) -> AsyncIterator[Feed]:
    """Read the feed as long as the block runs; the snapshot is there when it begins."""
    url = base_url.replace("http://", "ws://") + "/admin/feed"
    async with connect(url, additional_headers={"x-admin-key": admin_key}) as socket:
        feed = Feed(socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.listen)

            async def greeted() -> bool:
                return bool(feed.raw)

            await eventually(greeted, "the feed sends a snapshot")
            yield feed
            nursery.cancel_scope.cancel()

"""ReplyChannel: the way back of one question, from a device's actor to who asks.

It holds one answer, so nobody ever waits to give it, and it is closed without one by whoever learns
that none will come: the actor when it ends, the connection when it is gone. A crash so loses an
answer, and who waits knows at once. What must not be lost is no question (messages.py).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Self

import trio

from sitpayd.actors.messages import Reaction


class ReplyChannel:
    """A memory channel of one; a context manager for who waits."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Reaction](1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._receive.close()
        self._send.close()

    def put(self, reaction: Reaction, /) -> None:
        """Answer; a second answer, and one that nobody waits for any more, are dropped."""
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._send.send_nowait(reaction)

    def close(self) -> None:
        """Say that no answer will come; one that has come stands."""
        self._send.close()

    async def wait(self) -> Reaction | None:
        """Wait for the answer, None: there will be none; the caller brings the deadline."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return None

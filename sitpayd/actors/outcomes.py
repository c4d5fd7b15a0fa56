"""Outcomes: who waits for which outbox row.

The actor says what became of a row after the commit; a request that waits is woken. Nothing is
kept: who comes later reads the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from sitpayd.storage.records import RowState


class Watch:
    """One waiter for one row.

    Attributes:
        state: the last state announced while watching; None if none was.
        reason: the word that came with it.
    """

    __slots__ = ("_changed", "reason", "state")

    def __init__(self) -> None:
        self.state: RowState | None = None
        self.reason: str | None = None
        self._changed = trio.Event()

    async def changed(self) -> None:
        """Wait for the next announcement; the caller brings the deadline."""
        await self._changed.wait()
        self._changed = trio.Event()

    def _announce(self, state: RowState, reason: str | None) -> None:
        self.state, self.reason = state, reason
        self._changed.set()


class Outcomes:
    """The waiters of all rows."""

    def __init__(self) -> None:
        self._watches: dict[str, list[Watch]] = {}

    @contextmanager
    def watch(self, message_id: str) -> Iterator[Watch]:
        """Watch a row from before its insert, so that no announcement is missed."""
        watch = Watch()
        self._watches.setdefault(message_id, []).append(watch)
        try:
            yield watch
        finally:
            watches = self._watches[message_id]
            watches.remove(watch)
            if not watches:
                del self._watches[message_id]

    def announce(self, message_id: str, state: RowState, reason: str | None = None) -> None:
        """Tell who waits what became of the row. Call it after the commit."""
        for watch in self._watches.get(message_id, ()):
            watch._announce(state, reason)

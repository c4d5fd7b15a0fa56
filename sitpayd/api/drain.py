"""Drain: how the API lets go when the daemon stops.

Who waits for a message gets a little time, then answers as if its budget were over; the feed closes
its sockets. Nothing is cancelled: every caller gets an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

# Seconds for requests under way, and what is left of the server's patience for their answers.
DRAIN_S: Final = 8.0


class Drain:
    """The waits of all requests, and the moment when they have to end.

    Attributes:
        begun: set when the daemon stops.
    """

    def __init__(self) -> None:
        self.begun = trio.Event()
        self._deadline = float("inf")
        self._scopes: set[trio.CancelScope] = set()

    @contextmanager
    def budget(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Wait inside for at most so long, and not beyond the drain."""
        deadline = min(trio.current_time() + seconds, self._deadline)
        with trio.CancelScope(deadline=deadline) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def begin(self) -> None:
        """Let go, from now on."""
        self._deadline = trio.current_time() + DRAIN_S
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, self._deadline)
        self.begun.set()

"""Alarms: one task that keeps the time for thousands of actors.

A wait with a deadline of its own costs an actor a cancel scope, and an exception when its time has
come: of all that an idle device does that was the most. Here a deadline is a line in one list. It
may be early (a pong moves the next ping on, and nobody takes the line out), so who is rung looks at
its own deadline again.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

import trio

# Rounds of ringing are at least so far apart: with thousands of devices many are due at once then.
ROUND_S: Final = 0.02


class Alarms:
    """Rings at the times that were asked for; run by the supervisor."""

    def __init__(self) -> None:
        self._set: list[tuple[float, int, Callable[[], None]]] = []
        # Of two for the same moment the first that was set rings first.
        self._count = itertools.count()
        self._sleep = trio.CancelScope()
        self._next_round = -math.inf

    def set(self, at: float, ring: Callable[[], None]) -> None:
        """Ring once, at clock seconds or a round later; `ring` must neither wait nor raise."""
        heapq.heappush(self._set, (at, next(self._count), ring))
        if at < self._sleep.deadline:
            self._sleep.deadline = max(at, self._next_round)

    async def run(self) -> None:
        """Ring until cancelled."""
        while True:
            at = self._set[0][0] if self._set else math.inf
            with trio.CancelScope(deadline=max(at, self._next_round)) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            self._next_round = now + ROUND_S
            while self._set and self._set[0][0] <= now:
                heapq.heappop(self._set)[2]()

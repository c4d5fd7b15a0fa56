"""DialBucket: at most so many dials per second in the whole process.

Jitter alone does not stop a stampede: after an outage every device of the process would dial within
its first delay. A token bucket in front of the dials does. It hands out turns ahead of time, so an
event loop that stood still wakes many at once: a dial is let go only if the last second has room.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import trio

DIALS_PER_S: Final = 100.0
BURST: Final = 20


class DialBucket:
    """Hands out dials in the order in which they were asked for."""

    def __init__(self, per_second: float = DIALS_PER_S, burst: int = BURST) -> None:
        self._interval = 1.0 / per_second
        self._slack = burst * self._interval
        self._next = -math.inf
        self._last_second = deque[float](maxlen=int(per_second))

    async def take(self) -> None:
        """Wait for a turn. A turn that is cancelled is lost, which only slows the others down."""
        now = trio.current_time()
        self._next = max(self._next + self._interval, now - self._slack)
        await trio.sleep_until(max(self._next, now))
        last = self._last_second
        while True:
            if len(last) < (last.maxlen or 0) or last[0] + 1.0 <= trio.current_time():
                break
            await trio.sleep_until(last[0] + 1.0)
        last.append(trio.current_time())

"""Dials: how often clients knock, for judging a storm."""

from __future__ import annotations

from collections import deque
from typing import Final

_SECOND: Final = 1.0


class Dials:
    """Counts the dials, let in or not.

    Attributes:
        count: how many there were.
        peak: the most within any one second.
    """

    def __init__(self) -> None:
        self._last_second: deque[float] = deque()
        self.clear()

    def clear(self) -> None:
        """Begin to count anew."""
        self._last_second.clear()
        self.count = self.peak = 0

    def note(self, moment: float) -> None:
        """Somebody dials.

        Args:
            moment: monotonic seconds.
        """
        last = self._last_second
        last.append(moment)
        while last[0] <= moment - _SECOND:
            last.popleft()
        self.count += 1
        self.peak = max(self.peak, len(last))

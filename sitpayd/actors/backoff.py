"""How long to wait before the next dial. Pure.

Full jitter: uniform between nothing and a cap that doubles with each attempt. The count goes back
to zero only after a connection was healthy for a while; else a device whose connections die after
seconds would hammer for ever.
"""

from __future__ import annotations

from random import Random
from typing import Final

BASE_S: Final = 2.0
CAP_S: Final = 300.0
HEALTHY_AFTER_S: Final = 300.0


class Backoff:
    """The reconnect delay of one device."""

    __slots__ = ("_attempts", "_healthy_since", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._attempts = 0
        self._healthy_since: float | None = None

    @property
    def attempts(self) -> int:
        """Delays drawn since the device was last healthy."""
        return self._attempts

    def connected(self, now: float) -> None:
        """Note that a connection came up at `now`, clock seconds."""
        self._healthy_since = now

    def next_delay(self, now: float, minimum: float = 0.0) -> float:
        """Draw the delay before the next dial, in seconds.

        Args:
            minimum: seconds that must pass whatever is drawn.
        """
        if self._healthy_since is not None and now - self._healthy_since >= HEALTHY_AFTER_S:
            self._attempts = 0
        self._healthy_since = None
        cap = min(BASE_S * 2.0 ** min(self._attempts, 16), CAP_S)
        self._attempts += 1
        return minimum + self._random.uniform(0.0, cap)

"""The process's clock: UTC that goes as fast as time passes.

A wall clock that is set, by a person or by a time service, would end the time of everything that
waits, or double it. So nothing here asks the wall clock after the start: UTC goes on with the
monotonic clock. When the two have come apart, timekeeping.py moves what is stored by the
difference, and in the same moment this clock follows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

# Set by the unit: the file below cannot be read where the unit hides what is no process in /proc.
BOOT_ID_VARIABLE: Final = "BOOT_ID"
BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SteadyClock:
    """UTC on the monotonic clock.

    Args:
        wall: UTC seconds, may jump; monotonic: seconds, never does, and stands while the machine
            sleeps.

    Attributes:
        skipped_s: seconds by which it has been put forward since its beginning: what is older
            than a span by it need not have been there so long.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self.begin()

    def begin(self) -> None:
        """Believe the wall clock."""
        self._offset_s = self._wall() - self._monotonic()
        self.skipped_s = 0.0

    def count_from(self, offset_s: float) -> None:
        """Go on as another process of this run of the machine did."""
        self._offset_s = offset_s

    @property
    def offset_s(self) -> float:
        """UTC minus the monotonic clock, seconds."""
        return self._offset_s

    def now(self) -> datetime:
        """UTC, aware."""
        return _EPOCH + timedelta(seconds=self._monotonic() + self._offset_s)

    def drift(self) -> float:
        """How far the wall clock is ahead, seconds."""
        return self._wall() - self._monotonic() - self._offset_s

    def follow(self, drift_s: float) -> None:
        """Go with the wall clock."""
        self._offset_s += drift_s
        self.skipped_s += max(drift_s, 0.0)


CLOCK = SteadyClock()


def utc_now() -> datetime:
    """UTC by the process's clock, aware."""
    return CLOCK.now()


def boot_id() -> str | None:
    """Which run of the machine this is; None: nobody says."""
    named = os.environ.get(BOOT_ID_VARIABLE)
    if named:
        return named
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return None

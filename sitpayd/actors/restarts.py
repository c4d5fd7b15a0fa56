"""RestartPolicy: what the supervisor does about crashed actors. Pure.

Unlike Erlang's window for all children, each device has a growing delay of its own, since one bad
device must not take the others with it. Many devices crashing at once is another matter: then the
fault is ours or the machine's, and the process ends so that systemd starts it anew.

A row that is on top at one crash after another is taken for the cause: it is set aside, and the
rest of the queue goes on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 900.0
# A device that ran this long without a crash starts counting anew.
CALM_AFTER_S: Final = 300.0
# From this crash in a row on the device counts as faulted.
FAULTED_FROM: Final = 5
# At so many crashes in a row with the same row on top, that row is poison.
POISON_FROM: Final = 3
ESCALATION_WINDOW_S: Final = 60.0
ESCALATION_MIN_DEVICES: Final = 5
ESCALATION_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the actor again after `delay_s` seconds.

    Attributes:
        faulted: the device cannot do its work; alarm: since this crash.
        poison: id of the row to set aside before anything else.
    """

    delay_s: float
    faulted: bool
    alarm: bool = False
    poison: int | None = None


@dataclass(frozen=True, slots=True)
class Escalate:
    """Too many different devices crashed within the window: end the process."""

    devices: int


class RestartPolicy:
    """Crash history of all devices."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, tuple[int, float]] = {}
        self._rows: dict[str, tuple[int, int]] = {}
        self._recent: deque[tuple[float, str]] = deque()

    def crashed(
        self, session_id: str, device_count: int, now: float, row: int | None = None
    ) -> Restart | Escalate:
        """Decide about a crash.

        Args:
            device_count: how many devices the supervisor runs.
            now: clock seconds.
            row: id of the row that was on top; None: the crash was no row's fault.
        """
        count, last = self._in_a_row.get(session_id, (0, now))
        count = 1 if now - last >= CALM_AFTER_S + _delay(count) else count + 1
        self._in_a_row[session_id] = (count, now)
        poison = self._poison(session_id, row)
        self._recent.append((now, session_id))
        while self._recent[0][0] < now - ESCALATION_WINDOW_S:
            self._recent.popleft()
        crashed = len({name for _, name in self._recent})
        if crashed >= max(ESCALATION_MIN_DEVICES, ESCALATION_SHARE * device_count):
            return Escalate(crashed)
        return Restart(
            _delay(count), count >= FAULTED_FROM, alarm=count == FAULTED_FROM, poison=poison
        )

    def forget(self, session_id: str) -> None:
        """Drop the history of a device that is gone."""
        self._in_a_row.pop(session_id, None)
        self._rows.pop(session_id, None)

    def _poison(self, session_id: str, row: int | None) -> int | None:
        known, count = self._rows.pop(session_id, (row, 0))
        if row is None:
            return None
        count = count + 1 if known == row else 1
        if count >= POISON_FROM:
            return row
        self._rows[session_id] = (row, count)
        return None


def _delay(crashes_in_a_row: int) -> float:
    if not crashes_in_a_row:
        return 0.0
    return min(FIRST_DELAY_S * 2.0 ** min(crashes_in_a_row - 1, 16), MAX_DELAY_S)

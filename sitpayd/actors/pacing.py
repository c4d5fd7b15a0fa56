"""When the next row may go, and why not yet. Pure.

WhatsApp restricts accounts that write faster than people do. The defaults below are cautious
guesses from public reports; no limit is documented. They hold for WhatsApp's own servers; against
any other server pacing is off unless a setting turns it on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class PacingLimits:
    """Limits of one device; seconds and counts.

    Attributes:
        same_chat_s: least and most seconds between two messages of one chat.
        other_chat_s: the same between messages of different chats.
        first_contacts_per_day: first messages to people in any 24 hours; 0: none.
        number_checks_per_hour: numbers looked up for who asks, in any hour; 0: none.
    """

    same_chat_s: tuple[float, float] = (1.0, 2.0)
    other_chat_s: tuple[float, float] = (2.0, 5.0)
    per_minute: int = 20
    per_hour: int = 200
    first_contacts_per_day: int = 10
    number_checks_per_hour: int = 10


class Pacing:
    """The pace of one device's sends.

    Args:
        limits: None: no pacing.
    """

    __slots__ = ("_jitter", "_last_chat", "_limits", "_random", "_sent")

    def __init__(self, limits: PacingLimits | None, random: Random) -> None:
        self._limits = limits
        self._random = random
        self._sent: deque[float] = deque()
        self._last_chat: str | None = None
        self._jitter = 0.0

    def wait_until(self, chat: str, now: float) -> float:
        """Clock seconds before which nothing may go to this chat; not later than `now`: go."""
        if self._limits is None:
            return now
        while self._sent and self._sent[0] <= now - HOUR_S:
            self._sent.popleft()
        until = now
        if self._sent:
            same = chat == self._last_chat
            low, high = self._limits.same_chat_s if same else self._limits.other_chat_s
            until = self._sent[-1] + low + (high - low) * self._jitter
        if len(self._sent) >= self._limits.per_hour:
            until = max(until, self._sent[-self._limits.per_hour] + HOUR_S)
        if len(self._sent) >= self._limits.per_minute:
            until = max(until, self._sent[-self._limits.per_minute] + MINUTE_S)
        return until

    def sent(self, chat: str, now: float) -> None:
        """Note that a message to this chat went out."""
        if self._limits is None:
            return
        self._sent.append(now)
        self._last_chat = chat
        # Drawn once per message, so that asking again gives the same answer.
        self._jitter = self._random.random()

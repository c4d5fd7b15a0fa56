"""Strangers: when the first message to somebody may go. Pure.

Writing to people one has no chat with is what WhatsApp watches and restricts. So first messages
have a small budget of their own, spent at random intervals, and are held altogether while WhatsApp
says that the account may begin no chats. Replies and known chats go on meanwhile.

The figures are cautious guesses from public reports; no limit is documented.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

DAY_S: Final = 24 * 3600.0
# Between two first messages, drawn anew for each.
SPACING_S: Final = (30.0, 120.0)


@dataclass(frozen=True, slots=True)
class Barred:
    """First messages wait; until is clock seconds."""

    until: float
    reason: str


class Strangers:
    """The first messages of one device.

    Args:
        per_day: how many in any 24 hours; None: no budget.
    """

    __slots__ = ("_hold", "_per_day", "_random", "_sent", "_spacing_s")

    def __init__(self, per_day: int | None, random: Random) -> None:
        self._per_day = per_day
        self._random = random
        self._sent: deque[float] = deque()
        self._spacing_s = 0.0
        self._hold: Barred | None = None

    def restore(self, sent: tuple[float, ...], hold: Barred | None) -> None:
        """Take over what an earlier life left: clock seconds of first messages, and a hold."""
        self._sent = deque(sent)
        self._hold = hold

    def barred(self, now: float) -> Barred | None:
        """Why first messages wait now; None: they may go."""
        if self._hold is not None and now >= self._hold.until:
            self._hold = None
        if self._hold is not None:
            return self._hold
        if self._per_day is None:
            return None
        while self._sent and self._sent[0] <= now - DAY_S:
            self._sent.popleft()
        if len(self._sent) >= self._per_day:
            # Without a budget there is no end; a day is when it is worth looking again.
            first = self._sent[-self._per_day] if self._per_day else now
            return Barred(first + DAY_S, "first_contact_budget")
        if self._sent and now < self._sent[-1] + self._spacing_s:
            return Barred(self._sent[-1] + self._spacing_s, "paced")
        return None

    def sent(self, now: float) -> None:
        """Note that a first message leaves."""
        if self._per_day is not None:
            self._sent.append(now)
            self._spacing_s = self._random.uniform(*SPACING_S)

    def hold(self, until: float, reason: str) -> None:
        """WhatsApp lets the account begin no chats until then, clock seconds."""
        self._hold = Barred(until, reason)

    def release(self) -> None:
        """WhatsApp lets the account begin chats again."""
        self._hold = None

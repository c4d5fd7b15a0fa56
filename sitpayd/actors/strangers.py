"""Strangers: when the first message to somebody may go. Pure.

Writing to people one has no chat with is what WhatsApp watches and restricts. So first messages
have a small budget of their own, spent at random intervals. While WhatsApp says that the account
has used up its quota of new chats, they are held altogether; while it says that the account is
locked, so is everything for people who are not close. Replies and known chats go on meanwhile.

How the account stands is asked for where a refusal gives reason to, then each six hours as long as
something is held, and once more at the end that was told: a retry would count as another attempt.
A refusal that comes while WhatsApp says that the account is free concerns that person alone. Some
of these in a row are taken for a word about the account all the same.

The figures are cautious guesses from public reports; no limit is documented.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from sitpayd.actors.refusals import REACHOUT_LOCKED

DAY_S: Final = 24 * 3600.0
# Between two first messages, drawn anew for each.
SPACING_S: Final = (30.0, 120.0)
ASK_AGAIN_S: Final = 6 * 3600.0
# How long the answer to a question may take, for who wants to know when a hold ends.
WORD_WITHIN_S: Final = 60.0
# Refusals that concern one person each, since WhatsApp last said that the account is free.
MAX_ALONE: Final = 3


@dataclass(frozen=True, slots=True)
class Barred:
    """First messages wait; until is clock seconds."""

    until: float
    reason: str


class Restriction(Enum):
    """What a refusal by reason of the account's beginning of chats means."""

    ASK = auto()  # hold, and ask how the account stands
    HOLD = auto()  # hold; it is too early to ask again
    KNOWN = auto()  # that is held already
    ALONE = auto()  # it concerns that person alone


class Strangers:
    """The first messages of one device.

    Args:
        per_day: how many in any 24 hours; None: no budget.
    """

    __slots__ = (
        "_alone",
        "_asked_at",
        "_free_at",
        "_hold",
        "_per_day",
        "_random",
        "_refused_at",
        "_sent",
        "_spacing_s",
        "_waits_for_word",
    )

    def __init__(self, per_day: int | None, random: Random) -> None:
        self._per_day = per_day
        self._random = random
        self._sent: deque[float] = deque()
        self._spacing_s = 0.0
        self._hold: Barred | None = None
        # When it was asked, or told, how the account stands, and when that was known to be well.
        self._asked_at = self._free_at = -math.inf
        self._refused_at = -math.inf
        self._alone = 0
        # The end of the hold has come, and WhatsApp was asked whether it is one.
        self._waits_for_word = False

    def restore(self, sent: tuple[float, ...], hold: Barred | None) -> None:
        """Take over what an earlier life left: clock seconds of first messages, and a hold."""
        self._sent = deque(sent)
        self._hold = hold

    def forget(self) -> None:
        """Another account is linked. What was sent counts on: the device did it, too."""
        self._hold = None
        self._asked_at = self._free_at = self._refused_at = -math.inf
        self._alone, self._waits_for_word = 0, False

    def barred(self, now: float) -> Barred | None:
        """Why first messages wait now; None: they may go."""
        hold = self._held(now)
        if hold is not None:
            return hold
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

    def locked(self, now: float) -> Barred | None:
        """Why messages to people who never answered wait as well; None: they may go."""
        hold = self._held(now)
        return hold if hold is not None and hold.reason == REACHOUT_LOCKED else None

    def sent(self, now: float) -> None:
        """Note that a first message leaves."""
        if self._per_day is not None:
            self._sent.append(now)
            self._spacing_s = self._random.uniform(*SPACING_S)

    # --- what WhatsApp says ---

    def refused(self, reason: str, now: float) -> Restriction:
        """WhatsApp refused a message for this reason."""
        self._refused_at = now
        hold = self._held(now)
        if hold is not None and hold.reason == reason:
            return Restriction.KNOWN
        if reason == REACHOUT_LOCKED and now < self._free_at + ASK_AGAIN_S:
            self._alone += 1
            return Restriction.ALONE if self._alone < MAX_ALONE else Restriction.HOLD
        return Restriction.ASK

    def hold(self, until: float, reason: str, now: float, *, told: bool = True) -> Barred:
        """WhatsApp lets the account begin no chats until then, clock seconds.

        Args:
            told: it says so; otherwise that is a guess, after a refusal.
        """
        hold = self._held(now)
        self._waits_for_word = False
        if told:
            self._asked_at = now
        if hold is None or hold.reason == reason or reason == REACHOUT_LOCKED:
            self._hold = hold = Barred(until, reason)
        return hold  # where it is locked already, a quota says nothing more

    def release(self, reason: str, now: float) -> bool:
        """WhatsApp says that it holds nothing for this reason; whether it did."""
        self._asked_at = now
        if reason == REACHOUT_LOCKED:
            self._free_at, self._alone = now, 0
        if self._hold is None or self._hold.reason != reason:
            return False
        self._hold, self._waits_for_word = None, False
        return True

    @property
    def refused_at(self) -> float:
        """When WhatsApp last refused a message for one of its reasons, clock seconds."""
        return self._refused_at

    # --- asking ---

    def ask_at(self) -> float | None:
        """When to ask how the account stands, clock seconds; None: nothing is held."""
        if self._hold is None or self._waits_for_word:
            return None
        return min(self._asked_at + ASK_AGAIN_S, self._hold.until)

    def asked(self, now: float) -> None:
        """It was asked how the account stands."""
        self._asked_at = now
        self._waits_for_word = self._hold is not None and now >= self._hold.until

    def unanswered(self) -> str | None:
        """There was no answer. If the end has come, it is one; returns what is held no more."""
        if not self._waits_for_word or self._hold is None:
            return None
        reason = self._hold.reason
        self._hold, self._waits_for_word = None, False
        return reason

    def offline(self) -> None:
        """The connection is gone, and the question with it."""
        self._waits_for_word = False

    @property
    def reason_held(self) -> str:
        """What the account is held for, or will be asked about; "" if it is not."""
        return "" if self._hold is None else self._hold.reason

    def _held(self, now: float) -> Barred | None:
        if self._hold is None:
            return None
        if self._waits_for_word:
            return Barred(self._asked_at + WORD_WITHIN_S, self._hold.reason)
        return self._hold if now < self._hold.until else None

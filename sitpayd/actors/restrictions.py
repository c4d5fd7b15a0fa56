"""Restrictions: what WhatsApp says about the account's beginning of chats, and is asked. Pure.

It refuses messages to people with whom there is no chat: for a lock of the account, for a quota of
new chats, or for one person alone. Which of these it is, and until when, is asked where a refusal
gives reason to, and from time to time as long as something is held (strangers.py says when). One
whom a refusal concerns alone is given our privacy token: WhatsApp may not know that we know it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from sitpayd.actors.commands import Command, HoldFirstContacts, SaveNewChatHold
from sitpayd.actors.queries import Queries
from sitpayd.actors.refusals import (
    CAPPING_HOLD_S,
    NEW_CHAT_LIMIT,
    REACHOUT_HOLD_S,
    REACHOUT_LOCKED,
    Refusal,
)
from sitpayd.actors.strangers import ASK_AGAIN_S, Barred, Restriction, Strangers
from sitpayd.actors.trust import TrustMachine
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import mex
from sitpayd.whatsapp.stanzas.iq import parse_iq_error

# The server's word for the end of a hold is believed up to this far.
MAX_HOLD_S: Final = 30 * 24 * 3600.0


class Inquiry(Enum):
    """How the account stands: what is asked here."""

    TIMELOCK = auto()
    CAPPING = auto()


class Restrictions:
    """What holds the first messages of one device.

    Args:
        queries: of the connection; the purposes asked for here are `Inquiry` values.
    """

    __slots__ = ("_queries", "_refused_to", "_strangers", "_trust", "_unix_offset_s")

    def __init__(self, queries: Queries[object], strangers: Strangers, trust: TrustMachine) -> None:
        self._queries = queries
        self._strangers = strangers
        self._trust = trust
        # Who a refusal concerned that may be about the account, or about that person alone.
        self._refused_to: Jid | None = None
        self._unix_offset_s = 0.0

    def online(self, unix_offset_s: float) -> None:
        """The device is connected; unix_offset_s: UTC minus the clock."""
        self._unix_offset_s = unix_offset_s

    def offline(self) -> None:
        """The connection is gone, and what was asked with it."""
        self._refused_to = None
        self._strangers.offline()

    def refused(self, to: Jid, refusal: Refusal, now: float) -> list[Command]:
        """A message to this person was refused for one of these reasons."""
        what = self._strangers.refused(refusal.reason, now)
        if what is Restriction.KNOWN:
            return []
        if what is Restriction.ALONE:
            return self._trust.refused(to, now)
        commands = self._hold(now + refusal.holds_s, refusal.reason, now, told=False)
        if what is Restriction.ASK:
            is_cap = refusal.reason == NEW_CHAT_LIMIT
            self._refused_to = None if is_cap else to
            commands.append(self._ask(Inquiry.CAPPING if is_cap else Inquiry.TIMELOCK, now))
        return commands

    def ask_again(self, now: float) -> list[Command]:
        """Ask how the account stands, if something is held and it is time to."""
        ask_at = self._strangers.ask_at()
        if ask_at is None or now < ask_at:
            return []
        is_capped = self._strangers.reason_held == NEW_CHAT_LIMIT
        return [self._ask(Inquiry.CAPPING if is_capped else Inquiry.TIMELOCK, now)]

    # --- what the server says ---

    def answered(self, inquiry: Inquiry, node: Node, now: float) -> list[Command]:
        """Take the answer to a question.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        if parse_iq_error(node) is not None:
            return self.unanswered()
        if inquiry is Inquiry.TIMELOCK:
            lock = mex.parse_timelock(node)
            return self.unanswered() if lock is None else self.timelock(lock, now)
        cap = mex.parse_capping(node)
        if cap is None:
            return self.unanswered()
        if not cap.is_reached and now < self._strangers.refused_at + ASK_AGAIN_S:
            return []  # a refusal says more than a count of that moment
        return self.capped(cap, now)

    def unanswered(self) -> list[Command]:
        """It was not told how the account stands: the end that was announced is one."""
        self._refused_to = None
        return [] if self._strangers.unanswered() is None else [SaveNewChatHold(None)]

    def timelock(self, known: mex.ReachoutTimelock, now: float) -> list[Command]:
        """Take whether the account is locked."""
        refused_to, self._refused_to = self._refused_to, None
        if known.is_active:
            ends_in_s = self._ends_in_s(known.ends, REACHOUT_HOLD_S, now)
            return self._hold(now + ends_in_s, REACHOUT_LOCKED, now)
        commands = self._release(REACHOUT_LOCKED, now)
        return commands if refused_to is None else commands + self._trust.refused(refused_to, now)

    def capped(self, known: mex.NewChatCap, now: float) -> list[Command]:
        """Take whether the account has used up its quota of new chats."""
        if not known.is_reached:
            return self._release(NEW_CHAT_LIMIT, now)
        ends_in_s = self._ends_in_s(known.ends, CAPPING_HOLD_S, now)
        return self._hold(now + ends_in_s, NEW_CHAT_LIMIT, now)

    # --- inside ---

    def _ask(self, inquiry: Inquiry, now: float) -> Command:
        self._strangers.asked(now)
        build = mex.capping_query if inquiry is Inquiry.CAPPING else mex.timelock_query
        return self._queries.ask(inquiry, build, now)

    def _ends_in_s(self, ends: int | None, unless_told_s: float, now: float) -> float:
        """How long something holds; an end that is past tells nothing."""
        ends_in_s = 0.0 if ends is None else ends - self._unix_offset_s - now
        return min(ends_in_s, MAX_HOLD_S) if ends_in_s > 0.0 else unless_told_s

    def _hold(self, until: float, reason: str, now: float, *, told: bool = True) -> list[Command]:
        hold = self._strangers.hold(until, reason, now, told=told)
        return [SaveNewChatHold(hold), held(hold)]

    def _release(self, reason: str, now: float) -> list[Command]:
        # Where nothing is released, what holds them is something else.
        return [SaveNewChatHold(None)] if self._strangers.release(reason, now) else []


def held(hold: Barred) -> Command:
    """Note on what waits why it does: with a lock, also messages to people who never answered."""
    return HoldFirstContacts(hold.until, hold.reason, unanswered=hold.reason == REACHOUT_LOCKED)

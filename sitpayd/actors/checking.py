"""CheckMachine: which numbers have an account, asked for in so many words. Pure.

One question after another is taken: what is known and what the hour still allows is decided where
the look-ups are noted, before they are made, and all that is left is asked about in one query. Two
queries never run at a time, and none follows another at once. A number of which WhatsApp says
nothing, or an error, is one of which nothing is known. After a refusal nobody is asked about for a
while. Delivery asks for itself: delivery.py.

In volume number checks are a known reason for bans.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from functools import partial
from typing import Final

from sitpayd.actors.commands import Command, Learn, Respond, SaveChecks, TakeChecks
from sitpayd.actors.delivery import CHECK_WITHIN_S, Question
from sitpayd.actors.events import ChecksTaken
from sitpayd.actors.messages import CheckNumbers, Done, Later, NotNow
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import usync
from sitpayd.whatsapp.stanzas.iq import parse_iq_error

# Between two queries, also behind one of delivery's.
APART_S: Final = 2.0
# Questions that wait for their turn; further ones are told when to come again.
MAX_WAITING: Final = 8
# After a refusal or silence; doubled with each in a row.
PAUSE_S: Final = 60.0
MAX_PAUSE_S: Final = 3600.0
# The look-ups could not be noted: when to try again.
STORAGE_PAUSE_S: Final = 10.0


class LookUp(Enum):
    """What is asked the server here."""

    NUMBERS = auto()


class CheckMachine:
    """The number checks of one device.

    Args:
        queries: of the connection; purposes asked for here are `LookUp`s.
    """

    __slots__ = (
        "_asked",
        "_failures",
        "_in_hand",
        "_is_online",
        "_paused_until",
        "_queries",
        "_waiting",
    )

    def __init__(self, queries: Queries[object]) -> None:
        self._queries = queries
        self._is_online = False
        self._waiting: deque[CheckNumbers] = deque()
        self._in_hand: CheckNumbers | None = None
        self._asked: tuple[str, ...] = ()
        self._paused_until = 0.0
        self._failures = 0

    def online(self) -> None:
        """The device is connected."""
        self._is_online = True

    def offline(self) -> list[Command]:
        """The connection is gone: who waits is told so."""
        self._is_online = False
        return [Respond(question.reply, NotNow()) for question in self._let_go()]

    def ask(self, question: CheckNumbers, now: float) -> list[Command]:
        """Somebody wants to know."""
        if not self._is_online:
            return [Respond(question.reply, NotNow())]
        if now < self._paused_until:
            return [Respond(question.reply, Later(self._paused_until))]
        if len(self._waiting) >= MAX_WAITING:
            return [Respond(question.reply, Later(now + MAX_WAITING * APART_S))]
        self._waiting.append(question)
        return self.tick(now)

    def tick(self, now: float) -> list[Command]:
        """Take the next question, if it is its turn."""
        if self._in_hand is not None or not self._waiting or now < self._next_at():
            return []
        self._in_hand = self._waiting.popleft()
        return [TakeChecks(self._in_hand.numbers)]

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        return self._next_at() if self._waiting and self._in_hand is None else None

    def taken(self, event: ChecksTaken, now: float) -> list[Command]:
        """Ask about what has to be asked about."""
        question = self._in_hand
        if question is None:
            return []
        if event.numbers is None:
            return self._pause(now, STORAGE_PAUSE_S)
        if not event.numbers:
            return self._settle(now)
        self._asked = event.numbers
        build = partial(usync.contact_query, numbers=event.numbers, sid=self._queries.next_id())
        return [self._queries.ask(LookUp.NUMBERS, build, now, within_s=CHECK_WITHIN_S)]

    def answered(self, node: Node, now: float) -> list[Command]:
        """Take the server's answer.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        if self._in_hand is None:
            return []
        if parse_iq_error(node) is not None:
            return self.unanswered(now)
        contacts = usync.parse_contacts(node)
        told = [contacts[number] for number in self._asked if number in contacts]
        told = [contact for contact in told if contact.error is None]
        commands: list[Command] = [
            # Under another number than the one that was asked about an account may be known, too.
            Learn(contact.jid or pn(contact.number), contact.lid)
            for contact in told
            if contact.lid is not None
        ]
        if told:
            self._failures = 0
            commands.append(SaveChecks({contact.number: contact.exists for contact in told}))
            return [*commands, *self._settle(now)]
        return self.unanswered(now)

    def unanswered(self, now: float) -> list[Command]:
        """WhatsApp refuses, or says nothing: leave it alone for a while."""
        if self._in_hand is None:
            return []
        pause = min(PAUSE_S * 2.0 ** min(self._failures, 16), MAX_PAUSE_S)
        self._failures += 1
        return self._pause(now, pause)

    def _pause(self, now: float, seconds: float) -> list[Command]:
        self._paused_until = now + seconds
        asked, later = bool(self._asked), Later(self._paused_until)
        first, *others = self._let_go()
        # Whose look-ups were made learns the rest from what is stored.
        commands: list[Command] = [Respond(first.reply, Done() if asked else later)]
        return [*commands, *(Respond(question.reply, later) for question in others)]

    def _settle(self, now: float) -> list[Command]:
        question, self._in_hand, self._asked = self._in_hand, None, ()
        assert question is not None
        return [Respond(question.reply, Done()), *self.tick(now)]

    def _let_go(self) -> list[CheckNumbers]:
        ended = [*([self._in_hand] if self._in_hand is not None else []), *self._waiting]
        self._in_hand, self._asked = None, ()
        self._waiting.clear()
        return ended

    def _next_at(self) -> float:
        asked = (self._queries.asked_at(purpose) for purpose in (LookUp.NUMBERS, Question.ACCOUNT))
        return max((at + APART_S for at in asked if at is not None), default=0.0)

"""TrustMachine: when people are given our privacy token. Pure.

WhatsApp takes messages to people who know us: who was given our token proves that to it, and who
has given us theirs gets it back with each message (arming.py). So a person is given ours, once a
week, after a message to it was taken; again, with the time it had, when its phone is a new one;
and once when WhatsApp refuses a message to this person alone. When ours was given is stored after
the server has said so, so that a lost answer costs one more question.

Whether somebody is owed our token is looked up with the mark of a sent row (memory.py); which
messages carry whose token, there, too.

Source: whatsmeow tctoken.go; Baileys lib/Utils/tc-token-utils.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Final

from sitpayd.actors.commands import Command, NoteGiven
from sitpayd.actors.events import TokenOwed
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import privacy
from sitpayd.whatsapp.stanzas.iq import parse_iq_error

# A server that refuses to take our token for somebody is not asked with each message.
AGAIN_AFTER_S: Final = 6 * 3600.0
# People remembered of whom nothing more is wanted for a while; the oldest is forgotten first.
MAX_PEOPLE: Final = 256


@dataclass(frozen=True, slots=True)
class Giving:
    """The question whether this person may have our token of this time, UTC seconds."""

    to: Jid
    t: int


class TrustMachine:
    """Our tokens of one connection after another.

    Args:
        queries: of the connection; the purposes asked for here are `Giving`s.

    Attributes:
        to_lid: whether people are given it by LID, where that is known.
    """

    __slots__ = ("_asked", "_put_off", "_queries", "_unix_offset_s", "to_lid")

    def __init__(self, queries: Queries[object]) -> None:
        self._queries = queries
        self._unix_offset_s: float | None = None
        self._asked: set[Jid] = set()
        self._put_off: OrderedDict[Jid, float] = OrderedDict()
        self.to_lid = True

    def online(self, unix_offset_s: float) -> None:
        """The device is connected; unix_offset_s: the server's UTC minus the clock."""
        self._unix_offset_s = unix_offset_s

    def offline(self) -> None:
        """The connection is gone: what was asked is asked again with the next message."""
        self._unix_offset_s = None
        self._asked.clear()

    def owed(self, event: TokenOwed, now: float) -> list[Command]:
        """Somebody is owed our token."""
        to = event.lid if event.lid is not None and (self.to_lid or event.pn is None) else event.pn
        if to is None or now < self._put_off.get(to, now):
            return []
        return self._give(to, event.t, now)

    def refused(self, to: Jid, now: float) -> list[Command]:
        """WhatsApp refuses a message to this person alone: it may not know that we know it."""
        if now < self._put_off.get(to, now):
            return []
        commands = self._give(to, None, now)
        self._leave_alone(to, now)
        return commands

    def answered(self, giving: Giving, node: Node, now: float) -> list[Command]:
        """Take the server's answer.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        if parse_iq_error(node) is not None:
            return self.unanswered(giving, now)
        theirs = privacy.parse_give_answer(node)
        self._asked.discard(giving.to)
        return [NoteGiven(giving.to, giving.t, theirs)]

    def unanswered(self, giving: Giving, now: float) -> list[Command]:
        """An error or no answer: not again soon."""
        self._asked.discard(giving.to)
        self._leave_alone(giving.to, now)
        return []

    def _give(self, to: Jid, t: int | None, now: float) -> list[Command]:
        if self._unix_offset_s is None or to in self._asked or not privacy.takes_tokens(to):
            return []
        self._asked.add(to)
        t = int(now + self._unix_offset_s) if t is None else t
        build = partial(privacy.give, user=to, t=t)
        return [self._queries.ask(Giving(to, t), build, now)]

    def _leave_alone(self, to: Jid, now: float) -> None:
        self._put_off[to] = now + AGAIN_AFTER_S
        self._put_off.move_to_end(to)
        if len(self._put_off) > MAX_PEOPLE:
            self._put_off.popitem(last=False)

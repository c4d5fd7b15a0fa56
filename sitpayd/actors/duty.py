"""DutyMachine: one connection of a linked device, from `<success>` to its end. Pure.

It keeps the connection alive (keepalive.py), does the errands of a login (login.py), delivers rows
(delivery.py) and answers what the server says by itself (notices.py). In which phase the device
stands, what people want of it, and what a lost connection means, is machine.py.
"""

from __future__ import annotations

from random import Random
from typing import Final, assert_never

from sitpayd.actors.commands import Command, Send
from sitpayd.actors.delivery import DeliveryMachine, Question
from sitpayd.actors.events import Started
from sitpayd.actors.keepalive import Keepalive
from sitpayd.actors.login import Errand, LoginMachine
from sitpayd.actors.notices import Courtesy, Notices
from sitpayd.actors.pacing import Pacing, PacingLimits
from sitpayd.actors.queries import Queries
from sitpayd.actors.restrictions import Inquiry
from sitpayd.actors.strangers import Strangers
from sitpayd.actors.trust import Giving, TrustMachine
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity

# What is asked here.
Purpose = Errand | Question | Inquiry | Courtesy | Giving


class DutyMachine:
    """One logged-in connection after another.

    Args:
        queries: of the connection; what is asked for here is a `Purpose`.
    """

    def __init__(
        self, queries: Queries[object], random: Random, limits: PacingLimits | None
    ) -> None:
        self._queries = queries
        self.keepalive: Final = Keepalive(random)
        self.login: Final = LoginMachine(queries)
        per_day = None if limits is None else limits.first_contacts_per_day
        self._strangers = Strangers(per_day, random)
        self.trust: Final = TrustMachine(queries)
        pacing = Pacing(limits, random)
        self.delivery: Final = DeliveryMachine(queries, pacing, self._strangers, self.trust)
        self.notices: Final = Notices(queries, self.login, self.delivery)
        self._unix_offset_s = 0.0
        self._server_offset_s = 0.0

    def restore(self, event: Started) -> None:
        """Take over what earlier lives left."""
        self._unix_offset_s = event.unix_offset_s
        self._strangers.restore(event.first_contacts, event.new_chats)

    def relinked(self) -> None:
        """Another number was linked: what WhatsApp told held the account of the one before."""
        self._strangers.forget()

    def welcomed(self, t: int | None, now: float) -> None:
        """`<success>` came.

        Args:
            t: server time, UTC seconds; None: it does not tell.
        """
        self.keepalive.start(now)
        if t is not None:
            self._server_offset_s = t - (now + self._unix_offset_s)

    def begin(self, now: float) -> list[Command]:
        """Do the errands of a login."""
        return self.login.begin(now)

    def online(self, own: PairedIdentity, now: float) -> list[Command]:
        """The device is connected: say so, and deliver."""
        self.trust.online(self._unix_offset_s + self._server_offset_s)
        now_ms = int((now + self._unix_offset_s) * 1000)
        announce = Send(iq.unified_session(now_ms, int(self._server_offset_s * 1000)))
        return [announce, *self.delivery.online(own, now, self._unix_offset_s)]

    def end(self, now: float) -> None:
        """The connection is gone."""
        self.login.end()
        self.keepalive.stop()
        self.delivery.offline(now)
        self.trust.offline()

    # --- the clock ---

    def deadline(self) -> float | None:
        """When to look at the clock, clock seconds; None: nothing to wait for."""
        times = (self.keepalive.deadline(), self.delivery.deadline())
        return min((t for t in times if t is not None), default=None)

    def dead(self, now: float) -> bool:
        """Whether the connection is no good any more."""
        return self.keepalive.dead(now) or self.delivery.ack_overdue(now)

    def ping(self, now: float) -> list[Command]:
        """Ping, if that is due."""
        if not self.keepalive.ping_due(now):
            return []
        return [self._queries.ask(Courtesy.PING, iq.ping, now)]

    def pong(self, node: Node, now: float) -> bool:
        """Take the answer to a ping; False: this iq is something else."""
        if not self._queries.is_answered(node, Courtesy.PING):
            return False
        self.keepalive.heard(now)
        return True

    def look(self, now: float) -> list[Command]:
        """Look for a row, and for what is to be asked once more, if the time has come."""
        return self.delivery.tick(now)

    # --- answers ---

    def answered(self, purpose: Purpose, node: Node, now: float) -> list[Command]:
        """Take the answer to one of our questions.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        match purpose:
            case Question():
                return self.delivery.answered(purpose, node, now)
            case Inquiry():
                return self.delivery.told(purpose, node, now)
            case Errand():
                return self.login.answered(purpose, node, now)
            case Giving():
                return self.trust.answered(purpose, node, now)
            case Courtesy():
                return []
            case _:
                assert_never(purpose)

    def unanswered(self, purpose: Purpose, now: float) -> list[Command]:
        """An error or no answer: go on without, since none of these is worth a connection."""
        match purpose:
            case Question():
                return self.delivery.unanswered(purpose, now)
            case Inquiry():
                return self.delivery.told(purpose, None, now)
            case Errand():
                return self.login.unanswered(purpose, now)
            case Giving():
                return self.trust.unanswered(purpose, now)
            case Courtesy():
                return []
            case _:
                assert_never(purpose)

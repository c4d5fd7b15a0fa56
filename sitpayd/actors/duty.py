"""DutyMachine: one connection of a linked device, from `<success>` to its end. Pure.

It keeps the connection alive (keepalive.py), does the errands of a login (login.py), delivers rows
(delivery.py), checks numbers, shows presence and tells what was read (people.py), and answers the
rest of what the server says (notices.py). Messages are taken from `<success>` on; nothing waits for
the end of a backlog. In which phase the device stands, what people want of it, and what a lost
connection means, is machine.py.
"""

from __future__ import annotations

from random import Random
from typing import Final, assert_never

from sitpayd.actors.checking import LookUp
from sitpayd.actors.commands import Command, Send
from sitpayd.actors.delivery import DeliveryMachine, Question
from sitpayd.actors.events import (
    Answer,
    Armed,
    NotArmed,
    PreKeysMade,
    ResendLookedUp,
    Resent,
    RowLoaded,
    SessionsLoaded,
    Started,
)
from sitpayd.actors.keepalive import Keepalive
from sitpayd.actors.login import Errand, LoginMachine
from sitpayd.actors.notices import Courtesy, Notices
from sitpayd.actors.pacing import Pacing, PacingLimits
from sitpayd.actors.people import People
from sitpayd.actors.queries import Queries
from sitpayd.actors.restrictions import Inquiry
from sitpayd.actors.routing import Routing
from sitpayd.actors.strangers import Strangers
from sitpayd.actors.trust import Giving, TrustMachine
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.props import Props

# What comes back from the commands of this machine.
Result = (
    RowLoaded | SessionsLoaded | Armed | NotArmed | PreKeysMade | Answer | ResendLookedUp | Resent
)

# What is asked here.
Purpose = Errand | Question | Inquiry | Courtesy | Giving | LookUp


class DutyMachine:
    """One logged-in connection after another.

    Args:
        queries: of the connection; what is asked for here is a `Purpose`.
    """

    __slots__ = (
        "_queries",
        "_server_offset_s",
        "_strangers",
        "_unix_offset_s",
        "delivery",
        "keepalive",
        "login",
        "notices",
        "people",
        "trust",
    )

    def __init__(
        self,
        queries: Queries[object],
        random: Random,
        limits: PacingLimits | None,
        routing: Routing,
    ) -> None:
        self._queries = queries
        self.keepalive: Final = Keepalive(random)
        self.login: Final = LoginMachine(queries)
        per_day = None if limits is None else limits.first_contacts_per_day
        self._strangers = Strangers(per_day, random)
        self.trust: Final = TrustMachine(queries)
        pacing = Pacing(limits, random)
        self.delivery: Final = DeliveryMachine(queries, pacing, self._strangers, self.trust)
        self.people: Final = People(queries)
        self.notices: Final = Notices(
            queries, self.login.stock, self.delivery, routing, self.people
        )
        self._unix_offset_s = 0.0
        self._server_offset_s = 0.0

    def restore(self, event: Started) -> None:
        """Take over what earlier lives left."""
        self._unix_offset_s = event.unix_offset_s
        self._strangers.restore(event.first_contacts, event.new_chats)
        self.login.stock.restore(event.uploaded_prekeys)
        self.login.props = event.props
        if event.owes_reads:
            self.people.reading.owes()

    def anew(self) -> None:
        """The device has fresh keys: what belonged to the old login is stored no more."""
        self.login.stock.restore(None)
        self.login.props = Props()

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

    def online(self, own: PairedIdentity, now: float) -> list[Command]:
        """The device is connected: say so, and deliver."""
        self.trust.online(self._unix_offset_s + self._server_offset_s)
        now_ms = int((now + self._unix_offset_s) * 1000)
        announce = Send(iq.unified_session(now_ms, int(self._server_offset_s * 1000)))
        delivering = self.delivery.online(own, now, self._unix_offset_s)
        return [
            *self.login.check(now),
            announce,
            *self.login.ask_props(now),
            *delivering,
            *self.people.online(),
        ]

    def retire(self, now: float) -> list[Command]:
        """The device is about to be logged out: what is in flight is settled with that."""
        self.delivery.offline(now)
        return [*self.people.leave(), *self.people.offline()]

    def end(self, now: float) -> list[Command]:
        """The connection is gone."""
        self.login.end()
        self.notices.backlog.end()
        self.keepalive.stop()
        self.delivery.offline(now)
        self.trust.offline()
        return self.people.offline()

    # --- the clock ---

    def deadline(self) -> float | None:
        """When to look at the clock, clock seconds; None: nothing to wait for."""
        times = (
            self.keepalive.deadline(),
            self.login.stock.deadline(),
            self.notices.backlog.deadline(),
            self.delivery.deadline(),
            self.people.deadline(),
        )
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

    def tick(self, now: float) -> list[Command]:
        """Do what is due besides the ping."""
        return [
            *self.login.stock.tick(now),
            *self.notices.backlog.tick(now),
            *self.delivery.tick(now),
            *self.people.tick(now),
        ]

    # --- answers and results ---

    def took(self, event: Result, now: float) -> list[Command]:
        """Take the result of a command."""
        match event:
            case RowLoaded():
                return self.delivery.loaded(event, now)
            case SessionsLoaded():
                return self.delivery.sessions_loaded(event, now)
            case Armed():
                return self.delivery.armed(event, now)
            case NotArmed():
                return self.delivery.not_armed(event, now)
            case PreKeysMade():
                return self.login.stock.made(event.prekeys, now)
            case Answer():
                answers = [Send(node) for node in event.nodes]
                return [*answers, *self.delivery.took_in(event, now)]
            case ResendLookedUp():
                return self.delivery.repairs.looked_up(event, now)
            case Resent():
                return self.delivery.resent(event, now)
            case _:
                assert_never(event)

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
            case LookUp.NUMBERS:
                return self.people.checking.answered(node, now)
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
            case LookUp.NUMBERS:
                return self.people.checking.unanswered(now)
            case Courtesy():
                return []
            case _:
                assert_never(purpose)

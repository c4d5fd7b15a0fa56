"""DeliveryMachine: one outbox row at a time, from `accepted` to an outcome. Pure.

A row that is armed goes out as it is: it was encrypted before, and the same bytes are written
again. A row that is only accepted needs, in this order: the devices of the recipient and of our own
account (asked for once and remembered), sessions with all of them (prekey bundles are asked for
where there is none), and the arming, which commits ratchet steps and stanza. Then it is written and
waits for the server's ack. First messages to people have rules of their own (strangers.py) and are
passed over while they have to wait. One row is in flight per device, so order and replay need no
further rule. Whatever is lost with a connection is loaded again from the row.

An ack may say that a stale list left devices out, and the server may have no keys for one at the
moment. The row is sent all the same; before the next one it goes the same way once more, for the
missed devices alone and under the same id. It keeps its state, and what cannot be had soon is let
go: nobody waits for it, and others do.

People are addressed by LID where it is known. Where WhatsApp refuses that although the lists are
fresh, the same row goes once more, by number; if it is taken so, the person is addressed by number
from then on. What devices could not read, and what we could not, is repairs.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import partial
from typing import Final, assert_never

from sitpayd.actors.arming import participants_of
from sitpayd.actors.commands import (
    AddressByNumber,
    Arm,
    Command,
    CountAttempt,
    ForgetMissed,
    FoundIn,
    Hold,
    Learn,
    LoadSessions,
    Mark,
    MarkLate,
    NextRow,
    SaveChecks,
    TellIdentityChanged,
    Write,
)
from sitpayd.actors.directory import Directory
from sitpayd.actors.events import Answer, Armed, NotArmed, Resent, RowLoaded, SessionsLoaded
from sitpayd.actors.pacing import Pacing
from sitpayd.actors.queries import Queries, backoff_of
from sitpayd.actors.refusals import refusal_of
from sitpayd.actors.repairs import Repairs
from sitpayd.actors.restrictions import Inquiry, Restrictions, held
from sitpayd.actors.strangers import Barred, Strangers
from sitpayd.actors.targets import Target, falls_short, missed_of, target_of
from sitpayd.actors.trust import TrustMachine
from sitpayd.storage.records import Closeness, OutboxRow, RowState
from sitpayd.whatsapp.jid import Jid, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import mex, prekeys, usync
from sitpayd.whatsapp.stanzas.iq import IqError, parse_iq_error
from sitpayd.whatsapp.stanzas.message import MessageAck
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity

ACK_WITHIN_S: Final = 75.0
MAX_WRITES: Final = 8
# A number check that gets no answer must not eat up the caller's patience.
CHECK_WITHIN_S: Final = 10.0
# After a query that failed or got no answer; doubled with each one in a row. Asking for numbers
# again and again is a known reason for bans.
PAUSE_AFTER_QUERY_S: Final = 5.0
MAX_PAUSE_AFTER_QUERY_S: Final = 300.0
# The same where the server says that it is asked too often.
RATE_OVERLIMIT: Final = 429
PAUSE_WHEN_RATE_LIMITED_S: Final = 60.0
# So many in a row, and missed devices are let go: the rows behind them wait.
MAX_FAILED_QUERIES_FOR_MISSED: Final = 3


class Question(Enum):
    """What delivery asks the server."""

    DEVICES = auto()
    ACCOUNT = auto()
    BUNDLES = auto()
    REPAIR = auto()


class _Step(Enum):
    IDLE = auto()
    LOADING = auto()
    DEVICES = auto()
    SESSIONS = auto()
    BUNDLES = auto()
    ARMING = auto()
    IN_FLIGHT = auto()


class DeliveryMachine:
    """The delivery of one device's rows.

    Args:
        queries: of the connection; delivery's purposes are `Question`s.
    """

    def __init__(
        self,
        queries: Queries[object],
        pacing: Pacing,
        strangers: Strangers,
        trust: TrustMachine,
    ) -> None:
        self._queries = queries
        self._pacing = pacing
        self._strangers = strangers
        self._restrictions = Restrictions(queries, strangers, trust)
        self.directory: Final = Directory()
        self.repairs: Final = Repairs(queries, Question.REPAIR)
        self._own: PairedIdentity | None = None
        self._step = _Step.IDLE
        self._row: OutboxRow | None = None
        # Of the row's recipient, as stored: its LID, and whether it is addressed by number.
        self._lid: Jid | None = None
        self._by_number = False
        self._target: Target | None = None
        # What the target was made of, and what was fetched for it.
        self._lists: tuple[usync.UserDevices | None, ...] = ()
        self._bundles: dict[Jid, PreKeyBundle] = {}
        self._ack_deadline: float | None = None
        self._paused_until: float | None = None
        self._look_again_at: float | None = None
        self._failed_queries = 0
        # Whether WhatsApp was asked not long ago if the recipient has an account.
        self._is_checked = False
        self._rearmed: str | None = None
        self._renumbered: str | None = None
        self._held: tuple[str, float] | None = None
        self._writes: tuple[str, int] = ("", 0)

    def online(self, own: PairedIdentity, now: float, unix_offset_s: float = 0.0) -> list[Command]:
        """The device is connected: begin.

        Args:
            unix_offset_s: UTC minus the clock, seconds.
        """
        self._own = own
        self._restrictions.online(unix_offset_s)
        self.directory.online(now)
        self.repairs.online(own, unix_offset_s)
        return self.go(now)

    def offline(self, now: float) -> None:
        """The connection is gone; what was in flight is found again in its row."""
        self._own = None
        self._restrictions.offline()
        self._settle()
        self.directory.offline(now)
        self.repairs.offline()

    def go(self, now: float) -> list[Command]:
        """Look for a row, unless one is under way or sending is paused."""
        if self._own is None:
            return []
        asked = self._restrictions.ask_again(now)
        if self._step is not _Step.IDLE:
            return asked
        if self._paused_until is not None and now < self._paused_until:
            return asked
        self._paused_until = self._look_again_at = None
        self._step = _Step.LOADING
        strangers = self._strangers
        return [
            *asked,
            NextRow(strangers.barred(now) is None, unanswered=strangers.locked(now) is None),
        ]

    def look_again(self, now: float) -> list[Command]:
        """Something came in: whoever a first message waits for may be no stranger any more."""
        return self.go(now) if self._look_again_at is not None else []

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        if self._own is None:
            return None
        times = (self._ack_deadline, self._look_at(), self.repairs.deadline())
        return min((t for t in times if t is not None), default=None)

    def tick(self, now: float) -> list[Command]:
        """Do what is due."""
        commands, look_at = self.repairs.tick(now), self._look_at()
        if look_at is not None and now >= look_at:
            # Only then: a look costs a read, and most ticks of an idle device are for its ping.
            commands += self.go(now)
        return commands

    def _look_at(self) -> float | None:
        """When to look for a row, or to ask anew what WhatsApp holds back, clock seconds."""
        times = (self._paused_until, self._look_again_at, self._strangers.ask_at())
        return min((t for t in times if t is not None), default=None)

    def outlook(self, recipient: str, standing: Closeness, now: float) -> Barred | None:
        """Why a message to this number would wait now, were the device connected."""
        barred = None
        if standing is Closeness.STRANGER:
            barred = self._strangers.barred(now)
        elif standing is Closeness.UNANSWERED:
            barred = self._strangers.locked(now)
        if barred is not None:
            return barred
        until = max(self._pacing.wait_until(recipient, now), self._paused_until or now)
        return Barred(until, "paced") if until > now else None

    @property
    def row_in_hand(self) -> int | None:
        """Id of the row under way."""
        return None if self._row is None else self._row.id

    def ack_overdue(self, now: float) -> bool:
        """Whether the server owes an ack for too long: the connection is no good."""
        return self._ack_deadline is not None and now >= self._ack_deadline

    # --- results ---

    def loaded(self, event: RowLoaded, now: float) -> list[Command]:
        """Take the next row."""
        if self._step is not _Step.LOADING:
            return []
        row, self._is_checked = event.row, event.checked
        if row is None:
            self._settle()
            return self._hold_strangers(now) if event.first_contacts_wait else []
        self._lid, self._by_number = event.lid, event.by_number
        if row.stanza is not None:
            return self._write(Armed(row, row.stanza), now)
        if row.missed_devices:
            self._row = row
            return self._resolve(row, now)
        if event.absent:
            # Asked again so soon WhatsApp would say the same, and takes it amiss.
            self._row = row
            return self._fail("not_on_whatsapp", now)
        until = self._pacing.wait_until(row.recipient, now)
        if until > now:
            return self._hold(row, until, "paced")
        self._row = row
        return self._resolve(row, now)

    def sessions_loaded(self, event: SessionsLoaded, now: float) -> list[Command]:
        """Ask for bundles where sessions are missing, or arm."""
        if self._step is not _Step.SESSIONS:
            return []
        missing = event.missing - self._bundles.keys()
        if not missing:
            return self._arm(now)
        self._step = _Step.BUNDLES
        devices = sorted(missing, key=str)
        build = partial(prekeys.bundles_query, devices=devices)
        return [self._queries.ask(Question.BUNDLES, build, now)]

    def armed(self, event: Armed, now: float) -> list[Command]:
        """Write what is committed now."""
        changed = self._changed(event.changed, "bundle")
        if self._step is not _Step.ARMING:
            return changed
        if event.row.first_contact and not event.row.missed_devices:
            self._strangers.sent(now)
        return [*self._write(event, now), *changed]

    def took_in(self, event: Answer, now: float) -> list[Command]:
        """Something came in, and its effect is durable."""
        for known_as in event.read:
            self.repairs.read(known_as)
        if event.unread is not None:
            self.repairs.unread(event.unread, now)
        return [*self._changed(event.changed, "message"), *self.look_again(now)]

    def resent(self, event: Resent, now: float) -> list[Command]:
        """Something was encrypted once more."""
        return [*self.repairs.done(event, now), *self._changed(event.changed, "resend")]

    def identity_changed(self, user: Jid, found_in: FoundIn) -> Command:
        """Somebody has another identity: nothing is known of its devices and keys any more."""
        self.directory.forget(user)
        self._bundles.clear()
        return TellIdentityChanged(user, found_in)

    def _changed(self, devices: tuple[Jid, ...], found_in: FoundIn) -> list[Command]:
        # The sessions with its other devices stay: some may be as new as what was found.
        people = dict.fromkeys(device.bare for device in devices)
        return [self.identity_changed(person, found_in) for person in people]

    def storage_failed(self, now: float) -> list[Command]:
        """The arming could not be committed: leave the row as it is and try again later."""
        return self._pause(now) if self._step is _Step.ARMING else []

    def not_armed(self, event: NotArmed, now: float) -> list[Command]:
        """Nothing left: fail the row, or go on if it was cancelled meanwhile."""
        if self._step is not _Step.ARMING:
            return []
        if event.reason is not None:
            return self._fail(event.reason, now)
        self._settle()
        return self.go(now)

    # --- the server's answers ---

    def answered(self, question: Question, node: Node, now: float) -> list[Command]:
        """Take the answer to one of our questions.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        expected = {
            Question.DEVICES: _Step.DEVICES,
            Question.ACCOUNT: _Step.DEVICES,
            Question.BUNDLES: _Step.BUNDLES,
        }.get(question)
        if question is Question.REPAIR:
            return self.repairs.answered(node, now)
        if self._step is not expected or self._row is None or self._own is None:
            return []
        if (error := parse_iq_error(node)) is not None:
            return self.unanswered(question, now, error)
        match question:
            case Question.DEVICES:
                return self._devices(self._row, usync.parse_devices(node), now)
            case Question.ACCOUNT:
                contact = usync.parse_contacts(node).get(self._row.recipient)
                if contact is None or contact.error is not None:
                    return self._fail("no_devices", now)
                reason = "no_devices" if contact.exists else "not_on_whatsapp"
                told = SaveChecks({self._row.recipient: contact.exists})
                return [told, *self._fail(reason, now)]
            case Question.BUNDLES:
                answers = prekeys.parse_bundles(node)
                self._bundles |= {
                    jid: b for jid, b in answers.items() if isinstance(b, PreKeyBundle)
                }
                return self._arm(now)
            case _:
                assert_never(question)

    def told(self, inquiry: Inquiry, node: Node | None, now: float) -> list[Command]:
        """Take the answer to how the account stands; None: there was none.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        if node is None:
            return self._unless_held(self._restrictions.unanswered(), now)
        return self._unless_held(self._restrictions.answered(inquiry, node, now), now)

    def timelock(self, known: mex.ReachoutTimelock, now: float) -> list[Command]:
        """Take what the server says about the account's beginning of chats."""
        return self._unless_held(self._restrictions.timelock(known, now), now)

    def capped(self, known: mex.NewChatCap, now: float) -> list[Command]:
        """Take what the server says about the account's quota of new chats."""
        return self._unless_held(self._restrictions.capped(known, now), now)

    def _unless_held(self, commands: list[Command], now: float) -> list[Command]:
        return commands if self._strangers.reason_held else [*commands, *self.go(now)]

    def unanswered(
        self, question: Question, now: float, error: IqError | None = None
    ) -> list[Command]:
        """A question failed or got no answer: leave the row as it is and try again later."""
        if question is Question.REPAIR:
            return self.repairs.unanswered(now)
        if self._step not in (_Step.DEVICES, _Step.BUNDLES):
            return []
        row, commands = self._row, self._pause(now, error)
        hopeless = self._failed_queries >= MAX_FAILED_QUERIES_FOR_MISSED
        if row is not None and row.missed_devices and hopeless:
            commands.append(ForgetMissed(row))
        return commands

    def _pause(self, now: float, error: IqError | None = None) -> list[Command]:
        self._settle()
        rate_limited = error is not None and error.code == RATE_OVERLIMIT
        first_s = PAUSE_WHEN_RATE_LIMITED_S if rate_limited else PAUSE_AFTER_QUERY_S
        pause_s = min(first_s * 2.0 ** min(self._failed_queries, 16), MAX_PAUSE_AFTER_QUERY_S)
        self._failed_queries += 1
        self._paused_until = now + max(pause_s, backoff_of(error))
        return []

    def acked(self, ack: MessageAck, now: float) -> list[Command]:
        """Take the server's ack of a message."""
        row = self._row
        if self._step is not _Step.IN_FLIGHT or row is None or ack.id != row.wa_message_id:
            return [] if ack.error else [MarkLate(ack.id, ack.t)]
        if ack.error:
            return self._refused(row, ack.error, now)
        armed_for = row.phash if self._target is None else self._target.phash
        missed = None not in (ack.phash, armed_for) and ack.phash != armed_for
        if missed:
            self._forget_devices(row)
        self._writes = ("", 0)
        if row.missed_devices:
            # Whatever is missing now has been tried: what is never complete would go on for ever.
            if self._left_out(row, now):
                self.directory.give_up(pn(row.recipient))
            return self._let_missed_go(row, now)
        missed = missed or self._left_out(row, now)
        self._pacing.sent(row.recipient, now)
        # Before the mark, which looks ahead: the next row may be for the same person.
        taken_by_number = self._renumbered == row.message_id
        learned = [AddressByNumber(pn(row.recipient), wanted=True)] if taken_by_number else []
        self._settle()
        mark = Mark(row, RowState.SENT, server_time=ack.t, missed=missed)
        return [*learned, mark, *self.go(now)]

    # --- steps ---

    def _resolve(self, row: OutboxRow, now: float) -> list[Command]:
        assert self._own is not None
        recipient, own = pn(row.recipient), self._own.jid.bare
        people = tuple(dict.fromkeys((recipient, own)))
        if all(self.directory.get(jid, now) is not None for jid in people):
            return self._load_sessions(recipient, now)
        self._step = _Step.DEVICES
        # Both, even if one is known: a notification may come before the answer and make it unknown.
        build = partial(usync.devices_query, users=people, sid=self._queries.next_id())
        return [self._queries.ask(Question.DEVICES, build, now)]

    def _devices(
        self, row: OutboxRow, answers: Mapping[Jid, usync.UserDevices], now: float
    ) -> list[Command]:
        assert self._own is not None
        recipient, own = pn(row.recipient), self._own.jid.bare
        commands: list[Command] = []
        for asked in (recipient, own):
            answer = answers.get(asked)
            if answer is None or answer.error is not None or not answer.devices:
                continue
            self.directory.put(asked, answer, now)
            if answer.lid is not None and asked != own:
                commands.append(Learn(asked, answer.lid))
        if recipient != own and self.directory.get(recipient, now) is None:
            if self._is_checked:
                # It may have an account, and WhatsApp was asked too lately to be asked again.
                return [*commands, *self._fail("no_devices", now)]
            build = partial(
                usync.contact_query, numbers=[row.recipient], sid=self._queries.next_id()
            )
            return [
                *commands,
                # It counts as a look-up of this hour, but the hour does not hold it up.
                SaveChecks({row.recipient: None}),
                self._queries.ask(Question.ACCOUNT, build, now, within_s=CHECK_WITHIN_S),
            ]
        return [*commands, *self._load_sessions(recipient, now)]

    def _load_sessions(self, recipient: Jid, now: float) -> list[Command]:
        assert self._own is not None
        own = self.directory.get(self._own.jid.bare, now)
        if own is None:
            # Our own phone exists whatever the server does not say. Not put into the directory:
            # the next message asks again.
            own = usync.UserDevices(self._own.jid.bare, self._own.lid.bare, (usync.Device(0),))
        assert self._row is not None
        theirs = None
        if recipient != self._own.jid.bare:
            theirs = self.directory.get(recipient, now)
            assert theirs is not None
        by_number = self._by_number or self._renumbered == self._row.message_id
        lid = None if by_number or theirs is None else theirs.lid or self._lid
        target = target_of(self._own, own, theirs, lid)
        if self._row.missed_devices:
            target = missed_of(target, self._row, self._own)
            if not target.devices + target.own_devices:
                return self._let_missed_go(self._row, now)
        self._target = target
        self._lists = self._known_lists(self._row, now)
        self._step = _Step.SESSIONS
        return [LoadSessions(target.devices + target.own_devices)]

    def _left_out(self, row: OutboxRow, now: float) -> bool:
        """Whether devices of its list had no keys for it, and it is not known that they have none.

        Asked for again after the ack: a server that could not give them then may give them now.
        """
        assert self._own is not None
        given_up = self.directory.is_given_up(pn(row.recipient), now)
        return not given_up and falls_short(row, self._own)

    def _let_missed_go(self, row: OutboxRow, now: float) -> list[Command]:
        self._settle()
        return [ForgetMissed(row), *self.go(now)]

    def _known_lists(self, row: OutboxRow, now: float) -> tuple[usync.UserDevices | None, ...]:
        assert self._own is not None
        people = (pn(row.recipient), self._own.jid.bare)
        return tuple(self.directory.get(jid, now) for jid in people)

    def _arm(self, now: float) -> list[Command]:
        assert self._row is not None
        assert self._target is not None
        if self._known_lists(self._row, now) != self._lists:
            # Somebody linked or removed a device meanwhile, and we were told.
            return self._resolve(self._row, now)
        # Spent with this arming: a one-time prekey serves once.
        bundles, self._bundles = self._bundles, {}
        self._step = _Step.ARMING
        self._failed_queries = 0
        target = self._target
        return [
            Arm(
                self._row,
                target.to,
                target.pn,
                target.devices,
                target.own_devices,
                target.phash,
                bundles,
                # A row armed in this life is known as it was loaded, without its stanza.
                again=not self._row.missed_devices
                and (self._row.stanza is not None or self._rearmed == self._row.message_id),
            )
        ]

    def _write(self, armed: Armed, now: float) -> list[Command]:
        message_id, before = self._writes
        replay = armed.row.stanza is not None
        known = before if message_id == armed.row.message_id else 0
        writes = max(known, armed.row.attempts) + 1
        self._writes = (armed.row.message_id, writes)
        if writes > MAX_WRITES and armed.row.missed_devices:
            return self._let_missed_go(armed.row, now)
        if writes > MAX_WRITES:
            self._settle()
            return [Mark(armed.row, RowState.UNKNOWN, "attempts_over"), *self.go(now)]
        self._row = armed.row
        self._step = _Step.IN_FLIGHT
        self._ack_deadline = now + ACK_WITHIN_S
        return [Write(armed), CountAttempt(armed.row)] if replay else [Write(armed)]

    def _refused(self, row: OutboxRow, code: int, now: float) -> list[Command]:
        refusal = refusal_of(code)
        if refusal.by_number and self._may_go_by_number(row):
            # The lists are fresh: it is not them.
            self._renumbered = row.message_id
            return self._anew(row, now)
        if refusal.forget_devices:
            self._forget_devices(row)
        if refusal.rearms and self._rearmed != row.message_id and not row.missed_devices:
            # Once, under the same id: nothing of it was taken.
            self._rearmed = row.message_id
            return self._anew(row, now)
        if refusal.pause_s:
            self._paused_until = now + refusal.pause_s
        if self._writes[1] <= refusal.resends:
            # The row stays armed: after the pause the same bytes go out again.
            self._settle()
            return []
        commands: list[Command] = []
        if refusal.demands_lid and self._by_number:
            commands.append(AddressByNumber(pn(row.recipient), wanted=False))
        if refusal.holds_s:
            to = pn(row.recipient) if self._target is None else self._target.to
            commands += self._restrictions.refused(to, refusal, now)
        return [*commands, *self._fail(refusal.reason, now)]

    def _anew(self, row: OutboxRow, now: float) -> list[Command]:
        self._ack_deadline = None
        return self._resolve(row, now)

    def _may_go_by_number(self, row: OutboxRow) -> bool:
        """Whether it went by LID, and with fresh lists."""
        assert self._own is not None
        to_self = row.recipient == self._own.jid.user
        # A row that was loaded armed has no target in this life.
        reached = participants_of(row) if self._target is None else (self._target.to,)
        went_by_lid = any(jid.is_lid for jid in reached) and not to_self
        return went_by_lid and self._rearmed == row.message_id and not row.missed_devices

    def _fail(self, reason: str, now: float) -> list[Command]:
        row = self._row
        assert row is not None
        if row.missed_devices:
            # It was taken for the others.
            self.directory.give_up(pn(row.recipient))
            return self._let_missed_go(row, now)
        self._settle()
        return [Mark(row, RowState.FAILED, reason), *self.go(now)]

    def _hold(self, row: OutboxRow, until: float, reason: str) -> list[Command]:
        self._settle()
        self._paused_until = until
        if self._held == (row.message_id, until):
            return []
        self._held = (row.message_id, until)
        return [Hold(row, until, reason)]

    def _hold_strangers(self, now: float) -> list[Command]:
        barred = self._strangers.barred(now)
        if barred is None:
            return self.go(now)
        self._look_again_at = barred.until
        return [held(barred)]

    def _forget_devices(self, row: OutboxRow) -> None:
        assert self._own is not None
        self.directory.forget(pn(row.recipient))
        self.directory.forget(self._own.jid.bare)

    def _settle(self) -> None:
        self._step = _Step.IDLE
        self._row = None
        self._target = None
        self._bundles = {}
        self._ack_deadline = None

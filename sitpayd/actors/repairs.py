"""Repairs: what could not be read, on either side. Pure.

A device that could not read one of our messages asks for it with a retry receipt. It gets it once
more, encrypted for it alone, if it is entitled to that: it was written to, has not said that it has
the message, and did not ask too often. Its session is begun anew where that may help: with the keys
the receipt brings, or with a bundle asked for here. The receipt is acknowledged in any case, behind
its effect.

A message that we could not read is asked for again by reception.py. A few seconds later our own
phone is asked, too, unless it could be read meanwhile: the phone may have it.

Both need the same: perhaps a bundle, an arming, a stanza. So they stand in one queue with one job
under way, and whatever is lost with a connection comes again: receipts stay unacknowledged.

Source: whatsmeow retry.go; Baileys lib/Socket/messages-recv.js,
lib/Utils/message-retry-manager.js.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar, assert_never

from sitpayd.actors.arming import participants_of
from sitpayd.actors.commands import (
    AddressByNumber,
    AskPhone,
    Command,
    LookUpResend,
    Resend,
    Send,
)
from sitpayd.actors.events import ResendLookedUp, Resent, Unread
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.jid import Jid, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import prekeys
from sitpayd.whatsapp.stanzas.iq import parse_iq_error
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.receipt import Receipt

# A device may ask this often for one message.
MAX_RESENDS: Final = 5
# Resends of this device within a minute, to whomever: storms of requests have been reported.
MAX_RESENDS_A_MINUTE: Final = 60
# Between two sessions begun anew with one device because it asks. Source: whatsmeow retry.go.
RECREATE_AFTER_S: Final = 3600.0
# From its second request on a device may get a new session; from its third on it must not be the
# session that failed at the second.
SECOND_REQUEST: Final = 2
THIRD_REQUEST: Final = 3
# Source: whatsmeow retry.go, which waits so long before it asks the phone.
ASK_PHONE_AFTER_S: Final = 5.0
# A phone does not tell older ones again. Source: Baileys lib/Socket/messages-recv.js.
MAX_AGE_S: Final = 14 * 24 * 3600.0
# Jobs, messages the phone is to be asked for, devices and requests remembered: each at most this
# many. A job too many is only acknowledged (the device asks again), of the others the oldest goes.
MAX_WAITING: Final = 64
MAX_REMEMBERED: Final = 256
MAX_PHONE_REQUESTS_A_MINUTE: Final = 30

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class _Request:
    """A device asks for one of our messages."""

    receipt: Receipt
    ack: Node


@dataclass(frozen=True, slots=True)
class _Arming:
    """A request that is granted, or a message the phone is asked for, in want of a bundle.

    Attributes:
        device: whose bundle it is, as it is asked for; canonical: the one name of it.
        without: what is done if there is none; None: nothing.
    """

    order: Resend | AskPhone
    device: Jid
    canonical: Jid
    without: Resend | None = None


class Repairs:
    """The repairs of one device, over one connection after another.

    Args:
        queries: of the connection.
        purpose: under which a bundle is asked for.
    """

    def __init__(self, queries: Queries[object], purpose: object) -> None:
        self._queries = queries
        self._purpose = purpose
        self._own: PairedIdentity | None = None
        self._unix_offset_s = 0.0
        self._jobs: deque[_Request | Unread] = deque()
        self._job: _Request | Unread | None = None
        self._arming: _Arming | None = None
        self._unread: OrderedDict[str, tuple[Unread, float]] = OrderedDict()
        self._recreated: OrderedDict[Jid, float] = OrderedDict()
        self._base_keys: OrderedDict[tuple[Jid, str], bytes] = OrderedDict()
        self._resent: deque[float] = deque()
        self._phone_asked: deque[float] = deque()

    def online(self, own: PairedIdentity, unix_offset_s: float) -> None:
        """The device is connected.

        Args:
            unix_offset_s: UTC minus the clock, seconds.
        """
        self._own = own
        self._unix_offset_s = unix_offset_s

    def offline(self) -> None:
        """The connection is gone: what was not acknowledged comes again."""
        self._own = None
        self._jobs = deque(job for job in self._jobs if isinstance(job, Unread))
        self._settle()

    @property
    def waiting(self) -> int:
        """How many jobs, and messages the phone may be asked for, there are: 128 at most."""
        return len(self._jobs) + len(self._unread)

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        if self._own is None or not self._unread:
            return None
        # Noted in order, with the same delay: the first is the earliest.
        return next(iter(self._unread.values()))[1]

    def tick(self, now: float) -> list[Command]:
        """Ask the phone for what could not be read for a while."""
        if self._own is None:
            return []
        for known_as, (unread, due) in list(self._unread.items()):
            if due > now:
                break
            del self._unread[known_as]
            if not self._is_too_old(unread, now) and len(self._jobs) < MAX_WAITING:
                self._jobs.append(unread)
        return self._go(now)

    # --- our messages ---

    def asked(self, receipt: Receipt, ack: Node, now: float) -> list[Command]:
        """Take a retry receipt."""
        if receipt.retry is None or receipt.from_ is None or len(self._jobs) >= MAX_WAITING:
            return [Send(ack)]
        self._jobs.append(_Request(receipt, ack))
        return self._go(now)

    def looked_up(self, event: ResendLookedUp, now: float) -> list[Command]:
        """Judge a request."""
        job = self._job
        if not isinstance(job, _Request) or job.receipt is not event.receipt:
            return []
        retry = event.receipt.retry
        assert retry is not None
        if not self._is_entitled(event, now):
            self._settle()
            return [Send(job.ack), *self._go(now)]
        commands = self._readdressing(event, retry.count)
        named = (event.device, event.receipt.ids[0])
        before = self._base_keys.get(named)
        if retry.count == SECOND_REQUEST and event.base_key is not None:
            _remember(self._base_keys, named, event.base_key)
        if retry.bundle is not None:
            _remember(self._recreated, event.device, now)
            return [*commands, *self._resend(Resend(event.receipt, job.ack, retry.bundle), now)]
        is_other = None not in (retry.registration_id, event.registration_id) and (
            retry.registration_id != event.registration_id
        )
        failed_twice = retry.count >= THIRD_REQUEST and before is not None
        is_worn_out = retry.count >= SECOND_REQUEST and self._may_recreate(event.device, now)
        if (
            event.base_key is None
            or is_other
            or is_worn_out
            or (failed_twice and before == event.base_key)
        ):
            order = Resend(event.receipt, job.ack, anew=is_other)
            fallback = None if event.base_key is None or is_other else order
            assert event.receipt.from_ is not None
            arming = _Arming(order, event.receipt.from_, event.device, fallback)
            return [*commands, self._ask(arming, now)]
        return [*commands, *self._resend(Resend(event.receipt, job.ack), now)]

    def _is_entitled(self, event: ResendLookedUp, now: float) -> bool:
        return (
            event.row is not None
            and event.device in event.reached
            and event.served < MAX_RESENDS
            and _has_room(self._resent, MAX_RESENDS_A_MINUTE, now)
        )

    def _readdressing(self, event: ResendLookedUp, count: int) -> list[Command]:
        """Address a person by number from now on, if a device of it never reads what goes by LID.

        A few old companions do not. Each resend was encrypted anew, so it is not the session.
        """
        row = event.row
        if row is None or self._own is None or count < THIRD_REQUEST:
            return []
        is_ours = event.device.user in (self._own.lid.user, self._own.jid.user)
        went_by_lid = any(jid.is_lid for jid in participants_of(row))
        if is_ours or not went_by_lid or event.served < count - 1:
            return []
        return [AddressByNumber(pn(row.recipient), wanted=True)]

    def _may_recreate(self, device: Jid, now: float) -> bool:
        at = self._recreated.get(device)
        return at is None or now - at > RECREATE_AFTER_S

    def _resend(self, order: Resend, now: float) -> list[Command]:
        self._resent.append(now)
        return [order]

    # --- messages of others ---

    def unread(self, unread: Unread, now: float) -> None:
        """A message could not be read; it was asked for again."""
        if unread.known_as not in self._unread and not self._is_too_old(unread, now):
            _remember(self._unread, unread.known_as, (unread, now + ASK_PHONE_AFTER_S), MAX_WAITING)

    def read(self, known_as: str) -> None:
        """It could be read after all."""
        self._unread.pop(known_as, None)
        for job in [job for job in self._jobs if isinstance(job, Unread)]:
            if job.known_as == known_as:
                self._jobs.remove(job)

    def _is_too_old(self, unread: Unread, now: float) -> bool:
        return unread.t is not None and now + self._unix_offset_s - unread.t > MAX_AGE_S

    # --- what they share ---

    def done(self, event: Resent, now: float) -> list[Command]:
        """What was armed is committed; or there was no session for it."""
        job = self._job
        if job is None:
            return []  # of a connection that is gone
        if event.lacks_session and isinstance(job, Unread) and self._own is not None:
            phone = self._own.jid.bare
            return [self._ask(_Arming(AskPhone(job), phone, phone), now)]
        self._settle()
        return [*(Send(node) for node in event.nodes), *self._go(now)]

    def answered(self, node: Node, now: float) -> list[Command]:
        """Take the answer to the question for a bundle.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        arming = self._arming
        if arming is None:
            return []
        if parse_iq_error(node) is not None:
            return self.unanswered(now)
        bundle = prekeys.parse_bundles(node).get(arming.device)
        if not isinstance(bundle, PreKeyBundle):
            return self.unanswered(now)
        self._arming = None
        match arming.order:
            case Resend(receipt=receipt, ack=ack, anew=anew):
                _remember(self._recreated, arming.canonical, now)
                return self._resend(Resend(receipt, ack, bundle, anew), now)
            case AskPhone(message=message):
                return [AskPhone(message, bundle)]
            case _:
                assert_never(arming.order)

    def unanswered(self, now: float) -> list[Command]:
        """There is no bundle: do without, or let it be."""
        arming, job = self._arming, self._job
        if arming is None:
            return []
        self._arming = None
        if arming.without is not None:
            return self._resend(arming.without, now)
        self._settle()
        acks = [Send(job.ack)] if isinstance(job, _Request) else []
        return [*acks, *self._go(now)]

    def _ask(self, arming: _Arming, now: float) -> Command:
        self._arming = arming
        build = partial(prekeys.bundles_query, devices=[arming.device])
        return self._queries.ask(self._purpose, build, now)

    def _go(self, now: float) -> list[Command]:
        """Begin the next job, if none is under way."""
        while self._job is None and self._jobs:
            job = self._jobs.popleft()
            if isinstance(job, _Request):
                self._job = job
                return [LookUpResend(job.receipt)]
            if _has_room(self._phone_asked, MAX_PHONE_REQUESTS_A_MINUTE, now):
                self._phone_asked.append(now)
                self._job = job
                return [AskPhone(job)]
        return []

    def _settle(self) -> None:
        self._job = self._arming = None


def _has_room(times: deque[float], limit: int, now: float) -> bool:
    """Whether fewer than so many of these lie in the last minute; forgets the older ones."""
    while times and times[0] <= now - 60.0:
        times.popleft()
    return len(times) < limit


def _remember(
    known: OrderedDict[KeyT, ValueT], name: KeyT, value: ValueT, limit: int = MAX_REMEMBERED
) -> None:
    """Keep a value as the newest one; the oldest goes if there are too many."""
    known[name] = value
    known.move_to_end(name)
    if len(known) > limit:
        known.popitem(last=False)

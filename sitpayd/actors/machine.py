"""DeviceMachine: every decision about one device. Pure.

Theory of operation. A device is UNPAIRED until somebody asks for a code; then it dials in
registration mode (PAIRING) and shows QR codes, or a code to be typed: pairing.py. `pair-success` is
verified, saved and only then confirmed (PAIRED); the server ends that connection, as expected, and
the device dials as what it now is. What happens behind `<success>` is duty.py: errands first, and
when they are done the device is CONNECTED. A lost connection is never a crash: what was seen last
gives a Verdict (failures.py), and that says whether to dial again after a while (WAITING), at once,
or to rest until a person acts.

What people want of a device is kept apart from where it stands: wishes.py.

No await, no clock, no random of its own, no log, no database: `now` (clock seconds) and a Random
come in, commands go out.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from random import Random
from typing import Final, assert_never

from sitpayd.actors.commands import (
    AskRevision,
    ClearRest,
    Command,
    Dial,
    Finish,
    ForgetKeys,
    HangUp,
    HideQr,
    KeepHistory,
    MakeKeys,
    Oddity,
    Remark,
    SaveLid,
    SaveRest,
    Send,
    SettleLoggedOut,
)
from sitpayd.actors.duty import DutyMachine, Purpose
from sitpayd.actors.events import (
    Answer,
    Armed,
    ChecksTaken,
    CodeAgreed,
    CodeMade,
    Event,
    KeysMade,
    LossKind,
    Lost,
    NotArmed,
    Opened,
    PreKeysMade,
    ReadsLoaded,
    Received,
    ResendLookedUp,
    Resent,
    RowLoaded,
    SessionsLoaded,
    Started,
    StorageFailed,
    Tick,
    TokenOwed,
)
from sitpayd.actors.failures import (
    Verdict,
    verdict_of_failure,
    verdict_of_loss,
    verdict_of_stream_error,
)
from sitpayd.actors.linking import Linked, LinkingMachine, Outcome, Over, is_about_linking
from sitpayd.actors.login import under_other_lid, welcome_of
from sitpayd.actors.messages import (
    CancelPairing,
    CheckNumbers,
    Deliver,
    HistoryPart,
    Logout,
    Message,
    Network,
    PairingWish,
    Pause,
    Probe,
    Reachable,
    Reconnect,
    Remove,
    Reroute,
    Resume,
    Revised,
    SetPresence,
    ShowTyping,
    StartPairing,
    TellReads,
)
from sitpayd.actors.notices import unknown_request
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.pairing import CodeErrand, PairingBar
from sitpayd.actors.phase import RESTING, TRANSITIONS, Phase
from sitpayd.actors.queries import Queries
from sitpayd.actors.recovery import Recovery
from sitpayd.actors.routing import Routing
from sitpayd.actors.strangers import Barred
from sitpayd.actors.wishes import Step, Wishes
from sitpayd.storage.records import Closeness
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure, iq

# The first stanza after the handshake must come within this time.
FIRST_STANZA_S: Final = 30.0
# The end of a device could not be stored: when to try again.
SETTLE_AGAIN_S: Final = 10.0


class _Purpose(Enum):
    """What the machine itself asks the server."""

    LOGOUT = auto()


class DeviceMachine:
    """One device's decisions.

    Attributes:
        phase: where it stands; reason: the public word beside it.
        until_s: seconds the phase is said to last from its start, where that is known.
    """

    def __init__(self, random: Random, limits: PacingLimits | None) -> None:
        self.phase = Phase.UNPAIRED
        self.reason: str | None = None
        self.until_s: int | None = None
        self._recovery = Recovery(random)
        self._queries: Queries[object] = Queries()
        self._linking = LinkingMachine(self._queries)
        self._routing = Routing()
        self._duty = DutyMachine(self._queries, random, limits, self._routing)
        self._delivery = self._duty.delivery
        self._wishes = Wishes()
        # A rest is stored that is over for us; it is cleared before a dial until a login succeeds.
        self._rest_lingers = False
        self._first_stanza_by: float | None = None
        self._settle_at: float | None = None

    # --- in and out ---

    def handle(self, event: Event | Message, now: float) -> list[Command]:
        """Take an event or a message; `now` is clock seconds."""
        match event:
            case Network():
                return self.handle(event.event, now)
            case Received():
                self._duty.keepalive.heard(now)
                return self._received(event.node, now)
            case Deliver():
                # A request may have been let in just before the logout was known.
                return self._settle_if_logged_out() or self._delivery.go(now)
            case Tick():
                return self._tick(now)
            case (
                RowLoaded()
                | SessionsLoaded()
                | Armed()
                | NotArmed()
                | PreKeysMade()
                | Answer()
                | ResendLookedUp()
                | Resent()
            ):
                return self._duty.took(event, now)
            case StorageFailed():
                return self._storage_failed(event, now)
            case (
                CheckNumbers()
                | SetPresence()
                | ShowTyping()
                | TellReads()
                | ChecksTaken()
                | ReadsLoaded()
            ):
                return self._duty.people.handle(event, now)
            case HistoryPart():
                return [] if self._linking.paired is None else [KeepHistory(event)]
            case TokenOwed():
                return self._duty.trust.owed(event, now)
            case KeysMade():
                self._linking.anew(event.keys)
                self._routing.forget()
                self._duty.anew()
                return [Dial(registration=True)] if self.phase is Phase.PAIRING else []
            case CodeMade():
                return self._linking.made(event, now)
            case CodeAgreed():
                pairs = self.phase is Phase.PAIRING
                return self._link_on(self._linking.agreed(event, now), now) if pairs else []
            case Opened():
                self._first_stanza_by = now + FIRST_STANZA_S
                return []
            case Lost():
                self._routing.lost(event.kind)
                return self._lose(verdict_of_loss(event), now, hang_up=False)
            case Started():
                return self._started(event, now)
            case StartPairing():
                return self._start_pairing(event.wish, now)
            case CancelPairing():
                pairs = self.phase is Phase.PAIRING
                return self._lose(Verdict(Phase.UNPAIRED, "canceled"), now) if pairs else []
            case Pause():
                return self._do(self._wishes.pause(self.phase), now)
            case Resume():
                return self._do(self._wishes.resume(self.phase, now), now)
            case Reconnect():
                return self._do(self._wishes.reconnect(self.phase), now)
            case Probe():
                self._duty.keepalive.probe(now)
                return self._tick(now)
            case Reroute() if self.phase is Phase.PAIRING:
                return self._lose(Verdict(Phase.UNPAIRED, "proxy_changed"), now)
            case Reachable():
                self._recovery.hasten(now)
                return self._tick(now)
            case Reroute():
                return self._do(self._wishes.reroute(self.phase), now)
            case Revised():
                return self._do(self._wishes.revised(self.phase), now)
            case Logout():
                linked = self._linking.paired is not None
                return self._do(self._wishes.log_out(self.phase, linked=linked), now)
            case Remove():
                linked = self._linking.paired is not None
                return self._do(self._wishes.remove(self.phase, linked=linked), now)
            case _:
                assert_never(event)

    def pong(self, node: Node, now: float) -> bool:
        """Take the answer to a ping; False: it is something else, and `handle` has to take it.

        For thousands of idle devices this is nearly all that ever comes, and nothing follows.
        """
        return node.tag == "iq" and self._duty.pong(node, now)

    def farewell(self) -> list[Command]:
        """What is done before the actor ends, as the process does; no event follows any more."""
        return [*self._duty.people.leave(), HangUp()]

    def outlook(self, recipient: str, standing: Closeness, now: float) -> Barred | None:
        """Why a message to this number would wait now, were the device connected."""
        return self._delivery.outlook(recipient, standing, now)

    def pairing_bar(self, wish: PairingWish, now: float) -> PairingBar | None:
        """Why a wish to link the device would come to nothing now; None: it would not."""
        if self.phase is Phase.PAIRING and not self._linking.codes.needs_its_own(wish, now):
            return None
        if self.phase is not Phase.PAIRING and not self._may_be_linked():
            return PairingBar("linked")
        return self._linking.codes.bar(wish, now)

    def redials_in(self, now: float) -> float | None:
        """Seconds to the next dial of a device that waits; None: none is planned."""
        planned = self._recovery.redial_at
        return None if planned is None or self.phase is not Phase.WAITING else planned - now

    @property
    def waits_with_others(self) -> bool:
        """Whether a dial is put off for what keeps other devices away, too."""
        return self.phase is Phase.WAITING and self._recovery.shared

    @property
    def unanswered_pings(self) -> int:
        """How many pings went out since the server was heard."""
        return self._duty.keepalive.unanswered

    @property
    def row_in_hand(self) -> int | None:
        """Id of the row under way."""
        return self._delivery.row_in_hand

    @property
    def leaving(self) -> bool:
        """Whether it is removed, and only to be logged out."""
        return self._wishes.leaving

    def deadline(self) -> float | None:
        """When to hand a Tick in, clock seconds; None: nothing to wait for."""
        times = (
            self._recovery.redial_at,
            self._first_stanza_by,
            self._settle_at,
            self._queries.deadline(),
            self._linking.codes.deadline(),
            self._duty.deadline(),
        )
        return min((t for t in times if t is not None), default=None)

    # --- people and the clock ---

    def _started(self, event: Started, now: float) -> list[Command]:
        self._linking.restore(event)
        self._wishes.leaving, self._wishes.paused = event.leaving, event.paused
        self._duty.restore(event)
        self._routing.restore(event.routing_info)
        if event.leaving and (event.paired is None or event.rest is not None):
            return self._gone()
        if event.rest is not None:
            self.phase, self.reason = Phase(event.rest.phase), event.rest.reason
            self._rest_lingers = True
            if event.rest.until is not None:
                self._wishes.banned_until = event.rest.until.timestamp() - event.unix_offset_s
        elif event.paused:
            self.phase = Phase.PAUSED
        elif event.paired is not None:
            self.phase, self._wishes.logging_out = Phase.CONNECTING, event.logout_wanted
            return self._dial("logging_out" if event.logout_wanted else None)
        if event.logout_wanted:
            return self.handle(Logout(), now)
        if self.phase is Phase.OUTDATED:
            return [AskRevision()]
        # A crash may have come between the rest and the settling.
        return self._settle_if_logged_out()

    def _start_pairing(self, wish: PairingWish, now: float) -> list[Command]:
        if self.pairing_bar(wish, now) is not None:
            return []
        commands: list[Command] = []
        if self.phase is Phase.PAIRING:
            if not self._linking.codes.needs_its_own(wish, now):
                return self._linking.codes.join(wish)
            commands = self._hang_up(now)
        self._linking.codes.begin(wish)
        self._recovery.linking()
        self._enter(Phase.PAIRING, None)
        self._wishes.linking()
        self._rest_lingers = False
        return [*commands, MakeKeys()]

    def _may_be_linked(self) -> bool:
        unlinked = self._linking.paired is None and self.phase in RESTING
        is_open = unlinked or self.phase in (Phase.UNPAIRED, Phase.LOGGED_OUT)
        return is_open and not self._wishes.leaving

    def _do(self, step: Step, now: float) -> list[Command]:
        """Do what follows from a person's wish."""
        match step:
            case Step.STAY:
                return []
            case Step.PAUSE:
                commands = self._take_leave(now)
                self._enter(Phase.PAUSED, None)
                return commands
            case Step.WAKE:
                if self._linking.paired is not None:
                    return self._dial(None)
                return self._end_rest(Phase.UNPAIRED)
            case Step.SLEEP:
                return self._end_rest(Phase.PAUSED)
            case Step.REDIAL:
                reason = "logging_out" if self._wishes.logging_out else None
                return [*self._take_leave(now), *self._dial(reason)]
            case Step.LEAVE:
                self._enter(self.phase, "logging_out")
                return self._ask_logout(now) if self._duty.keepalive.running else []
            case Step.DIAL_TO_LEAVE:
                return [*self._take_leave(now), *self._dial("logging_out")]
            case Step.END:
                return [*self._take_leave(now), *self._logged_out()]
            case _:
                assert_never(step)

    def _end_rest(self, phase: Phase) -> list[Command]:
        cleared: list[Command] = [ClearRest()] if self.phase in RESTING else []
        self._enter(phase, None)
        return cleared

    def _tick(self, now: float) -> list[Command]:
        if self._settle_at is not None and now >= self._settle_at:
            self._settle_at = None
            return self._end_again()
        if self._recovery.due(now):
            return self._dial(self.reason)
        overdue = self._first_stanza_by is not None and now >= self._first_stanza_by
        if overdue or self._duty.dead(now):
            return self._lose(verdict_of_loss(Lost(LossKind.SILENT, "")), now)
        commands = self._duty.ping(now)
        for purpose in self._queries.expired(now):
            if purpose is _Purpose.LOGOUT:
                # The connection ends, and with it what else was asked.
                return self._unanswered(purpose, now)
            commands += self._unanswered(purpose, now)
        if self.phase is Phase.PAIRING:
            return [*commands, *self._link_on(self._linking.tick(now), now)]
        return [*commands, *self._duty.tick(now)]

    # --- stanzas ---

    def _received(self, node: Node, now: float) -> list[Command]:
        try:
            match node.tag:
                case "iq":
                    return self._iq(node, now)
                case "success":
                    return self._success(node, now)
                case "failure":
                    return self._lose(verdict_of_failure(failure.parse_failure(node)), now)
                case "stream:error":
                    error = failure.parse_stream_error(node)
                    return self._lose(verdict_of_stream_error(error), now)
                case "xmlstreamend":
                    return self._lose(verdict_of_loss(Lost(LossKind.CLOSED, "")), now)
                case _:
                    noted = self._duty.notices.heard(node, self._linking.paired, now)
                    if self.phase is not Phase.PAIRING:
                        return noted
                    return [*noted, *self._link_on(self._linking.heard(node), now)]
        except RemoteProtocolError:
            return []  # one malformed stanza: skipped, the connection is in step

    def _iq(self, node: Node, now: float) -> list[Command]:
        if node.text("type") in ("result", "error"):
            return self._answered(self._queries.answered(node), node, now)
        if iq.is_ping(node):
            return [Send(iq.pong(node))]
        if self.phase is not Phase.PAIRING:
            # Codes for a device that is linked by now concern nobody.
            return [] if is_about_linking(node) else [unknown_request(node)]
        outcome = self._linking.asked(node, now)
        if outcome is None:
            return [unknown_request(node)]
        self._first_stanza_by = None
        return self._link_on(outcome, now)

    def _link_on(self, outcome: Outcome, now: float) -> list[Command]:
        """Do what follows for a device that is being linked."""
        match outcome:
            case Over(verdict=verdict, last=last):
                return [*last, *self._lose(verdict, now)]
            case Linked(commands=commands, to_another=to_another):
                if to_another:
                    self._duty.relinked()
                self._first_stanza_by = now + FIRST_STANZA_S
                self._enter(Phase.PAIRED, None)
                return list(commands)
            case _:
                return outcome

    # --- answers ---

    def _answered(self, purpose: object, node: Node, now: float) -> list[Command]:
        try:
            if isinstance(purpose, CodeErrand) and self.phase is Phase.PAIRING:
                return self._link_on(self._linking.answered(purpose, node, now), now)
            if isinstance(purpose, Purpose):
                return self._if_ready(self._duty.answered(purpose, node, now), now)
            if purpose is _Purpose.LOGOUT and iq.parse_iq_error(node) is None:
                return [*self._hang_up(now), *self._logged_out()]
            return self._unanswered(purpose, now)
        except RemoteProtocolError:
            # The question is off the list: nobody would come back to it.
            return self._unanswered(purpose, now)

    def _unanswered(self, purpose: object, now: float) -> list[Command]:
        """An error or no answer: go on without, since hardly any is worth a connection."""
        if isinstance(purpose, Purpose):
            return self._if_ready(self._duty.unanswered(purpose, now), now)
        match purpose:
            case CodeErrand() if self.phase is Phase.PAIRING:
                return self._link_on(self._linking.unanswered(), now)
            case _Purpose.LOGOUT:
                return self._lose(verdict_of_loss(Lost(LossKind.SILENT, "")), now)
            case _:
                return []

    # --- on duty ---

    def _success(self, node: Node, now: float) -> list[Command]:
        if self.phase is not Phase.CONNECTING:
            return []
        assert self._linking.keys is not None
        assert self._linking.paired is not None
        t, told_lid = welcome_of(node)
        self._first_stanza_by = None
        self._recovery.connected(now)
        self._routing.proved()
        self._rest_lingers = False
        self._duty.welcomed(t, now)
        commands: list[Command] = []
        if (other := under_other_lid(self._linking.paired, told_lid)) is not None:
            self._linking.paired = other
            commands = [SaveLid(other), Remark(Oddity.OTHER_LID)]
        if self._wishes.ends:
            return [*commands, *self._ask_logout(now)]
        return [*commands, *self._duty.login.begin(self._linking.keys, now)]

    def _if_ready(self, commands: list[Command], now: float) -> list[Command]:
        waits = self._duty.login.ready and self.phase is not Phase.CONNECTED
        if not waits or self._wishes.ends:
            return commands
        assert self._linking.paired is not None
        self._enter(Phase.CONNECTED, None)
        return [*commands, *self._duty.online(self._linking.paired, now)]

    def _ask_logout(self, now: float) -> list[Command]:
        assert self._linking.paired is not None
        build = partial(iq.logout, device=self._linking.paired.jid)
        return [*self._duty.retire(now), self._queries.ask(_Purpose.LOGOUT, build, now)]

    # --- losing a connection ---

    def _storage_failed(self, event: StorageFailed, now: float) -> list[Command]:
        """What could not be committed did not happen: begin again from what is stored."""
        if event.arming:
            return self._delivery.storage_failed(now)
        if self.phase in (Phase.PAIRING, Phase.PAIRED, Phase.CONNECTING, Phase.CONNECTED):
            # A stanza whose effect is not durable stays unanswered: the server sends it again.
            return self._lose(Verdict(Phase.WAITING, "storage"), now)
        if self.phase is Phase.LOGGED_OUT:
            # Nothing else would bring it up again.
            self._settle_at = now + SETTLE_AGAIN_S
        return []

    def _lose(self, verdict: Verdict, now: float, *, hang_up: bool = True) -> list[Command]:
        """End the connection, if it has not ended by itself, and do what the verdict says."""
        verdict = self._recovery.judge(verdict, self.phase, now)
        commands = self._hang_up(now) if hang_up else self._disconnected(now)
        if verdict.phase is Phase.WAITING:
            return [*commands, *self._wait(verdict, now)]
        if self._wishes.logging_out and verdict.phase in RESTING:
            # WhatsApp has ended it, or does not let it in any more: there is no later connect.
            return [*commands, *self._logged_out()]
        self._enter(verdict.phase, verdict.reason, verdict.until_s)
        if verdict.phase not in RESTING:
            return commands
        self._wishes.banned_until = None if verdict.until_s is None else now + verdict.until_s
        self._rest_lingers = True
        commands.append(SaveRest(verdict.phase, verdict.reason, verdict.until_s))
        if self._wishes.leaving:
            # It never dials again, so there is no later connect to log out at.
            return [*commands, *self._gone()]
        if verdict.phase is Phase.LOGGED_OUT:
            commands.append(SettleLoggedOut())
        elif verdict.phase is Phase.OUTDATED:
            commands.append(AskRevision())
        return commands

    def _wait(self, verdict: Verdict, now: float) -> list[Command]:
        commands = self._routing.failed()
        if self._wishes.forbids_dialling:
            self._enter(Phase.PAUSED, None)
            return commands
        if self._recovery.plan(verdict, now):
            return [*commands, *self._dial(verdict.reason)]
        self._enter(Phase.WAITING, verdict.reason)
        return commands

    def _dial(self, reason: str | None) -> list[Command]:
        self._enter(Phase.CONNECTING, reason)
        dial = Dial(registration=False, routing_info=self._routing.dialled())
        return [ClearRest(), dial] if self._rest_lingers else [dial]

    def _take_leave(self, now: float) -> list[Command]:
        """End the connection since people want that, not since it is lost or the server ends it."""
        return [*self._duty.people.leave(), *self._hang_up(now)]

    def _hang_up(self, now: float) -> list[Command]:
        return [HangUp(), *self._disconnected(now)]

    def _disconnected(self, now: float) -> list[Command]:
        self._first_stanza_by = None
        self._recovery.stop()
        self._queries.reset()
        told = self._duty.end(now)
        self._linking.codes.end()
        return [HideQr(), *told] if self.phase is Phase.PAIRING else told

    def _end_again(self) -> list[Command]:
        """Store the end of the device, which could not be stored before."""
        if self._wishes.leaving:
            return self._gone()
        if self.phase is not Phase.LOGGED_OUT:
            return []  # it is being linked anew
        assert self.reason is not None
        return [SaveRest(self.phase, self.reason, self.until_s), SettleLoggedOut()]

    def _settle_if_logged_out(self) -> list[Command]:
        return [SettleLoggedOut()] if self.phase is Phase.LOGGED_OUT else []

    def _logged_out(self) -> list[Command]:
        """Somebody here has logged the device out; its keys are kept aside for a while."""
        self._wishes.logging_out = False
        if self._wishes.leaving:
            return self._gone()
        self._enter(Phase.LOGGED_OUT, "logged_out_here")
        self._rest_lingers = True
        return [SaveRest(Phase.LOGGED_OUT, "logged_out_here"), SettleLoggedOut()]

    def _gone(self) -> list[Command]:
        """The removed device has nothing left at WhatsApp."""
        if self.phase is not Phase.LOGGED_OUT:
            self._enter(Phase.LOGGED_OUT, "removed")
        return [SettleLoggedOut(), ForgetKeys(), Finish()]

    def _enter(self, phase: Phase, reason: str | None, until_s: int | None = None) -> None:
        if phase is not self.phase and phase not in TRANSITIONS[self.phase]:
            raise AssertionError(f"no way from {self.phase} to {phase}")
        self.phase, self.reason, self.until_s = phase, reason, until_s

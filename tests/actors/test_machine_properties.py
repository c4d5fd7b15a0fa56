"""DeviceMachine against a world that does anything: what holds whatever happens, in any order.

The world performs commands as the shell does: in order, results fed back before anything else. Its
network is a server with moods; its store is one row after another.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sitpayd.actors.backoff import CAP_S
from sitpayd.actors.commands import (
    AgreeOnCode,
    Arm,
    AskRevision,
    ClearRest,
    Command,
    Dial,
    DropSessions,
    Finish,
    ForgetKeys,
    ForgetMissed,
    HangUp,
    HideQr,
    Hold,
    KeepHistory,
    KeepToken,
    Learn,
    LoadSessions,
    MakeCode,
    MakeKeys,
    MakePreKeys,
    Mark,
    MarkLate,
    MarkReceipt,
    MarkUploaded,
    NextRow,
    NoteGiven,
    Receive,
    Resend,
    SaveIdentity,
    SaveRest,
    Send,
    SettleLoggedOut,
    ShowCode,
    ShowQr,
    Write,
)
from sitpayd.actors.events import (
    Answer,
    Armed,
    CodeAgreed,
    CodeMade,
    Event,
    KeysMade,
    LossKind,
    Lost,
    NotArmed,
    Opened,
    PreKeysMade,
    Received,
    RowLoaded,
    SessionsLoaded,
    Tick,
    TokenOwed,
)
from sitpayd.actors.failures import CONNECT_FAILURES, STREAM_ERRORS
from sitpayd.actors.machine import DeviceMachine
from sitpayd.actors.messages import (
    CancelPairing,
    Deliver,
    HistoryPart,
    Logout,
    Message,
    PairingWish,
    Pause,
    Reconnect,
    Remove,
    Resume,
    Revised,
    StartPairing,
)
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.phase import RESTING, TRANSITIONS, Phase
from sitpayd.actors.refusals import REFUSALS
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.jid import Jid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import (
    failure,
    ib,
    iq,
    mex,
    notification,
    pairing,
    pairing_code,
    prekeys,
    privacy,
    usync,
)
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    KEYS,
    OURSELVES,
    OWN_PN,
    PHONE,
    REFS,
    SERVER_T,
    a_row,
    bundle_of,
    message_ack,
    rest,
    some_pair_success,
    started,
    success,
    user_devices,
)

BUNDLE = bundle_of(KeyPair.generate())
# Phases out of which a device connects by itself.
ON_ITS_WAY = {Phase.PAIRED, Phase.CONNECTING, Phase.CONNECTED, Phase.WAITING}
PREKEY = PreKey(1, KeyPair.generate())
OFFER = pairing_code.offer_of("ABCD1234", KeyPair.generate())
CODE_REF = b"3@ref"
# Longest wait before a dial: the longest backoff behind the longest minimum of failures.py.
MAX_DELAY_S = CAP_S + 300.0
# Out of these phases nothing but these messages makes a device dial.
WOKEN_BY: dict[Phase, tuple[type[Message], ...]] = {
    Phase.PAUSED: (Resume, Logout, Remove),
    Phase.REPLACED: (Resume, Reconnect, Logout),
    Phase.BANNED: (Resume,),
    Phase.OUTDATED: (Resume, Revised),
    Phase.ACTION_REQUIRED: (Resume,),
    Phase.LOGGED_OUT: (),
}


class World(RuleBasedStateMachine):
    """One device, its store, and a server that is sometimes kind."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = DeviceMachine(Random(0), None)
        self.keys = KEYS
        self.on_show = False
        self.open = False
        self.finished = False
        self.rows: deque[OutboxRow] = deque()
        self.armed: dict[str, bytes] = {}
        self.reached: dict[str, tuple[Jid, ...]] = {}
        self.topped_up: set[str] = set()
        self.rows_made = 0
        self.asked: list[Node] = []
        self.in_flight: OutboxRow | None = None
        self.missing = False
        self.arms = True
        self.falls_short = True
        self.known: Revised | None = None
        self.free = True
        self.owes = True

    # --- the stage ---

    def take(self, event: Event | Message) -> None:
        """What the shell does with one event."""
        events: deque[Event | Message] = deque([event])
        while events:
            event, before = events.popleft(), self.machine.phase
            commands = self.machine.handle(event, self.now)
            after = self.machine.phase
            assert after is before or after in TRANSITIONS[before]
            for command in commands:
                if isinstance(command, Dial):
                    assert after in (Phase.PAIRING, Phase.CONNECTING)
                    assert isinstance(event, WOKEN_BY.get(before, object))
                result = self.perform(command)
                if result is not None:
                    events.append(result)

    def perform(self, command: Command) -> Event | Message | None:
        match command:
            case Dial(registration=registration):
                assert not self.open, "two dials at a time"
                assert not self.finished
                assert registration is (self.machine.phase is Phase.PAIRING)
                self.open, self.asked = True, []
            case HangUp():
                self.open, self.asked, self.in_flight = False, [], None
            case Send(node=node):
                assert self.open, "a stanza without a connection"
                if node.tag == "iq" and node.text("type") in ("get", "set"):
                    self.asked.append(node)
            case Write(armed=armed):
                assert self.open
                assert self.machine.phase is Phase.CONNECTED
                assert self.in_flight is None, "two rows in flight"
                assert self.armed[armed.row.message_id] == armed.stanza, "written but not armed"
                self.in_flight = armed.row
            case NextRow():
                return RowLoaded(self.next_row())
            case LoadSessions(devices=devices):
                return SessionsLoaded(frozenset(devices if self.missing else ()))
            case Arm(row=row):
                return self.arm(command)
            case Mark(row=row):
                self.take_off(row)
                if command.missed:
                    assert row.message_id not in self.topped_up, "missed for ever"
                    # The last of them is what the server misses.
                    had = self.reached[row.message_id][:-1]
                    self.armed.pop(row.message_id)
                    sent = replace(a_row(row.id, to=row.recipient), state=RowState.SENT)
                    told = " ".join(map(str, had)).encode()
                    self.rows.appendleft(replace(sent, missed_devices=True, participants=told))
                if command.state is RowState.SENT and self.owes:
                    return TokenOwed(FRIEND_PN, FRIEND_LID)
            case ForgetMissed(row=row):
                assert row.missed_devices
                self.take_off(row)
            case MakeKeys():
                self.keys = DeviceKeys.generate()
                return KeysMade(self.keys)
            case MakeCode():
                return CodeMade(OFFER, "Chrome (Mac OS)")
            case AgreeOnCode(hello=hello):
                self.keys = replace(self.keys, adv_secret=b"s" * 32)
                finish = pairing_code.CompanionFinish(b"b" * 156, bytes(32), hello.ref)
                return CodeAgreed(pairing_code.Agreed(finish, b"s" * 32, hello.identity))
            case ShowQr() | ShowCode():
                assert self.machine.phase is Phase.PAIRING, "a code for nobody"
                self.on_show = True
            case HideQr():
                self.on_show = False
            case MakePreKeys():
                return PreKeysMade((PREKEY,))
            case Receive() | Resend() | MarkReceipt() | KeepToken():
                return Answer(())
            case KeepHistory():
                assert self.machine.phase in ON_ITS_WAY | RESTING | {Phase.PAUSED}
                return Answer(())
            case AskRevision():
                return self.known
            case SettleLoggedOut():
                self.rows.clear()
            case Finish():
                self.finished = True
            case (
                SaveIdentity() | ForgetKeys() | SaveRest() | ClearRest()
                | MarkUploaded() | Hold() | Learn() | DropSessions() | MarkLate() | NoteGiven()
            ):  # fmt: skip
                pass
        return None

    def arm(self, command: Arm) -> Event:
        row = command.row
        if row.missed_devices:
            assert row.message_id not in self.topped_up, "topped up twice"
            had = (row.participants or b"").decode().split()
            assert not {str(jid) for jid in command.devices + command.own_devices} & set(had)
        else:
            assert (row.message_id in self.armed) is command.again, "armed twice"
        if not self.arms:
            return NotArmed(row, "no_devices")
        if row.missed_devices:
            self.topped_up.add(row.message_id)
        self.reached[row.message_id] = command.devices + command.own_devices
        self.armed[row.message_id] = f"stanza {len(self.topped_up)} of {row.message_id}".encode()
        return Armed(row, self.armed[row.message_id])

    def take_off(self, row: OutboxRow) -> None:
        """A row is settled: nothing of it is to go any more."""
        if self.in_flight is not None and self.in_flight.message_id == row.message_id:
            self.in_flight = None
        self.rows = deque(r for r in self.rows if r.message_id != row.message_id)

    def next_row(self) -> OutboxRow | None:
        if not self.rows:
            return None
        row = next((r for r in self.rows if r.message_id in self.armed), self.rows[0])
        stanza = self.armed.get(row.message_id)
        if stanza is None or row.missed_devices:
            return replace(row, stanza=stanza)
        return replace(row, stanza=stanza, state=RowState.ARMED)

    def lose(self, kind: LossKind) -> None:
        self.open, self.asked, self.in_flight = False, [], None
        self.take(Lost(kind, ""))

    def hear(self, node: Node) -> None:
        self.take(Received(node))

    # --- beginnings ---

    @initialize(
        beginning=st.sampled_from(
            [
                *[started(keys=None, paired=None), started()] * 5,
                started(paused=True),
                started(paused=True, logout_wanted=True),
                started(keys=None, paired=None, paused=True),
                started(logout_wanted=True),
                *(started(rest=rest(phase), logout_wanted=True) for phase in sorted(RESTING)),
                *(started(rest=rest(phase), paused=True) for phase in sorted(RESTING)),
                started(leaving=True),
                *(started(rest=rest(phase)) for phase in sorted(RESTING)),
                *(started(keys=None, paired=None, rest=rest(phase)) for phase in sorted(RESTING)),
            ]
        ),
        seed=st.integers(0, 1000),
        limits=st.none() | st.just(PacingLimits()),
    )
    def begin(self, beginning: Event, seed: int, limits: PacingLimits | None) -> None:
        self.machine = DeviceMachine(Random(seed), limits)
        for command in self.machine.handle(beginning, self.now):
            self.perform(command)

    # --- people and the clock ---

    @precondition(lambda self: not self.finished)
    @rule(to=st.sampled_from([FRIEND_PN.user, OWN_PN.user, "12025550123"]))
    def somebody_sends(self, to: str) -> None:
        self.rows_made += 1
        self.rows.append(a_row(self.rows_made, to=to))
        self.take(Deliver())

    @precondition(lambda self: not self.finished)
    @rule()
    def somebody_asks_for_a_code(self) -> None:
        self.take(StartPairing())

    @precondition(lambda self: not self.finished)
    @rule(
        phone=st.sampled_from([None, OWN_PN.user, FRIEND_PN.user]),
        relink=st.booleans(),
    )
    def somebody_insists_on_a_code(self, phone: str | None, relink: bool) -> None:
        self.take(StartPairing(PairingWish(forced=True, relink=relink, phone=phone)))

    @precondition(lambda self: not self.finished)
    @rule(
        message=st.sampled_from(
            [Pause(), Pause(), Resume(), Reconnect(), Revised(), CancelPairing()]
        )
    )
    def somebody_commands(self, message: Message) -> None:
        rows = list(self.rows)
        self.take(message)
        assert list(self.rows) == rows, "what waits for delivery goes on waiting"

    @precondition(lambda self: not self.finished)
    @rule(really=st.sampled_from([False] * 9 + [True]))
    def somebody_logs_it_out(self, really: bool) -> None:
        if really:
            self.take(Logout())

    @precondition(lambda self: not self.finished)
    @rule(really=st.sampled_from([False] * 29 + [True]))
    def somebody_removes_it(self, really: bool) -> None:
        if really:
            self.take(Remove())

    @precondition(lambda self: not self.finished and self.machine.deadline() is not None)
    @rule()
    def deadline_comes(self) -> None:
        deadline = self.machine.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        self.take(Tick())
        again = self.machine.deadline()
        assert again is None or again > self.now, "it would tick for ever"

    @rule(seconds=st.floats(0.0, 400.0))
    def time_passes(self, seconds: float) -> None:
        deadline = self.machine.deadline()
        self.now += seconds if deadline is None else min(seconds, max(0.0, deadline - self.now))

    @rule(known=st.booleans())
    def newer_revision_is_known(self, known: bool) -> None:
        self.known = Revised() if known else None

    @rule(missing=st.booleans(), arms=st.sampled_from([True] * 4 + [False]))
    def store_changes(self, missing: bool, arms: bool) -> None:
        self.missing, self.arms = missing, arms

    @rule(falls_short=st.booleans())
    def lists_get_stale(self, falls_short: bool) -> None:
        """Every message misses a device, or none does."""
        self.falls_short = falls_short

    @rule(owes=st.booleans())
    def people_get_our_token(self, owes: bool) -> None:
        """Whoever is written to is owed our token, or nobody is."""
        self.owes = owes

    @rule(free=st.booleans())
    def account_is_restricted(self, free: bool) -> None:
        """The server tells that nobody new may be written to, when it is asked."""
        self.free = free

    @precondition(lambda self: not self.finished)
    @rule(is_last=st.booleans())
    def phone_has_told(self, is_last: bool) -> None:
        self.take(HistoryPart(1, (), is_last))

    # --- the network ---

    @precondition(lambda self: not self.finished)
    @rule(steps=st.integers(1, 12))
    def all_goes_well(self, steps: int) -> None:
        """A life without trouble, for a while; without it few examples ever connect."""
        for _ in range(steps):
            self.next_good_thing()

    def next_good_thing(self) -> None:
        if self.asked:
            self.hear(self.answered(self.asked.pop(0)))
        elif self.in_flight is not None:
            row, self.in_flight = self.in_flight, None
            self.hear(message_ack(row, phash="2:other" if self.falls_short else None))
        elif self.machine.phase is Phase.WAITING:
            self.deadline_comes()
        elif self.machine.phase is Phase.PAIRING:
            self.take(Opened())
            self.hear(pairing.pair_device("X", REFS))
            self.hear(some_pair_success(self.keys))
        elif self.machine.phase is Phase.PAIRED:
            self.lose(LossKind.CLOSED)
        elif self.machine.phase is Phase.CONNECTING:
            self.take(Opened())
            self.hear(success())
        elif self.machine.phase is Phase.CONNECTED:
            self.somebody_sends(FRIEND_PN.user)

    def answered(self, query: Node) -> Node:
        return _answered(query, free=self.free)

    @precondition(lambda self: self.open)
    @rule(kind=st.sampled_from([LossKind.NETWORK] * 6 + list(LossKind)))
    def connection_is_lost(self, kind: LossKind) -> None:
        self.lose(kind)

    @precondition(lambda self: self.open)
    @rule()
    def handshake_completes(self) -> None:
        self.take(Opened())

    @precondition(lambda self: self.open)
    @rule()
    def server_welcomes(self) -> None:
        self.hear(success())

    @precondition(lambda self: self.open)
    @rule(refs=st.integers(0, 6))
    def server_sends_refs(self, refs: int) -> None:
        self.hear(pairing.pair_device("X", REFS[:refs]))

    @precondition(lambda self: self.open and self.machine.phase is Phase.PAIRING)
    @rule(honest=st.booleans())
    def phone_scans(self, honest: bool) -> None:
        self.hear(some_pair_success(self.keys, adv_secret=None if honest else bytes(32)))

    @precondition(lambda self: self.open)
    @rule(identity=st.sampled_from([PHONE.public_key, bytes(range(32))]))
    def person_types_a_code(self, identity: bytes) -> None:
        hello = pairing_code.PrimaryHello(CODE_REF, OFFER.wrapped, identity)
        self.hear(pairing_code.primary_hello("N", hello, t=SERVER_T))

    @precondition(lambda self: self.open)
    @rule(code=st.sampled_from([503, 515] * 5 + sorted(STREAM_ERRORS)))
    def server_ends_the_stream(self, code: int) -> None:
        self.hear(failure.stream_error(StreamError(code)))

    @precondition(lambda self: self.open)
    @rule(code=st.sampled_from([503] * 9 + sorted(CONNECT_FAILURES)))
    def server_refuses(self, code: int) -> None:
        self.hear(failure.failure(ConnectFailure(code)))

    @precondition(lambda self: self.open and self.asked)
    @rule(which=st.integers(0, 20), mood=st.sampled_from(["kind", "kind", "error", "rubbish"]))
    def server_answers(self, which: int, mood: str) -> None:
        query = self.asked.pop(which % len(self.asked))
        match mood:
            case "kind":
                self.hear(self.answered(query))
            case "error":
                self.hear(iq.error(query, 500, "no"))
            case _:
                self.hear(iq.result(query, Node("rubbish")))

    @precondition(lambda self: self.open and self.in_flight is not None)
    @rule(error=st.none() | st.sampled_from([*sorted(REFUSALS), 499]), other=st.booleans())
    def server_acknowledges(self, error: int | None, other: bool) -> None:
        row, self.in_flight = self.in_flight, None
        assert row is not None
        self.hear(message_ack(row, error=error, phash="2:other" if other else None))

    @precondition(lambda self: self.open)
    @rule(
        node=st.sampled_from(
            [
                Node("message", {"id": "M", "from": FRIEND_LID}),
                Node("receipt", {"id": "R", "from": FRIEND_LID}),
                Node("receipt", {"id": "R", "from": FRIEND_LID, "type": "retry"}),
                Node("call", {"id": "C", "from": FRIEND_LID}),
                Node("iq", {"id": "P", "type": "get", "xmlns": "urn:xmpp:ping"}),
                Node("ack", {"class": "message", "id": "of nobody"}),
                Node("xmlstreamend"),
                Node("rubbish"),
                Node("notification"),
                ib.ib(ib.OfflinePreview(3), ib.Dirty("groups", 1)),
                ib.ib(ib.DowngradeWebClient()),
                *(
                    notification.notification("N", value, t=SERVER_T, from_=OWN_PN.bare)
                    for value in (
                        notification.PreKeyCount(0),
                        notification.IdentityChanged(FRIEND_LID),
                        notification.OwnDevices(()),
                        notification.PasskeyRequested(),
                        notification.PrivacyToken(FRIEND_PN, FRIEND_LID, b"theirs", SERVER_T),
                    )
                ),
                *(
                    mex.notice("N", told, t=SERVER_T)
                    for told in (
                        mex.ReachoutTimelock(is_active=True, ends=SERVER_T + 90),
                        mex.ReachoutTimelock(is_active=False),
                        mex.NewChatCap(is_reached=True, ends=SERVER_T + 90),
                        mex.NewChatCap(is_reached=False),
                    )
                ),
            ]
        )
    )
    def something_comes(self, node: Node) -> None:
        self.hear(node)

    def teardown(self) -> None:
        """With a server that has nothing against us, missed devices are not missed for ever."""
        for _ in range(200):
            marked = any(row.missed_devices for row in self.rows)
            if not marked or self.finished or self.machine.phase not in ON_ITS_WAY:
                return
            busy = self.asked or self.in_flight is not None
            if self.machine.phase is Phase.CONNECTED and not busy:
                self.deadline_comes()
            else:
                self.next_good_thing()
        raise AssertionError("a row is marked for ever")

    # --- what always holds ---

    @invariant()
    def resting_and_waiting_devices_have_no_connection(self) -> None:
        if self.machine.phase in RESTING | {Phase.UNPAIRED, Phase.PAUSED, Phase.WAITING}:
            assert not self.open

    @invariant()
    def codes_are_shown_only_while_the_device_is_being_linked(self) -> None:
        if self.machine.phase is not Phase.PAIRING:
            assert not self.on_show

    @invariant()
    def dials_wait_within_their_bounds(self) -> None:
        if self.machine.phase is Phase.WAITING:
            deadline = self.machine.deadline()
            assert deadline is not None, "it would wait for ever"
            assert deadline - self.now <= MAX_DELAY_S

    @invariant()
    def resting_devices_wait_for_nobody_but_people(self) -> None:
        if self.machine.phase in RESTING | {Phase.UNPAIRED, Phase.PAUSED}:
            assert self.machine.deadline() is None

    @invariant()
    def open_connections_are_watched(self) -> None:
        if self.machine.phase in (Phase.CONNECTED, Phase.PAIRED):
            assert self.open
            assert self.machine.deadline() is not None


def _answered(query: Node, *, free: bool) -> Node:
    """What a server with nothing against our asking says."""
    lock = None if free else mex.ReachoutTimelock(is_active=True)
    if query.text("xmlns") == "w:mex":
        told = mex.answer(query, lock, mex.NewChatCap(is_reached=not free))
        assert told is not None
        return told
    if query.child("privacy") is not None:
        return privacy.give_answer(query, {})
    if pairing_code.is_pairing_code(query):
        return pairing_code.ref_answer(query, CODE_REF)
    if query.child("count") is not None:
        return prekeys.count_answer(query, 0)
    if query.child("key") is not None:
        return prekeys.bundles_answer(
            query, dict.fromkeys(prekeys.parse_bundles_query(query), BUNDLE)
        )
    if query.child("usync") is not None:
        asked = usync.parse_query(query)
        return usync.answer(query, [_known(user) for user in asked.users])
    return iq.result(query)


def _known(user: usync.QueriedUser) -> usync.UserAnswer:
    if user.number is not None:
        return usync.UserAnswer(pn(user.number), contact=(user.number, False))
    assert user.jid is not None
    if user.jid == FRIEND_PN:
        return user_devices(FRIEND_PN, (0, 2), lid=FRIEND_LID)
    return OURSELVES if user.jid == OWN_PN.bare else user_devices(user.jid, None)


World.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestWorld = World.TestCase


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_its_transitions(phase: Phase) -> None:
    assert phase not in TRANSITIONS[phase]
    assert phase is Phase.FAULTED or TRANSITIONS[phase]

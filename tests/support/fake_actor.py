"""A device's actor without WhatsApp: it does to rows, board and handle what the real one does.

Rows are read from the database and moved through the real queries; outcomes are announced after the
commit. What "WhatsApp" answers is chosen by the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import trio

from sitpayd.actors.messages import (
    CancelPairing,
    CheckNumbers,
    Deliver,
    Done,
    Logout,
    PairingWish,
    Pause,
    Question,
    Reaction,
    Reconnect,
    Remove,
    Reroute,
    Resume,
    SetPresence,
    ShowTyping,
    StartPairing,
    TellReads,
)
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.pairing import PairingBar
from sitpayd.actors.phase import Phase
from sitpayd.actors.presence import TYPING_S
from sitpayd.actors.registry import DeviceHandle, ShownCode, ShownQr
from sitpayd.actors.status import DeviceStatus, Evidence, Proof, StatusBoard
from sitpayd.storage import checks, devices, outbox
from sitpayd.storage.database import Database
from sitpayd.storage.records import OutboxRow, RowState

QR_TEXT = "2@" + "ref" * 20 + ",noise,identity,secret"
CODE_TEXT = "ABCD-1234"

HOLD = timedelta(minutes=10)

# ack: sent. arm: no acknowledgement ever. hold: held for `held_because`. away: rows stay put.
# Anything else is the reason of a refusal.
Behaviour = Literal["ack", "arm", "hold", "away"] | str


class FakeActor:
    """Answers one handle's mailbox."""

    def __init__(
        self, handle: DeviceHandle, database: Database, board: StatusBoard, outcomes: Outcomes
    ) -> None:
        self.handle = handle
        self.behaviour: Behaviour = "ack"
        self.qr_text: str | None = QR_TEXT
        self.held_because = "paced"
        self.code_text: str | None = CODE_TEXT
        self.wishes: list[PairingWish] = []
        # What bars every wish to link; a linked device bars it anyway.
        self.bar: PairingBar | None = None
        self.linked = False
        handle.pairing_bar = self._bar
        self.rounds = self.reroutes = 0
        # What WhatsApp says of numbers; of others it says nothing.
        self.accounts: dict[str, bool] = {}
        self.questions: list[Question] = []
        # What it says to the next questions instead of doing anything; None: that it is gone.
        self.reactions: list[Reaction | None] = []
        self.read_rings = 0
        # What happens while a question is on its way.
        self.before_reaction: Callable[[], None] = lambda: None
        self.logged_out = False
        self.armed = trio.Event()
        self._database = database
        self._board = board
        self._outcomes = outcomes
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Answer the mailbox until logged out or stopped."""
        with self._scope:
            await self._answer()

    def stop(self) -> None:
        """Take nothing out of the mailbox any more."""
        self._scope.cancel()

    async def _answer(self) -> None:
        async for message in self.handle.mailbox:
            match message:
                case Deliver():
                    await self.deliver()
                case StartPairing(wish):
                    self._start_pairing(wish)
                case CancelPairing():
                    self.handle.show_qr(None)
                    self.enter(Phase.UNPAIRED, "canceled")
                case Pause():
                    self.enter(Phase.PAUSED)
                case Resume() | Reconnect():
                    self.enter(Phase.CONNECTING)
                case Reroute():
                    self.reroutes += 1
                case CheckNumbers() | SetPresence() | ShowTyping():
                    await self._react(message)
                case TellReads():
                    self.read_rings += 1
                case Logout():
                    self.enter(Phase.LOGGED_OUT, "logged_out_here")
                case Remove():
                    self.logged_out = True
                    return
                case _:
                    raise AssertionError(f"the API does not send {message}")

    async def deliver(self) -> None:
        """Do with the waiting rows as the behaviour says."""
        device_id = self.handle.record.id
        while self.behaviour != "away":
            row = await self._database.read(outbox.next_row, device_id)
            if row is None or row.state is not RowState.ACCEPTED:
                return
            if self.behaviour == "hold":
                until = datetime.now(UTC) + HOLD
                await self._database.write(outbox.hold, device_id, row.id, until, self.held_because)
                self._outcomes.announce(row.message_id, RowState.ACCEPTED, self.held_because)
                return
            await self._arm(row)
            if self.behaviour == "ack":
                await self.acknowledge(row)
            elif self.behaviour != "arm":
                await self._database.write(outbox.mark_failed, device_id, row.id, self.behaviour)
                self._outcomes.announce(row.message_id, RowState.FAILED, self.behaviour)

    async def _react(self, question: Question) -> None:
        self.questions.append(question)
        self.before_reaction()
        reply, device_id = question.reply, self.handle.record.id
        if self.reactions:
            reaction = self.reactions.pop(0)
            if reaction is not None:
                reply.put(reaction)
            reply.close()
            return
        now = trio.current_time()
        match question:
            case CheckNumbers(numbers):
                asked = await self._database.write(checks.take, device_id, numbers, None)
                told = {number: known for number, known in self.accounts.items() if number in asked}
                await self._database.write(checks.note, device_id, told)
                reply.put(Done())
            case SetPresence(available, seconds):
                reply.put(Done(now + seconds if available else None))
            case ShowTyping(state=state):
                reply.put(Done(None if state == "paused" else now + TYPING_S))

    async def acknowledge(self, row: OutboxRow) -> None:
        """WhatsApp's server has taken the armed row."""
        now = datetime.now(UTC)
        await self._database.write(outbox.mark_sent, self.handle.record.id, row.wa_message_id, now)
        self._outcomes.announce(row.message_id, RowState.SENT)

    async def armed_row(self) -> OutboxRow:
        """The row in flight."""
        row = await self._database.read(outbox.next_row, self.handle.record.id)
        assert row is not None
        assert row.state is RowState.ARMED
        return row

    def enter(
        self, phase: Phase, reason: str | None = None, *, age_s: float = 0, for_s: float = 0
    ) -> None:
        """Come into a phase, some seconds ago."""
        since = datetime.now(UTC) - timedelta(seconds=age_s)
        until = since + timedelta(seconds=for_s) if for_s else None
        record = self.handle.record
        self.handle.pairs = phase is Phase.PAIRING
        if phase is Phase.LOGGED_OUT:
            self.linked = False
        if phase is Phase.CONNECTED:
            self.handle.proof = Proof(trio.current_time(), Evidence.LOGIN)
        self._board.publish(
            DeviceStatus(record.session_id, record.partner_id, phase, reason, since, until)
        )
        self.handle.notify()

    def show_code(self, text: str, phone: str, seconds: float = 160) -> None:
        """Show a pairing code for this number."""
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        self.handle.show_code(ShownCode(text, phone, expires_at))

    def show_qr(self, text: str, seconds: float = 60) -> None:
        """Show a code."""
        self.handle.show_qr(ShownQr(text, datetime.now(UTC) + timedelta(seconds=seconds)))

    async def link(self, phone: str) -> None:
        """Become linked to this number, and connected."""
        self.handle.show_qr(None)
        await self._database.write(devices.set_phone, self.handle.record.id, phone)
        self.handle.record = replace(self.handle.record, phone=phone)
        self.linked = True
        self.enter(Phase.CONNECTED)

    async def _arm(self, row: OutboxRow) -> None:
        armed = await self._database.write(
            outbox.arm,
            self.handle.record.id,
            row.id,
            b"stanza",
            sessions={},
            identities={},
            participants=b"",
            phash=None,
        )
        assert armed
        self.armed.set()

    def _start_pairing(self, wish: PairingWish) -> None:
        self.wishes.append(wish)
        known = self._board.get(self.handle.session_id)
        if known is None or known.status != Phase.PAIRING:
            self.rounds += 1
            self.enter(Phase.PAIRING)
            if self.qr_text is not None:
                self.show_qr(self.qr_text)
        if wish.phone is not None and self.code_text is not None:
            self.show_code(self.code_text, wish.phone)

    def _bar(self, wish: PairingWish) -> PairingBar | None:
        return PairingBar("linked") if self.linked else self.bar

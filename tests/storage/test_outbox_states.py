"""Any order of events over one device's outbox, with crashes in between.

A step that cannot be taken in a row's state must change nothing; a crash throws the process away
and opens what is on the disk: a copy of file and log made while the database was open.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from sitpayd.storage.database import Database, open_database
from sitpayd.storage.missed import arm_missed, forget_missed
from sitpayd.storage.outbox import (
    accept,
    arm,
    cancel,
    expire,
    mark_failed,
    mark_receipt,
    mark_sent,
    mark_unknown,
    messages,
    next_row,
    row_by_wa_message_id,
    settle_logged_out,
)
from sitpayd.storage.records import (
    Accepted,
    MessageView,
    NewMessage,
    OutboxRow,
    QueueFull,
    Repeated,
    RowState,
)
from sitpayd.storage.sessions import load_sessions
from tests.storage.builders import RECIPIENT, Clock, Tenant, a_message, some_tenant, some_vault

MAX_QUEUED = 4
PEER = "123@lid"

Action = Literal[
    "arm",
    "send",
    "send short",
    "arm rest",
    "rest done",
    "deliver",
    "read",
    "fail",
    "lose",
    "cancel",
    "expire",
    "log out",
    "crash",
]

# Written apart from the code: where each event takes a row. What is missing changes nothing.
MOVES: Mapping[str, Mapping[str, str]] = {
    "arm": {"accepted": "armed"},
    "send": {"armed": "sent", "unknown": "sent"},
    # An ack that says that devices were missed; the arming for them; the end of that.
    "send short": {"armed": "sent", "unknown": "sent"},
    "arm rest": {},
    "rest done": {},
    "deliver": {"armed": "delivered", "unknown": "delivered", "sent": "delivered"},
    "read": {"armed": "read", "unknown": "read", "sent": "read", "delivered": "read"},
    "fail": {"accepted": "failed", "armed": "failed"},
    "lose": {"armed": "unknown"},
    "cancel": {"accepted": "canceled"},
    "expire": {"accepted": "expired", "armed": "unknown"},
    "log out": {"accepted": "failed", "armed": "unknown"},
}


@dataclass(frozen=True, slots=True)
class Accept:
    key: str | None


@dataclass(frozen=True, slots=True)
class Act:
    action: Action
    row: int


STEPS = st.lists(
    st.one_of(
        st.builds(Accept, st.sampled_from([None, None, "a", "b", "c"])),
        st.builds(
            Act,
            st.sampled_from(
                [
                    *4 * ["arm", "send", "lose", "deliver"],
                    *3 * ["send short", "arm rest"],
                    *MOVES,
                    "crash",
                ]
            ),
            st.integers(0, 2),
        ),
    ),
    # Short lives prove little: it takes four steps to send a row.
    min_size=15,
    max_size=40,
)


@dataclass(slots=True)
class Model:
    """What was promised so far."""

    rows: list[OutboxRow] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    armings: int = 0
    # Rows that missed devices, and whether they are armed for them.
    missed: dict[str, bool] = field(default_factory=dict)

    def queued(self) -> int:
        return list(self.states.values()).count("accepted")

    def next_row(self) -> str | None:
        ids = [row.message_id for row in self.rows]
        armed = [each for each in ids if self.states[each] == "armed"]
        missed = [each for each in ids if each in self.missed]
        accepted = [each for each in ids if self.states[each] == "accepted"]
        return next(iter([*armed, *missed, *accepted]), None)

    def stanza(self, message_id: str) -> bytes | None:
        """What may be written of a row."""
        if self.states[message_id] == "armed":
            return b"stanza of " + message_id.encode()
        return b"rest of " + message_id.encode() if self.missed.get(message_id) else None


class World:
    """One device and the process that serves it."""

    database: Database

    def __init__(self, tenant: Tenant, clock: Clock) -> None:
        self.device = tenant.device
        self.clock = clock
        self.model = Model()

    async def accept(self, step: Accept) -> None:
        model = self.model
        message = a_message(
            self.device,
            idempotency_key=step.key,
            max_queued=MAX_QUEUED,
            expires_at=self.clock.now + timedelta(hours=1),
        )
        outcome = await self.database.write(accept, message)
        if step.key in model.keys:
            assert isinstance(outcome, Repeated)
            assert outcome.row.message_id == model.keys[step.key]
        elif model.queued() >= MAX_QUEUED:
            assert outcome == QueueFull()
        else:
            assert isinstance(outcome, Accepted)
            self.remember(message, outcome.row)

    def remember(self, message: NewMessage, row: OutboxRow) -> None:
        self.model.rows.append(row)
        self.model.states[row.message_id] = "accepted"
        if message.idempotency_key:
            self.model.keys[message.idempotency_key] = row.message_id

    async def act(self, action: Action, row: OutboxRow) -> None:
        """Let an event happen to one row; some happen to all."""
        write, device_id, ids = self.database.write, self.device.id, [row.wa_message_id]
        touched = [row]
        match action:
            case "arm":
                armed = await self.arm(row)
                assert armed == (self.model.states[row.message_id] == "accepted")
            case "send":
                await write(mark_sent, device_id, row.wa_message_id, self.clock.now)
            case "send short":
                await write(mark_sent, device_id, row.wa_message_id, None, missed=True)
                # Also where a receipt came before the ack. The text is there for days.
                states = self.model.states
                if states[row.message_id] in ("armed", "unknown", "sent", "delivered", "read"):
                    self.model.missed.setdefault(row.message_id, False)
            case "arm rest":
                armed = await self.arm_rest(row)
                assert armed == (self.model.missed.get(row.message_id) is False)
                if armed:
                    self.model.missed[row.message_id] = True
            case "rest done":
                await write(forget_missed, device_id, row.id)
                self.model.missed.pop(row.message_id, None)
            case "deliver":
                await write(mark_receipt, device_id, ids, "delivered", self.clock.now, [RECIPIENT])
            case "read":
                await write(mark_receipt, device_id, ids, "read", self.clock.now, [RECIPIENT])
            case "fail":
                await write(mark_failed, device_id, row.id, "refused")
            case "lose":
                await write(mark_unknown, device_id, row.id, "unanswered")
            case "cancel":
                await write(cancel, device_id, row.message_id)
            case "expire":
                await write(expire, self.clock.forward(hours=1))
                touched = self.model.rows
                self.model.missed.clear()
            case "log out":
                await write(settle_logged_out, device_id)
                touched = self.model.rows
                self.model.missed.clear()
        states = self.model.states
        for each in touched:
            before = states[each.message_id]
            states[each.message_id] = MOVES[action].get(before, before)

    async def arm(self, row: OutboxRow) -> bool:
        """Arm with sessions that tell which arming they are of."""
        step = f"arming {self.model.armings + 1}".encode()
        armed = await self.database.write(
            arm,
            row.device_id,
            row.id,
            b"stanza of " + row.message_id.encode(),
            sessions={(PEER, 0): step},
            identities={},
            participants=b"",
            phash=None,
        )
        self.model.armings += armed
        return armed

    async def arm_rest(self, row: OutboxRow) -> bool:
        step = f"arming {self.model.armings + 1}".encode()
        armed = await self.database.write(
            arm_missed,
            row.device_id,
            row.id,
            b"rest of " + row.message_id.encode(),
            sessions={(PEER, 0): step},
            identities={},
            participants=b"",
            phash="2:",
        )
        self.model.armings += armed
        return armed

    async def check(self) -> None:
        model, read, device_id = self.model, self.database.read, self.device.id
        page = await read(messages, device_id, None, 1000)
        assert page is not None
        # No accepted row is lost, and they stand in the order they were accepted in.
        assert [view.message_id for view in page.messages] == [r.message_id for r in model.rows]
        for view in page.messages:
            assert view.state == model.states[view.message_id]
            check_history(view)
        upcoming = await read(next_row, device_id)
        assert (upcoming and upcoming.message_id) == model.next_row()
        # The stanza is there exactly as long as it may be written, and is its own row's.
        for row in model.rows:
            stored = await read(row_by_wa_message_id, device_id, row.wa_message_id)
            assert stored is not None
            assert stored.stanza == model.stanza(row.message_id)
            assert stored.missed_devices == (row.message_id in model.missed)
        # The ratchet on the disk is that of the last arming that was stored.
        sessions = await read(load_sessions, device_id, PEER)
        last = {0: f"arming {model.armings}".encode()} if model.armings else {}
        assert sessions == last


def check_history(view: MessageView) -> None:
    ranks = [RowState(change.state).rank for change in view.history]
    assert ranks == sorted(set(ranks))
    assert view.history[0].state == "accepted"
    assert view.history[-1].state == view.state


@asynccontextmanager
async def opened(place: Path, clock: Clock) -> AsyncIterator[Database]:
    url = f"sqlite:///{place}/sitpayd.db"
    async with open_database(url, some_vault(), inline=True, clock=clock) as database:
        yield database


def crashed(place: Path) -> Path:
    """Copy what a killed process would leave behind."""
    left = Path(tempfile.mkdtemp(dir=place.parent))
    for suffix in ("", "-wal"):
        shutil.copy(place / f"sitpayd.db{suffix}", left / f"sitpayd.db{suffix}")
    return left


def lives_of(steps: list[Accept | Act]) -> list[list[Accept | Act]]:
    """Cut steps at the crashes."""
    lives: list[list[Accept | Act]] = [[]]
    for step in steps:
        if isinstance(step, Act) and step.action == "crash":
            lives.append([])
        else:
            lives[-1].append(step)
    return lives


async def live(world: World, steps: list[Accept | Act]) -> None:
    await world.check()
    for step in steps:
        if isinstance(step, Accept):
            await world.accept(step)
        elif world.model.rows:
            await world.act(step.action, world.model.rows[step.row % len(world.model.rows)])
        await world.check()


@settings(max_examples=50)
@given(STEPS)
async def test_no_row_is_lost_and_no_state_goes_back(steps: list[Accept | Act]) -> None:
    clock, world = Clock(), None
    with tempfile.TemporaryDirectory() as root:
        place = Path(root) / "first"
        for life in lives_of(steps):
            async with opened(place, clock) as database:
                world = world or World(await some_tenant(database), clock)
                world.database = database
                await live(world, life)
                place = crashed(place)

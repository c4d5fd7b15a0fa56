"""Number checks, presence, typing and read marks, as the actor's shell does them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.messages import (
    CheckNumbers,
    Done,
    Later,
    NotNow,
    Pause,
    Question,
    Reaction,
    SetPresence,
    ShowTyping,
    StartPairing,
)
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.registry import MAILBOX_SIZE, DeviceRegistry
from sitpayd.actors.replies import ReplyChannel
from sitpayd.errors import StorageBusyError
from sitpayd.metrics import Metrics
from sitpayd.storage import account, checks, inbox, outbox, sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.records import Accepted, Incoming, NumberStanding
from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import presence, receipt, usync
from tests.actors.builders import FRIEND_LID, FRIEND_PN, NOON, SERVER_T, Ear
from tests.actors.test_device import Stage, far_away, kind_server
from tests.storage.builders import Tenant, a_message
from tests.support.transport import Line

ABSENT, OTHER = "919812345678", "4915112345670"
REGISTERED = usync.UserAnswer(
    FRIEND_LID, pn=FRIEND_PN, lid=FRIEND_LID, contact=(FRIEND_PN.user, True)
)
NOT_REGISTERED = usync.UserAnswer(pn(ABSENT), contact=(ABSENT, False))


@pytest.fixture
def stage(database: Database, tenant: Tenant) -> Stage:
    return Stage(database, tenant)


def knowing_server(node: Node) -> list[Node]:
    """A kind server that knows who has an account."""
    query = node.child("usync")
    if query is None or query.required("query").child("contact") is None:
        return kind_server(node)
    return [usync.answer(node, [REGISTERED, NOT_REGISTERED])]


async def ask(stage: Stage, make: Callable[[ReplyChannel], Question]) -> Reaction | None:
    """Ask the actor something and wait for its answer."""
    with trio.fail_after(30.0), ReplyChannel() as reply:
        stage.handle.post(make(reply))
        return await reply.wait()


async def check(stage: Stage, *numbers: str) -> Reaction | None:
    return await ask(stage, lambda reply: CheckNumbers(numbers, reply))


async def appear(stage: Stage, *, available: bool = True, seconds: float = 60.0) -> Reaction | None:
    return await ask(stage, lambda reply: SetPresence(available, seconds, reply))


async def standing(stage: Stage, number: str) -> NumberStanding:
    found = await stage.database.read(checks.standing, stage.device.id, [number], None)
    return found[number]


def asked_about(line: Line) -> list[list[str]]:
    """The numbers of each check the server was asked for."""
    return [
        [user.data_of("contact").decode().removeprefix("+") for user in users.named("user")]
        for node in line.heard
        if (query := node.child("usync")) is not None
        and query.required("query").child("contact") is not None
        and (users := query.required("list"))
    ]


# --- number checks ---


async def test_checked_numbers_are_stored_and_their_lid_is_learned(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.transport.answer = knowing_server
    async with stage.life():
        line = await stage.log_in()
        assert await check(stage, FRIEND_PN.user, ABSENT, OTHER) == Done()
    assert asked_about(line) == [[FRIEND_PN.user, ABSENT, OTHER]]
    assert await standing(stage, FRIEND_PN.user) == NumberStanding(True, NOON)
    assert await standing(stage, ABSENT) == NumberStanding(False, NOON)
    assert (await standing(stage, OTHER)).held_by == "no_answer"
    lid = await stage.database.read(sessions.lid_of, stage.device.id, FRIEND_PN.user)
    assert lid == FRIEND_LID.user


async def test_look_ups_beyond_the_hours_are_not_made(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    metrics = Metrics()
    limits = PacingLimits(number_checks_per_hour=1)
    stage.world = replace(stage.world, limits=limits, metrics=metrics)
    stage.transport.answer = knowing_server
    async with stage.life():
        line = await stage.log_in()
        assert await check(stage, FRIEND_PN.user, ABSENT) == Done()
        assert await check(stage, ABSENT) == Done()
    assert asked_about(line) == [[FRIEND_PN.user]]
    assert b"sitpayd_number_checks_total 1.0" in metrics.page({}, None, 0)


async def test_questions_about_the_same_number_make_one_look_up(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.transport.answer = knowing_server
    async with stage.life():
        line = await stage.log_in()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(check, stage, FRIEND_PN.user)
    assert asked_about(line) == [[FRIEND_PN.user]]


async def test_look_ups_are_noted_before_they_are_made(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Whoever crashes while WhatsApp thinks does not ask again at once."""
    await stage.link()
    stage.transport.answer = lambda node: [] if node.child("usync") else kind_server(node)
    async with stage.life():
        line = await stage.log_in()
        stage.handle.post(CheckNumbers((FRIEND_PN.user,), Ear()))
        await wait_all_tasks_blocked()
        assert asked_about(line) == [[FRIEND_PN.user]]
    assert (await standing(stage, FRIEND_PN.user)).held_by == "no_answer"


async def test_database_that_takes_nothing_costs_no_connection(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StorageBusyError("busy")

    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        monkeypatch.setattr("sitpayd.storage.checks.take", busy)
        assert isinstance(await check(stage, FRIEND_PN.user), Later)
        assert stage.status == ("connected", None)
    assert asked_about(line) == []


async def test_send_to_a_number_that_was_absent_asks_nobody(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    await stage.database.write(checks.note, stage.device.id, {FRIEND_PN.user: False})
    async with stage.life():
        line = await stage.log_in()
        message_id = await stage.send()
        await wait_all_tasks_blocked()
        assert await stage.state_of(message_id) == "failed"
    assert [node for node in line.heard if node.child("usync")] == []


async def test_refusal_of_an_absent_number_waits_for_no_budget(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.world = replace(stage.world, limits=PacingLimits(first_contacts_per_day=0))
    await stage.database.write(checks.note, stage.device.id, {FRIEND_PN.user: False})
    async with stage.life():
        await stage.log_in()
        message_id = await stage.send()
        await wait_all_tasks_blocked()
        assert await stage.state_of(message_id) == "failed"


async def test_send_to_an_absent_number_is_remembered_and_counted(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()

    def answer(node: Node) -> list[Node]:
        query = node.child("usync")
        if query is None:
            return kind_server(node)
        contact = query.required("query").child("contact")
        return [usync.answer(node, [] if contact is None else [NOT_REGISTERED])]

    stage.transport.answer = answer
    async with stage.life():
        line = await stage.log_in()
        for _ in range(2):
            new = a_message(stage.device, recipient=ABSENT, expires_at=far_away())
            await stage.database.write(outbox.accept, new)
            stage.handle.ring()
            await wait_all_tasks_blocked()
            view = await stage.database.read(outbox.message, stage.device.id, new.message_id)
            assert view is not None
            assert (view.state, view.reason) == ("failed", "not_on_whatsapp")
    assert asked_about(line) == [[ABSENT]]
    taken = await stage.database.write(checks.take, stage.device.id, [OTHER], 1)
    assert taken == ()


async def test_armed_row_is_not_called_absent(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    new = a_message(stage.device, recipient=FRIEND_PN.user, expires_at=far_away())
    accepted = await stage.database.write(outbox.accept, new)
    assert isinstance(accepted, Accepted)
    stanza = encode(Node("message", {"id": new.wa_message_id, "to": FRIEND_LID}))
    await stage.database.write(
        outbox.arm, stage.device.id, accepted.row.id, stanza,
        sessions={}, identities={}, participants=b"", phash=None,
    )  # fmt: skip
    await stage.database.write(checks.note, stage.device.id, {FRIEND_PN.user: False})
    async with stage.life():
        await stage.log_in()
        assert await stage.state_of(new.message_id) == "sent"


# --- answers that do not come ---


async def test_question_is_answered_where_the_device_is_not_connected(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.life():
        assert await check(stage, FRIEND_PN.user) == NotNow()
        assert await appear(stage) == NotNow()


async def test_who_waits_learns_that_the_actor_is_gone(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.transport.answer = lambda node: [] if node.child("usync") else kind_server(node)
    answers: list[Reaction | None] = []

    async def wait() -> None:
        answers.append(await check(stage, FRIEND_PN.user))

    async with trio.open_nursery() as nursery, stage.life():
        await stage.log_in()
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert answers == []
    assert answers == [None]


async def test_question_in_the_mailbox_outlives_the_actor(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.life():
        pass
    with ReplyChannel() as reply:
        stage.handle.post(SetPresence(True, 60.0, reply))
        async with stage.life():
            assert await reply.wait() == NotNow()


async def test_who_waits_learns_that_nothing_is_written_any_more(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        stage.transport.stalled = True
        with ReplyChannel() as reply:
            stage.handle.post(SetPresence(True, 60.0, reply))
            await wait_all_tasks_blocked()
            line.cut()
            with trio.fail_after(1.0):
                assert await reply.wait() is None


async def test_who_waits_learns_that_the_connection_has_ended_already(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        line._cut.cancel()
        await line.ended.wait()
        assert stage.status == ("connected", None)
        assert await appear(stage) is None


async def test_who_waits_to_be_seen_learns_that_the_database_failed(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StorageBusyError("busy")

    await stage.link()
    async with stage.life():
        await stage.log_in()
        monkeypatch.setattr("sitpayd.storage.account.fact", busy)
        with trio.fail_after(1.0):
            assert await appear(stage) is None


async def test_who_waits_for_a_check_learns_that_its_answer_was_not_stored(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = checks.note

    def forgetful(unit: Unit, device_id: int, answers: Mapping[str, bool | None]) -> None:
        if True in answers.values():
            raise StorageBusyError("busy")
        note(unit, device_id, answers)

    await stage.link()
    stage.transport.answer = knowing_server
    monkeypatch.setattr("sitpayd.storage.checks.note", forgetful)
    async with stage.life():
        await stage.log_in()
        with trio.fail_after(1.0):
            assert await check(stage, FRIEND_PN.user) is None


def test_answer_that_nobody_waits_for_is_dropped() -> None:
    with ReplyChannel() as reply:
        pass
    reply.put(Done())
    reply.close()


async def test_first_answer_stands() -> None:
    with ReplyChannel() as reply:
        reply.put(Done())
        reply.put(NotNow())
        reply.close()
        assert await reply.wait() == Done()
        assert await reply.wait() is None


# --- presence and typing ---


def shown(line: Line) -> list[Node]:
    return [node for node in line.heard if node.tag in ("presence", "chatstate")]


async def test_presence_bears_the_name_of_the_account(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    await stage.database.write(account.set_fact, stage.device.id, "push_name", b"Ada @ the shop")
    async with stage.life():
        line = await stage.log_in()
        began = trio.current_time()
        assert await appear(stage) == Done(began + 60.0)
        assert stage.handle.is_available
        await trio.sleep(61.0)
        assert not stage.handle.is_available
    assert shown(line) == [
        presence.own_presence("Ada  the shop", available=True),
        presence.own_presence("Ada  the shop", available=False),
    ]


@pytest.mark.parametrize(
    ("told", "device_name", "name"),
    [
        (None, "John iPhone", "John iPhone"),
        (b"@", "John iPhone", "John iPhone"),
        (b"\xff\xfe", "John iPhone", "John iPhone"),
        (None, "@", "-"),
    ],
    ids=["unknown", "nothing left", "no text", "no name at all"],
)
async def test_presence_without_such_a_name_bears_the_devices(
    stage: Stage, autojump_clock: MockClock, told: bytes | None, device_name: str, name: str
) -> None:
    await stage.link()
    stage.handle.record = replace(stage.handle.record, name=device_name)
    if told is not None:
        await stage.database.write(account.set_fact, stage.device.id, "push_name", told)
    async with stage.life():
        line = await stage.log_in()
        await appear(stage)
    # The actor's end says goodbye.
    assert shown(line) == [
        presence.own_presence(name, available=True),
        presence.own_presence(name, available=False),
    ]


async def test_typing_is_shown_in_its_chat(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        began = trio.current_time()
        typed = await ask(stage, lambda reply: ShowTyping(FRIEND_LID, "composing", reply))
        assert typed == Done(began + 25.0)
        name = stage.device.name
        assert shown(line) == [
            presence.own_presence(name, available=True),
            presence.own_chat_state(FRIEND_LID, "composing"),
        ]
        await trio.sleep(26.0)
    assert shown(line)[2:] == [
        presence.own_chat_state(FRIEND_LID, "paused"),
        presence.own_presence(name, available=False),
    ]


async def incoming(line: Line, id: str) -> Node:
    """Let a message come in that needs no key, and return what answers it."""
    enc = Node("enc", {"type": "msg", "v": "2"}, b"\x33" + bytes(60))
    await line.say(Node("message", {"id": id, "from": FRIEND_LID, "t": str(SERVER_T)}, (enc,)))
    await wait_all_tasks_blocked()
    return line.heard[-1]


async def test_receipts_say_whether_the_device_is_online(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.link()
    # Every ciphertext counts as one that was seen: no key is needed to confirm it.
    monkeypatch.setattr("sitpayd.storage.inbox.seen_ciphertext", lambda *_: True)
    async with stage.life():
        line = await stage.log_in()
        assert (await incoming(line, "A")).text("type") == "inactive"
        await appear(stage)
        assert "type" not in (await incoming(line, "B")).attrs
        line.cut()
        line = await stage.log_in(2)
        assert (await incoming(line, "C")).text("type") == "inactive"


async def test_device_that_is_gone_soon_is_not_left_online(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    registry = DeviceRegistry()
    stage.handle = registry.expect(stage.device)
    async with stage.life():
        line = await stage.log_in()
        await registry.take_leave()
        assert shown(line) == []
        await appear(stage)
        await registry.take_leave()
        # What is written now is on its way, whatever ends next.
        assert [node.text("type") for node in shown(line)] == ["available", "unavailable"]


async def test_device_that_is_not_online_is_not_waited_for(stage: Stage) -> None:
    registry = DeviceRegistry()
    registry.expect(stage.device)
    with trio.fail_after(1.0):
        await registry.take_leave()


async def test_busy_device_does_not_hold_the_leave_up(
    stage: Stage, autojump_clock: MockClock
) -> None:
    registry = DeviceRegistry()
    handle = registry.expect(stage.device)
    handle.is_available = True
    for _ in range(MAILBOX_SIZE):
        handle.post(StartPairing())
    with trio.fail_after(1.0):
        await registry.take_leave()


async def test_paused_device_is_not_left_online(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await appear(stage)
        stage.handle.post(Pause())
        await line.ended.wait()
    assert [node.text("type") for node in shown(line)] == ["available", "unavailable"]


# --- read marks ---


async def receives(stage: Stage, *ids: str, sender: str = str(FRIEND_LID)) -> list[str]:
    """Store incoming messages; their ids here."""
    found = []
    for id in ids:
        message = Incoming(id, FRIEND_PN.user, sender, False, "Hi", datetime.now(UTC))
        await stage.database.write(
            inbox.receive, stage.device.id, message, sessions={}, identities={}
        )
        page = await stage.database.read(outbox.messages, stage.device.id)
        assert page is not None
        found.append(page.messages[-1].message_id)
    return found


async def reads(stage: Stage, message_id: str) -> None:
    """What the API does with a message that was read."""
    await stage.database.write(inbox.mark_read, stage.device.id, message_id, only=False)
    stage.handle.ring_for_reads()


def read_receipts(line: Line) -> list[Node]:
    return [node for node in line.heard if node.tag == "receipt" and node.text("type") == "read"]


def acknowledging(node: Node) -> list[Node]:
    if node.tag == "receipt":
        return [receipt.receipt_ack(node)]
    return kind_server(node)


async def test_read_messages_are_told_once(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    stage.transport.answer = acknowledging
    async with stage.life():
        line = await stage.log_in()
        *_, last = await receives(stage, "A1", "A2")
        await reads(stage, last)
        await wait_all_tasks_blocked()
        t = int(NOON.timestamp())
        assert read_receipts(line) == [receipt.read(["A1", "A2"], FRIEND_LID, t=t)]
        assert not await stage.database.read(inbox.owes_reads, stage.device.id)
        stage.handle.ring_for_reads()
        await wait_all_tasks_blocked()
        assert len(read_receipts(line)) == 1


async def test_what_was_read_without_a_connection_is_told_on_the_next_one(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        line.cut()
        await wait_all_tasks_blocked()
        await reads(stage, *await receives(stage, "A1"))
        line = await stage.log_in(2)
        await wait_all_tasks_blocked()
        assert len(read_receipts(line)) == 1


async def test_receipt_that_nobody_acknowledged_is_told_again_after_a_crash(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await reads(stage, *await receives(stage, "A1"))
        await wait_all_tasks_blocked()
        first = read_receipts(line)
        assert len(first) == 1
        assert await stage.database.read(inbox.owes_reads, stage.device.id)
    stage.transport.answer = acknowledging
    async with stage.life():
        line = await stage.log_in(2)
        await wait_all_tasks_blocked()
        assert read_receipts(line) == first
        assert not await stage.database.read(inbox.owes_reads, stage.device.id)


async def test_ring_that_found_no_room_is_heard(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        (message_id,) = await receives(stage, "A1")
        await stage.database.write(inbox.mark_read, stage.device.id, message_id, only=False)
        # One goes straight to the actor, which waits for it.
        for _ in range(1 + MAILBOX_SIZE):
            stage.handle.post(StartPairing())
        stage.handle.ring_for_reads()
        await wait_all_tasks_blocked()
        assert len(read_receipts(line)) == 1


async def test_more_marks_than_are_loaded_at_a_time_are_told(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sitpayd.actors.acquaintances.READS_AT_A_TIME", 2)
    await stage.link()
    stage.transport.answer = acknowledging
    async with stage.life():
        line = await stage.log_in()
        *_, last = await receives(stage, "A1", "A2", "A3", "A4", "A5")
        await reads(stage, last)
        await wait_all_tasks_blocked()
        told = [id for node in read_receipts(line) for id in receipt.parse_receipt(node).ids]
        assert told == ["A1", "A2", "A3", "A4", "A5"]
        assert not await stage.database.read(inbox.owes_reads, stage.device.id)

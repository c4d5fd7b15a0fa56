"""DeviceActor on an inline database and a network without sockets, under a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors import downloads
from sitpayd.actors.backoff import HEALTHY_AFTER_S
from sitpayd.actors.connector import Route
from sitpayd.actors.device import DeviceActor
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.events import LossKind, Lost, Received
from sitpayd.actors.messages import (
    Message,
    Network,
    PairingWish,
    Pause,
    Remove,
    Reroute,
    StartPairing,
)
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.registry import MAILBOX_SIZE, DeviceHandle, ShownCode
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.transport import MAX_OUTGOING
from sitpayd.actors.world import World
from sitpayd.storage import devices, outbox, people, phone, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.records import Rest, RowState, Told
from sitpayd.whatsapp import media
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.crypto import new_private_key
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas import (
    content,
    failure,
    iq,
    message,
    notification,
    pairing,
    pairing_code,
    prekeys,
    privacy,
    receipt,
    usync,
)
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from sitpayd.whatsapp.stanzas.login import Login, Registration
from tests.actors.builders import (
    FRIEND,
    FRIEND_LID,
    FRIEND_PN,
    OURSELVES,
    OWN_PN,
    PHONE,
    REFS,
    SERVER_T,
    bundle_of,
    some_identity,
    some_pair_success,
    success,
)
from tests.storage.builders import Tenant, a_message
from tests.support.transport import ROOT, FakeTransport, Line
from tests.support.waiting import eventually

RESTART = failure.stream_error(StreamError(515))
FRIENDS_IDENTITY = KeyPair.generate()
CODE_REF = b"3@ref"


def kind_server(node: Node) -> list[Node]:
    """What a server answers by itself that has nothing against us."""
    if node.tag == "message":
        return [receipt.message_ack(node, SERVER_T)]
    if node.tag != "iq" or node.text("type") == "result":
        return []
    if node.child("count") is not None:
        return [prekeys.count_answer(node, 100)]
    if node.child("digest") is not None:
        return [iq.result(node, Node("digest"))]
    if node.child("key") is not None:
        asked = prekeys.parse_bundles_query(node)
        return [prekeys.bundles_answer(node, dict.fromkeys(asked, bundle_of(FRIENDS_IDENTITY)))]
    if node.child("usync") is not None:
        return [usync.answer(node, [FRIEND, OURSELVES])]
    return [iq.result(node)]


class Stage:
    """A world with one device in it."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self.database, self.device = database, tenant.device
        self.transport = FakeTransport(lambda: datetime.now(UTC).timestamp())
        self.transport.answer = kind_server
        self.world = World(
            database=database,
            board=StatusBoard(),
            outcomes=Outcomes(),
            url="ws://nowhere",
            root_key=ROOT.public_key,
            limits=None,
            bucket=DialBucket(),
            keygen=trio.CapacityLimiter(1),
            converse=self.transport.converse,
        )
        self.handle = DeviceHandle(self.device)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """One life of the actor, which ends with the block at the latest."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.world.alarms.run)
            nursery.start_soon(DeviceActor(self.handle, self.world).run)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    async def link(self) -> DeviceKeys:
        """Give the device an identity, as an earlier life did."""
        keys = DeviceKeys.generate()
        credentials = Credentials(keys, some_identity(keys))
        await self.database.write(sessions.save_credentials, self.device.id, credentials.to_bytes())
        if not await self.database.read(sessions.uploaded_prekeys, self.device.id, 1):
            # Enough of those that the server counts: nothing is made anew.
            uploaded = [(key_id, new_private_key()) for key_id in range(1, 6)]
            await self.database.write(sessions.add_prekeys, self.device.id, uploaded)
            await self.database.write(sessions.mark_uploaded, self.device.id, range(1, 6))
        return keys

    async def log_in(self, count: int = 1) -> Line:
        """Welcome the device on its `count`th connection and see it connected."""
        line = await self.transport.dialled(count)
        await line.say(success())
        await wait_all_tasks_blocked()
        assert self.status == ("connected", None)
        return line

    async def accept(self) -> str:
        """Put a message into the outbox; gives its id."""
        new = a_message(self.device, recipient=FRIEND_PN.user, expires_at=far_away())
        await self.database.write(outbox.accept, new)
        return new.message_id

    async def send(self) -> str:
        """What the API does with a message; gives its id."""
        message_id = await self.accept()
        self.handle.ring()
        return message_id

    async def state_of(self, message_id: str) -> str:
        view = await self.database.read(outbox.message, self.device.id, message_id)
        assert view is not None
        return view.state

    async def credentials(self) -> Credentials | None:
        stored = await self.database.read(sessions.load_credentials, self.device.id)
        return None if stored is None else Credentials.from_bytes(stored)

    @property
    def status(self) -> tuple[str, str | None]:
        known = self.world.board.get(self.device.session_id)
        assert known is not None
        return known.status, known.reason


def far_away() -> datetime:
    return datetime.now(UTC) + timedelta(days=400)


@pytest.fixture
def stage(database: Database, tenant: Tenant) -> Stage:
    return Stage(database, tenant)


# --- linking ---


async def show_code(stage: Stage) -> Line:
    stage.handle.post(StartPairing())
    line = await stage.transport.dialled(1)
    await line.say(pairing.pair_device("X", REFS))
    await wait_all_tasks_blocked()
    return line


async def test_device_without_identity_waits_for_people(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.life():
        await trio.sleep(3600.0)
        assert stage.status == ("unpaired", None)
        assert stage.transport.lines == []


async def test_code_is_shown_with_its_end(stage: Stage, autojump_clock: MockClock) -> None:
    async with stage.life():
        line = await show_code(stage)
        assert isinstance(line.payload, Registration)
        credentials = await stage.credentials()
        assert credentials is not None
        assert stage.handle.qr is not None
        assert stage.handle.qr.text == pairing.qr_text("ref-1", credentials.keys)
        left = stage.handle.qr.expires_at - datetime.now(UTC)
        assert timedelta(seconds=50) < left <= timedelta(seconds=60)
        assert stage.status == ("pairing", None)


async def test_code_to_be_typed_is_shown_and_links_the_device(stage: Stage) -> None:
    wish = PairingWish(forced=True, phone=OWN_PN.user)
    ephemeral = KeyPair.generate()
    stage.transport.answer = server = ServerWithCodes()
    async with stage.life():
        stage.handle.post(StartPairing(wish))
        line = await stage.transport.dialled(1)
        await line.say(pairing.pair_device("X", REFS))
        code = await shown_code(stage)
        assert (code.phone, stage.handle.pairs) == (OWN_PN.user, True)
        left = code.expires_at - datetime.now(UTC)
        assert timedelta(seconds=150) < left <= timedelta(seconds=160)

        assert server.hello is not None
        assert server.hello.display == "Chrome (Mac OS)"
        typed = pairing_code.parse_code(code.text)
        companion, word = pairing_code.answer_hello(
            typed, server.hello.wrapped, CODE_REF, ephemeral, PHONE.public_key
        )
        await line.say(pairing_code.primary_hello("N", word, t=SERVER_T))
        await server.finished.wait()
        assert server.finish is not None
        assert (stage.handle.qr, stage.handle.code) == (None, None)

        secret = pairing_code.open_finish(server.finish, companion, ephemeral, PHONE)
        credentials = await stage.credentials()
        assert credentials is not None
        await line.say(some_pair_success(replace(credentials.keys, adv_secret=secret)))
        await wait_all_tasks_blocked()
        assert stage.status == ("paired", None)
        assert not stage.handle.pairs
        history = [event.text for event in stage.handle.recorder.events()]
        assert "A pairing code was typed on a phone." in history
        assert code.text not in "".join(history)


class ServerWithCodes:
    """A kind server, which knows of pairing codes; `finish` is set with a device's answer."""

    def __init__(self) -> None:
        self.hello: pairing_code.CompanionHello | None = None
        self.finish: pairing_code.CompanionFinish | None = None
        self.finished = trio.Event()

    def __call__(self, node: Node) -> list[Node]:
        if not pairing_code.is_pairing_code(node):
            return kind_server(node)
        match pairing_code.parse_companion(node):
            case pairing_code.CompanionHello() as hello:
                self.hello = hello
                return [pairing_code.ref_answer(node, CODE_REF)]
            case finish:
                self.finish = finish
                self.finished.set()
                return [iq.result(node)]


async def shown_code(stage: Stage) -> ShownCode:
    """The pairing code, once it is shown: a thread makes it."""
    while stage.handle.code is None:
        await stage.handle.changed()
    return stage.handle.code


async def test_codes_that_nobody_scans_expire(stage: Stage, autojump_clock: MockClock) -> None:
    async with stage.life():
        line = await show_code(stage)
        await line.ended.wait()
        await wait_all_tasks_blocked()
        assert 160.0 <= trio.current_time() <= 161.0
        assert stage.handle.qr is None
        assert stage.status == ("unpaired", "qr_expired")


async def test_scanned_code_links_and_connects_the_device(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.life():
        line = await show_code(stage)
        before = await stage.credentials()
        assert before is not None
        await line.say(some_pair_success(before.keys))
        await wait_all_tasks_blocked()
        assert stage.status == ("paired", None)
        assert stage.handle.qr is None
        after = await stage.credentials()
        assert after is not None
        assert after.paired is not None
        assert line.heard[-1].child("pair-device-sign") is not None
        await line.say(RESTART)
        second = await stage.log_in(2)
        assert isinstance(second.payload, Login)
        assert (second.payload.user, second.payload.device) == (OWN_PN.user, OWN_PN.device)


async def test_identity_is_committed_before_the_reply_leaves(
    stage: Stage, autojump_clock: MockClock
) -> None:
    committed = []

    async def look(node: Node) -> None:
        if node.child("pair-device-sign") is not None:
            credentials = await stage.credentials()
            committed.append(credentials is not None and credentials.paired is not None)

    async with stage.life():
        line = await show_code(stage)
        before = await stage.credentials()
        assert before is not None
        async with trio.open_nursery() as nursery:

            def answer(node: Node) -> list[Node]:
                nursery.start_soon(look, node)
                return []

            stage.transport.answer = answer
            await line.say(some_pair_success(before.keys))
            await wait_all_tasks_blocked()
    assert committed == [True]


# --- connected ---


async def test_linked_device_connects_by_itself(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        assert isinstance(line.payload, Login)


async def test_message_is_sent_and_told(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        message_id = await stage.send()
        with stage.world.outcomes.watch(message_id) as watch, trio.fail_after(5.0):
            while watch.state is not RowState.SENT:
                await watch.changed()
        (sent,) = (node for node in line.heard if node.tag == "message")
        assert message.parse_outgoing(sent).to == FRIEND_LID
        assert await stage.state_of(message_id) == "sent"


async def test_message_that_waits_goes_when_the_device_connects(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    message_id = await stage.send()
    async with stage.life():
        await stage.log_in()
        assert await stage.state_of(message_id) == "sent"


async def test_doorbell_that_found_no_room_is_heard(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        message_id = await stage.accept()
        # One goes straight to the actor, which waits for it.
        for _ in range(1 + MAILBOX_SIZE):
            stage.handle.post(StartPairing())
        stage.handle.ring()
        began = trio.current_time()
        with stage.world.outcomes.watch(message_id) as watch:
            while watch.state is not RowState.SENT:
                await watch.changed()
        # Not by the next ping, with which the machine looks for rows as well.
        assert trio.current_time() - began < 1.0
        assert await stage.state_of(message_id) == "sent"


async def test_unacknowledged_message_is_written_again_with_the_same_bytes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.transport.answer = lambda node: [] if node.tag == "message" else kind_server(node)
    async with stage.life():
        first = await stage.log_in()
        message_id = await stage.send()
        await wait_all_tasks_blocked()
        assert await stage.state_of(message_id) == "armed"
        first.cut()
        stage.transport.answer = kind_server
        second = await stage.log_in(2)
        assert first.heard[-1] == next(node for node in second.heard if node.tag == "message")
        assert await stage.state_of(message_id) == "sent"


async def test_incoming_message_is_answered(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        node = Node("message", {"id": "M", "from": FRIEND_LID, "t": str(SERVER_T)})
        await line.say(node)
        await wait_all_tasks_blocked()
        assert line.heard[-1].tag == "ack"


async def sent_message(stage: Stage, line: Line) -> tuple[str, Node]:
    """A message that the server has taken: its id and its stanza."""
    message_id = await stage.send()
    await wait_all_tasks_blocked()
    return message_id, next(node for node in reversed(line.heard) if node.tag == "message")


async def test_receipt_moves_its_row_and_is_acknowledged(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        message_id, sent = await sent_message(stage, line)
        read: dict[str, str | Jid] = {
            "id": sent.required_text("id"),
            "from": FRIEND_LID,
            "type": "read",
        }
        await line.say(Node("receipt", read))
        await wait_all_tasks_blocked()
        assert await stage.state_of(message_id) == "read"
        assert (line.heard[-1].tag, line.heard[-1].text("class")) == ("ack", "receipt")


async def test_device_that_could_not_read_is_sent_the_message_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        _, sent = await sent_message(stage, line)
        attrs: dict[str, str | Jid] = {
            "id": sent.required_text("id"),
            "from": FRIEND_LID,
            "type": "retry",
        }
        await line.say(Node("receipt", attrs, (Node("retry", {"count": "1"}),)))
        await wait_all_tasks_blocked()
        again, ack = line.heard[-2:]
        assert (again.text("id"), again.text("device_fanout")) == (sent.text("id"), "false")
        assert ack.tag == "ack"


async def test_changed_identity_costs_the_sessions(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await sent_message(stage, line)
        changed = notification.IdentityChanged(FRIEND_LID)
        await line.say(notification.notification("N", changed, t=SERVER_T))
        await sent_message(stage, line)
        fetched = [node for node in line.heard if node.child("key") is not None]
        assert len(fetched) == 2


async def test_ack_of_an_unknown_message_disturbs_nothing(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await line.say(Node("ack", {"class": "message", "id": "unknown"}))
        message_id, _ = await sent_message(stage, line)
        assert await stage.state_of(message_id) == "sent"


async def test_message_that_goes_too_fast_waits_and_says_so(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.world = replace(stage.world, limits=PacingLimits())
    async with stage.life():
        line = await stage.log_in()
        await sent_message(stage, line)
        message_id = await stage.send()
        with stage.world.outcomes.watch(message_id) as watch, trio.fail_after(2.1):
            await watch.changed()
            assert (watch.state, watch.reason) == (RowState.ACCEPTED, "paced")
            await watch.changed()
            assert watch.state is RowState.SENT


# Without a mock clock: keys are made in a thread, and the clock would jump beside it.
async def test_first_prekeys_are_uploaded_and_marked(stage: Stage) -> None:
    keys = await stage.link()
    uploaded = trio.Event()

    def answer(node: Node) -> list[Node]:
        if node.child("count") is not None:
            return [prekeys.count_answer(node, 0)]
        if node.child("skey") is not None:
            upload = prekeys.parse_upload(node)
            assert (upload.identity, len(upload.prekeys)) == (keys.identity.public_key, 812)
            uploaded.set()
        return kind_server(node)

    stage.transport.answer = answer
    async with stage.life():
        line = await stage.transport.dialled(1)
        await line.say(success())
        with trio.fail_after(30.0):
            await uploaded.wait()
        await wait_all_tasks_blocked()
    assert await stage.database.read(sessions.prekeys_not_uploaded, stage.device.id) == []


async def test_lost_connection_is_dialled_again_after_a_while(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        line.cut()
        await wait_all_tasks_blocked()
        assert stage.status == ("waiting", "network")
        await stage.log_in(2)


async def test_silent_server_is_left_and_dialled_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        stage.transport.answer = lambda node: []
        await line.ended.wait()
        assert trio.current_time() <= 46.0
        await stage.transport.dialled(2)


async def test_history_tells_how_the_connection_was_lost_and_when_it_dials_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.answer = lambda node: []
        while stage.status[0] == "connected":
            await stage.handle.changed()
        told = stage.world.board.get(stage.device.session_id)
        events = stage.handle.recorder.events()
    assert told is not None
    assert told.until is not None
    planned_s = (told.until - told.since).total_seconds()
    assert [(event.kind.value, event.detail) for event in reversed(events)] == [
        ("phase", "connecting"),
        ("dial", None),
        ("opened", None),
        ("login", None),
        ("phase", "connected"),
        ("ping_unanswered", None),
        ("phase", "waiting: no_answer"),
        ("backoff", f"{planned_s:.0f}"),
    ]


async def test_pong_proves_life_without_waking_the_actor(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        handed_in: list[str | None] = []
        with pytest.MonkeyPatch.context() as patch:
            deliver = DeviceHandle.deliver

            async def watched(handle: DeviceHandle, message: Message) -> None:
                assert isinstance(message, Network)
                assert isinstance(message.event, Received)
                handed_in.append(message.event.node.text("id"))
                await deliver(handle, message)

            patch.setattr(DeviceHandle, "deliver", watched)
            # Forty pings and more, each answered: the connection lives on.
            await trio.sleep(1200.0)
        pings = {node.required_text("id") for node in line.heard if node.text("xmlns") == "w:p"}
        assert len(pings) >= 40
        # One may come while the actor looks at the clock; it is handed in like anything else.
        assert len(pings.intersection(handed_in)) <= 2
        assert stage.status == ("connected", None)
        proof = stage.handle.proof
        assert proof is not None
        assert proof.kind == "pong"
        assert trio.current_time() - proof.at <= 30.0


async def test_who_waits_for_the_network_is_brought_along_by_who_gets_through(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await trio.sleep(HEALTHY_AFTER_S)
        stage.transport.refusals = [Lost(LossKind.NETWORK, "")] * 6
        line.cut()
        while stage.transport.refusals:
            await stage.handle.changed()
        await wait_all_tasks_blocked()
        began = trio.current_time()
        stage.world.comeback.got_through()
        await stage.transport.dialled(2)
        assert trio.current_time() - began <= 1.0


async def test_half_open_socket_is_found_within_70_s(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """F-14: a peer that is gone without a word; the stream swallows what is written."""
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.answer = lambda node: []
        silent_at = trio.current_time()
        proof = stage.handle.proof
        assert proof is not None
        assert proof.kind == "pong"
        while stage.status[0] == "connected":
            await stage.handle.changed()
        assert trio.current_time() - silent_at <= 70.0
        assert stage.handle.proof == proof


async def test_linked_number_is_known_to_the_handle(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.life():
        line = await show_code(stage)
        credentials = await stage.credentials()
        assert credentials is not None
        await line.say(some_pair_success(credentials.keys))
        await wait_all_tasks_blocked()
        assert stage.handle.record.phone == OWN_PN.user
        kinds = [event.kind.value for event in stage.handle.recorder.events()]
    assert {"linked", "qr_round", "operation"} <= set(kinds)


async def test_resting_device_remembers_why_and_stays_down(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.transport.dialled(1)
        await line.say(failure.failure(ConnectFailure(402, expire_s=3600)))
        await trio.sleep(3600.0)
        assert len(stage.transport.lines) == 1
    told = stage.world.board.get(stage.device.session_id)
    assert told is not None
    assert (told.status, told.reason) == ("banned", "temporary_ban")
    assert told.until is not None
    record = await stage.database.read(devices.device_by_id, stage.device.id)
    assert record is not None
    assert record.rest is not None
    assert record.rest.until is not None
    async with stage.life():
        again = stage.world.board.get(stage.device.session_id)
        assert again is not None
        assert (again.status, again.reason) == (told.status, told.reason)
        assert again.since - told.since < timedelta(seconds=1)
        assert again.until is not None
        assert again.until - told.until < timedelta(seconds=1)
        assert len(stage.transport.lines) == 1


async def test_rest_is_told_with_the_time_it_began(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    began = datetime(2026, 1, 1, tzinfo=UTC)
    rest = Rest("replaced", "replaced", began)
    await stage.database.write(devices.set_rest, stage.device.id, rest)
    async with stage.life():
        told = stage.world.board.get(stage.device.session_id)
        assert told is not None
        assert told.since == began


async def test_restored_device_is_linked_anew(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    rest = Rest("logged_out", "logged_out", datetime(2026, 1, 1, tzinfo=UTC))
    await stage.database.write(devices.set_rest, stage.device.id, rest)
    async with stage.life():
        await show_code(stage)
        record = await stage.database.read(devices.device_by_id, stage.device.id)
        assert record is not None
        assert record.rest is None


async def test_ban_without_end_in_sight_crashes_nobody(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.transport.dialled(1)
        await line.say(failure.failure(ConnectFailure(402, expire_s=10**19)))
        await wait_all_tasks_blocked()
        assert stage.status == ("banned", "temporary_ban")


# --- one connection at a time ---


async def test_restart_dials_behind_the_end_of_the_old_connection(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await line.say(RESTART)
        await stage.transport.dialled(2)
        assert line.ended.is_set()


async def test_next_connection_waits_for_the_end_of_the_last(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        stage.transport.stalled = True
        await line.say(Node("call", {"id": "C", "from": FRIEND_LID}), RESTART)
        await trio.sleep(20.0)
        assert len(stage.transport.lines) == 1
        line.cut()
        stage.transport.stalled = False
        await stage.log_in(2)


async def test_full_mailbox_does_not_keep_the_device_from_dialling(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await line.say(RESTART)
        for _ in range(MAILBOX_SIZE):
            stage.handle.ring()
        # The server closes: a report that finds no room, while the actor wants to dial.
        line.cut(LossKind.CLOSED)
        with trio.fail_after(60.0):
            await stage.transport.dialled(2)


async def test_old_connection_has_no_say(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await line.say(RESTART)
        await stage.log_in(2)
        await line.say(failure.stream_error(StreamError(401, conflict="device_removed")))
        await wait_all_tasks_blocked()
        assert stage.status == ("connected", None)


async def test_connection_of_an_earlier_life_has_no_say(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
    removed = failure.stream_error(StreamError(401, conflict="device_removed"))
    for generation in range(stage.handle.generation + 1):
        stage.handle.post(Network(generation, Received(removed)))
        stage.handle.post(Network(generation, Lost(LossKind.NETWORK, "")))
    async with stage.life():
        await stage.log_in(2)


async def test_unlinked_device_forgets_the_connection_of_an_earlier_life(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.life():
        await show_code(stage)
        generation = stage.handle.generation
    stage.handle.post(Network(generation, Lost(LossKind.NETWORK, "")))
    async with stage.life():
        await wait_all_tasks_blocked()
        assert stage.status == ("unpaired", None)


async def test_socket_that_takes_nothing_is_given_up(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        stage.transport.stalled = True
        for number in range(MAX_OUTGOING + 2):
            await line.say(Node("call", {"id": str(number), "from": FRIEND_LID}))
        await wait_all_tasks_blocked()
        assert stage.status == ("waiting", "network")
        line.cut()
        stage.transport.stalled = False
        await stage.log_in(2)


async def test_stanza_for_a_connection_that_has_ended_is_dropped(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        line.lost = None
        line._cut.cancel()
        await line.ended.wait()
        for number in range(MAX_OUTGOING + 2):
            await line.say(Node("call", {"id": str(number), "from": FRIEND_LID}))
        await wait_all_tasks_blocked()
        assert stage.status == ("connected", None)


# --- leaving ---


async def test_removed_device_is_logged_out_and_its_actor_returns(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await stage.database.write(devices.remove_device, stage.device.id)
        stage.handle.post(Remove())
        await line.ended.wait()
        await wait_all_tasks_blocked()
    assert line.heard[-1].child("remove-companion-device") is not None
    assert await stage.credentials() is None


async def test_actor_of_a_removed_device_returns(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    await stage.database.write(devices.remove_device, stage.device.id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DeviceActor(stage.handle, stage.world).run)
        line = await stage.transport.dialled(1)
        await line.say(success())
    assert await stage.credentials() is None
    assert stage.world.board.get(stage.device.session_id) is None


async def test_goodbye_does_not_hold_the_actor_up(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DeviceActor(stage.handle, stage.world).run)
        line = await stage.log_in()
        began = trio.current_time()
        stage.transport.stalled = True
        stage.handle.post(Remove())
        await wait_all_tasks_blocked()
        await line.say(failure.stream_error(StreamError(401, conflict="device_removed")))
    assert trio.current_time() - began == pytest.approx(2.0)


# --- crashes ---


def crashing(node: Node) -> list[Node]:
    raise ZeroDivisionError(node.tag)


async def test_crash_leaves_the_actor_and_takes_the_code_away(
    stage: Stage, autojump_clock: MockClock
) -> None:
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with stage.life():
            line = await show_code(stage)
            assert stage.handle.qr is not None
            stage.transport.answer = crashing
            await line.say(iq.server_ping("P"))
            await wait_all_tasks_blocked()
    assert stage.handle.qr is None


async def test_paused_device_does_not_dial(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    await stage.database.write(devices.set_desired, stage.device.id, "paused")
    async with stage.life():
        await trio.sleep(600.0)
        assert stage.status == ("paused", None)
        assert stage.transport.lines == []


# --- what the phone tells ---


PAIR = pb.PhoneNumberToLIDMapping(pnJid=str(FRIEND_PN), lidJid=str(FRIEND_LID))
A_HISTORY = pb.HistorySync(
    phoneNumberToLidMappings=[PAIR],
    conversations=[
        pb.Conversation(id=str(FRIEND_LID), tcToken=b"token", tcTokenTimestamp=SERVER_T)
    ],
).SerializeToString()


async def told_before(stage: Stage, message: bytes) -> None:
    """Let the phone have told something in an earlier life."""
    notice = content.parse_message(message).notice
    await stage.database.write(phone.keep_told, stage.device.id, "3EB0", Told(notice=notice))


async def no_notice_waits(stage: Stage) -> None:
    async def look() -> bool:
        return not await stage.database.read(phone.has_notices, stage.device.id)

    await eventually(look, "no notice waits")


async def test_notice_of_an_earlier_life_is_read_when_the_device_connects(stage: Stage) -> None:
    await stage.link()
    await told_before(stage, content.inline_history_sync(A_HISTORY))
    async with stage.life():
        assert await stage.database.read(phone.has_notices, stage.device.id)
        await stage.log_in()
        await no_notice_waits(stage)
    read, device_id = stage.database.read, stage.device.id
    assert await read(sessions.lid_of, device_id, FRIEND_PN.user) == FRIEND_LID.user
    standing = await read(people.standing, device_id, str(FRIEND_PN))
    assert standing.token is not None


async def test_message_to_a_friend_carries_its_token_and_gives_it_ours(stage: Stage) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        given = notification.PrivacyToken(FRIEND_LID, None, b"token", SERVER_T)
        await line.say(notification.notification("N", given, t=SERVER_T))
        await wait_all_tasks_blocked()
        message_id = await stage.send()
        await wait_all_tasks_blocked()
        assert await stage.state_of(message_id) == "sent"
    (sent,) = [node for node in line.heard if node.tag == "message"]
    assert sent.children[-1] == Node("tctoken", {}, b"token")
    (give,) = [node for node in line.heard if node.child("tokens") is not None]
    ((to, t),) = privacy.parse_give(give)
    standing = await stage.database.read(people.standing, stage.device.id, str(FRIEND_LID))
    assert (to, standing.given_t) == (FRIEND_LID, t)


async def test_history_that_cannot_be_read_is_told_in_the_devices_history(stage: Stage) -> None:
    await stage.link()
    broken = pb.Message.FromString(content.inline_history_sync(b""))
    notice = broken.protocolMessage.historySyncNotification
    notice.initialHistBootstrapInlinePayload = b"secret"
    await told_before(stage, broken.SerializeToString())
    async with stage.life():
        await stage.log_in()
        await no_notice_waits(stage)
        told = [event.text for event in stage.handle.recorder.events()]
    assert "What the phone told about its chats could not be read: not deflated." in told


@pytest.mark.parametrize("end", ["pause", "reroute"])
async def test_device_that_stops_fetches_nothing_more(
    stage: Stage, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled, left = trio.Event(), trio.Event()

    async def dial(route: Route) -> trio.SocketStream:
        dialled.set()
        try:
            await trio.sleep_forever()
        finally:
            left.set()
        raise AssertionError

    monkeypatch.setattr(downloads, "open_stream", dial)
    await stage.link()
    file = media.media_file("/v", bytes(32), bytes(32), bytes(32), 9)
    await told_before(stage, content.history_sync_at(file))
    async with stage.life():
        await stage.log_in()
        await dialled.wait()
        stage.handle.post(Pause() if end == "pause" else Reroute())
        await left.wait()
    assert await stage.database.read(phone.has_notices, stage.device.id)

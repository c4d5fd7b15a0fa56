"""Days offline: thousands of stanzas wait, and come through a few at a time, each in its order."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.backlog import BATCH
from sitpayd.storage import inbox
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.signal import session as signal
from sitpayd.whatsapp.signal.record import SessionRecord
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import ib, iq
from sitpayd.whatsapp.stanzas.content import pad, text_message
from sitpayd.whatsapp.stanzas.message import PADDED_VERSION
from tests.actors.builders import SERVER_T
from tests.actors.test_device import Stage, kind_server, stage
from tests.support.transport import Line

__all__ = ["stage"]  # the fixture

PEOPLE = 4
STANZAS = 2000
# So many may be on their way, however many there are.
FEW = STANZAS // 10
# What one stanza of the test and its answer take, with room; a whole backlog takes many times that.
STANZA_LEN = 4096


class Person:
    """Somebody who writes to the device, and has its keys."""

    def __init__(self, number: int, keys: DeviceKeys) -> None:
        self.jid = lid(f"20000000000000{number}")
        self._identity = KeyPair.generate()
        signed = keys.signed_prekey
        bundle = PreKeyBundle(
            keys.registration_id,
            keys.identity.public_key,
            signed.key_id,
            signed.key_pair.public_key,
            signed.signature,
            None,
            None,
        )
        self._record: SessionRecord = signal.start(bundle, self._identity)

    def says(self, text: str, **attrs: str) -> Node:
        """A message with this text, as the server hands it out."""
        plaintext = pad(text_message(text))
        encrypted = signal.encrypt(self._record, self._identity, 4711, plaintext)
        self._record = encrypted.record
        enc = Node("enc", {"v": str(PADDED_VERSION), "type": encrypted.kind}, encrypted.body)
        named: dict[str, str | Jid] = {"id": text, "from": self.jid, "t": str(SERVER_T), **attrs}
        return Node("message", named, (enc,))


@dataclass
class Server:
    """A server that holds a backlog back, and counts what is on its way.

    Attributes:
        waiting: the backlog, made as it is handed out.
        left: how much of it there is.
        batches: how much was asked for, each time.
        on_its_way: ids that were handed out and are not answered; most: how many there were.
        answered: ids in the order of their answers.
    """

    waiting: Iterator[Node]
    left: int
    batches: list[int] = field(default_factory=list)
    on_its_way: set[str] = field(default_factory=set)
    most: int = 0
    answered: list[str] = field(default_factory=list)

    def __call__(self, node: Node) -> list[Node]:
        if node.tag in ("receipt", "ack"):
            self.on_its_way.discard(node.required_text("id"))
            self.answered.append(node.required_text("id"))
        count = iq.parse_offline_batch(node) if node.tag == "ib" else None
        if count is None:
            return kind_server(node)
        self.batches.append(count)
        return [self.hand_out() for _ in range(min(count, self.left))]

    def hand_out(self) -> Node:
        self.left -= 1
        node = next(self.waiting)
        self.on_its_way.add(node.required_text("id"))
        self.most = max(self.most, len(self.on_its_way))
        return node


def written(people: list[Person], count: int) -> Iterator[Node]:
    """Texts of all people by turns, numbered; with receipts and notifications between."""
    for number in range(count):
        person = people[number % len(people)]
        id, offline = f"{number % len(people)}-{number}", str(number)
        if number % 10 == 7:
            attrs: dict[str, Attr] = {"id": id, "from": person.jid, "type": "picture"}
            yield Node("notification", {**attrs, "offline": offline})
        elif number % 10 == 8:
            yield Node("receipt", {"id": id, "from": person.jid, "offline": offline})
        else:
            yield person.says(id, offline=offline)


async def texts(stage: Stage) -> list[str]:
    found = await stage.database.read(inbox.messages_after, stage.device.id, 0, 10 * STANZAS)
    return [view.text or "" for _, view in found]


def in_order(ids: list[str]) -> bool:
    """Whether each person's stanzas stand in the order in which they were written."""
    for person in range(PEOPLE):
        numbers = [int(id.split("-")[1]) for id in ids if id.startswith(f"{person}-")]
        if numbers != sorted(numbers):
            return False
    return True


async def test_backlog_comes_in_batches_and_each_chat_in_its_order(
    stage: Stage, autojump_clock: MockClock
) -> None:
    keys = await stage.link()
    people = [Person(number, keys) for number in range(PEOPLE)]
    server = Server(written(people, STANZAS), STANZAS)
    stage.transport.answer = server
    async with stage.life():
        line = await stage.log_in()
        await line.say(ib.ib(ib.OfflinePreview(STANZAS)))
        await wait_all_tasks_blocked()
    assert server.batches == [BATCH] * (STANZAS // BATCH)
    assert server.most <= BATCH + 1 < FEW
    assert len(server.answered) == STANZAS
    assert in_order(server.answered)
    stored = await texts(stage)
    assert len(stored) == len(set(stored)) == STANZAS * 8 // 10
    assert in_order(stored)


async def test_live_messages_and_sends_go_on_while_the_backlog_comes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    keys = await stage.link()
    people = [Person(number, keys) for number in range(PEOPLE)]
    live = Person(9, keys)
    server = Server(written(people, STANZAS), STANZAS)
    stage.transport.answer = server
    async with stage.life():
        line = await stage.log_in()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.say, ib.ib(ib.OfflinePreview(STANZAS)))
            while len(server.answered) < STANZAS // 4:
                await trio.lowlevel.checkpoint()
            await line.say(live.says("live"))
            message_id = await stage.send()
        while "live" not in server.answered:
            await trio.lowlevel.checkpoint()
        assert server.left > STANZAS // 4
        while await stage.state_of(message_id) != "sent":
            await trio.lowlevel.checkpoint()
        assert server.left > 0
        await wait_all_tasks_blocked()
    assert len(server.answered) == STANZAS + 1


async def test_backlog_whose_end_never_comes_holds_nothing_up(
    stage: Stage, autojump_clock: MockClock
) -> None:
    keys = await stage.link()
    server = Server(written([Person(0, keys)], 50), 50)
    stage.transport.answer = server
    async with stage.life():
        line = await stage.log_in()
        await line.say(ib.ib(ib.OfflinePreview(500)))
        await trio.sleep(60.0)
        message_id = await stage.send()
        await wait_all_tasks_blocked()
        assert await stage.state_of(message_id) == "sent"
        assert stage.status == ("connected", None)
    assert len(server.answered) == 50


async def push(line: Line, server: Server) -> None:
    """Hand out all, unasked, as fast as it is taken."""
    while server.left:
        await line.say(server.hand_out())


async def test_server_that_pushes_all_waits_for_room_and_memory_stays_small(
    stage: Stage, autojump_clock: MockClock
) -> None:
    keys = await stage.link()
    people = [Person(number, keys) for number in range(PEOPLE)]
    server = Server(written(people, STANZAS), STANZAS)
    stage.transport.answer = server
    async with stage.life():
        line = await stage.log_in()
        for _ in range(200):  # caches and the like fill up
            await line.say(server.hand_out())
        await wait_all_tasks_blocked()
        line.heard.clear()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(push, line, server)
                while len(server.answered) < STANZAS:
                    line.heard.clear()
                    await trio.lowlevel.checkpoint()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # In the mailbox, in hand, and among the answers that are not written yet.
    assert server.most < FEW
    assert peak - before < FEW * STANZA_LEN
    assert in_order(await texts(stage))


@pytest.mark.parametrize("tag", ["message", "receipt", "notification", "call"])
async def test_every_kind_of_stanza_of_a_backlog_is_answered(
    stage: Stage, tag: str, autojump_clock: MockClock
) -> None:
    keys = await stage.link()
    async with stage.life():
        line = await stage.log_in()
        person = Person(0, keys)
        node = person.says("S", offline="0")
        if tag != "message":
            node = Node(tag, {"id": "S", "from": person.jid, "offline": "0", "type": "picture"})
        await line.say(node)
        await wait_all_tasks_blocked()
    assert [heard.text("id") for heard in line.heard].count("S") == 1

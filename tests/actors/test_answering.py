"""A stanza whose effect is not stored gets no answer, and comes again with the next login."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.errors import StorageFullError
from sitpayd.storage.account import fact
from sitpayd.storage.database import Database
from sitpayd.storage.records import DIRTY_FACT, ROUTING_FACT
from sitpayd.whatsapp.jid import GROUP_SERVER, SERVER_JID, Jid
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas import ib, notification
from tests.actors.builders import FRIEND_LID, OWN_LID, OWN_PN, SERVER_T
from tests.actors.test_device import Stage, stage
from tests.support.transport import Line

__all__ = ["stage"]  # the fixture

WITHIN_S = 10.0


def told(op_name: str, value: object) -> Node:
    update = Node("update", {"op_name": op_name}, json.dumps({"data": value}).encode())
    attrs: dict[str, Attr] = {"id": "S", "from": SERVER_JID, "type": "mex", "t": str(SERVER_T)}
    return Node("notification", attrs, (update,))


STANZAS = {
    "message": Node(
        "message",
        {"id": "S", "from": FRIEND_LID, "sender_pn": OWN_LID, "t": str(SERVER_T)},
        (Node("enc", {"v": "2", "type": "msg"}, b"not to be read"),),
    ),
    "receipt": Node("receipt", {"id": "S", "from": FRIEND_LID, "type": "read", "t": "7"}),
    "identity": notification.notification(
        "S", notification.IdentityChanged(FRIEND_LID), t=SERVER_T
    ),
    "server_sync": notification.notification(
        "S", notification.AppStateChanged((("regular", 3),)), t=SERVER_T, from_=OWN_LID.bare
    ),
    "timelock": told("NotificationUserReachoutTimelockUpdate", {"is_active": True}),
    "capping": told("MessageCappingInfoNotification", {"capping_status": "CAPPED"}),
}


@dataclass
class Disk:
    """Whether the database takes what is written."""

    is_full: bool = False

    @contextmanager
    def full(self) -> Iterator[None]:
        self.is_full = True
        yield
        self.is_full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk, write = Disk(), Database.write

    async def limited(
        self: Database, operation: Callable[..., object], *arguments: object, **named: object
    ) -> object:
        await trio.lowlevel.checkpoint()
        if disk.is_full:
            raise StorageFullError("no space left")
        return await write(self, operation, *arguments, **named)

    monkeypatch.setattr(Database, "write", limited)
    return disk


@pytest.fixture
async def line(stage: Stage) -> AsyncIterator[Line]:
    await stage.link()
    async with stage.life():
        yield await stage.log_in()


def answers(line: Line) -> list[Node]:
    return [
        node for node in line.heard if node.text("id") == "S" and node.tag in ("ack", "receipt")
    ]


@pytest.mark.parametrize(
    ("from_", "child"),
    [
        (Jid("12036", "newsletter"), Node("plaintext", {}, b"news")),
        (FRIEND_LID, Node("unavailable", {"type": "view_once"})),
        (Jid("120363", GROUP_SERVER), Node("enc", {"v": "2", "type": "skmsg"}, b"of a group")),
    ],
    ids=["channel", "unavailable", "group"],
)
async def test_message_without_anything_for_us_is_acknowledged(
    line: Line, from_: Jid, child: Node, autojump_clock: MockClock
) -> None:
    attrs: dict[str, Attr] = {"id": "S", "from": from_, "type": "text", "t": str(SERVER_T)}
    if from_.server == GROUP_SERVER:
        attrs["participant"] = FRIEND_LID
    await line.say(Node("message", attrs, (child,)))
    await wait_all_tasks_blocked()
    (ack,) = answers(line)
    told = {"id": "S", "to": from_, "class": "message", "type": "text", "from": OWN_PN}
    participant = {name: attrs[name] for name in ("participant",) if name in attrs}
    assert (ack.tag, dict(ack.attrs)) == ("ack", told | participant)


@pytest.mark.parametrize("kind", STANZAS)
async def test_stanza_is_answered_within_10_seconds(
    line: Line, kind: str, autojump_clock: MockClock
) -> None:
    await line.say(STANZAS[kind])
    with trio.fail_after(WITHIN_S):
        await wait_all_tasks_blocked()
    assert answers(line) != []


@pytest.mark.parametrize("kind", STANZAS)
async def test_stanza_whose_effect_is_not_stored_is_answered_when_it_comes_again(
    stage: Stage, line: Line, disk: Disk, kind: str, autojump_clock: MockClock
) -> None:
    with disk.full():
        await line.say(STANZAS[kind])
        await wait_all_tasks_blocked()
        assert answers(line) == []
        assert stage.status == ("waiting", "storage")
    again = await stage.log_in(2)
    await again.say(STANZAS[kind])
    await wait_all_tasks_blocked()
    assert answers(again) != []


async def test_changed_app_state_is_stored(
    stage: Stage, line: Line, autojump_clock: MockClock
) -> None:
    await line.say(STANZAS["server_sync"])
    await wait_all_tasks_blocked()
    stored = await stage.database.read(fact, stage.device.id, f"{DIRTY_FACT}regular")
    assert stored == b"3"


async def test_routing_bytes_outlive_the_actor(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        assert line.routing_info is None
        await line.say(ib.ib(ib.EdgeRouting(b"edge")))
        await wait_all_tasks_blocked()
    assert await stage.database.read(fact, stage.device.id, ROUTING_FACT) == b"edge"
    async with stage.life():
        line = await stage.log_in(2)
        assert line.routing_info == b"edge"


async def test_routing_bytes_with_which_a_connection_failed_are_stored_no_more(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await line.say(ib.ib(ib.EdgeRouting(b"edge")))
        line.cut()
        unwelcome = await stage.transport.dialled(2)
        assert unwelcome.routing_info == b"edge"
        unwelcome.cut()
        line = await stage.log_in(3)
        assert line.routing_info is None
        assert await stage.database.read(fact, stage.device.id, ROUTING_FACT) is None

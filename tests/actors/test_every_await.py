"""An exception at every await of an actor, one after another: its rows survive each of them.

A life of a device is played on a mock clock under its real supervisor: it sends, hears, is paused,
resumed, loses its connection, is logged out. Each time one await more passes before one raises:
what it did is done, and its result is lost. Then what was asked has to be true all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.device import DeviceActor
from sitpayd.actors.lines import Lines
from sitpayd.actors.messages import Logout, Pause, Resume
from sitpayd.actors.registry import DeviceHandle
from sitpayd.storage import devices, outbox, sessions
from sitpayd.storage.database import Database, open_database
from sitpayd.storage.vault import Vault
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema.whatsapp_pb2 import SignalMessage
from sitpayd.whatsapp.signal.session import parse_prekey_message
from sitpayd.whatsapp.stanzas.wire import parse_proto
from tests.actors.builders import FRIEND_LID, SERVER_T
from tests.actors.test_poison import Ward
from tests.storage.builders import make_tenant
from tests.support.waiting import eventually

# Long enough for a restart after a crash, and a reconnect behind it.
IN_TIME_S: Final = 30.0
# More awaits than a life has; a test that reaches it does not end.
TOO_MANY: Final = 5000


class Injected(Exception):
    """What is raised at an await."""


@dataclass
class Bomb:
    """Lets so many awaits pass and raises at the next one, once.

    Attributes:
        passed: awaits so far; exploded: whether it has raised.
        over: nothing counts any more: the play is being taken down.
    """

    after: int
    passed: int = 0
    exploded: bool = False
    over: bool = False

    def ticks(self) -> bool:
        if self.over:
            return False
        self.passed += 1
        self.exploded = self.exploded or self.passed > self.after
        return self.passed == self.after + 1


@dataclass
class Mined(Awaitable[None]):
    """A coroutine whose awaits are counted, and one of which raises."""

    inner: Coroutine[Any, Any, None]
    bomb: Bomb

    def __await__(self) -> Generator[Any, Any, None]:
        send: Callable[[], Any] = partial(self.inner.send, None)
        while True:
            try:
                trap = send()
            except StopIteration:
                return
            try:
                value = yield trap
            except BaseException as error:
                send = partial(self.inner.throw, error)
                continue
            bang = self.bomb.ticks()
            send = (
                partial(self.inner.throw, Injected()) if bang else partial(self.inner.send, value)
            )


def mine_awaits(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, bomb: Bomb) -> None:
    """Let every await of a method tick at which its task is really held up."""
    original = getattr(owner, name)

    async def mined(self: object, *arguments: object) -> None:
        await Mined(original(self, *arguments), bomb)

    monkeypatch.setattr(owner, name, mined)


def mine_database(monkeypatch: pytest.MonkeyPatch, bomb: Bomb) -> None:
    """Let every question of actors to the database tick, before it and after it."""
    in_actor: ContextVar[bool] = ContextVar("in_actor", default=False)
    run = DeviceActor.run

    async def marked(self: DeviceActor) -> None:
        in_actor.set(True)
        await run(self)

    def mined(original: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(self: Database, *arguments: object, **named: object) -> object:
            if in_actor.get() and bomb.ticks():
                raise Injected
            result = await original(self, *arguments, **named)
            if in_actor.get() and bomb.ticks():
                raise Injected
            return result

        return call

    monkeypatch.setattr(DeviceActor, "run", marked)
    monkeypatch.setattr(Database, "read", mined(Database.read))
    monkeypatch.setattr(Database, "write", mined(Database.write))


@dataclass
class Wire:
    """What WhatsApp's server saw of the messages.

    Attributes:
        stanzas: by message id, each form in which it came.
        keys: ciphertexts by recipient, ratchet key and counter.
    """

    stanzas: dict[str, list[Node]] = field(default_factory=dict)
    keys: dict[tuple[str, bytes, int], set[bytes]] = field(default_factory=dict)

    def hear(self, node: Node) -> None:
        if node.tag != "message":
            return
        forms = self.stanzas.setdefault(node.required_text("id"), [])
        if node not in forms:
            forms.append(node)
        participants = node.child("participants")
        assert participants is not None
        for to in participants.children:
            (enc,) = to.children
            body = enc.content
            assert isinstance(body, bytes)
            if enc.text("type") == "pkmsg":
                body = parse_prekey_message(body).message
            signal = parse_proto(SignalMessage, body[1:-8])
            place = (str(to.attrs["jid"]), signal.ratchetKey, signal.counter)
            self.keys.setdefault(place, set()).add(body)


async def reached(look: Callable[[], Awaitable[bool]]) -> None:
    await eventually(look, "what was asked is done", IN_TIME_S)


async def live(bomb: Bomb) -> Wire:
    """A life of a device; whatever explodes, it comes to the same end."""
    wire = Wire()
    async with open_database("sqlite://", Vault(bytes(32)), inline=True) as database:
        ward = Ward(database, await database.write(make_tenant))
        await ward.link()
        kind = ward.transport.answer

        def answer(node: Node) -> list[Node]:
            wire.hear(node)
            return kind(node)

        ward.transport.answer = answer

        async def sent(message_id: str) -> bool:
            return (await ward.told(message_id))[0] == "sent"

        async def send(handle: DeviceHandle) -> str:
            message_id = await ward.put()
            handle.ring()
            return message_id

        async with ward.supervised() as handle:
            rows = [await send(handle) for _ in range(2)]
            for row in rows:
                await reached(partial(sent, row))

            incoming = Node("message", {"id": "M", "from": FRIEND_LID, "t": str(SERVER_T)})
            await ward.transport.lines[-1].say(incoming)
            await wait_all_tasks_blocked()

            await database.write(devices.set_desired, ward.device.id, "paused")
            await handle.deliver(Pause())
            rows.append(await send(handle))
            await trio.sleep(5.0)
            assert await ward.told(rows[-1]) == ("accepted", None)
            assert ward.status == ("paused", None)
            assert not ward.transport.open
            await database.write(devices.set_desired, ward.device.id, "running")
            await handle.deliver(Resume())
            await reached(lambda: sent(rows[2]))

            ward.transport.lines[-1].cut()
            rows.append(await send(handle))
            await reached(lambda: sent(rows[3]))
            stored = await database.read(sessions.load_sessions, ward.device.id, str(FRIEND_LID))
            assert stored

            await database.write(devices.want_logout, ward.device.id)
            await handle.deliver(Logout())

            async def is_logged_out() -> bool:
                return ward.status == ("logged_out", "logged_out_here")

            await reached(is_logged_out)
            assert not ward.transport.open
            views = await database.read(outbox.messages, ward.device.id)
            assert views is not None
            assert [view.state for view in views.messages] == ["sent"] * 4
            bomb.over = True
    return wire


# Where it raises, and how many places there are at least: else the play is not worth much.
PLACES: Final[dict[str, int]] = {"actor": 40, "connection": 15, "database": 35}
METHODS: Final[dict[str, tuple[type, str]]] = {
    "actor": (DeviceActor, "run"),
    "connection": (Lines, "_run"),
}


@pytest.mark.parametrize("part", PLACES)
def test_exception_at_any_await_loses_no_row_and_rolls_no_session_back(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-13: the actor is started again from what is stored, wherever it dies."""
    after, crashes = 0, 0
    while True:
        bomb = Bomb(after)
        with monkeypatch.context() as patch:
            if part == "database":
                mine_database(patch, bomb)
            else:
                mine_awaits(patch, *METHODS[part], bomb)
            wire = trio.run(live, bomb, clock=MockClock(autojump_threshold=0))
        # Each message in one form only: it is sent again with the same bytes, or not at all.
        assert [len(forms) for forms in wire.stanzas.values()] == [1] * 4, after
        assert all(len(bodies) == 1 for bodies in wire.keys.values()), after
        if not bomb.exploded:
            break
        after, crashes = after + 1, crashes + 1
        assert after < TOO_MANY
    assert crashes >= PLACES[part]

"""Plays one crash point: a server, a victim that dies on its way, and an heir of its file.

Each is a process of its own, forked from one that has opened nothing. Server and victim live for
one point; the heir lives on and inherits the next one's file, too.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio
import trio.testing

from sitpayd.log import configure
from sitpayd.settings import Settings
from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.storage import outbox
from sitpayd.storage.records import RowState
from tests.support.waiting import eventually
from tests.torture.children import Child, Servant, Tell
from tests.torture.death import DIED, Death, Place, Target, Tracer, Walk
from tests.torture.house import House, open_house
from tests.torture.scene import FRIEND, Scene, listen

KEY: Final = "the-one-send"
TEXT: Final = "Hello!"
# A healthy child needs a tenth of a second.
CHILD_S: Final = 30.0
WALK_S: Final = 300.0
MANY: Final = 1000

_Work = Callable[[House, Tell], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Template:
    """The device of the template database."""

    device_id: int
    token: str


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer left the daemon."""

    status: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the outbox."""

    wa_message_id: str
    state: RowState


@dataclass(frozen=True, slots=True)
class Finished:
    """What the heir did.

    Attributes:
        found: the rows once all were settled, before the request was repeated.
        status: of the answer to the repeated request; wa_message_id: the message it names.
        rows: the rows after that.
    """

    found: tuple[Row, ...]
    status: int
    wa_message_id: str | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What was seen outside of the daemon.

    Attributes:
        shown: texts on the recipient's phone.
        taken: message stanzas the server got, encoded, by id.
    """

    shown: tuple[str | None, ...]
    taken: dict[str, list[bytes]]
    violations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is known of one point.

    Attributes:
        target: where the victim died; None: its way did not lead there.
        answer: status of the answer that left the victim, if one did.
        complaints: lines of the daemons about themselves.
    """

    target: Target | None
    answer: int | None
    finished: Finished | None
    witnessed: Witnessed
    complaints: tuple[str, ...]


class Play:
    """Plays points, one after the other.

    Args:
        directory: for the databases. A memory disk will do: only processes die here.
    """

    def __init__(self, scene: Scene, directory: Path) -> None:
        self._scene = scene
        self._template = directory / "template.db"
        self._stage = directory / "stage"
        # Once: reading it costs as much as the send.
        self._settings = Settings(state_dir=self._stage)
        maker = Child(lambda tell: trio.run(self._make_template, tell))
        assert maker.wait(CHILD_S) == 0
        (self._device,) = maker.told(Template)
        self._heir = Servant(self._inherit)

    async def _make_template(self, tell: Tell) -> None:
        (device,) = await self._scene.move_in(f"sqlite:///{self._template}")
        tell(Template(device.id, device.token))

    def walk(self) -> list[Place]:
        """Send one message and die nowhere: every bytecode on the way."""
        with self._server() as (_, url):
            walker = Child(partial(self._walk, url))
            assert walker.wait(WALK_S) == 0
        return walker.told(list)[0]

    def point(self, target: Target, *, silent: bool = False) -> Observed:
        """Die at one bytecode, let the heir recover, and look.

        Args:
            silent: the recipient's phone sends no receipts: they could tell the heir what the ack
                did not.
        """
        with self._server(silent=silent) as (server, url):
            victim = Child(partial(self._die, url, target))
            status = victim.wait(CHILD_S)
            inherited = self._heir.do(url, CHILD_S)
            if inherited is None:
                self._heir = Servant(self._inherit)
        log = self._log.read_text(encoding="utf-8").splitlines()
        complaints = [line for line in log if " level=error " in line or "level=" not in line]
        if status not in (0, DIED):
            complaints.append(f"the victim ended with status {status}")
        (witnessed,) = server.told(Witnessed)
        return Observed(
            target=next(iter(victim.told(Target)), None),
            answer=next((answered.status for answered in victim.told(Answered)), None),
            finished=next((f for f in inherited or () if isinstance(f, Finished)), None),
            witnessed=witnessed,
            complaints=tuple(complaints),
        )

    @property
    def _log(self) -> Path:
        return self._stage / "log"

    @contextmanager
    def _server(self, *, silent: bool = False) -> Iterator[tuple[Child, str]]:
        """Begin anew: a fresh server, a copy of the template."""
        shutil.rmtree(self._stage, ignore_errors=True)
        self._stage.mkdir(mode=0o700)
        shutil.copy(self._template, self._stage / "sitpayd.db")
        with serving(self._scene, silent=silent) as running:
            yield running

    # --- the daemons ---

    def _walk(self, url: str, tell: Tell) -> None:
        self._live(url, partial(self._send, Walk()), tell)

    def _die(self, url: str, target: Target, tell: Tell) -> None:
        self._live(url, partial(self._send, Death(target, partial(tell, target))), tell)

    def _live(self, url: str, work: _Work, tell: Tell) -> None:
        trio.run(self._at_home, url, work, tell)

    async def _at_home(self, url: str, work: _Work, tell: Tell) -> None:
        async with self._house(url, tell) as house:
            await work(house, tell)
            # Everything was told; closing in order is what other tests look at.
            os._exit(0)

    def _inherit(self, url: object, tell: Tell) -> None:
        trio.run(self._finish, str(url), tell)

    @asynccontextmanager
    async def _house(self, url: str, tell: Tell) -> AsyncIterator[House]:
        with self._log.open("a", encoding="utf-8", buffering=1) as log:
            configure("info", "text", log)
            async with open_house(
                self._stage / "sitpayd.db",
                url,
                self._scene.server.root_key,
                answered=lambda _, status: tell(Answered(status)),
                settings=self._settings,
            ) as house:
                await house.connected()
                yield house

    async def _send(self, tracer: Tracer, house: House, tell: Tell) -> None:
        tracer.begin()
        await house.send(self._device.token, KEY, TEXT)
        tracer.end()
        if isinstance(tracer, Walk):
            tell(tracer.way)

    async def _finish(self, url: str, tell: Tell) -> None:
        async with self._house(url, tell) as house:

            async def look() -> bool:
                return all(row.state.is_settled for row in await self._rows(house))

            with suppress(AssertionError):  # the verdict says which row is not
                await eventually(look, "every row is settled")
            found = await self._rows(house)
            answer = await house.send(self._device.token, KEY, TEXT)
            body = await answer.get_json()
            named = body.get("wa_message_id")
            tell(Finished(found, answer.status_code, named, await self._rows(house)))

    async def _rows(self, house: House) -> tuple[Row, ...]:
        page = await house.database.read(outbox.messages, self._device.device_id)
        assert page is not None
        return tuple(Row(view.wa_message_id, RowState(view.state)) for view in page.messages)


@contextmanager
def serving(scene: Scene, *, silent: bool = False) -> Iterator[tuple[Child, str]]:
    """Run the server in a child, and where it is; afterwards the child has told a `Witnessed`."""
    listening, url = listen()
    waiting, stop = os.pipe()

    def serve(tell: Tell) -> None:
        os.close(stop)
        if silent:
            scene.server.faults.add(Fault(FaultKind.SILENT, FRIEND, count=MANY))
        trio.run(_serve, scene, listening, waiting, tell)

    server = Child(serve)
    listening.close()
    os.close(waiting)
    try:
        yield server, url
    finally:
        os.close(stop)
        server.wait(CHILD_S)


async def _serve(scene: Scene, listening: socket.socket, stop: int, tell: Tell) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.serve, listening)
        await trio.lowlevel.FdStream(stop).receive_some()
        # Let the phones read what lies in their queues.
        await trio.testing.wait_all_tasks_blocked()
        broken = scene.server.violations.broken
        tell(
            Witnessed(
                shown=tuple(item.text for item in scene.friend.inbox),
                taken=scene.taken,
                violations=tuple(f"{item.kind.value}: {item.text}" for item in broken),
            )
        )
        nursery.cancel_scope.cancel()

"""A house: everything the daemon runs in one process but its HTTP socket and its signals.

Database, supervisor, devices' actors with their real sockets, and the application, which is asked
in the same process. So a test can end it at any point, and knows when it has answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from quart import Response
from quart.testing.utils import sentinel

from sitpayd.actors.connector import Route
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.supervisor import DeviceSupervisor
from sitpayd.actors.transport import Converse, Outgoing, Report, converse
from sitpayd.actors.world import World
from sitpayd.api.app import Api, create_app
from sitpayd.api.gate import ASGIApp
from sitpayd.settings import Settings
from sitpayd.storage import devices
from sitpayd.storage.database import Database, open_database
from sitpayd.storage.vault import Vault
from sitpayd.whatsapp.connection import Connection
from tests.support.waiting import eventually
from tests.torture.scene import FRIEND, SECRET

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
NotedAnswer = Callable[[str, int], None]


@dataclass(frozen=True)
class House:
    """A running daemon."""

    database: Database
    app: Api
    board: StatusBoard
    registry: DeviceRegistry

    async def connected(self) -> None:
        """Wait until every device is connected."""

        async def look() -> bool:
            known = [self.board.get(handle.session_id) for handle in self.registry]
            return all(status and status.status == Phase.CONNECTED for status in known)

        await eventually(look, "every device is connected")

    async def send(self, token: str, key: str, text: str = "Hello!", **headers: str) -> Response:
        """Send a text to the friend, as a partner's program does."""
        return await self.app.test_client().post(
            f"/wa/{token}/send",
            json={"to": FRIEND, "message": text},
            headers={IDEMPOTENCY_KEY: key, **headers},
        )

    async def is_ready(self) -> bool:
        """Whether it says that it can do its work."""
        answer = await self.app.test_client().open("/readyz", method="GET", json=sentinel)
        return answer.status_code == HTTPStatus.OK


@asynccontextmanager
async def open_house(
    path: Path,
    url: str,
    root_key: bytes,
    *,
    converse: Converse = converse,
    answered: NotedAnswer | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[House]:
    """Run the daemon on a database.

    Args:
        url: of the simulated WhatsApp, whose certificates `root_key` signs.
        settings: made before; the database and WhatsApp are not looked up in them.
        answered: told Idempotency-Key and status of each answer at the moment it leaves.
    """
    settings = settings or Settings(state_dir=path.parent)
    async with open_database(f"sqlite:///{path}", Vault(SECRET)) as database:
        registry, board, outcomes = DeviceRegistry(), StatusBoard(), Outcomes()
        world = World(
            database=database,
            board=board,
            outcomes=outcomes,
            url=url,
            root_key=root_key,
            limits=None,
            bucket=DialBucket(),
            keygen=trio.CapacityLimiter(1),
            converse=converse,
        )
        app = create_app(registry, database, board, outcomes, settings)
        if answered is not None:
            app.asgi_app = _noting(app.asgi_app, answered)  # type: ignore[method-assign, assignment]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(DeviceSupervisor(registry, world).run)
            for record in await database.read(devices.devices_to_run):
                await registry.adopt(record)
            yield House(database, app, board, registry)
            nursery.cancel_scope.cancel()


def _noting(app: ASGIApp, answered: NotedAnswer) -> ASGIApp:
    """Stand before an application and note each answer that leaves it."""

    async def noting(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = {} if scope["type"] == "lifespan" else dict(scope["headers"])
        key = headers.get(IDEMPOTENCY_KEY.lower().encode(), b"").decode()

        async def sending(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.start" and key:
                answered(key, event["status"])
            await send(event)

        await app(scope, receive, sending)

    return noting


def watched(left: Callable[[bytes], None]) -> Converse:
    """Connections as the product runs them; each stored stanza is told right before it leaves."""

    async def converse_watched(
        way: Callable[[], Route],
        make_connection: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        bucket: DialBucket,
        report: Report,
    ) -> None:
        put, take = trio.open_memory_channel[Outgoing](0)

        async def pass_on() -> None:
            async with put:
                async for item in outgoing:
                    if isinstance(item, bytes):
                        left(item)
                    await put.send(item)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on)
            await converse(way, make_connection, take, bucket, report)
            nursery.cancel_scope.cancel()

    return converse_watched

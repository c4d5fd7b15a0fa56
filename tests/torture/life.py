"""One life of a simulated daemon, from its start to its death, and the front door it has meanwhile.

A request is asked of the product's application without a socket. An answer counts only if the
daemon still lived when it left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, ConnectionState, HTTPScope

from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.api.app import Api
from tests.torture.disk import SimulatedDatabase

_HEADERS: Final = [(b"host", b"localhost"), (b"content-type", b"application/json")]


class Exchange:
    """One HTTP request and its answer.

    Attributes:
        done: the answer is complete, or the daemon is dead; left: nobody waits for it any more.
        status: 0: no answer.
    """

    def __init__(self) -> None:
        self.done = trio.Event()
        self.left = trio.Event()
        self.status = 0
        self.body = b""


@dataclass
class Life:
    """One life of the daemon.

    Attributes:
        nursery: holds every task of it.
        exchanges: requests under way, oldest first.
    """

    database: SimulatedDatabase
    registry: DeviceRegistry
    board: StatusBoard
    outcomes: Outcomes
    app: Api
    nursery: trio.Nursery
    exchanges: dict[Exchange, None] = field(default_factory=dict)
    is_dead: bool = False

    @property
    def tasks(self) -> int:
        """How many tasks it has."""
        return _tasks_below(self.nursery)

    def die(self) -> None:
        """End at once; nothing of it has any effect from here on."""
        self.is_dead = True
        self.database.die()
        for exchange in self.exchanges:
            exchange.done.set()
        self.nursery.cancel_scope.cancel()

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, str] | None,
        patience: float,
    ) -> Exchange:
        """Send a request and wait for the answer, as long as one has patience."""
        exchange, data = Exchange(), b"" if body is None else json.dumps(body).encode()
        self.exchanges[exchange] = None
        self.nursery.start_soon(self._serve, exchange, _scope(method, path, headers), data)
        try:
            with trio.move_on_after(patience):
                await exchange.done.wait()
        finally:
            self.exchanges.pop(exchange, None)
            exchange.left.set()
        return exchange

    async def _serve(self, exchange: Exchange, scope: HTTPScope, data: bytes) -> None:
        is_read, status, parts = False, 0, list[bytes]()

        async def receive() -> ASGIReceiveEvent:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": data, "more_body": False}
            await exchange.left.wait()
            return {"type": "http.disconnect"}

        async def send(event: ASGISendEvent) -> None:
            nonlocal status
            await trio.lowlevel.checkpoint()
            if event["type"] == "http.response.start":
                status = event["status"]
            elif event["type"] == "http.response.body":
                parts.append(event["body"])
                if not event.get("more_body") and not self.is_dead:
                    exchange.status, exchange.body = status, b"".join(parts)
                    exchange.done.set()

        await self.app(scope, receive, send)


def _scope(method: str, path: str, headers: Mapping[str, str]) -> HTTPScope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*_HEADERS, *((n.encode(), v.encode()) for n, v in headers.items())],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "state": ConnectionState({}),
        "extensions": {},
    }


def _tasks_below(nursery: trio.Nursery) -> int:
    return sum(
        1 + sum(_tasks_below(below) for below in task.child_nurseries)
        for task in nursery.child_tasks
    )

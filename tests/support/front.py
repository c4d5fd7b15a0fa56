"""The front door on a real database, with an honest fake actor behind each device."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import trio
from pydantic import SecretStr
from quart import Response
from quart.testing.utils import sentinel
from quart.typing import TestClientProtocol
from werkzeug.datastructures import Headers

from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.api.app import Api, create_app
from sitpayd.settings import Settings
from sitpayd.storage.database import Database, open_database
from sitpayd.storage.vault import Vault
from tests.support.fake_actor import FakeActor

ADMIN_KEY = "admin-" + "k" * 40
BASE_URL = "https://robotics.sitpay.in"
PHONE = "919876543210"


@dataclass(frozen=True)
class Tenant:
    """A partner with a user and a device."""

    api_key: str
    user_token: str
    session_id: str
    device_token: str
    actor: FakeActor

    @property
    def headers(self) -> dict[str, str]:
        """Who the partner is."""
        return {"x-api-key": self.api_key}

    @property
    def send_path(self) -> str:
        """Where the device sends."""
        return f"/wa/{self.device_token}/send"


class Front:
    """Everything behind and before the API."""

    def __init__(self, app: Api, database: Database, board: StatusBoard) -> None:
        self.app = app
        self.database = database
        self.board = board
        self.registry = DeviceRegistry()
        self.outcomes = Outcomes()
        self.client: TestClientProtocol = app.test_client()
        self._actors: dict[str, FakeActor] = {}
        self._came: dict[str, trio.Event] = {}

    async def run_actors(self) -> None:
        """Be the supervisor: one actor for every device that arrives."""
        async with trio.open_nursery() as nursery:
            async for handle in self.registry.arrivals:
                actor = FakeActor(handle, self.database, self.board, self.outcomes)
                self._actors[handle.session_id] = actor
                self._event(handle.session_id).set()
                nursery.start_soon(actor.run)

    async def actor(self, session_id: str) -> FakeActor:
        """The actor of a device."""
        await self._event(session_id).wait()
        return self._actors[session_id]

    async def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> Response:
        """Post JSON."""
        return await self.client.post(path, json=body, headers=headers)

    async def ask(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | Headers | None = None,
    ) -> Response:
        """Make any request."""
        return await self.client.open(
            path, method=method, data=data, headers=headers, json=sentinel
        )

    async def send(
        self,
        tenant: Tenant,
        message: str = "Hello!",
        to: str = PHONE,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a text through a tenant's device."""
        return await self.post(tenant.send_path, {"to": to, "message": message}, headers)

    async def tenant(self, *, linked: bool = True) -> Tenant:
        """Register a partner with one user and one device."""
        partner = {"name": "ABC Reseller", "email": "abc@reseller.com", "domain": "reseller.com"}
        api_key = (await (await self.post("/partner/register", partner)).get_json())["api_key"]
        user = {"label": "John Doe", "email": "john@example.com"}
        headers = {"x-api-key": api_key}
        made = await (await self.post("/partner/users", user, headers)).get_json()
        headers["x-user-token"] = made["user_token"]
        device = await (
            await self.post("/partner/devices", {"device_name": "John iPhone"}, headers)
        ).get_json()
        actor = await self.actor(device["session_id"])
        if linked:
            await actor.link(PHONE)
        return Tenant(
            api_key, made["user_token"], device["session_id"], device["device_token"], actor
        )

    async def another(self, tenant: Tenant) -> Tenant:
        """Make another device of the same user; it is not linked."""
        headers = {**tenant.headers, "x-user-token": tenant.user_token}
        device = await (
            await self.post("/partner/devices", {"device_name": "Another"}, headers)
        ).get_json()
        actor = await self.actor(device["session_id"])
        return replace(
            tenant,
            session_id=device["session_id"],
            device_token=device["device_token"],
            actor=actor,
        )

    def _event(self, session_id: str) -> trio.Event:
        return self._came.setdefault(session_id, trio.Event())


@asynccontextmanager
async def open_front(settings: Settings | None = None) -> AsyncIterator[Front]:
    """Open the front door."""
    settings = settings or Settings(base_url=BASE_URL, admin_key=SecretStr(ADMIN_KEY))
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        board, registry, outcomes = StatusBoard(), DeviceRegistry(), Outcomes()
        app = create_app(registry, database, board, outcomes, settings)
        front = Front(app, database, board)
        front.registry, front.outcomes = registry, outcomes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.run_actors)
            yield front
            nursery.cancel_scope.cancel()

"""F-16 and F-18: what hangs elsewhere, in threads that never come back, holds up no request."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from pydantic import SecretStr
from quart import Response

from sitpayd.actors import resolver
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.resolver import Address, resolving
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.supervisor import DeviceSupervisor
from sitpayd.actors.world import World
from sitpayd.api import qr
from sitpayd.api.app import create_app
from sitpayd.settings import Settings
from sitpayd.storage import database as storage
from sitpayd.storage import devices, partners, sessions
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.records import DeviceRecord
from sitpayd.storage.vault import Vault
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import DeviceKeys
from tests.actors.builders import some_identity
from tests.support.front import ADMIN_KEY, BASE_URL, Front, Tenant

PATIENCE_S = 60.0
# No request takes as long as what hangs; the machine may be busy otherwise.
SOON_S = 2.0
DEVICES = 200


@pytest.fixture
def hanging() -> threading.Event:
    """Threads wait for it."""
    return threading.Event()


@asynccontextmanager
async def threaded_front(tmp_path: Path) -> AsyncIterator[Front]:
    """The front door on a database with threads."""
    settings = Settings(base_url=BASE_URL, admin_key=SecretStr(ADMIN_KEY))
    url = f"sqlite:///{tmp_path}/state/sitpayd.db"
    with trio.fail_after(PATIENCE_S):
        async with open_database(url, Vault(b"s" * 32)) as database:
            registry, board, outcomes = DeviceRegistry(), StatusBoard(), Outcomes()
            front = Front(
                create_app(registry, database, board, outcomes, settings), database, board
            )
            front.registry, front.outcomes = registry, outcomes
            yield front


@asynccontextmanager
async def blocked(limiter: trio.CapacityLimiter, free: threading.Event) -> AsyncIterator[None]:
    """Every thread of a limiter hangs."""
    tokens = int(limiter.total_tokens)

    async def hang() -> None:
        await trio.to_thread.run_sync(free.wait, PATIENCE_S, limiter=limiter)

    async with trio.open_nursery() as nursery:
        for _ in range(tokens):
            nursery.start_soon(hang)
        while limiter.borrowed_tokens < tokens:
            await trio.lowlevel.checkpoint()
        try:
            yield
        finally:
            free.set()


async def test_sends_go_on_while_every_default_thread_hangs(
    tmp_path: Path, hanging: threading.Event
) -> None:
    """F-18: all 40 of them, as if the name service had taken them."""
    async with threaded_front(tmp_path) as front, trio.open_nursery() as nursery:
        nursery.start_soon(front.run_actors)
        tenant = await front.tenant()
        async with blocked(trio.to_thread.current_default_thread_limiter(), hanging):
            for number in range(20):
                began = trio.current_time()
                answer = await front.send(tenant, f"message {number}")
                assert answer.status_code == 200
                assert trio.current_time() - began < SOON_S
            unlinked = await front.tenant(linked=False)
            shown = await (await ask_qr(front, unlinked)).get_json()
            assert shown["type"] == "success"
        nursery.cancel_scope.cancel()


async def test_reads_that_hang_make_others_overloaded_and_no_deadlock(
    tmp_path: Path, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-18: a wait for a reader ends with 503, and all is well again when the readers are."""
    monkeypatch.setattr(storage, "READ_WITHIN_S", 1.0)

    begun: list[Unit] = []

    def hang(unit: Unit) -> None:
        begun.append(unit)
        hanging.wait(PATIENCE_S)

    async with threaded_front(tmp_path) as front, trio.open_nursery() as nursery:
        nursery.start_soon(front.run_actors)
        tenant = await front.tenant()
        for _ in range(storage.READERS):
            nursery.start_soon(front.database.read, hang)
        while len(begun) < storage.READERS:
            await trio.lowlevel.checkpoint()
        refused = await front.ask("GET", "/partner/me", headers=tenant.headers)
        hanging.set()
        answered = await front.ask("GET", "/partner/me", headers=tenant.headers)
        nursery.cancel_scope.cancel()

    assert (refused.status_code, (await refused.get_json())["code"]) == (503, "overloaded")
    assert answered.status_code == 200


async def test_picture_whose_turn_does_not_come_is_an_answer(
    tmp_path: Path, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-18: also where every thread that draws hangs."""
    monkeypatch.setattr(qr, "DRAWN_WITHIN_S", 0.2)
    drawing: list[str] = []

    def hang(text: str) -> str:
        drawing.append(text)
        hanging.wait(PATIENCE_S)
        return "data:"

    async with threaded_front(tmp_path) as front, trio.open_nursery() as nursery:
        nursery.start_soon(front.run_actors)
        tenants = [await front.tenant(linked=False) for _ in range(qr.RENDERERS + 1)]
        monkeypatch.setattr(qr, "_data_uri", hang)
        for tenant in tenants[:-1]:
            nursery.start_soon(ask_qr, front, tenant)
        while len(drawing) < qr.RENDERERS:
            await trio.lowlevel.checkpoint()
        answer = await ask_qr(front, tenants[-1])
        hanging.set()
        nursery.cancel_scope.cancel()

    assert (answer.status_code, (await answer.get_json())["code"]) == (503, "overloaded")


async def ask_qr(front: Front, tenant: Tenant) -> Response:
    return await front.ask(
        "GET", f"/partner/devices/{tenant.session_id}/qr", headers=tenant.headers
    )


async def linked_devices(database: Database) -> list[DeviceRecord]:
    """Many devices that were linked in an earlier life."""
    keys = DeviceKeys.generate()
    credentials = Credentials(keys, some_identity(keys)).to_bytes()

    def make(unit: Unit) -> list[DeviceRecord]:
        partner, _ = partners.create_partner(unit, "n", "e@x.com", "x.com")
        user = partners.create_user(unit, partner.id, "l", "e@x.com")
        made = [devices.create_device(unit, partner.id, user.id, "d") for _ in range(DEVICES)]
        for device in made:
            sessions.save_credentials(unit, device.id, credentials)
        return made

    return await database.write(make)


async def test_api_answers_while_the_name_service_hangs_and_every_device_reconnects(
    tmp_path: Path, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-16: one question for all; each of them learns in time that there is no answer."""
    monkeypatch.setattr(resolver, "DEADLINE_S", 1.0)
    asked: list[bytes | None] = []

    def look_up(host: bytes | None, *_: object) -> list[Address]:
        asked.append(host)
        hanging.wait(PATIENCE_S)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    async def waiting(front: Front) -> bool:
        known = [front.board.get(handle.session_id) for handle in front.registry]
        return all(k is not None and (k.status, k.reason) == ("waiting", "dns") for k in known)

    async with (
        threaded_front(tmp_path) as front,
        resolving(["whatsapp.test"], look_up),
        trio.open_nursery() as nursery,
    ):
        world = World(
            database=front.database,
            board=front.board,
            outcomes=front.outcomes,
            url="ws://whatsapp.test:1/ws/chat",
            root_key=bytes(32),
            limits=None,
            bucket=DialBucket(),
            keygen=trio.CapacityLimiter(1),
        )
        nursery.start_soon(DeviceSupervisor(front.registry, world).run)
        for record in await linked_devices(front.database):
            await front.registry.adopt(record)
        slowest = 0.0
        while not await waiting(front):
            began = trio.current_time()
            assert (await front.ask("GET", "/readyz")).status_code == 200
            slowest = max(slowest, trio.current_time() - began)
        nursery.cancel_scope.cancel()
        hanging.set()

    assert slowest < SOON_S
    assert asked == [b"whatsapp.test"]

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.api import health
from sitpayd.api.app import create_app
from sitpayd.errors import StorageFullError
from sitpayd.settings import Settings
from sitpayd.storage.database import open_database
from sitpayd.storage.vault import Vault
from tests.support.front import Front


async def test_living_daemon_is_healthy_and_ready(front: Front) -> None:
    assert (await front.ask("GET", "/healthz")).status_code == 200
    assert (await front.ask("GET", "/readyz")).status_code == 200


async def test_full_disk_is_not_ready_but_alive(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> object:
        raise StorageFullError("full")

    monkeypatch.setattr(front.database, "write", refuse)

    assert (await front.ask("GET", "/readyz")).status_code == 503
    assert (await front.ask("GET", "/healthz")).status_code == 200


async def test_database_that_does_not_answer_is_not_ready(
    front: Front, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def hang(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(front.database, "write", hang)

    assert (await front.ask("GET", "/readyz")).status_code == 503


async def test_full_database_is_not_ready_until_there_is_room(front: Front) -> None:
    tenant = await front.tenant()
    pages = await front.database.read(lambda unit: unit.value(int, "PRAGMA page_count"))
    await front.database.write(lambda unit: unit.value(int, f"PRAGMA max_page_count = {pages}"))
    answers = [await front.send(tenant, "x" * 4000) for _ in range(20)]

    ready = await front.ask("GET", "/readyz")
    assert 503 in {answer.status_code for answer in answers}
    assert (ready.status_code, (await ready.get_json())["code"]) == (503, "storage_full")
    assert (await front.ask("GET", "/healthz")).status_code == 200

    await front.database.write(lambda unit: unit.value(int, "PRAGMA max_page_count = 1000000"))
    assert (await front.ask("GET", "/readyz")).status_code == 200


async def test_database_that_another_process_locks_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WRITABLE_WITHIN_S", 0.2)
    path = tmp_path / "sitpayd.db"
    async with open_database(f"sqlite:///{path}", Vault(b"s" * 32)) as database:
        app = create_app(DeviceRegistry(), database, StatusBoard(), Outcomes(), Settings())
        client = app.test_client()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked = await client.get("/readyz")
        assert (locked.status_code, (await locked.get_json())["code"]) == (
            503,
            "storage_unavailable",
        )
        monkeypatch.setattr(health, "WRITABLE_WITHIN_S", 10.0)
        assert (await client.get("/readyz")).status_code == 200


async def test_stopping_daemon_is_not_ready(front: Front) -> None:
    front.app.drain.begin()

    answer = await front.ask("GET", "/readyz")

    assert (answer.status_code, (await answer.get_json())["code"]) == (503, "stopping")

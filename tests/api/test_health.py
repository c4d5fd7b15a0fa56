from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from sitpayd.errors import StorageFullError
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


async def test_stopping_daemon_is_not_ready(front: Front) -> None:
    front.app.drain.begin()

    answer = await front.ask("GET", "/readyz")

    assert (answer.status_code, (await answer.get_json())["code"]) == (503, "stopping")

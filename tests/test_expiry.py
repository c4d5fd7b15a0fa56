"""What is kept for a time ends with it."""

from __future__ import annotations

from datetime import timedelta

from sitpayd.actors.outcomes import Outcomes
from sitpayd.daemon import KEEP_REQUESTS, _expire_once
from sitpayd.storage.database import open_database
from sitpayd.storage.retries import note_request, requests_of
from tests.storage.builders import Clock, some_tenant, some_vault

HOUR = timedelta(hours=1)


async def test_messages_that_could_not_be_read_are_forgotten_after_two_weeks() -> None:
    clock = Clock()
    async with open_database("sqlite://", some_vault(), inline=True, clock=clock) as database:
        device_id = (await some_tenant(database)).device.id
        await database.write(note_request, device_id, "old", 1)
        clock.forward(hours=2)
        await database.write(note_request, device_id, "young", 1)
        await _expire_once(database, Outcomes(), clock.now - 2 * HOUR + KEEP_REQUESTS + HOUR)
        assert await database.read(requests_of, device_id, "old") == 0
        assert await database.read(requests_of, device_id, "young") == 1

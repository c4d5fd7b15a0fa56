"""Many devices at once: what a start of the daemon with thousands of them asks of the database."""

from __future__ import annotations

from pathlib import Path

import trio

from sitpayd.actors.dials import DialBucket
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.supervisor import DeviceSupervisor
from sitpayd.actors.world import World
from sitpayd.storage import devices, partners
from sitpayd.storage.database import MAX_QUEUED_READS, Database, open_database
from sitpayd.storage.records import DeviceRecord
from sitpayd.storage.vault import Vault

COUNT = MAX_QUEUED_READS + 500


async def some_devices(database: Database) -> list[DeviceRecord]:
    partner, _ = await database.write(partners.create_partner, "n", "e@x.com", "x.com")
    user = await database.write(partners.create_user, partner.id, "l", "e@x.com")
    made: list[DeviceRecord] = []

    async def make() -> None:
        made.append(await database.write(devices.create_device, partner.id, user.id, "d"))

    async with trio.open_nursery() as nursery:
        for _ in range(COUNT):
            nursery.start_soon(make)
    return made


async def adopt_all(registry: DeviceRegistry, records: list[DeviceRecord]) -> None:
    for record in records:
        await registry.adopt(record)


async def test_more_devices_start_than_the_database_takes_reads_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state/sitpayd.db"
    with trio.fail_after(60):
        async with open_database(url, Vault(b"s" * 32)) as database:
            records = await some_devices(database)
            registry, board, outcomes = DeviceRegistry(), StatusBoard(), Outcomes()
            world = World(
                database=database,
                board=board,
                outcomes=outcomes,
                url="ws://127.0.0.1:9/ws/chat",
                root_key=bytes(32),
                limits=None,
                bucket=DialBucket(),
                keygen=trio.CapacityLimiter(1),
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(DeviceSupervisor(registry, world).run)
                nursery.start_soon(adopt_all, registry, records)
                while board.counts()["unpaired"] < COUNT:
                    await board.changes.news()
                nursery.cancel_scope.cancel()
    begun = {known.session_id for known in board.page("", COUNT + 1)}
    assert begun == {record.session_id for record in records}

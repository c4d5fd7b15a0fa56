"""DELETE of a device: its token is dead at once, it is logged out, and its keys are gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import httpx

from tests.support.daemon import Daemon
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually

KEYS = ("credentials", "signal_session", "prekey", "identity")


async def _keys_are_gone(daemon: Daemon, device: PartnerDevice) -> None:
    async def look() -> bool:
        with closing(sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)) as database:
            counts = [
                database.execute(
                    f"SELECT count(*) FROM {table} WHERE device_id ="
                    " (SELECT id FROM device WHERE session_id = ?)",
                    (device.session_id,),
                ).fetchone()[0]
                for table in KEYS
            ]
        return not any(counts)

    await eventually(look, "the keys are gone from the database")


async def _remove(device: PartnerDevice) -> None:
    answer = await device.partner.ask("DELETE", device.path)
    assert answer["type"] == "success"


async def test_removed_device_is_unlinked_and_its_token_dead_at_once(
    partner: Partner, people: People, alice: str, bob: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    await _remove(device)
    assert (await device.send(bob, "too late")).status_code == 401
    await people.unlinked(alice)
    await _keys_are_gone(daemon, device)
    assert await people.shown(bob) == []


async def test_device_removed_while_away_is_unlinked_at_its_next_connect(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    await _remove(device)
    assert len(await people.devices(alice)) == 1
    await people.all_right()
    await people.unlinked(alice)
    await _keys_are_gone(daemon, device)


async def test_device_removed_while_away_is_unlinked_after_a_restart(
    tenant: Partner, people: People, alice: str, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    device = await tenant.linked(people, alice)
    await people.take_offline(device)
    await _remove(device)
    await mortal.kill()
    await people.all_right()
    await mortal.start(http)
    await people.unlinked(alice)
    await _keys_are_gone(mortal, device)


async def test_device_that_was_never_linked_is_removed(partner: Partner, daemon: Daemon) -> None:
    device = await partner.device()
    await _remove(device)
    headers = partner.headers
    answer = await partner.http.get(f"{partner.base_url}{device.path}/status", headers=headers)
    assert answer.status_code == 404

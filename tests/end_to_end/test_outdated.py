"""WhatsApp refuses the client's revision, and the whole fleet comes back by one look-up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sitpayd.whatsapp.stanzas.login import DEFAULT_REVISION
from tests.end_to_end.conftest import Simulated, simulating
from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually

NEWER = DEFAULT_REVISION + 1_000_000


@pytest.fixture
def own() -> Iterator[Simulated]:
    """A simulator of this test alone: what it refuses must not concern others."""
    with simulating() as simulated:
        yield simulated


async def outdated_alarm(daemon: Daemon, http: httpx.AsyncClient) -> str:
    page = await http.get(f"{daemon.base_url}/metrics", headers={"x-admin-key": ADMIN_KEY})
    (line,) = (text for text in page.text.splitlines() if text.startswith("sitpayd_client_out"))
    return line.rpartition(" ")[2]


async def test_refused_revision_is_looked_up_once_and_all_devices_come_back(
    own: Simulated, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """F-11: a higher revision resumes all, and is announced after a restart, too."""
    people = People(own.control, http)
    source = f"{own.control}/sw.js"
    daemon = Daemon(tmp_path, own.url, own.root_key, revision_source=source)
    try:
        await daemon.start(http)
        partner = await Partner.register(http, daemon.base_url)
        numbers = [await people.make() for _ in range(3)]
        devices = [await partner.linked(people, number) for number in numbers]

        await people.ask("PATCH", "/options", minimum_revision=NEWER)
        for device in devices:
            await people.stream_error(device, 515)
        for device, number in zip(devices, numbers, strict=True):

            async def delivered(device: PartnerDevice = device, to: str = number) -> bool:
                return (await device.send(to, "back again")).status_code == 200

            await eventually(delivered, f"{device.session_id} sends again")
        log = daemon.log.read_text()
        assert log.count("event=client.revised") == 1
        assert log.count("event=client.outdated") == 0
        assert await outdated_alarm(daemon, http) == "0.0"

        await daemon.stop()
        await daemon.start(http)
        for device in devices:
            await device.until("connected")
        assert daemon.log.read_text().count("event=client.revised") == 1
        assert await daemon.stop() == 0
    finally:
        daemon.end()


async def test_without_a_source_there_is_one_alarm_and_the_queue_waits(
    own: Simulated, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """F-11: OUTDATED, one alarm for the fleet; an operator's resume tries again."""
    people = People(own.control, http)
    daemon = Daemon(tmp_path, own.url, own.root_key)
    try:
        await daemon.start(http)
        partner = await Partner.register(http, daemon.base_url)
        numbers = [await people.make() for _ in range(2)]
        devices = [await partner.linked(people, number) for number in numbers]

        await people.ask("PATCH", "/options", minimum_revision=NEWER)
        for device in devices:
            await people.stream_error(device, 515)
        for device in devices:
            assert (await device.until("outdated"))["reason"] == "client_outdated"
            refused = await device.send(numbers[0], "not now")
            assert (refused.status_code, refused.json()["code"]) == (409, "device_outdated")
        assert await outdated_alarm(daemon, http) == "1.0"
        assert daemon.log.read_text().count("event=client.outdated") == 1

        await people.ask("PATCH", "/options", minimum_revision=0)
        for device in devices:
            path = f"{daemon.base_url}/admin/devices/{device.session_id}/resume"
            answer = await http.post(path, headers={"x-admin-key": ADMIN_KEY})
            assert answer.status_code == 200
            await device.until("connected")
        assert await daemon.stop() == 0
    finally:
        daemon.end()

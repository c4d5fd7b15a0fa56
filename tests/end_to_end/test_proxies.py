"""A real daemon whose devices have proxies, and a door that counts who comes straight."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import Simulated
from tests.support.daemon import Daemon
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.proxy import Doorkeeper, RecordingProxy, listening
from tests.support.waiting import eventually


@dataclass
class Town:
    """A daemon for which WhatsApp's host is `door`: only proxies know the way past it."""

    daemon: Daemon
    partner: Partner
    proxy: RecordingProxy
    door: Doorkeeper

    async def through(self, device: PartnerDevice, url: str | None) -> None:
        """Set or take away its proxy."""
        await self.partner.ask("PUT", f"{device.path}/proxy", {"proxy": url})


@pytest.fixture
async def town(
    simulated: Simulated, http: httpx.AsyncClient, tmp_path: Path
) -> AsyncIterator[Town]:
    port = httpx.URL(simulated.url).port
    assert port is not None
    door, proxy = Doorkeeper(behind=port), RecordingProxy()
    async with listening(door), listening(proxy):
        proxy.hosts["127.0.0.1"] = ("127.0.0.1", port)
        url = simulated.url.replace(f":{port}", f":{door.port}")
        daemon = Daemon(
            tmp_path, url, simulated.root_key, allow_private_proxies="true", log_level="debug"
        )
        try:
            await daemon.start(http)
            partner = await Partner.register(http, daemon.base_url)
            yield Town(daemon, partner, proxy, door)
            assert await daemon.stop() == 0
            assert daemon.errors() == []
        finally:
            daemon.end()


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("credentials", ["", "user:hunter2@"])
async def test_device_with_a_proxy_never_goes_straight(
    town: Town, people: People, alice: str, bob: str, kind: str, credentials: str
) -> None:
    if credentials:
        town.proxy.user, town.proxy.password = "user", "hunter2"
    device = await town.partner.device()
    await town.through(device, town.proxy.url(kind, credentials))
    await device.link(people, alice)

    assert (await device.send(bob, "through")).status_code == 200
    town.proxy.cut()
    await device.until("waiting")
    await device.until("connected")
    assert (await device.send(bob, "again")).status_code == 200

    assert await people.reads(bob, "again") == ["through", "again"]
    assert town.door.visits == 0
    # The trial, the linking, the first login, the one after the cut.
    assert len(town.proxy.tunnels) == 4
    assert "hunter2" not in town.daemon.log.read_text("utf-8")


async def test_device_whose_proxy_is_dead_waits_and_never_goes_straight(
    town: Town, people: People, alice: str
) -> None:
    device = await town.partner.device()
    dead = RecordingProxy(hosts=town.proxy.hosts)
    async with listening(dead):
        await town.through(device, dead.url("socks5"))
        await device.link(people, alice)

    # Two dials find nobody.
    async def tried() -> bool:
        lost = [line for line in town.daemon.lines() if "kind=proxy_unreachable" in line]
        return len(lost) >= 2

    await eventually(tried, "the dead proxy was dialled twice", 60)
    known = await device.status()
    assert (known["status"], known["reason"]) == ("waiting", "proxy_unreachable")
    assert town.door.visits == 0


async def test_changed_proxy_takes_the_connection_over_and_outlives_a_restart(
    town: Town, people: People, alice: str, http: httpx.AsyncClient
) -> None:
    device = await town.partner.linked(people, alice)
    straight = town.door.visits
    assert straight > 0

    await town.through(device, town.proxy.url("http"))
    await eventually(lambda: _count(town.proxy, 2), "the device came through the proxy")
    await device.until("connected")
    await town.daemon.kill()
    await town.daemon.start(http)
    await device.until("connected")
    assert town.door.visits == straight

    await town.through(device, None)
    await eventually(lambda: _visits(town.door, straight + 1), "the device came straight")
    await device.until("connected")


async def _count(proxy: RecordingProxy, count: int) -> bool:
    return len(proxy.tunnels) >= count


async def _visits(door: Doorkeeper, count: int) -> bool:
    return door.visits >= count

"""A daemon that resumes its handshakes, and what it does where that goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import Simulated, simulating
from tests.support.daemon import Daemon
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    """A simulator of this test alone, whose options it may change."""
    with simulating() as simulated:
        yield simulated


@pytest.fixture
def noise_resume() -> str:
    return "true"


@pytest.fixture
async def mortal(
    simulated: Simulated, http: httpx.AsyncClient, tmp_path: Path, noise_resume: str
) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path, simulated.url, simulated.root_key, noise_resume=noise_resume)
    try:
        await daemon.start(http)
        yield daemon
        assert await daemon.stop() == 0
        assert daemon.errors() == []
    finally:
        daemon.end()


@pytest.fixture
async def device(tenant: Partner, people: People, alice: str) -> PartnerDevice:
    return await tenant.linked(people, alice)


async def handshake(people: People, device: PartnerDevice) -> object:
    """How the device shook hands at its last login."""
    return (await people.ask("GET", f"/devices/{device.jid}")).json()["handshake"]


async def again(people: People, device: PartnerDevice) -> object:
    """Cut the device's socket; how it shook hands when it was back."""
    await people.drop(device)
    await device.until("waiting")
    await device.until("connected")
    return await handshake(people, device)


@proves(Feature.RESUME)
async def test_device_that_reconnects_resumes_and_goes_on(
    people: People, device: PartnerDevice, bob: str
) -> None:
    assert await handshake(people, device) == "xx"
    assert await again(people, device) == "ik"
    assert (await device.send(bob, "hello")).status_code == 200
    assert await people.reads(bob, "hello") == ["hello"]


@pytest.mark.parametrize("noise_resume", ["false"])
async def test_device_shakes_hands_in_full_where_it_is_not_set(
    people: People, device: PartnerDevice
) -> None:
    assert await again(people, device) == "xx"


async def test_daemon_that_starts_knows_no_server(
    people: People, device: PartnerDevice, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    assert await again(people, device) == "ik"
    assert await mortal.stop() == 0
    await mortal.start(http)
    await device.until("connected")
    assert await handshake(people, device) == "xx"


@proves(Feature.FALLBACK)
async def test_server_that_declines_is_met_in_full_in_the_same_connection(
    people: People, device: PartnerDevice
) -> None:
    await people.ask("PATCH", "/options", resumption="refuse")
    assert await again(people, device) == "xxfallback"


@proves(Feature.FALLBACK)
async def test_new_keys_of_the_server_are_verified_and_then_resumed_with(
    people: People, device: PartnerDevice
) -> None:
    await people.ask("POST", "/keys")
    assert await again(people, device) == "xxfallback"
    assert await again(people, device) == "ik"


async def test_server_that_knows_of_no_resumption_is_met_in_full_in_the_next_connection(
    people: People, device: PartnerDevice
) -> None:
    await people.ask("PATCH", "/options", resumption="ignore")
    assert await again(people, device) == "xx"


async def test_refusal_behind_a_resumption_counts_only_after_a_full_handshake(
    people: People, device: PartnerDevice
) -> None:
    await people.refuse_login(device, 401)
    await device.until("waiting")
    await device.until("connected")
    assert await handshake(people, device) == "xx"
    await people.ask("POST", f"/devices/{device.jid}/fail-next-login", reason=401, count=2)
    await people.drop(device)
    await device.until("logged_out")


async def test_how_devices_shook_hands_is_counted(
    people: People, device: PartnerDevice, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    await again(people, device)
    headers = {"x-admin-key": mortal.settings["admin_key"]}
    page = (await http.get(f"{mortal.base_url}/metrics", headers=headers)).text
    counted = [line for line in page.splitlines() if line.startswith("sitpayd_handshakes_total{")]
    assert counted == [
        'sitpayd_handshakes_total{pattern="xx"} 1.0',
        'sitpayd_handshakes_total{pattern="ik"} 1.0',
    ]

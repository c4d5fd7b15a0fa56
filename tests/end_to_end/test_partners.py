"""Two partners on one daemon: neither sees, moves or learns of what is the other's."""

from __future__ import annotations

import httpx
import pytest

from tests.support.daemon import Daemon
from tests.support.partner import Partner
from tests.support.people import People


@pytest.fixture
async def other(daemon: Daemon, http: httpx.AsyncClient) -> Partner:
    return await Partner.register(http, daemon.base_url)


async def _refusal(partner: Partner, method: str, path: str) -> tuple[int, dict[str, object]]:
    answer = await partner.http.request(method, partner.base_url + path, headers=partner.headers)
    body = answer.json()
    del body["request_id"]
    return answer.status_code, body


async def test_device_of_another_partner_looks_like_none(
    partner: Partner, other: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    for method, route in (("GET", "/status"), ("GET", "/qr"), ("DELETE", "")):
        theirs = await _refusal(other, method, device.path + route)
        none = await _refusal(other, method, f"/partner/devices/wa_{'0' * 20}{route}")
        assert theirs == none
        assert theirs[0] == 404
    assert (await device.send(bob, "still here")).status_code == 200
    assert await people.reads(bob, "still here") == ["still here"]


async def test_user_of_another_partner_looks_like_none(partner: Partner, other: Partner) -> None:
    route = f"/partner/users/{partner.user_token}/devices"
    assert (await _refusal(other, "GET", route))[0] == 404
    answer = await partner.http.post(
        f"{other.base_url}/partner/devices",
        headers=other.headers | {"x-user-token": partner.user_token},
        json={"device_name": "stolen"},
    )
    assert answer.status_code == 404
    assert (await partner.ask("GET", route))["devices"] == []


async def test_numbers_of_a_partner_are_its_own(
    partner: Partner, other: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    assert (await device.send(bob, "counted")).status_code == 200
    mine, theirs = await partner.ask("GET", "/partner/me"), await other.ask("GET", "/partner/me")
    assert (mine["stats"], theirs["stats"]) == (
        {"users": 1, "devices": {"total": 1, "connected": 1}, "messages_sent": 1},
        {"users": 1, "devices": {"total": 0, "connected": 0}, "messages_sent": 0},
    )


async def test_two_partners_may_link_the_same_number(
    partner: Partner, other: Partner, people: People, alice: str, bob: str
) -> None:
    mine, theirs = await partner.linked(people, alice), await other.linked(people, alice)
    assert (await mine.send(bob, "from one")).status_code == 200
    assert (await theirs.send(bob, "from the other")).status_code == 200
    assert await people.reads(bob, "from the other") == ["from one", "from the other"]
    await mine.until("connected")

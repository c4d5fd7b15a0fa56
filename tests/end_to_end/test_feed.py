"""The admin feed on a real socket."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidStatus
from websockets.trio.client import connect

from sitpayd.actors.status import Evidence
from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.feed import reading_feed
from tests.support.partner import Partner
from tests.support.people import People


async def test_feed_tells_the_whole_life_of_a_device_without_a_gap(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    async with reading_feed(daemon.base_url, ADMIN_KEY) as feed:
        device = await partner.linked(people, alice)
        await partner.ask("DELETE", device.path)
        told = await feed.tells(device.session_id, "removed")
    assert told == ["unpaired", "pairing", "paired", "connecting", "connected", "removed"]
    first = feed.snapshot["seq"]
    assert isinstance(first, int)
    numbers = [change["seq"] for change in feed.changes]
    assert numbers == list(range(first + 1, first + 1 + len(numbers)))


async def test_snapshot_holds_what_was_before(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    async with reading_feed(daemon.base_url, ADMIN_KEY) as feed:
        devices = feed.snapshot["devices"]
    assert isinstance(devices, list)
    [shown] = [known for known in devices if known["session_id"] == device.session_id]
    assert (shown["status"], shown["phone"]) == ("connected", f"…{alice[-4:]}")
    assert shown["evidence"] in list(Evidence)
    assert (shown["device_name"], shown["partner_name"]) != (None, None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-admin-key": "x" * 32}, 401),
        ({"x-admin-key": ADMIN_KEY, "origin": "https://evil.example"}, 403),
        ({"x-admin-key": ADMIN_KEY, "origin": "null"}, 403),
    ],
)
async def test_feed_is_closed_to_others(
    daemon: Daemon, headers: dict[str, str], status: int
) -> None:
    url = daemon.base_url.replace("http://", "ws://") + "/admin/feed"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers):
            pass
    assert refused.value.response.status_code == status


async def test_partner_key_does_not_open_the_feed(partner: Partner, daemon: Daemon) -> None:
    url = daemon.base_url.replace("http://", "ws://") + "/admin/feed"
    headers = partner.headers | {"x-admin-key": partner.key}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers):
            pass
    assert refused.value.response.status_code == 401

"""What the server says to a device that is logged in, and what stands on the next login."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.end_to_end.conftest import Restart
from tests.support.matrix import Feature, proves
from tests.support.partner import Json, Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually

# More than one batch, and not more than one page of messages.
BACKLOG = 150
# What the server sends with each kind of notification; the rest needs no content.
CONTENTS: dict[str, list[Json]] = {
    "server_sync": [{"tag": "collection", "attrs": {"name": "regular_high", "version": "7"}}],
    "account_sync": [{"tag": "privacy"}],
    "picture": [{"tag": "set", "attrs": {"id": "1", "hash": "x"}}],
    "status": [{"tag": "set", "text": "busy"}],
    "mediaretry": [{"tag": "error", "attrs": {"code": "2"}}],
    "newsletter": [{"tag": "live_updates"}],
    "w:gp2": [{"tag": "subject", "attrs": {"subject": "new"}}],
    "mex": [{"tag": "update", "attrs": {"op_name": "NotificationNewsletterUpdate"}, "text": "{}"}],
    # Three that cannot be read.
    "encrypt": [{"tag": "count"}],
    "devices": [{"tag": "add", "children": [{"tag": "device"}]}],
    "privacy_token": [],
}
PLAIN = ["business", "disappearing_mode", "psa", "pay", "hosted", "server", "w:growth", "mystery"]


@pytest.fixture
async def device(partner: Partner, people: People, alice: str) -> PartnerDevice:
    return await partner.linked(people, alice)


async def shown(people: People, device: PartnerDevice) -> Json:
    """The device, as the server sees it."""
    answer: Json = (await people.ask("GET", f"/devices/{device.jid}")).json()
    return answer


async def becomes(
    people: People, device: PartnerDevice, what: str, holds: Callable[[Json], bool]
) -> None:
    async def look() -> bool:
        return holds(await shown(people, device))

    await eventually(look, what)


async def announce(people: People, device: PartnerDevice, kind: str, content: list[Json]) -> None:
    path = f"/devices/{device.jid}/notifications"
    await people.ask("POST", path, type=kind, content=content)


async def again(people: People, device: PartnerDevice) -> None:
    """Cut the device's socket and wait until it is back."""
    await people.drop(device)

    async def look() -> bool:
        return (await shown(people, device))["state"] == "active"

    await eventually(look, "the device is back")
    await device.until("connected")


# --- at the login ---


async def test_server_that_lost_the_keys_is_given_new_ones(
    people: People, device: PartnerDevice
) -> None:
    before = (await shown(people, device))["prekeys"]
    assert isinstance(before, int)
    # The upload of the first login was minutes ago at the most, and the server still counts it.
    await people.wrong("no_digest", device)
    await again(people, device)
    await people.all_happened()
    assert (await shown(people, device))["prekeys"] == before


@proves(Feature.DIGEST)
async def test_restarted_daemon_gives_new_keys_to_a_server_that_lost_them(
    tenant: Partner, people: People, alice: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    before = (await shown(people, device))["prekeys"]
    assert isinstance(before, int)
    await people.wrong("no_digest", device)
    await crash()
    await becomes(people, device, "it got 50 more", lambda told: told["prekeys"] == before + 50)


@proves(Feature.ROUTING)
async def test_device_whose_routing_is_refused_comes_back_without_it(
    people: People, device: PartnerDevice, bob: str
) -> None:
    await again(people, device)
    await people.wrong("refuse_routing", device)
    await again(people, device)
    await people.all_happened()
    await again(people, device)
    assert (await device.send(bob, "routed anew")).status_code == 200


@proves(Feature.ROUTING)
async def test_routing_outlives_the_daemon(
    tenant: Partner, people: People, alice: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    # Only a connection that comes with routing bytes is refused.
    await people.wrong("refuse_routing", device)
    await crash()
    await people.all_happened()
    await device.until("connected")


async def test_props_are_told_once(people: People, device: PartnerDevice) -> None:
    await people.ask("PUT", "/props", **{"10518": "true", "14303": "true"})
    await again(people, device)
    await again(people, device)


# --- while it is logged in ---


@proves(Feature.SERVER_PING)
async def test_ping_of_the_server_is_answered(people: People, device: PartnerDevice) -> None:
    await people.ask("POST", f"/devices/{device.jid}/ping")
    await becomes(people, device, "it answered", lambda told: told["unanswered"] == 0)
    assert (await device.status())["status"] == "connected"


@proves(Feature.PREKEYS_LOW)
async def test_server_with_few_keys_is_given_more(people: People, device: PartnerDevice) -> None:
    before = (await shown(people, device))["prekeys"]
    assert isinstance(before, int)
    await announce(people, device, "encrypt", [{"tag": "count", "attrs": {"value": "3"}}])
    await becomes(people, device, "it got more", lambda told: int(str(told["prekeys"])) > before)


@pytest.mark.parametrize("kind", ["account_sync", "groups"])
@proves(Feature.DIRTY)
async def test_what_is_dirty_is_cleaned(people: People, device: PartnerDevice, kind: str) -> None:
    await people.ask("POST", f"/devices/{device.jid}/dirty", type=kind)
    await becomes(people, device, "it is clean", lambda told: told["dirty"] == {})


@proves(Feature.DIRTY)
async def test_what_gets_dirty_while_the_device_is_away_is_cleaned_at_its_login(
    people: People, device: PartnerDevice
) -> None:
    await people.take_offline(device)
    await people.ask("POST", f"/devices/{device.jid}/dirty", type="groups")
    await people.all_right()
    await becomes(people, device, "it is clean", lambda told: told["dirty"] == {})


@proves(Feature.NOTIFICATIONS)
async def test_every_kind_of_notification_is_answered(
    people: People, device: PartnerDevice, bob: str
) -> None:
    for kind, content in CONTENTS.items():
        await announce(people, device, kind, content)
    for kind in PLAIN:
        await announce(people, device, kind, [])
    await becomes(
        people,
        device,
        "it answered all",
        lambda told: (told["queued"], told["unanswered"]) == (0, 0),
    )
    assert (await device.send(bob, "still there")).status_code == 200


@proves(Feature.LIMITS)
async def test_used_up_quota_holds_new_chats_until_it_is_better(
    people: People, device: PartnerDevice, bob: str
) -> None:
    async def tell(status: str) -> None:
        told = json.dumps({"data": {"told": {"capping_status": status}}})
        attrs = {"op_name": "MessageCappingInfoNotification"}
        await announce(people, device, "mex", [{"tag": "update", "attrs": attrs, "text": told}])

    await tell("CAPPED")
    await becomes(people, device, "it heard", lambda told: told["queued"] == 0)
    refused = await device.send(bob, "new here")
    assert (refused.status_code, refused.json()["code"]) == (429, "new_chat_limit")
    await tell("FIRST_WARNING")
    await becomes(people, device, "it heard", lambda told: told["queued"] == 0)
    assert (await device.send(bob, "new here")).status_code == 200


# --- after days offline ---


@pytest.fixture
async def batches(people: People) -> AsyncIterator[None]:
    """A server that hands a backlog out as it is asked for it."""
    await people.ask("PATCH", "/options", batches=True)
    yield
    await people.ask("PATCH", "/options", batches=False)


@pytest.mark.usefixtures("batches")
@proves(Feature.BATCHES)
async def test_backlog_in_batches_comes_whole_and_in_order(
    people: People, device: PartnerDevice, alice: str, bob: str
) -> None:
    await people.take_offline(device)
    for number in range(BACKLOG):
        await people.say(bob, alice, f"text {number}")
    await people.all_right()
    await device.message(f"text {BACKLOG - 1}", direction="in")
    await becomes(people, device, "nothing waits", lambda told: told["queued"] == 0)
    texts = [message["text"] for message in await device.messages()]
    assert texts == [f"text {number}" for number in range(BACKLOG)]

"""The server ends a connection for good or for now: what the partner sees, and what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.end_to_end.conftest import Restart
from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.feed import reading_feed
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People


async def _send_code(device: PartnerDevice, to: str) -> tuple[int, str]:
    answer = await device.send(to, "hello")
    return answer.status_code, str(answer.json().get("code"))


@proves(Feature.ENDINGS)
async def test_device_unlinked_on_the_phone_is_logged_out(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.ask("DELETE", f"/devices/{device.jid}")
    assert (await device.until("logged_out"))["reason"] == "device_removed"
    assert await _send_code(device, bob) == (409, "device_logged_out")
    assert await people.shown(bob) == []


@proves(Feature.LINK_BY_QR)
async def test_logged_out_device_is_linked_again_with_a_fresh_code(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.ask("DELETE", f"/devices/{device.jid}")
    await device.until("logged_out")
    await device.link(people, alice)
    assert device.qr_texts[0] != device.qr_texts[1]
    assert (await device.send(bob, "linked again")).status_code == 200
    await people.reads(bob, "linked again")


async def test_device_unlinked_while_away_is_logged_out_at_its_next_login(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    await people.ask("DELETE", f"/devices/{device.jid}")
    await people.all_right()
    assert (await device.until("logged_out"))["reason"] == "logged_out"


@proves(Feature.ENDINGS)
async def test_replaced_device_rests_also_after_a_restart(
    tenant: Partner, people: People, alice: str, bob: str, mortal: Daemon
) -> None:
    device = await tenant.linked(people, alice)
    await people.stream_error(device, 409, "replaced")
    await device.until("replaced")
    assert await _send_code(device, bob) == (409, "device_replaced")
    await mortal.stop()
    await mortal.start(tenant.http)
    # A device that came later connects: one that may dial would have done so before.
    await tenant.linked(people, bob)
    assert (await device.status())["status"] == "replaced"
    [linked] = await people.devices(alice)
    assert not linked["connected"]


@proves(Feature.ENDINGS)
async def test_temporary_ban_shows_its_end(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.refuse_login(device, 402, expire=3600, code=101)
    known = await device.until("banned")
    until = datetime.fromisoformat(str(known["until"])) - datetime.now(UTC)
    assert timedelta(minutes=59) < until <= timedelta(hours=1)
    answer = await device.send(bob, "hello")
    assert (answer.status_code, answer.json()["code"]) == (409, "device_banned")
    assert answer.json()["until"] == known["until"]


async def test_login_refused_for_now_is_tried_again(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    async with reading_feed(daemon.base_url, ADMIN_KEY) as feed:
        await people.refuse_login(device, 503)
        told = await feed.tells(device.session_id, "connected")
    assert told == ["waiting", "connecting", "waiting", "connecting", "connected"]


@proves(Feature.RESTART)
async def test_restart_of_the_stream_connects_again_at_once(
    tenant: Partner, people: People, alice: str, mortal: Daemon, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    # Linking has had its restart; two in a row would be a loop, and wait.
    await crash()
    await device.until("connected")
    async with reading_feed(mortal.base_url, ADMIN_KEY) as feed:
        await people.stream_error(device, 515)
        told = await feed.tells(device.session_id, "connected")
    assert told == ["connecting", "connected"]


async def test_stream_error_for_now_connects_again(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    async with reading_feed(daemon.base_url, ADMIN_KEY) as feed:
        await people.stream_error(device, 503)
        told = await feed.tells(device.session_id, "connected")
    assert told == ["waiting", "connecting", "connected"]

"""The socket to WhatsApp is cut: the device comes back by itself, and no message gets lost."""

from __future__ import annotations

from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.feed import reading_feed
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner
from tests.support.people import People


@proves(Feature.CUT_SOCKET)
async def test_dropped_device_waits_and_connects_again(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    async with reading_feed(daemon.base_url, ADMIN_KEY) as feed:
        await people.drop(device)
        told = await feed.tells(device.session_id, "connected")
    assert told == ["waiting", "connecting", "connected"]


async def test_message_to_a_device_that_is_away_is_held_and_sent_in_time(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.drop(device)
    assert (await device.send(bob, "held")).status_code == 200
    assert await people.reads(bob, "held") == ["held"]


async def test_message_that_cannot_go_in_time_is_taken_back_and_never_arrives(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    answer = await device.send(bob, "too late", Prefer="wait=1")
    assert (answer.status_code, answer.json()["code"]) == (503, "device_offline")
    assert int(answer.headers["retry-after"]) > 0
    await device.message("too late", state="canceled")
    await people.all_right()
    assert (await device.send(bob, "in time")).status_code == 200
    assert await people.reads(bob, "in time") == ["in time"]


async def test_message_with_a_key_is_queued_and_arrives_once(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    first = await device.send(bob, "queued", Prefer="wait=1", Idempotency_Key="order-7")
    assert (first.status_code, first.json()["type"]) == (202, "queued")
    await people.all_right()
    second = await device.send(bob, "queued", Idempotency_Key="order-7")
    assert (second.status_code, second.json()["message"]) == (200, "Message sent")
    third = await device.send(bob, "queued", Idempotency_Key="order-7")
    assert (third.status_code, third.headers["idempotency-replayed"]) == (200, "true")
    assert third.json()["message_id"] == first.json()["message_id"]
    assert await people.reads(bob, "queued") == ["queued"]


@proves(Feature.RECEIPTS)
async def test_status_url_of_a_queued_message_shows_its_way(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    queued = await device.send(bob, "shown", Prefer="respond-async")
    await device.message("shown", state="delivered")
    answer = (await partner.http.get(queued.json()["status_url"])).json()
    way = [change["state"] for change in answer["history"]]
    assert way == ["accepted", "armed", "sent", "delivered"]

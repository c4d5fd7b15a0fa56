"""The wire misbehaves for a moment: every message still arrives, and once."""

from __future__ import annotations

import httpx
import pytest
import trio

from tests.end_to_end.conftest import Restart
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "repeat_ack"])
async def test_sent_message_arrives_once(
    partner: Partner, people: People, alice: str, bob: str, fault: str
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong(fault, device)
    assert (await device.send(bob, "through")).status_code == 200
    assert (await device.send(bob, "next")).status_code == 200
    assert await people.reads(bob, "next") == ["through", "next"]


@pytest.mark.parametrize("fault", ["repeat_message", "garble", "split", "join"])
@proves(Feature.TWICE)
async def test_message_that_comes_in_is_stored_once(
    partner: Partner, people: People, alice: str, bob: str, fault: str
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong(fault, device)
    await people.say(bob, alice, "through")
    await people.say(bob, alice, "next")
    await device.message("through", direction="in")
    await device.message("next", direction="in")
    assert sorted(str(message["text"]) for message in await device.messages()) == [
        "next",
        "through",
    ]


async def test_backlog_without_an_end_is_taken_in(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    await people.say(bob, alice, "while you were away")
    await people.all_right()
    await people.wrong("no_offline_end", device)
    await device.message("while you were away", direction="in")
    assert (await device.send(bob, "back")).status_code == 200


async def test_device_killed_right_after_its_linking_is_remembered(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.device()
    device.jid = await people.scan(alice, await device.qr_text())
    await crash()
    await device.until("connected")
    assert (await device.send(bob, "remembered")).status_code == 200
    await people.reads(bob, "remembered")


async def test_many_requests_at_once_are_all_sent_once(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    texts = [f"message {number}" for number in range(30)]
    answers: list[httpx.Response] = []
    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(_send, device, bob, text, answers)
    assert {answer.status_code for answer in answers} == {200}
    accepted = [message["text"] for message in await device.messages()]
    assert await people.shown(bob) == accepted
    assert sorted(map(str, accepted)) == sorted(texts)


async def test_one_key_in_many_requests_at_once_is_one_message(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    answers: list[httpx.Response] = []
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(_send, device, bob, "once", answers, "one-key")
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["message_id"] for answer in answers}) == 1
    assert await people.reads(bob, "once") == ["once"]


async def test_caller_that_leaves_does_not_take_its_message_along(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    answers: list[httpx.Response] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send, device, bob, "goes on", answers)
        await device.message("goes on", state="accepted")
        nursery.cancel_scope.cancel()
    await people.all_right()
    assert answers == []
    assert await people.reads(bob, "goes on") == ["goes on"]


async def _send(
    device: PartnerDevice,
    to: str,
    text: str,
    answers: list[httpx.Response],
    key: str | None = None,
) -> None:
    headers = {} if key is None else {"Idempotency_Key": key}
    answers.append(await device.send(to, text, **headers))

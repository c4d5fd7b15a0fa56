"""What a device does among people: who has an account, who is online, who types, what was read."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio

from tests.end_to_end.conftest import Restart, Simulated
from tests.support.daemon import Daemon
from tests.support.matrix import Feature, proves
from tests.support.partner import Json, Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually

NOBODY = "4915199999999"


async def check(device: PartnerDevice, *numbers: str) -> list[Json]:
    answer = await device.post("check", {"numbers": list(numbers)})
    assert answer.status_code == 200, answer.text
    results: list[Json] = answer.json()["results"]
    return results


async def checked(people: People, owner: str) -> int:
    """How many numbers the owner's device has looked up."""
    (device,) = await people.devices(owner)
    return int(str(device["checked"]))


async def shows(people: People, number: str, **expected: object) -> None:
    """Wait until others see this of a person."""

    async def look() -> bool:
        return expected.items() <= (await people.shown_by(number)).items()

    await eventually(look, f"{number} shows {expected}")


async def sees(people: People, number: str, *expected: tuple[str, str]) -> None:
    """Wait until a person has seen just this of others' typing."""

    async def look() -> bool:
        return await people.seen_by(number) == list(expected)

    await eventually(look, f"{number} sees {expected}")


async def reads(device: PartnerDevice, message: Json, **body: object) -> Json:
    answer = await device.post(f"messages/{message['message_id']}/read", body)
    assert answer.status_code == 200, answer.text
    told: Json = answer.json()
    return told


# --- number checks ---


@proves(Feature.CHECK)
async def test_numbers_are_looked_up_once(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    first = await check(device, bob, NOBODY)
    assert [(r["number"], r["registered"], r["cached"]) for r in first] == [
        (bob, True, False), (NOBODY, False, False),
    ]  # fmt: skip
    again = await check(device, NOBODY, bob)
    assert [(r["number"], r["registered"], r["cached"]) for r in again] == [
        (NOBODY, False, True), (bob, True, True),
    ]  # fmt: skip
    assert await checked(people, alice) == 2


async def test_number_that_was_absent_costs_a_send_no_look_up(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    (absent,) = await check(device, NOBODY)
    assert absent["registered"] is False
    refused = await device.send(NOBODY, "is anybody there")
    assert (refused.status_code, refused.json()["code"]) == (422, "not_on_whatsapp")
    assert await checked(people, alice) == 1


async def test_what_a_send_found_out_is_known(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    for text in ("is anybody there", "hello?"):
        refused = await device.send(NOBODY, text)
        assert (refused.status_code, refused.json()["code"]) == (422, "not_on_whatsapp")
    assert (await device.send(bob, "hello")).status_code == 200
    absent, friend = await check(device, NOBODY, bob)
    assert (absent["registered"], absent["cached"]) == (False, True)
    assert (friend["registered"], friend["cached"]) == (True, True)
    assert await checked(people, alice) == 1


async def test_refused_look_up_is_not_called_absent_nor_repeated(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong("refuse_check", device)
    for _ in range(2):
        (unknown,) = await check(device, bob)
        assert (unknown["registered"], unknown["reason"]) == (None, "no_answer")
    assert await checked(people, alice) == 1


async def test_checks_survive_a_crash(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await check(device, bob, NOBODY)
    await crash()
    await device.until("connected")
    found = await check(device, bob, NOBODY)
    assert [(r["registered"], r["cached"]) for r in found] == [(True, True), (False, True)]
    assert await checked(people, alice) == 2


async def test_paced_device_looks_up_as_many_as_the_hour_allows(
    simulated: Simulated, people: People, http: httpx.AsyncClient, tmp_path: Path, alice: str
) -> None:
    daemon = Daemon(
        tmp_path, simulated.url, simulated.root_key, pacing="on", number_checks_per_hour="2"
    )
    try:
        await daemon.start(http)
        partner = await Partner.register(http, daemon.base_url)
        device = await partner.linked(people, alice)
        others = [await people.make() for _ in range(5)]
        found: list[Json] = []

        async def look_up(*numbers: str) -> None:
            found.extend(await check(device, *numbers))

        # Two requests at once do not have two hours.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up, *others[:2])
            nursery.start_soon(look_up, *others[2:4])
        assert [r["registered"] for r in found].count(True) == 2
        limited = [*(r for r in found if r["registered"] is None), *await check(device, others[4])]
        assert [r["reason"] for r in limited] == ["check_limit"] * 3
        assert all(3500 < int(str(r["retry_after"])) <= 3600 for r in limited)
        assert await checked(people, alice) == 2
        assert await daemon.stop() == 0
    finally:
        daemon.end()


async def test_device_that_is_away_checks_nothing(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    answer = await device.post("check", {"numbers": [bob]}, Prefer="wait=1")
    assert (answer.status_code, answer.json()["code"]) == (503, "device_offline")
    await people.all_right()
    answer = await device.post("check", {"numbers": [bob]}, Prefer="wait=20")
    assert answer.json()["results"][0]["registered"] is True


# --- online, typing ---


@proves(Feature.PRESENCE)
async def test_device_appears_online_and_offline(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await shows(people, alice, available=False, name=None)
    answer = await device.post("presence", {"presence": "available"})
    assert answer.status_code == 200, answer.text
    await shows(people, alice, available=True)
    # How the account calls itself the phone tells, perhaps not yet.
    assert (await people.shown_by(alice))["name"] in ("John iPhone", "Alice")
    await device.post("presence", {"presence": "unavailable"})
    await shows(people, alice, available=False)
    await device.post("presence", {"presence": "available", "seconds": 1})
    await shows(people, alice, available=True)
    await shows(people, alice, available=False)


async def test_presence_bears_the_name_that_the_phone_tells(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.say(alice, bob, "Told by the phone")
    await device.message("Told by the phone", direction="out")
    await device.post("presence", {"presence": "available"})
    await shows(people, alice, available=True, name="Alice")


async def test_daemon_that_stops_leaves_nobody_online(
    tenant: Partner, people: People, alice: str, mortal: Daemon
) -> None:
    device = await tenant.linked(people, alice)
    await device.post("presence", {"presence": "available", "seconds": 600})
    await shows(people, alice, available=True)
    assert await mortal.stop() == 0
    (left,) = await people.devices(alice)
    # Not since its socket is gone: it said so.
    assert (left["connected"], left["available"]) == (False, False)


@proves(Feature.TYPING)
async def test_typing_is_seen_and_ended(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    unknown = await device.post("typing", {"to": bob, "state": "composing"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_number")
    assert (await device.send(bob, "hello")).status_code == 200
    for state in ("composing", "recording", "paused"):
        answer = await device.post("typing", {"to": bob, "state": state})
        assert answer.status_code == 200, answer.text
    await sees(people, bob, (alice, "composing"), (alice, "recording"), (alice, "paused"))
    await shows(people, alice, available=False)


@proves(Feature.PRESENCE)
@proves(Feature.TYPING)
async def test_what_others_show_disturbs_nothing(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await device.post("presence", {"presence": "available"})
    await people.ask("POST", f"/accounts/{bob}/presence", available=True)
    await people.ask("POST", f"/accounts/{bob}/typing", to=alice, state="composing")
    await people.say(bob, alice, "hello")
    await device.message("hello", direction="in", state="received")
    assert await people.seen_by(alice) == [(bob, "composing")]


# --- read marks ---


@proves(Feature.READ_MARKS)
async def test_sender_is_told_what_was_read(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    for text in ("one", "two", "three"):
        await people.say(bob, alice, text)
    one, two, three = [await device.message(text) for text in ("one", "two", "three")]
    assert (await reads(device, two))["marked"] == 2
    for message in (one, two):
        await people.is_told(bob, str(message["wa_message_id"]), "read")
    assert "read" not in await people.receipts(bob, str(three["wa_message_id"]))
    states = {m["text"]: m["state"] for m in await device.messages()}
    assert states == {"one": "read", "two": "read", "three": "received"}
    assert (await reads(device, two))["marked"] == 0
    assert (await people.receipts(bob, str(two["wa_message_id"]))).count("read") == 1


async def test_what_was_read_is_told_after_a_crash(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await people.say(bob, alice, "hello")
    message = await device.message("hello")
    await people.take_offline(device)
    assert (await reads(device, message))["marked"] == 1
    await crash()
    assert "read" not in await people.receipts(bob, str(message["wa_message_id"]))
    await people.all_right()
    await people.is_told(bob, str(message["wa_message_id"]), "read")
    await device.message("hello", state="read")


async def test_companion_that_is_online_confirms_what_it_gets(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await device.post("presence", {"presence": "available"})
    await people.say(bob, alice, "hello")
    message = await device.message("hello")
    wa_message_id = str(message["wa_message_id"])

    async def look() -> bool:
        entry = (await people.ask("GET", f"/messages/{wa_message_id}")).json()
        return bool(entry["copies"][device.jid]["receipts"] == ["delivered"])

    await eventually(look, "the device confirms the message as one that is online")

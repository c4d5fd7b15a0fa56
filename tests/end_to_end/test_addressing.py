"""Sessions and addresses over the life of an account: people change phones, devices and names."""

from __future__ import annotations

import pytest
import trio

from tests.end_to_end.conftest import Restart
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually


async def talked(device: PartnerDevice, people: People, number: str, owner: str) -> None:
    """Both sides have written."""
    assert (await device.send(number, "one")).status_code == 200
    await people.reads(number, "one")
    await people.say(number, owner, "two")
    await device.message("two", direction="in")


async def incoming(device: PartnerDevice) -> list[str]:
    return [str(m["text"]) for m in await device.messages() if m["direction"] == "in"]


async def history(device: PartnerDevice) -> list[str]:
    told = await device.partner.ask("GET", f"{device.path}/history")
    events = told["events"]
    assert isinstance(events, list)
    return [event["kind"] for event in events]


# --- number and LID ---


@proves(Feature.BY_NUMBER)
@proves(Feature.MIGRATION)
async def test_person_whose_lid_becomes_known_in_the_middle_is_understood_throughout(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    """Sessions under the number and under the LID, which then turn out to be of one person."""
    device = await partner.linked(people, alice)
    await people.treat(bob, lid_is_hidden=True)
    await people.say(bob, alice, "by number", addressing="pn")
    await device.message("by number", direction="in", peer=bob)
    assert (await device.send(bob, "answer by number")).status_code == 200
    await people.reads(bob, "answer by number")
    # For the device this is somebody else: it asks for keys, and a second session begins.
    await people.say(bob, alice, "by lid", addressing="lid")
    await device.message("by lid", direction="in")
    await people.treat(bob, lid_is_hidden=False)
    await people.say(bob, alice, "now you know", addressing="lid")
    await device.message("now you know", direction="in", peer=bob)
    for turn in range(2):
        assert (await device.send(bob, f"to you {turn}")).status_code == 200
        await people.reads(bob, f"to you {turn}")
        for form in ("pn", "lid"):
            await people.say(bob, alice, f"{form} {turn}", addressing=form)
            await device.message(f"{form} {turn}", direction="in", peer=bob)
    assert len(await incoming(device)) == len(set(await incoming(device))) == 7
    assert await people.retries_of(device) <= 2


@proves(Feature.MIGRATION)
async def test_mapping_comes_with_the_question_for_devices(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.treat(bob, lid_is_hidden=True)
    await people.say(bob, alice, "by number", addressing="pn")
    await device.message("by number", direction="in", peer=bob)
    await people.treat(bob, lid_is_hidden=False)
    assert (await device.send(bob, "by lid")).status_code == 200
    await people.reads(bob, "by lid")
    await people.say(bob, alice, "by number again", addressing="pn")
    await device.message("by number again", direction="in", peer=bob)
    assert await people.retries_of(device) == 0


@proves(Feature.REFUSED_LID)
async def test_person_who_takes_nothing_by_lid_is_written_to_by_number_from_then_on(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.treat(bob, lid_refusal=479)
    first = await device.send(bob, "tried three times")
    assert (first.status_code, first.json()["type"]) == (200, "success")
    await people.reads(bob, "tried three times")
    await people.was_sent(first.json()["wa_message_id"], 3)
    await crash()
    second = await device.send(bob, "at once")
    assert second.status_code == 200
    await people.was_sent(second.json()["wa_message_id"], 1)
    assert (await people.entry(second))["to"] == f"{bob}@s.whatsapp.net"
    await people.say(bob, alice, "and back", addressing="lid")
    await device.message("and back", direction="in", peer=bob)
    # Others go by LID as ever.
    carol = await people.make("Carol")
    third = await device.send(carol, "hello")
    assert str((await people.entry(third))["to"]).endswith("@lid")
    assert await people.shown(bob) == ["one", "tried three times", "at once"]


@proves(Feature.REFUSED_LID)
async def test_number_that_is_refused_leads_back_to_the_lid(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.treat(bob, lid_refusal=479)
    assert (await device.send(bob, "by number")).status_code == 200
    await people.treat(bob, lid_refusal=None)
    await people.wrong("nack", device, code=463)
    assert (await device.send(bob, "refused")).status_code == 429
    again = await device.send(bob, "by lid")
    assert again.status_code == 200
    assert str((await people.entry(again))["to"]).endswith("@lid")


# --- in which order messages come ---


@proves(Feature.OUT_OF_ORDER)
async def test_messages_that_overtake_each_other_are_read(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.wrong("late_message", device, count=2)
    for text in ("three", "four", "five"):
        await people.say(bob, alice, text)
    for text in ("three", "four", "five"):
        await device.message(text, direction="in", peer=bob)
    assert await people.retries_of(device) == 0
    await people.ask("POST", "/faults", kind="late_message", phone=bob, count=2)
    for text in ("six", "seven", "eight"):
        assert (await device.send(bob, text)).status_code == 200
    assert await people.reads(bob, "seven") == ["one", "eight", "six", "seven"]


@proves(Feature.BOTH_BEGIN)
async def test_both_beginning_at_once_converge(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.send, bob, "no, you")
        nursery.start_soon(people.say, bob, alice, "you first")
    await people.reads(bob, "no, you")
    await device.message("you first", direction="in", peer=bob)
    for turn in range(3):
        assert (await device.send(bob, f"question {turn}")).status_code == 200
        await people.reads(bob, f"question {turn}")
        await people.say(bob, alice, f"answer {turn}")
        await device.message(f"answer {turn}", direction="in", peer=bob)
    assert await people.retries_of(device) == 0


# --- other keys, other devices ---


@proves(Feature.NEW_PHONE)
async def test_contact_on_a_new_phone_is_written_to_and_understood_at_once(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.reinstall(bob)

    async def noted() -> bool:
        return "identity_changed" in await history(device)

    await eventually(noted, "the change is noted")
    assert (await device.send(bob, "to the new phone")).status_code == 200
    await people.reads(bob, "to the new phone")
    await people.say(bob, alice, "from the new phone")
    await device.message("from the new phone", direction="in", peer=bob)
    assert await people.retries_of(device) == 0


@proves(Feature.NEW_PHONE)
async def test_contact_on_a_new_phone_is_reached_although_nobody_said_so(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    """The request for the message brings the new keys."""
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.wrong("lose_notification", device)
    await people.reinstall(bob)
    await people.all_happened()
    assert (await device.send(bob, "to whom it may concern")).status_code == 200
    assert await people.reads(bob, "to whom it may concern") == ["one", "to whom it may concern"]
    assert "identity_changed" in await history(device)
    await people.say(bob, alice, "it is me")
    await device.message("it is me", direction="in", peer=bob)


@proves(Feature.NEW_PHONE)
async def test_contact_on_a_new_phone_is_understood_although_nobody_said_so(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.wrong("lose_notification", device)
    await people.reinstall(bob)
    await people.all_happened()
    await people.say(bob, alice, "it is me")
    await device.message("it is me", direction="in", peer=bob)
    assert "identity_changed" in await history(device)
    assert (await device.send(bob, "good to know")).status_code == 200
    await people.reads(bob, "good to know")
    assert await people.retries_of(device) == 0


@proves(Feature.DEVICE_CHANGES)
async def test_device_that_a_contact_links_and_removes_is_followed(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    assert (await device.send(bob, "before")).status_code == 200
    theirs = await people.link_companion(bob)
    await people.heard_all(alice)
    sent = await device.send(bob, "to both")
    assert sent.status_code == 200
    await people.companion_reads(theirs, "to both")
    # At once, not only after the server said that one was missed.
    await people.was_sent(sent.json()["wa_message_id"], 1)
    await people.ask("DELETE", f"/devices/{theirs}")
    await people.heard_all(alice)
    last = await device.send(bob, "to the phone alone")
    assert last.status_code == 200
    await people.was_sent(last.json()["wa_message_id"], 1)
    assert await people.reads(bob, "to the phone alone") == [
        "before",
        "to both",
        "to the phone alone",
    ]


@proves(Feature.HOSTED)
async def test_business_in_the_cloud_reads_along(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    cloud = await people.link_companion(bob, hosted=True)
    for turn in range(3):
        assert (await device.send(bob, f"to both {turn}")).status_code == 200
        await people.companion_reads(cloud, f"to both {turn}")
    assert await people.shown(bob) == [f"to both {turn}" for turn in range(3)]


# --- what could not be read ---


async def test_request_for_an_unreadable_message_outlives_a_crash(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.ask("POST", "/faults", kind="corrupt", phone=bob)
    await people.ask("POST", "/faults", kind="deaf", phone=bob)
    await people.say(bob, alice, "unreadable")
    await people.all_happened()
    await crash()
    await people.say(bob, alice, "readable")
    await device.message("readable", direction="in", peer=bob)
    assert await incoming(device) == ["two", "readable"]


@proves(Feature.TOLD_AGAIN)
async def test_phone_tells_what_its_sender_does_not_send_again(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.ask("POST", "/faults", kind="corrupt", phone=bob)
    await people.ask("POST", "/faults", kind="deaf", phone=bob)
    await people.say(bob, alice, "only my phone can read this")
    told = await device.message("only my phone can read this", direction="in", peer=bob)
    assert told["state"] == "received"
    assert await incoming(device) == ["two", "only my phone can read this"]


@pytest.mark.parametrize("times", [1, 2])
@proves(Feature.UNREADABLE)
async def test_message_that_is_sent_again_is_stored_once(
    partner: Partner, people: People, alice: str, bob: str, times: int
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.ask("POST", "/faults", kind="corrupt", phone=bob, count=times)
    await people.say(bob, alice, "once more")
    await device.message("once more", direction="in", peer=bob)
    await people.say(bob, alice, "and on")
    await device.message("and on", direction="in", peer=bob)
    assert await incoming(device) == ["two", "once more", "and on"]


@proves(Feature.UNREADABLE)
async def test_phone_that_lost_its_sessions_gets_the_message_once_more(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked(device, people, bob, alice)
    await people.ask("POST", "/faults", kind="forget", phone=bob)
    assert (await device.send(bob, "forgotten")).status_code == 200
    assert await people.reads(bob, "forgotten") == ["one", "forgotten"]
    await people.say(bob, alice, "here again")
    await device.message("here again", direction="in", peer=bob)

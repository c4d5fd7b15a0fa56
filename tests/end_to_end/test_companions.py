"""More than one device on either side: everybody gets the text, and nobody twice."""

from __future__ import annotations

from tests.support.matrix import Feature, proves
from tests.support.partner import Partner
from tests.support.people import People


@proves(Feature.FAN_OUT)
async def test_message_reaches_own_second_device_and_every_device_of_the_recipient(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    first = await partner.linked(people, alice)
    second = await partner.linked(people, alice)
    theirs = [await partner.linked(people, bob), await partner.linked(people, bob)]
    assert (await first.send(bob, "to all of you")).status_code == 200
    assert await people.reads(bob, "to all of you") == ["to all of you"]
    assert await people.reads(alice, "to all of you") == ["to all of you"]
    for device in theirs:
        got = await device.message("to all of you", direction="in")
        assert got["peer"] == alice
    copy = await second.message("to all of you", direction="out")
    assert copy["peer"] == bob


@proves(Feature.DEVICE_CHANGES)
async def test_device_linked_later_gets_the_next_message(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender = await partner.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    await people.reads(bob, "before")
    later = await partner.linked(people, bob)
    assert (await sender.send(bob, "after")).status_code == 200
    await later.message("after", direction="in")
    assert [message["text"] for message in await later.messages()] == ["after"]


async def test_own_device_linked_later_gets_the_next_copy(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender = await partner.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    later = await partner.linked(people, alice)
    assert (await sender.send(bob, "after")).status_code == 200
    await later.message("after", direction="out", peer=bob)


async def test_unlinked_device_gets_nothing_more(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender, theirs = await partner.linked(people, alice), await partner.linked(people, bob)
    assert (await sender.send(bob, "before")).status_code == 200
    await theirs.message("before", direction="in")
    await people.ask("DELETE", f"/devices/{theirs.jid}")
    await theirs.until("logged_out")
    assert (await sender.send(bob, "after")).status_code == 200
    assert await people.reads(bob, "after") == ["before", "after"]
    assert [message["text"] for message in await theirs.messages()] == ["before"]


async def test_what_the_phone_writes_appears_at_its_device_as_sent(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.say(alice, bob, "from the phone")
    message = await device.message("from the phone", direction="out")
    assert message["peer"] == bob


async def test_note_to_oneself_reaches_the_own_phone(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    assert (await device.send(alice, "a note")).status_code == 200
    assert await people.reads(alice, "a note") == ["a note"]


@proves(Feature.TEXTS)
@proves(Feature.FIRST_MESSAGES)
async def test_conversation_goes_both_ways_in_order(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    assert (await device.send(bob, "one")).status_code == 200
    await people.say(bob, alice, "two")
    await device.message("two", direction="in")
    assert (await device.send(bob, "three")).status_code == 200
    assert await people.reads(bob, "three") == ["one", "three"]
    messages = await device.messages()
    assert [(m["direction"], m["text"]) for m in messages] == [
        ("out", "one"),
        ("in", "two"),
        ("out", "three"),
    ]

"""F-31 from outside: somebody links a device, and nobody tells the sender of it."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import Restart
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People


async def linked_unnoticed(
    partner: Partner, people: People, number: str, sender: PartnerDevice
) -> PartnerDevice:
    """Link a device to this number while the sender's notification of it is lost."""
    await people.wrong("lose_notification", sender)
    device = await partner.linked(people, number)
    await people.all_happened()
    return device


async def shown_once(device: PartnerDevice, text: str, direction: str) -> None:
    await device.message(text, direction=direction)
    shown = [message["text"] for message in await device.messages()]
    assert shown == [text]


async def history(sender: PartnerDevice, text: str) -> list[str]:
    """What became of a text, once it is delivered."""
    message_id = (await sender.message(text, state="delivered"))["message_id"]
    partner = sender.partner
    response = await partner.http.get(f"{partner.base_url}/wa/{sender.token}/messages/{message_id}")
    return [change["state"] for change in response.json()["history"]]


@proves(Feature.MISSED)
async def test_device_that_the_recipient_linked_unnoticed_shows_the_one_send(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender = await partner.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    unnoticed = await linked_unnoticed(partner, people, bob, sender)
    answer = await sender.send(bob, "to all of you")
    assert (answer.status_code, answer.json()["type"]) == (200, "success")
    await shown_once(unnoticed, "to all of you", "in")
    await people.was_sent(answer.json()["wa_message_id"], 2)
    assert await people.shown(bob) == ["before", "to all of you"]
    assert await people.shown(alice) == ["before", "to all of you"]
    assert await history(sender, "to all of you") == ["accepted", "armed", "sent", "delivered"]


@proves(Feature.MISSED)
async def test_own_device_linked_unnoticed_shows_its_copy(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender = await partner.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    unnoticed = await linked_unnoticed(partner, people, alice, sender)
    assert (await sender.send(bob, "to all of you")).status_code == 200
    await shown_once(unnoticed, "to all of you", "out")
    assert await people.shown(bob) == ["before", "to all of you"]


async def test_message_behind_it_goes_to_everybody_at_once(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender = await partner.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    unnoticed = await linked_unnoticed(partner, people, bob, sender)
    assert (await sender.send(bob, "one")).status_code == 200
    second = await sender.send(bob, "two")
    assert second.status_code == 200
    await unnoticed.message("two", direction="in")
    assert [message["text"] for message in await unnoticed.messages()] == ["one", "two"]
    await people.was_sent(second.json()["wa_message_id"], 1)


@pytest.mark.parametrize("trouble", ["lose", "lose_ack"])
async def test_daemon_killed_before_the_ack_writes_the_same_bytes_again(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart, trouble: str
) -> None:
    """F-31 over a crash: another encryption of it would be a violation."""
    sender = await tenant.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    unnoticed = await linked_unnoticed(tenant, people, bob, sender)
    # The first writing is acknowledged, twice; it is the second, for the missed device, that fails.
    await people.wrong("repeat_ack", sender)
    await people.wrong(trouble, sender)
    answer = await sender.send(bob, "to all of you")
    assert answer.status_code == 200
    await people.all_happened()
    await crash()
    await shown_once(unnoticed, "to all of you", "in")
    expected = {"lose": 2, "lose_ack": 3}[trouble]
    await people.was_sent(answer.json()["wa_message_id"], expected)
    assert await people.shown(bob) == ["before", "to all of you"]
    assert (await sender.send(bob, "afterwards")).status_code == 200
    assert await people.reads(bob, "afterwards") == ["before", "to all of you", "afterwards"]
    assert (await history(sender, "to all of you"))[:3] == ["accepted", "armed", "sent"]


async def test_refusal_of_it_changes_nothing_else(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    sender = await partner.linked(people, alice)
    assert (await sender.send(bob, "before")).status_code == 200
    unnoticed = await linked_unnoticed(partner, people, bob, sender)
    await people.wrong("repeat_ack", sender)
    await people.wrong("nack", sender, code=479)
    assert (await sender.send(bob, "to all of you")).status_code == 200
    await people.all_happened()
    assert (await sender.send(bob, "next")).status_code == 200
    await shown_once(unnoticed, "next", "in")
    assert await history(sender, "to all of you") == ["accepted", "armed", "sent", "delivered"]

"""Who appears online, who is told of it, and who sees whom type."""

from __future__ import annotations

from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.main import Simulator
from sitpayd.whatsapp.jid import Jid, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, usync
from sitpayd.whatsapp.stanzas.presence import own_chat_state, own_presence
from tests.simulator.test_routing import ALICE, BOB, linked
from tests.support.companion import Companion, Wire

CAROL = "4915133333333"


async def appear(wire: Wire, name: str = "Somebody", *, available: bool = True) -> None:
    await wire.send(own_presence(name, available=available))
    await wire.handled()


async def subscribe(wire: Wire, to: Jid) -> Node:
    await wire.send(Node("presence", {"type": "subscribe", "to": to}))
    return await wire.expect("presence")


async def sees_nothing(wire: Wire) -> bool:
    """Whether nothing that people show has come in by now."""
    await wire.handled()
    return not any(node.tag in ("presence", "chatstate") for node in wire.unread)


def account(sim: Simulator, number: str) -> tuple[bool, str | None, list[tuple[str, str]]]:
    """What others see of a person, and what it saw of others."""
    person = sim.phone(number).account
    sightings = sim.server.sightings
    seen = [(item.peer, item.state) for item in sightings.seen_by(person)]
    return sightings.is_online(person), sightings.name_of(person), seen


async def test_person_is_online_while_a_device_says_so(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        assert account(sim, ALICE) == (False, None, [])
        await appear(wire, "Alice")
        assert account(sim, ALICE) == (True, "Alice", [])
        await appear(wire, "Al", available=False)
        assert account(sim, ALICE) == (False, "Al", [])
        await appear(wire, "Alice")
        assert account(sim, ALICE) == (True, "Alice", [])
    async with companion.online() as wire:
        # A new connection begins offline, whatever the last one said.
        assert account(sim, ALICE) == (False, "Alice", [])
        assert [device.is_available for device in sim.phone(ALICE).account.companions] == [False]


async def test_empty_presence_is_one_without_news_of_the_name(sim: Simulator) -> None:
    """Unmodified Baileys sends it when its credentials change."""
    async with linked(sim) as (_, wire):
        await appear(wire, "Alice", available=False)
        await wire.send(Node("presence"))
        await wire.handled()
        assert account(sim, ALICE) == (True, "Alice", [])


async def test_device_whose_socket_is_gone_is_not_online(sim: Simulator) -> None:
    async with linked(sim, BOB) as (_, bob):
        await appear(bob)
        async with linked(sim) as (alice, wire):
            await subscribe(bob, alice.identity.lid.bare)
            await appear(wire)
            assert (await bob.expect("presence")).text("type") is None
        assert (await bob.expect("presence")).text("type") == "unavailable"
        assert account(sim, ALICE)[0] is False
        assert [device.is_available for device in sim.phone(ALICE).account.companions] == [True]


async def test_who_is_online_is_told_to_who_asked_and_is_online(sim: Simulator) -> None:
    async with linked(sim) as (alice, wire), linked(sim, BOB) as (_, bob):
        assert (await subscribe(bob, alice.identity.lid.bare)).text("type") == "unavailable"
        await appear(wire)
        assert await sees_nothing(bob)
        await appear(wire, available=False)
        await appear(bob)
        await appear(wire)
        told = await bob.expect("presence")
        assert (told.jid("from"), told.text("type")) == (alice.identity.lid.bare, None)
        # The same again is no news.
        await appear(wire)
        assert await sees_nothing(bob)
        await bob.send(Node("presence", {"type": "unsubscribe", "to": alice.identity.lid.bare}))
        await bob.handled()
        await appear(wire, available=False)
        assert await sees_nothing(bob)


async def test_answer_comes_in_the_form_that_was_asked(sim: Simulator) -> None:
    async with linked(sim) as (_, wire), linked(sim, BOB) as (_, bob):
        await appear(wire)
        told = await subscribe(bob, pn(ALICE))
        assert (told.jid("from"), told.text("type")) == (pn(ALICE), None)


async def test_nobody_is_told_of_a_stranger(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(Node("presence", {"type": "subscribe", "to": pn(CAROL)}))
        await wire.handled()
        assert await sees_nothing(wire)


async def test_chat_state_is_seen_by_who_is_online(sim: Simulator) -> None:
    async with linked(sim) as (alice, wire), linked(sim, BOB) as (bob, other):
        typing = own_chat_state(bob.identity.lid.bare, "recording")
        await appear(wire)
        await wire.send(typing)
        await wire.handled()
        assert await sees_nothing(other)
        await appear(other)
        await wire.send(typing)
        shown = await other.expect("chatstate")
        assert shown.jid("from") == alice.identity.lid.bare
        assert shown.content == typing.content
        await wire.send(own_chat_state(pn(BOB), "paused"))
        assert (await other.expect("chatstate")).jid("from") == pn(ALICE)
        assert account(sim, BOB)[2] == [
            (ALICE, "recording"), (ALICE, "recording"), (ALICE, "paused"),
        ]  # fmt: skip


async def test_nobody_sees_who_types_offline(sim: Simulator) -> None:
    async with linked(sim) as (_, wire), linked(sim, BOB) as (bob, other):
        await appear(other)
        await wire.send(own_chat_state(bob.identity.lid.bare, "composing"))
        await wire.send(own_chat_state(pn(CAROL), "composing"))
        await wire.handled()
        assert await sees_nothing(other)
        assert account(sim, BOB)[2] == []


async def test_removed_device_is_seen_no_more_and_told_nothing(sim: Simulator) -> None:
    async with linked(sim) as (alice, wire), linked(sim, BOB) as (bob, other):
        await appear(wire)
        await appear(other)
        await subscribe(wire, bob.identity.lid.bare)
        await subscribe(other, alice.identity.lid.bare)
        (device,) = sim.phone(ALICE).account.companions
        sim.server.unlink(device)
        assert (await other.expect("presence")).text("type") == "unavailable"
        await appear(other, available=False)
        assert not device.account.devices.get(device.number)


async def test_look_ups_are_counted_and_may_be_refused(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        (device,) = sim.phone(ALICE).account.companions
        query = usync.contact_query(wire.ids.next(), [ALICE, CAROL], sid="1")
        told = usync.parse_contacts(await wire.ask(query))
        assert {number: contact.exists for number, contact in told.items()} == {
            ALICE: True, CAROL: False,
        }  # fmt: skip
        assert device.checked == 2
        await refuse_checks(sim, companion)
        query = usync.contact_query(wire.ids.next(), [ALICE], sid="2")
        told = usync.parse_contacts(await wire.ask(query))
        assert [contact.error for contact in told.values()] == [429]
        # What asks for no number is not concerned.
        await refuse_checks(sim, companion)
        devices = usync.devices_query(wire.ids.next(), [pn(ALICE)], sid="3")
        assert usync.parse_devices(await wire.ask(devices))[pn(ALICE)].error is None
        assert (await wire.ask(iq.ping(wire.ids.next()))).text("type") == "result"


async def refuse_checks(sim: Simulator, companion: Companion) -> None:
    sim.server.faults.add(Fault(FaultKind.REFUSE_CHECK, companion.identity.jid.user))

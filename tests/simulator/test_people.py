"""People who change phones, link devices, hide their LID: what others get to see of that."""

from __future__ import annotations

import pytest

from sitpayd.simulator.companions import Companion as Linked
from sitpayd.simulator.faults import FaultKind
from sitpayd.simulator.main import Simulator
from sitpayd.whatsapp.jid import LID_SERVER, PN_SERVER, pn
from sitpayd.whatsapp.message_id import new_wa_message_id
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import message as messages
from sitpayd.whatsapp.stanzas import receipt, usync
from sitpayd.whatsapp.stanzas.aliases import LidMapping, in_notification
from sitpayd.whatsapp.stanzas.message import outgoing, phash
from sitpayd.whatsapp.stanzas.notification import (
    DevicesChanged,
    IdentityChanged,
    parse_notification,
)
from tests.simulator.test_routing import ALICE, BOB, fault, linked
from tests.support.companion import Companion, Wire, heard_by, kinds
from tests.support.waiting import eventually


async def notified(companion: Companion, wire: Wire, kind: str) -> object:
    node = await wire.expect("notification", type=kind)
    await wire.send(companion.ack(node))
    return parse_notification(node)


# --- companions of the simulator ---


async def texts(companion: Linked, count: int) -> list[str | None]:
    async def look() -> bool:
        return len(companion.inbox) >= count

    await eventually(look, f"{count} texts are read")
    return [item.text for item in companion.inbox]


@pytest.mark.parametrize(("is_hosted", "server"), [(False, LID_SERVER), (True, "hosted.lid")])
async def test_companion_reads_what_is_sent_to_its_account(
    sim: Simulator, is_hosted: bool, server: str
) -> None:
    bob = sim.make_account(BOB)
    theirs = sim.server.add_companion(bob, is_hosted=is_hosted)
    async with linked(sim) as (companion, wire):
        devices = await companion.devices(wire, bob.account.lid)
        assert devices[1].server == server
        ack = await companion.say(wire, bob.account.lid, "hello")
        assert "phash" not in ack.attrs
        assert await texts(theirs, 1) == ["hello"]
        assert await heard_by(sim, BOB) == ["hello"]
        theirs.send(sim.phone(ALICE).account, "hello yourself")
        heard = await companion.hear(wire)
        assert heard.content.text == "hello yourself"
        assert heard.node.required_jid("from").server == server
        # The next one goes in the session that came of this.
        await companion.say(wire, bob.account.lid, "again")
        assert await texts(theirs, 2) == ["hello", "again"]


async def test_copy_of_what_the_own_phone_sends_reaches_a_companion(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    ours = sim.server.add_companion(alice)
    alice.send(bob.account, "from the phone")
    assert await texts(ours, 1) == ["from the phone"]
    assert ours.inbox[0].from_me
    ours.send(bob.account, "from the companion")
    assert await heard_by(sim, BOB, 2) == ["from the phone", "from the companion"]
    assert await heard_by(sim, ALICE, 1) == ["from the companion"]


async def test_who_asked_for_devices_hears_of_one_that_comes_and_goes(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.devices(wire, bob.account.lid)
        theirs = sim.server.add_companion(bob)
        added = await notified(companion, wire, "devices")
        assert isinstance(added, DevicesChanged)
        both = [bob.account.pn, theirs.device.pn]
        assert (added.action, added.device_hash) == ("add", phash(both))
        sim.server.unlink(theirs.device)
        removed = await notified(companion, wire, "devices")
        assert isinstance(removed, DevicesChanged)
        assert (removed.action, removed.device_hash) == ("remove", phash(both[:1]))


async def test_who_leaves_out_a_device_is_blamed_unless_it_may_have_written_before_it_knew(
    sim: Simulator,
) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "before")
        late = [
            await companion.stanza(wire, bob.account.lid, text) for text in ("repeated", "careless")
        ]
        sim.server.add_companion(bob)
        await notified(companion, wire, "devices")
        await companion.devices(wire, bob.account.lid)
        found = []
        for node in late:
            await wire.send(node)
            await wire.expect("ack", id=node.required_text("id"), class_="message")
            found.append(kinds(sim))
    assert found == [[], ["fanout"]]


async def test_account_has_one_device_in_the_cloud(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    sim.server.add_companion(bob, is_hosted=True)
    with pytest.raises(ValueError, match="cloud"):
        sim.server.add_companion(bob, is_hosted=True)


# --- a new phone ---


async def test_new_phone_has_other_keys_and_all_who_asked_hear_of_it(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    companion_of_bob = sim.server.add_companion(bob)
    before = bob.device.identity
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "before")
        sim.server.reinstall(bob)
        removed = await notified(companion, wire, "devices")
        assert isinstance(removed, DevicesChanged)
        node = await wire.expect("notification", type="encrypt")
        await wire.send(companion.ack(node))
        assert parse_notification(node) == IdentityChanged(bob.account.pn, bob.account.lid)
        assert in_notification(node) == (LidMapping(bob.account.pn, bob.account.lid),)
        assert list(bob.account.devices) == [0]
        assert companion_of_bob.device not in bob.account.devices.values()
        assert bob.device.identity != before
        # In the old session nobody can read it, and that is not the sender's fault.
        await companion.say(wire, bob.account.lid, "in the old session")
        retry = receipt.parse_receipt(await wire.expect("receipt", type="retry")).retry
        assert retry is not None
        assert retry.bundle is not None
        assert retry.bundle.identity == bob.device.identity
        companion.sessions.clear()
        await companion.say(wire, bob.account.lid, "in a new one")
    assert await heard_by(sim, BOB, 2) == ["before", "in a new one"]


async def test_new_phone_blames_who_does_not_encrypt_for_it_in_the_end(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "before")
        sim.server.reinstall(bob)
        old = dict(companion.sessions)
        companion.sessions.clear()
        await companion.say(wire, bob.account.lid, "in a new session")
        await heard_by(sim, BOB, 2)
        companion.sessions = old
        found = []
        for turn in range(6):
            await companion.say(wire, bob.account.lid, f"in the old one again {turn}")
            await wire.expect("receipt", type="retry")
            found.append(kinds(sim))
    # It may have been encrypted before, and be sent again because its ack was lost.
    assert found == [[], [], [], [], [], ["undecryptable"]]


async def test_what_was_on_its_way_to_sessions_that_a_phone_lost_is_nobodys_fault(
    sim: Simulator,
) -> None:
    bob, carol = sim.make_account(BOB), sim.make_account()
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "before")
        await heard_by(sim, BOB)
        fault(sim, FaultKind.FORGET, BOB)
        carol.send(bob.account, "which is not read")
        await companion.say(wire, bob.account.lid, "in the session that was lost")
        await wire.expect("receipt", type="retry")
    assert kinds(sim) == []


async def test_phone_does_not_spoil_what_it_writes_to_a_companion_of_the_simulator(
    sim: Simulator,
) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    theirs = sim.server.add_companion(bob)
    fault(sim, FaultKind.CORRUPT, ALICE)
    alice.send(bob.account, "hello")
    assert await texts(theirs, 1) == ["hello"]
    assert kinds(sim) == []


# --- number and LID ---


async def test_hidden_lid_is_told_nobody_until_it_is_shown(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    bob.account.lid_is_hidden = True
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        asked = usync.devices_query(wire.ids.next(), [bob.account.pn], sid="sid")
        assert usync.parse_devices(await wire.ask(asked))[bob.account.pn].lid is None
        checked = usync.contact_query(wire.ids.next(), [BOB], sid="sid")
        assert usync.parse_contacts(await wire.ask(checked))[BOB].lid is None
        for server, name in ((PN_SERVER, pn(BOB)), (LID_SERVER, bob.account.lid)):
            bob.send(sim.phone(ALICE).account, "hi", server=server)
            node = await wire.expect("message")
            await wire.send(companion.ack(node))
            incoming = messages.parse_incoming(node, companion.identity.jid, companion.identity.lid)
            assert (incoming.sender, incoming.mapping) == (name, None)
        sim.server.add_companion(bob)
        notice = await wire.expect("notification", type="devices")
        await wire.send(companion.ack(notice))
        assert in_notification(notice) == ()
        bob.account.lid_is_hidden = False
        bob.send(sim.phone(ALICE).account, "hi")
        node = await wire.expect("message")
        await wire.send(companion.ack(node))
        incoming = messages.parse_incoming(node, companion.identity.jid, companion.identity.lid)
        assert incoming.mapping == LidMapping(bob.account.pn, bob.account.lid)


async def test_message_to_a_lid_may_be_refused_where_the_number_is_taken(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    bob.account.lid_refusal = 479
    async with linked(sim) as (companion, wire):
        ack = await companion.say(wire, bob.account.lid, "by lid")
        assert ack.number("error") == 479
        theirs = await companion.encrypt(
            wire, [bob.account.pn], lambda _: contents.text_message("by number")
        )
        ours = await companion.encrypt(
            wire,
            [companion.identity.jid.bare],
            lambda _: contents.device_sent(bob.account.pn, contents.text_message("by number")),
        )
        node = outgoing(
            "3EB0AA",
            bob.account.pn,
            [*theirs, *ours],
            device_identity=companion.identity.signed_identity,
        )
        await wire.send(node)
        ack = await wire.expect("ack", id="3EB0AA")
        assert ack.number("error") is None
        # Phones are not refused, and neither is a note to oneself.
        sim.phone(ALICE).send(bob.account, "from the phone")
        note = await companion.say(wire, companion.identity.lid.bare, "a note")
        assert note.number("error") is None
    assert await heard_by(sim, BOB, 2) == ["by number", "from the phone"]


# --- what a phone tells again ---


async def ask_phone(companion: Companion, wire: Wire, name: contents.MessageName) -> None:
    """Ask our phone for a message."""
    phone = companion.identity.jid.bare
    (participant,) = await companion.encrypt(
        wire, [phone], lambda _: contents.placeholder_request(name)
    )
    signed = companion.identity.signed_identity
    await wire.send(messages.peer(new_wa_message_id(), participant, device_identity=signed))


async def answered(companion: Companion, wire: Wire) -> tuple[contents.KeptMessage, ...]:
    node = await wire.expect("message", category="peer")
    heard = companion.decrypt(node)
    await wire.send(companion.receipt(node))
    assert heard.content.kind == "phone_answer"
    return heard.content.kept


@pytest.mark.parametrize("by_lid", [True, False])
async def test_phone_tells_its_companion_a_message_again(sim: Simulator, by_lid: bool) -> None:
    bob = sim.make_account(BOB, "Bob")
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        sent = bob.send(sim.phone(ALICE).account, "hello")
        await heard_by(sim, ALICE)
        await companion.hear(wire)
        chat = bob.account.lid if by_lid else bob.account.pn
        name = contents.MessageName(chat, sent, from_me=False)
        await ask_phone(companion, wire, name)
        (kept,) = await answered(companion, wire)
        assert (kept.name, kept.content.text, kept.push_name) == (name, "hello", "Bob")
        own = sim.phone(ALICE).send(bob.account, "from the phone")
        await companion.hear(wire)
        name = contents.MessageName(bob.account.lid, own, from_me=True)
        await ask_phone(companion, wire, name)
        (kept,) = await answered(companion, wire)
        assert kept.content.text == "from the phone"


async def test_phone_does_not_tell_what_it_does_not_have(sim: Simulator) -> None:
    bob, carol = sim.make_account(BOB), sim.make_account()
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        sent = bob.send(sim.phone(ALICE).account, "hello")
        await companion.hear(wire)
        for chat, message_id in ((bob.account.lid, "never"), (carol.account.lid, sent)):
            await ask_phone(companion, wire, contents.MessageName(chat, message_id, False))
            assert await answered(companion, wire) == ()


async def test_deaf_phone_does_not_send_once_more(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        fault(sim, FaultKind.DEAF, BOB)
        bob.send(sim.phone(ALICE).account, "hello")
        node = await wire.expect("message")
        for count in (1, 2):
            await wire.send(receipt.retry_receipt(node, count, companion.keys))
        again = await wire.expect("message", id=node.required_text("id"))
        assert again.required("enc").number("count") == 2
        await wire.send(companion.ack(node))
        await wire.send(companion.ack(again))

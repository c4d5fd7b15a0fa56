"""Messages, receipts and acks between companions and phones; what the server proves of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.options import Repeats
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.jid import PN_SERVER, Jid, lid, pn
from sitpayd.whatsapp.keys import PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import iq, receipt
from sitpayd.whatsapp.stanzas.message import Participant, outgoing, phash, resend
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from tests.simulator.conftest import QUICK, Start
from tests.support.companion import Companion, Wire, heard_by, kinds

ALICE, BOB = "4915111111111", "4915122222222"


@asynccontextmanager
async def linked(sim: Simulator, number: str = ALICE) -> AsyncIterator[tuple[Companion, Wire]]:
    """A companion that is online, on an account made for it if there is none."""
    if sim.server.accounts.by_number(number) is None:
        sim.make_account(number, number[-1])
    companion = Companion(sim)
    await companion.link(number)
    async with companion.online() as wire:
        yield companion, wire


def fault(sim: Simulator, kind: FaultKind, number: str | None = ALICE, **fields: int) -> None:
    sim.server.faults.add(Fault(kind, number, **fields))


def changed(node: Node, **attrs: str | Jid) -> Node:
    return replace(node, attrs={**node.attrs, **attrs})


def with_participants(node: Node, participants: tuple[Node, ...]) -> Node:
    rest = tuple(child for child in node.children if child.tag != "participants")
    return replace(node, content=(Node("participants", {}, participants), *rest))


def participants_of(node: Node) -> tuple[Node, ...]:
    return node.required("participants").children


# --- what a recipient gets ---


async def test_own_other_companion_gets_its_copy_with_the_chat(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (first, wire), linked(sim) as (second, other_wire):
        await first.say(wire, bob.account.lid, "hello")
        copy = await second.hear(other_wire)
        assert copy.node.jid("recipient") == bob.account.lid
        assert copy.node.jid("from") == first.identity.lid
        assert copy.node.jid("peer_recipient_pn") == bob.account.pn
        assert copy.content.destination == bob.account.lid
    assert await heard_by(sim, BOB) == ["hello"]
    assert await heard_by(sim, ALICE) == ["hello"]


async def test_stranger_is_told_the_number_behind_the_lid(sim: Simulator) -> None:
    bob = sim.make_account(BOB, "Bob")
    async with linked(sim) as (companion, wire):
        bob.send(sim.phone(ALICE).account, "hi")
        heard = await companion.hear(wire)
        assert heard.node.jid("sender_pn") == pn(BOB)
        assert heard.node.text("notify") == "Bob"
        assert "recipient" not in heard.node.attrs


async def test_message_by_number_comes_from_a_number_with_its_lid(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        bob.send(sim.phone(ALICE).account, "hi", server=PN_SERVER)
        heard = await companion.hear(wire)
        assert heard.node.jid("from") == pn(BOB)
        assert heard.node.jid("sender_lid") == bob.account.lid


async def test_two_companions_talk(sim: Simulator) -> None:
    async with linked(sim) as (alice, wire), linked(sim, BOB) as (bob, other_wire):
        for number in range(3):
            await alice.say(wire, bob.identity.lid.bare, f"to bob {number}")
            assert (await bob.hear(other_wire)).content.text == f"to bob {number}"
            await bob.say(other_wire, alice.identity.lid.bare, f"to alice {number}")
            assert (await alice.hear(wire)).content.text == f"to alice {number}"


async def test_ack_names_the_hash_of_devices_only_if_some_were_missed(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        complete = await companion.say(wire, bob.account.lid, "one")
        assert "phash" not in complete.attrs
        node = await companion.stanza(wire, bob.account.lid, "two")
        late = Companion(sim)
        fault(sim, FaultKind.LOSE_NOTIFICATION, count=3)
        await late.link(BOB)
        await wire.send(node)
        ack = await wire.expect("ack", id=node.required_text("id"))
        everybody = (
            bob.account.lid,
            late.identity.lid,
            companion.identity.lid,
            companion.identity.lid.bare,
        )
        assert ack.text("phash") == phash(everybody)


async def test_missed_device_gets_its_copy_under_the_same_id(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        first = await companion.stanza(wire, bob.account.lid, "hello")
        async with linked(sim, BOB) as (late, late_wire):
            await wire.send(first)
            await wire.expect("ack", id=first.required_text("id"))
            missed = await companion.encrypt(
                wire, [late.identity.lid], lambda _: contents.text_message("hello")
            )
            again = outgoing(
                first.required_text("id"),
                bob.account.lid,
                missed,
                device_identity=companion.identity.signed_identity,
                partial=True,
            )
            await wire.send(again)
            ack = await wire.expect("ack", id=first.required_text("id"))
            assert "phash" not in ack.attrs
            assert (await late.hear(late_wire)).content.text == "hello"
    assert await heard_by(sim, BOB) == ["hello"]


async def test_part_that_does_not_say_so_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        first = await companion.stanza(wire, bob.account.lid, "hello")
        async with linked(sim, BOB) as (late, _):
            await wire.send(first)
            await wire.expect("ack", id=first.required_text("id"))
            missed = await companion.encrypt(
                wire, [late.identity.lid], lambda _: contents.text_message("hello")
            )
            proof = companion.identity.signed_identity
            id = first.required_text("id")
            again = outgoing(id, bob.account.lid, missed, device_identity=proof)
            await wire.send(again)
            await wire.expect("ack", id=id)
    # Bob's phone and Alice's were left out.
    assert kinds(sim) == [Kind.FANOUT, Kind.FANOUT]


async def test_part_with_another_ciphertext_for_a_device_that_has_it_is_a_violation(
    sim: Simulator,
) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        first = await companion.stanza(wire, bob.account.lid, "hello")
        await wire.send(first)
        await wire.expect("ack", id=first.required_text("id"))
        anew = await companion.encrypt(
            wire, [bob.account.lid], lambda _: contents.text_message("hello")
        )
        proof, id = companion.identity.signed_identity, first.required_text("id")
        await wire.send(outgoing(id, bob.account.lid, anew, device_identity=proof, partial=True))
        await wire.expect("ack", id=id)
    assert kinds(sim) == [Kind.DUPLICATE]


async def test_unknown_recipient_is_refused_with_404(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        stranger = lid("199999999999999")
        node = outgoing("3EB0", stranger, [Participant(stranger, "msg", b"x")])
        await wire.send(node)
        assert (await wire.expect("ack", id="3EB0")).text("error") == "404"
        assert companion.sessions.keys() <= {sim.phone(ALICE).account.lid}


async def test_message_to_a_number_can_be_refused_as_in_the_rollout(start: Start) -> None:
    async with start(replace(QUICK, pn_refusal=463)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (_, wire):
            participant = Participant(bob.account.pn, "msg", b"x")
            await wire.send(outgoing("3EB0", bob.account.pn, [participant]))
            assert (await wire.expect("ack", id="3EB0")).text("error") == "463"


async def test_group_message_is_unsupported_not_a_violation(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        enc = Node("enc", {"v": "2", "type": "skmsg"}, b"x")
        await wire.send(Node("message", {"id": "3EB0", "to": Jid("1-2", "g.us")}, (enc,)))
        assert (await wire.expect("ack", id="3EB0")).text("error") == "404"
        assert [item.text for item in sim.server.violations.refused] == ["message to g.us"]


# --- offline, redelivery ---


async def test_backlog_waits_for_active_and_is_announced_and_ended(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        bob.send(sim.phone(ALICE).account, "first contact")
        await companion.hear(wire)
        await wire.handled()
    for text in ("one", "two"):
        bob.send(sim.phone(ALICE).account, text)
    async with companion.connect() as wire:
        await wire.expect("success")
        assert (await wire.receive()).required("edge_routing")
        assert await wire.nothing()
        await wire.ask(iq.active(wire.ids.next()))
        preview = (await wire.receive()).required("offline_preview")
        assert (preview.number("count"), preview.number("message")) == (2, 2)
        texts = [await companion.hear(wire), await companion.hear(wire)]
        assert [text.content.text for text in texts] == ["one", "two"]
        assert [text.node.text("offline") for text in texts] == ["0", "1"]
        assert (await wire.expect("ib")).required("offline").number("count") == 2


async def test_end_of_an_empty_backlog_is_announced(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.receive()
        assert (await wire.expect("ib")).required("offline").number("count") == 0


async def test_end_of_the_backlog_can_be_left_out(sim: Simulator) -> None:
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    fault(sim, FaultKind.NO_OFFLINE_END)
    async with companion.online() as wire:
        await companion.hear_peers(wire)
        assert await wire.nothing()


async def test_what_was_not_answered_comes_again_in_order(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        for text in ("one", "two", "three"):
            bob.send(sim.phone(ALICE).account, text)
        ids = [(await wire.expect("message")).text("id") for _ in range(3)]
    async with companion.online() as wire:
        again = [await wire.expect("message") for _ in range(3)]
        assert [node.text("id") for node in again] == ids
        for node in again:
            await wire.send(companion.receipt(node))
        await wire.handled()
    async with companion.online() as wire:
        assert (await wire.expect("ib")).child("edge_routing") is not None
        assert (await wire.expect("ib")).required("offline").number("count") == 0


async def test_plain_ack_answers_a_message_as_well(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        bob.send(sim.phone(ALICE).account, "hi")
        node = await wire.expect("message")
        await wire.send(companion.receipt(node), companion.ack(node))
        await wire.handled()
        device = sim.server.accounts.device(companion.identity.jid)
        assert device is not None
        assert len(device.queue) == 0


async def test_second_login_replaces_the_first(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire), companion.connect() as second:
        ended = await wire.expect("stream:error")
        assert ended.required("conflict").text("type") == "replaced"
        await second.expect("success")
        await wire.closed()
        await second.handled()


# --- repetitions ---


async def repeated(sim: Simulator) -> list[str | None]:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        node = await companion.stanza(wire, bob.account.lid, "once")
        for _ in range(2):
            await wire.send(node)
            ack = await wire.expect("ack", id=node.required_text("id"))
            assert ack.text("error") is None
        await companion.say(wire, bob.account.lid, "last")
        await heard_by(sim, BOB, 2)
        entry = sim.server.router.journal.find(node.required_text("id"))
        assert entry is not None
        assert entry.sendings == 2
        return [str(entry.copies[f"{BOB}@s.whatsapp.net"].deliveries)]


async def test_repeated_message_is_delivered_once(sim: Simulator) -> None:
    assert await repeated(sim) == ["1"]


async def test_repeated_message_can_be_delivered_twice(start: Start) -> None:
    async with start(replace(QUICK, repeats=Repeats.DELIVER)) as sim:
        assert await repeated(sim) == ["2"]


async def test_same_id_with_another_ciphertext_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        for text in ("one", "two"):
            node = await companion.stanza(wire, bob.account.lid, text, id="3EB0")
            await wire.send(node)
            await wire.expect("ack", id="3EB0")
        assert set(kinds(sim)) == {Kind.DUPLICATE}


async def test_refused_message_may_be_encrypted_anew(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        fault(sim, FaultKind.NACK, code=479)
        for error in ("479", None):
            node = await companion.stanza(wire, bob.account.lid, "text", id="3EB0")
            await wire.send(node)
            assert (await wire.expect("ack", id="3EB0")).text("error") == error
        assert await heard_by(sim, BOB) == ["text"]


# --- faults of message acks ---


async def test_nack_routes_nothing_and_is_used_up(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        fault(sim, FaultKind.NACK, code=463, count=2)
        errors = [
            (await companion.say(wire, bob.account.lid, str(n))).text("error") for n in range(3)
        ]
        assert errors == ["463", "463", None]
        assert await heard_by(sim, BOB) == ["2"]


async def test_lost_message_is_neither_routed_nor_answered(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        fault(sim, FaultKind.LOSE)
        await wire.send(await companion.stanza(wire, bob.account.lid, "lost"))
        await companion.say(wire, bob.account.lid, "kept")
        assert await heard_by(sim, BOB) == ["kept"]


async def test_lost_ack_does_not_lose_the_message(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        fault(sim, FaultKind.LOSE_ACK)
        node = await companion.stanza(wire, bob.account.lid, "kept")
        await wire.send(node)
        assert await heard_by(sim, BOB) == ["kept"]
        await wire.send(node)
        await wire.expect("ack", id=node.required_text("id"))
        assert sim.phone(BOB).received == 1


async def test_ack_can_come_twice_or_late(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        fault(sim, FaultKind.REPEAT_ACK)
        ack = await companion.say(wire, bob.account.lid, "one")
        assert await wire.expect("ack", id=ack.required_text("id")) == ack
        sim.server.faults.add(Fault(FaultKind.DELAY_ACK, ALICE, seconds=0.01))
        await companion.say(wire, bob.account.lid, "two")


async def test_counter_of_a_lost_message_is_used_up(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "first")
        before = dict(companion.sessions)
        fault(sim, FaultKind.LOSE)
        await wire.send(await companion.stanza(wire, bob.account.lid, "lost"))
        companion.sessions = before
        await companion.say(wire, bob.account.lid, "under the same counter")
        assert set(kinds(sim)) == {Kind.SIGNAL}


async def test_rare_fault_happens_as_often_as_it_says(sim: Simulator) -> None:
    device = sim.make_account(BOB).device
    fault(sim, FaultKind.LOSE, None, count=10_000, per_mille=20, seed=1)
    taken = [sim.server.faults.take(device, FaultKind.LOSE) for _ in range(10_000)]
    assert 150 < 10_000 - taken.count(None) < 250


async def test_rare_faults_of_one_seed_happen_at_the_same_moments(sim: Simulator) -> None:
    device = sim.make_account(BOB).device
    runs = []
    for _ in range(2):
        fault(sim, FaultKind.LOSE, None, count=100, per_mille=500, seed=7)
        runs.append([sim.server.faults.take(device, FaultKind.LOSE) is None for _ in range(100)])
        sim.server.faults.clear()
    assert runs[0] == runs[1]


@pytest.mark.parametrize(("kind", "heard"), [("drop_before", []), ("drop_after", ["text"])])
async def test_socket_can_be_cut_before_or_after_a_message(
    sim: Simulator, kind: str, heard: list[str]
) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        node = await companion.stanza(wire, bob.account.lid, "text")
        fault(sim, FaultKind(kind))
        await wire.send(node)
        await wire.closed()
    assert await heard_by(sim, BOB, len(heard)) == heard


async def test_message_can_be_delivered_twice_to_a_device(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        sim.server.faults.add(Fault(FaultKind.REPEAT_MESSAGE, ALICE, 1))
        bob.send(sim.phone(ALICE).account, "hi")
        first, second = await wire.expect("message"), await wire.expect("message")
        assert first == second
        await wire.send(companion.receipt(first), companion.receipt(second))
        await wire.handled()


async def test_message_can_be_overtaken_by_the_next_one(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        sim.server.faults.add(Fault(FaultKind.LATE_MESSAGE, ALICE, 1, count=2))
        ids = [bob.send(sim.phone(ALICE).account, text) for text in ("1", "2", "3")]
        came = [await wire.expect("message") for _ in ids]
        assert [stanza.text("id") for stanza in came] == [ids[2], ids[0], ids[1]]
        await wire.send(*(companion.receipt(stanza) for stanza in came))
        await wire.handled()


# --- receipts ---


async def test_delivery_and_read_receipts_reach_the_author(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        ack = await companion.say(wire, bob.account.lid, "hi")
        delivered = await wire.expect("receipt", id=ack.required_text("id"))
        assert delivered.jid("from") == bob.account.lid
        assert "type" not in delivered.attrs
        assert bob.read(ack.required_text("id"))
        read = await wire.expect("receipt", type="read")
        await wire.send(companion.ack(delivered), companion.ack(read))
        await wire.handled()


async def test_receipt_reaches_every_device_of_the_author(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        message_id = bob.send(sim.phone(ALICE).account, "hi")
        node = (await companion.hear(wire)).node
        await wire.expect("ack", class_="receipt", id=message_id)
        assert node.text("id") == message_id
        await wire.handled()
        copy = sim.server.router.journal.find(message_id)
        assert copy is not None
        assert copy.copies[str(companion.identity.jid)].receipts == ["delivered"]


async def test_phone_asks_again_and_reads_the_resend(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "known")
        await heard_by(sim, BOB)
        fault(sim, FaultKind.FORGET, BOB)
        ack = await companion.say(wire, bob.account.lid, "forgotten")
        asked = receipt.parse_receipt(await wire.expect("receipt", type="retry"))
        assert asked.retry is not None
        assert asked.retry.count == 1
        companion.sessions.pop(bob.account.lid)
        (participant,) = await companion.encrypt(
            wire, [bob.account.lid], lambda _: contents.text_message("forgotten")
        )
        again = resend(
            ack.required_text("id"),
            participant,
            count=1,
            t=1,
            device_identity=companion.identity.signed_identity,
        )
        await wire.send(again)
        assert await heard_by(sim, BOB, 2) == ["known", "forgotten"]


async def test_phone_resends_to_who_could_not_decrypt(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        fault(sim, FaultKind.CORRUPT, BOB)
        bob.send(sim.phone(ALICE).account, "hi")
        node = await wire.expect("message")
        await wire.send(receipt.retry_receipt(node, 1, companion.keys), companion.ack(node))
        heard = await companion.hear(wire)
        assert heard.content.text == "hi"
        assert heard.node.required("enc").text("count") == "1"


async def test_phone_takes_the_keys_of_a_retry_receipt(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        fault(sim, FaultKind.CORRUPT, BOB)
        bob.send(sim.phone(ALICE).account, "hi")
        node = await wire.expect("message")
        fresh = PreKey(99, companion.keys.noise)
        companion.prekeys[99] = fresh
        asked = receipt.retry_receipt(
            node,
            2,
            companion.keys,
            prekey=fresh,
            device_identity=companion.identity.signed_identity,
        )
        await wire.send(asked, companion.ack(node))
        heard = await companion.hear(wire)
        assert heard.content.text == "hi"


# --- what the server proves ---


async def broken(
    sim: Simulator,
    companion: Companion,
    wire: Wire,
    change: str,
) -> list[Kind]:
    """Send a message with one thing wrong."""
    bob = sim.phone(BOB).account
    node = await companion.stanza(wire, bob.lid, "text")
    first, *others = participants_of(node)
    match change:
        case "mixed addresses":
            node = changed(node, to=bob.pn)
        case "no device-identity":
            node = replace(node, content=(node.required("participants"),))
        case "foreign device-identity":
            identity = Node("device-identity", {}, b"")
            node = replace(node, content=(node.required("participants"), identity))
        case "own phone left out":
            node = with_participants(node, (first,))
        case "unknown device":
            stranger = replace(first, attrs={"jid": bob.lid.with_device(9)})
            node = with_participants(node, (*participants_of(node), stranger))
        case "stranger":
            stranger = replace(first, attrs={"jid": sim.make_account().account.lid})
            node = with_participants(node, (*participants_of(node), stranger))
        case "sender itself":
            own = replace(first, attrs={"jid": companion.identity.lid})
            node = with_participants(node, (*participants_of(node), own))
        case "text instead of a JID":
            node = changed(node, to=str(bob.lid))
        case "no id":
            attrs = {name: value for name, value in node.attrs.items() if name != "id"}
            node = replace(node, attrs=attrs)
        case "no ciphertext":
            node = replace(node, content=None)
        case "garbage":
            garbage = Node("enc", {"v": "2", "type": "msg"}, b"\x33garbage")
            spoiled = replace(first, content=(garbage,))
            node = with_participants(node, (spoiled, *others))
    await wire.send(node)
    await wire.handled()
    return kinds(sim)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("mixed addresses", {Kind.ADDRESS}),
        ("no device-identity", {Kind.IDENTITY}),
        ("foreign device-identity", {Kind.IDENTITY}),
        ("own phone left out", {Kind.FANOUT}),
        ("unknown device", {Kind.FANOUT}),
        ("stranger", {Kind.FANOUT}),
        ("sender itself", {Kind.FANOUT}),
        ("text instead of a JID", {Kind.ADDRESS}),
        ("no id", {Kind.STANZA}),
        ("no ciphertext", {Kind.STANZA}),
        ("garbage", {Kind.SIGNAL}),
    ],
)
async def test_wrong_message_is_a_violation(
    sim: Simulator, change: str, expected: set[Kind]
) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        found = await broken(sim, companion, wire, change)
        assert set(found) - {Kind.UNDECRYPTABLE} == expected
    sim.server.violations.clear()


async def test_message_before_active_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await wire.handled()
    async with companion.connect() as wire:
        await wire.expect("success")
        await companion.say(wire, bob.account.lid, "early")
        assert kinds(sim) == [Kind.EARLY]


async def test_reused_ratchet_counter_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.devices(wire, bob.account.lid)
        await companion.stanza(wire, bob.account.lid, "begins the sessions")
        before = dict(companion.sessions)
        await companion.say(wire, bob.account.lid, "one")
        companion.sessions = before
        await companion.say(wire, bob.account.lid, "two")
        assert Kind.SIGNAL in kinds(sim)
    sim.server.violations.clear()


async def test_ciphertext_under_a_foreign_identity_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire), linked(sim, BOB) as (other, _):
        companion.keys = replace(companion.keys, identity=other.keys.identity)
        await companion.say(wire, bob.account.lid, "spoofed")
        found = kinds(sim)
        assert found
        assert set(found) == {Kind.SIGNAL}


async def test_copy_that_is_not_wrapped_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        own_phone = companion.identity.lid.bare
        devices = [*await companion.devices(wire, bob.account.lid), own_phone]
        plain = contents.text_message("plain")
        participants = await companion.encrypt(wire, devices, lambda _: plain)
        identity: PairedIdentity = companion.identity
        node = outgoing(
            "3EB0", bob.account.lid, participants, device_identity=identity.signed_identity
        )
        await wire.send(node)
        await heard_by(sim, ALICE)
        assert kinds(sim) == [Kind.CONTENT]


async def test_wrapped_message_from_a_stranger_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        own_phone = companion.identity.lid.bare
        devices = [*await companion.devices(wire, bob.account.lid), own_phone]
        wrapped = contents.device_sent(bob.account.lid, contents.text_message("wrapped"))
        participants = await companion.encrypt(wire, devices, lambda _: wrapped)
        identity = companion.identity.signed_identity
        await wire.send(outgoing("3EB0", bob.account.lid, participants, device_identity=identity))
        await heard_by(sim, ALICE)
        await wire.expect("receipt", id="3EB0")
        assert kinds(sim) == [Kind.CONTENT]
        assert sim.phone(BOB).received == 0


async def test_ack_of_something_that_does_not_wait_is_a_violation(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        ghost = Node("notification", {"id": "1", "from": pn(BOB), "type": "picture"})
        await wire.send(companion.ack(ghost))
        await wire.handled()
        assert kinds(sim) == [Kind.UNEXPECTED]


async def test_unanswered_message_ends_the_stream_and_is_a_violation(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        message_id = bob.send(sim.phone(ALICE).account, "hi")
        await wire.expect("message")
        sim.server.look_at_deadlines(trio.current_time() + QUICK.answer_s + 1)
        ended = await wire.expect("stream:error")
        assert ended.required("ack").text("id") == message_id
        assert Kind.UNANSWERED in kinds(sim)


async def test_unknown_stanza_is_a_violation(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(Node("dance", {"id": "1"}))
        await wire.handled()
        assert kinds(sim) == [Kind.STANZA]

"""Rules of one connection that need no second party: windows, phases, ciphertexts by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from sitpayd.simulator.accounts import Device
from sitpayd.simulator.ciphertexts import CiphertextLedger
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.options import Options
from sitpayd.simulator.server import Server
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema.whatsapp_pb2 import ClientPayload, PreKeySignalMessage, SignalMessage
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import iq, login, pairing, receipt
from sitpayd.whatsapp.stanzas.message import outgoing
from tests.simulator.conftest import QUICK, Start
from tests.simulator.test_routing import ALICE, BOB, linked
from tests.support.companion import Companion, dial, heard_by, kinds

# --- phases ---


async def test_login_that_is_not_passive_gets_its_backlog_at_once(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
    bob.send(sim.phone(ALICE).account, "hi")
    payload = ClientPayload.FromString(login.login_payload(companion.identity.jid, companion.info))
    payload.passive = False
    async with dial(sim, companion.keys.noise, payload.SerializeToString()) as wire:
        assert (await companion.hear(wire)).content.text == "hi"
        await wire.handled()


async def test_client_can_become_passive_again(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        await wire.ask(iq.set_("passive", Node("passive"), id=wire.ids.next()))
        bob.send(sim.phone(ALICE).account, "held back")
        assert await wire.nothing()
        await wire.ask(iq.active(wire.ids.next()))
        assert (await companion.hear(wire)).content.text == "held back"


async def test_window_bounds_what_is_in_flight(start: Start) -> None:
    async with start(replace(QUICK, window=2)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (companion, wire):
            await companion.hear_peers(wire)
            for number in range(4):
                bob.send(sim.phone(ALICE).account, str(number))
            first, _ = await wire.expect("message"), await wire.expect("message")
            assert await wire.nothing()
            await wire.send(companion.ack(first))
            await wire.expect("message")
            assert await wire.nothing()


async def test_stanza_before_login_is_a_violation(sim: Simulator) -> None:
    async with Companion(sim).register() as wire:
        await wire.send(iq.result(await wire.expect("iq", type="set")))
        await wire.send(Node("presence", {"type": "available"}))
        await wire.handled()
        assert kinds(sim) == [Kind.EARLY]


@pytest.mark.parametrize(("name", "expected"), [(None, [Kind.EARLY]), ("Shop", [])])
async def test_only_a_business_knows_a_name_before_its_login(
    sim: Simulator, name: str | None, expected: list[Kind]
) -> None:
    """As Baileys does, which tells it at once."""
    sim.server.add_account(ALICE, business_name=name)
    companion = Companion(sim)
    async with companion.register() as wire, trio.open_nursery() as nursery:
        offered = await wire.expect("iq", type="set")
        await wire.send(iq.result(offered))
        text = pairing.qr_text(pairing.parse_pair_device(offered)[0], companion.keys)
        nursery.start_soon(sim.phone(ALICE).scan, text)
        success = await wire.expect("iq", type="set")
        await wire.send(Node("presence", {"name": "Shop"}))
        await wire.handled()
        assert kinds(sim) == expected
        _, reply = pairing.accept_pair_success(success, companion.keys)
        await wire.send(reply)


async def test_unknown_request_before_login_is_refused(sim: Simulator) -> None:
    async with Companion(sim).register() as wire:
        await wire.send(iq.result(await wire.expect("iq", type="set")))
        answer = await wire.ask(iq.get("encrypt", Node("count"), id="1"))
        assert answer.required("error").number("code") == 501


async def test_answer_to_nothing_is_a_violation(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(iq.result(Node("iq", {"id": "1", "from": pn(BOB)})))
        await wire.handled()
        assert kinds(sim) == [Kind.UNEXPECTED]


async def test_stanza_that_does_not_decode_is_a_violation_and_no_end(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        wire.connection.send_encoded(b"\x00\xf8\x00")
        await wire.handled()
        assert kinds(sim) == [Kind.STANZA]


@pytest.mark.parametrize(
    "node",
    [
        Node("iq", {"type": "get", "xmlns": "w:p"}),
        Node("receipt", {"to": pn(BOB)}),
        Node("ack", {"class": "message"}),
        Node("presence", {"type": "dancing"}),
        Node("presence", {"type": "unavailable", "name": ""}),
        Node("chatstate"),
        Node("chatstate", {"to": pn(BOB)}),
        Node("chatstate", {"to": pn(BOB)}, (Node("dancing"),)),
    ],
    ids=lambda node: str(node.tag),
)
async def test_malformed_stanza_is_a_violation_and_no_end(sim: Simulator, node: Node) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(node)
        await wire.handled()
        assert kinds(sim) == [Kind.STANZA]


@pytest.mark.parametrize(
    ("to", "expected"),
    [("s.whatsapp.net", []), (f"{BOB}@s.whatsapp.net", [Kind.ADDRESS]), ("lid", [Kind.ADDRESS])],
)
async def test_only_the_server_may_be_named_by_text(
    sim: Simulator, to: str, expected: list[Kind]
) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(Node("presence", {"type": "unavailable", "name": "Alice", "to": to}))
        await wire.handled()
        assert kinds(sim) == expected


async def test_call_is_unsupported(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(Node("call", {"id": "1", "to": pn(BOB)}))
        await wire.handled()
        assert [item.text for item in sim.server.violations.refused] == ["call"]


# --- ciphertexts ---


def device(server: Server, number: str) -> Device:
    return server.add_account(number).device


def signal_message(counter: int, body: bytes = b"x") -> bytes:
    fields = SignalMessage(ratchetKey=bytes(33), counter=counter, ciphertext=body)
    return b"\x33" + fields.SerializeToString() + bytes(8)


def prekey_message(sender: Device, target: Device, change: str = "") -> bytes:
    fields = PreKeySignalMessage(
        preKeyId=next(iter(target.prekeys)),
        baseKey=b"\x05" + bytes(32),
        identityKey=b"\x05" + sender.identity,
        message=signal_message(0),
        registrationId=sender.registration_id,
        signedPreKeyId=target.signed_prekey_id,
    )
    match change:
        case "identity":
            fields.identityKey = b"\x05" + target.identity
        case "registration id":
            fields.registrationId = sender.registration_id + 1
        case "signed prekey":
            fields.signedPreKeyId = 77
        case "prekey":
            fields.preKeyId = 7777
        case "message":
            fields.message = b"\x33"
    return b"\x33" + fields.SerializeToString()


async def test_sound_ciphertexts_have_no_fault() -> None:
    server, ledger = Server(Options()), CiphertextLedger()
    sender, target = device(server, ALICE), device(server, BOB)
    assert ledger.faults(sender, target, "pkmsg", prekey_message(sender, target)) == []
    assert ledger.faults(sender, target, "msg", signal_message(1)) == []


async def test_repeated_ciphertext_is_no_reuse_but_another_one_is() -> None:
    server, ledger = Server(Options()), CiphertextLedger()
    sender, target = device(server, ALICE), device(server, BOB)
    assert ledger.faults(sender, target, "msg", signal_message(1, b"one")) == []
    assert ledger.faults(sender, target, "msg", signal_message(1, b"one")) == []
    assert ledger.faults(target, sender, "msg", signal_message(1, b"two")) == []
    (fault,) = ledger.faults(sender, target, "msg", signal_message(1, b"two"))
    assert "counter" in fault


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("identity", "identity"),
        ("registration id", "registration id"),
        ("signed prekey", "signed prekey 77"),
        ("prekey", "prekey 7777"),
        ("message", "version 3"),
    ],
)
async def test_wrong_prekey_message_is_named(change: str, word: str) -> None:
    server, ledger = Server(Options()), CiphertextLedger()
    sender, target = device(server, ALICE), device(server, BOB)
    (fault,) = ledger.faults(sender, target, "pkmsg", prekey_message(sender, target, change))
    assert word in fault


@pytest.mark.parametrize(
    ("kind", "body"), [("pkmsg", b"\x33\xff"), ("msg", b"\x33\xff" + bytes(9)), ("magic", b"x")]
)
async def test_garbage_is_named(kind: str, body: bytes) -> None:
    server, ledger = Server(Options()), CiphertextLedger()
    sender, target = device(server, ALICE), device(server, BOB)
    assert len(ledger.faults(sender, target, kind, body)) == 1


# --- what phones prove ---


@pytest.mark.parametrize("plaintext", [b"", b"\x0a\xff\x01", contents.text_message("x") + b"\x02"])
async def test_unreadable_plaintext_is_a_violation(sim: Simulator, plaintext: bytes) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        # `encrypt` pads; what makes no message after that is the inner text.
        participants = await companion.encrypt(
            wire, [bob.account.lid], lambda _: b"\xff" + plaintext
        )
        identity = companion.identity.signed_identity
        await wire.send(outgoing("3EB0", bob.account.lid, participants, device_identity=identity))
        await wire.expect("receipt", id="3EB0")
        assert kinds(sim) == [Kind.CONTENT]


async def test_phone_asks_four_times_and_then_only_acks(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.say(wire, bob.account.lid, "known")
        await heard_by(sim, BOB)
        bob.send(sim.phone(ALICE).account, "answered: from here on there is no pkmsg")
        await companion.hear(wire)
        counts = []
        for number in range(5):
            (spoiled,) = await companion.encrypt(
                wire, [bob.account.lid], lambda _: contents.text_message("text")
            )
            spoiled = replace(spoiled, body=spoiled.body[:-1] + bytes((spoiled.body[-1] ^ 1,)))
            enc = Node(
                "enc", {"v": "2", "type": spoiled.kind, "count": str(number + 1)}, spoiled.body
            )
            await wire.send(Node("message", {"id": "3EB0", "to": bob.account.lid}, (enc,)))
            await wire.expect("ack", id="3EB0")
            if number < 4:
                asked = receipt.parse_receipt(await wire.expect("receipt", type="retry"))
                assert asked.retry is not None
                assert (asked.retry.bundle is None) == (number == 0)
                counts.append(asked.retry.count)
        assert counts == [1, 2, 3, 4]
        await companion.say(wire, bob.account.lid, "taken after the fifth")
        await heard_by(sim, BOB, 2)
        await wire.handled()
        assert [node for node in wire.unread if node.text("type") == "retry"] == []
        assert kinds(sim) == [Kind.UNDECRYPTABLE] * 5

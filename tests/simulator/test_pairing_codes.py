"""Pairing codes: the companion's hello, the code on the phone, the companion's answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio

from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.linking import ScanError
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, pairing, pairing_code, receipt
from sitpayd.whatsapp.stanzas.pairing_code import Agreed, CodeOffer, display_name
from tests.support.companion import Companion, Wire, heard_by, kinds
from tests.support.waiting import eventually

ALICE, BOB = "4915111111111", "4915122222222"
MAC = display_name("Mac OS")
# Slow to make: a test that needs two codes makes the other.
OFFER = pairing_code.new_offer()


@dataclass
class Coded:
    """A companion on its registration connection."""

    companion: Companion
    wire: Wire

    async def ask(
        self, offer: CodeOffer = OFFER, phone: str = ALICE, display: str = MAC, noise: bytes = b""
    ) -> Node:
        """Ask for a code; the server's answer."""
        noise = noise or self.companion.keys.noise.public_key
        id = self.wire.ids.next()
        return await self.wire.ask(pairing_code.companion_hello(id, phone, offer, noise, display))

    async def agree(self, offer: CodeOffer = OFFER) -> Agreed:
        """Hear that the code was typed, acknowledge that, and work out the answer."""
        notice = await self.wire.expect("notification", type="link_code_companion_reg")
        await self.wire.send(receipt.ack(notice, SERVER_JID))
        hello = pairing_code.parse_primary_hello(notice)
        return pairing_code.agree(offer, hello, self.companion.keys.identity)

    async def finish(self, agreed: Agreed) -> Node:
        """Send the answer; what the server says to it."""
        id = self.wire.ids.next()
        return await self.wire.ask(pairing_code.companion_finish(id, ALICE, agreed.finish))

    async def sign(self, agreed: Agreed) -> None:
        """Sign what the phone then offers."""
        keys = replace(self.companion.keys, adv_secret=agreed.adv_secret)
        success = await self.wire.expect("iq", type="set")
        self.companion.paired, reply = pairing.accept_pair_success(success, keys)
        await self.wire.send(reply)
        await self.wire.expect("stream:error", code="515")


@asynccontextmanager
async def registered(sim: Simulator) -> AsyncIterator[Coded]:
    companion = Companion(sim)
    async with companion.register() as wire:
        await wire.send(iq.result(await wire.expect("iq", type="set")))
        yield Coded(companion, wire)


async def test_companion_is_linked_by_code_and_talks(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    async with registered(sim) as coded, trio.open_nursery() as nursery:
        assert pairing_code.parse_ref(await coded.ask())
        nursery.start_soon(alice.enter_code, OFFER.shown)
        agreed = await coded.agree()
        assert agreed.primary == alice.keys.identity.public_key
        assert (await coded.finish(agreed)).text("type") == "result"
        await coded.sign(agreed)
    async with coded.companion.online() as wire:
        await coded.companion.say(wire, bob.account.lid, "hello")
        assert await heard_by(sim, BOB) == ["hello"]


async def test_mistyped_code_links_nothing(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    async with registered(sim) as coded, trio.open_nursery() as nursery:
        await coded.ask()

        async def mistype() -> None:
            with pytest.raises(ScanError, match="another code") as refused:
                await alice.enter_code("1111-1111")
            assert refused.value.field == "code"

        nursery.start_soon(mistype)
        await coded.finish(await coded.agree())
        assert await coded.wire.nothing()
    assert not list(alice.account.companions)


async def test_code_is_taken_once(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    async with registered(sim) as coded, trio.open_nursery() as nursery:
        await coded.ask()
        nursery.start_soon(alice.enter_code, OFFER.shown)
        agreed = await coded.agree()
        with pytest.raises(ScanError, match="already"):
            await alice.enter_code(OFFER.shown)
        await coded.finish(agreed)
        await coded.sign(agreed)


@pytest.mark.parametrize("text", ["", "ABCD", "0000-0000"])
async def test_text_that_is_no_code_is_refused(sim: Simulator, text: str) -> None:
    with pytest.raises(ScanError, match="not a pairing code"):
        await sim.make_account(ALICE).enter_code(text)


async def test_code_for_another_number_is_unknown(sim: Simulator) -> None:
    sim.make_account(ALICE)
    bob = sim.make_account(BOB)
    async with registered(sim) as coded:
        await coded.ask()
        with pytest.raises(ScanError, match="no companion waits"):
            await bob.enter_code(OFFER.shown)


async def test_second_code_makes_the_first_one_void(sim: Simulator) -> None:
    alice, second = sim.make_account(ALICE), pairing_code.new_offer()
    async with registered(sim) as coded, trio.open_nursery() as nursery:
        first_ref = pairing_code.parse_ref(await coded.ask())
        assert pairing_code.parse_ref(await coded.ask(second)) != first_ref
        nursery.start_soon(alice.enter_code, second.shown)
        agreed = await coded.agree(second)
        await coded.finish(agreed)
        await coded.sign(agreed)


async def test_code_ends_with_its_connection(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    async with registered(sim) as coded:
        await coded.ask()

    async def is_noticed() -> bool:
        return not sim.server.codes

    await eventually(is_noticed, "the end of the connection")
    with pytest.raises(ScanError, match="no companion waits"):
        await alice.enter_code(OFFER.shown)


async def test_phone_learns_that_the_companion_went_away(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    async with trio.open_nursery() as nursery, registered(sim) as coded:
        await coded.ask()

        async def enter() -> None:
            with pytest.raises(ScanError, match="gone"):
                await alice.enter_code(OFFER.shown)

        nursery.start_soon(enter)
        await coded.agree()


async def test_account_with_a_passkey_asks_for_it(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    sim.server.faults.add(Fault(FaultKind.PASSKEY, ALICE))
    async with registered(sim) as coded, trio.open_nursery() as nursery:
        await coded.ask()

        async def enter() -> None:
            with pytest.raises(ScanError, match="passkey"):
                await alice.enter_code(OFFER.shown)

        nursery.start_soon(enter)
        await coded.finish(await coded.agree())
        notice = await coded.wire.expect("notification", type="passkey_prologue_request")
        await coded.wire.send(receipt.ack(notice, SERVER_JID))
        await coded.wire.handled()


async def test_companion_with_a_code_may_tell_its_name(sim: Simulator) -> None:
    sim.make_account(ALICE)
    async with registered(sim) as coded:
        await coded.ask()
        await coded.wire.send(Node("presence", {"type": "available", "name": "~"}))
        await coded.wire.handled()


# --- what the server holds against a companion ---


@pytest.mark.parametrize("display", ["Chrome", "sitpayd (Mac OS)", "Chrome (Toaster)"])
async def test_unusual_name_is_refused(sim: Simulator, display: str) -> None:
    async with registered(sim) as coded:
        error = iq.parse_iq_error(await coded.ask(display=display))
        assert error is not None
        assert error.code == 400


async def test_foreign_noise_key_is_a_violation(sim: Simulator) -> None:
    async with registered(sim) as coded:
        await coded.ask(noise=KeyPair.generate().public_key)
    assert kinds(sim) == [Kind.PAIRING]


async def test_answer_to_a_code_that_nobody_typed_is_a_violation(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    hello = pairing_code.PrimaryHello(b"ref", OFFER.wrapped, alice.keys.identity.public_key)
    async with registered(sim) as coded:
        await coded.ask()
        answer = await coded.finish(pairing_code.agree(OFFER, hello, coded.companion.keys.identity))
        assert answer.text("type") == "error"
    assert kinds(sim) == [Kind.PAIRING]


async def test_answer_with_another_identity_than_the_payloads_is_a_violation(
    sim: Simulator,
) -> None:
    alice = sim.make_account(ALICE)
    async with trio.open_nursery() as nursery, registered(sim) as coded:
        await coded.ask()

        async def enter() -> None:
            with pytest.raises(ScanError, match="gone"):
                await alice.enter_code(OFFER.shown)

        nursery.start_soon(enter)
        coded.companion.keys = replace(coded.companion.keys, identity=KeyPair.generate())
        await coded.finish(await coded.agree())
    assert kinds(sim) == [Kind.PAIRING]


async def test_phones_word_that_is_not_acknowledged_is_a_violation(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    async with trio.open_nursery() as nursery, registered(sim) as coded:
        await coded.ask()

        async def enter() -> None:
            with pytest.raises(ScanError):
                await alice.enter_code(OFFER.shown)

        nursery.start_soon(enter)
        await coded.wire.expect("notification")
        sim.server.look_at_deadlines(trio.current_time() + sim.server.options.answer_s + 1)
    assert kinds(sim) == [Kind.UNANSWERED]


async def test_ack_for_nothing_is_a_violation(sim: Simulator) -> None:
    async with registered(sim) as coded:
        await coded.wire.send(Node("ack", {"id": "1", "to": SERVER_JID, "class": "notification"}))
        await coded.wire.handled()
    assert kinds(sim) == [Kind.UNEXPECTED]

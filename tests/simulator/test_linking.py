from __future__ import annotations

import trio

from sitpayd.simulator.main import Simulator
from tests.support.companion import PATIENCE_S, Companion

ALICE, BOB = "4915111111111", "4915122222222"


async def test_a_scanned_companion_logs_in_and_talks_with_a_phone_both_ways(
    sim: Simulator,
) -> None:
    sim.make_account(ALICE, "Alice")
    bob = sim.make_account(BOB, "Bob")
    companion = Companion(sim)
    await companion.link(ALICE)
    async with companion.online() as wire:
        ack = await companion.say(wire, bob.account.lid, "hello")
        assert ack.text("error") is None
        with trio.fail_after(PATIENCE_S):
            while not bob.inbox:
                await bob.arrival()
        assert [(item.peer, item.text) for item in bob.inbox] == [(ALICE, "hello")]
        bob.send(sim.phone(ALICE).account, "hello back")
        heard = await companion.hear(wire)
        assert heard.content.text == "hello back"

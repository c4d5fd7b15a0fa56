"""Clients that begin with Noise IK, over real sockets; an unmodified one does so in tests/peers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitpayd.simulator.main import Simulator
from sitpayd.whatsapp.errors import ResumptionError
from sitpayd.whatsapp.noise import KnownServer, Pattern, Resumption
from tests.simulator.conftest import QUICK, Start
from tests.simulator.test_routing import ALICE, BOB, linked
from tests.support.companion import Companion, Wire


def handshake(sim: Simulator) -> Pattern | None:
    (companion,) = sim.phone(ALICE).account.companions
    return companion.handshake


async def known(companion: Companion) -> KnownServer:
    """What a companion knows of the server after a full handshake."""
    async with companion.connect() as wire:
        await wire.expect("success")
        assert handshake(companion.sim) is Pattern.XX
        assert wire.connection.server is not None
        return wire.connection.server


async def says_hello(companion: Companion, wire: Wire) -> None:
    bob = companion.sim.make_account(BOB)
    node = await companion.stanza(wire, bob.account.lid, "hello")
    await wire.send(node)
    await wire.expect("ack", id=node.required_text("id"))


async def test_client_that_resumes_is_logged_in_and_goes_on(sim: Simulator) -> None:
    async with linked(sim) as (companion, _):
        pass
    async with companion.online(server=await known(companion)) as wire:
        await says_hello(companion, wire)
    assert handshake(sim) is Pattern.IK


async def test_client_that_is_refused_to_resume_is_logged_in_all_the_same(start: Start) -> None:
    async with start(replace(QUICK, resumption=Resumption.REFUSE)) as sim:
        async with linked(sim) as (companion, _):
            pass
        async with companion.online(server=await known(companion)) as wire:
            await says_hello(companion, wire)
        assert handshake(sim) is Pattern.XX_FALLBACK


async def test_client_meets_the_new_keys_of_a_server_it_knew(sim: Simulator) -> None:
    async with linked(sim) as (companion, _):
        pass
    before = await known(companion)
    sim.server.renew_keys()
    async with companion.online(server=before) as wire:
        after = wire.connection.server
    assert handshake(sim) is Pattern.XX_FALLBACK
    assert after is not None
    assert after.static_key == sim.server.keys.static.public_key
    async with companion.online(server=after):
        pass
    assert handshake(sim) is Pattern.IK


async def test_server_that_ignores_a_resumption_is_left(start: Start) -> None:
    async with start(replace(QUICK, resumption=Resumption.IGNORE)) as sim:
        async with linked(sim) as (companion, _):
            pass
        before = await known(companion)
        with pytest.raises(ResumptionError):
            async with companion.connect(server=before):
                pass

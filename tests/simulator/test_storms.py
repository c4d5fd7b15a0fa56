"""An outage of the whole server, and how it counts who comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import trio
import trio.testing
from websockets.exceptions import InvalidStatus
from websockets.trio.client import connect

from sitpayd.simulator.dials import Dials
from sitpayd.simulator.main import Simulator
from tests.simulator.conftest import QUICK
from tests.simulator.test_routing import ALICE
from tests.support.companion import PATIENCE_S, Companion


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator.start(QUICK, control_port=0) as running:
        yield running


@pytest.fixture
async def control(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    assert sim.control_url is not None
    async with httpx.AsyncClient(base_url=sim.control_url, timeout=PATIENCE_S) as client:
        yield client


async def test_outage_cuts_everybody_and_lets_nobody_in_until_it_is_over(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    await control.delete("/load")
    async with companion.online() as wire:
        assert (await control.get("/load")).json() == {
            "connected": 1,
            "dials": 1,
            "peak_dials": 1,
        }
        await control.post("/outage", json={"seconds": 0.5})
        await wire.closed()
        began = trio.current_time()
        assert (await control.get("/load")).json()["connected"] == 0
        with pytest.raises(InvalidStatus):
            async with companion.connect():
                pass
        assert (await control.get("/load")).json()["dials"] == 2
        await trio.sleep_until(began + 0.5)
    async with companion.online():
        assert (await control.get("/load")).json()["connected"] == 1


async def test_peer_that_is_gone_before_its_handshake_ends_nobody_but_itself(
    sim: Simulator,
) -> None:
    async with connect(sim.url, compression=None, proxy=None):
        await eventually_one(sim)
        (client,) = sim.server.clients
        stream = client._websocket.stream
        assert isinstance(stream, trio.SocketStream)
        stream.socket.close()
        sim.server.look_at_deadlines(trio.current_time() + 2 * sim.server.options.handshake_s)
    (violation,) = sim.server.violations.broken
    assert violation.device == "unknown"


async def eventually_one(sim: Simulator) -> None:
    with trio.fail_after(PATIENCE_S):
        while not sim.server.clients:
            await trio.testing.wait_all_tasks_blocked(0.01)


def test_peak_is_the_most_in_any_second_wherever_it_begins() -> None:
    dials = Dials()
    for moment in (0.0, 0.9, 1.0, 1.5, 1.85, 4.0):
        dials.note(moment)
    assert (dials.count, dials.peak) == (6, 4)
    dials.clear()
    dials.note(5.0)
    assert (dials.count, dials.peak) == (1, 1)

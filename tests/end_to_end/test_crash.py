"""The daemon is killed at the worst moments: nothing is lost, nothing comes twice."""

from __future__ import annotations

from sitpayd.simulator.main import Simulator
from tests.end_to_end.conftest import ALICE, BOB, Restart
from tests.support.partner import Partner
from tests.support.people import People


async def test_killed_daemon_comes_back_connected_without_a_new_code(
    partner: Partner, sim: Simulator, people: People, crash: Restart
) -> None:
    device = await partner.linked(sim, ALICE)
    linked = people.companions(ALICE)
    await crash()
    await device.until("connected")
    assert people.companions(ALICE) == linked
    assert people.online(ALICE) == linked
    assert (await device.send(BOB, "here again")).status_code == 200
    await people.reads(BOB, "here again")

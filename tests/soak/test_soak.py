"""A share of the soak: `make soak` runs it with a thousand devices for ten minutes."""

from __future__ import annotations

from pathlib import Path

from sitpayd.simulator.options import Options
from sitpayd.simulator.seeding import seed_companion
from sitpayd.simulator.server import Server
from tests.soak.soak import Size, soak
from tests.soak.truth import BEHIND_S, Truth

SHARE = Size(devices=30, seconds=8.0, blows_per_s=5.0, bound_s=120.0)
PHONE = "4915111111111"


async def test_daemon_lives_through_faults_and_tells_the_truth(tmp_path: Path) -> None:
    result = await soak(11, SHARE, tmp_path)
    assert result.findings == []
    assert sum(result.blows.values()) >= 10
    assert result.looks >= SHARE.devices


async def judge_of_one() -> Truth:
    server = Server(Options())
    await seed_companion(server, server.add_account(PHONE))
    truth = Truth(server)
    truth.judge({PHONE: "connecting"}, 0.0)
    return truth


async def test_connected_is_a_lie_once_the_server_has_missed_the_device_for_long() -> None:
    truth = await judge_of_one()
    truth.judge({PHONE: "connected"}, BEHIND_S)
    assert truth.lies == []
    truth.judge({PHONE: "connected"}, BEHIND_S + 1.0)
    assert len(truth.lies) == 1


async def test_half_open_device_may_be_called_connected_for_its_time() -> None:
    truth = await judge_of_one()
    truth.struck(PHONE, 10.0, 70.0)
    truth.judge({PHONE: "connected"}, 80.0 + BEHIND_S)
    assert truth.lies == []
    truth.judge({PHONE: "connected"}, 81.0 + BEHIND_S)
    assert len(truth.lies) == 1

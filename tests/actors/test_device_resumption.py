"""A device's actor that resumes its handshakes: with whom, and until when."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.acquaintance import MAX_FAILURES
from sitpayd.actors.events import LossKind, Lost
from sitpayd.actors.messages import PairingWish, StartPairing
from sitpayd.storage.database import Database
from sitpayd.whatsapp.noise import KnownServer, Pattern, Resumption, ServerKeys
from tests.actors.test_device import Stage
from tests.storage.builders import Tenant
from tests.support.transport import ROOT

HOUR_S = 3600.0


@pytest.fixture
def stage(database: Database, tenant: Tenant) -> Stage:
    stage = Stage(database, tenant)
    stage.world = replace(stage.world, noise_resume=True)
    return stage


def patterns(stage: Stage) -> list[Pattern]:
    """How the device shook hands, time after time."""
    return [line.server.pattern for line in stage.transport.lines]


async def cut(stage: Stage, kind: LossKind = LossKind.NETWORK) -> None:
    """Cut the connection, and wait for the next one."""
    count = len(stage.transport.lines)
    stage.transport.lines[-1].cut(kind)
    with trio.fail_after(HOUR_S):
        await stage.log_in(count + 1)


async def test_login_after_a_lost_connection_resumes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        await cut(stage)
        await cut(stage)
    assert patterns(stage) == [Pattern.XX, Pattern.IK, Pattern.IK]


async def test_nothing_is_resumed_where_it_is_not_wanted(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.world = replace(stage.world, noise_resume=False)
    await stage.link()
    async with stage.life():
        await stage.log_in()
        await cut(stage)
    assert patterns(stage) == [Pattern.XX, Pattern.XX]
    assert stage.handle.acquaintance.server is None


async def test_server_is_known_to_the_next_life_of_the_actor(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
    async with stage.life():
        await stage.log_in(2)
    assert patterns(stage) == [Pattern.XX, Pattern.IK]


async def test_registration_neither_resumes_nor_makes_acquainted(
    stage: Stage, autojump_clock: MockClock
) -> None:
    known = KnownServer(stage.transport.keys.static.public_key, 0, time.time() + 60)
    stage.handle.acquaintance.met(known)
    async with stage.life():
        stage.handle.post(StartPairing(PairingWish()))
        await stage.transport.dialled(1)
        await wait_all_tasks_blocked()
    assert patterns(stage) == [Pattern.XX]
    assert stage.handle.acquaintance.server is known


async def test_new_keys_of_the_server_are_remembered(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.keys = ServerKeys.generate(ROOT, time.time())
        await cut(stage)
        await cut(stage)
    assert patterns(stage) == [Pattern.XX, Pattern.XX_FALLBACK, Pattern.IK]


async def test_dial_that_reaches_nobody_is_no_failure_to_resume(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.refusals = [Lost(LossKind.NETWORK, "dial timed out")] * 5
        await cut(stage)
    assert patterns(stage) == [Pattern.XX, Pattern.IK]


async def test_server_that_knows_of_no_resumption_is_met_in_full_next(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.resumption = Resumption.IGNORE
        await cut(stage)
    assert patterns(stage) == [Pattern.XX, Pattern.XX]


async def test_server_that_hangs_up_on_a_resumption_is_met_in_full_next(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.cut = 1
        await cut(stage)
    assert patterns(stage) == [Pattern.XX, Pattern.XX]


async def test_refusal_behind_a_resumption_is_followed_by_a_full_handshake(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        await cut(stage)
        await cut(stage, LossKind.RESUMPTION)
    assert patterns(stage) == [Pattern.XX, Pattern.IK, Pattern.XX]


async def test_device_gives_up_resuming_after_it_failed_too_often(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.transport.resumption = Resumption.IGNORE
        for _ in range(MAX_FAILURES):
            await cut(stage)
        stage.transport.resumption = Resumption.ACCEPT
        await cut(stage)
    assert set(patterns(stage)) == {Pattern.XX}

"""F-14: the peer is gone and nobody says so; and a machine that wakes up, F-15."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.keepalive import PROBE_S
from sitpayd.actors.messages import Probe
from sitpayd.storage import outbox
from sitpayd.storage.database import Database
from sitpayd.storage.records import Accepted, RowState
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.node import Node
from tests.actors.builders import FRIEND_PN
from tests.actors.test_device import Stage
from tests.storage.builders import Tenant, a_message

FOUND_WITHIN_S = 70.0


@pytest.fixture
async def stage(database: Database, tenant: Tenant) -> Stage:
    stage = Stage(database, tenant)
    await stage.link()
    return stage


async def send(stage: Stage) -> Accepted:
    new = a_message(stage.device, recipient=FRIEND_PN.user)
    accepted = await stage.database.write(outbox.accept, new, timedelta(hours=1))
    assert isinstance(accepted, Accepted)
    stage.handle.ring()
    return accepted


@pytest.mark.parametrize("idle_s", [0.0, 19.0, 44.0])
async def test_half_open_socket_is_found_and_what_was_sent_is_sent_again_as_it_was(
    stage: Stage, idle_s: float, autojump_clock: MockClock
) -> None:
    """F-14: what is written is swallowed, nothing comes, and no error ever."""
    async with stage.life():
        await stage.log_in()
        await send(stage)  # sessions and device list are known from here on
        await wait_all_tasks_blocked()
        await trio.sleep(idle_s)
        stage.transport.hole = True
        began = trio.current_time()
        accepted = await send(stage)
        await wait_all_tasks_blocked()
        row = await stage.database.read(outbox.next_row, stage.device.id)
        assert row is not None
        assert row.state is RowState.ARMED
        with trio.fail_after(FOUND_WITHIN_S):
            await stage.transport.lines[0].ended.wait()
        stage.transport.hole = False
        line = await stage.log_in(2)
        await wait_all_tasks_blocked()

        assert trio.current_time() - began <= FOUND_WITHIN_S
        (swallowed,) = (s for s in stage.transport.lines[0].swallowed if isinstance(s, bytes))
        assert swallowed == row.stanza
        assert [n for n in line.heard if n.tag == "message"] == [node_of(swallowed)]
        view = await stage.database.read(outbox.message, stage.device.id, accepted.row.message_id)
        assert view is not None
        assert view.state == "sent"


def node_of(stanza: bytes) -> Node:
    return decode(stanza)


async def test_probe_finds_a_dead_socket_in_ten_seconds(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """F-15: after a sleep of the machine, not after the silence of an ordinary day."""
    async with stage.life():
        await stage.log_in()
        stage.transport.hole = True
        began = trio.current_time()
        stage.handle.post(Probe())
        await stage.transport.lines[0].ended.wait()

        assert trio.current_time() - began == pytest.approx(PROBE_S, abs=0.1)


async def test_probe_leaves_a_live_socket_alone(stage: Stage, autojump_clock: MockClock) -> None:
    async with stage.life():
        line = await stage.log_in()
        stage.handle.post(Probe())
        await trio.sleep(2 * PROBE_S)

        assert len(stage.transport.lines) == 1
        assert [n for n in line.heard if n.text("xmlns") == "w:p"] != []

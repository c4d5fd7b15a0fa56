"""The end of an actor: what is committed is still said, nothing is held up, nothing stays open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.connector import Route
from sitpayd.actors.device import DeviceActor
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.lines import GOODBYE_S
from sitpayd.actors.messages import Reconnect
from sitpayd.actors.transport import Outgoing, Report
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.login import success as welcome
from tests.actors.builders import FRIEND_LID, OWN_LID, SERVER_T
from tests.actors.test_device import Stage, stage

__all__ = ["stage"]  # the fixture

CALL = Node("call", {"id": "C", "from": FRIEND_LID})


class SlowTransport:
    """A transport whose writer stands still until it may write.

    Attributes:
        free: set it, and all is written that waits.
    """

    def __init__(self, stage: Stage) -> None:
        self.free = trio.Event()
        self._converse = stage.transport.converse

    async def converse(
        self,
        way: Callable[[], Route],
        make_connection: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        bucket: DialBucket,
        report: Report,
    ) -> None:
        slow_in, slow_out = trio.open_memory_channel[Outgoing](256)
        async with trio.open_nursery() as nursery:

            async def pass_on() -> None:
                async with slow_in:
                    async for item in outgoing:
                        await self.free.wait()
                        await slow_in.send(item)

            nursery.start_soon(pass_on)
            await self._converse(way, make_connection, slow_out, bucket, report)
            nursery.cancel_scope.cancel()


@pytest.fixture
async def slow(stage: Stage) -> SlowTransport:
    slow = SlowTransport(stage)
    stage.world = replace(stage.world, converse=slow.converse)
    await stage.link()
    return slow


async def end_life(nursery: trio.Nursery, stage: Stage) -> trio.Event:
    """Cancel a life, as the end of the process does; the event tells when it is over."""
    over = trio.Event()

    async def live() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await DeviceActor(stage.handle, stage.world).run()
        over.set()

    scopes: list[trio.CancelScope] = []
    nursery.start_soon(live)
    line = await stage.transport.dialled(1)
    await line.say(welcome(OWN_LID, SERVER_T))
    await line.say(CALL)
    await wait_all_tasks_blocked()
    scopes[0].cancel()
    await wait_all_tasks_blocked()
    return over


async def test_ack_of_what_is_stored_is_written_although_the_process_stops(
    stage: Stage, slow: SlowTransport, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        over = await end_life(nursery, stage)
        (line,) = stage.transport.lines
        assert line.heard == []
        assert not over.is_set()
        slow.free.set()
        await over.wait()
        assert "ack" in line.tags
        assert trio.current_time() < GOODBYE_S


async def test_socket_that_takes_nothing_holds_the_process_up_for_a_moment_only(
    stage: Stage, slow: SlowTransport, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        over = await end_life(nursery, stage)
        await over.wait()
        assert trio.current_time() == pytest.approx(GOODBYE_S)
        assert not stage.transport.open


async def dial_for_ever(*_: object) -> None:
    await trio.sleep_forever()


async def test_dial_under_way_does_not_hold_the_process_up(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.world = replace(stage.world, converse=dial_for_ever)
    async with stage.life():
        assert stage.status == ("connecting", None)
    assert trio.current_time() == 0.0


async def test_dial_that_is_given_up_does_not_hold_the_next_one_up(
    stage: Stage, autojump_clock: MockClock
) -> None:
    dials = iter((dial_for_ever, stage.transport.converse))

    async def converse(
        way: Callable[[], Route],
        make_connection: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        bucket: DialBucket,
        report: Report,
    ) -> None:
        await next(dials)(way, make_connection, outgoing, bucket, report)

    await stage.link()
    stage.world = replace(stage.world, converse=converse)
    with trio.fail_after(1.0):
        async with stage.life():
            stage.handle.post(Reconnect())
            await stage.log_in()

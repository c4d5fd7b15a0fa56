"""A device whose proxy is changed: it leaves the old way, whatever it is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    MockClock,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from sitpayd.actors import transport
from sitpayd.actors.commands import Dial, HangUp, HideQr
from sitpayd.actors.connector import Route
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.events import LossKind, Lost, NetworkEvent
from sitpayd.actors.messages import Reroute
from sitpayd.actors.phase import RESTING, Phase
from sitpayd.actors.proxies import parse_proxy
from sitpayd.actors.transport import Outgoing, converse
from sitpayd.storage.database import Database
from sitpayd.whatsapp.connection import Connection
from tests.actors.builders import (
    connected_play,
    opened_play,
    paired_play,
    pairing_play,
    rest,
    started,
)
from tests.actors.test_device import Stage
from tests.storage.builders import Tenant
from tests.support.playbook import Playbook

Pipe = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

LOGIN = Dial(registration=False)
PROXY = "socks5://user:secret@proxy.test:1080"


def waiting_play() -> Playbook:
    return connected_play().on(Lost(LossKind.NETWORK, "reset")).expects_nothing()


@pytest.mark.parametrize(
    "play",
    [connected_play, opened_play, waiting_play, paired_play],
    ids=["connected", "connecting", "waiting", "paired"],
)
def test_linked_device_dials_the_new_way_at_once(play: Callable[[], Playbook]) -> None:
    play().on(Reroute()).expects(HangUp(), LOGIN).stands(Phase.CONNECTING)


def test_round_of_codes_ends() -> None:
    play = pairing_play().on(Reroute()).expects(HangUp(), HideQr())
    play.stands(Phase.UNPAIRED, "proxy_changed")


@pytest.mark.parametrize("phase", sorted(RESTING))
def test_resting_device_does_not_dial_because_of_a_proxy(phase: Phase) -> None:
    play = Playbook().on(started(rest=rest(phase)))
    play.said()
    play.on(Reroute()).expects_nothing().stands(phase, "because")


def test_paused_device_does_not_dial_because_of_a_proxy() -> None:
    play = Playbook().on(started(paused=True)).expects_nothing()
    play.on(Reroute()).expects_nothing().stands(Phase.PAUSED)


def test_unlinked_device_does_not_dial_because_of_a_proxy() -> None:
    Playbook().on(Reroute()).expects_nothing().stands(Phase.UNPAIRED)


async def test_device_goes_through_the_proxy_of_its_record(
    database: Database, tenant: Tenant, autojump_clock: MockClock
) -> None:
    stage = Stage(database, tenant)
    await stage.link()
    async with stage.life():
        await stage.log_in()
        stage.handle.record = replace(stage.handle.record, proxy=PROXY)
        stage.handle.post(Reroute())
        await stage.log_in(2)

    assert stage.transport.routes == [
        Route("ws://nowhere"),
        Route("ws://nowhere", parse_proxy(PROXY)),
    ]


async def test_dial_under_way_while_a_proxy_is_set_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Not a byte of the device leaves on a stream that was opened the old way."""
    way, opened = Route("ws://nowhere"), list[tuple[Route, Pipe]]()

    async def open_stream(route: Route) -> Pipe:
        await trio.sleep(5)
        ours, theirs = memory_stream_pair()
        opened.append((route, theirs))
        return ours

    def make() -> Connection:
        return Connection.responder(None)  # type: ignore[arg-type]  # nothing is said through it

    async def report(_: NetworkEvent) -> None:
        raise AssertionError("the dial does not end")

    monkeypatch.setattr(transport, "open_stream", open_stream)
    _, outgoing = trio.open_memory_channel[Outgoing](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(converse, lambda: way, make, outgoing, DialBucket(), report)
        await trio.sleep(1)
        way = replace(way, proxy=parse_proxy(PROXY))
        await trio.sleep(10)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    (old, straight), (new, through) = opened
    assert (old.proxy, new.proxy) == (None, way.proxy)
    assert await straight.receive_some() == b""
    assert (await through.receive_some()).startswith(b"GET ")

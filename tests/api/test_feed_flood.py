"""Many readers of the feed that read nothing, and one that does, in a flood of changes.

Small enough for every run; the full size is `python -m bench feed`.
"""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio
from websockets.frames import Frame, Opcode
from websockets.trio.client import connect

from sitpayd.actors.changes import PATIENCE_S
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.app import FEED_RULE
from tests.support.front import ADMIN_KEY
from tests.support.server import Served, read_all

SINCE = datetime(2026, 11, 23, tzinfo=UTC)
STALLED = 20
CHANGES = 20_000
AT_A_TIME = 100
# More than can be coalesced: each burst of changes overflows whoever lags.
DEVICES = 400
LAST = "wa_last"
MAX_RSS = 20 * 1024 * 1024
# Seconds of CPU for telling the board one change; what an actor's step may take is the bound.
MAX_MEAN_S = 0.0001
MAX_STEP_S = 0.001


def rss() -> int:
    """Resident memory of this process, bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


@asynccontextmanager
async def stalled_reader(
    served: Served, buffer_len: int = 4096
) -> AsyncIterator[trio.SocketStream]:
    """A reader that opens the feed and then reads nothing."""
    small = trio.socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_len)
    await small.connect(("127.0.0.1", served.port))
    async with trio.SocketStream(small) as stream:
        await stream.send_all(
            f"GET {FEED_RULE} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
            f"connection: upgrade\r\nsec-websocket-version: 13\r\nx-admin-key: {ADMIN_KEY}\r\n"
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert (await stream.receive_some(12)) == b"HTTP/1.1 101"
        yield stream


class GoodReader:
    """A reader that keeps up, and knows the status of every device as it was told."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.ready = trio.Event()
        self.done = trio.Event()

    async def read(self, served: Served) -> None:
        """Read until the last device was told."""
        async with connect(
            served.feed_url, additional_headers={"x-admin-key": ADMIN_KEY}, proxy=None
        ) as feed:
            seq = 0
            # A snapshot may hold the last device and still be older than other changes.
            while LAST not in self.known or seq < int(self.known[LAST]):
                told = json.loads(await feed.recv())
                seq = seq if told.get("more") else told.get("seq", seq)
                if told["type"] == "snapshot":
                    self.known.clear()
                for device in told.get("devices", [told["device"]] if "device" in told else []):
                    self.known[device["session_id"]] = device["reason"]
                self.ready.set()
        self.done.set()


async def flood(served: Served) -> list[float]:
    """Change devices as fast as the loop goes round; gives what each telling cost."""
    costs = []
    for number in range(CHANGES):
        change = DeviceStatus(f"wa_{number % DEVICES}", 1, "waiting", str(number), SINCE)
        began = time.thread_time()
        served.front.board.publish(change)
        costs.append(time.thread_time() - began)
        if number % AT_A_TIME == 0:
            await trio.lowlevel.checkpoint()
    board = served.front.board
    board.publish(DeviceStatus(LAST, 1, "waiting", str(board.changes.seq + 1), SINCE))
    return costs


async def test_stalled_readers_cost_nobody_anything(served: Served) -> None:
    """F-20, S-19: publishing awaits nobody, memory stays, who reads knows everything."""
    good = GoodReader()
    before = rss()
    async with trio.open_nursery() as nursery:
        for _ in range(STALLED):
            await nursery.start(stall, served)
        nursery.start_soon(good.read, served)
        await good.ready.wait()
        costs = sorted(await flood(served))
        with trio.fail_after(30):
            await good.done.wait()
        risen = rss() - before
        nursery.cancel_scope.cancel()

    truth = {known.session_id: known.reason for known in served.front.board.page("", DEVICES + 1)}
    assert good.known == truth
    assert risen < MAX_RSS
    assert sum(costs) / len(costs) < MAX_MEAN_S
    assert costs[int(len(costs) * 0.999)] < MAX_STEP_S


async def stall(
    served: Served, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Be a stalled reader."""
    async with stalled_reader(served):
        task_status.started()
        await trio.sleep_forever()


async def test_reader_that_takes_nothing_is_cut(served: Served) -> None:
    """F-20: there is nobody to tell it to; the kernel ends the connection after 4 s."""
    async with stalled_reader(served), trio.open_nursery() as nursery:
        nursery.start_soon(keep_changing, served)
        await nobody_watches(served, PATIENCE_S + 5)
        nursery.cancel_scope.cancel()


async def test_reader_that_is_too_slow_is_closed_with_1013(served: Served) -> None:
    """F-20: it reads a little all the time, and never takes its fresh snapshot in."""
    heard = bytearray()
    # A kernel with less room would not tell of the little that is read, and the server's would take
    # the peer for gone.
    async with stalled_reader(served, 65_536) as stream:
        async with trio.open_nursery() as nursery:
            # A snapshot of so many takes half a minute to read in this way.
            nursery.start_soon(keep_changing, served, 4000)
            ends_at = trio.current_time() + PATIENCE_S + 3
            while trio.current_time() < ends_at:
                heard += await stream.receive_some(40_000)
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        # Its time is over; it hurries to read why.
        with trio.fail_after(10):
            heard += await read_all(stream)
    assert heard.endswith(Frame(Opcode.CLOSE, (1013).to_bytes(2, "big")).serialize(mask=False))


async def nobody_watches(served: Served, within_s: float) -> None:
    """Wait until the board has no watcher."""
    with trio.fail_after(within_s):
        while True:
            if not served.front.board.watchers:
                return
            await trio.sleep(0.1)


async def keep_changing(served: Served, devices: int = DEVICES) -> None:
    """Change more devices than can be coalesced, again and again."""
    number = 0
    while True:
        for _ in range(devices):
            number += 1
            served.front.board.publish(
                DeviceStatus(f"wa_{number % devices}", 1, "waiting", str(number), SINCE)
            )
        await trio.sleep(0.5)

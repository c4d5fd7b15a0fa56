"""Feed: what readers that read nothing cost whoever tells the board of a change.

The board and the server run in this process, without devices, so that changes come as fast as is
wanted; all readers are another process. The good one has to know every device's last status at the
end. Its part is the program below, `python -m bench.feed PORT KEY COUNT`.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from os import getpid
from pathlib import Path
from typing import Final

import trio
from pydantic import SecretStr
from websockets.trio.client import connect

from bench.processes import BenchError, rss_kib
from bench.spending import percentile_ms
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import DeviceStatus, StatusBoard
from sitpayd.api.app import FEED_RULE, Api, create_app
from sitpayd.api.server import open_listener, serve_on
from sitpayd.settings import Settings
from sitpayd.storage.database import open_database
from sitpayd.storage.vault import Vault

KEY: Final = "the admin key of a bench of the feed"
LAST: Final = "wa_last"
READY_S: Final = 20.0
CAUGHT_UP_S: Final = 30.0
TICK_S: Final = 0.005
SINCE: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SMALL_BUFFER_LEN: Final = 4096
_READY: Final = b"ready\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """Stalled readers beside a good one in a flood of changes.

    Attributes:
        publish_mean_ms: CPU of telling the board one change; publish_p999_ms: of the dearest.
        rss_rise_mib: of the whole process, readers and ring included, at its highest.
        stalled_left: stalled readers that are still connected at the end.
        complete: the good reader knows the last status of every device.
        good_messages, good_resyncs: what it was told.
    """

    stalled: int
    devices: int
    per_second: float
    seconds: float
    publish_mean_ms: float
    publish_p999_ms: float
    rss_rise_mib: float
    stalled_left: int
    complete: bool
    good_messages: int
    good_resyncs: int


async def measure_flood(
    directory: Path, stalled: int, devices: int, per_second: float, seconds: float
) -> Flood:
    """Tell the board of so many changes a second while all read, or do not."""
    board = StatusBoard()
    # Made before memory is looked at: it is ours, not the feed's.
    costs = array("d", bytes(8 * int(per_second * seconds * 2)))
    async with _front(directory, board) as port:
        before_kib = highest_kib = rss_kib(getpid())
        async with _readers(port, stalled) as readers:
            with trio.fail_after(READY_S):
                assert await _line(readers) == _READY
            number, cpu_s = 0, 0.0
            began = trio.current_time()
            while (now := trio.current_time()) < began + seconds:
                due = int((now - began) * per_second)
                cpu_began = time.thread_time()
                while number < due:
                    at = time.thread_time()
                    board.publish(_status(f"wa_{number % devices}", str(number)))
                    costs[number] = time.thread_time() - at
                    number += 1
                cpu_s += time.thread_time() - cpu_began
                highest_kib = max(highest_kib, rss_kib(getpid()))
                await trio.sleep(TICK_S)
            took_s = trio.current_time() - began
            stalled_left = board.watchers - 1
            board.publish(_status(LAST, str(board.changes.seq + 1)))
            with trio.move_on_after(CAUGHT_UP_S):
                told = json.loads(await _line(readers))
                truth = {known.session_id: known.reason for known in board.page("", devices + 1)}
                return Flood(
                    stalled=stalled,
                    devices=devices,
                    per_second=number / took_s,
                    seconds=took_s,
                    publish_mean_ms=cpu_s / number * 1000,
                    publish_p999_ms=percentile_ms(costs[:number], 0.999),
                    rss_rise_mib=(highest_kib - before_kib) / 1024,
                    stalled_left=stalled_left,
                    complete=told["known"] == truth,
                    good_messages=told["messages"],
                    good_resyncs=told["resyncs"],
                )
    raise BenchError("the good reader did not come to the end of the feed")


@asynccontextmanager
async def _front(directory: Path, board: StatusBoard) -> AsyncIterator[int]:
    """Serve the API with this board; its port."""
    url = f"sqlite:///{directory / 'feed.db'}"
    settings = Settings(admin_key=SecretStr(KEY))
    listener = open_listener("127.0.0.1", 0)
    async with open_database(url, Vault(bytes(32))) as database, trio.open_nursery() as nursery:
        app: Api = create_app(DeviceRegistry(), database, board, Outcomes(), settings)
        nursery.start_soon(partial(serve_on, listener, app, shutdown=trio.Event()))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _readers(port: int, stalled: int) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "bench.feed", str(port), KEY, str(stalled)], stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _line(process: trio.Process) -> bytes:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        data = await process.stdout.receive_some()
        if not data:
            raise BenchError("the readers ended early")
        line += data
    return line


def _status(session_id: str, reason: str) -> DeviceStatus:
    return DeviceStatus(session_id, 1, "waiting", reason, SINCE)


async def _read(port: int, key: str, stalled: int) -> None:
    """Be all readers; say what the good one knows once it was told of the last change."""
    known: dict[str, str] = {}
    messages = resyncs = 0
    async with AsyncExitStack() as stack:
        for _ in range(stalled):
            await stack.enter_async_context(await _stall(port, key))
        url, headers = f"ws://127.0.0.1:{port}{FEED_RULE}", {"x-admin-key": key}
        async with connect(url, additional_headers=headers, compression=None, proxy=None) as feed:
            seq = 0
            # A snapshot may hold the last device and still be older than other changes.
            while LAST not in known or seq < int(known[LAST]):
                told = json.loads(await feed.recv())
                if not messages:
                    print(_READY.decode(), end="", flush=True)
                messages += 1
                seq = told.get("seq", seq) if not told.get("more") else seq
                match told["type"]:
                    case "snapshot" | "more":
                        if told["type"] == "snapshot":
                            known.clear()
                        known.update({d["session_id"]: d["reason"] for d in told["devices"]})
                    case "status":
                        known[told["device"]["session_id"]] = told["device"]["reason"]
                    case "resync":
                        resyncs += 1
        print(json.dumps({"known": known, "messages": messages, "resyncs": resyncs}), flush=True)
        await trio.sleep_forever()


async def _stall(port: int, key: str) -> trio.SocketStream:
    """Open the feed, and read nothing more."""
    small = trio.socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_LEN)
    await small.connect(("127.0.0.1", port))
    stream = trio.SocketStream(small)
    await stream.send_all(
        f"GET {FEED_RULE} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
        f"connection: upgrade\r\nsec-websocket-version: 13\r\nx-admin-key: {key}\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    await stream.receive_some(1)
    return stream


if __name__ == "__main__":
    trio.run(_read, int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

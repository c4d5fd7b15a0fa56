"""The demo: it succeeds only if every step was observed, and it survives a killed daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from websockets.trio.client import connect

from tests.support.daemon import ROOT, environment

WITHIN_S = 60.0


class Demo:
    """A running `sitpayd demo --once`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.output = ""

    async def until(self, pattern: str) -> str:
        """Read on until it says this; returns the first group."""
        assert self._process.stdout is not None
        with trio.fail_after(WITHIN_S):
            while (found := re.search(pattern, self.output)) is None:
                data = await self._process.stdout.receive_some()
                assert data, f"it ended without saying {pattern!r}: {self.output}"
                self.output += data.decode()
        return found[1] if found.re.groups else found[0]

    async def ended(self) -> int:
        """Read to the end; returns the exit status."""
        assert self._process.stdout is not None
        with trio.fail_after(WITHIN_S):
            async for data in self._process.stdout:
                self.output += data.decode()
            return await self._process.wait()

    def children(self) -> dict[str, int]:
        """Its processes, by the last word of their command line."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        listed = " ".join(task.read_text() for task in tasks).split()
        names = {int(c): Path(f"/proc/{c}/cmdline").read_text().split("\0") for c in listed}
        return {name[-2]: child for child, name in names.items()}


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "sitpayd", "demo", "--once"],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Demo(process)
    finally:
        if process.returncode is None:
            # Its own children end with it only if it may end them.
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()


async def test_day_is_lived_to_its_end(demo: Demo) -> None:
    assert await demo.ended() == 0, demo.output
    assert "no violation" in demo.output
    assert "curl -X POST http://127.0.0.1:" in demo.output


async def test_killed_daemon_is_started_again_and_the_day_goes_on(demo: Demo) -> None:
    daemon = int(await demo.until(r"daemon: process (\d+)\n"))
    await demo.until("linked as")
    os.kill(daemon, signal.SIGKILL)
    assert await demo.ended() == 0, demo.output
    assert "it is started again" in demo.output
    assert demo.output.count("linked as") == 1


async def test_violation_fails_the_day(demo: Demo) -> None:
    url = await demo.until(r"simulator (ws://\S+), daemon")
    async with connect(url) as socket:
        await socket.send(b"this is no handshake")
        await socket.wait_closed()
    assert await demo.ended() == 1
    assert "The demo failed: the simulator saw violations" in demo.output


async def test_missing_simulator_fails_the_day(demo: Demo) -> None:
    await demo.until("✓ simulator")
    os.kill(demo.children()["simulate"], signal.SIGKILL)
    assert await demo.ended() == 1
    assert "The demo failed: " in demo.output
    assert "Traceback" not in demo.output

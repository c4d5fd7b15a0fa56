"""The operator's commands, run against a daemon; one of them on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from tests.support.daemon import Daemon, Ended, environment, run_command
from tests.support.waiting import eventually

COMMAND_S: Final = 30.0
LEFT: Final = "\x1b[?25h\x1b[?1049l"


async def sitpayd(daemon: Daemon, *arguments: str) -> Ended:
    """Run a command with the daemon's own configuration."""
    with trio.fail_after(COMMAND_S):
        return await run_command(*arguments, cwd=daemon.state_dir.parent, **daemon.settings)


class Terminal:
    """A terminal with a command on it.

    Attributes:
        written: everything that was written to it.
    """

    def __init__(self, process: trio.Process) -> None:
        self.written = ""
        self._process = process

    @property
    def screen(self) -> str:
        """What was drawn last, without its colours."""
        return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", self.written.rpartition("\x1b[H")[2])

    async def shows(self, *texts: str) -> str:
        """Wait until all of these stand on the screen."""

        async def look() -> str | None:
            return self.screen if all(text in self.screen for text in texts) else None

        return await eventually(look, f"the terminal shows {texts}: {self.screen}")

    async def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit status."""
        self._process.send_signal(signal.SIGINT)
        with trio.fail_after(COMMAND_S):
            return await self._process.wait()


@asynccontextmanager
async def on_terminal(
    daemon: Daemon, *arguments: str, columns: int = 80, lines: int = 24
) -> AsyncIterator[Terminal]:
    """Run a command on a terminal of this size for as long as the block runs."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "sitpayd", *arguments],
        env=environment(**daemon.settings) | {"TERM": "xterm"},
        cwd=daemon.state_dir.parent,
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    terminal = Terminal(process)

    async def read(stream: trio.lowlevel.FdStream) -> None:
        try:
            async for data in stream:
                terminal.written += data.decode()
        except trio.BrokenResourceError:
            pass  # how Linux tells that nobody writes to a terminal any more

    async with trio.lowlevel.FdStream(ours) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(read, stream)
        try:
            yield terminal
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()

"""The real daemon, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import trio

from tests.support.waiting import eventually

ADMIN_KEY: Final = "admin-key-of-the-end-to-end-tests"
STOP_S: Final = 20.0
ROOT: Final = Path(__file__).parents[2]


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**settings: str) -> dict[str, str]:
    """The environment of a command: ours, with these settings instead of any that are set."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SITPAYD_")}
    return inherited | {f"SITPAYD_{key.upper()}": value for key, value in settings.items()}


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    output: str
    errors: str


async def run_command(*arguments: str, cwd: Path, **settings: str) -> Ended:
    """Run a command of sitpayd to its end; the caller brings the deadline."""
    done = await trio.run_process(
        [sys.executable, "-m", "sitpayd", *arguments],
        env=environment(**settings),
        cwd=cwd,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class Daemon:
    """A daemon that can be stopped, killed and started again on the same state and port.

    Attributes:
        state_dir: holds its database and secret.
        log: everything it wrote, over all its lives.

    Args:
        program: what Python runs; `serve` is added.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        root_key: bytes,
        program: Sequence[str] = ("-m", "sitpayd"),
        **settings: str,
    ) -> None:
        self.state_dir = directory / "state"
        self.log = directory / "daemon.log"
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._program = program
        self.settings = {
            "listen": f"127.0.0.1:{self.port}",
            "base_url": self.base_url,
            "state_dir": str(self.state_dir),
            "admin_key": ADMIN_KEY,
            "whatsapp_url": url,
            "whatsapp_root_key": root_key.hex(),
            **settings,
        }
        self._process: trio.Process | None = None

    @property
    def database(self) -> Path:
        """Its database file."""
        return self.state_dir / "sitpayd.db"

    @property
    def pid(self) -> int | None:
        """Of its latest process."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether a process of it lives."""
        return self._process is not None and self._process.returncode is None

    async def spawn(self) -> trio.Process:
        """Start its process."""
        with self.log.open("ab") as output:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, *self._program, "serve"],
                env=environment(**self.settings) | {"PYTHONPATH": str(ROOT)},
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self._process

    async def start(self, http: httpx.AsyncClient) -> None:
        """Start it and wait until it is ready."""
        process = await self.spawn()

        async def ready() -> bool:
            assert process.returncode is None, self.lines()[-1:]
            try:
                return (await http.get(f"{self.base_url}/readyz")).is_success
            except httpx.TransportError:
                return False

        await eventually(ready, "the daemon is ready")

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        with trio.fail_after(STOP_S):
            return await self._process.wait()

    async def stop(self) -> int:
        """Stop it in order; returns the exit status."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """Kill it, as a crash would."""
        self.send(signal.SIGKILL)
        await self.ended()

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def lines(self) -> list[str]:
        """What it has logged."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def errors(self) -> list[str]:
        """The lines in which it complains about itself, and what is no line of its log at all."""
        return [line for line in self.lines() if " level=error " in line or "level=" not in line]

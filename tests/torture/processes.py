"""The processes of a storm: the simulator, and a daemon that is started again whenever it dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
import trio

from tests.support.daemon import ROOT, Daemon, environment
from tests.torture.verdict import Shown

START_S: Final = 30.0
# As systemd's RestartSec, but shorter: the storm is about what happens while it runs.
RESTART_S: Final = 0.1

Json = dict[str, object]


class Simulated:
    """A simulator in a process of its own, through its control API.

    Attributes:
        url: where daemons dial; root_key: 32 bytes.
    """

    def __init__(self, http: httpx.AsyncClient, announced: dict[str, str]) -> None:
        self.url = announced["url"]
        self.root_key = bytes.fromhex(announced["root_key"])
        self._control = announced["control"]
        self._http = http
        self._inboxes: dict[str, list[Shown]] = {}

    @classmethod
    @asynccontextmanager
    async def start(cls, http: httpx.AsyncClient) -> AsyncIterator[Simulated]:
        """Run one as long as the block runs. Its log is dropped: violations are asked for."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "sitpayd", "simulate"],
            env=environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            line = b""
            with trio.fail_after(START_S):
                while not line.endswith(b"\n"):
                    data = await process.stdout.receive_some()
                    assert data, "the simulator ended at its start"
                    line += data
            yield cls(http, json.loads(line))
        finally:
            process.kill()
            with trio.CancelScope(deadline=trio.current_time() + START_S, shield=True):
                await process.wait()
                await process.stdout.aclose()

    async def make_account(self, number: str) -> None:
        """Make an account with its phone."""
        await self._ask("POST", "/accounts", {"phone": number})

    async def scan(self, number: str, qr: str) -> None:
        """Let a phone scan a code."""
        await self._ask("POST", f"/accounts/{number}/scan", {"qr": qr})

    async def deliver_repeats(self) -> None:
        """Hand repeated messages on: phones have to know them by their ratchets."""
        await self._ask("PATCH", "/options", {"repeats": "deliver"})

    async def add_fault(self, kind: str, **fields: object) -> None:
        """Let something go wrong."""
        await self._ask("POST", "/faults", {"kind": kind, **fields})

    async def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        await self._ask("DELETE", "/faults")

    async def faults(self) -> dict[str, int]:
        """What still has to go wrong, and how often."""
        answer = await self._ask("GET", "/faults")
        assert isinstance(answer, list)
        return {fault["kind"]: fault["count"] for fault in answer}

    async def inbox(self, number: str) -> list[Shown]:
        """What a phone shows, oldest first. Asks for what is new only."""
        known = self._inboxes.setdefault(number, [])
        answer = await self._ask("GET", f"/accounts/{number}/inbox?after={len(known)}")
        assert isinstance(answer, list)
        known += [Shown(item["id"], item["text"], item["from_me"]) for item in answer]
        return known

    async def violations(self) -> list[Json]:
        """What clients did against the protocol."""
        answer = await self._ask("GET", "/violations")
        assert isinstance(answer, dict)
        violations: list[Json] = answer["violations"]
        return violations

    async def repeats(self) -> int:
        """How often a message came again under its id."""
        answer = await self._ask("GET", "/messages")
        assert isinstance(answer, dict)
        return int(answer["sendings"]) - int(answer["messages"])

    async def _ask(self, method: str, path: str, body: Json | None = None) -> object:
        response = await self._http.request(method, self._control + path, json=body)
        assert response.is_success, f"{method} {path}: {response.text}"
        answer: object = response.json()
        return answer


class Keeper:
    """Starts a daemon again whenever it dies, as systemd would, and kills it on request.

    Attributes:
        lives: how often it was started; born: clock seconds of the last start.
        kills, stops: how often it was killed, and asked to stop; deaths: exit statuses of the
            times it ended otherwise.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._process: trio.Process | None = None
        self._expected: int | None = None
        self._changed = trio.Event()
        self.lives = self.kills = self.stops = 0
        self.born = 0.0
        self.deaths: list[int] = []

    async def run(self) -> None:
        """Keep it alive until cancelled; then kill it."""
        try:
            while True:
                self._process = await self._daemon.spawn()
                self._expected = None
                self.lives += 1
                self.born = trio.current_time()
                self._tell()
                status = await self._process.wait()
                if status != self._expected:
                    self.deaths.append(status)
                self._tell()
                await trio.sleep(RESTART_S)
        finally:
            self._daemon.end()
            if self._process is not None:
                with trio.CancelScope(deadline=trio.current_time() + START_S, shield=True):
                    await self._process.wait()

    async def alive(self) -> None:
        """Wait until a process runs."""
        while self._living is None:
            await self._changed.wait()

    async def kill(self) -> None:
        """Kill it with SIGKILL, as soon as it runs."""
        await self.alive()
        assert self._process is not None
        self._expected = -signal.SIGKILL
        self.kills += 1
        self._process.kill()

    async def stop(self, within_s: float) -> bool:
        """Ask it to end in order, and kill it if it does not in time; whether it did.

        It has to be ready: before that it knows nothing of signals.
        """
        await self.alive()
        process = self._process
        assert process is not None
        self._expected = 0
        self.stops += 1
        process.terminate()
        with trio.move_on_after(within_s):
            await process.wait()
            return True
        process.kill()
        return False

    @property
    def _living(self) -> trio.Process | None:
        process = self._process
        is_meant_to = self._expected is None
        return process if process and is_meant_to and process.returncode is None else None

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

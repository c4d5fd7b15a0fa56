"""Baileys: a Node process that times functions of an unmodified Baileys when it is told to.

It is installed from the lock of the interop tests (tests/peers/baileys), as those do it.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from bench.inputs import Inputs, for_baileys, text_of
from bench.processes import BenchError
from tests.peers.baileys import ensure_baileys

DRIVER: Final = Path(__file__).parent / "functions.mjs"
_PIPE_CHUNK: Final = 2**16


class NoNode(Exception):
    """The machine has no Node that is new enough; the message says so."""


class Baileys:
    """The running process; one question at a time.

    Attributes:
        version: of Baileys; node: of Node.
    """

    def __init__(self, process: trio.Process) -> None:
        """Only for `baileys`."""
        self._process = process
        self._buffer = bytearray()
        self.version = self.node = ""

    async def greet(self) -> None:
        """Read what it says of itself."""
        told = await self._receive()
        self.version, self.node = str(told["version"]), str(told["node"])

    async def seconds(self, row: str, count: int) -> float:
        """Do a row so often: seconds of processor time."""
        value = await self._ask(command="time", row=row, count=count)
        assert isinstance(value, int | float)
        return float(value)

    async def show(self, row: str) -> object:
        """Do a row once: what came of it, as JSON; bytes as `bytes_of` takes them."""
        return await self._ask(command="show", row=row)

    async def say(self) -> bytes:
        """Let the second person of the session write."""
        return bytes_of(await self._ask(command="say"))

    async def hear(self, body: bytes) -> bytes:
        """Let the second person of the session read a message: its plaintext."""
        return bytes_of(await self._ask(command="hear", body=text_of(body)))

    async def _ask(self, **request: object) -> object:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(request).encode() + b"\n")
        answer = await self._receive()
        if "error" in answer:
            raise BenchError(f"Baileys, {request}: {answer['error']}")
        return answer["value"]

    async def _receive(self) -> dict[str, object]:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            more = await self._process.stdout.receive_some(_PIPE_CHUNK)
            if not more:
                raise BenchError("the process of Baileys ended")
            self._buffer += more
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        answer: dict[str, object] = json.loads(line)
        return answer


@asynccontextmanager
async def baileys(inputs: Inputs, directory: Path) -> AsyncIterator[Baileys]:
    """Run it on these inputs.

    Raises:
        NoNode: If there is no Node, or it is too old.
    """
    _install()
    path = directory / "inputs.json"
    path.write_text(json.dumps(for_baileys(inputs)))
    with (directory / "functions.log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            ["node", str(DRIVER), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        running = Baileys(process)
        await running.greet()
        yield running
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


def _install() -> None:
    try:
        ensure_baileys()
    except pytest.skip.Exception as missing:
        raise NoNode(str(missing)) from missing
    except pytest.fail.Exception as demanded:
        raise BenchError(str(demanded)) from demanded
    except subprocess.CalledProcessError as error:
        raise BenchError("npm cannot install Baileys") from error


def bytes_of(value: object) -> bytes:
    """Bytes as the process tells them."""
    assert isinstance(value, dict)
    return base64.b64decode(value["bytes"])

"""Processes: the simulator and the daemon, each on its own, and what they cost.

Figures come from /proc, so they are those of the process and not of whoever watches it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from bench.http import Http, HttpError

READY_S: Final = 30.0
STOP_S: Final = 25.0
POLL_S: Final = 0.05
# Unix clock ticks, the unit of times in /proc/PID/stat.
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# Where the write-ahead log's index counts transactions. Source: WalIndexHdr in SQLite's wal.c.
WAL_INDEX_CHANGES_AT: Final = 8


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


def cpu_s(pid: int) -> float:
    """Seconds of processor time a process has used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_kib(pid: int) -> int:
    """Memory of a process that is not swapped or shared out, KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise BenchError(f"process {pid} has no memory")


def commits(database: Path) -> int:
    """Count the transactions of a database since its write-ahead log was opened, modulo 2**32."""
    with Path(f"{database}-shm").open("rb") as index:
        index.seek(WAL_INDEX_CHANGES_AT)
        count: int = struct.unpack("=I", index.read(4))[0]
    return count


@asynccontextmanager
async def simulator(certificate: Path | None = None) -> AsyncIterator[tuple[int, dict[str, str]]]:
    """Run the simulator: its process id, and what it says of itself.

    Args:
        certificate: with its key; clients then dial `wss`.
    """
    encrypted = [] if certificate is None else ["--certificate", str(certificate)]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "sitpayd", "simulate", *encrypted], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = b""
        with trio.fail_after(READY_S):
            while not line.endswith(b"\n"):
                data = await process.stdout.receive_some()
                if not data:
                    raise BenchError("the simulator ended at its start")
                line += data
        yield process.pid, json.loads(line)
    finally:
        await _end(process)


async def migrate(environment: Mapping[str, str]) -> None:
    """Make the database."""
    await trio.run_process(
        [sys.executable, "-m", "sitpayd", "migrate"], env=environment, capture_stdout=True
    )


@asynccontextmanager
async def daemon(environment: Mapping[str, str], log: Path) -> AsyncIterator[int]:
    """Run the daemon until it is asked to stop at the end of the block: its process id."""
    with log.open("ab") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "sitpayd", "serve"],
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            await _until_ready(process, environment["SITPAYD_BASE_URL"], log)
            yield process.pid
        finally:
            await _end(process)


def environment_of(directory: Path, admin_key: str, simulated: Mapping[str, str]) -> dict[str, str]:
    """What the daemon is told: everything in one directory, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SITPAYD_")}
    return {
        **inherited,
        "SITPAYD_LISTEN": listen,
        "SITPAYD_BASE_URL": f"http://{listen}",
        "SITPAYD_STATE_DIR": str(directory),
        "SITPAYD_ADMIN_KEY": admin_key,
        "SITPAYD_WHATSAPP_URL": simulated["url"],
        "SITPAYD_WHATSAPP_ROOT_KEY": simulated["root_key"],
    }


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


async def _until_ready(process: trio.Process, base_url: str, log: Path) -> None:
    http = Http(base_url)
    with trio.move_on_after(READY_S):
        while process.poll() is None:
            with suppress(OSError, HttpError):
                await http.get("/readyz")
                await http.close()
                return
            await trio.sleep(POLL_S)
    raise BenchError(f"the daemon did not start: {tail(log)}")


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with trio.CancelScope(deadline=trio.current_time() + STOP_S, shield=True):
            await process.wait()
        if process.returncode is None:
            process.kill()

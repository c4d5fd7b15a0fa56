"""Durability: what it costs that a message is committed before a byte of it leaves.

In this process alone, without HTTP and sockets: the daemon's own pipeline on a real file, from the
accepted row to `sent`, beside a bare loop that encrypts the same messages for the same devices and
keeps nothing. Both write the finished stanza to a sink that forgets it. Nobody answers, so each
message still carries what begins a session, as all do until the recipient writes back.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import trio

from bench.people import Sender, make_senders
from bench.processes import BenchError, commits
from sitpayd.actors.arming import arm
from sitpayd.actors.commands import Mark, NextRow
from sitpayd.actors.events import Armed
from sitpayd.storage.database import migrate, open_database
from sitpayd.storage.records import RowState
from sitpayd.storage.vault import SECRET_LEN, Vault

# Rows that wait for each run, over all devices; a device may have a thousand.
ROWS: Final = 3200
MAX_ROWS_PER_DEVICE: Final = 900


@dataclass(frozen=True, slots=True)
class Durability:
    """The pipeline beside the bare loop; milliseconds per message, wall clock and processor.

    Attributes:
        accepted_per_second: rows stored before, by all devices at once (`synchronous=FULL`).
        accept_commits: transactions for each of those.
        commits: transactions per message, from `accepted` to `sent`.
        ratio: wall-clock time of the pipeline to that of the bare loop.
        cpu_ratio: the same of processor time.
    """

    devices: int
    accepted_per_second: float
    accept_commits: float
    count: int
    bare_ms: float
    bare_cpu_ms: float
    durable_ms: float
    durable_cpu_ms: float
    commits: float
    ratio: float
    cpu_ratio: float


@dataclass(slots=True)
class _Run:
    """A stretch of work; seconds, and messages done."""

    count: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def ms(self) -> float:
        return 1000 * self.seconds / self.count

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / self.count


async def measure_durability(directory: Path, devices: int, seconds: float) -> Durability:
    """Compare the two with so many devices at once, for at most so long each."""
    path = directory / f"durability-{devices}.db"
    url = f"sqlite:///{path}"
    migrate(url)
    vault = Vault(secrets.token_bytes(SECRET_LEN))
    async with open_database(url, vault) as database:
        senders = await make_senders(database, devices)
        with _sink() as sink:
            at_first = commits(path)
            stored = await _store(senders, seconds)
            after_storing = commits(path)
            durable = await _send_durably(senders, sink, seconds)
            after_sending = commits(path)
            bare = _send_barely(senders, sink, durable.count, seconds)
    return Durability(
        devices=devices,
        accepted_per_second=stored.count / stored.seconds,
        accept_commits=(after_storing - at_first) / stored.count,
        count=durable.count,
        bare_ms=bare.ms,
        bare_cpu_ms=bare.cpu_ms,
        durable_ms=durable.ms,
        durable_cpu_ms=durable.cpu_ms,
        commits=(after_sending - after_storing) / durable.count,
        ratio=durable.ms / bare.ms,
        cpu_ratio=durable.cpu_ms / bare.cpu_ms,
    )


@contextmanager
def _sink() -> Iterator[BinaryIO]:
    with Path(os.devnull).open("wb", buffering=0) as sink:
        yield sink


@contextmanager
def _running() -> Iterator[_Run]:
    run = _Run()
    began, cpu = time.perf_counter(), time.process_time()
    yield run
    run.seconds, run.cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if not run.count:
        raise BenchError("not a single message was done in time")


async def _store(senders: Sequence[Sender], seconds: float) -> _Run:
    """Accept rows for all devices at once."""
    each = min(MAX_ROWS_PER_DEVICE, ROWS // len(senders))
    with _running() as run:
        end = trio.current_time() + seconds

        async def work(sender: Sender) -> None:
            for _ in range(each):
                if trio.current_time() >= end:
                    return
                await sender.accept()
                run.count += 1

        async with trio.open_nursery() as nursery:
            for sender in senders:
                nursery.start_soon(work, sender)
    return run


async def _send_durably(senders: Sequence[Sender], sink: BinaryIO, seconds: float) -> _Run:
    """Arm and mark sent, each device one row after the other, as its actor does."""
    with _running() as run:
        end = trio.current_time() + seconds

        async def work(sender: Sender) -> None:
            memory, following = sender.memory, NextRow()
            while trio.current_time() < end:
                row = (await memory.next_row(following)).row
                if row is None:
                    return
                armed = await memory.arm(sender.order(row))
                if not isinstance(armed, Armed):
                    raise AssertionError("a row that waits was not armed")
                sink.write(armed.stanza)
                mark = Mark(row, RowState.SENT, server_time=int(time.time()))
                await memory.mark(mark, look_ahead=following)
                run.count += 1

        async with trio.open_nursery() as nursery:
            for sender in senders:
                nursery.start_soon(work, sender)
    return run


def _send_barely(senders: Sequence[Sender], sink: BinaryIO, count: int, seconds: float) -> _Run:
    """Encrypt so many messages, the devices in turn, and keep the sessions in memory alone."""
    orders = [sender.order(sender.first_row) for sender in senders]
    with _running() as run:
        end = time.perf_counter() + seconds
        while run.count < count and time.perf_counter() < end:
            index = run.count % len(senders)
            sender = senders[index]
            armed = arm(orders[index], sender.credentials, sender.sessions)
            if armed is None:
                raise AssertionError("a session that stands was not used")
            sender.sessions.update(armed.sessions)
            sink.write(armed.stanza)
            run.count += 1
    return run

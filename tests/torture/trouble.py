"""Troubles of the database, brought about inside a running daemon."""

from __future__ import annotations

import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import trio

from sitpayd.errors import StorageError
from sitpayd.storage.database import Database, Unit

MANY_PAGES: Final = 2**30
# A frame of the log: its header and a page.
FRAME_LEN: Final = 24 + 4096
# What another process says once it has the lock.
_LOCKED: Final = b"locked\n"
_LOCK: Final = """
import sqlite3, sys, time
other = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
other.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
other.execute("COMMIT")
"""


class Kind(StrEnum):
    """What happens.

    PAGES: the file may not grow by more than so many pages. LOG: no file may grow beyond the log
    and so many frames. LOCK: another process holds the lock for so many seconds, from right before
    an operation on. REFUSED: the so-manieth transaction fails and is rolled back. UNANSWERED: it
    takes effect, and fails then.
    """

    PAGES = "pages"
    LOG = "log"
    LOCK = "lock"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One trouble.

    Attributes:
        operation: the one a lock comes before.
    """

    kind: Kind
    amount: float
    operation: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.amount:g} {self.operation}".rstrip()


class Refusals:
    """Notes which operations the database refused, and calls somebody before one of them."""

    def __init__(self, database: Database) -> None:
        self.refused: list[str] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self._write = database.write
        database.write = self._note  # type: ignore[method-assign, assignment]

    async def _note(self, operation: Callable[..., object], *args: Any, **kwargs: Any) -> object:
        name = getattr(operation, "func", operation).__name__.lstrip("_")
        before = self.before.pop(name, None)
        if before is not None:
            await before()
        try:
            return await self._write(operation, *args, **kwargs)
        except StorageError:
            self.refused.append(name)
            raise


@asynccontextmanager
async def troubled(
    trouble: Trouble, database: Database, path: Path, refusals: Refusals
) -> AsyncIterator[None]:
    """Make the trouble for the length of the block; a lock may end before."""
    async with trio.open_nursery() as nursery:
        match trouble.kind:
            case Kind.PAGES:
                pages = await database.read(_page_count)
                await database.write(_bound, pages + int(trouble.amount))
            case Kind.LOG:
                log_len = path.with_name(f"{path.name}-wal").stat().st_size
                limit = int(log_len + trouble.amount * FRAME_LEN)
                _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            case Kind.LOCK:

                async def lock() -> None:
                    await nursery.start(_lock, path, trouble.amount)

                refusals.before[trouble.operation] = lock
            case Kind.REFUSED | Kind.UNANSWERED:
                _fail(database, trouble)
        yield
        if trouble.kind is Kind.PAGES:
            await database.write(_bound, MANY_PAGES)
        elif trouble.kind is Kind.LOG:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def _page_count(unit: Unit) -> int:
    return int(unit.one("PRAGMA page_count")[0])


def _bound(unit: Unit, pages: int) -> None:
    unit.one(f"PRAGMA max_page_count = {pages}")


async def _lock(
    path: Path, seconds: float, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    program = [sys.executable, "-c", _LOCK, str(path), str(seconds)]
    process = await trio.lowlevel.open_process(program, stdout=PIPE)
    assert process.stdout is not None
    said = b""
    while not said.endswith(_LOCKED):
        data = await process.stdout.receive_some()
        assert data, "the other process did not get the lock"
        said += data
    task_status.started()
    assert await process.wait() == 0


def _fail(database: Database, trouble: Trouble) -> None:
    """Let one transaction from here on fail, before its commit or behind it."""
    transact, count = database._transact, 0

    def fail_once(batch: list[Any]) -> None:
        nonlocal count
        count += 1
        if count != trouble.amount:
            transact(batch)
        elif trouble.kind is Kind.UNANSWERED:
            transact(batch)
            raise sqlite3.OperationalError("disk I/O error")
        else:
            # As SQLite does it: rolled back by itself.
            raise _refusal()

    database._transact = fail_once  # type: ignore[method-assign]


def _refusal() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    error.sqlite_errorname = "SQLITE_FULL"
    return error

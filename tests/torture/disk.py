"""The disk of a simulated world: SQLite in memory, which outlives the daemon that writes to it.

A daemon that dies loses what is not committed, and never learns of a commit that was under way.
Commits take their time, and may fail for a while. The product's own writer and operations run on
it; only the moment of the commit belongs to the world.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio

from sitpayd.metrics import Metrics
from sitpayd.storage import database as product
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.vault import Vault
from tests.torture.weather import Blow

P = ParamSpec("P")
T = TypeVar("T")

SECRET: Final = b"s" * 32
VAULT: Final = Vault(SECRET)
_ERRORS: Final = {Blow.FULL: sqlite3.SQLITE_FULL, Blow.BUSY: sqlite3.SQLITE_BUSY}


class DeathError(BaseException):
    """The process is gone. No handler of the product catches it."""


class Disk:
    """What is stored, and how the disk behaves.

    Attributes:
        trouble: FULL, BUSY or SLOW while that lasts.
        committed: called after each commit.
        torn: asked at each commit whether the daemon dies before it (-1), behind it (1) or not.
    """

    def __init__(self, draws: Random) -> None:
        self.driver = sqlite3.connect(":memory:", isolation_level=None)
        prepare().backup(self.driver)
        product._configure((), self.driver, None)
        self.trouble: Blow | None = None
        self.committed: Callable[[], None] = lambda: None
        self.torn: Callable[[], int] = lambda: 0
        self._draws = draws

    def delay(self) -> float:
        """How long the next commit takes."""
        slowest = 4.0 if self.trouble is Blow.SLOW else 0.004
        return self._draws.uniform(0.0005, slowest)

    def failure(self) -> sqlite3.OperationalError | None:
        """Why the next commit fails."""
        code = None if self.trouble is None else _ERRORS.get(self.trouble)
        if code is None or self._draws.random() < 0.2:
            return None
        error = sqlite3.OperationalError("the weather is bad")
        error.sqlite_errorcode = code
        return error


class SimulatedDatabase(Database):
    """One daemon's hold on the disk.

    Attributes:
        is_dead: its process is gone.
    """

    def __init__(self, disk: Disk, clock: Callable[[], datetime]) -> None:
        super().__init__(disk.driver, [disk.driver], VAULT, clock, Metrics(), inline=True)
        self.is_dead = False
        self._disk = disk

    async def run(self) -> None:
        """Be the writer."""
        await self._write_forever()

    def die(self) -> None:
        """The process is gone: what was not committed is lost."""
        self.is_dead = True
        # The writer is shielded and ends with its queue.
        self._send_job.close()

    async def write(
        self, operation: Callable[Concatenate[Unit, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As the product's; never returns to a dead process."""
        if self.is_dead:
            await trio.sleep_forever()
        return await super().write(operation, *args, **kwargs)

    async def read(
        self, operation: Callable[Concatenate[Unit, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As the product's; never returns to a dead process."""
        if self.is_dead:
            await trio.sleep_forever()
        return await super().read(operation, *args, **kwargs)

    async def _in_writer(self, work: Callable[[], None]) -> None:
        await trio.sleep(self._disk.delay())
        self._live()
        torn = self._disk.torn()
        if torn < 0:
            raise DeathError
        await super()._in_writer(work)
        self._disk.committed()
        if torn > 0:
            raise DeathError
        await trio.sleep(self._disk.delay())
        self._live()

    def _transact(self, batch: list[product._Work]) -> None:
        error = self._disk.failure()
        super()._transact(batch if error is None else [*batch, _Failing(error)])

    def _live(self) -> None:
        if self.is_dead:
            raise DeathError


class _Failing:
    """Ends a transaction at the last moment."""

    def __init__(self, error: sqlite3.OperationalError) -> None:
        self._error = error
        self.done = trio.Event()

    def run(self, _: Unit) -> None:
        raise self._error

    @property
    def is_last(self) -> bool:
        return False

    def fail(self, _: Exception) -> None:
        raise AssertionError("nobody waits for it")

    def finish(self) -> None:
        raise AssertionError("nobody waits for it")


_made: list[sqlite3.Connection] = []


def prepare() -> sqlite3.Connection:
    """An empty database of today's schema, made once: migrations take longer than a world.

    The first call runs an event loop of its own.
    """
    if not _made:
        _made.append(sqlite3.connect(":memory:", isolation_level=None))
        trio.run(_fill, _made[0])
    return _made[0]


async def _fill(template: sqlite3.Connection) -> None:
    async with open_database("sqlite://", VAULT, inline=True) as database:
        database._writer.backup(template)

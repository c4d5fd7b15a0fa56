"""Database: the one owner of the file, and the only place that knows the engine.

All writes go through one writer task. It takes every operation that waits, runs them in one
transaction, commits once and wakes all who wait; while one batch commits, the next one gathers, so
no timer is needed. There is no savepoint per operation (it costs three times the throughput): if
one raises, the batch is rolled back and its operations are replayed one by one. So an operation
checks before it writes, touches no memory of ours, and may run twice.

Schema and damage checks are schema.py; what the operations do is in the query files.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, Generic, ParamSpec, Protocol, TypeAlias, TypeVar

import trio
from sqlalchemy import Connection, NullPool, StaticPool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from sitpayd.errors import (
    DatabaseCorruptError,
    DatabaseExposedError,
    DatabaseLockedError,
    DatabaseUnusableError,
    SealError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    WrongSecretError,
)
from sitpayd.metrics import Metrics
from sitpayd.storage.records import utc_now
from sitpayd.storage.schema import (
    RESTORE,
    back_up,
    check_pages,
    driver_of,
    head_revision,
    revision_of,
    upgrade,
)
from sitpayd.storage.vault import Vault

SqlValue: TypeAlias = int | str | bytes | None
SqlValues: TypeAlias = Sequence[SqlValue] | Mapping[str, SqlValue]

P = ParamSpec("P")
T = TypeVar("T")

MAX_BATCH: Final = 256  # operations in one transaction
MAX_QUEUED_WRITES: Final = 4096  # operations; more of them are refused
MAX_QUEUED_READS: Final = 1024  # operations; more of them are refused
READERS: Final = 4
# Seconds until a reader is free; by then all of them hang, and waiting longer helps nobody.
READ_WITHIN_S: Final = 20.0

# Bytes, more than any one message needs.
_PROBE_LEN: Final = 128 * 1024
_PROBE: Final = "probe"

BUSY_TIMEOUT_MS: Final = 5000
# Pages of 4 KiB: longer than the default 1000, so that a burst is not slowed by checkpoints.
WAL_AUTOCHECKPOINT_PAGES: Final = 2000

# A writer takes its lock first: two that read before they write could not both go on.
_BEGIN_WRITE: Final = "BEGIN IMMEDIATE"
_BEGIN_READ: Final = "BEGIN"

_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
_OTHERS: Final = 0o077

_SECRET_CHECK: Final = "secret_check"
_SECRET_CHECK_TEXT: Final = b"sitpayd"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a query function takes first: an open transaction and what goes with it.

    Statements go to the driver directly: SQLAlchemy's own execution costs three to five times the
    CPU of a statement, and a message needs about ten. Their text is constant, values are bound.

    Attributes:
        now: one time for all operations of a transaction.
    """

    driver: sqlite3.Connection
    vault: Vault
    now: datetime

    def run(self, statement: str, values: SqlValues = ()) -> int:
        """Execute a statement; returns how many rows it changed."""
        return self.driver.execute(statement, values).rowcount

    def run_many(self, statement: str, values: Iterable[SqlValues]) -> None:
        """Execute a statement once for each of these."""
        self.driver.executemany(statement, values)

    def rows(self, statement: str, values: SqlValues = ()) -> list[sqlite3.Row]:
        """Fetch all rows."""
        cursor = self.driver.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(statement, values).fetchall()

    def row(self, statement: str, values: SqlValues = ()) -> sqlite3.Row | None:
        """Fetch the only row, or None."""
        rows = self.rows(statement, values)
        if len(rows) > 1:
            raise AssertionError("a statement for one row brought more")
        return rows[0] if rows else None

    def one(self, statement: str, values: SqlValues = ()) -> sqlite3.Row:
        """Fetch a row that is known to exist."""
        row = self.row(statement, values)
        if row is None:
            raise AssertionError("a row that must exist does not")
        return row

    def value(self, kind: type[T], statement: str, values: SqlValues = ()) -> T | None:
        """Fetch the one column of the only row, or None."""
        row = self.row(statement, values)
        if row is None or row[0] is None:
            return None
        if not isinstance(row[0], kind):
            raise AssertionError(f"a column is not {kind.__name__}")
        return row[0]


class _Work(Protocol):
    """What the writer sees of a job."""

    done: trio.Event

    @property
    def is_last(self) -> bool: ...

    def run(self, unit: Unit) -> None: ...
    def fail(self, error: Exception) -> None: ...
    def finish(self) -> None: ...


class _Job(Generic[T]):
    """An operation on its way through the writer, and what became of it."""

    __slots__ = ("_operation", "_outcome", "_then", "done")

    def __init__(
        self, operation: Callable[[Unit], T], then: Callable[[], None] | None = None
    ) -> None:
        self._operation = operation
        self._then = then
        self._outcome: tuple[T] | Exception | None = None
        self.done = trio.Event()

    def run(self, unit: Unit) -> None:
        self._outcome = (self._operation(unit),)

    def fail(self, error: Exception) -> None:
        self._outcome = error

    @property
    def is_last(self) -> bool:
        return self._then is not None

    def finish(self) -> None:
        if self._then is not None and isinstance(self._outcome, tuple):
            self._then()
        self.done.set()

    def result(self) -> T:
        if self._outcome is None:
            raise AssertionError("the writer woke a waiter without an outcome")
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome[0]


class Database:
    """Runs query functions in transactions. Made by `open_database`.

    Args:
        metrics: counts the commits.
        witness: a connection that only looks whether a commit took effect; None: commits tell.
    """

    def __init__(
        self,
        writer: sqlite3.Connection,
        readers: list[sqlite3.Connection],
        vault: Vault,
        clock: Callable[[], datetime],
        metrics: Metrics,
        *,
        inline: bool,
        witness: sqlite3.Connection | None = None,
    ) -> None:
        self._writer = writer
        self._metrics = metrics
        self._witness = witness
        self._was_full = False
        self._idle_readers = readers
        self._vault = vault
        self._clock = clock
        self._inline = inline
        self._writer_limiter = trio.CapacityLimiter(1)
        self._reader_limiter = trio.CapacityLimiter(len(readers))
        # Who reads has waited for a reader already, and within a bound: a thread is there at once.
        self._reading = trio.CapacityLimiter(len(readers))
        # Full: the caller gets StorageBusyError at once, since the disk is behind by seconds.
        self._send_job, self._receive_job = trio.open_memory_channel[_Work](MAX_QUEUED_WRITES)

    async def write(
        self, operation: Callable[Concatenate[Unit, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an operation in the next batch; returns after its commit.

        Who is cancelled here no longer learns the result; the commit happens all the same.

        Raises:
            StorageFullError: If the disk is full.
            StorageBusyError: If too much waits, or another process holds the file.
            StorageError: If the database refused otherwise.
            Exception: What the operation raised; nothing of it is stored.
        """
        return await self._done(_Job(partial(_call, operation, args, kwargs)))

    async def _done(self, job: _Job[T]) -> T:
        try:
            self._send_job.send_nowait(job)
        except trio.WouldBlock:
            raise StorageBusyError("overloaded") from None
        await job.done.wait()
        return job.result()

    async def write_last(self, operation: Callable[[Unit], T], /, *, then: Callable[[], None]) -> T:
        """Run an operation as the last one of its batch; `then`, before any later one begins.

        For what has to change in the database and in memory at one moment.

        Raises:
            StorageError: As `write`; then nothing is changed.
        """
        return await self._done(_Job(operation, then))

    async def read(
        self, operation: Callable[Concatenate[Unit, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an operation that only reads, on a snapshot of what is committed.

        Raises:
            StorageBusyError: If too many reads wait, or this one too long.
            StorageError: If the database refused.
        """
        work = partial(self._read, partial(_call, operation, args, kwargs))
        if self._inline:
            await trio.lowlevel.checkpoint()
            return work()
        readers, turn = self._reader_limiter, object()
        if readers.statistics().tasks_waiting >= MAX_QUEUED_READS:
            raise StorageBusyError("overloaded")
        with trio.move_on_after(READ_WITHIN_S) as waiting:
            await readers.acquire_on_behalf_of(turn)
        if waiting.cancelled_caught:
            raise StorageBusyError("overloaded")
        try:
            return await trio.to_thread.run_sync(work, limiter=self._reading)
        finally:
            readers.release_on_behalf_of(turn)

    async def prove_room(self) -> None:
        """Commit something and take it back; fails as long as what was refused last would fail.

        Raises:
            StorageError: One of its kinds, as `write`.
        """
        # Once the disk was full, a little thing that finds a gap proves nothing.
        await self.write(_probe, _PROBE_LEN if self._was_full else 1)
        self._was_full = False

    async def truncate_log(self) -> None:
        """Move the write-ahead log into the file and empty it, after a purge."""
        await self._in_writer(partial(_truncate_log, self._writer))

    async def _write_forever(self) -> None:
        # Shielded: it ends when the channel is closed and empty, so that no operation is left
        # half done by a cancelled daemon. The queue's bound bounds the wait.
        with trio.CancelScope(shield=True):
            async for first in self._receive_job:
                batch = [first]
                try:
                    while len(batch) < MAX_BATCH and not batch[-1].is_last:
                        batch.append(self._receive_job.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    pass
                await self._in_writer(partial(self._commit, batch))
                for job in batch:
                    job.finish()

    async def _in_writer(self, work: Callable[[], None]) -> None:
        if self._inline:
            work()
        else:
            await trio.to_thread.run_sync(work, limiter=self._writer_limiter)

    def _commit(self, batch: list[_Work]) -> None:
        before = self._version()
        try:
            self._transact(batch)
        except Exception as error:
            if self._version() != before:
                # COMMIT took effect and only its answer was lost: everything was done, once.
                return
            self._was_full = self._was_full or isinstance(_translated(error), StorageFullError)
            if len(batch) == 1 or _is_busy(error):
                # Each replay would wait for the lock as long again.
                for job in batch:
                    job.fail(_translated(error))
            else:
                for job in batch:
                    self._commit([job])

    def _version(self) -> int | None:
        """A number that changes with each commit; only the witness's own view counts."""
        if self._witness is None:
            return None
        (version,) = self._witness.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _transact(self, batch: list[_Work]) -> None:
        self._writer.execute(_BEGIN_WRITE)
        try:
            unit = Unit(self._writer, self._vault, self._clock())
            for job in batch:
                job.run(unit)
            self._writer.execute("COMMIT")
        finally:
            # Does nothing after a commit.
            self._writer.rollback()
        self._metrics.commit(len(batch))

    def _read(self, operation: Callable[[Unit], T]) -> T:
        reader = self._idle_readers.pop()
        try:
            with translating():
                reader.execute(_BEGIN_READ)
                return operation(Unit(reader, self._vault, self._clock()))
        finally:
            # Nothing was changed: this only lets the snapshot go.
            reader.rollback()
            self._idle_readers.append(reader)


def _call(
    operation: Callable[..., T],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    unit: Unit,
) -> T:
    return operation(unit, *args, **kwargs)


@asynccontextmanager
async def open_database(
    url: str,
    vault: Vault,
    *,
    inline: bool = False,
    clock: Callable[[], datetime] = utc_now,
    metrics: Metrics | None = None,
) -> AsyncIterator[Database]:
    """Own a database: lock, check and migrate it, then run its writer.

    Leaving waits for the operations that were given to it. Errors of the body leave in a group.

    Args:
        url: `sqlite:///path`, or `sqlite://` for one in memory (inline only).
        inline: run operations in the event loop, without threads: for tests with a mock clock.
        metrics: counts the commits; None: nobody looks.

    Raises:
        DatabaseUnusableError: One of its kinds, if this database cannot be used.
    """
    path = path_of(url)
    if path is None and not inline:
        raise DatabaseUnusableError("a database in memory works only inline")
    with ExitStack() as stack:
        opening = partial(_open, stack, path, vault, clock, metrics or Metrics(), inline)
        if inline:
            database = opening()
        else:
            # trio's default threads are for names of hosts alone.
            limiter = trio.CapacityLimiter(1)
            database = await trio.to_thread.run_sync(opening, limiter=limiter)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database._write_forever)
            with database._send_job:
                yield database


def migrate(url: str) -> None:
    """Bring a database to this version's schema; makes it if it does not exist.

    Raises:
        DatabaseUnusableError: One of its kinds, if this database cannot be used.
    """
    path = path_of(url)
    if path is None:
        raise DatabaseUnusableError("a database in memory cannot be migrated")
    with ExitStack() as stack:
        _prepare(stack, path)


def path_of(url: str) -> Path | None:
    """The file of a URL; None: in memory.

    Raises:
        DatabaseUnusableError: If it is no URL, or one of another database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseUnusableError("the database URL is not a URL: sqlite:///path") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise DatabaseUnusableError(
            f"{parsed.drivername} databases are not supported: use sqlite:///path"
        )
    if parsed.host or parsed.query:
        raise DatabaseUnusableError("the database URL must look like sqlite:///path")
    if parsed.database in (None, "", ":memory:"):
        return None
    return Path(parsed.database or "").absolute()


def _open(
    stack: ExitStack,
    path: Path | None,
    vault: Vault,
    clock: Callable[[], datetime],
    metrics: Metrics,
    inline: bool,
) -> Database:
    if path:
        _prepare(stack, path)
    with translating():
        writer = stack.enter_context(_connected(path, _BEGIN_WRITE))
        if path is None:
            with writer.begin():
                upgrade(writer)
        with writer.begin():
            _check_or_seal(writer, vault)
        if path is None:
            driver = driver_of(writer)
            return Database(driver, [driver], vault, clock, metrics, inline=inline)
        witness, *readers = [
            driver_of(stack.enter_context(_connected(path, _BEGIN_READ, "PRAGMA query_only=ON")))
            for _ in range(1 + READERS)
        ]
        return Database(
            driver_of(writer), readers, vault, clock, metrics, inline=inline, witness=witness
        )


def _prepare(stack: ExitStack, path: Path) -> None:
    """Lock, check and migrate a file; the lock is held until the stack closes."""
    try:
        _make_directory(path.parent)
        _lock(stack, path)
        _make_file(path)
    except OSError as error:
        raise DatabaseUnusableError(f"{error.filename}: {error.strerror}") from None
    # A batch migration drops and makes tables anew: with foreign keys on, that would delete every
    # row that refers to them. The pragma does nothing inside a transaction, so it comes first.
    with translating(), _connected(path, _BEGIN_WRITE, "PRAGMA foreign_keys=OFF") as owner:
        with owner.begin():
            check_pages(owner)
            revision = revision_of(owner)
        if revision == head_revision():
            return
        if revision is not None:
            back_up(owner, path, revision)
        with owner.begin():
            upgrade(owner)


def _make_directory(path: Path) -> None:
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(_DIRECTORY_MODE)


def _lock(stack: ExitStack, path: Path) -> None:
    """Take the lock file. It is never deleted: a second owner could then lock another one."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    stack.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DatabaseLockedError(f"{path} is in use by another process") from None


def _make_file(path: Path) -> None:
    """Make the file before SQLite does, for its mode; log and shared memory take it over."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
    for suffix in ("", "-wal", "-shm"):
        file = Path(f"{path}{suffix}")
        if file.exists() and file.stat().st_mode & _OTHERS:
            raise DatabaseExposedError(f"{file} is open to other users: chmod 600 {file}")


@contextmanager
def _connected(path: Path | None, begin: str, *pragmas: str) -> Iterator[Connection]:
    """Connect with our settings; `begin` is what starts each transaction."""
    engine = create_engine(
        URL.create("sqlite", database=str(path) if path else None),
        poolclass=NullPool if path else StaticPool,
        # The driver begins no transaction of its own: ours take the lock first and hold DDL, too.
        connect_args={"check_same_thread": False, "isolation_level": None},
        hide_parameters=True,
    )
    event.listen(engine, "connect", partial(_configure, pragmas))
    event.listen(engine, "begin", partial(_begin, begin))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _configure(pragmas: tuple[str, ...], driver: sqlite3.Connection, _record: object) -> None:
    for pragma in (
        f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
        "PRAGMA journal_mode=WAL",
        # NORMAL may forget a commit at power loss, and a forgotten ratchet step is a reused key.
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        "PRAGMA secure_delete=ON",
        f"PRAGMA wal_autocheckpoint={WAL_AUTOCHECKPOINT_PAGES}",
        *pragmas,
    ):
        driver.execute(pragma)


def _begin(begin: str, connection: Connection) -> None:
    connection.exec_driver_sql(begin)


def _check_or_seal(connection: Connection, vault: Vault) -> None:
    if not check_secret(connection, vault):
        sealed = vault.seal("setting", 0, "value", _SECRET_CHECK, _SECRET_CHECK_TEXT)
        connection.exec_driver_sql("INSERT INTO setting VALUES (?, ?)", (_SECRET_CHECK, sealed))


def check_secret(connection: Connection, vault: Vault) -> bool:
    """Whether the database was sealed with this secret; False: with none yet.

    Raises:
        WrongSecretError: If it was with another.
    """
    sealed = connection.exec_driver_sql(
        "SELECT value FROM setting WHERE name = ?", (_SECRET_CHECK,)
    ).scalar()
    if sealed is None:
        return False
    try:
        vault.open("setting", 0, "value", _SECRET_CHECK, sealed)
    except SealError:
        raise WrongSecretError("the database was sealed with another secret") from None
    return True


def _probe(unit: Unit, length: int) -> None:
    unit.run("INSERT INTO setting VALUES (?, zeroblob(?))", (_PROBE, length))
    unit.run("DELETE FROM setting WHERE name = ?", (_PROBE,))


def _truncate_log(driver: sqlite3.Connection) -> None:
    with translating():
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def translating() -> Iterator[None]:
    """Raise our error for one of the database."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise _translated(error) from None


def _translated(error: Exception) -> Exception:
    """Our error for one of the database; any other stays as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.DatabaseError) or isinstance(cause, sqlite3.IntegrityError):
        return error
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    kind = _ERRORS.get(code) or _ERRORS.get(code & 0xFF, StorageError)
    # The driver's message names the fault, never a value.
    told = f"{getattr(cause, 'sqlite_errorname', 'sqlite')}: {cause}"
    if kind is DatabaseCorruptError:
        told = f"the database is damaged ({told}): {RESTORE}"
    return kind(told)


def _is_busy(error: Exception) -> bool:
    return isinstance(_translated(error), StorageBusyError)


# By extended code, then by its low byte, the primary one.
_ERRORS: Final[dict[int, type[StorageError]]] = {
    sqlite3.SQLITE_FULL: StorageFullError,
    sqlite3.SQLITE_IOERR_WRITE: StorageFullError,
    sqlite3.SQLITE_IOERR_SHMSIZE: StorageFullError,
    sqlite3.SQLITE_BUSY: StorageBusyError,
    sqlite3.SQLITE_LOCKED: StorageBusyError,
    sqlite3.SQLITE_CORRUPT: DatabaseCorruptError,
    sqlite3.SQLITE_NOTADB: DatabaseCorruptError,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnusableError,
    sqlite3.SQLITE_READONLY: DatabaseUnusableError,
}

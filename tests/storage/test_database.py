from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from sitpayd.errors import (
    DatabaseCorruptError,
    DatabaseExposedError,
    DatabaseLockedError,
    DatabaseUnusableError,
    SitpaydError,
    StorageBusyError,
    StorageFullError,
    WrongSecretError,
)
from sitpayd.storage import (
    addressing,
    deadlines,
    devices,
    inbox,
    outbox,
    resends,
    retries,
    sessions,
)
from sitpayd.storage import database as database_module
from sitpayd.storage.database import MAX_BATCH, Database, Unit, migrate, open_database
from sitpayd.storage.outbox import accept, next_row
from sitpayd.storage.partners import create_partner, partner_by_key
from sitpayd.storage.records import Accepted, Incoming
from tests.storage.builders import (
    NOON,
    Clock,
    Tenant,
    a_message,
    merged,
    some_tenant,
    some_vault,
)


def put(unit: Unit, name: str, length: int = 1) -> int:
    """Write a row of so many bytes; returns how many rows there are."""
    unit.run("INSERT INTO setting VALUES (?, ?)", (name, b"x" * length))
    return int(unit.one("SELECT count(*) FROM setting")[0])


def names(unit: Unit) -> set[str]:
    rows = unit.rows("SELECT name FROM setting WHERE name != 'secret_check'")
    return {row["name"] for row in rows}


def put_and_fail(unit: Unit, name: str) -> None:
    put(unit, name)
    raise LookupError(name)


@asynccontextmanager
async def opened(path: Path, *, fill: int = 7) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{path}", some_vault(fill)) as database:
        yield database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sitpayd.db"


# --- the writer ---


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    await database.write(put, "one")
    assert await database.read(names) == {"one"}


async def test_keyword_arguments_reach_the_operation(database: Database) -> None:
    await database.write(put, "one", length=7)
    assert await database.read(lambda unit: unit.one("SELECT max(length(value)) FROM setting")[0])


async def test_waiting_writes_share_one_transaction(database: Database) -> None:
    transactions: list[int] = []

    def operation(unit: Unit, number: int) -> None:
        put(unit, str(number))
        transactions.append(id(unit))

    async with trio.open_nursery() as nursery:
        for number in range(2 * MAX_BATCH):
            nursery.start_soon(database.write, operation, number)
    assert len(await database.read(names)) == 2 * MAX_BATCH
    # The first may go alone; the others had to wait for it.
    assert len(set(transactions)) <= 3


async def test_one_failing_operation_does_not_harm_its_batch(database: Database) -> None:
    failed: list[str] = []

    async def attempt(name: str) -> None:
        try:
            await database.write(put_and_fail if name == "bad" else put, name)
        except LookupError as error:
            failed.append(str(error))

    async with trio.open_nursery() as nursery:
        for name in ("one", "two", "bad", "three", "four"):
            nursery.start_soon(attempt, name)
    assert failed == ["bad"]
    assert await database.read(names) == {"one", "two", "three", "four"}


async def test_a_failed_write_leaves_nothing_and_the_writer_goes_on(database: Database) -> None:
    with pytest.raises(LookupError):
        await database.write(put_and_fail, "bad")
    await database.write(put, "good")
    assert await database.read(names) == {"good"}


async def test_a_cancelled_waiter_does_not_stop_its_commit(database: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.write(put, "one")
    assert scope.cancelled_caught
    await database.write(put, "two")
    assert await database.read(names) == {"one", "two"}


async def test_leaving_waits_for_what_was_given(path: Path) -> None:
    async with opened(path) as database, trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(database.write, put, str(number))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with opened(path) as database:
        assert len(await database.read(names)) == 300


async def test_a_cancelled_daemon_still_stores_what_was_given(path: Path) -> None:
    with trio.CancelScope() as daemon:
        async with opened(path) as database, trio.open_nursery() as nursery:
            gate = threading.Event()
            nursery.start_soon(database.write, lambda _: gate.wait(30))
            await trio.testing.wait_all_tasks_blocked()
            for number in range(300):
                nursery.start_soon(database.write, put, str(number))
            await trio.testing.wait_all_tasks_blocked()
            daemon.cancel()
            gate.set()
    assert daemon.cancelled_caught
    async with opened(path) as database:
        assert len(await database.read(names)) == 300


async def test_more_writes_than_the_queue_holds_are_refused(path: Path) -> None:
    async with opened(path) as database, trio.open_nursery() as nursery:
        gate = threading.Event()
        nursery.start_soon(database.write, lambda _: gate.wait(30))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(database_module.MAX_QUEUED_WRITES):
            nursery.start_soon(database.write, put, str(number))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StorageBusyError, match="overloaded"):
            await database.write(put, "one too many")
        gate.set()


async def test_more_reads_than_may_wait_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MAX_QUEUED_READS", 2)
    async with opened(path) as database, trio.open_nursery() as nursery:
        gate = threading.Event()
        for _ in range(database_module.READERS + 2):
            nursery.start_soon(database.read, lambda _: gate.wait(30))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StorageBusyError, match="overloaded"):
            await database.read(names)
        gate.set()


async def test_a_blocked_writer_does_not_keep_readers_waiting(path: Path) -> None:
    async with opened(path) as database, trio.open_nursery() as nursery:
        gate = threading.Event()

        def held(unit: Unit) -> None:
            put(unit, "not yet")
            gate.wait(30)

        nursery.start_soon(database.write, held)
        await trio.testing.wait_all_tasks_blocked()
        assert await database.read(names) == set()
        gate.set()


async def test_a_reader_cannot_write(path: Path) -> None:
    async with opened(path) as database:
        with pytest.raises(SitpaydError, match="readonly"):
            await database.read(put, "one")
        # The connection it used is as good as before.
        for _ in range(2 * database_module.READERS):
            assert await database.read(names) == set()


async def test_inline_reads_keep_nothing_they_wrote(tmp_path: Path) -> None:
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        await database.read(put, "one")
        assert await database.read(names) == set()


async def test_inline_works_under_a_mock_clock(autojump_clock: trio.testing.MockClock) -> None:
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        for hour in range(100):
            await trio.sleep(3600)
            await database.write(put, str(hour))
        assert len(await database.read(names)) == 100
    assert trio.current_time() >= 100 * 3600


async def test_all_operations_of_a_transaction_share_one_time(
    database: Database, clock: Clock
) -> None:
    before = await database.write(lambda unit: unit.now)
    clock.forward(hours=1)
    assert (await database.write(lambda unit: unit.now) - before).total_seconds() == 3600
    assert await database.read(lambda unit: unit.now) == clock.now


async def test_emptying_the_log_leaves_no_log(path: Path) -> None:
    async with opened(path) as database:
        await database.write(put, "one", 100_000)
        log = Path(f"{path}-wal")
        assert log.stat().st_size > 100_000
        await database.truncate_log()
        assert log.stat().st_size == 0
        assert await database.read(names) == {"one"}


# --- rows that are not as they must be ---


async def test_a_statement_for_one_row_brings_no_more(database: Database) -> None:
    await database.write(put, "one")
    with pytest.raises(AssertionError, match="more"):
        await database.read(lambda unit: unit.row("SELECT name FROM setting"))
    with pytest.raises(AssertionError, match="must exist"):
        await database.read(lambda unit: unit.one("SELECT name FROM setting WHERE name = ''"))
    with pytest.raises(AssertionError, match="not int"):
        await database.read(lambda unit: unit.value(int, "SELECT name FROM setting LIMIT 1"))


# --- the disk, and others who use the file ---


async def test_a_full_disk_is_refused_and_recovered_from(path: Path) -> None:
    async with opened(path) as database:
        tenant = await some_tenant(database)
        pages = await database.read(lambda unit: unit.one("PRAGMA page_count")[0])
        await database.write(lambda unit: unit.one(f"PRAGMA max_page_count = {pages}") and None)
        with pytest.raises(StorageFullError, match="SQLITE_FULL"):
            await database.write(put, "big", 1_000_000)
        refused: list[str] = []

        async def attempt(name: str, length: int) -> None:
            try:
                await database.write(put, name, length)
            except StorageFullError:
                refused.append(name)

        # In one batch the small one is replayed alone, and has room.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, "big", 1_000_000)
            nursery.start_soon(attempt, "small", 1)
        assert refused == ["big"]
        assert await database.read(names) == {"small"}
        await database.write(lambda unit: unit.one("PRAGMA max_page_count = 1000000") and None)
        outcome = await database.write(accept, a_message(tenant.device))
        assert isinstance(outcome, Accepted)
        assert await database.read(next_row, tenant.device.id) == outcome.row
        assert await database.read(lambda unit: unit.one("PRAGMA integrity_check")[0]) == "ok"


async def test_a_full_database_has_no_room_for_the_next_message_either(path: Path) -> None:
    async with opened(path) as database:
        await database.prove_room()
        pages = await database.read(lambda unit: unit.one("PRAGMA page_count")[0])
        await database.write(lambda unit: unit.one(f"PRAGMA max_page_count = {pages + 2}") and None)
        with pytest.raises(StorageFullError):
            await database.write(put, "big", 50_000)
        # A little thing still finds its place; that is no reason to call it ready.
        await database.write(put, "small")
        for _ in range(2):
            with pytest.raises(StorageFullError):
                await database.prove_room()
        await database.write(lambda unit: unit.one("PRAGMA max_page_count = 1000000") and None)
        await database.prove_room()
        assert await database.read(names) == {"small"}


@pytest.mark.parametrize("others", [0, 2])
async def test_a_commit_whose_answer_is_lost_is_not_done_again(path: Path, others: int) -> None:
    async with opened(path) as database:
        tenant = await some_tenant(database)
        transact, message = database._transact, a_message(tenant.device)
        transactions: list[int] = []

        def lose_the_answer(batch: list[database_module._Work]) -> None:
            transactions.append(len(batch))
            transact(batch)
            raise sqlite3.OperationalError("disk I/O error")

        database._transact = lose_the_answer  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for number in range(others):
                nursery.start_soon(database.write, put, str(number))
            accepted = await database.write(accept, message)
        assert isinstance(accepted, Accepted)
        assert sum(transactions) == 1 + others
        assert await database.read(next_row, tenant.device.id) == accepted.row
        assert await database.read(names) == {str(number) for number in range(others)}


async def test_a_short_lock_of_another_process_is_waited_for(path: Path) -> None:
    async with opened(path) as database, trio.open_nursery() as nursery:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        nursery.start_soon(database.write, put, "one")
        await trio.sleep(0.1)
        other.execute("COMMIT")
        other.close()
    async with opened(path) as database:
        assert await database.read(names) == {"one"}


async def test_a_long_lock_refuses_the_batch_after_one_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 200)
    refused: list[str] = []

    async def attempt(name: str) -> None:
        try:
            await database.write(put, name)
        except StorageBusyError:
            refused.append(name)

    async with opened(path) as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with trio.fail_after(3):  # twenty waits one after the other would take four seconds
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(attempt, str(number))
        assert len(refused) == 20
        other.execute("COMMIT")
        other.close()
        await database.write(put, "free again")
        assert await database.read(names) == {"free again"}


async def test_a_second_owner_is_refused(path: Path) -> None:
    async with opened(path):
        with pytest.raises(DatabaseLockedError, match="another process"):
            async with opened(path):
                pass
        with pytest.raises(DatabaseLockedError):
            migrate(f"sqlite:///{path}")
    async with opened(path):
        pass


async def test_a_path_to_the_same_file_is_the_same_database(path: Path, tmp_path: Path) -> None:
    async with opened(path):
        (tmp_path / "link").symlink_to(path.parent)
        with pytest.raises(DatabaseLockedError):
            async with opened(tmp_path / "link" / path.name):
                pass


# --- files ---


async def test_what_is_made_is_for_its_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        async with opened(path) as database:
            await database.write(put, "one")
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == {
        "sitpayd.db": 0o600,
        "sitpayd.db-wal": 0o600,
        "sitpayd.db-shm": 0o600,
        "sitpayd.db.lock": 0o600,
    }
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_file_that_others_may_open_is_refused(path: Path, mode: int) -> None:
    migrate(f"sqlite:///{path}")
    path.chmod(mode)
    with pytest.raises(DatabaseExposedError, match="chmod 600"):
        async with opened(path):
            pass


async def test_no_descriptor_is_inherited(path: Path) -> None:
    async with opened(path):
        for descriptor in os.listdir("/proc/self/fd"):
            place = Path("/proc/self/fd", descriptor)
            if place.exists() and str(path) in os.readlink(place):
                assert not os.get_inheritable(int(descriptor))


# --- refused at the start ---


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/sitpayd",
        "mysql://localhost/sitpayd",
        "sqlite://host/path",
        "sqlite:///a.db?mode=ro",
        "not a url",
        "",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
async def test_a_url_that_cannot_work_is_one_clear_line(url: str) -> None:
    with pytest.raises(DatabaseUnusableError) as caught:
        async with open_database(url, some_vault()):
            pass
    assert "\n" not in str(caught.value)
    with pytest.raises(DatabaseUnusableError):
        migrate(url)


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnusableError, match="file"):
        async with opened(tmp_path / "file" / "sitpayd.db"):
            pass
    with pytest.raises(DatabaseUnusableError, match="directory"):
        async with opened(tmp_path):
            pass


async def test_another_secret_is_refused(path: Path) -> None:
    async with opened(path) as database:
        _, key = await database.write(create_partner, "ABC", "a@example.com", "")
    with pytest.raises(WrongSecretError, match="another secret"):
        async with opened(path, fill=8):
            pass
    async with opened(path) as database:
        assert await database.read(partner_by_key, key) is not None


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


async def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path) -> None:
    async with opened(path) as database:
        await some_tenant(database)
    whole = path.read_bytes()
    refused = 0
    for page in range(1, len(whole) // 4096):
        overwrite(path, page * 4096, b"\xff" * 64)
        damaged = path.read_bytes()
        with pytest.raises(DatabaseCorruptError):
            async with opened(path):
                pass
        refused += 1
        assert path.read_bytes() == damaged
        path.write_bytes(whole)
    assert refused > 20
    async with opened(path):
        pass


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\0" * 200, b"no database" * 100])
async def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir(0o700)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(DatabaseCorruptError):
        async with opened(path):
            pass
    assert path.read_bytes() == content


async def test_an_error_leaves_lock_and_connections_free(path: Path) -> None:
    class Stop(Exception):
        pass

    with pytest.RaisesGroup(Stop):
        async with opened(path):
            raise Stop
    async with opened(path) as database:
        await database.write(put, "one")


# --- work per statement ---


async def test_hot_statements_read_no_more_rows_than_they_need(
    database: Database, tenant: Tenant
) -> None:
    """Every statement of a message's life finds its rows by an index.

    One may go through all of an index that holds nothing but the few rows it is for.
    """
    device_id, now = tenant.device.id, NOON
    operations: list[Callable[[Unit], object]] = [
        partial(outbox.accept, message=a_message(tenant.device, idempotency_key="k")),
        partial(outbox.next_row, device_id=device_id),
        partial(outbox.mark_sent, device_id=device_id, wa_message_id="x", server_time=now),
        partial(outbox.cancel, device_id=device_id, message_id="x"),
        partial(outbox.row_by_wa_message_id, device_id=device_id, wa_message_id="x"),
        partial(outbox.messages, device_id=device_id, after=None),
        partial(outbox.message, device_id=device_id, message_id="x"),
        partial(outbox.expire, now=now),
        partial(deadlines.shift_messages, by_s=1.0),
        partial(outbox.settle_logged_out, device_id=device_id),
        partial(outbox.forget_texts, before=now),
        partial(inbox.forget_texts, before=now),
        partial(inbox.forget_ciphertexts, before=now),
        partial(inbox.seen_ciphertext, device_id=device_id, digest=b"d"),
        partial(sessions.load_sessions, device_id=device_id, user_key="1@lid"),
        partial(sessions.lid_of, device_id=device_id, pn="1"),
        partial(sessions.pn_of, device_id=device_id, lid="1"),
        partial(sessions.prekey, device_id=device_id, key_id=1),
        partial(sessions.load_identities_of, device_id=device_id, addresses=[("1@lid", 0)]),
        partial(sessions.learn_mapping, device_id=device_id, pn="1", lid="2", merge=merged),
        partial(sessions.adopt, device_id=device_id, pn="1", lid="2", merge=merged),
        partial(
            inbox.receive,
            device_id=device_id,
            incoming=Incoming("A1", "1", "2@lid", False, "Hi there", now),
            sessions={},
            identities={},
        ),
        partial(retries.requests_of, device_id=device_id, name="x"),
        partial(retries.note_request, device_id=device_id, name="x", count=1),
        partial(retries.forget_request, device_id=device_id, name="x"),
        partial(retries.forget_requests, before=now),
        partial(addressing.addressing_of, device_id=device_id, pn="1"),
        partial(addressing.address_by_number, device_id=device_id, pn="1", wanted=True),
        partial(resends.served, device_id=device_id, row_id=1, device="x"),
        partial(resends.note_served, device_id=device_id, wa_message_ids=["x"], device="x"),
        partial(devices.device_by_token, token=tenant.device.token),
        partial(devices.device_by_id, device_id=device_id),
    ]

    def plans(unit: Unit, operation: Callable[[Unit], object]) -> list[str]:
        statements: list[str] = []
        unit.driver.set_trace_callback(statements.append)
        operation(unit)
        unit.driver.set_trace_callback(None)
        return [
            row["detail"]
            for statement in statements
            for row in unit.rows(f"EXPLAIN QUERY PLAN {statement}")
        ]

    for operation in operations:
        for detail in await database.write(plans, operation):
            few = "CONSTANT ROW" in detail or detail.endswith("INDEX ix_outbox_missed")
            assert not detail.startswith("SCAN") or few, (operation, detail)
            assert "TEMP B-TREE" not in detail, (operation, detail)

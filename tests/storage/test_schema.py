from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine

import sitpayd.storage.migrations
from sitpayd.errors import DatabaseUnusableError, SchemaTooNewError
from sitpayd.storage import outbox, schema
from sitpayd.storage.database import migrate, open_database
from sitpayd.storage.records import OutboxRow
from sitpayd.storage.tables import METADATA
from tests.storage.builders import NOON, RECIPIENT, some_tenant, some_vault
from tests.storage.test_outbox import accepted, armed, reloaded

NEWEST = schema.head_revision()
PACKAGED = Path(sitpayd.storage.migrations.__file__).parent

# Re-creates a table that others refer to: with foreign keys on, their rows would be lost.
LATER = """
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "NEWEST"


def upgrade():
    with op.batch_alter_table("partner", recreate="always") as batch:
        batch.add_column(sa.Column("note", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE partner SET note = 'migrated'")
""".replace("NEWEST", str(NEWEST))
FAILING = LATER + "    raise LookupError('half-way')\n"
DANGLING = LATER + "    op.execute('DELETE FROM partner')\n"


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


def value_of(path: Path, statement: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchone()[0]


def definitions_of(path: Path) -> dict[str, set[str]]:
    """The lines of each definition; their order means nothing.

    Columns that a migration added stand behind everything else, all in one line.
    """
    with closing(sqlite3.connect(path)) as connection:
        between = r",?\s*\n\s*(?:, )?|, (?=\w+ (?:BLOB|BOOLEAN|INTEGER))|(?=\)$)"
        return {
            name: set(re.split(between, sql or ""))
            for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema")
        }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sitpayd.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """A database at the newest revision, with a partner, a user and a device."""

    async def fill() -> None:
        async with open_database(url_of(path), some_vault(), inline=True) as database:
            await some_tenant(database)

    trio.run(fill)
    return path


def migrations_with(tmp_path: Path, later: str) -> Path:
    place = tmp_path / "migrations"
    shutil.copytree(PACKAGED, place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "versions" / "later.py").write_text(later)
    return place


def killed_at_each_statement(tmp_path: Path, *arguments: str) -> list[Path]:
    place = tmp_path / "killed"
    place.mkdir()
    command = [sys.executable, "-m", "tests.storage.killed", str(place), *arguments]
    subprocess.run(command, check=True, timeout=300)
    return sorted(place.glob("*.db"))


def test_each_migration_is_named_after_its_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [NEWEST]
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_a_start_with_nothing_to_migrate_does_not_load_alembic(filled: Path) -> None:
    program = (
        "import sys, sitpayd.daemon\n"
        "from sitpayd.storage.database import migrate\n"
        f"migrate({url_of(filled)!r})\n"
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_newest_migration_makes_the_tables_of_the_code(path: Path) -> None:
    migrate(url_of(path))
    engine = create_engine(url_of(path), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_names_and_checks_are_the_same_in_code_and_file(path: Path, tmp_path: Path) -> None:
    """What `compare_metadata` does not see on SQLite: names of constraints, checks, conditions."""
    migrate(url_of(path))
    engine = create_engine(url_of(tmp_path / "made.db"), poolclass=NullPool)
    METADATA.create_all(engine)
    migrated = definitions_of(path)
    del migrated["alembic_version"], migrated["sqlite_autoindex_alembic_version_1"]
    assert migrated == definitions_of(tmp_path / "made.db")


def rows_of(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, the named columns."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)
            for table, names in columns.items()
        }


def columns_of(path: Path) -> dict[str, list[str]]:
    tables = tables_of(path)
    with closing(sqlite3.connect(path)) as connection:
        listed = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in sorted(tables)
        }
    # Indexes have no columns of this kind.
    return {table: names for table, names in listed.items() if names}


def at_first_revision(tmp_path: Path, filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rows of a database as its first version has stored them."""
    place, first = migrations_with(tmp_path, LATER), tmp_path / "first.db"
    for migration in Path(place, "versions").glob("*.py"):
        if not migration.name.startswith("0001"):
            migration.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", Path(place))
        migrate(url_of(first))
    columns = columns_of(first)
    del columns["alembic_version"]
    with closing(sqlite3.connect(first)) as connection:
        connection.execute("ATTACH ? AS later", (str(filled),))
        for table, names in columns.items():
            listed = ", ".join(names)
            connection.execute(f"INSERT INTO {table} ({listed}) SELECT {listed} FROM later.{table}")
        connection.commit()
    assert value_of(first, "SELECT version_num FROM alembic_version") == "0001"
    return first


async def live_a_little(path: Path) -> list[OutboxRow]:
    """Leave a row in every table that the send path writes; one message in each of five states."""
    async with open_database(url_of(path), some_vault(), inline=True) as database:
        device = (await some_tenant(database)).device
        rows = [await armed(database, device) for _ in range(4)]
        for row in rows[:3]:
            await database.write(outbox.mark_sent, device.id, row.wa_message_id, None)
        receipts: tuple[outbox.Receipt, ...] = ("delivered", "read")
        for row, receipt in zip(rows, receipts, strict=False):
            await database.write(
                outbox.mark_receipt, device.id, [row.wa_message_id], receipt, NOON, [RECIPIENT]
            )
        rows.append(await accepted(database, device))
        return [await reloaded(database, row) for row in rows]


def test_rows_of_the_first_revision_are_all_there_after_the_second(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = trio.run(live_a_little, path)
    assert len({row.state for row in before}) == 5
    first = at_first_revision(tmp_path, path, monkeypatch)
    columns = columns_of(first)
    del columns["alembic_version"]
    stored = rows_of(first, columns)
    assert all(stored[table] for table in ("partner", "device", "outbox", "signal_session"))
    migrate(url_of(first))
    assert value_of(first, "SELECT version_num FROM alembic_version") == NEWEST
    assert rows_of(first, columns) == stored

    async def look() -> tuple[list[OutboxRow], OutboxRow | None]:
        async with open_database(url_of(first), some_vault(), inline=True) as database:
            upcoming = await database.read(outbox.next_row, before[0].device_id)
            return [await reloaded(database, row) for row in before], upcoming

    # Nothing is marked that was not, and what was to go next still is.
    assert trio.run(look) == (before, before[3])


def test_migrating_twice_changes_nothing(path: Path) -> None:
    migrate(url_of(path))
    before = tables_of(path)
    migrate(url_of(path))
    assert tables_of(path) == before
    assert value_of(path, "SELECT version_num FROM alembic_version") == schema.head_revision()


def test_a_newer_schema_is_refused_and_left_alone(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(SchemaTooNewError, match="9999"):
        migrate(url_of(filled))
    assert value_of(filled, "SELECT version_num FROM alembic_version") == "9999"


def test_tables_of_somebody_else_are_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    path.chmod(0o600)
    with pytest.raises(DatabaseUnusableError, match="not sitpayd's"):
        migrate(url_of(path))
    assert tables_of(path) == {"theirs"}


def test_a_table_made_anew_keeps_the_rows_that_refer_to_it(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", migrations_with(tmp_path, LATER))
    migrate(url_of(filled))
    assert value_of(filled, "SELECT note FROM partner") == "migrated"
    assert value_of(filled, "SELECT count(*) FROM end_user") == 1
    assert value_of(filled, "SELECT count(*) FROM device") == 1


def test_the_old_file_is_kept_before_a_migration(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", migrations_with(tmp_path, LATER))
    (tmp_path / f"sitpayd.db.schema-{NEWEST}.part").write_text("of a start that was killed")
    migrate(url_of(filled))
    copy = tmp_path / f"sitpayd.db.schema-{NEWEST}"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert value_of(copy, "SELECT version_num FROM alembic_version") == NEWEST
    assert value_of(copy, "SELECT count(*) FROM device") == 1
    assert not (tmp_path / f"sitpayd.db.schema-{NEWEST}.part").exists()


def test_a_new_file_needs_no_copy(path: Path) -> None:
    migrate(url_of(path))
    assert {file.name for file in path.parent.iterdir()} == {"sitpayd.db", "sitpayd.db.lock"}


@pytest.mark.parametrize(
    ("later", "error"), [(FAILING, LookupError), (DANGLING, DatabaseUnusableError)]
)
def test_a_migration_that_fails_leaves_the_old_schema_and_rows(
    filled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    later: str,
    error: type[Exception],
) -> None:
    before = tables_of(filled)
    monkeypatch.setattr(schema, "MIGRATIONS", migrations_with(tmp_path, later))
    with pytest.raises(error):
        migrate(url_of(filled))
    assert tables_of(filled) == before
    assert value_of(filled, "SELECT version_num FROM alembic_version") == NEWEST
    assert value_of(filled, "SELECT name FROM partner") == "ABC Reseller"


def test_a_first_migration_killed_anywhere_leaves_nothing_or_everything(
    path: Path, tmp_path: Path
) -> None:
    migrate(url_of(path))
    whole = tables_of(path)
    left = killed_at_each_statement(tmp_path, str(schema.MIGRATIONS))
    assert len(left) > 30
    found = [tables_of(database) for database in left]
    assert {frozenset(), frozenset(whole)} == {frozenset(tables) for tables in found}
    for database in left:
        migrate(url_of(database))
        assert tables_of(database) == whole


def test_a_later_migration_killed_anywhere_leaves_the_old_or_the_new_schema(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = migrations_with(tmp_path, LATER)
    left = killed_at_each_statement(tmp_path, str(migrations), str(filled))
    assert len(left) > 15
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    revisions = set()
    for database in left:
        revision = value_of(database, "SELECT version_num FROM alembic_version")
        revisions.add(revision)
        columns = value_of(
            database, "SELECT count(*) FROM pragma_table_info('partner') WHERE name = 'note'"
        )
        assert columns == (1 if revision == "later" else 0)
        assert "_alembic_tmp_partner" not in tables_of(database)
        migrate(url_of(database))
        assert value_of(database, "SELECT note FROM partner") == "migrated"
        assert value_of(database, "SELECT count(*) FROM device") == 1
    assert revisions == {NEWEST, "later"}

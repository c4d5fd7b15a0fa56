"""Schema: what stands in the file before anybody uses it.

Damage check, migrations (Alembic, forward only) and the copy made before one. Each function takes
an open connection; who opens it, with which settings and in which transaction, is database.py.

A start that has nothing to migrate does not load Alembic: it costs a tenth of the start.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from sitpayd.errors import DatabaseCorruptError, DatabaseUnusableError, SchemaTooNewError

# Installed with the code. A migration's file is named REVISION_WHAT_IT_DOES.py.
MIGRATIONS = Path(__file__).with_name("migrations")

# What to do about damage.
RESTORE: Final = "restore a backup copy over it, without its -wal and -shm files"


def check_pages(connection: Connection) -> None:
    """Read through the whole file for damage.

    Raises:
        DatabaseCorruptError: If there is any.
    """
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise DatabaseCorruptError(f"the database is damaged ({found}): {RESTORE}")


def revision_of(connection: Connection) -> str | None:
    """The migration this database is at; None: it is empty.

    Raises:
        SchemaTooNewError: If this version does not know it.
        DatabaseUnusableError: If there are tables, but none of ours.
    """
    tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_schema").scalars())
    revision = None
    if "alembic_version" in tables:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if revision is None:
        if tables:
            raise DatabaseUnusableError("the database holds tables that are not sitpayd's")
        return None
    if revision not in _revisions():
        raise SchemaTooNewError(
            f"the database has schema {revision}, this version knows up to"
            f" {head_revision()}: install the newer version again"
        )
    return str(revision)


def head_revision() -> str:
    """The newest migration of this version."""
    return max(_revisions())


def upgrade(connection: Connection) -> None:
    """Migrate to the newest revision inside the caller's transaction: all of it or nothing.

    Raises:
        DatabaseUnusableError: If rows would refer to missing ones afterwards.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    # Without it Alembic splits lists of paths the old way and warns.
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if dangling is not None:
        raise DatabaseUnusableError(f"the migration left dangling rows in {dangling[0]}")


def back_up(connection: Connection, path: Path, revision: str) -> Path:
    """Copy the database to a file beside it, named after its revision.

    A copy restored later turns the ratchets back: it is for reading and for a failed upgrade, not
    for going on after messages were sent.
    """
    copy = path.with_name(f"{path.name}.schema-{revision}")
    unfinished = path.with_name(f"{copy.name}.part")
    unfinished.unlink(missing_ok=True)
    # SQLite would make it with the umask's mode; an empty file it takes as it is.
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    driver_of(connection).execute("VACUUM INTO ?", (str(unfinished),))
    _sync(unfinished)
    unfinished.replace(copy)
    _sync(path.parent)
    return copy


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's connection, for the few statements that must stand outside a transaction."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise AssertionError("the engine uses another driver than sqlite3")
    return driver


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _revisions() -> set[str]:
    return {path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py")}

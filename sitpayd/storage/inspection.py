"""Inspection: look at a database that no daemon runs on, and change nothing.

Not a byte is written and no file is made, so that it can be done as any user who may read: a file
that root leaves beside the database would stand in the daemon's way. While it looks it holds the
lock file, so that no daemon starts under its eyes.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine

from sitpayd.errors import DatabaseLockedError, DatabaseUnusableError
from sitpayd.storage.database import check_secret, path_of, translating
from sitpayd.storage.schema import check_pages, head_revision, revision_of
from sitpayd.storage.vault import Vault


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a sound database tells.

    Attributes:
        revision: the migration it is at; None: it is empty.
        is_current: whether nothing is to be migrated.
        devices: how many there are.
    """

    revision: str | None
    is_current: bool
    devices: int


def inspect(url: str, vault: Vault | None) -> Inspection | None:
    """Look through a database; None: there is none yet.

    Args:
        vault: its secret is held against the database's; None: it is not.

    Raises:
        DatabaseLockedError: If a daemon runs on it.
        DatabaseUnusableError: One of its kinds, if a daemon could not run on it.
        StorageError: If it cannot be read otherwise.
    """
    path = path_of(url)
    if path is None:
        raise DatabaseUnusableError("a database in memory has nothing to be looked at")
    try:
        if not path.exists():
            return None
        with _locked(path):
            return _look(path, vault)
    except OSError as error:
        raise DatabaseUnusableError(f"{error.filename}: {error.strerror}") from None


def _look(path: Path, vault: Vault | None) -> Inspection:
    log = Path(f"{path}-wal")
    # With a log SQLite needs its index, which it may have to make; it gives it the file's owner.
    flag = "" if log.exists() and log.stat().st_size else "&immutable=1"
    address = f"file:{quote(str(path))}?mode=ro{flag}"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, isolation_level=None),
        poolclass=NullPool,
        hide_parameters=True,
    )
    with translating(), engine.connect() as connection:
        check_pages(connection)
        revision = revision_of(connection)
        if revision is None:
            return Inspection(None, False, 0)
        if vault is not None:
            check_secret(connection, vault)
        devices = connection.exec_driver_sql(
            "SELECT count(*) FROM device WHERE removed_at IS NULL"
        ).scalar()
        assert isinstance(devices, int)
        return Inspection(revision, revision == head_revision(), devices)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # restored without it; the next daemon makes it
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseLockedError(f"{path} is in use by another process") from None
        yield
    finally:
        os.close(lock)

"""Looking at a database changes nothing, whatever state it is in."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sitpayd.errors import DatabaseCorruptError, DatabaseLockedError, DatabaseUnusableError
from sitpayd.storage.database import migrate, open_database
from sitpayd.storage.inspection import inspect
from sitpayd.storage.schema import head_revision
from tests.storage.builders import some_vault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that was closed in order."""
    path = tmp_path / "sitpayd.db"
    migrate(f"sqlite:///{path}")
    return path


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_nothing_is_changed(path: Path) -> None:
    before = files(path.parent)
    seen = inspect(f"sqlite:///{path}", some_vault())

    assert seen is not None
    assert (seen.revision, seen.is_current, seen.devices) == (head_revision(), True, 0)
    assert files(path.parent) == before


def test_log_that_a_killed_daemon_left_is_read(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
        database.commit()
        left = tmp_path / "left"
        left.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", left)

    seen = inspect(f"sqlite:///{left}/sitpayd.db", None)

    assert seen is not None
    assert (seen.revision, seen.is_current) == ("0001", False)


def test_missing_database_is_not_made(tmp_path: Path) -> None:
    assert inspect(f"sqlite:///{tmp_path}/sitpayd.db", None) is None
    assert files(tmp_path) == {}


async def test_database_in_use_is_not_touched(path: Path) -> None:
    async with open_database(f"sqlite:///{path}", some_vault()):
        with pytest.raises(DatabaseLockedError):
            inspect(f"sqlite:///{path}", None)


async def test_daemon_may_start_after_the_look(path: Path) -> None:
    inspect(f"sqlite:///{path}", None)

    async with open_database(f"sqlite:///{path}", some_vault()):
        pass


def test_restored_database_without_its_lock_file_is_read(path: Path) -> None:
    Path(f"{path}.lock").unlink()

    assert inspect(f"sqlite:///{path}", None) is not None
    assert not Path(f"{path}.lock").exists()


def test_damage_is_found(path: Path) -> None:
    path.write_bytes(b"\xff" * 4096 + path.read_bytes()[4096:])

    with pytest.raises(DatabaseCorruptError):
        inspect(f"sqlite:///{path}", None)


def test_database_in_memory_has_nothing_to_look_at() -> None:
    with pytest.raises(DatabaseUnusableError):
        inspect("sqlite://", None)
